// Package terminal joins a terminal with the serial console of a guest, over the WebSocket that browsers use too.
package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"

	"compute-agent/console"

	"github.com/coder/websocket"
	"golang.org/x/term"
)

// NoEscape is an escape key that there is none of: all that is typed goes to the guest.
const NoEscape = -1

// Options say what is joined.
type Options struct {
	URL    string       // ws or wss, with the token
	Client *http.Client // nil: the default one

	In     *os.File // if it is a terminal, it is in raw mode meanwhile
	Out    io.Writer
	Escape int // the byte that ends it, or NoEscape
}

// Ending says why a console that was open is so no more.
type Ending struct {
	Code   int // of the WebSocket; 0: by the escape key
	Reason string
}

func (e Ending) String() string {
	if e.Code == 0 {
		return "you left the console"
	}
	if e.Reason == "" {
		return fmt.Sprintf("the connection was closed with code %d", e.Code)
	}
	return e.Reason
}

// Orderly says whether nothing went wrong: the user left, or the guest went.
func (e Ending) Orderly() bool {
	return e.Code == 0 || e.Code == int(websocket.StatusNormalClosure) || e.Code == console.CloseEnded
}

// Attach joins In and Out with a console until the escape key, the end of the console, or that of ctx, and leaves the terminal as it was, whatever happens. The
// end of In does not end it: what the guest says is still shown. Connected is called once, before In is read. The error is of a console that was not
// opened, or was lost.
func Attach(ctx context.Context, o Options, connected func()) (ending Ending, err error) {
	conn, err := dial(ctx, o)
	if err != nil {
		return Ending{}, err
	}
	defer func() { _ = conn.CloseNow() }() // nobody is left to tell
	connected()
	restore, err := raw(o.In)
	if err != nil {
		return Ending{}, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ends := make(chan error, 2)
	go guard(ends, func() error { return output(ctx, conn, o.Out) })
	go guard(ends, func() error { return input(ctx, conn, o.In, o.Escape) })
	return end(ctx, conn, <-ends)
}

func dial(ctx context.Context, o Options) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(ctx, o.URL, &websocket.DialOptions{HTTPClient: o.Client, Subprotocols: []string{"binary"}}) //nolint:bodyclose // the library closes it
	if err != nil {
		return nil, fmt.Errorf("open the console: %w", withoutQuery(err, o.URL))
	}
	return conn, nil
}

// withoutQuery takes the query out of an error's text: it has the token.
func withoutQuery(err error, address string) error {
	_, query, _ := strings.Cut(address, "?")
	if query == "" || !strings.Contains(err.Error(), query) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), query, "..."))
}

// raw makes a terminal pass on every key as it is typed.
func raw(in *os.File) (restore func() error, err error) {
	fd := int(in.Fd()) //nolint:gosec // a descriptor fits
	if !term.IsTerminal(fd) {
		return func() error { return nil }, nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set the terminal to raw mode: %w", err)
	}
	return func() error { return term.Restore(fd, state) }, nil
}

// guard makes an error of a panic, which would end the program with the terminal as it is.
func guard(ends chan<- error, do func() error) {
	defer func() {
		if p := recover(); p != nil {
			ends <- fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if err := do(); err != nil {
		ends <- err
	}
}

// output shows what the guest says until there is nothing more to come, which is an error.
func output(ctx context.Context, conn *websocket.Conn, out io.Writer) error {
	conn.SetReadLimit(-1) // nothing is kept
	for {
		_, message, err := conn.Reader(ctx)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, message); err != nil {
			return err
		}
	}
}

// errEscaped is the end that the user wanted.
var errEscaped = errors.New("escape key")

// input sends what is typed, and returns nil at its end.
func input(ctx context.Context, conn *websocket.Conn, in io.Reader, escape int) error {
	for buf := make([]byte, 4096); ; {
		n, err := in.Read(buf)
		typed, escaped := cut(buf[:n], escape)
		if len(typed) > 0 {
			if err := conn.Write(ctx, websocket.MessageBinary, typed); err != nil {
				return err
			}
		}
		switch {
		case escaped:
			return errEscaped
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read what is typed: %w", err)
		}
	}
}

// cut takes what comes before the escape key.
func cut(typed []byte, escape int) (before []byte, escaped bool) {
	if escape == NoEscape {
		return typed, false
	}
	before, _, escaped = bytes.Cut(typed, []byte{byte(escape)})
	return before, escaped
}

// end is why it ended, of the first thing that did.
func end(ctx context.Context, conn *websocket.Conn, err error) (Ending, error) {
	var closed websocket.CloseError
	switch {
	case errors.Is(err, errEscaped):
		_ = conn.Close(websocket.StatusNormalClosure, "") // the other end may be gone
		return Ending{}, nil
	case errors.As(err, &closed):
		return Ending{int(closed.Code), closed.Reason}, nil
	case ctx.Err() != nil:
		return Ending{}, context.Cause(ctx)
	}
	return Ending{}, fmt.Errorf("the connection to the console broke: %w", err)
}

// ParseEscape reads an escape key as people write it: ^] or ^A for one with Ctrl, a single character, none.
func ParseEscape(s string) (int, error) {
	switch {
	case s == "none":
		return NoEscape, nil
	case len(s) == 1 && s[0] < 0x80:
		return int(s[0]), nil
	case len(s) == 2 && s[0] == '^' && strings.ToUpper(s)[1] >= '@' && strings.ToUpper(s)[1] <= '_':
		return int(strings.ToUpper(s)[1]) & 0x1f, nil
	}
	return 0, fmt.Errorf("%q is no key: write ^] or ^A for a key with Ctrl, a single character, or none", s)
}
