package libvirt

import (
	"context"
	"fmt"
	"os"
	"time"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// undoTimeout bounds the removal of a guest whose creation failed.
const undoTimeout = 30 * time.Second

// undefineFlags remove with a definition what libvirt keeps beside it.
const undefineFlags = lv.DOMAIN_UNDEFINE_MANAGED_SAVE | lv.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
	lv.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | lv.DOMAIN_UNDEFINE_NVRAM

// Create implements virt.Driver.
func (d *Driver) Create(ctx context.Context, spec virt.Spec) error {
	const op = "create guest"
	text, err := prepare(&spec)
	if err != nil {
		return failure(op, spec.ID, err)
	}
	id, name := spec.ID, spec.Name
	devices := spec.PCIAddresses()
	return d.changeGuest(ctx, op, id, d.opt.CallTimeout, func(ctx context.Context, c *call) (virt.EventKind, error) {
		if err := c.checkAbsent(ctx, id, name); err != nil {
			return noEvent, err
		}
		if err := c.checkPCI(ctx, devices); err != nil {
			return noEvent, err
		}
		err := c.define(ctx, text)
		if err != nil && !outcomeUnknown(err) {
			return noEvent, err // nothing was defined; what has this ID by now is not ours
		}
		if err == nil {
			err = c.domain(ctx, id, func(dom *lv.Domain) error {
				return dom.CreateWithFlags(lv.DOMAIN_START_PAUSED)
			})
		}
		if err == nil {
			err = ctx.Err() // nobody waits for the guest any more
		}
		if err != nil {
			c.undoCreate(ctx, id)
			return noEvent, err
		}
		return virt.EventPaused, nil
	})
}

// prepare is what of Create needs no hypervisor: it makes the definition of a Spec that can be one.
func prepare(spec *virt.Spec) (text string, err error) {
	if err := spec.ValidateForCreate(); err != nil {
		return "", err
	}
	if text, err = Render(*spec); err != nil {
		return "", err
	}
	return text, checkFiles(spec)
}

// checkAbsent fails with ErrExists when there is a domain with the ID or the name. Defining it would
// otherwise replace the definition of what is there.
func (c *call) checkAbsent(ctx context.Context, id, name string) error {
	return c.rpc(ctx, func(conn *lv.Connect) error {
		for _, lookup := range []func() (*lv.Domain, error){
			func() (*lv.Domain, error) { return conn.LookupDomainByUUIDString(id) },
			func() (*lv.Domain, error) { return conn.LookupDomainByName(name) },
		} {
			dom, err := lookup()
			if err == nil {
				free(dom)
				return virt.ErrExists
			}
			if !isMissing(err) {
				return err
			}
		}
		return nil
	})
}

// define leaves out libvirt's check against its schema, which costs it 10 to 30 ms a guest: what Render
// makes is held to the schema by a test.
func (c *call) define(ctx context.Context, text string) error {
	return c.rpc(ctx, func(conn *lv.Connect) error {
		dom, err := conn.DomainDefineXML(text)
		if err == nil {
			free(dom)
		}
		return err
	})
}

// undoCreate removes what a failed creation left, also when the caller has gone, and also when the
// connection is lost and comes back in time.
func (c *call) undoCreate(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	_, err := c.remove(ctx, id)
	for err != nil && outcomeUnknown(err) && ctx.Err() == nil && c.d.closing.Err() == nil {
		_, err = c.remove(ctx, id) // it waits for the connection
	}
	if err != nil {
		c.d.log.Error("libvirt: a guest that could not be created is left behind", "guest", id, "error", err)
	}
}

// remove ends the guest and removes its definition; a guest that is not there is removed. It returns the
// last event that this sends.
func (c *call) remove(ctx context.Context, id string) (sent virt.EventKind, err error) {
	err = c.domain(ctx, id, func(dom *lv.Domain) error {
		killed, err := kill(dom)
		if err != nil {
			return err
		}
		sent = eventIf(killed, virt.EventStopped)
		if err = dom.UndefineFlags(undefineFlags); err == nil {
			sent = virt.EventUndefined
		}
		return err
	})
	if isMissing(err) { // now, or since it was killed and had no definition to keep
		err = nil
	}
	return sent, err
}

// kill ends the guest's process and says whether there was one. It works on a guest that does not
// answer, and while another call waits for that guest.
func kill(dom *lv.Domain) (killed bool, err error) {
	err = dom.DestroyFlags(lv.DOMAIN_DESTROY_DEFAULT)
	if err == nil || !isCode(err, lv.ERR_OPERATION_INVALID) {
		return err == nil, err
	}
	if active, activeErr := dom.IsActive(); activeErr == nil && active {
		return false, err
	}
	return false, nil
}

// checkFiles fails with ErrInvalid when a file that the Spec names is not there. libvirt would find out
// later and say so in many ways.
func checkFiles(s *virt.Spec) error {
	for _, p := range s.Paths() {
		if _, err := os.Stat(p.Path); err != nil {
			return fmt.Errorf("%w: %s: %w", virt.ErrInvalid, p.Field, err)
		}
	}
	return nil
}
