package virttest

import (
	"context"
	"errors"
	"os"
	"time"

	"compute-agent/virt"
)

// noGuests are IDs that name no guest.
var noGuests = []string{missing, "", "not a uuid", "../../etc/passwd", "'\"<&>\x00\xff"}

// missingGuest checks a method on guests that are not there.
func missingGuest(call func(e *env, id string) error) func(e *env) {
	return func(e *env) {
		for _, id := range noGuests {
			if err := call(e, id); !errors.Is(err, virt.ErrNotFound) {
				e.Errorf("guest %q: error is %v, want ErrNotFound", id, err)
			}
		}
	}
}

var startPromises = group{"Start", []promise{
	{"runs the vCPUs of a guest that was just created", startCreated, always},
	{"runs the vCPUs of a stopped guest", startStopped, always},
	{"runs the vCPUs of a paused guest", startPaused, pauser},
	{"runs the vCPUs of a crashed guest", startCrashed, crashes},
	{"starting a running guest succeeds and changes nothing", startRunning, always},
	{"ErrNotFound if there is none", missingGuest(func(e *env, id string) error { return e.Driver.Start(e.within(), id) }), always},
	{"ErrInvalidState if the guest is suspended to memory", startSuspended, suspends},
}}

func startCreated(e *env) {
	s := e.created()
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.state(s.ID, virt.PowerRunning)
}

func startStopped(e *env) {
	s := e.stopped()
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.state(s.ID, virt.PowerRunning)
}

func startPaused(e *env) {
	s := e.paused()
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.state(s.ID, virt.PowerRunning)
}

func startCrashed(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.CrashGuest(e, s.ID)
	w.expect(virt.EventCrashed)
	e.ok(e.Driver.Start(e.within(), s.ID))
	w.expectStarted()
	e.state(s.ID, virt.PowerRunning)
}

func startRunning(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.state(s.ID, virt.PowerRunning)
	e.ok(e.Driver.Destroy(e.within(), s.ID))
	w.expect(virt.EventStopped, virt.EventUndefined)
}

func startSuspended(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.SuspendGuest(e, s.ID)
	w.expect(virt.EventSuspended)
	e.state(s.ID, virt.PowerSuspended)
	e.fails(e.Driver.Start(e.within(), s.ID), virt.ErrInvalidState)
	e.state(s.ID, virt.PowerSuspended)
}

var stopPromises = group{"Stop", []promise{
	{"ends the guest's execution and keeps its definition", stopKeepsDefinition, always},
	{"stops a guest that was just created", stopCreated, always},
	{"with a Grace asks the guest's operating system and asks again every Retry", stopAsks, bootable},
	{"forces it when Grace is over", stopForces, always},
	{"forces a created guest at once", stopCreatedAtOnce, always},
	{"forces a paused guest at once", stopPausedAtOnce, pauser},
	{"when ctx ends during Grace the guest is not forced", stopLetGo, always},
	{"stopping a stopped guest succeeds", stopStopped, always},
	{"ErrNotFound if there is none", missingGuest(func(e *env, id string) error {
		return e.Driver.Stop(e.within(), id, virt.StopOptions{Grace: time.Second})
	}), always},
}}

func stopKeepsDefinition(e *env) {
	s := e.running()
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	g := e.guest(s.ID)
	if g.State != virt.PowerShutdown || g.Name != s.Name || g.VCPUs != s.VCPUs || g.MemoryMiB != s.MemoryMiB {
		e.Errorf("the stopped guest is %+v, made of %+v", g, s)
	}
}

func stopCreated(e *env) {
	s := e.created()
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	e.state(s.ID, virt.PowerShutdown)
}

func stopAsks(e *env) {
	s := e.create(e.adopt(e.BootableSpec(e)))
	e.ok(e.Driver.Start(e.within(), s.ID))
	w := e.watch(s.ID)
	w.expect(virt.EventResumed)
	ctx, cancel := context.WithTimeout(e.Context(), 2*e.Patience)
	defer cancel()
	e.ok(e.Driver.Stop(ctx, s.ID, virt.StopOptions{Grace: anHour, Retry: time.Second}))
	if ev := w.expect(virt.EventStopped); ev.Reason != "shutdown" {
		e.Errorf("it stopped because of %q, want %q", ev.Reason, "shutdown")
	}
	e.state(s.ID, virt.PowerShutdown)
}

func stopForces(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	const grace = 300 * time.Millisecond
	begin := time.Now()
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{Grace: grace, Retry: grace / 3}))
	if took := time.Since(begin); took < grace {
		e.Errorf("forced after %v of a grace of %v", took, grace)
	}
	if ev := w.expect(virt.EventStopped); ev.Reason != "destroyed" {
		e.Errorf("it stopped because of %q, want %q", ev.Reason, "destroyed")
	}
	e.state(s.ID, virt.PowerShutdown)
}

func stopCreatedAtOnce(e *env) {
	s := e.created()
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{Grace: anHour}))
	e.state(s.ID, virt.PowerShutdown)
}

func stopPausedAtOnce(e *env) {
	s := e.paused()
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{Grace: anHour}))
	e.state(s.ID, virt.PowerShutdown)
}

func stopLetGo(e *env) {
	s := e.running()
	ctx, cancel := context.WithTimeout(e.Context(), 300*time.Millisecond)
	defer cancel()
	err := e.Driver.Stop(ctx, s.ID, virt.StopOptions{Grace: anHour})
	e.fails(err, virt.ErrUnavailable)
	e.fails(err, context.DeadlineExceeded)
	e.state(s.ID, virt.PowerRunning)
}

func stopStopped(e *env) {
	s := e.stopped()
	w := e.watch(s.ID)
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{Grace: anHour, Retry: time.Second}))
	e.state(s.ID, virt.PowerShutdown)
	e.ok(e.Driver.Start(e.within(), s.ID))
	w.expectStarted()
}

var destroyPromises = group{"Destroy", []promise{
	{"ends a guest in whatever state it is and removes its definition", destroyAnyState, always},
	{"ends a paused guest", func(e *env) { e.destroys(e.paused()) }, pauser},
	{"ends a crashed guest", destroyCrashed, crashes},
	{"destroying a guest that is not there succeeds", destroyMissing, always},
	{"files that its Spec named stay", destroyKeepsFiles, always},
}}

func (e *env) destroys(s virt.Spec) {
	e.Helper()
	e.ok(e.Driver.Destroy(e.within(), s.ID))
	e.absent(s.ID)
}

func destroyAnyState(e *env) {
	e.destroys(e.created())
	e.destroys(e.running())
	e.destroys(e.stopped())
}

func destroyCrashed(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.CrashGuest(e, s.ID)
	w.expect(virt.EventCrashed)
	e.destroys(s)
}

func destroyMissing(e *env) {
	for _, id := range noGuests {
		if err := e.Driver.Destroy(e.within(), id); err != nil {
			e.Errorf("guest %q: %v", id, err)
		}
	}
	s := e.created()
	e.destroys(s)
	e.ok(e.Driver.Destroy(e.within(), s.ID))
}

func destroyKeepsFiles(e *env) {
	s := e.running()
	e.destroys(s)
	paths := []string{s.ConsoleLog()}
	for _, d := range s.Disks {
		paths = append(paths, d.Source.File)
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			e.Error(err)
		}
	}
}

var pausePromises = group{"Pause", []promise{
	{"stops the vCPUs of a running guest", func(e *env) { e.state(e.paused().ID, virt.PowerPaused) }, pauser},
	{"pausing a paused guest succeeds", pausePaused, pauser},
	{"ErrNotFound if there is none", missingGuest(func(e *env, id string) error { return e.pauser().Pause(e.within(), id) }), pauser},
	{"ErrInvalidState if it is not running", pauseStopped, pauser},
	{"Unpause runs the vCPUs of a paused guest", unpausePaused, pauser},
	{"Unpause runs the vCPUs of a just created guest", unpauseCreated, pauser},
	{"Unpause of a running guest succeeds", unpauseRunning, pauser},
	{"Unpause: ErrNotFound if there is none", missingGuest(func(e *env, id string) error { return e.pauser().Unpause(e.within(), id) }), pauser},
	{"Unpause: ErrInvalidState if it is stopped", unpauseStopped, pauser},
}}

func pausePaused(e *env) {
	s := e.paused()
	w := e.watch(s.ID)
	e.ok(e.pauser().Pause(e.within(), s.ID))
	e.state(s.ID, virt.PowerPaused)
	e.ok(e.pauser().Unpause(e.within(), s.ID))
	w.expect(virt.EventResumed)
}

func pauseStopped(e *env) {
	s := e.stopped()
	e.fails(e.pauser().Pause(e.within(), s.ID), virt.ErrInvalidState)
	e.state(s.ID, virt.PowerShutdown)
}

func unpausePaused(e *env) {
	s := e.paused()
	e.ok(e.pauser().Unpause(e.within(), s.ID))
	e.state(s.ID, virt.PowerRunning)
}

func unpauseCreated(e *env) {
	s := e.created()
	e.ok(e.pauser().Unpause(e.within(), s.ID))
	e.state(s.ID, virt.PowerRunning)
}

func unpauseRunning(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.ok(e.pauser().Unpause(e.within(), s.ID))
	e.state(s.ID, virt.PowerRunning)
	e.ok(e.pauser().Pause(e.within(), s.ID))
	w.expect(virt.EventPaused)
}

func unpauseStopped(e *env) {
	s := e.stopped()
	e.fails(e.pauser().Unpause(e.within(), s.ID), virt.ErrInvalidState)
	e.state(s.ID, virt.PowerShutdown)
}
