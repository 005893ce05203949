package terminal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"compute-agent/console"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

const patience = 120 * time.Second

// guest is a serial port behind a real proxy, with one token.
type guest struct {
	*testing.T
	url   string
	path  string        // of the port's socket
	ended chan struct{} // closed when the token is revoked
	ports chan net.Conn // what the proxy has connected to
}

const token = "secret"

func (g *guest) Authorize(_ context.Context, given string) (console.Grant, <-chan struct{}, func(), error) {
	if given != token {
		return console.Grant{}, nil, nil, console.ErrNoToken
	}
	return console.Grant{
		ServerID: "server", Protocol: console.Serial, Network: "unix", Address: g.path, TokenID: "t", Expires: time.Now().Add(time.Hour),
	}, g.ended, func() {}, nil
}

func startGuest(t *testing.T) *guest {
	t.Helper()
	dir, err := os.MkdirTemp("", "port") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &guest{T: t, path: filepath.Join(dir, "s"), ended: make(chan struct{}), ports: make(chan net.Conn, 8)}
	socket, err := net.Listen("unix", g.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			g.ports <- conn
		}
	}()
	proxy, err := console.NewProxy(console.Options{Authorizer: g, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	t.Cleanup(func() { _ = proxy.Shutdown(context.Background()) })
	g.url = strings.Replace(server.URL, "http", "ws", 1) + "/?token=" + token
	return g
}

// port is the guest's end of the next connection.
func (g *guest) port() net.Conn {
	g.Helper()
	select {
	case conn := <-g.ports:
		g.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			g.Fatal(err)
		}
		return conn
	case <-time.After(patience):
		g.Fatal("nobody connects to the serial port")
		return nil
	}
}

// reads checks what the guest gets next.
func (g *guest) reads(port net.Conn, want string) {
	g.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(port, got); err != nil || string(got) != want {
		g.Fatalf("the guest got %q, %v; want %q", got, err, want)
	}
}

func (g *guest) says(port net.Conn, text string) {
	g.Helper()
	if _, err := io.WriteString(port, text); err != nil {
		g.Fatal(err)
	}
}

// attached is a call of Attach that runs.
type attached struct {
	*testing.T
	connected chan struct{}
	done      chan struct{}
	ending    Ending
	err       error
}

func attach(ctx context.Context, t *testing.T, o Options) *attached {
	a := &attached{T: t, connected: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.ending, a.err = Attach(ctx, o, func() { close(a.connected) })
	}()
	return a
}

// wait waits for the end.
func (a *attached) wait() (Ending, error) {
	a.Helper()
	select {
	case <-a.done:
	case <-time.After(patience):
		a.Fatal("it does not end")
	}
	return a.ending, a.err
}

// openTerminal returns both ends of a terminal: the user's, and the program's.
func openTerminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, program, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = user.Close(), program.Close() })
	return user, program
}

func settings(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

func TestTerminalIsRawAndThenAsBefore(t *testing.T) {
	g := startGuest(t)
	user, program := openTerminal(t)
	before := settings(t, program)
	a := attach(t.Context(), t, Options{URL: g.url, In: program, Out: program, Escape: 0x1d})
	port := g.port()
	g.says(port, "login: ")
	screen := make([]byte, 7)
	if _, err := io.ReadFull(user, screen); err != nil || string(screen) != "login: " {
		t.Fatalf("the terminal shows %q, %v", screen, err)
	}
	if settings(t, program).Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 {
		t.Error("the terminal is not in raw mode")
	}
	if _, err := io.WriteString(user, "root\x03\x1a\r"); err != nil { // Ctrl-C and Ctrl-Z are the guest's
		t.Fatal(err)
	}
	g.reads(port, "root\x03\x1a\r")
	if _, err := io.WriteString(user, "x\x1dy"); err != nil {
		t.Fatal(err)
	}
	if ending, err := a.wait(); err != nil || ending != (Ending{}) || !ending.Orderly() {
		t.Errorf("%+v, %v", ending, err)
	}
	if rest, err := io.ReadAll(port); err != nil || string(rest) != "x" {
		t.Errorf("the guest got %q, %v before the escape key", rest, err)
	}
	if after := settings(t, program); after != before {
		t.Errorf("the terminal is not as it was: %+v, was %+v", after, before)
	}
}

// panics is an output that makes the program panic.
type panics struct{}

func (panics) Write([]byte) (int, error) { panic("of the output") }

// closes is an output that is no more there.
type closes struct{}

func (closes) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestTerminalIsRestoredWhateverHappens(t *testing.T) {
	for name, c := range map[string]struct {
		out     io.Writer
		cause   func(g *guest, port net.Conn, cancel func())
		err     string
		code    int
		orderly bool
	}{
		"revoked":        {io.Discard, func(g *guest, _ net.Conn, _ func()) { close(g.ended) }, "", console.CloseEnded, true},
		"guest goes":     {io.Discard, func(_ *guest, port net.Conn, _ func()) { _ = port.Close() }, "", 1000, true},
		"cancelled":      {io.Discard, func(_ *guest, _ net.Conn, cancel func()) { cancel() }, "context canceled", 0, true},
		"panic":          {panics{}, func(g *guest, port net.Conn, _ func()) { g.says(port, "x") }, "panic: of the output", 0, true},
		"output is gone": {closes{}, func(g *guest, port net.Conn, _ func()) { g.says(port, "x") }, "file already closed", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGuest(t)
			_, program := openTerminal(t)
			before := settings(t, program)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			a := attach(ctx, t, Options{URL: g.url, In: program, Out: c.out, Escape: 0x1d})
			port := g.port()
			<-a.connected
			c.cause(g, port, cancel)
			ending, err := a.wait()
			if ending.Code != c.code || ending.Orderly() != c.orderly || (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%+v, %v; want code %d, %q", ending, err, c.code, c.err)
			}
			if after := settings(t, program); after != before {
				t.Errorf("the terminal is not as it was: %+v, was %+v", after, before)
			}
		})
	}
}

// buffer is an output that can be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// The end of a pipe is not the end of the console: what the guest answers is still shown.
func TestPipe(t *testing.T) {
	g := startGuest(t)
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var out buffer
	a := attach(t.Context(), t, Options{URL: g.url, In: in, Out: &out, Escape: NoEscape})
	port := g.port()
	g.says(port, "first ")
	long := strings.Repeat("0123456789abcde\x1d", 4096) // with an escape key that is none here
	if _, err := io.WriteString(typed, long); err != nil {
		t.Fatal(err)
	}
	if err := typed.Close(); err != nil {
		t.Fatal(err)
	}
	g.reads(port, long)
	answer := strings.Repeat("answer", 20000)
	g.says(port, answer)
	_ = port.Close()
	if ending, err := a.wait(); err != nil || !ending.Orderly() || ending.Code != 1000 {
		t.Errorf("%+v, %v", ending, err)
	}
	if got := out.String(); got != "first "+answer {
		t.Errorf("%d bytes were shown, want %d", len(got), len(answer)+6)
	}
}

func TestWrongToken(t *testing.T) {
	g := startGuest(t)
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = typed.Close() }()
	ending, err := attach(t.Context(), t, Options{URL: strings.TrimSuffix(g.url, token) + "guessed", In: in, Out: io.Discard}).wait()
	if err != nil || ending.Code != console.CloseNoToken || ending.Orderly() || ending.String() != console.ErrNoToken.Error() {
		t.Errorf("%+v, %v", ending, err)
	}
}

// The token is in no error.
func TestNobodyListens(t *testing.T) {
	_, err := Attach(t.Context(), Options{URL: "ws://127.0.0.1:1/?token=" + token, In: os.Stdin, Out: io.Discard}, func() { t.Error("connected") })
	if err == nil || strings.Contains(err.Error(), token) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v", err)
	}
	if err := withoutQuery(errors.New("no"), "ws://host/"); err.Error() != "no" {
		t.Errorf("%v", err)
	}
}

func TestParseEscape(t *testing.T) {
	for text, want := range map[string]int{"^]": 0x1d, "^A": 1, "^a": 1, "^[": 27, "^_": 31, "^@": 0, "~": '~', "none": NoEscape} {
		if got, err := ParseEscape(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "^", "^1", "ab", "é", "^]x", "None"} {
		if got, err := ParseEscape(text); err == nil && text != "^" {
			t.Errorf("%q: %d", text, got)
		}
	}
}
