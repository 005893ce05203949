package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Options are what a Proxy goes by. Authorizer is required.
type Options struct {
	Authorizer Authorizer
	Log        *slog.Logger // nil: the default one

	// AllowedOrigins are the pages, besides those of the proxy's own host, from which browsers may connect: a host ("console.example.org", any port, the scheme
	// of the request), host:port, or a whole origin ("https://console.example.org"), which is what the pages of a reverse proxy that ends TLS have.
	AllowedOrigins []string
	// RequireTLS refuses requests that came without TLS.
	RequireTLS bool

	// VNCAuthSchemes ends RFB's security handshake in the proxy: the first of SchemeVeNCrypt and SchemeNone that the guest offers too is taken, as Nova's
	// [vnc]auth_schemes. Empty: the guest's security types are passed through.
	VNCAuthSchemes []string
	VNCTLS         GuestTLS // for SchemeVeNCrypt
	SPICETLS       GuestTLS // for guests whose SPICE speaks only TLS

	Limits Limits
}

// GuestTLS is how the proxy shows itself to guests, and knows them. The files are PEM and are read for each connection, so that they can be replaced.
type GuestTLS struct {
	CAFile            string // empty: the host's certificate authorities
	CertFile, KeyFile string // both empty: no client certificate
	ServerName        string // what the guest's certificate must name; empty: the host that is connected to
}

// Limits bound what clients can take. What is 0 has the default; durations below 0 have no limit.
type Limits struct {
	Connections          int           // in all; 1000
	ConnectionsPerServer int           // 40
	ConnectionsPerToken  int           // 20: a SPICE client opens one for each of its six and more channels
	WrongTokens          int           // that one address may try at once before it must wait; 20
	WrongTokenEvery      time.Duration // after which an address may try one more; 1 s
	Handshake            time.Duration // until the guest has answered, and has agreed with the client; 10 s
	Ping                 time.Duration // between signs of life that are asked of a client; 30 s
	Idle                 time.Duration // without a byte in either direction; 1 h
	Total                time.Duration // of one connection; 24 h
	Message              int64         // bytes of one message of a client, which are passed on as they come and not kept; 256 MiB
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Connections:          cmp.Or(l.Connections, 1000),
		ConnectionsPerServer: cmp.Or(l.ConnectionsPerServer, 40),
		ConnectionsPerToken:  cmp.Or(l.ConnectionsPerToken, 20),
		WrongTokens:          cmp.Or(l.WrongTokens, 20),
		WrongTokenEvery:      cmp.Or(l.WrongTokenEvery, time.Second),
		Handshake:            cmp.Or(l.Handshake, 10*time.Second),
		Ping:                 cmp.Or(l.Ping, 30*time.Second),
		Idle:                 cmp.Or(l.Idle, time.Hour),
		Total:                cmp.Or(l.Total, 24*time.Hour),
		Message:              cmp.Or(l.Message, 256<<20),
	}
}

// The security schemes between proxy and guest.
const (
	SchemeNone     = "none"
	SchemeVeNCrypt = "vencrypt"
)

// Proxy joins WebSockets with the consoles of guests. It serves every path: what a request may open is what its token opens, and where that is, its Grant says.
// A request says its token as the query's "token", within noVNC's "path", or in the cookie "token"; it may say in the query which "server" and "protocol" it
// expects, and is refused if the token opens another.
//
// ServeHTTP must be given HTTP/1.1 requests. It logs what it opens and refuses, with no token.
type Proxy struct {
	options Options
	allowed []origin
	guesses *guesses
	places  *places
	serial  serialPorts
	counts  counts

	refusing atomic.Int32  // clients that are being told a close code
	stopping chan struct{} // closed by Shutdown
	stop     func()
	mu       sync.Mutex // of running.Add, so that none comes after Shutdown waits
	running  sync.WaitGroup
}

// NewProxy checks the options.
func NewProxy(o Options) (*Proxy, error) {
	if o.Authorizer == nil {
		return nil, errors.New("console proxy: it needs an Authorizer")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	o.Limits = o.Limits.withDefaults()
	p := &Proxy{
		options:  o,
		guesses:  newGuesses(o.Limits.WrongTokens, o.Limits.WrongTokenEvery),
		places:   newPlaces(o.Limits),
		stopping: make(chan struct{}),
	}
	p.stop = sync.OnceFunc(func() { close(p.stopping) })
	for i, text := range o.AllowedOrigins {
		allowed, err := parseAllowed(text)
		if err != nil {
			return nil, fmt.Errorf("allowed origin %d: %w", i+1, err)
		}
		p.allowed = append(p.allowed, allowed)
	}
	for _, scheme := range o.VNCAuthSchemes {
		if scheme != SchemeNone && scheme != SchemeVeNCrypt {
			return nil, fmt.Errorf("VNC auth scheme %q: want %s or %s", scheme, SchemeNone, SchemeVeNCrypt)
		}
	}
	for what, t := range map[string]GuestTLS{VNC: o.VNCTLS, SPICE: o.SPICETLS} {
		if _, err := t.config("localhost:0"); err != nil {
			return nil, fmt.Errorf("TLS with guests by %s: %w", what, err)
		}
	}
	return p, nil
}

// Shutdown ends all consoles, tells their clients that the agent stops, and waits for them until ctx ends.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.stop()
	p.mu.Unlock()
	done := make(chan struct{})
	go func() { p.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enter counts a request among those that Shutdown waits for.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.stopping:
		return false
	default:
		p.running.Add(1)
		return true
	}
}

// refusal is an answer in HTTP, before a WebSocket begins.
type refusal struct {
	why    string // as in Counts.Refused
	status int
	text   string
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.enter() {
		http.Error(w, "the agent stops", http.StatusServiceUnavailable)
		return
	}
	defer p.running.Done()
	if refused := p.check(r); refused != nil {
		p.refuse(w, r, refused)
		return
	}
	who := guesser(r.RemoteAddr)
	if wait := p.guesses.take(who); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		p.refuse(w, r, &refusal{"guesses", http.StatusTooManyRequests, "too many wrong tokens came from this address"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), p.options.Limits.Handshake)
	defer cancel()
	grant, ended, release, err := p.authorize(ctx, r)
	if !errors.Is(err, ErrNoToken) {
		p.guesses.giveBack(who)
	}
	if err != nil {
		p.close(w, r, endingOf(err), err)
		return
	}
	defer release()
	leave, e := p.places.enter(grant)
	if e != nil {
		p.close(w, r, e, e)
		return
	}
	defer leave()
	p.open(ctx, w, r, grant, ended)
}

// check is what can be wrong with a request before its token is looked at.
func (p *Proxy) check(r *http.Request) *refusal {
	if !IsWebSocket(r) {
		return &refusal{"request", http.StatusUpgradeRequired, "consoles are opened by WebSocket"}
	}
	if p.options.RequireTLS && r.TLS == nil {
		return &refusal{"tls", http.StatusForbidden, "this console is served by TLS only: connect to wss://"}
	}
	if err := checkOrigin(r, p.allowed); err != nil {
		return &refusal{"origin", http.StatusForbidden, err.Error()}
	}
	if err := checkSubprotocol(r.Header); err != nil {
		return &refusal{"request", http.StatusBadRequest, err.Error()}
	}
	return nil
}

// authorize asks what the request's token opens, and whether that is what the request expects.
func (p *Proxy) authorize(ctx context.Context, r *http.Request) (Grant, <-chan struct{}, func(), error) {
	token := tokenOf(r)
	if token == "" {
		return Grant{}, nil, nil, ErrNoToken
	}
	grant, ended, release, err := p.options.Authorizer.Authorize(ctx, token)
	if err != nil {
		return Grant{}, nil, nil, err
	}
	query := r.URL.Query()
	server, protocol := cmp.Or(query.Get("server"), grant.ServerID), cmp.Or(query.Get("protocol"), grant.Protocol)
	switch {
	case !time.Now().Before(grant.Expires):
		err = ErrNoToken
	case server != grant.ServerID || protocol != grant.Protocol:
		err = &ending{CloseOtherConsole, "the token is for another console"}
	}
	if err != nil {
		release()
		return Grant{}, nil, nil, err
	}
	return grant, ended, release, nil
}

// endingOf tells a client of an error no more than it is to know.
func endingOf(err error) *ending {
	var e *ending
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, ErrNoToken):
		return &ending{CloseNoToken, ErrNoToken.Error()}
	}
	return &ending{CloseUnreachable, "the guest's console cannot be reached now"}
}

func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, refused *refusal) {
	p.counts.refuse(refused.why)
	level := slog.LevelInfo
	if refused.why == "guesses" {
		level = slog.LevelDebug // there may be thousands in a second
	}
	p.options.Log.Log(r.Context(), level, "console refused", "remote", r.RemoteAddr, "why", refused.text)
	http.Error(w, refused.text, refused.status)
}

// maxRefusing bounds the clients that are being told a close code, each for as long as closeLimit.
const maxRefusing = 200

// close refuses by a close code, which pages can read, unlike an answer in HTTP.
func (p *Proxy) close(w http.ResponseWriter, r *http.Request, e *ending, cause error) {
	defer p.refusing.Add(-1)
	if p.refusing.Add(1) > maxRefusing {
		p.refuse(w, r, &refusal{"limit", http.StatusServiceUnavailable, "too many connections"})
		return
	}
	p.counts.refuse(refusedBy[e.code])
	p.options.Log.InfoContext(r.Context(), "console refused", "remote", r.RemoteAddr, "why", cause)
	c, err := accept(w, r)
	if err != nil {
		return // the library has answered
	}
	c.close(e)
}

// open connects to the guest and stays until the console ends.
func (p *Proxy) open(ctx context.Context, w http.ResponseWriter, r *http.Request, g Grant, ended <-chan struct{}) {
	port, err := p.serial.take(ctx, g)
	if err != nil {
		p.close(w, r, endingOf(err), err)
		return
	}
	defer port.leave()
	guest, offer, err := p.connect(ctx, g)
	if err != nil {
		p.close(w, r, endingOf(err), err)
		return
	}
	defer guest.Close() //nolint:errcheck // what was read and written counts
	c, err := accept(w, r)
	if err != nil {
		p.refuse(w, r, &refusal{why: "request", text: err.Error()}) // the library has answered
		return
	}
	c.ws.SetReadLimit(p.options.Limits.Message)
	if err := c.agree(offer, p.options.Limits.Handshake); err != nil {
		c.close(&ending{int(websocket.StatusProtocolError), err.Error()})
		return
	}
	s := newSession(c, guest, p.options.Limits)
	p.counts.begin(g.Protocol)
	began := time.Now()
	e := s.run(ended, port.taken, p.stopping)
	s.end()
	port.leave()
	c.close(e)
	s.copiers.Wait()
	p.counts.end(g.Protocol, s)
	p.options.Log.Info("console closed", "remote", r.RemoteAddr, "server", g.ServerID, "protocol", g.Protocol, "token", short(g.TokenID),
		"to_client", s.toClientBytes.Load(), "to_guest", s.toGuestBytes.Load(), "seconds", int(time.Since(began).Seconds()), "why", e.reason)
}

// short is as much of a token's hash as tells tokens apart in a log.
func short(tokenID string) string { return tokenID[:min(len(tokenID), 12)] }
