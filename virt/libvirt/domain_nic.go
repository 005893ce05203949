package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

func renderNICs(d *libvirtxml.Domain, s *virt.Spec) {
	for i := range s.NICs {
		d.Devices.Interfaces = append(d.Devices.Interfaces, renderNIC(&s.NICs[i]))
	}
}

func renderNIC(n *virt.NIC) libvirtxml.DomainInterface {
	out := libvirtxml.DomainInterface{
		MAC:         &libvirtxml.DomainInterfaceMAC{Address: n.MAC},
		Source:      nicSource(&n.Attach),
		VirtualPort: virtualPort(&n.Attach),
		Driver:      nicDriver(n),
		Bandwidth:   bandwidth(n.Bandwidth),
		Alias:       alias(n.Alias),
		Boot:        bootOrder(n.Boot),
	}
	if n.Model != "" {
		out.Model = &libvirtxml.DomainInterfaceModel{Type: n.Model}
	}
	if n.Target != "" {
		out.Target = &libvirtxml.DomainInterfaceTarget{Dev: n.Target}
		if n.Attach.Existing {
			out.Target.Managed = "no"
		}
	}
	if n.MTU > 0 {
		out.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(n.MTU)}
	}
	if n.Attach.VLAN > 0 {
		out.VLan = &libvirtxml.DomainInterfaceVLan{Tags: []libvirtxml.DomainInterfaceVLanTag{{ID: uint(n.Attach.VLAN)}}}
	}
	if n.Attach.Type == "hostdev" {
		out.Managed = yesNo(n.Attach.Managed)
	}
	if n.DisableROM {
		out.ROM = &libvirtxml.DomainROM{Enabled: "no"}
	}
	return out
}

func nicSource(a *virt.Attachment) *libvirtxml.DomainInterfaceSource {
	switch a.Type {
	case "bridge":
		return &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: a.Bridge}}
	case "direct":
		return &libvirtxml.DomainInterfaceSource{Direct: &libvirtxml.DomainInterfaceSourceDirect{Dev: a.Device, Mode: a.Mode}}
	case "hostdev":
		return &libvirtxml.DomainInterfaceSource{Hostdev: &libvirtxml.DomainInterfaceSourceHostdev{
			PCI: &libvirtxml.DomainHostdevSubsysPCISource{Address: addressPCI(a.Address)},
		}}
	case "vhostuser":
		return &libvirtxml.DomainInterfaceSource{VHostUser: &libvirtxml.DomainInterfaceSourceVHostUser{
			Chardev: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: a.Mode, Path: a.Socket}},
		}}
	case "vdpa":
		return &libvirtxml.DomainInterfaceSource{VDPA: &libvirtxml.DomainInterfaceSourceVDPA{Device: a.Device}}
	}
	return &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}}
}

func virtualPort(a *virt.Attachment) *libvirtxml.DomainInterfaceVirtualPort {
	switch {
	case a.Port != "":
		return &libvirtxml.DomainInterfaceVirtualPort{Params: &libvirtxml.DomainInterfaceVirtualPortParams{
			OpenVSwitch: &libvirtxml.DomainInterfaceVirtualPortParamsOpenVSwitch{InterfaceID: a.Port},
		}}
	case a.Profile != "":
		return &libvirtxml.DomainInterfaceVirtualPort{Params: &libvirtxml.DomainInterfaceVirtualPortParams{
			VNTag8011QBH: &libvirtxml.DomainInterfaceVirtualPortParamsVNTag8021QBH{ProfileID: a.Profile},
		}}
	}
	return nil
}

// nicDriver leaves out who moves the packets of a vhost-user interface: it is the process at the socket.
func nicDriver(n *virt.NIC) *libvirtxml.DomainInterfaceDriver {
	out := libvirtxml.DomainInterfaceDriver{
		Queues: uint(n.Queues), RXQueueSize: uint(n.RxRing), TXQueueSize: uint(n.TxRing),
	}
	if n.Attach.Type != "vhostuser" {
		out.Name = n.Driver
	}
	if n.Packed {
		out.Packed = "on"
	}
	if (out == libvirtxml.DomainInterfaceDriver{}) {
		return nil
	}
	return &out
}

func bandwidth(b *virt.Bandwidth) *libvirtxml.DomainInterfaceBandwidth {
	if b == nil {
		return nil
	}
	return &libvirtxml.DomainInterfaceBandwidth{Inbound: rate(b.Inbound), Outbound: rate(b.Outbound)}
}

func rate(r virt.Rate) *libvirtxml.DomainInterfaceBandwidthParams {
	if r.Average == 0 {
		return nil
	}
	out := &libvirtxml.DomainInterfaceBandwidthParams{Average: &r.Average}
	if r.Peak > 0 {
		out.Peak = &r.Peak
	}
	if r.Burst > 0 {
		out.Burst = &r.Burst
	}
	return out
}
