package fake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"compute-agent/virt"
)

// Moment is when in a call a fault strikes.
type Moment int

// The moments.
const (
	Before Moment = iota // the call has no effect
	After                // the effect is there, but the caller does not learn of it; only after a call that succeeded
)

// Action is what a fault does to the call that it strikes: Fail(err), Hang, Die or Pass.
type Action struct {
	kind actionKind
	err  error
}

type actionKind int

const (
	actPass actionKind = iota
	actFail
	actHang
	actDie
)

// The actions without arguments.
var (
	// Pass lets the call go on; it is for faults that only have an OnStrike.
	Pass = Action{kind: actPass}
	// Hang blocks the call until its context ends or its driver is closed.
	Hang = Action{kind: actHang}
	// Die ends the driver that was called, as if the agent's process were killed: this call and all
	// later ones fail with ErrUnavailable, have no effect, and its event streams end.
	Die = Action{kind: actDie}
)

// Fail makes the call return an error, which should wrap one of virt's kinds.
func Fail(err error) Action { return Action{kind: actFail, err: err} }

// Fault is something that goes wrong in one call of a driver.
type Fault struct {
	// Method is the name of the method in virt.Driver or one of its abilities: "Create".
	// Empty stands for all of them. Events and Close cannot fail and are never struck.
	Method string
	ID     string // only in calls for this guest; empty for all calls
	When   Moment
	Nth    int    // strikes at the Nth such call from now on; 0 and 1 are the first
	Times  int    // and at how many in a row from there; 0 is once, below 0 is for ever
	Do     Action // what happens to the call

	// OnStrike, if not nil, is called first, with no lock held: to stop the rest of what is to be
	// killed together with the driver, or to play the outside world in the middle of a call.
	OnStrike func()
}

// Injection is a fault that waits for its call.
type Injection struct {
	hv     *Hypervisor
	fault  Fault
	seen   int
	struck chan struct{}
}

// Inject plans a fault for all drivers of this hypervisor. Where several fit one call, the one that
// was injected first strikes.
func (h *Hypervisor) Inject(f Fault) *Injection {
	if f.Method != "" && !slices.Contains(methods, f.Method) {
		panic(fmt.Sprintf("fake: fault for unknown method %q", f.Method))
	}
	f.Nth, f.Times = cmp.Or(f.Nth, 1), cmp.Or(f.Times, 1)
	in := &Injection{hv: h, fault: f, struck: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, in)
	return in
}

// Struck is closed when the fault has struck for the first time.
func (in *Injection) Struck() <-chan struct{} { return in.struck }

// Remove takes the fault out of the plan.
func (in *Injection) Remove() {
	in.hv.mu.Lock()
	defer in.hv.mu.Unlock()
	in.hv.faults = slices.DeleteFunc(in.hv.faults, func(other *Injection) bool { return other == in })
}

// Calls returns how many calls of a method (of all, when empty) have begun on all drivers.
func (h *Hypervisor) Calls(method string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[method]
}

// methods are those that a fault can strike.
var methods = []string{"Host", "Create", "Remake", "Start", "Stop", "Destroy", "Guest", "Guests", "Pause", "Unpause", "ConsoleLog", "Machine", "PCIDevices", "PCIOwners",
	"PlugNIC", "UnplugNIC", "NICs", "SetMetadata", "PlugDisk", "UnplugDisk", "Disks", "ResizeDisk", "CopyDisk", "AbortCopy", "DiskUse",
	"PutSecret", "DeleteSecret", "Secrets"}

// pick returns the fault that strikes a call now, if any, and counts the call for the others.
func (h *Hypervisor) pick(method, id string, when Moment) (Fault, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var hit *Injection
	for _, in := range h.faults {
		f := in.fault
		if f.When != when || (f.Method != "" && f.Method != method) || (f.ID != "" && f.ID != id) {
			continue
		}
		in.seen++
		due := in.seen >= f.Nth && (f.Times < 0 || in.seen < f.Nth+f.Times)
		if due && hit == nil {
			hit = in
		}
	}
	if hit == nil {
		return Fault{}, false
	}
	select {
	case <-hit.struck:
	default:
		close(hit.struck)
	}
	return hit.fault, true
}

// strike does what the plan has for this moment of a call. A nil error lets the call go on.
func (d *Driver) strike(ctx context.Context, method, id string, when Moment) error {
	f, due := d.hv.pick(method, id, when)
	if !due {
		return nil
	}
	if f.OnStrike != nil {
		f.OnStrike()
	}
	switch f.Do.kind {
	case actFail:
		return f.Do.err
	case actHang:
		select {
		case <-ctx.Done():
			return ended(ctx)
		case <-d.gone:
			return errClosed
		}
	case actDie:
		d.Kill()
		return errClosed
	}
	return nil
}

var errClosed = fmt.Errorf("%w: the driver is closed", virt.ErrUnavailable)

var errLost = fmt.Errorf("%w: no connection to the hypervisor", virt.ErrUnavailable)

// ended is the error of a call whose context has ended.
func ended(ctx context.Context) error {
	return fmt.Errorf("%w: %w", virt.ErrUnavailable, ctx.Err())
}

// wrap makes a virt.Error of the cause of a failed call.
func wrap(op, id string, err error) error {
	if err == nil {
		return nil
	}
	e := &virt.Error{Op: op, Subject: id, Err: err}
	for _, kind := range []error{virt.ErrNotFound, virt.ErrExists, virt.ErrInvalid, virt.ErrUnsupported,
		virt.ErrInvalidState, virt.ErrBusy, virt.ErrUnavailable, virt.ErrNoCapacity} {
		if errors.Is(err, kind) {
			e.Kind = kind
			break
		}
	}
	return e
}
