package api

import (
	"cmp"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// service is one of the APIs: its routes and the shape of its faults.
type service struct {
	name   string // the first part of its paths
	shape  func(*fault) any
	pages  bool // faults are HTML for clients that do not ask for JSON
	routes []route
	// versions are the microversions that requests may be written in; nil when the service has none.
	versions  *microversions
	publicURL string // Options.PublicURL
	// projects is the path after which the caller's project may follow; empty when it may not.
	projects string
}

// route is one line of a service's table.
type route struct {
	pattern string // of http.ServeMux
	do      func(*call) (*answer, error)
	access  access
	// schema names the schema of the body; empty when there is no body, or the handler reads it.
	schema string
	// read reads a body and checks it against the schema; nil is readBody.
	read func(c *call, schema string) error
	// since and until are the first and the last microversion that knows the route; zero: no bound.
	since, until microversion
}

// access says who may use a route.
type access int

const (
	forUser  access = iota // whoever has a token
	forAdmin               // whoever has a token with the role admin
	forAll                 // also without a token
)

// call is a request on its way to a handler: who asks, in which version, with which checked body.
type call struct {
	*http.Request
	w       http.ResponseWriter
	caller  caller
	version microversion
	base    string // scheme, host and port of links, without a path
	raw     []byte // the body; nil if the route has no schema
	value   any    // the same, parsed
	project string // that the path named; empty for none
	items   []item // of a body of records, and
	bulk    bool   // whether they came as a list
}

// decode reads the checked body into a struct. The schema has refused all that does not fit.
func (c *call) decode(into any) error {
	if err := json.Unmarshal(c.raw, into); err != nil {
		return badRequest("Malformed request body: %s.", err.Error())
	}
	return nil
}

// since tells whether the request is written in microversion v or later.
func (c *call) since(v microversion) bool { return c.version >= v }

// answer is what a handler returns: JSON, or a stream, or nothing but a status.
type answer struct {
	status int
	header http.Header
	body   any
	stream io.ReadCloser
}

func ok(body any) (*answer, error) { return &answer{status: http.StatusOK, body: body}, nil }

func status(code int) (*answer, error) { return &answer{status: code}, nil }

// with adds a header.
func (a *answer) with(name, value string) *answer {
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set(name, value)
	return a
}

// serve makes a handler of a service's table.
func (a *api) serve(s service) http.Handler {
	s.publicURL = a.PublicURL
	mux := http.NewServeMux()
	for _, rt := range s.routes {
		mux.Handle(rt.pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ans, err := a.dispatch(s, rt, w, r)
			if err != nil {
				a.fail(w, r, s, err)
				return
			}
			a.reply(w, r, ans)
		}))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern == "" {
			a.fail(w, r, s, unrouted(h, r))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// unrouted asks the mux's own error handler whether the path or the method is unknown.
func unrouted(h http.Handler, r *http.Request) error {
	probe := &statusProbe{header: http.Header{}}
	h.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		return &fault{
			status:  http.StatusMethodNotAllowed,
			message: "The method " + quoted(r.Method) + " is not allowed for this resource.",
			allow:   probe.header.Get("Allow"),
		}
	}
	return notFound("The resource could not be found.")
}

// statusProbe is a ResponseWriter that keeps nothing but the head.
type statusProbe struct {
	header http.Header
	status int
}

func (p *statusProbe) Header() http.Header         { return p.header }
func (p *statusProbe) Write(b []byte) (int, error) { return len(b), nil }
func (p *statusProbe) WriteHeader(status int)      { p.status = status }

// dispatch takes a request through token, version and schema to its handler.
func (a *api) dispatch(s service, rt route, w http.ResponseWriter, r *http.Request) (*answer, error) {
	c := &call{Request: r, w: w, base: a.baseURL(r)}
	if s.versions != nil {
		v, err := s.versions.requested(r.Header)
		if err != nil && rt.access != forAll { // who asks which versions there are may ask in any
			return nil, err
		}
		c.version = v
		s.versions.announce(w.Header(), v)
	}
	if rt.access != forAll {
		who, err := a.authenticate(r)
		if err != nil {
			return nil, err
		}
		c.caller = who
		noteCaller(r.Context(), who)
		if c.project, _ = r.Context().Value(pathProject{}).(string); c.project != "" && c.project != who.ProjectID {
			return nil, badRequest("Malformed request url")
		}
		if err := s.permits(rt, c); err != nil {
			return nil, err
		}
	}
	if (rt.since > 0 && c.version < rt.since) || (rt.until > 0 && c.version > rt.until) {
		return nil, notFound("The resource could not be found in version %s of the API.", s.versions.text(c.version))
	}
	if rt.schema != "" {
		read := rt.read
		if read == nil {
			read = a.readBody
		}
		if err := read(c, rt.schema); err != nil {
			return nil, err
		}
	}
	return rt.do(c)
}

// permits tells whether a caller may use a route. Only the identity service has a use for a token
// without a project.
func (s service) permits(rt route, c *call) error {
	if !c.caller.token.Scoped && s.name != "identity" {
		return faultf(http.StatusForbidden, "The token is not scoped to a project.")
	}
	if rt.access == forAdmin && !c.caller.admin {
		return faultf(http.StatusForbidden, "Policy doesn't allow %s to be performed.", quoted(c.Method+" "+c.URL.Path))
	}
	return nil
}

// readBody reads, parses and checks a request's JSON.
func (a *api) readBody(c *call, schema string) error {
	if err := a.readJSON(c); err != nil {
		return err
	}
	return a.schemas.check(schema, c.version, c.value)
}

// readJSON reads and parses a request's body.
func (a *api) readJSON(c *call) error {
	if !isJSON(c.Header.Get("Content-Type")) {
		return faultf(http.StatusUnsupportedMediaType, "Unsupported Content-Type: the body must be application/json.")
	}
	raw, err := readAll(c)
	if err != nil {
		return err
	}
	if c.value, err = parseJSON(raw); err != nil {
		return err
	}
	c.raw = raw
	return nil
}

// isJSON tells whether a content type is JSON; clients that say nothing mean it.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}

// baseURL is where the client reached the listener.
func (a *api) baseURL(r *http.Request) string {
	return cmp.Or(a.PublicURL, requestBase(r))
}

// requestBase is the scheme, host and port that a request was sent to.
func requestBase(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// reply writes a handler's answer.
func (a *api) reply(w http.ResponseWriter, r *http.Request, ans *answer) {
	for name, values := range ans.header {
		w.Header()[name] = slices.Clone(values)
	}
	switch {
	case ans.stream != nil:
		a.replyStream(w, r, ans)
	case ans.body != nil:
		writeJSON(w, ans.status, ans.body)
	default:
		w.WriteHeader(ans.status)
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil { // only what this package builds is marshalled here
		panic("api: answer cannot be marshalled: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client may have gone
}
