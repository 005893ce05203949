package libvirt

import (
	"context"
	"fmt"
	"time"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// overtake is how long Destroy waits for its turn before it kills the guest without: a call that hangs
// because the guest does not answer ends when the guest does.
const overtake = time.Second

// eventPatience is how long a method waits for the event of what it did. That a guest has let go of a device is said when the
// hypervisor has closed what was behind it, which for a disk may take as long as its storage takes to flush.
const (
	eventPatience   = 2 * time.Second
	removedPatience = time.Minute
)

// noEvent is what a change that changed nothing sends.
const noEvent virt.EventKind = 0

// changeGuest runs f in the guest's turn. f returns the last event that its change sends. libvirt sends
// events beside its answers; changeGuest waits for this one, so that who asks for events after a method
// has returned gets none of that method's.
func (d *Driver) changeGuest(ctx context.Context, op, id string, limit time.Duration, f func(context.Context, *call) (virt.EventKind, error)) error {
	return d.run(ctx, op, id, limit, func(ctx context.Context, c *call) error {
		give, err := d.turns.take(ctx, id)
		if err != nil {
			return unavailable(fmt.Errorf("another call for this guest is under way: %w", err))
		}
		defer give()
		return c.withEvent(ctx, id, f)
	})
}

func (c *call) withEvent(ctx context.Context, id string, f func(context.Context, *call) (virt.EventKind, error)) error {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.d.hub.Subscribe(watch)
	kind, err := f(ctx, c)
	if err == nil && kind != noEvent {
		c.awaitEvent(events, id, kind)
	}
	return err
}

// awaitEvent waits for the event, but not when the connection on which it would come is lost.
func (c *call) awaitEvent(events <-chan virt.Event, id string, kind virt.EventKind) {
	patience := eventPatience
	if kind == virt.EventDeviceRemoved {
		patience = removedPatience
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case e, open := <-events:
			switch {
			case !open, e.Kind == virt.EventConnectionLost, e.Kind == virt.EventConnectionBack:
				return
			case e.ID == id && (e.Kind == kind || ends(e.Kind) && kind != virt.EventUndefined):
				return
			}
		case <-late.C:
			c.d.log.Warn("libvirt: an event did not come", "op", c.Op, "guest", id, "event", kind)
			return
		}
	}
}

// ends says whether a guest that sent an event runs no more: what else was to come from it does not.
func ends(kind virt.EventKind) bool { return kind == virt.EventStopped || kind == virt.EventCrashed }

// change runs f, which makes one change to the domain, in the guest's turn.
func (d *Driver) change(ctx context.Context, op, id string, f func(*lv.Domain) (virt.EventKind, error)) error {
	return d.changeGuest(ctx, op, id, d.opt.CallTimeout, func(ctx context.Context, c *call) (sent virt.EventKind, err error) {
		err = c.domain(ctx, id, func(dom *lv.Domain) error {
			sent, err = f(dom)
			return err
		})
		return sent, err
	})
}

// Start implements virt.Driver.
func (d *Driver) Start(ctx context.Context, id string) error {
	return d.changeGuest(ctx, "start guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) (sent virt.EventKind, err error) {
		if err := c.awaitEnd(ctx, id); err != nil {
			return noEvent, err
		}
		err = c.domain(ctx, id, func(dom *lv.Domain) error {
			sent, err = start(dom)
			return err
		})
		return sent, err
	})
}

func start(dom *lv.Domain) (sent virt.EventKind, err error) {
	state, _, err := dom.GetState()
	if err != nil {
		return noEvent, err
	}
	switch powerState(state) {
	case virt.PowerRunning:
		return noEvent, nil
	case virt.PowerPaused:
		return virt.EventResumed, dom.Resume()
	case virt.PowerSuspended:
		return noEvent, fmt.Errorf("%w: its operating system is suspended to memory", virt.ErrInvalidState)
	case virt.PowerCrashed: // preserved for a look at it; the process is still there
		if _, err := kill(dom); err != nil {
			return noEvent, err
		}
	}
	return launch(dom)
}

// launch starts the process of a stopped domain. One that somebody saved ("virsh managedsave") comes back as it
// was then, which may be paused.
func launch(dom *lv.Domain) (sent virt.EventKind, err error) {
	if err := dom.CreateWithFlags(0); err != nil {
		return noEvent, err
	}
	state, _, err := dom.GetState()
	if err == nil && powerState(state) == virt.PowerPaused {
		return virt.EventResumed, dom.Resume()
	}
	return virt.EventStarted, err
}

// Pause implements virt.Pauser.
func (d *Driver) Pause(ctx context.Context, id string) error {
	return d.change(ctx, "pause guest", id, func(dom *lv.Domain) (virt.EventKind, error) {
		done, err := switchState(dom, virt.PowerRunning, virt.PowerPaused, dom.Suspend)
		return eventIf(done, virt.EventPaused), err
	})
}

// Unpause implements virt.Pauser.
func (d *Driver) Unpause(ctx context.Context, id string) error {
	return d.change(ctx, "unpause guest", id, func(dom *lv.Domain) (virt.EventKind, error) {
		done, err := switchState(dom, virt.PowerPaused, virt.PowerRunning, dom.Resume)
		return eventIf(done, virt.EventResumed), err
	})
}

func eventIf(done bool, kind virt.EventKind) virt.EventKind {
	if done {
		return kind
	}
	return noEvent
}

// switchState does what takes a domain from one state to the other, unless it is there already, and says
// whether it did it.
func switchState(dom *lv.Domain, from, to virt.PowerState, do func() error) (done bool, err error) {
	state, reason, err := dom.GetState()
	if err != nil {
		return false, err
	}
	switch now := powerState(state); now {
	case to:
		return false, nil
	case from:
		return true, do()
	default:
		return false, fmt.Errorf("%w: it is %v (%s)", virt.ErrInvalidState, now, stateReason(state, reason))
	}
}

// Destroy implements virt.Driver.
func (d *Driver) Destroy(ctx context.Context, id string) error {
	return d.run(ctx, "destroy guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		give, err := c.takeOrKill(ctx, id)
		if err != nil {
			return unavailable(fmt.Errorf("another call for this guest is under way: %w", err))
		}
		defer give()
		return c.withEvent(ctx, id, func(ctx context.Context, c *call) (virt.EventKind, error) {
			return c.remove(ctx, id)
		})
	})
}

// takeOrKill takes the guest's turn. When it does not come soon, it kills the guest's process.
func (c *call) takeOrKill(ctx context.Context, id string) (give func(), err error) {
	soon, cancel := context.WithTimeout(ctx, overtake)
	defer cancel()
	if give, err = c.d.turns.take(soon, id); err == nil {
		return give, nil
	}
	c.d.log.Warn("libvirt: killing a guest while another call for it is under way", "guest", id)
	err = c.domain(ctx, id, func(dom *lv.Domain) error {
		_, err := kill(dom)
		return err
	})
	if err != nil && !isMissing(err) {
		c.d.log.Warn("libvirt: cannot kill guest", "guest", id, "error", err)
	}
	return c.d.turns.take(ctx, id)
}
