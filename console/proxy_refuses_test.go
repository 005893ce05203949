package console

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// refusedHTTP dials and wants an answer in HTTP.
func refusedHTTP(t *testing.T, r *rig, pathQuery string, o *websocket.DialOptions, status int, text string) {
	t.Helper()
	c, response, err := r.dial(pathQuery, o)
	if c != nil || response == nil {
		t.Fatalf("a WebSocket began, or no answer came: %v", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != status || !strings.Contains(string(body), text) {
		t.Errorf("%s %q, want %d and %q", response.Status, body, status, text)
	}
}

// refusedCode dials and wants a close code.
func refusedCode(t *testing.T, r *rig, pathQuery string, o *websocket.DialOptions, code int, reason string) {
	t.Helper()
	c, _, err := r.dial(pathQuery, o) //nolint:bodyclose // the library closes it
	if err != nil {
		t.Fatal(err)
	}
	wantClosed(t, c, code, reason)
}

func with(header, value string) *websocket.DialOptions {
	return &websocket.DialOptions{HTTPHeader: http.Header{header: {value}}}
}

func TestProxyRefuses(t *testing.T) {
	at := echo(t, "tcp", "127.0.0.1:0")
	newTestRig := func(t *testing.T, o Options) *rig { return newRig(t, grantOf(Serial, at), o) }

	t.Run("wrong token", func(t *testing.T) {
		refusedCode(t, newTestRig(t, Options{}), "/?token=wrong", nil, CloseNoToken, ErrNoToken.Error())
	})
	t.Run("no token", func(t *testing.T) {
		r := newTestRig(t, Options{})
		refusedCode(t, r, "/", nil, CloseNoToken, ErrNoToken.Error())
		refusedCode(t, r, "/?token="+strings.Repeat("x", maxToken+1), nil, CloseNoToken, ErrNoToken.Error())
		if r.authority.questions() != 0 {
			t.Error("the authorizer was asked")
		}
	})
	t.Run("expired token", func(t *testing.T) {
		g := grantOf(Serial, at)
		g.Expires = time.Now().Add(-time.Second)
		refusedCode(t, newRig(t, g, Options{}), "/?token=right", nil, CloseNoToken, ErrNoToken.Error())
	})
	t.Run("token reused after revoke", func(t *testing.T) {
		r := newTestRig(t, Options{})
		c := r.open()
		exchange(t, c, websocket.MessageBinary, "it is open")
		go r.authority.revoke("right")
		wantClosed(t, c, CloseEnded, "revoked")
		refusedCode(t, r, "/?token=right", nil, CloseNoToken, ErrNoToken.Error())
	})
	t.Run("token of another server", func(t *testing.T) {
		refusedCode(t, newTestRig(t, Options{}), "/?token=right&server=7", nil, CloseOtherConsole, "another console")
	})
	t.Run("token of another protocol", func(t *testing.T) {
		refusedCode(t, newTestRig(t, Options{}), "/?token=right&protocol=vnc", nil, CloseOtherConsole, "another console")
	})
	t.Run("guest that cannot be reached", func(t *testing.T) {
		r := newTestRig(t, Options{})
		r.authority.failing = errors.New("a secret of the hypervisor")
		refusedCode(t, r, "/?token=right", nil, CloseUnreachable, "cannot be reached now")
	})
	t.Run("guest that does not listen", func(t *testing.T) {
		g := grantOf(Serial, at)
		g.Network, g.Address = "unix", t.TempDir()+"/nobody"
		refusedCode(t, newRig(t, g, Options{}), "/?token=right", nil, CloseUnreachable, "cannot be reached now")
	})
	t.Run("plain HTTP where TLS is asked for", func(t *testing.T) {
		refusedHTTP(t, newTestRig(t, Options{RequireTLS: true}), "/?token=right", nil, http.StatusForbidden, "wss://")
		exchange(t, newRigOf(t, grantOf(Serial, at), Options{RequireTLS: true}, httptest.NewTLSServer).open(), websocket.MessageBinary, "by TLS")
	})
	t.Run("wrong origin", func(t *testing.T) {
		r := newTestRig(t, Options{})
		for _, origin := range []string{"http://evil.example.org", "null", "", "file://", "http://" + r.host() + ".evil.example.org", "http://127.0.0.1:1"} {
			refusedHTTP(t, r, "/?token=right", with("Origin", origin), http.StatusForbidden, "")
		}
		refusedHTTP(t, r, "/?token=right", with("Origin", "https://"+r.host()), http.StatusForbidden, "the page came by https")
		o := &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"http://" + r.host(), "http://" + r.host()}}}
		refusedHTTP(t, r, "/?token=right", o, http.StatusForbidden, "more than one")
		if r.authority.questions() != 0 {
			t.Error("the authorizer was asked")
		}
	})
	t.Run("base64 and other subprotocols", func(t *testing.T) {
		o := &websocket.DialOptions{Subprotocols: []string{"base64", "chat"}}
		refusedHTTP(t, newTestRig(t, Options{}), "/?token=right", o, http.StatusBadRequest, `"base64"`)
	})
	t.Run("request for no WebSocket", func(t *testing.T) {
		r := newTestRig(t, Options{})
		response, err := r.server.Client().Get(r.server.URL + "/?token=right")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close() //nolint:errcheck // nothing is wanted of it
		if response.StatusCode != http.StatusUpgradeRequired {
			t.Error(response.Status)
		}
	})
	t.Run("message that is too long", func(t *testing.T) {
		c := newTestRig(t, Options{Limits: Limits{Message: 1000}}).open()
		exchange(t, c, websocket.MessageBinary, strings.Repeat("x", 1000))
		if err := c.Write(t.Context(), websocket.MessageBinary, make([]byte, 1001)); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, c, int(websocket.StatusMessageTooBig), "")
	})
}

func (r *rig) host() string { return strings.TrimPrefix(r.server.URL, "http://") }

// TestProxyRefusesTooMany: connections in all, of a server, and with a token; and a place is free again when a console ends.
func TestProxyRefusesTooMany(t *testing.T) {
	for name, limits := range map[string]Limits{
		"in all": {Connections: 2}, "of this server": {ConnectionsPerServer: 2}, "with this token": {ConnectionsPerToken: 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, grantOf(SPICE, echo(t, "tcp", "127.0.0.1:0")), Options{Limits: limits})
			first := r.open()
			exchange(t, first, websocket.MessageBinary, "first")
			exchange(t, r.open(), websocket.MessageBinary, "second")
			refusedCode(t, r, "/?token=right", nil, CloseTooMany, name)
			if err := first.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Error(err)
			}
			eventually(t, "a console is closed", func() bool { return r.proxy.Counts().Open[SPICE] == 1 })
			eventually(t, "its place is free", func() bool {
				c, _, err := r.dial("/?token=right", nil) //nolint:bodyclose // the library closes it
				if err != nil {
					t.Fatal(err)
				}
				c.Write(t.Context(), websocket.MessageBinary, []byte("third")) //nolint:errcheck // the answer tells
				_, _, err = c.Read(t.Context())
				return err == nil
			})
			if r.proxy.Counts().Refused["limit"] == 0 {
				t.Error("the refusal is not counted")
			}
		})
	}
}

// TestProxyRefusesGuesses: of 10,000 wrong tokens from one address only a few are looked up, the others are answered with 429, and so is a right one.
func TestProxyRefusesGuesses(t *testing.T) {
	const guesses, allowed = 10000, 20
	r := newRig(t, grantOf(Serial, echo(t, "tcp", "127.0.0.1:0")), Options{Limits: Limits{WrongTokens: allowed, WrongTokenEvery: 24 * time.Hour}})
	var slowed atomic.Int64
	var guessers sync.WaitGroup
	for i := range 4 {
		guessers.Go(func() {
			for j := range guesses / 4 {
				if guess(t, r, fmt.Sprintf("guess-%d-%d", i, j)) == http.StatusTooManyRequests {
					slowed.Add(1)
				}
			}
		})
	}
	guessers.Wait()
	if got := r.authority.questions(); got != allowed || slowed.Load() != guesses-allowed {
		t.Errorf("%d guesses were looked up and %d answered with 429, want %d and %d", got, slowed.Load(), allowed, guesses-allowed)
	}
	if got := guess(t, r, "right"); got != http.StatusTooManyRequests {
		t.Errorf("a right token after them: %d", got)
	}
	exchange(t, r.open(), websocket.MessageBinary, "from another address")
}

// guess asks for a WebSocket with a token, and returns the status.
func guess(t *testing.T, r *rig, token string) int {
	w := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, "http://"+r.host()+"/?token="+token, nil)
	request.RemoteAddr = "192.0.2.7:1234"
	for key, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		request.Header.Set(key, value)
	}
	r.proxy.ServeHTTP(w, request)
	if w.Code == http.StatusTooManyRequests {
		if seconds, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || seconds < 1 {
			t.Errorf("Retry-After: %q", w.Header().Get("Retry-After"))
		}
	}
	return w.Code
}

// TestProxyTokenPlaces: where clients put their token.
func TestProxyTokenPlaces(t *testing.T) {
	r := newRig(t, grantOf(Serial, echo(t, "tcp", "127.0.0.1:0")), Options{AllowedOrigins: []string{"console.example.org", "https://proxy.example.org"}})
	for name, test := range map[string]struct {
		pathQuery string
		options   *websocket.DialOptions
	}{
		"query":                        {"/?token=right", nil},
		"query of any path":            {"/websockify?token=right", nil},
		"noVNC's path":                 {"/?path=" + url.QueryEscape("?token=right"), nil},
		"noVNC's longer path":          {"/?path=" + url.QueryEscape("websockify?token=right"), nil},
		"cookie":                       {"/", with("Cookie", "a=b; token=right")},
		"what it expects":              {"/?token=right&protocol=serial&server=1f6d2c6a-6a55-4a41-8f6c-0d8ac6d5a0b1", nil},
		"no subprotocol":               {"/?token=right", &websocket.DialOptions{}},
		"two subprotocols":             {"/?token=right", &websocket.DialOptions{Subprotocols: []string{"base64", "binary"}}},
		"own page":                     {"/?token=right", with("Origin", "http://"+r.host())},
		"page of an allowed host":      {"/?token=right", with("Origin", "http://console.example.org:8080")},
		"page of an allowed origin":    {"/?token=right", with("Origin", "https://proxy.example.org")},
		"compression, which is denied": {"/?token=right", &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, err := r.dial(test.pathQuery, test.options) //nolint:bodyclose // the library closes it
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, c, websocket.MessageBinary, "hello")
			c.CloseNow() //nolint:errcheck // the next one takes the port
		})
	}
}

func TestProxyOptions(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"no authorizer":       {Options{}, "Authorizer"},
		"pattern as origin":   {Options{Authorizer: &authority{}, AllowedOrigins: []string{"*.example.org"}}, "allowed origin 1"},
		"path as origin":      {Options{Authorizer: &authority{}, AllowedOrigins: []string{"a", "https://b/c"}}, "allowed origin 2"},
		"unknown scheme":      {Options{Authorizer: &authority{}, VNCAuthSchemes: []string{"vnc"}}, `"vnc"`},
		"no such CA":          {Options{Authorizer: &authority{}, VNCTLS: GuestTLS{CAFile: dir + "/ca.pem"}}, "ca.pem"},
		"key without its own": {Options{Authorizer: &authority{}, SPICETLS: GuestTLS{KeyFile: dir + "/key.pem"}}, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewProxy(test.options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestProxyOrigin(t *testing.T) {
	allowed := []origin{{host: "console.example.org"}, {host: "other.example.org", port: "444"}, {scheme: "https", host: "proxy.example.org", port: "443"}}
	for _, test := range []struct {
		origin, host string
		tls          bool
		ok           bool
	}{
		{"http://node:6080", "node:6080", false, true},
		{"http://NODE:6080", "node:6080", false, true},
		{"http://node", "node:80", false, true},
		{"http://node:80", "node", false, true},
		{"https://node", "node:443", true, true},
		{"https://node", "node", true, true},
		{"https://node", "node", false, false},
		{"http://node", "node", true, false},
		{"http://node:6081", "node:6080", false, false},
		{"http://[::1]:6080", "[::1]:6080", false, true},
		{"http://[::1]", "[0:0:0:0:0:0:0:1]", false, true},
		{"http://[::1]", "[::2]", false, false},
		{"http://user@node", "node", false, false},
		{"http://node/path", "node", false, false},
		{"http://node?query", "node", false, false},
		{"http://node:x", "node", false, false},
		{"http://", "node", false, false},
		{"ftp://node", "node", false, false},
		{"node", "node", false, false},
		{"http://node", "", false, false},
		{"http://console.example.org:1234", "node", false, true},
		{"https://console.example.org", "node", false, false},
		{"http://other.example.org:444", "node", false, true},
		{"http://other.example.org", "node", false, false},
		{"https://proxy.example.org", "node", false, true},
		{"http://proxy.example.org", "node", false, false},
	} {
		r := &http.Request{Host: test.host, Header: http.Header{"Origin": {test.origin}}}
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if err := checkOrigin(r, allowed); (err == nil) != test.ok {
			t.Errorf("page of %q at %q, TLS %v: %v", test.origin, test.host, test.tls, err)
		}
	}
}

func TestGuessesOfManyAddresses(t *testing.T) {
	g := newGuesses(2, time.Second)
	now := time.Unix(1000, 0)
	g.now = func() time.Time { return now }
	a := guesser("192.0.2.1:5")
	for range 2 {
		if g.take(a) > 0 {
			t.Fatal("two guesses are free")
		}
	}
	if wait := g.take(a); wait != time.Second {
		t.Errorf("wait %v for the third", wait)
	}
	now = now.Add(time.Second)
	if g.take(a) > 0 || g.take(a) == 0 {
		t.Error("one more is free after a second, and only one")
	}
	g.giveBack(a)
	if g.take(a) > 0 {
		t.Error("what a right token paid is not given back")
	}
	for i := range 2 * maxAddresses {
		g.take(guesser(fmt.Sprintf("[2001:db8:%x::1]:7", i)))
	}
	if len(g.full) != maxAddresses || g.recent.Len() != maxAddresses {
		t.Errorf("%d and %d addresses are kept", len(g.full), g.recent.Len())
	}
	for _, same := range [][2]string{{"192.0.2.1:1", "[::ffff:192.0.2.1]:2"}, {"[2001:db8::1]:1", "[2001:db8::ffff:1]:2"}, {"@", ""}} {
		if guesser(same[0]) != guesser(same[1]) {
			t.Errorf("%q and %q count apart", same[0], same[1])
		}
	}
	if guesser("192.0.2.1:1") == guesser("192.0.2.2:1") {
		t.Error("two addresses count as one")
	}
	h := newGuesses(2, time.Second)
	if h.take(a); h.now == nil || len(h.full) != 1 {
		t.Error("a guess is not kept")
	}
	if h.giveBack(a); len(h.full) != 0 {
		t.Error("an address with right tokens only is kept")
	}
}
