package virttest

import (
	"context"
	"time"

	"compute-agent/virt"
)

var eventPromises = group{"Events", []promise{
	{"Create sends started and paused", func(e *env) { e.created() }, always},
	{"Start sends resumed for a created guest and started for a stopped one", eventsOfStart, always},
	{"Stop sends stopped once", eventsOfStop, always},
	{"Destroy sends stopped and undefined", eventsOfDestroy, always},
	{"Pause sends paused and Unpause resumed", eventsOfPause, pauser},
	{"what changes nothing sends nothing", eventsOfNothing, always},
	{"who reads an event and then the guest sees that state or a later one", eventsThenState, always},
	{"each call gets a stream of its own with every event", eventsForAll, always},
	{"a stream has also what others did to guests", eventsOfOthers, always},
	{"a stream is closed when ctx ends", eventsEndWithContext, always},
	{"a stream of an ended context is closed", eventsOfEndedContext, always},
}}

// made returns a created guest and its watch.
func (e *env) made() (virt.Spec, *watch) {
	e.Helper()
	s := e.created()
	return s, e.watch(s.ID)
}

func eventsOfStart(e *env) {
	s, w := e.made()
	e.ok(e.Driver.Start(e.within(), s.ID))
	w.expect(virt.EventResumed)
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	w.expect(virt.EventStopped)
	e.ok(e.Driver.Start(e.within(), s.ID))
	w.expectStarted()
}

func eventsOfStop(e *env) {
	s, w := e.made()
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	if ev := w.expect(virt.EventStopped); ev.Reason != "destroyed" {
		e.Errorf("reason is %q, want %q", ev.Reason, "destroyed")
	}
	e.ok(e.Driver.Destroy(e.within(), s.ID))
	w.expect(virt.EventUndefined)
}

func eventsOfDestroy(e *env) {
	s, w := e.made()
	e.ok(e.Driver.Destroy(e.within(), s.ID))
	w.expect(virt.EventStopped, virt.EventUndefined)
}

func eventsOfPause(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.ok(e.pauser().Pause(e.within(), s.ID))
	w.expect(virt.EventPaused)
	e.ok(e.pauser().Unpause(e.within(), s.ID))
	w.expect(virt.EventResumed)
	e.ok(e.pauser().Pause(e.within(), s.ID))
	w.expect(virt.EventPaused)
	e.ok(e.Driver.Start(e.within(), s.ID))
	w.expect(virt.EventResumed)
}

func eventsOfNothing(e *env) {
	s, w := e.made()
	e.fails(e.Driver.Create(e.within(), s), virt.ErrExists)
	other := s
	other.ID = missing
	e.fails(e.Driver.Create(e.within(), other), virt.ErrExists)
	_, err := e.Driver.Guests(e.within())
	e.ok(err)
	e.ok(e.Driver.Start(e.within(), s.ID))
	w.expect(virt.EventResumed)
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.ok(e.Driver.Destroy(e.within(), s.ID))
	w.expect(virt.EventStopped, virt.EventUndefined)
}

func eventsThenState(e *env) {
	s, w := e.made()
	done := make(chan error, 1)
	go func() { done <- e.Driver.Start(e.within(), s.ID) }()
	w.expect(virt.EventResumed)
	e.state(s.ID, virt.PowerRunning)
	e.ok(<-done)
	go func() { done <- e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}) }()
	w.expect(virt.EventStopped)
	e.state(s.ID, virt.PowerShutdown)
	e.ok(<-done)
}

func eventsForAll(e *env) {
	s := e.created()
	one, two := e.newWatch(s.ID), e.newWatch(s.ID)
	e.ok(e.Driver.Start(e.within(), s.ID))
	one.until(virt.EventResumed)
	three := e.newWatch(s.ID)
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	one.expect(virt.EventStopped)
	two.until(virt.EventResumed)
	two.expect(virt.EventStopped)
	three.until(virt.EventStopped)
}

func eventsOfOthers(e *env) {
	s, w := e.made()
	other := e.Reopen(e)
	e.ok(other.Start(e.within(), s.ID))
	w.expect(virt.EventResumed)
	e.ok(other.Destroy(e.within(), s.ID))
	w.expect(virt.EventStopped, virt.EventUndefined)
}

// ends checks that a stream is closed, now or soon.
func (e *env) ends(events <-chan virt.Event) {
	e.Helper()
	late := time.NewTimer(e.Patience)
	defer late.Stop()
	for {
		select {
		case _, open := <-events:
			if !open {
				return
			}
		case <-late.C:
			e.Fatal("the stream of events is still open")
		}
	}
}

func eventsEndWithContext(e *env) {
	ctx, cancel := context.WithCancel(e.Context())
	defer cancel()
	ending := e.Driver.Events(ctx)
	s := e.created()
	cancel()
	e.ends(ending)
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.watch(s.ID).expect(virt.EventResumed)
}

func eventsOfEndedContext(e *env) {
	ctx, cancel := context.WithCancel(e.Context())
	cancel()
	e.ends(e.Driver.Events(ctx))
}

var outsidePromises = group{"Outside world", []promise{
	{"a crash of the guest's process is an event and a state with a reason", outsideCrash, crashes},
	{"a guest destroyed by hand has stopped and keeps its definition", outsideDestroy, byHand},
	{"a stopped guest undefined by hand is gone", outsideUndefineStopped, byHand},
	{"a running guest undefined by hand runs on and can be destroyed", outsideUndefineRunning, byHand},
	{"the loss of the connection is an event and calls fail with ErrUnavailable until it is back", outsideLink, breakingLink},
}}

func outsideCrash(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.CrashGuest(e, s.ID)
	w.expect(virt.EventCrashed)
	g := e.guest(s.ID)
	if (g.State != virt.PowerShutdown && g.State != virt.PowerCrashed) || g.Reason != "crashed" {
		e.Errorf("state is %v with reason %q", g.State, g.Reason)
	}
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{Grace: anHour}))
	e.state(s.ID, virt.PowerShutdown)
}

func outsideDestroy(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.DestroyByHand(e, s.ID)
	w.expect(virt.EventStopped)
	e.state(s.ID, virt.PowerShutdown)
	e.ok(e.Driver.Start(e.within(), s.ID))
	w.expectStarted()
}

func outsideUndefineStopped(e *env) {
	s := e.stopped()
	w := e.watch(s.ID)
	e.UndefineByHand(e, s.ID)
	w.expect(virt.EventUndefined)
	e.absent(s.ID)
	e.ok(e.Driver.Create(e.within(), s))
}

func outsideUndefineRunning(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.UndefineByHand(e, s.ID)
	w.expect(virt.EventUndefined)
	e.state(s.ID, virt.PowerRunning)
	e.ok(e.Driver.Destroy(e.within(), s.ID))
	w.expect(virt.EventStopped)
	e.absent(s.ID)
}

func outsideLink(e *env) {
	s := e.running()
	w := e.watch("") // events about the connection name no guest
	mend := e.BreakLink(e)
	w.until(virt.EventConnectionLost)
	_, err := e.Driver.Guest(e.within(), s.ID)
	e.fails(err, virt.ErrUnavailable)
	mend()
	w.until(virt.EventConnectionBack)
	e.state(s.ID, virt.PowerRunning)
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	e.watch(s.ID).until(virt.EventStopped)
}
