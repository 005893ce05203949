package virttest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"compute-agent/virt"
)

// anHour stands for a time that no test can wait for.
const anHour = time.Hour

// env is what one promise is checked with.
type env struct {
	*testing.T
	Harness
	watches map[string]*watch
	dir     string // of files of disks; empty until there is one
}

// within returns a context that gives a call its time.
func (e *env) within() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.Context()), e.Patience)
	e.Cleanup(cancel)
	return ctx
}

// spec returns a new Spec and destroys the guest that may be made of it when the test ends.
func (e *env) spec() virt.Spec {
	e.Helper()
	return e.adopt(e.NewSpec(e))
}

// adopt destroys the guest that may be made of a Spec when the test ends.
func (e *env) adopt(s virt.Spec) virt.Spec {
	e.destroyAtEnd(s.ID)
	return s
}

func (e *env) destroyAtEnd(id string) {
	e.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), e.Patience)
		defer cancel()
		err := e.Driver.Destroy(ctx, id)
		if errors.Is(err, virt.ErrUnavailable) { // the test closed it
			err = e.Reopen(e).Destroy(ctx, id)
		}
		if err != nil {
			e.Errorf("a guest is left behind: %v", err)
		}
	})
}

// created, running, stopped and paused return a guest in that state, whose events up to there have
// been read from its watch.
func (e *env) created() virt.Spec {
	e.Helper()
	return e.create(e.spec())
}

func (e *env) create(s virt.Spec) virt.Spec {
	e.Helper()
	w := e.watch(s.ID)
	e.ok(e.Driver.Create(e.within(), s))
	w.expect(virt.EventStarted, virt.EventPaused)
	return s
}

func (e *env) running() virt.Spec {
	e.Helper()
	s := e.created()
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.watch(s.ID).expect(virt.EventResumed)
	return s
}

func (e *env) stopped() virt.Spec {
	e.Helper()
	s := e.running()
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	e.watch(s.ID).expect(virt.EventStopped)
	return s
}

func (e *env) pauser() virt.Pauser { return e.Driver.(virt.Pauser) }

func (e *env) paused() virt.Spec {
	e.Helper()
	s := e.running()
	e.ok(e.pauser().Pause(e.within(), s.ID))
	e.watch(s.ID).expect(virt.EventPaused)
	return s
}

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// fails checks that an error is of a kind.
func (e *env) fails(err, kind error) {
	e.Helper()
	if !errors.Is(err, kind) {
		e.Errorf("error is %q, want one of kind %q", err, kind)
	}
}

func (e *env) guest(id string) virt.Guest {
	e.Helper()
	g, err := e.Driver.Guest(e.within(), id)
	e.ok(err)
	return g
}

func (e *env) state(id string, want virt.PowerState) {
	e.Helper()
	if g := e.guest(id); g.State != want {
		e.Errorf("state is %v (%s), want %v", g.State, g.Reason, want)
	}
}

// absent checks that there is no guest with an ID, in both ways to ask.
func (e *env) absent(id string) {
	e.Helper()
	_, err := e.Driver.Guest(e.within(), id)
	e.fails(err, virt.ErrNotFound)
	if _, found := e.listed(e.Driver, id); found {
		e.Errorf("guest %s is in the list of guests", id)
	}
}

func (e *env) listed(d virt.Driver, id string) (virt.Guest, bool) {
	e.Helper()
	all, err := d.Guests(e.within())
	e.ok(err)
	for _, g := range all {
		if g.ID == id {
			return g, true
		}
	}
	return virt.Guest{}, false
}

// file writes a file next to the first disk of a Spec, where the hypervisor may read it.
func (e *env) file(s virt.Spec, name string, content []byte) string {
	e.Helper()
	path := filepath.Join(filepath.Dir(s.Disks[0].Source.File), name)
	e.ok(os.WriteFile(path, content, 0o644))
	e.Cleanup(func() { _ = os.Remove(path) })
	return path
}

// missing is a UUID that no guest has.
const missing = "deadbeef-0000-4000-8000-00000000dead"

// watch reads the events of one guest.
type watch struct {
	e      *env
	id     string
	events <-chan virt.Event
}

// watch returns the watch of a guest, which need not be there yet. There is one for each guest, from
// its first use on, and it goes on where it was read last.
func (e *env) watch(id string) *watch {
	if e.watches[id] == nil {
		e.watches[id] = e.newWatch(id)
	}
	return e.watches[id]
}

// reopen replaces the driver by a new one. The watches of the old one end with it.
func (e *env) reopen() {
	e.Helper()
	e.Driver = e.Reopen(e)
	clear(e.watches)
}

// newWatch begins to watch a guest. Its first events may be from just before.
func (e *env) newWatch(id string) *watch {
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	e.Cleanup(cancel)
	return &watch{e: e, id: id, events: e.Driver.Events(ctx)}
}

// next returns the next event of the guest.
func (w *watch) next() virt.Event {
	w.e.Helper()
	late := time.NewTimer(w.e.Patience)
	defer late.Stop()
	for {
		select {
		case ev, open := <-w.events:
			if !open {
				w.e.Fatal("the stream of events is closed")
			}
			if ev.ID == w.id {
				return ev
			}
		case <-late.C:
			w.e.Fatalf("no event came within %v", w.e.Patience)
		}
	}
}

// expect checks that the next events of the guest are of these kinds, and returns the last.
func (w *watch) expect(want ...virt.EventKind) (last virt.Event) {
	w.e.Helper()
	for _, kind := range want {
		last = w.next()
		if last.Kind != kind {
			w.e.Fatalf("event is %v (%s), want %v of %v", last.Kind, last.Reason, kind, want)
		}
		if last.Time.IsZero() {
			w.e.Errorf("event %v has no time", kind)
		}
	}
	return last
}

// expectStarted checks that the guest started from stopped.
func (w *watch) expectStarted() {
	w.e.Helper()
	ev := w.next()
	if ev.Kind == virt.EventResumed {
		ev = w.next()
	}
	if ev.Kind != virt.EventStarted {
		w.e.Fatalf("event is %v (%s), want %v", ev.Kind, ev.Reason, virt.EventStarted)
	}
}

// until skips events of the guest up to one of a kind.
func (w *watch) until(kind virt.EventKind) {
	w.e.Helper()
	for w.next().Kind != kind {
	}
}
