package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Namespace is a network namespace of the host in which a service of networks runs: a DHCP server with the metadata service
// (qdhcp-...), or a router (qrouter-...), as Neutron has them. What is in it reaches nothing of the host but through its devices.
type Namespace struct {
	Name string // below /run/netns
	// Forwarding routes packets between the devices.
	Forwarding bool
	Devices    []Device
}

// Device is an interface in a namespace: one end of a veth, the other end of which is in a network's bridge, called TapName.
type Device struct {
	Port    string // ID of Neutron
	Network string // ID of the network whose bridge it is plugged into
	Name    string // in the namespace: ns-..., qr-... or qg-... with the first 11 characters of the port's ID
	MAC     net.HardwareAddr
	MTU     int // 0 for the network's
	// Addresses are its own. Beside them the IPv6 link-local address of its MAC is there, and IPv4 addresses with a prefix of 32 bits are
	// left alone: package router puts floating IPs there and takes them away. Any other is taken away.
	Addresses []netip.Prefix
	// Routes are those through it: To, Via and Metric; Via may be off the device's subnets. Any other is taken away, but the kernel's own.
	Routes []Route
}

const (
	routeStatic  = 4    // RTPROT_STATIC
	routeMetric6 = 1024 // what the kernel gives an IPv6 route that says none
)

// link is the device as it is wanted, at the other end of the host's link.
func (d *Device) link(host string, mtu int) Link {
	l := Link{
		Name: d.Name, Shape: Shape{Kind: KindVeth, Parent: host}, Up: true, MTU: mtu, MAC: d.MAC.String(), Addresses: sorted(d.Addresses),
	}
	if own := netip.PrefixFrom(LinkLocal(d.MAC), 64); mtu >= minMTU6 && !slices.Contains(l.Addresses, own) {
		l.Addresses = append(l.Addresses, own)
	}
	for _, r := range d.Routes {
		r = Route{To: r.To.Masked(), Via: r.Via, Metric: r.Metric, Table: mainTable, Protocol: routeStatic}
		if r.To.Addr().Is6() && r.Metric == 0 {
			r.Metric = routeMetric6
		}
		l.Routes = append(l.Routes, r)
	}
	return l
}

// LinkLocal is the IPv6 link-local address that is made of a MAC (EUI-64, RFC 4291).
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

func (d *Device) validate() error {
	if !validID(d.Port) {
		return errors.New("port: letters, digits, dashes and underscores, at most 64")
	}
	if !validName(d.Name) || d.Name == "lo" {
		return fmt.Errorf("name: %.40q is no name of an interface", d.Name)
	}
	if len(d.MAC) != 6 || d.MAC[0]&1 != 0 {
		return fmt.Errorf("mac: %.40q is no interface's address", d.MAC.String())
	}
	if err := validMTU(d.MTU); err != nil {
		return err
	}
	for i, a := range d.Addresses {
		if !a.IsValid() || !host(a.Addr()) {
			return fmt.Errorf("addresses: %s is no host's address", a)
		}
		if slices.Contains(d.Addresses[:i], a) {
			return fmt.Errorf("addresses: %s is there twice", a)
		}
	}
	for _, r := range d.Routes {
		if !r.To.IsValid() || r.Via.IsValid() && (!host(r.Via) || r.Via.Is4() != r.To.Addr().Is4()) {
			return fmt.Errorf("routes: to %s by %s is no route", r.To, r.Via)
		}
	}
	return nil
}
