package libvirt

import (
	"context"
	"fmt"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// Remake implements virt.Driver. A definition in the place of another keeps what libvirt has beside that: the file of
// firmware variables, the directory of the TPM. So there is no moment at which they belong to nobody.
func (d *Driver) Remake(ctx context.Context, spec virt.Spec) error {
	const op = "make guest again"
	text, err := prepare(&spec)
	if err != nil {
		return failure(op, spec.ID, err)
	}
	return d.run(ctx, op, spec.ID, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		if err := c.checkName(ctx, spec.ID, spec.Name); err != nil {
			return err
		}
		if err := c.checkPCI(ctx, spec.PCIAddresses()); err != nil {
			return err
		}
		give, err := c.takeOrKill(ctx, spec.ID)
		if err != nil {
			return unavailable(fmt.Errorf("another call for this guest is under way: %w", err))
		}
		defer give()
		return c.withEvent(ctx, spec.ID, func(ctx context.Context, c *call) (virt.EventKind, error) {
			return virt.EventPaused, c.replace(ctx, spec.ID, spec.Name, text)
		})
	})
}

// checkName fails with ErrExists when another guest has the name.
func (c *call) checkName(ctx context.Context, id, name string) error {
	return c.rpc(ctx, func(conn *lv.Connect) error {
		dom, err := conn.LookupDomainByName(name)
		if isMissing(err) {
			return nil
		}
		if err != nil {
			return err
		}
		defer free(dom)
		other, err := dom.GetUUIDString()
		if err == nil && other != id {
			err = virt.ErrExists
		}
		return err
	})
}

// replace gives a guest, if it is there, another definition, ends it and starts it. It is defined before it is ended:
// libvirt removes what it has beside a guest without a definition when that ends. One that was saved ("virsh
// managedsave") does not come back as it was then.
func (c *call) replace(ctx context.Context, id, name, text string) error {
	there := true
	err := c.domain(ctx, id, func(dom *lv.Domain) error { return restoreName(dom, name) })
	if isMissing(err) {
		there, err = false, nil
	}
	if err == nil {
		err = c.define(ctx, text)
	}
	if err != nil {
		return err
	}
	err = c.domain(ctx, id, func(dom *lv.Domain) error {
		if _, err := kill(dom); err != nil {
			return err
		}
		return dom.CreateWithFlags(lv.DOMAIN_START_PAUSED | lv.DOMAIN_START_FORCE_BOOT)
	})
	if err == nil {
		err = ctx.Err() // nobody waits for the guest any more
	}
	if err != nil && !there {
		c.undoCreate(ctx, id)
	}
	return err
}

// restoreName gives a guest that somebody renamed its name back, for which libvirt wants it to be stopped.
func restoreName(dom *lv.Domain, name string) error {
	is, err := dom.GetName()
	if err != nil || is == name {
		return err
	}
	if _, err := kill(dom); err != nil {
		return err
	}
	return dom.Rename(name, 0)
}
