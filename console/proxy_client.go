package console

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// ending is why a console ended, as its client is told.
type ending struct {
	code   int
	reason string // at most 123 bytes, RFC 6455, 5.5
}

func (e *ending) Error() string { return e.reason }

// closeLimit is how long a client has to take its close code.
const closeLimit = 10 * time.Second

// client is the WebSocket of a client as a stream: what messages it cuts its bytes into means nothing.
type client struct {
	ws      *websocket.Conn
	conn    *frames   // beneath ws
	message io.Reader // what is left of the message that is being read
	pong    func()    // called at each pong
}

// accept begins the WebSocket. It answers the request if that fails.
func accept(w http.ResponseWriter, r *http.Request) (*client, error) {
	h, c := &hijacker{ResponseWriter: w}, &client{pong: func() {}}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // checkOrigin has judged
		CompressionMode:    websocket.CompressionDisabled,
		OnPongReceived:     func(context.Context, []byte) { c.pong() },
	})
	if err != nil {
		return nil, err
	}
	c.ws, c.conn = ws, h.conn
	return c, nil
}

// hijacker keeps the connection that the WebSocket is on.
type hijacker struct {
	http.ResponseWriter
	conn *frames
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = newFrames(conn)
	return h.conn, bufio.NewReadWriter(buffers.Reader, bufio.NewWriterSize(h.conn, maxControl)), nil
}

// next waits for a message.
func (c *client) next() (err error) {
	if c.message == nil {
		_, c.message, err = c.ws.Reader(context.Background())
	}
	return err
}

// readMessage reads of the message that next has found, and leaves none at its end.
func (c *client) readMessage(p []byte) (int, error) {
	n, err := c.message.Read(p)
	if errors.Is(err, io.EOF) {
		c.message, err = nil, nil
	}
	return n, err
}

// Read implements io.Reader.
func (c *client) Read(p []byte) (int, error) {
	for {
		if err := c.next(); err != nil {
			return 0, err
		}
		if n, err := c.readMessage(p); n > 0 || err != nil {
			return n, err
		}
	}
}

// Write implements io.Writer.
func (c *client) Write(p []byte) (int, error) {
	if err := c.conn.writeData(append(make([]byte, frameRoom), p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// agree offers the client what the guest has agreed to, within a limit.
func (c *client) agree(offer rfbOffer, limit time.Duration) error {
	if offer == rfbNothing {
		return nil
	}
	if limit > 0 {
		_ = c.conn.SetDeadline(time.Now().Add(limit))
		defer c.conn.SetDeadline(time.Time{}) //nolint:errcheck // a closed connection says so at the next read
	}
	return rfbClient(c, offer)
}

// close tells the client why, and waits until it has answered, but not for long.
func (c *client) close(e *ending) {
	_ = c.conn.SetDeadline(time.Now().Add(closeLimit))
	_ = c.ws.Close(websocket.StatusCode(e.code), e.reason[:min(len(e.reason), 123)])
}
