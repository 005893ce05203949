package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// limit is far beyond what anything here takes.
const limit = 2 * time.Minute

// authority is an Authorizer of a map. Its tokens can be revoked.
type authority struct {
	mu      sync.Mutex
	grants  map[string]Grant
	failing error
	watches map[string][]chan struct{}
	asked   int
	held    int // watches that are not released
}

func (a *authority) Authorize(_ context.Context, token string) (Grant, <-chan struct{}, func(), error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	g, ok := a.grants[token]
	if !ok {
		return Grant{}, nil, nil, ErrNoToken
	}
	if a.failing != nil {
		return Grant{}, nil, nil, a.failing
	}
	ended := make(chan struct{})
	a.watches[token] = append(a.watches[token], ended)
	a.held++
	return g, ended, sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.held--
	}), nil
}

func (a *authority) revoke(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.grants, token)
	for _, ended := range a.watches[token] {
		close(ended)
	}
}

func (a *authority) questions() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// grantOf is of a guest that listens at an address.
func grantOf(protocol string, at net.Addr) Grant {
	id := sha256.Sum256([]byte(protocol + at.String()))
	return Grant{ServerID: "1f6d2c6a-6a55-4a41-8f6c-0d8ac6d5a0b1", Protocol: protocol, Network: at.Network(), Address: at.String(),
		TokenID: hex.EncodeToString(id[:]), Expires: time.Now().Add(time.Hour)}
}

// rig is a proxy that serves one token, "right".
type rig struct {
	t         *testing.T
	authority *authority
	proxy     *Proxy
	server    *httptest.Server
	log       *bytes.Buffer
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func newRig(t *testing.T, g Grant, o Options) *rig {
	t.Helper()
	return newRigOf(t, g, o, httptest.NewServer)
}

func newRigOf(t *testing.T, g Grant, o Options, serve func(http.Handler) *httptest.Server) *rig {
	t.Helper()
	r := &rig{t: t, log: &bytes.Buffer{}, authority: &authority{grants: map[string]Grant{"right": g}, watches: map[string][]chan struct{}{}}}
	o.Authorizer = r.authority
	o.Log = slog.New(slog.NewTextHandler(&lockedWriter{w: r.log}, nil))
	var err error
	if r.proxy, err = NewProxy(o); err != nil {
		t.Fatal(err)
	}
	r.server = serve(r.proxy)
	t.Cleanup(func() {
		r.shutdown()
		r.server.Close()
		if r.authority.held != 0 {
			t.Errorf("%d watches of tokens are not released", r.authority.held)
		}
		if strings.Contains(r.log.String(), "right") {
			t.Errorf("the token is in the log:\n%s", r.log)
		}
	})
	return r
}

// shutdown ends all consoles and waits for them, after which the log is complete.
func (r *rig) shutdown() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := r.proxy.Shutdown(ctx); err != nil {
		r.t.Error(err)
	}
}

// dial opens a WebSocket; response is what HTTP answered.
func (r *rig) dial(pathQuery string, o *websocket.DialOptions) (*websocket.Conn, *http.Response, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if o == nil {
		o = &websocket.DialOptions{Subprotocols: []string{"binary"}}
	}
	o.HTTPClient = r.server.Client()
	c, response, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.server.URL, "http")+pathQuery, o) //nolint:bodyclose // the library closes it
	if c != nil {
		r.t.Cleanup(func() { c.CloseNow() }) //nolint:errcheck // it may be closed
		c.SetReadLimit(-1)
	}
	return c, response, err
}

// open opens the console.
func (r *rig) open() *websocket.Conn {
	r.t.Helper()
	c, _, err := r.dial("/?token=right", nil) //nolint:bodyclose // the library closes it
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// closeCode reads until the proxy closes, and returns what it says.
func closeCode(t *testing.T, c *websocket.Conn) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		_, _, err := c.Read(ctx)
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			return int(closed.Code), closed.Reason
		}
		if err != nil {
			t.Fatalf("no close code: %v", err)
		}
	}
}

func wantClosed(t *testing.T, c *websocket.Conn, code int, reason string) {
	t.Helper()
	if got, why := closeCode(t, c); got != code || !strings.Contains(why, reason) {
		t.Errorf("closed with %d %q, want %d %q", got, why, code, reason)
	}
}

// echo is a guest that sends back what it gets.
func echo(t *testing.T, network, address string) net.Addr {
	t.Helper()
	return guest(t, network, address, func(c net.Conn) { io.Copy(c, c) }) //nolint:errcheck // the client tells
}

// guest serves connections until the test ends, and waits for them.
func guest(t *testing.T, network, address string, serve func(net.Conn)) net.Addr {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close() //nolint:errcheck // the client tells
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close() //nolint:errcheck // it is only closed here
		running.Wait()
	})
	return l.Addr()
}

// exchange sends text and reads until the same came back.
func exchange(t *testing.T, c *websocket.Conn, kind websocket.MessageType, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := c.Write(ctx, kind, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if got := readText(t, c, len(text)); got != text {
		t.Fatalf("got %q back, want %q", got, text)
	}
}

func readText(t *testing.T, c *websocket.Conn, length int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var got []byte
	for len(got) < length {
		kind, part, err := c.Read(ctx)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		if kind != websocket.MessageBinary {
			t.Fatalf("message of type %v", kind)
		}
		got = append(got, part...)
	}
	return string(got)
}

func TestProxySerial(t *testing.T) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": t.TempDir() + "/serial"} {
		t.Run(network, func(t *testing.T) {
			c := newRig(t, grantOf(Serial, echo(t, network, address)), Options{}).open()
			exchange(t, c, websocket.MessageBinary, "\r\n")
			exchange(t, c, websocket.MessageText, "login: root\r\n")
		})
	}
}
