package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"compute-agent/virt"
)

// nicModels are those that QEMU has for x86 guests.
var nicModels = []string{"virtio", "e1000", "e1000e", "igb", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3", "i82550", "i82551", "i82557b",
	"i82559er", "tulip", "usb-net"}

// PlugNIC implements virt.NICPlugger.
func (d *Driver) PlugNIC(ctx context.Context, id string, nic virt.NIC) error {
	return d.call(ctx, "PlugNIC", "plug NIC into guest", id, func() error {
		if err := nic.Validate(); err != nil {
			return err
		}
		return d.locked(ctx, func() error {
			g, err := d.hv.find(id)
			if err != nil {
				return err
			}
			return g.plug(nic)
		})()
	})
}

// plug adds a NIC to what lacks it: the guest's definition, what it runs with, or both.
func (g *guest) plug(nic virt.NIC) error {
	defined, live := indexMAC(g.spec.NICs, nic.MAC) >= 0, indexMAC(g.nics, nic.MAC) >= 0
	wantsDefined, wantsLive := !defined && !g.transient, !live && g.alive()
	spec := g.spec.Clone()
	spec.NICs = append(spec.NICs, nic)
	switch {
	case !wantsDefined && !wantsLive:
		return fmt.Errorf("%w: NIC %s", virt.ErrExists, nic.MAC)
	case nic.Model != "" && !slices.Contains(nicModels, nic.Model):
		return fmt.Errorf("%w: NIC model %s", virt.ErrUnsupported, nic.Model)
	case wantsDefined:
		if err := spec.Validate(); err != nil {
			return err
		}
		g.spec = spec
	}
	if wantsLive {
		g.nics = append(g.nics, nic)
	}
	return nil
}

// UnplugNIC implements virt.NICPlugger.
func (d *Driver) UnplugNIC(ctx context.Context, id, mac string, opt virt.UnplugOptions) error {
	return d.call(ctx, "UnplugNIC", "unplug NIC from guest", id, func() error {
		return d.untilLetGo(ctx, id, "NIC "+mac, opt, func(g *guest) pluggedDevice { return g.pluggedNIC(mac) })
	})
}

// pluggedDevice is one device of a guest, which may have it or not.
type pluggedDevice struct {
	live     bool
	alias    string
	busy     error  // why it cannot be unplugged now; nil when it can
	unplug   func() // takes it from the process
	undefine func() // takes it from the definition
}

func (g *guest) pluggedNIC(mac string) pluggedDevice {
	live, defined := indexMAC(g.nics, mac), indexMAC(g.spec.NICs, mac)
	return pluggedDevice{
		live: live >= 0, alias: "net-" + strings.ToLower(mac),
		unplug: func() { g.nics = slices.Delete(g.nics, live, live+1) },
		undefine: func() {
			if defined >= 0 {
				g.undefineNIC(defined)
			}
		},
	}
}

// untilLetGo asks the guest to let go of a device until it has. No lock is held while it waits.
func (d *Driver) untilLetGo(ctx context.Context, id, what string, opt virt.UnplugOptions, find func(*guest) pluggedDevice) error {
	patience := time.NewTimer(opt.Patience)
	defer patience.Stop()
	var retry <-chan time.Time
	if opt.Retry > 0 {
		ticker := time.NewTicker(opt.Retry)
		defer ticker.Stop()
		retry = ticker.C
	}
	for nth := 1; ; {
		asked, err := d.askToLetGo(ctx, id, what, nth, find)
		if err != nil || asked == nil {
			return err
		}
		select {
		case <-asked: // its state changed: look again
		case <-retry:
			nth++
		case <-patience.C:
			return fmt.Errorf("%w: the guest does not let go of %s", virt.ErrBusy, what)
		case <-ctx.Done():
			return ended(ctx)
		case <-d.gone:
			return errClosed
		}
	}
}

// askToLetGo sends the nth request to let go of a device. It returns nil when the guest has it no more, and else a channel
// that is closed when the guest's state changes.
func (d *Driver) askToLetGo(ctx context.Context, id, what string, nth int, find func(*guest) pluggedDevice) (changed <-chan struct{}, err error) {
	err = d.locked(ctx, func() error {
		g, err := d.hv.find(id)
		if err != nil {
			return err
		}
		has := find(g)
		switch {
		case !has.live:
		case g.state != virt.PowerRunning:
			return fmt.Errorf("%w: it is %v and cannot let go of %s", virt.ErrInvalidState, g.state, what)
		case has.busy != nil:
			return has.busy
		case !d.hv.obeys(id, nth):
			changed = g.changed
			return nil
		default:
			has.unplug()
			d.hv.publishDevice(virt.EventDeviceRemoved, id, has.alias)
		}
		has.undefine()
		return nil
	})()
	return changed, err
}

// undefineNIC takes a NIC out of the guest's definition, which is nobody else's.
func (g *guest) undefineNIC(i int) {
	if g.spec.NICs = slices.Delete(slices.Clone(g.spec.NICs), i, i+1); len(g.spec.NICs) == 0 {
		g.spec.NICs = nil
	}
}

func indexMAC(nics []virt.NIC, mac string) int {
	return slices.IndexFunc(nics, func(n virt.NIC) bool { return strings.EqualFold(n.MAC, mac) })
}

// NICs implements virt.NICPlugger.
func (d *Driver) NICs(ctx context.Context, id string) (list []virt.PluggedNIC, err error) {
	err = d.onGuest(ctx, "NICs", "list NICs of guest", id, func(g *guest) error {
		for _, n := range g.nics {
			list = append(list, virt.PluggedNIC{MAC: strings.ToLower(n.MAC), Target: n.Target, Live: true, Defined: indexMAC(g.spec.NICs, n.MAC) >= 0 && !g.transient})
		}
		for _, n := range g.spec.NICs {
			if indexMAC(g.nics, n.MAC) < 0 {
				list = append(list, virt.PluggedNIC{MAC: strings.ToLower(n.MAC), Target: n.Target, Defined: true})
			}
		}
		return nil
	})
	return list, err
}

// UnplugByHand takes a NIC out of a guest's definition, as virsh detach-interface --config does.
func (h *Hypervisor) UnplugByHand(id, mac string) error {
	return h.outside(id, func(g *guest) bool { return indexMAC(g.spec.NICs, mac) >= 0 }, func(g *guest) {
		g.undefineNIC(indexMAC(g.spec.NICs, mac))
	})
}
