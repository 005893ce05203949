package libvirt

import (
	"context"
	"errors"
	"time"

	"compute-agent/virt"
)

// The back-off between attempts to connect again.
const (
	firstDelay = 50 * time.Millisecond
	lastDelay  = 5 * time.Second
)

// closeWait is how long Close waits for the connection to be given back.
const closeWait = 2 * time.Second

var errClosed = errors.New("driver is closed")

// keep watches the connection and makes a new one when it is lost, until the driver is closed. The new
// connection's callbacks are registered before EventConnectionBack is sent, so that a listing made after
// that event misses nothing.
func (d *Driver) keep(s *session) {
	defer close(d.kept)
	for {
		select {
		case <-d.closing.Done():
			d.setCurrent(nil)
			s.fail("closed")
			waitFor(s.retire, closeWait)
			return
		case <-s.lost:
		}
		d.setCurrent(nil)
		lostAt := time.Now()
		d.log.Warn("libvirt: connection lost", "uri", d.opt.URI, "reason", s.reason)
		d.hub.Publish(virt.Event{Kind: virt.EventConnectionLost, Reason: s.reason, Time: lostAt})
		go s.retire()
		if s = d.reconnect(); s == nil {
			return
		}
		d.setCurrent(s)
		d.log.Info("libvirt: connection is back", "uri", d.opt.URI, "after", time.Since(lostAt))
		d.hub.Publish(virt.Event{Kind: virt.EventConnectionBack, Time: time.Now()})
	}
}

// reconnect tries until there is a connection; it returns nil when the driver is closed.
func (d *Driver) reconnect() *session {
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		s, err := d.connect(d.closing)
		if err == nil {
			return s
		}
		select {
		case <-d.closing.Done():
			return nil
		case <-time.After(delay):
			d.log.Debug("libvirt: no connection yet", "uri", d.opt.URI, "error", err)
		}
	}
}

func waitFor(f func(), limit time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

func (d *Driver) setCurrent(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s == nil && d.current != nil {
		d.lost++
	}
	d.current, d.since = s, time.Now()
	close(d.changed)
	d.changed = make(chan struct{})
}

// session returns the connection, for use until release. While it is lost, it waits a while for it to
// come back.
func (d *Driver) session(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, d.opt.ReconnectWait)
	defer cancel()
	for {
		d.mu.Lock()
		s, changed := d.current, d.changed
		d.mu.Unlock()
		if s != nil && s.use() {
			return s, nil
		}
		select {
		case <-changed:
		case <-d.closing.Done():
			return nil, unavailable(errClosed)
		case <-ctx.Done():
			return nil, unavailable(errors.Join(errors.New("no connection to libvirt"), ctx.Err()))
		}
	}
}
