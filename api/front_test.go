package api_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"compute-agent/api"
	"compute-agent/compute"
	"compute-agent/identity"
)

// Without a token there are only the versions and the login.
func TestWhatNeedsAToken(t *testing.T) {
	s := newSite(t)
	for path, want := range map[string]int{
		"/": 300, "/identity": 300, "/identity/": 300, "/identity/v3": 200, "/identity/v3/": 200,
		"/image": 300, "/image/": 300, "/image/versions": 200, "/compute": 200, "/compute/": 200, "/compute/v2.1": 200, "/compute/v2.1/": 200,
		"/identity/v3/auth/tokens": 401, "/identity/v3/projects": 401, "/identity/v3/users": 401,
		"/image/v2/images": 401, "/image/v2/schemas/image": 401,
		"/network": 200, "/network/": 200, "/network/v2.0": 200, "/network/v2.0/": 200, "/network/v2.0/networks": 401, "/network/v2.0/extensions": 401,
		"/network/v2.0/quotas/x": 401,
		"/compute/v2.1/servers":  401, "/compute/v2.1/flavors": 401, "/compute/v2.1/os-hypervisors": 401, "/compute/v2.1/limits": 401,
	} {
		res := s.send(request{path: path})
		if res.status != want {
			t.Errorf("%s: %d %s, want %d", path, res.status, res.body, want)
		}
		if want == http.StatusUnauthorized && !strings.HasPrefix(res.header.Get("WWW-Authenticate"), "Keystone uri=") {
			t.Errorf("%s: %v does not say where to log in", path, res.header)
		}
		bad := s.send(request{path: path, header: http.Header{"X-Auth-Token": {"nonsense"}}})
		if bad.status != want {
			t.Errorf("%s with a wrong token: %d, want %d", path, bad.status, want)
		}
	}
}

// Behind a proxy, links and the place to log in are where clients reach the listener.
func TestPublicURL(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.PublicURL = "https://cloud.example:8443/" })
	version := s.want(200, request{path: "/compute/v2.1"})
	if got := text(t, version, "version", "links", 0, "href"); got != "https://cloud.example:8443/compute/v2.1/" {
		t.Errorf("link %s", got)
	}
	res := s.send(request{path: "/compute/v2.1/servers"})
	if got := res.header.Get("WWW-Authenticate"); got != `Keystone uri="https://cloud.example:8443/identity"` {
		t.Errorf("log in at %s", got)
	}
}

// What only an admin may do.
func TestAdminOnly(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	for _, r := range []request{
		post("/compute/v2.1/flavors", `{"flavor": {"name": "x", "ram": 1, "vcpus": 1, "disk": 1}}`),
		{method: "DELETE", path: "/compute/v2.1/flavors/1"},
		post("/compute/v2.1/flavors/1/os-extra_specs", `{"extra_specs": {"a": "b"}}`),
		{method: "DELETE", path: "/compute/v2.1/flavors/1/os-extra_specs/a"},
		{path: "/compute/v2.1/os-hypervisors"},
		{path: "/compute/v2.1/os-hypervisors/detail"},
		{path: "/compute/v2.1/os-hypervisors/statistics"},
		{path: "/compute/v2.1/os-services"},
		{path: "/compute/v2.1/os-aggregates"},
		{path: "/compute/v2.1/os-availability-zone/detail"},
		{path: "/compute/v2.1/servers?all_tenants=1"},
		{path: "/compute/v2.1/os-quota-sets/admin-id"},
		{path: "/compute/v2.1/limits?tenant_id=admin-id"},
		{path: "/network/v2.0/agents"},
		{path: "/network/v2.0/quotas"},
		{path: "/network/v2.0/network-ip-availabilities"},
		{path: "/network/v2.0/quotas/admin-id"},
		{path: "/compute/v2.1/os-keypairs?user_id=admin-id", version: "2.10"},
	} {
		r.as = bob
		if res := s.send(r); res.status != http.StatusForbidden {
			t.Errorf("%s %s: %d %s, want 403", r.method, r.path, res.status, res.body)
		}
	}
}

func TestTokens(t *testing.T) {
	s := newSite(t)
	const path = "/identity/v3/auth/tokens"
	bobs, admins := s.token(bob), s.token(admin)
	subject := func(token string) http.Header { return http.Header{"X-Subject-Token": {token}} }

	own := s.want(200, request{as: bob, path: path, header: subject(bobs)})
	if text(t, own, "token", "project", "name") != "builders" || text(t, own, "token", "roles", 0, "name") != "member" ||
		text(t, own, "token", "catalog", 0, "endpoints", 0, "region") != "RegionOne" {
		t.Errorf("token %v", own)
	}
	s.want(200, request{as: bob, method: "HEAD", path: path, header: subject(bobs)})
	s.want(404, request{as: bob, path: path, header: subject(admins)})
	s.want(200, request{as: admin, path: path, header: subject(bobs)})

	// By token: unscoped first, then for the project.
	body := `{"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "bob-id", "password": "bob"}}}, "scope": "unscoped"}}`
	res := s.send(request{method: "POST", path: path, body: body})
	unscoped := res.header.Get("X-Subject-Token")
	if res.status != 201 || strings.Contains(res.body, "catalog") {
		t.Fatalf("unscoped: %d %s", res.status, res.body)
	}
	if res := s.send(request{path: "/compute/v2.1/servers", header: http.Header{"X-Auth-Token": {unscoped}}}); res.status != 403 {
		t.Errorf("an unscoped token at the compute service: %d %s", res.status, res.body)
	}
	body = `{"auth": {"identity": {"methods": ["token"], "token": {"id": "` + unscoped + `"}},
		"scope": {"project": {"name": "builders", "domain": {"id": "default"}}}}}`
	if res := s.send(request{method: "POST", path: path, body: body}); res.status != 201 || !strings.Contains(res.body, `"methods":["token","password"]`) {
		t.Errorf("rescoped: %d %s", res.status, res.body)
	}

	s.want(404, request{as: eve, method: "DELETE", path: path, header: subject(bobs)})
	s.want(204, request{as: bob, method: "DELETE", path: path, header: subject(bobs)})
	s.want(401, request{as: bob, path: "/compute/v2.1/servers"})
}

// The microversion of an answer, and what asks for it.
func TestMicroversions(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		header, value, want string
		status              int
	}{
		{"X-Unrelated", "", "2.1", 200},
		{"OpenStack-API-Version", "compute 2.89", "2.89", 200},
		{"OpenStack-API-Version", "compute latest", "2.89", 200},
		{"OpenStack-API-Version", "volume 3.1, compute 2.5", "2.5", 200},
		{"OpenStack-API-Version", "volume 3.1", "2.1", 200},
		{"X-OpenStack-Nova-API-Version", "2.10", "2.10", 200},
		{"OpenStack-API-Version", "compute 2.90", "", 406},
		{"OpenStack-API-Version", "compute 2.01", "", 400},
		{"OpenStack-API-Version", "compute 2.99999999999999999999", "", 400},
		{"X-OpenStack-Nova-API-Version", "0", "", 400},
	} {
		res := s.send(request{as: bob, path: "/compute/v2.1/flavors", header: http.Header{http.CanonicalHeaderKey(c.header): {c.value}}})
		got := res.header.Get("X-OpenStack-Nova-API-Version")
		if res.status != c.status || got != c.want {
			t.Errorf("%s: %s: %d %q, want %d %q", c.header, c.value, res.status, got, c.status, c.want)
		}
		if c.status == 200 && (res.header.Get("OpenStack-API-Version") != "compute "+c.want || len(res.header.Values("Vary")) != 2) {
			t.Errorf("%s: %s: headers %v", c.header, c.value, res.header)
		}
	}
}

// Every answer has a request's ID, which is in the log; tokens, passwords and bodies are not.
func TestAccessLog(t *testing.T) {
	s := newSite(t)
	global := "req-0d6f1a8c-6f0a-4b8e-9a55-1c1f3c0f7a11"
	res := s.send(request{as: bob, path: "/compute/v2.1/flavors", header: http.Header{"X-Openstack-Request-Id": {global}}})
	id := res.header.Get("X-Openstack-Request-Id")
	if !regexp.MustCompile(`^req-[0-9a-f-]{36}$`).MatchString(id) || id == global || res.header.Get("X-Compute-Request-Id") != id {
		t.Errorf("request ID %q of %v", id, res.header)
	}
	s.send(request{path: "/compute/v2.1/flavors", header: http.Header{"X-Openstack-Request-Id": {"req-forged level=ERROR"}}})
	s.send(request{path: "/" + strings.Repeat("long", 1000)})
	s.server.Close() // so that the last line is written
	log := s.log.String()
	for _, want := range []string{"request_id=" + id, "global_request_id=" + global, "user_id=bob-id", "path=/compute/v2.1/flavors", "status=200"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in the log", want)
		}
	}
	for _, secret := range []string{s.token(bob), `"password"`, "forged", strings.Repeat("long", 100)} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// broken fails in ways that a backend should not.
type broken struct {
	api.Backend
	panics bool
}

func (b broken) Servers(context.Context) ([]compute.Server, error) {
	if b.panics {
		panic("secret of the inside")
	}
	return nil, fmt.Errorf("open /var/lib/secret of the inside: %w", io.ErrUnexpectedEOF)
}

// An error of the agent's own is a 500 that tells the user nothing, and the operator all.
func TestInternalErrors(t *testing.T) {
	for _, panics := range []bool{false, true} {
		s := newSite(t, func(o *api.Options) { o.Backend = broken{o.Backend, panics} })
		res := s.send(request{as: bob, path: "/compute/v2.1/servers"})
		if res.status != 500 || !strings.Contains(res.body, "computeFault") || strings.Contains(res.body, "secret") {
			t.Errorf("panics %v: %d %s", panics, res.status, res.body)
		}
		if log := s.log.String(); !strings.Contains(log, "secret of the inside") {
			t.Errorf("panics %v: the log does not say why: %s", panics, log)
		}
		s.want(200, request{as: bob, path: "/compute/v2.1/flavors"})
	}
}

// A client that asks too fast is told when to come back, and others are not held up.
func TestRateLimit(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newSite(t, func(o *api.Options) {
		o.Now = func() time.Time { return now }
		o.Limits = api.Limits{RequestsPerSecond: 0.5, RequestBurst: 3, LoginsPerSecond: 0.5, LoginBurst: 1}
	})
	login := request{method: "POST", path: "/identity/v3/auth/tokens", body: loginBody(bob, bob)}
	s.want(201, login)
	if res := s.send(login); res.status != 429 || res.header.Get("Retry-After") != "2" {
		t.Errorf("second login: %d %v", res.status, res.header)
	}
	s.want(200, request{path: "/compute"})
	res := s.send(request{path: "/compute"})
	if res.status != 429 || !strings.Contains(res.body, `"overLimit"`) || res.header.Get("Retry-After") != "2" {
		t.Errorf("fourth request: %d %v %s", res.status, res.header, res.body)
	}
	other := httptest.NewRequest(http.MethodGet, "/compute", nil)
	other.RemoteAddr = "192.0.2.7:1234"
	rec := httptest.NewRecorder()
	s.server.Config.Handler.ServeHTTP(rec, other)
	if rec.Code != 200 {
		t.Errorf("another client: %d", rec.Code)
	}
	now = now.Add(2 * time.Second)
	s.want(200, request{path: "/compute"})
}

// The other things that clients read.
func TestHostViews(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	s.addServer(admin, "web", s.addImage(admin, "tiny", "public"), "1")
	detail := s.want(200, request{as: admin, path: "/compute/v2.1/os-hypervisors/detail"})
	if got := fmt.Sprint(dig(t, detail, "hypervisors", 0, "memory_mb_used")); got != "576" {
		t.Errorf("memory used %s", got)
	}
	statistics := s.want(200, request{as: admin, path: "/compute/v2.1/os-hypervisors/statistics"})
	if got := fmt.Sprint(dig(t, statistics, "hypervisor_statistics", "running_vms")); got != "1" {
		t.Errorf("running %s", got)
	}
	limits := s.want(200, request{as: admin, path: "/compute/v2.1/limits"})
	if got := fmt.Sprint(dig(t, limits, "limits", "absolute", "totalRAMUsed")); got != "64" {
		t.Errorf("RAM used %s", got)
	}
	node := s.want(200, request{as: admin, path: "/compute/v2.1/os-hypervisors?with_servers=true", version: "2.88"})
	if got := text(t, node, "hypervisors", 0, "servers", 0, "name"); got != "instance-00000001" {
		t.Errorf("servers %s", got)
	}
	id := text(t, node, "hypervisors", 0, "id")
	one := s.want(200, request{as: admin, path: "/compute/v2.1/os-hypervisors/" + id, version: "2.88"})
	if _, old := dig(t, one, "hypervisor").(map[string]any)["vcpus"]; old {
		t.Error("2.88 still has the figures that it dropped")
	}
	services := s.want(200, request{as: admin, path: "/compute/v2.1/os-services?binary=nova-compute"})
	if text(t, services, "services", 0, "state") != "up" || text(t, services, "services", 0, "host") != "node-1" {
		t.Errorf("services %v", services)
	}
}

func TestFlavors(t *testing.T) {
	s := newSite(t)
	s.want(200, request{as: admin, method: "POST", path: "/compute/v2.1/flavors",
		body: `{"flavor": {"id": "whole", "name": "whole", "ram": 64.0, "vcpus": 1e0, "disk": 0}}`})
	s.want(202, request{as: admin, method: "DELETE", path: "/compute/v2.1/flavors/whole"})
	for i, name := range []string{"small", "large"} {
		s.want(200, request{as: admin, method: "POST", path: "/compute/v2.1/flavors",
			body: fmt.Sprintf(`{"flavor": {"id": "%d", "name": %q, "ram": "%d", "vcpus": 1, "disk": 0}}`, i+1, name, 64<<(4*i))})
	}
	s.want(200, request{as: admin, method: "POST", path: "/compute/v2.1/flavors",
		body: `{"flavor": {"id": "p", "name": "private", "ram": 1, "vcpus": 1, "disk": 0, "os-flavor-access:is_public": false}}`})
	for _, c := range []struct{ as, query, want string }{
		{bob, "", "small large"},
		{bob, "is_public=None", "small large"},
		{admin, "", "small large"},
		{admin, "is_public=None", "small large private"},
		{admin, "is_public=False", "private"},
		{bob, "minRam=100", "large"},
		{bob, "limit=1", "small"},
		{bob, "marker=1", "large"},
		{bob, "sort_key=memory_mb&sort_dir=desc", "large small"},
	} {
		answer := s.want(200, request{as: c.as, path: "/compute/v2.1/flavors/detail?" + c.query})
		if got := strings.Join(names(t, answer, "flavors"), " "); got != c.want {
			t.Errorf("%s ?%s: %q, want %q", c.as, c.query, got, c.want)
		}
	}
	s.want(404, request{as: bob, path: "/compute/v2.1/flavors/p"})
	s.want(200, request{as: admin, method: "POST", path: "/compute/v2.1/flavors/1/os-extra_specs", version: "2.86",
		body: `{"extra_specs": {"hw:cpu_policy": "shared", "hw:mem_page_size": "large", "mine": "x", "resources:VGPU": 1}}`})
	s.want(200, request{as: admin, method: "DELETE", path: "/compute/v2.1/flavors/1/os-extra_specs/mine"})
	flavor := s.want(200, request{as: bob, path: "/compute/v2.1/flavors/1", version: "2.61"})
	if got := fmt.Sprint(dig(t, flavor, "flavor", "extra_specs")); got != "map[hw:cpu_policy:shared hw:mem_page_size:large resources:VGPU:1]" {
		t.Errorf("extra specs %s", got)
	}
	s.want(200, request{as: admin, method: "PUT", path: "/compute/v2.1/flavors/1", version: "2.55", body: `{"flavor": {"description": "tiny"}}`})
	s.want(202, request{as: admin, method: "DELETE", path: "/compute/v2.1/flavors/1"})
	s.want(404, request{as: admin, path: "/compute/v2.1/flavors/1"})
}

func TestKeypairs(t *testing.T) {
	s := newSite(t)
	made := s.want(201, request{as: bob, method: "POST", path: "/compute/v2.1/os-keypairs", version: "2.2", body: `{"keypair": {"name": "k 1", "type": "ssh"}}`})
	if !strings.HasPrefix(text(t, made, "keypair", "private_key"), "-----BEGIN OPENSSH PRIVATE KEY") {
		t.Errorf("made %v", made)
	}
	s.want(409, request{as: bob, method: "POST", path: "/compute/v2.1/os-keypairs", body: `{"keypair": {"name": "k 1"}}`})
	shown := s.want(200, request{as: bob, path: "/compute/v2.1/os-keypairs/k%201"})
	if _, told := dig(t, shown, "keypair").(map[string]any)["private_key"]; told {
		t.Error("the private key is kept")
	}
	s.want(404, request{as: eve, path: "/compute/v2.1/os-keypairs/k%201"})
	s.want(200, request{as: admin, path: "/compute/v2.1/os-keypairs/k%201?user_id=bob-id", version: "2.10"})
	s.want(204, request{as: bob, method: "DELETE", path: "/compute/v2.1/os-keypairs/k%201", version: "2.2"})
	if list := s.want(200, request{as: bob, path: "/compute/v2.1/os-keypairs"}); len(list["keypairs"].([]any)) != 0 {
		t.Errorf("left %v", list)
	}
}

// A password is made only where the guest can read it.
func TestAdminPassword(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	img := s.addImage(admin, "tiny", "public")
	for fields, want := range map[string]string{
		``:                        "none",
		`, "config_drive": true`:  "random",
		`, "adminPass": "chosen"`: "chosen",
	} {
		r := post("/compute/v2.1/servers", fmt.Sprintf(`{"server": {"name": "x", "imageRef": %q, "flavorRef": "1"%s}}`, img, fields))
		r.as = bob
		server := s.want(202, r)["server"].(map[string]any)
		got, given := server["adminPass"].(string)
		switch {
		case !given:
			got = "none"
		case got != "chosen" && len(got) == 12:
			got = "random"
		}
		if got != want {
			t.Errorf("%s: password %s, want %s", fields, got, want)
		}
		s.settle(server["id"].(string))
	}
}

// wire is a ResponseWriter that notes the deadlines of its connection.
type wire struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (w *wire) SetReadDeadline(t time.Time) error  { w.read = t; return nil }
func (w *wire) SetWriteDeadline(t time.Time) error { w.write = t; return nil }

// onEnd is a reader that tells when it was read to its end.
type onEnd struct {
	io.Reader
	tell func()
}

func (r onEnd) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.tell()
	}
	return n, err
}

// The time to write an answer begins when there is one, however long an upload took before.
func TestWriteDeadline(t *testing.T) {
	s := newSite(t)
	id := text(t, s.want(201, request{as: admin, method: "POST", path: "/image/v2/images",
		body: `{"name": "slow", "disk_format": "raw", "container_format": "bare"}`}), "id")
	w := &wire{ResponseRecorder: httptest.NewRecorder()}
	body := onEnd{strings.NewReader(strings.Repeat("image...", 64)), func() { w.write = time.Time{} }}
	r := httptest.NewRequest(http.MethodPut, "/image/v2/images/"+id+"/file", body)
	r.Header.Set("X-Auth-Token", s.token(admin))
	r.Header.Set("Content-Type", "application/octet-stream")
	s.server.Config.Handler.ServeHTTP(w, r)
	if w.Code != http.StatusNoContent || w.write.IsZero() {
		t.Errorf("answer %d %s with deadline %v", w.Code, w.Body, w.write)
	}
}

// A body that a handler does not want cannot keep the connection by never coming: net/http waits for
// it before it sends the answer.
func TestUnreadBodyHasADeadline(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/compute/", "/compute/v2.1/servers", "/nowhere"} {
		w := &wire{ResponseRecorder: httptest.NewRecorder()}
		s.server.Config.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, strings.NewReader("never")))
		if w.read.IsZero() {
			t.Errorf("%s: %d: no deadline for the body", path, w.Code)
		}
	}
}

// A client that hangs up is no error of the agent's.
func TestClientHangsUp(t *testing.T) {
	s := newSite(t)
	r := httptest.NewRequest(http.MethodGet, "/compute/v2.1/servers", nil)
	r.Header.Set("X-Auth-Token", s.token(bob))
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	hangUp := hangsUp{identity.New(identity.Options{Store: s.store}), cancel}
	handler, err := api.New(api.Options{Backend: broken{s.core, false}, Identity: hangUp, Logger: slog.New(slog.NewTextHandler(s.log, nil))})
	s.must(err)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r.WithContext(ctx))
	if w.Code != http.StatusBadRequest || strings.Contains(s.log.String(), "level=ERROR") {
		t.Errorf("%d %s, log %s", w.Code, w.Body, s.log)
	}
}

// hangsUp ends the request when its token was verified.
type hangsUp struct {
	api.Identity
	cancel func()
}

func (h hangsUp) Verify(ctx context.Context, secret string) (identity.Token, identity.User, error) {
	defer h.cancel()
	return h.Identity.Verify(ctx, secret)
}
