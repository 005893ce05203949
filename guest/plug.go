package guest

import (
	"cmp"

	"compute-agent/virt"
)

// plug is what an interface is plugged into on the host.
type plug struct {
	virt.Attachment
	target string // the interface on the host; empty for the hypervisor's choice
	// limited says that the hypervisor can limit its bandwidth.
	limited bool
}

// plugs are the ways of plugging a port by the type of its binding, as Nova and os-vif have them.
var plugs = map[string]func(*Port) (plug, error){
	"bridge":     plugBridge,
	"ovs":        plugOVS,
	"agilio_ovs": plugAgilio,
	"ivs":        plugIVS,
	"vrouter":    plugVRouter,
	"vhostuser":  plugVhostUser,
	"hw_veb":     plugFunction,
	"802.1qbh":   plugQbh,
	"macvtap":    plugMacvtap,
	"tap":        plugTap,
	"midonet":    plugTap,
	"iovisor":    plugIOVisor,
}

func plugOf(p *Port) (plug, error) {
	how, known := plugs[p.VIFType]
	switch {
	case known:
		return how(p)
	case p.VIFType == "" || p.VIFType == "unbound" || p.VIFType == "binding_failed":
		return plug{}, failed("InternalError", "binding:vif_type", p.VIFType, "port %s is not bound to this host", p.ID)
	}
	class := "NovaException"
	if p.VIFType == "dvs" { // VMware's
		class = "InternalError"
	}
	return plug{}, failed(class, "binding:vif_type", p.VIFType, "port %s: guests cannot be plugged into that", p.ID)
}

func toBridge(p *Port, bridge string) plug {
	return plug{Attachment: virt.Attachment{Type: "bridge", Bridge: bridge}, target: p.tap(), limited: true}
}

// toTap is a tap that somebody else plugs in.
func toTap(p *Port) plug {
	return plug{Attachment: virt.Attachment{Type: "ethernet"}, target: p.tap(), limited: true}
}

func toFunction(p *Port) plug {
	return plug{Attachment: virt.Attachment{Type: "hostdev", Address: p.PCISlot, Managed: true}}
}

// hybridBridge is the Linux bridge of a port whose filter is in front of Open vSwitch.
func (p *Port) hybridBridge() string { return p.named("qbr") }

func plugBridge(p *Port) (plug, error) { return toBridge(p, p.Bridge), nil }

func plugOVS(p *Port) (plug, error) {
	switch p.VNICType {
	case "direct", "remote-managed":
		return toFunction(p), nil
	case "vdpa":
		return plug{Attachment: virt.Attachment{Type: "vdpa", Device: p.PhysDev}}, nil
	}
	switch {
	case p.Details.Hybrid:
		return toBridge(p, p.hybridBridge()), nil
	case p.Details.CreateTap:
		return existingTap(toTap(p)), nil
	case p.Delegated:
		return toTap(p), nil
	}
	pl := toBridge(p, p.Bridge)
	pl.Port = cmp.Or(p.Details.InterfaceID, p.ID)
	return pl, nil
}

// existingTap is a tap that is there before the guest and stays after it.
func existingTap(p plug) plug {
	p.Existing = true
	return p
}

func plugAgilio(p *Port) (plug, error) {
	switch p.VNICType {
	case "direct":
		return toFunction(p), nil
	case "virtio-forwarder":
		return toSocket(p, p.tap())
	}
	return plugOVS(p)
}

func plugIVS(p *Port) (plug, error) {
	if p.Details.Hybrid {
		return toBridge(p, p.hybridBridge()), nil
	}
	return toTap(p), nil
}

func plugVRouter(p *Port) (plug, error) {
	switch p.VNICType {
	case "direct":
		return toFunction(p), nil
	case "virtio-forwarder":
		return toSocket(p, p.tap())
	}
	return toTap(p), nil
}

func plugVhostUser(p *Port) (plug, error) {
	name := p.tap()
	if p.Details.VhostUserOVS && !p.Details.VhostUserFP {
		name = p.named("vhu")
	}
	return toSocket(p, name)
}

func toSocket(p *Port, name string) (plug, error) {
	if p.Details.Socket == "" {
		return plug{}, failed("VifDetailsMissingVhostuserSockPath", "vhostuser_socket", "", "port %s: its binding names no socket", p.ID)
	}
	a := virt.Attachment{Type: "vhostuser", Socket: p.Details.Socket, Mode: cmp.Or(p.Details.SocketMode, "server")}
	return plug{Attachment: a, target: name}, nil
}

// plugFunction is a virtual function whose card does the switching: the guest gets it, or a macvtap on it.
func plugFunction(p *Port) (plug, error) {
	pl := toFunction(p)
	if p.VNICType != "direct" && p.VNICType != "accelerator-direct" {
		pl = onFunction(p)
	}
	pl.VLAN = p.Details.VLAN
	return pl, nil
}

func onFunction(p *Port) plug {
	return plug{Attachment: virt.Attachment{Type: "direct", Device: p.PhysDev, Mode: "passthrough"}, limited: true}
}

func plugQbh(p *Port) (plug, error) {
	pl := toFunction(p)
	if p.VNICType != "direct" {
		pl = onFunction(p)
	}
	pl.Profile = p.Details.ProfileID
	return pl, nil
}

func plugMacvtap(p *Port) (plug, error) {
	for name, value := range map[string]string{
		"macvtap_source": p.Details.MacvtapSource, "macvtap_mode": p.Details.MacvtapMode, "physical_interface": p.Details.PhysicalDevice,
	} {
		if value == "" {
			return plug{}, failed("VifDetailsMissingMacvtapParameters", name, "", "port %s: its binding lacks macvtap_source, macvtap_mode or physical_interface", p.ID)
		}
	}
	return plug{Attachment: virt.Attachment{Type: "direct", Device: p.Details.MacvtapSource, Mode: p.Details.MacvtapMode}, limited: true}, nil
}

// plugTap is a tap that the network's own agent plugs in; it limits the bandwidth too.
func plugTap(p *Port) (plug, error) {
	pl := toTap(p)
	pl.Existing = p.VIFType == "tap"
	pl.limited = false
	return pl, nil
}

func plugIOVisor(p *Port) (plug, error) { return toTap(p), nil }
