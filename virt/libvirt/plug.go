package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// device is one device of a guest as its process and its definition have it.
type device struct {
	state     lv.DomainState
	alias     string // of the one that its process has; empty when it has none
	defined   string // its element in the definition; empty when that has none
	transient bool   // the guest has no definition
}

// finder looks for a device in a domain. It returns the device's alias and its element.
type finder func(*libvirtxml.Domain) (alias, element string, err error)

// find reads what a guest has of a device. Both parts are read in one turn of the connection.
func (c *call) find(ctx context.Context, id string, where finder) (found device, err error) {
	err = c.domain(ctx, id, func(dom *lv.Domain) error {
		found = device{}
		if found.state, _, err = dom.GetState(); err != nil {
			return err
		}
		defined, err := dom.IsPersistent()
		if err != nil {
			return err
		}
		found.transient = !defined
		if defined {
			if _, found.defined, err = findIn(dom, lv.DOMAIN_XML_INACTIVE, where); err != nil {
				return err
			}
		}
		if hasProcess(found.state) {
			found.alias, _, err = findIn(dom, 0, where)
		}
		return err
	})
	return found, err
}

func findIn(dom *lv.Domain, flags lv.DomainXMLFlags, where finder) (alias, element string, err error) {
	domain, err := parseDomain(dom, flags)
	if err != nil {
		return "", "", err
	}
	return where(domain)
}

func parseDomain(dom *lv.Domain, flags lv.DomainXMLFlags) (*libvirtxml.Domain, error) {
	text, err := dom.GetXMLDesc(flags)
	if err != nil {
		return nil, err
	}
	domain := &libvirtxml.Domain{}
	if err := domain.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("parse domain: %w", err)
	}
	return domain, nil
}

// hasProcess says whether a domain in a state has devices that are plugged in and out.
func hasProcess(s lv.DomainState) bool { return s != lv.DOMAIN_SHUTOFF && s != lv.DOMAIN_NOSTATE }

// plugDevice puts a device into a guest where it is not. The definition is first, because what was put into that can
// always be taken out again, if the process does not take the device.
func (c *call) plugDevice(ctx context.Context, id, element string, where finder) error {
	has, err := c.find(ctx, id, where)
	if err != nil {
		return err
	}
	define, plug := !has.transient && has.defined == "", hasProcess(has.state) && has.alias == ""
	if !define && !plug {
		return virt.ErrExists
	}
	if define {
		if err := c.attach(ctx, id, element, lv.DOMAIN_DEVICE_MODIFY_CONFIG); err != nil {
			return err
		}
	}
	if !plug {
		return nil
	}
	err = c.attach(ctx, id, element, lv.DOMAIN_DEVICE_MODIFY_LIVE)
	if err != nil && define {
		c.undoPlug(ctx, id, where)
	}
	return err
}

func (c *call) attach(ctx context.Context, id, element string, where lv.DomainDeviceModifyFlags) error {
	return c.domain(ctx, id, func(dom *lv.Domain) error { return dom.AttachDeviceFlags(element, where) })
}

// undoPlug takes a device out of the definition of a guest whose process has not got it, also when the caller has gone.
func (c *call) undoPlug(ctx context.Context, id string, where finder) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	for {
		has, err := c.find(ctx, id, where)
		if err == nil && has.alias == "" {
			err = c.undefineDevice(ctx, id, has)
		}
		switch {
		case err == nil, isMissing(err):
			return
		case outcomeUnknown(err) && ctx.Err() == nil && c.d.closing.Err() == nil: // it waits for the connection
		default:
			c.d.log.Error("libvirt: a device that a guest did not take is left in its definition", "guest", id, "error", err)
			return
		}
	}
}

func (c *call) undefineDevice(ctx context.Context, id string, has device) error {
	if has.defined == "" {
		return nil
	}
	return c.domain(ctx, id, func(dom *lv.Domain) error {
		return dom.DetachDeviceFlags(has.defined, lv.DOMAIN_DEVICE_MODIFY_CONFIG)
	})
}

// unplugDevice takes a device out of the guest's process, and then out of its definition: a guest that does not let go
// of it keeps it whole.
func (c *call) unplugDevice(ctx context.Context, id string, opt virt.UnplugOptions, where finder) (sent virt.EventKind, err error) {
	has, sent, err := c.letGo(ctx, id, opt, where)
	if err != nil {
		return noEvent, err
	}
	return sent, c.undefineDevice(ctx, id, has)
}

// letGo asks the guest to let go of a device until it has, and returns what it then has of it.
func (c *call) letGo(ctx context.Context, id string, opt virt.UnplugOptions, where finder) (has device, sent virt.EventKind, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.d.hub.Subscribe(ctx)
	patience := time.NewTimer(opt.Patience)
	defer patience.Stop()
	var retry <-chan time.Time
	if opt.Retry > 0 {
		ticker := time.NewTicker(opt.Retry)
		defer ticker.Stop()
		retry = ticker.C
	}
	held, refused := false, false
	for ask, look := true, true; ; {
		if look {
			has, err = c.findHeard(ctx, id, where)
			if err != nil || has.alias == "" {
				return has, eventIf(held && hasProcess(has.state), virt.EventDeviceRemoved), err
			}
			held = true
		}
		if ask && has.state != lv.DOMAIN_SHUTDOWN { // else it ends and has let go soon
			if err := c.askToLetGo(ctx, id, has.alias); err != nil {
				return has, noEvent, err
			}
		}
		select {
		case <-patience.C:
			return has, noEvent, busyDevice(refused)
		case <-retry:
			ask, look = true, true
		case e, open := <-events:
			if !open {
				return has, noEvent, c.d.endOf(ctx)
			}
			refused = refused || e.Kind == virt.EventDeviceKept && e.ID == id && e.Device == has.alias
			ask, look = false, concerns(e, id)
		}
	}
}

// findHeard is find for a guest that is to let go: it fails when the guest has the device and cannot hear.
func (c *call) findHeard(ctx context.Context, id string, where finder) (device, error) {
	has, err := c.find(ctx, id, where)
	if err == nil && has.alias != "" && powerState(has.state) != virt.PowerRunning && has.state != lv.DOMAIN_SHUTDOWN {
		err = fmt.Errorf("%w: the guest is %v and cannot let go of the device", virt.ErrInvalidState, powerState(has.state))
	}
	return has, err
}

func busyDevice(refused bool) error {
	if refused {
		return fmt.Errorf("%w: the guest refuses to let go of the device", virt.ErrBusy)
	}
	return fmt.Errorf("%w: the guest does not let go of the device", virt.ErrBusy)
}

// askToLetGo sends the guest one request, and does not wait for it to be answered. QEMU refuses a request while it
// takes another for open; that the guest has ended or let go meanwhile is seen by who looks.
func (c *call) askToLetGo(ctx context.Context, id, alias string) error {
	err := c.domain(ctx, id, func(dom *lv.Domain) error { return dom.DetachDeviceAlias(alias, lv.DOMAIN_DEVICE_MODIFY_LIVE) })
	var e lv.Error
	switch {
	case !errors.As(err, &e):
		return err
	case e.Code == lv.ERR_DEVICE_MISSING, errors.Is(kindOf(e), virt.ErrInvalidState):
		return nil
	case strings.Contains(e.Message, "already in the process of unplug"):
		return nil
	}
	return err
}
