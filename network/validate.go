package network

import (
	"errors"
	"fmt"
	"net/netip"
)

const (
	minMTU  = 68 // of IPv4
	minMTU6 = 1280
	maxMTU  = 65521 // of a tap
)

func (n *Network) validate() error {
	if !validID(n.ID) {
		return errors.New("id: letters, digits, dashes and underscores, at most 64")
	}
	if err := validMTU(n.MTU); err != nil {
		return err
	}
	if n.Bridge != "" && !validName(n.Bridge) {
		return fmt.Errorf("bridge: %.40q is no name of an interface", n.Bridge)
	}
	if n.Device != "" && (n.Type != VLAN || !validName(n.Device)) {
		return fmt.Errorf("device: %.40q is no name of a VLAN's interface", n.Device)
	}
	if err := n.validateType(); err != nil {
		return err
	}
	if err := n.validateFiltering(); err != nil {
		return err
	}
	return n.validateAddresses()
}

func (n *Network) validateType() error {
	if n.Type != VLAN && n.VLAN != 0 {
		return fmt.Errorf("vlan: a %s network has none", n.Type)
	}
	if n.Type != VXLAN && (n.VNI != 0 || n.Local.IsValid() || n.Group.IsValid() || len(n.Peers) > 0 || n.UDPPort != 0) {
		return fmt.Errorf("vni, local, peers, group, udp port: a %s network has none", n.Type)
	}
	switch n.Type {
	case Flat:
		return n.validatePhysical()
	case Local:
		if n.Physical != "" {
			return errors.New("physical: a local network has none")
		}
		return nil
	case VLAN:
		if n.VLAN < 1 || n.VLAN > 4094 {
			return fmt.Errorf("vlan: %d is not from 1 to 4094", n.VLAN)
		}
		return n.validatePhysical()
	case VXLAN:
		if n.Physical != "" {
			if err := n.validatePhysical(); err != nil {
				return err
			}
		}
		return n.validateVXLAN()
	default:
		return fmt.Errorf("type: %.40q is not flat, vlan, vxlan or local", n.Type)
	}
}

func (n *Network) validateFiltering() error {
	switch {
	case !n.Filtering:
		return nil
	case n.Type != Flat && n.Type != VLAN:
		return fmt.Errorf("filtering: a %s network has no VLAN-filtering bridge", n.Type)
	case n.VLAN == nativeVLAN:
		return fmt.Errorf("vlan: %d is, in a VLAN-filtering bridge, what has no tag", n.VLAN)
	case n.Device != "":
		return errors.New("device: a VLAN-filtering bridge needs none")
	case len(n.Addresses) > 0:
		return errors.New("addresses: a VLAN-filtering bridge has none of a network's")
	}
	return nil
}

func (n *Network) validatePhysical() error {
	if !validName(n.Physical) {
		return fmt.Errorf("physical: %.40q is no name of an interface", n.Physical)
	}
	return nil
}

func (n *Network) validateVXLAN() error {
	switch {
	case n.VNI < 1 || n.VNI > 1<<24-1:
		return fmt.Errorf("vni: %d is not from 1 to 16777215", n.VNI)
	case n.UDPPort < 0 || n.UDPPort > 65535:
		return fmt.Errorf("udp port: %d is not from 1 to 65535", n.UDPPort)
	case n.Group.IsValid() && len(n.Peers) > 0:
		return errors.New("group, peers: one or the other")
	case n.Group.IsValid() && !n.Group.IsMulticast():
		return fmt.Errorf("group: %s is not multicast", n.Group)
	case n.Group.IsValid() && n.Physical == "":
		return errors.New("group: it needs a physical interface")
	case n.Local.IsValid() && !host(n.Local):
		return fmt.Errorf("local: %s is no host's address", n.Local)
	}
	for _, p := range n.Peers {
		if !host(p) {
			return fmt.Errorf("peers: %s is no host's address", p)
		}
	}
	six := n.overIPv6()
	for _, a := range append([]netip.Addr{n.Local, n.Group}, n.Peers...) {
		if a.IsValid() && a.Is6() != six {
			return fmt.Errorf("local, group, peers: %s is of another family than the rest", a)
		}
	}
	return nil
}

// host says whether a is the address of one machine that others can send to.
func host(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6() && a.Zone() == ""
}

func (n *Network) validateAddresses() error {
	for i, a := range n.Addresses {
		if !a.IsValid() || !host(a.Addr()) {
			return fmt.Errorf("addresses: %s is no host's address", a)
		}
		if a.Addr().Is6() && n.mtu() < minMTU6 {
			return fmt.Errorf("addresses: %s needs an mtu of %d", a, minMTU6)
		}
		for _, b := range n.Addresses[:i] {
			if a.Addr() == b.Addr() {
				return fmt.Errorf("addresses: %s is there twice", a.Addr())
			}
		}
	}
	return nil
}

func validMTU(mtu int) error {
	if mtu != 0 && (mtu < minMTU || mtu > maxMTU) {
		return fmt.Errorf("mtu: %d is not from %d to %d", mtu, minMTU, maxMTU)
	}
	return nil
}

func (p *Port) validate() error {
	if !validID(p.ID) {
		return errors.New("id: letters, digits, dashes and underscores, at most 64")
	}
	if len(p.MAC) != 6 || p.MAC[0]&1 != 0 {
		return fmt.Errorf("mac: %.40q is no interface's address", p.MAC.String())
	}
	if err := validMTU(p.MTU); err != nil {
		return err
	}
	if p.Queues < 0 || p.Queues > 256 {
		return fmt.Errorf("queues: %d is not from 0 to 256", p.Queues)
	}
	if err := p.QoS.validate(); err != nil {
		return err
	}
	if err := p.validateBinding(); err != nil {
		return err
	}
	if p.QoS != (QoS{}) && (p.VIF == VIFMacvtap || p.VIF == VIFVHostUser) {
		return fmt.Errorf("qos: vif type %s has none", p.VIF)
	}
	if err := p.validateSwitch(); err != nil {
		return err
	}
	return p.validateFunction()
}

func (p *Port) validateBinding() error {
	vnic := VNICNormal
	switch p.VIF {
	case VIFBridge, VIFTap, VIFOVS, VIFVHostUser:
	case VIFMacvtap:
		vnic = VNICMacvtap
	case VIFHardware:
		if vnic = VNICDirect; p.VNIC == VNICMacvtap {
			vnic = VNICMacvtap
		}
	case VIFPhysical:
		vnic = VNICPhysical
	case VIFUnbound, VIFBindingFailed:
		return fmt.Errorf("vif type: %s: Neutron has not bound the port to this host", p.VIF)
	default:
		return fmt.Errorf("vif type: %.40q is not bridge, tap, macvtap, ovs, vhostuser, hw_veb or hostdev_physical", p.VIF)
	}
	if got := p.VNIC; got != vnic && (got != "" || vnic != VNICNormal) {
		return fmt.Errorf("vnic type: %.40q: vif type %s needs %s", got, p.VIF, vnic)
	}
	switch p.Mode {
	case "":
	case "bridge", "private", "vepa", "passthru":
		if p.VIF != VIFMacvtap {
			return fmt.Errorf("mode: a %s has none", p.VIF)
		}
	default:
		return fmt.Errorf("mode: %.40q is not bridge, private, vepa or passthru", p.Mode)
	}
	return nil
}
