package libvirt

import (
	"context"
	"errors"
	"sync"
	"time"

	lv "libvirt.org/go/libvirt"
)

// maxCalls is how many calls run at a time on one connection. libvirtd stops reading from a client that
// has max_client_requests (5 by default) under way, keepalive answers included.
const maxCalls = 4

// session is one connection to libvirtd, from connect until it is lost.
type session struct {
	conn  *lv.Connect
	slots chan struct{} // one token for each call under way

	guests guestMemory

	lostOnce sync.Once
	lost     chan struct{} // closed when the connection is of no use any more
	reason   string        // why; set before lost is closed

	mu      sync.Mutex
	users   int  // calls that hold conn, the ones that nobody waits for included
	retired bool // no new users

	callbacks   []int // of domain events
	qemuEvents  []int // of QEMU's own events
	nodeEvents  []int // of the host's devices
	closeNotify bool  // the close callback is registered
}

// connect opens a connection with keepalive and callbacks. libvirt's own call knows no context: when ctx
// ends first, the connection that may still come about is closed again.
func (d *Driver) connect(ctx context.Context) (*session, error) {
	type result struct {
		s   *session
		err error
	}
	done := make(chan result, 1)
	go func() {
		s, err := d.openSession()
		if err == nil && ctx.Err() != nil {
			s.retire()
			s, err = nil, ctx.Err()
		}
		done <- result{s, err}
	}()
	select {
	case r := <-done:
		return r.s, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.s != nil {
				r.s.retire()
			}
		}()
		return nil, ctx.Err()
	}
}

func (d *Driver) openSession() (*session, error) {
	conn, err := lv.NewConnect(d.opt.URI)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, slots: make(chan struct{}, maxCalls), lost: make(chan struct{})}
	if err := s.prepare(d); err != nil {
		s.retire()
		return nil, err
	}
	return s, nil
}

func (s *session) prepare(d *Driver) error {
	err := s.conn.SetKeepAlive(int(d.opt.KeepAlive/time.Second), uint(d.opt.KeepAliveMisses))
	if err != nil && !isUnsupported(err) {
		return err
	}
	err = s.conn.RegisterCloseCallback(func(_ *lv.Connect, reason lv.ConnectCloseReason) {
		s.fail(closeReason(reason))
	})
	if err != nil && !isUnsupported(err) {
		return err
	}
	s.closeNotify = err == nil
	return errors.Join(s.registerEvents(d.hub.Publish), s.registerJobs(d.jobs.Publish))
}

func closeReason(r lv.ConnectCloseReason) string {
	switch r {
	case lv.CONNECT_CLOSE_REASON_EOF:
		return "libvirtd closed the connection"
	case lv.CONNECT_CLOSE_REASON_KEEPALIVE:
		return "libvirtd does not answer"
	default:
		return "connection failed"
	}
}

// fail says that the connection is of no use any more.
func (s *session) fail(reason string) {
	s.lostOnce.Do(func() {
		s.reason = reason
		close(s.lost)
	})
}

// use keeps the connection open until release. It reports false when it was given up.
func (s *session) use() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return false
	}
	s.users++
	return true
}

// hold is use by who already uses it.
func (s *session) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
}

func (s *session) release() {
	s.mu.Lock()
	s.users--
	last := s.retired && s.users == 0
	s.mu.Unlock()
	if last {
		s.closeConn()
	}
}

// retire refuses new users, stops the callbacks, and closes the connection when its last user is gone.
// It may block for as long as libvirtd does not answer.
func (s *session) retire() {
	s.mu.Lock()
	if s.retired {
		s.mu.Unlock()
		return
	}
	s.retired = true
	s.users++ // the connection stays open until the callbacks are gone
	s.mu.Unlock()
	s.deregisterEvents()
	if s.closeNotify {
		_ = s.conn.UnregisterCloseCallback() // fails only on a connection that is closed
	}
	s.release()
}

func (s *session) closeConn() { _, _ = s.conn.Close() } // whoever might hear of a failure has gone
