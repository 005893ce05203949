package libvirt

import (
	"context"
	"slices"
	"strings"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// PlugNIC implements virt.NICPlugger.
func (d *Driver) PlugNIC(ctx context.Context, id string, nic virt.NIC) error {
	const op = "plug NIC into guest"
	if err := nic.Validate(); err != nil {
		return failure(op, id, err)
	}
	rendered := renderNIC(&nic)
	element, err := rendered.Marshal()
	if err != nil {
		return failure(op, id, err)
	}
	return d.changeGuest(ctx, op, id, d.opt.CallTimeout, func(ctx context.Context, c *call) (virt.EventKind, error) {
		return noEvent, c.plugDevice(ctx, id, element, byMAC(nic.MAC))
	})
}

// UnplugNIC implements virt.NICPlugger.
func (d *Driver) UnplugNIC(ctx context.Context, id, mac string, opt virt.UnplugOptions) error {
	limit := d.opt.CallTimeout + opt.Patience
	return d.changeGuest(ctx, "unplug NIC from guest", id, limit, func(ctx context.Context, c *call) (virt.EventKind, error) {
		return c.unplugDevice(ctx, id, opt, byMAC(mac))
	})
}

// byMAC finds a NIC.
func byMAC(mac string) finder {
	return func(domain *libvirtxml.Domain) (alias, element string, err error) {
		for _, n := range interfaces(domain) {
			if !strings.EqualFold(macOf(&n), mac) {
				continue
			}
			if n.Alias != nil {
				alias = n.Alias.Name
			}
			element, err = n.Marshal()
			return alias, element, err
		}
		return "", "", nil
	}
}

func interfaces(domain *libvirtxml.Domain) []libvirtxml.DomainInterface {
	if domain.Devices == nil {
		return nil
	}
	return domain.Devices.Interfaces
}

func macOf(n *libvirtxml.DomainInterface) string {
	if n.MAC == nil {
		return ""
	}
	return strings.ToLower(n.MAC.Address)
}

// NICs implements virt.NICPlugger.
func (d *Driver) NICs(ctx context.Context, id string) ([]virt.PluggedNIC, error) {
	result := make(chan []virt.PluggedNIC, 1)
	err := d.run(ctx, "list NICs of guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.domain(ctx, id, func(dom *lv.Domain) error {
			list, err := listNICs(dom)
			result <- list
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return <-result, nil
}

func listNICs(dom *lv.Domain) (list []virt.PluggedNIC, err error) {
	state, _, err := dom.GetState()
	if err != nil {
		return nil, err
	}
	if hasProcess(state) {
		live, err := parseDomain(dom, 0)
		if err != nil {
			return nil, err
		}
		for _, n := range interfaces(live) {
			list = append(list, virt.PluggedNIC{MAC: macOf(&n), Target: targetOf(&n), Live: true})
		}
	}
	persistent, err := dom.IsPersistent()
	if err != nil || !persistent {
		return list, err
	}
	defined, err := parseDomain(dom, lv.DOMAIN_XML_INACTIVE)
	if err != nil {
		return nil, err
	}
	for _, n := range interfaces(defined) {
		mac := macOf(&n)
		if at := slices.IndexFunc(list, func(p virt.PluggedNIC) bool { return p.MAC == mac }); at >= 0 {
			list[at].Defined = true
			continue
		}
		list = append(list, virt.PluggedNIC{MAC: mac, Target: targetOf(&n), Defined: true})
	}
	return list, nil
}

func targetOf(n *libvirtxml.DomainInterface) string {
	if n.Target == nil {
		return ""
	}
	return n.Target.Dev
}
