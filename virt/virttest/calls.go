package virttest

import (
	"context"
	"errors"
	"sync"
	"time"

	"compute-agent/virt"
)

// everyCall calls each method of the driver about one guest and returns the errors by name. Create
// is called with fresh, which is a valid Spec of no guest yet.
func (e *env) everyCall(ctx context.Context, id string, fresh virt.Spec) map[string]error {
	d := e.Driver
	_, host := d.Host(ctx)
	_, guest := d.Guest(ctx, id)
	_, guests := d.Guests(ctx)
	errs := map[string]error{
		"Host":    host,
		"Create":  d.Create(ctx, fresh),
		"Remake":  d.Remake(ctx, fresh),
		"Start":   d.Start(ctx, id),
		"Stop":    d.Stop(ctx, id, virt.StopOptions{}),
		"Destroy": d.Destroy(ctx, id),
		"Guest":   guest,
		"Guests":  guests,
	}
	if p, ok := d.(virt.Pauser); ok {
		errs["Pause"], errs["Unpause"] = p.Pause(ctx, id), p.Unpause(ctx, id)
	}
	if c, ok := d.(virt.ConsoleLogger); ok {
		_, errs["ConsoleLog"] = c.ConsoleLog(ctx, id, 100)
	}
	if c, ok := d.(virt.ConsoleFinder); ok {
		_, errs["Consoles"] = c.Consoles(ctx, id)
	}
	if c, ok := d.(virt.Screenshotter); ok {
		_, errs["Screenshot"] = c.Screenshot(ctx, id)
	}
	if m, ok := d.(virt.MachineTeller); ok {
		_, errs["Machine"] = m.Machine(ctx, id)
	}
	if m, ok := d.(virt.MetadataSetter); ok {
		errs["SetMetadata"] = m.SetMetadata(ctx, id, virt.Metadata{})
	}
	if p, ok := d.(virt.NICPlugger); ok {
		_, errs["NICs"] = p.NICs(ctx, id)
		errs["PlugNIC"] = p.PlugNIC(ctx, id, nicNumber(9))
		errs["UnplugNIC"] = p.UnplugNIC(ctx, id, nicNumber(9).MAC, virt.UnplugOptions{})
	}
	e.everyDiskCall(ctx, id, errs)
	return errs
}

// everyDiskCall is everyCall for what is about disks.
func (e *env) everyDiskCall(ctx context.Context, id string, errs map[string]error) {
	if p, ok := e.Driver.(virt.DiskPlugger); ok {
		_, errs["Disks"] = p.Disks(ctx, id)
		errs["PlugDisk"] = p.PlugDisk(ctx, id, e.disk(9))
		errs["UnplugDisk"] = p.UnplugDisk(ctx, id, e.disk(9).Target, virt.UnplugOptions{})
	}
	if r, ok := e.Driver.(virt.DiskResizer); ok {
		errs["ResizeDisk"] = r.ResizeDisk(ctx, id, e.disk(9).Target, diskBytes)
	}
	if c, ok := e.Driver.(virt.DiskCopier); ok {
		errs["CopyDisk"] = c.CopyDisk(ctx, id, e.disk(9).Target, e.disk(8), nil)
		errs["AbortCopy"] = c.AbortCopy(ctx, id, e.disk(9).Target)
	}
	if m, ok := e.Driver.(virt.DiskMeter); ok {
		_, errs["DiskUse"] = m.DiskUse(ctx)
	}
	if k, ok := e.Driver.(virt.SecretKeeper); ok {
		_, errs["Secrets"] = k.Secrets(ctx)
		errs["PutSecret"], errs["DeleteSecret"] = k.PutSecret(ctx, e.secret()), k.DeleteSecret(ctx, missing)
	}
}

var contextPromises = group{"Context", []promise{
	{"a call whose context has ended fails with ErrUnavailable and does nothing", callsCancelled, always},
	{"a call past its deadline wraps the context's error", callsLate, always},
	{"a method returns no later than its context ends", callsReturn, always},
}}

func callsCancelled(e *env) {
	ctx, cancel := context.WithCancel(e.Context())
	cancel()
	e.fruitless(ctx, context.Canceled)
}

func callsLate(e *env) {
	ctx, cancel := context.WithDeadline(e.Context(), time.Now().Add(-time.Second))
	defer cancel()
	e.fruitless(ctx, context.DeadlineExceeded)
}

// fruitless checks that with an ended context no method does anything.
func (e *env) fruitless(ctx context.Context, cause error) {
	s, fresh := e.running(), e.spec()
	for method, err := range e.everyCall(ctx, s.ID, fresh) {
		if !errors.Is(err, virt.ErrUnavailable) || !errors.Is(err, cause) {
			e.Errorf("%s: error is %v, want ErrUnavailable that wraps %v", method, err, cause)
		}
	}
	e.state(s.ID, virt.PowerRunning)
	e.absent(fresh.ID)
}

func callsReturn(e *env) {
	s := e.running()
	const limit = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(e.Context(), limit)
	defer cancel()
	begin := time.Now()
	e.fails(e.Driver.Stop(ctx, s.ID, virt.StopOptions{Grace: anHour, Retry: limit / 10}), virt.ErrUnavailable)
	if took := time.Since(begin); took > limit+5*time.Second { // a second is promised; a busy machine gets more
		e.Errorf("a call with %v of time returned after %v", limit, took)
	}
}

var closePromises = group{"Close", []promise{
	{"guests run on", closeLeavesGuests, always},
	{"closes all event streams", closeEndsStreams, always},
	{"calls after Close fail with ErrUnavailable", closeEndsCalls, always},
	{"closing twice is allowed", closeTwice, always},
	{"closing during a call ends the call", closeDuringCall, always},
}}

func closeLeavesGuests(e *env) {
	s := e.running()
	e.ok(e.Driver.Close())
	e.reopen()
	e.state(s.ID, virt.PowerRunning)
	w := e.watch(s.ID)
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	w.until(virt.EventStopped)
}

func closeEndsStreams(e *env) {
	one, two := e.Driver.Events(e.Context()), e.Driver.Events(e.Context())
	e.ok(e.Driver.Close())
	e.ends(one)
	e.ends(two)
	e.ends(e.Driver.Events(e.Context()))
}

func closeEndsCalls(e *env) {
	s, fresh := e.running(), e.spec()
	e.ok(e.Driver.Close())
	for method, err := range e.everyCall(e.within(), s.ID, fresh) {
		if !errors.Is(err, virt.ErrUnavailable) {
			e.Errorf("%s: error is %v, want ErrUnavailable", method, err)
		}
	}
	e.reopen()
	e.state(s.ID, virt.PowerRunning)
	e.absent(fresh.ID)
}

func closeTwice(e *env) {
	e.ok(e.Driver.Close())
	e.ok(e.Driver.Close())
}

func closeDuringCall(e *env) {
	s := e.running()
	done := make(chan error, 1)
	go func() { done <- e.Driver.Stop(e.within(), s.ID, virt.StopOptions{Grace: anHour}) }()
	e.ok(e.Driver.Close())
	e.fails(<-done, virt.ErrUnavailable)
	e.reopen()
	e.state(s.ID, virt.PowerRunning)
}

var concurrencyPromises = group{"Concurrency", []promise{
	{"of concurrent calls of Create for one ID exactly one succeeds", concurrentCreate, always},
	{"calls for one guest take effect one after the other", concurrentCalls, always},
	{"concurrent calls of Destroy all succeed", concurrentDestroy, always},
	{"all methods may be called concurrently for many guests", concurrentGuests, always},
}}

// together calls f n times at once and returns the errors.
func together(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errs
}

func concurrentCreate(e *env) {
	s := e.spec()
	made := 0
	for _, err := range together(4, func(int) error { return e.Driver.Create(e.within(), s) }) {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, virt.ErrExists):
			e.Errorf("error is %v, want ErrExists", err)
		}
	}
	if made != 1 {
		e.Errorf("%d calls succeeded", made)
	}
	e.state(s.ID, virt.PowerPaused)
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.state(s.ID, virt.PowerRunning)
}

func concurrentCalls(e *env) {
	s := e.running()
	calls := []func() error{
		func() error { return e.Driver.Start(e.within(), s.ID) },
		func() error { return e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}) },
		func() error { _, err := e.Driver.Guest(e.within(), s.ID); return err },
	}
	if p, ok := e.Driver.(virt.Pauser); ok {
		calls = append(calls,
			func() error { return p.Pause(e.within(), s.ID) },
			func() error { return p.Unpause(e.within(), s.ID) })
	}
	for _, err := range together(3*len(calls), func(i int) error { return calls[i%len(calls)]() }) {
		if err != nil && !errors.Is(err, virt.ErrInvalidState) {
			e.Errorf("error is %v, want none or ErrInvalidState", err)
		}
	}
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.state(s.ID, virt.PowerRunning)
}

func concurrentDestroy(e *env) {
	s := e.running()
	for _, err := range together(4, func(int) error { return e.Driver.Destroy(e.within(), s.ID) }) {
		e.ok(err)
	}
	e.absent(s.ID)
}

func concurrentGuests(e *env) {
	specs := make([]virt.Spec, e.Many)
	for i := range specs {
		specs[i] = e.spec()
	}
	life := func(i int) error {
		id := specs[i].ID
		if err := e.Driver.Create(e.within(), specs[i]); err != nil {
			return err
		}
		if err := e.Driver.Start(e.within(), id); err != nil {
			return err
		}
		if _, err := e.Driver.Guests(e.within()); err != nil {
			return err
		}
		if err := e.Driver.Stop(e.within(), id, virt.StopOptions{}); err != nil {
			return err
		}
		return e.Driver.Destroy(e.within(), id)
	}
	for _, err := range together(e.Many, life) {
		if err != nil {
			e.Error(err)
		}
	}
	for _, s := range specs {
		e.absent(s.ID)
	}
}
