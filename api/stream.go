package api

import (
	"io"
	"net/http"
	"time"
)

// How long a client may take. Bodies other than images are small, so they get one deadline; an
// image may take as long as it needs, but may not stand still for longer than stallTimeout.
const (
	bodyTimeout   = 30 * time.Second
	replyTimeout  = 2 * time.Minute
	stallTimeout  = time.Minute
	lingerTimeout = 5 * time.Second // for the rest of a body that nobody wants
)

// The deadline calls fail only where there is no connection under the ResponseWriter, as in tests
// with a recorder; then there is nothing to guard either.

// readAll reads a small body under its limits.
func readAll(c *call) ([]byte, error) {
	conn := http.NewResponseController(c.w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout))
	// Without this a handler that outlasts the deadline would find its context cancelled.
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, maxBody))
	if err != nil {
		return nil, bodyError(err)
	}
	return raw, nil
}

// bodyError is the fault for a body that could not be read to its end.
func bodyError(err error) error {
	f := toFault(err)
	if f.status == http.StatusInternalServerError {
		return &fault{status: http.StatusBadRequest, message: "The request body ended too early or came too slowly.", err: err}
	}
	return f
}

// upload is a body that must keep moving and has a limit. It is read only through Read.
type upload struct {
	body io.Reader
	conn *http.ResponseController
	left int64 // that may still come
	size int64 // that may come in all
	err  error // the first error that is the client's doing
}

func newUpload(c *call, limit int64) *upload {
	return &upload{body: c.Body, conn: http.NewResponseController(c.w), left: limit, size: limit}
}

// Read gives the client a new stretch of time for each piece.
func (u *upload) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	_ = u.conn.SetReadDeadline(time.Now().Add(stallTimeout))
	n, err := u.body.Read(p)
	if err != nil {
		_ = u.conn.SetReadDeadline(time.Time{})
	}
	if u.left -= int64(n); u.left < 0 {
		err = &http.MaxBytesError{Limit: u.size}
	}
	if err != nil && err != io.EOF {
		u.err = err
	}
	return n, err
}

// drain reads on for a while and forgets what comes.
func (u *upload) drain(limit int64) {
	_ = u.conn.SetReadDeadline(time.Now().Add(bodyTimeout))
	_, _ = io.CopyN(io.Discard, u.body, limit)
	_ = u.conn.SetReadDeadline(time.Time{})
}

// replyStream sends an image's bytes for as long as the client takes them.
func (a *api) replyStream(w http.ResponseWriter, r *http.Request, ans *answer) {
	defer func() {
		if err := ans.stream.Close(); err != nil {
			a.log.WarnContext(r.Context(), "Closing a stream failed", "error", err)
		}
	}()
	w.WriteHeader(ans.status)
	if r.Method == http.MethodHead {
		return
	}
	out := movingWriter{w: w, conn: http.NewResponseController(w)}
	if _, err := io.Copy(out, ans.stream); err != nil {
		a.log.WarnContext(r.Context(), "Sending a stream ended early", "error", err)
		// The length is promised already; breaking the connection tells the client that it is not kept.
		panic(http.ErrAbortHandler)
	}
}

// movingWriter gives each piece a new deadline.
type movingWriter struct {
	w    io.Writer
	conn *http.ResponseController
}

func (m movingWriter) Write(p []byte) (int, error) {
	_ = m.conn.SetWriteDeadline(time.Now().Add(stallTimeout))
	return m.w.Write(p)
}
