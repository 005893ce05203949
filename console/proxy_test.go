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
	c, response, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.server.URL, "http")+pathQuery, o)
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

// TestProxySerialTaken: QEMU serves one client of a serial port, so the newest gets it.
func TestProxySerialTaken(t *testing.T) {
	var one sync.Mutex // held while a client is served, as QEMU does
	at := guest(t, "unix", t.TempDir()+"/serial", func(c net.Conn) {
		one.Lock()
		defer one.Unlock()
		io.Copy(c, c) //nolint:errcheck // the client tells
	})
	r := newRig(t, grantOf(Serial, at), Options{})
	first := r.open()
	exchange(t, first, websocket.MessageBinary, "first")
	second := r.open()
	wantClosed(t, first, CloseTaken, "another client")
	exchange(t, second, websocket.MessageBinary, "second")
}

// TestProxyEnds: what ends an open console, and how clients are told.
func TestProxyEnds(t *testing.T) {
	silent := func(t *testing.T) net.Addr { return echo(t, "tcp", "127.0.0.1:0") }
	for _, test := range []struct {
		name   string
		limits Limits
		end    func(r *rig)
		code   int
		reason string
	}{
		{"revoked", Limits{}, func(r *rig) { r.authority.revoke("right") }, CloseEnded, "revoked"},
		{"stopped", Limits{}, func(r *rig) { r.shutdown() }, 1001, "stops"},
		{"idle", Limits{Idle: time.Millisecond}, nil, CloseIdle, "nothing was sent"},
		{"total", Limits{Total: time.Millisecond}, nil, CloseTimeLimit, "as long as"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, grantOf(Serial, silent(t)), Options{Limits: test.limits})
			c := r.open()
			if test.end != nil {
				exchange(t, c, websocket.MessageBinary, "it is open")
				go test.end(r)
			}
			wantClosed(t, c, test.code, test.reason)
		})
	}
	t.Run("guest goes", func(t *testing.T) {
		at := guest(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.WriteString(c, "bye") }) //nolint:errcheck // the client tells
		c := newRig(t, grantOf(Serial, at), Options{}).open()
		if got := readText(t, c, 3); got != "bye" {
			t.Errorf("got %q", got)
		}
		wantClosed(t, c, 1000, "guest has closed")
	})
	t.Run("client goes", func(t *testing.T) {
		left := make(chan struct{})
		at := guest(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.Copy(io.Discard, c); close(left) }) //nolint:errcheck // its end is what counts
		c := newRig(t, grantOf(Serial, at), Options{}).open()
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
		wait(t, left, "the guest is left")
	})
	t.Run("client is dead", func(t *testing.T) {
		r := newRig(t, grantOf(Serial, silent(t)), Options{Limits: Limits{Ping: time.Millisecond}})
		r.open() // and nobody reads of it, so that no pong is sent
		eventually(t, "the console ends", func() bool { return r.proxy.Counts().Open[Serial] == 0 && r.proxy.Counts().Opened[Serial] == 1 })
		r.shutdown()
		if !strings.Contains(r.log.String(), "does not answer") {
			t.Errorf("the log does not say why:\n%s", r.log)
		}
	})
}

// TestProxyAlive: who is asked for a sign of life, and who is given up.
func TestProxyAlive(t *testing.T) {
	for _, test := range []struct {
		name      string
		silent    time.Duration
		pinging   bool // so that no other ping is sent
		toldGuest bool
		want      bool
	}{
		{"just heard", 0, false, false, true},
		{"asked", 2 * time.Hour, true, false, true},
		{"given up", 5 * time.Hour, true, false, false},
		{"not heard while the guest does not take its bytes", 5 * time.Hour, true, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSession(&client{}, nil, Limits{Ping: time.Hour})
			s.lastSign.Store(int64(time.Since(s.began) - test.silent))
			s.pinging.Store(test.pinging)
			s.toldGuest.Store(test.toldGuest)
			if got := s.alive(); got != test.want {
				t.Errorf("alive: %v, want %v", got, test.want)
			}
		})
	}
}

// TestProxyPong: the client's answer to a ping is a sign of life.
func TestProxyPong(t *testing.T) {
	heard := make(chan bool, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := accept(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		s := newSession(c, nil, Limits{})
		go c.next() //nolint:errcheck // it ends with the client
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := c.ws.Ping(ctx); err != nil {
			t.Error(err)
		}
		heard <- s.lastSign.Load() > 0
		c.close(&ending{1000, "done"})
	}))
	t.Cleanup(server.Close)
	r := &rig{t: t, server: server}
	c, _, err := r.dial("/", nil) //nolint:bodyclose // the library closes it
	if err != nil {
		t.Fatal(err)
	}
	wantClosed(t, c, 1000, "done")
	if !<-heard {
		t.Error("the pong is no sign of life")
	}
}

func wait(t *testing.T, event <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(limit):
		t.Fatalf("not in %v: %s", limit, what)
	}
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", limit, what)
		}
	}
}
