package libvirt

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// lateness is how long a method waits, after its context has ended, for its call to notice.
const lateness = 300 * time.Millisecond

// Call is a method under way.
type Call struct {
	Op        string
	Guest     string // empty when it is not about one guest
	Since     time.Time
	Abandoned bool // its caller has gone: the context ended before the call did
}

// callList knows which calls are under way.
type callList struct {
	mu    sync.Mutex
	calls map[*call]struct{}
}

// call is one method under way, as its goroutine sees it.
type call struct {
	d *Driver
	Call
	in *session // the connection that it holds a slot of; nil for none
}

func (l *callList) add(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = map[*call]struct{}{}
	}
	l.calls[c] = struct{}{}
}

// end takes the call off the list and says whether its caller had gone.
func (l *callList) end(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, c)
	return c.Abandoned
}

// abandon notes that the caller is gone. It returns the connection that the call is stuck in, if it is
// in one, and how many calls are stuck in that connection.
func (l *callList) abandon(c *call) (in *session, stuck int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Abandoned = true
	for other := range l.calls {
		if other.Abandoned && other.in != nil && other.in == c.in {
			stuck++
		}
	}
	return c.in, stuck
}

func (l *callList) enter(c *call, s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.in = s
}

func (l *callList) list() []Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Call, 0, len(l.calls))
	for c := range l.calls {
		out = append(out, c.Call)
	}
	slices.SortFunc(out, func(a, b Call) int { return a.Since.Compare(b.Since) })
	return out
}

// run does f in a goroutine and returns when it does, or soon after ctx or the limit ends. f is then left
// to itself: it finishes or undoes what it does, because it sees its context ended, and what is late is
// logged. The error is a *virt.Error.
func (d *Driver) run(ctx context.Context, op, guest string, limit time.Duration, f func(context.Context, *call) error) error {
	if err := d.closing.Err(); err != nil {
		return failure(op, guest, unavailable(errClosed))
	}
	if err := ctx.Err(); err != nil {
		return failure(op, guest, err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	c := &call{d: d, Call: Call{Op: op, Guest: guest, Since: time.Now()}}
	d.calls.add(c)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		err := failure(op, guest, f(ctx, c))
		if d.calls.end(c) {
			d.log.Warn("libvirt: call ended after its caller had gone", "op", op, "guest", guest,
				"age", time.Since(c.Since).Round(time.Millisecond), "error", err)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	case <-d.closing.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(lateness):
	}
	d.abandon(c)
	return failure(op, guest, unavailable(fmt.Errorf("libvirt has not answered: %w", d.endOf(ctx))))
}

// endOf says why a call had to end: its context, or else the driver was closed.
func (d *Driver) endOf(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return unavailable(errClosed)
}

// abandon reports the call. A connection in which calls are stuck is given up before they take all its
// slots, so that one guest that does not answer does not cost the others theirs.
func (d *Driver) abandon(c *call) {
	in, stuck := d.calls.abandon(c)
	d.log.Warn("libvirt: call outlives its context", "op", c.Op, "guest", c.Guest,
		"age", time.Since(c.Since).Round(time.Millisecond), "stuck", stuck)
	if in != nil && stuck >= maxCalls-1 {
		in.fail("calls do not return")
	}
}

// rpc runs f with the connection. f makes few calls, and does not wait for anything else: it holds one of
// the connection's few slots.
func (c *call) rpc(ctx context.Context, f func(*lv.Connect) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := c.d.session(ctx)
		if err != nil {
			return err
		}
		select {
		case s.slots <- struct{}{}:
			return c.occupy(s, f)
		case <-s.lost:
			s.release()
		case <-ctx.Done():
			s.release()
			return unavailable(fmt.Errorf("too many calls under way: %w", ctx.Err()))
		}
	}
}

func (c *call) occupy(s *session, f func(*lv.Connect) error) error {
	c.d.calls.enter(c, s)
	defer func() {
		c.d.calls.enter(c, nil)
		<-s.slots
		s.release()
	}()
	return f(s.conn)
}

// domain runs f with the guest's domain.
func (c *call) domain(ctx context.Context, id string, f func(*lv.Domain) error) error {
	return c.rpc(ctx, func(conn *lv.Connect) error {
		dom, err := lookup(conn, id)
		if err != nil {
			return err
		}
		defer free(dom)
		return f(dom)
	})
}

// lookup finds a domain; what is no UUID is no domain's.
func lookup(conn *lv.Connect, id string) (*lv.Domain, error) {
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return nil, virt.ErrNotFound
	}
	return conn.LookupDomainByUUIDString(id)
}

func free(dom *lv.Domain) { _ = dom.Free() } // fails only on what is no domain

// unavailable marks the cause as of kind virt.ErrUnavailable.
func unavailable(cause error) error { return fmt.Errorf("%w: %w", virt.ErrUnavailable, cause) }
