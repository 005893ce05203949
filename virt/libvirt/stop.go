package libvirt

import (
	"context"
	"time"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// Stop implements virt.Driver. It waits for libvirt's events, and asks for the state only when one says
// that it may have changed.
func (d *Driver) Stop(ctx context.Context, id string, opt virt.StopOptions) error {
	limit := d.opt.CallTimeout + opt.Grace
	return d.changeGuest(ctx, "stop guest", id, limit, func(ctx context.Context, c *call) (virt.EventKind, error) {
		state, err := c.state(ctx, id)
		if err != nil || state == lv.DOMAIN_SHUTOFF {
			return noEvent, err
		}
		if opt.Grace > 0 {
			down, err := c.shutDown(ctx, id, opt)
			if down || err != nil {
				return virt.EventStopped, err
			}
		}
		err = c.domain(ctx, id, func(dom *lv.Domain) error {
			_, err := kill(dom)
			return err
		})
		return virt.EventStopped, err
	})
}

// shutDown asks the guest to shut down and reports whether it did. It reports false when the guest has to
// be forced: the grace is over, or it cannot hear.
func (c *call) shutDown(ctx context.Context, id string, opt virt.StopOptions) (down bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.d.hub.Subscribe(ctx)
	grace := time.NewTimer(opt.Grace)
	defer grace.Stop()
	var retry <-chan time.Time
	if opt.Retry > 0 {
		ticker := time.NewTicker(opt.Retry)
		defer ticker.Stop()
		retry = ticker.C
	}
	ask, look := true, true
	for {
		if look {
			state, err := c.state(ctx, id)
			switch {
			case err != nil:
				return false, err
			case state == lv.DOMAIN_SHUTOFF:
				return true, nil
			case state == lv.DOMAIN_SHUTDOWN:
				ask = false // it has begun
			case powerState(state) != virt.PowerRunning:
				return false, nil
			}
		}
		if ask {
			c.askToShutDown(ctx, id)
		}
		select {
		case <-grace.C:
			return false, nil
		case <-retry:
			ask, look = true, true
		case e, open := <-events:
			if !open {
				return false, c.d.endOf(ctx)
			}
			ask, look = false, concerns(e, id)
		}
	}
}

// askToShutDown presses the guest's power button. That it fails is no reason to give up: the guest may
// just be stopping, and is forced in the end.
func (c *call) askToShutDown(ctx context.Context, id string) {
	err := c.domain(ctx, id, func(dom *lv.Domain) error {
		return dom.ShutdownFlags(lv.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
	})
	if err != nil {
		c.d.log.Debug("libvirt: guest was not asked to shut down", "guest", id, "error", err)
	}
}

// awaitEnd waits while the guest is on its way from running to stopped.
func (c *call) awaitEnd(ctx context.Context, id string) error {
	state, err := c.state(ctx, id)
	if err != nil || state != lv.DOMAIN_SHUTDOWN {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.d.hub.Subscribe(ctx)
	for {
		if state, err = c.state(ctx, id); err != nil || state != lv.DOMAIN_SHUTDOWN {
			return err
		}
		for concerned := false; !concerned; {
			e, open := <-events
			if !open {
				return c.d.endOf(ctx)
			}
			concerned = concerns(e, id)
		}
	}
}

// concerns says whether the guest's state may have changed.
func concerns(e virt.Event, id string) bool {
	return e.ID == id || e.Kind == virt.EventConnectionBack
}

func (c *call) state(ctx context.Context, id string) (state lv.DomainState, err error) {
	err = c.domain(ctx, id, func(dom *lv.Domain) error {
		state, _, err = dom.GetState()
		return err
	})
	return state, err
}
