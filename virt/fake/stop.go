package fake

import (
	"context"
	"time"

	"compute-agent/virt"
)

// SetHearing says which request to shut down, or to let go of a device, a guest's operating system obeys: 1 is the first and
// the default, 2 plays one that is still booting when the first comes, 0 plays one that never
// listens. The guest need not be there yet. The count begins anew with each call.
func (h *Hypervisor) SetHearing(id string, nth int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hearing[id] = nth
}

// obeys says whether a guest shuts down at the nth request of one Stop; h.mu is held.
func (h *Hypervisor) obeys(id string, nth int) bool {
	hears, set := h.hearing[id]
	if !set {
		hears = 1
	}
	return hears > 0 && nth >= hears
}

// Stop implements virt.Driver.
func (d *Driver) Stop(ctx context.Context, id string, opt virt.StopOptions) error {
	return d.call(ctx, "Stop", "stop guest", id, func() error {
		if opt.Grace <= 0 {
			return d.stopNow(ctx, id)
		}
		return d.stopGracefully(ctx, id, opt)
	})
}

func (d *Driver) stopNow(ctx context.Context, id string) error {
	return d.locked(ctx, func() error {
		g, err := d.hv.find(id)
		if err == nil && g.state != virt.PowerShutdown {
			d.hv.end(g, virt.EventStopped, "destroyed")
		}
		return err
	})()
}

// stopGracefully asks, waits and at last forces. No lock is held while it waits.
func (d *Driver) stopGracefully(ctx context.Context, id string, opt virt.StopOptions) error {
	grace := time.NewTimer(opt.Grace)
	defer grace.Stop()
	var retry <-chan time.Time
	if opt.Retry > 0 {
		ticker := time.NewTicker(opt.Retry)
		defer ticker.Stop()
		retry = ticker.C
	}
	for nth := 1; ; {
		asked, err := d.ask(ctx, id, nth)
		if err != nil || asked == nil {
			return err
		}
		select {
		case <-asked: // its state changed: look again
		case <-retry:
			nth++
		case <-grace.C:
			return d.stopNow(ctx, id)
		case <-ctx.Done():
			return ended(ctx)
		case <-d.gone:
			return errClosed
		}
	}
}

// ask sends the nth request to shut down. It returns nil when the guest has stopped, and else a
// channel that is closed when its state changes.
func (d *Driver) ask(ctx context.Context, id string, nth int) (changed <-chan struct{}, err error) {
	err = d.locked(ctx, func() error {
		g, err := d.hv.find(id)
		switch {
		case err != nil:
			return err
		case g.state == virt.PowerShutdown:
		case g.state != virt.PowerRunning:
			d.hv.end(g, virt.EventStopped, "destroyed")
		case d.hv.obeys(id, nth):
			d.hv.end(g, virt.EventStopped, "shutdown")
		default:
			changed = g.changed
		}
		return nil
	})()
	return changed, err
}
