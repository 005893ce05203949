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

// changeGuest runs f in the guest's turn.
func (d *Driver) changeGuest(ctx context.Context, op, id string, limit time.Duration, f func(context.Context, *call) error) error {
	return d.run(ctx, op, id, limit, func(ctx context.Context, c *call) error {
		give, err := d.turns.take(ctx, id)
		if err != nil {
			return unavailable(fmt.Errorf("another call for this guest is under way: %w", err))
		}
		defer give()
		return f(ctx, c)
	})
}

// Start implements virt.Driver.
func (d *Driver) Start(ctx context.Context, id string) error {
	return d.changeGuest(ctx, "start guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		if err := c.awaitEnd(ctx, id); err != nil {
			return err
		}
		return c.domain(ctx, id, start)
	})
}

func start(dom *lv.Domain) error {
	state, _, err := dom.GetState()
	if err != nil {
		return err
	}
	switch powerState(state) {
	case virt.PowerRunning:
		return nil
	case virt.PowerPaused:
		return dom.Resume()
	case virt.PowerSuspended:
		return fmt.Errorf("%w: its operating system is suspended to memory", virt.ErrInvalidState)
	case virt.PowerCrashed: // preserved for a look at it; the process is still there
		if err := kill(dom); err != nil {
			return err
		}
	}
	return dom.CreateWithFlags(0)
}

// Pause implements virt.Pauser.
func (d *Driver) Pause(ctx context.Context, id string) error {
	return d.changeGuest(ctx, "pause guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.domain(ctx, id, func(dom *lv.Domain) error {
			return switchState(dom, virt.PowerRunning, virt.PowerPaused, dom.Suspend)
		})
	})
}

// Unpause implements virt.Pauser.
func (d *Driver) Unpause(ctx context.Context, id string) error {
	return d.changeGuest(ctx, "unpause guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.domain(ctx, id, func(dom *lv.Domain) error {
			return switchState(dom, virt.PowerPaused, virt.PowerRunning, dom.Resume)
		})
	})
}

// switchState does what takes a domain from one state to the other, unless it is there already.
func switchState(dom *lv.Domain, from, to virt.PowerState, do func() error) error {
	state, reason, err := dom.GetState()
	if err != nil {
		return err
	}
	switch now := powerState(state); now {
	case to:
		return nil
	case from:
		return do()
	default:
		return fmt.Errorf("%w: it is %v (%s)", virt.ErrInvalidState, now, stateReason(state, reason))
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
		return c.remove(ctx, id)
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
	if err := c.domain(ctx, id, kill); err != nil && !isMissing(err) {
		c.d.log.Warn("libvirt: cannot kill guest", "guest", id, "error", err)
	}
	return c.d.turns.take(ctx, id)
}
