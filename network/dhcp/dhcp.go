// Package dhcp gives guests their addresses: one dnsmasq for each network, in the network's own namespace.
package dhcp

import (
	"net"
	"net/netip"
)

// Server is the DHCP server of one network, and the sender of its router advertisements.
type Server struct {
	Network   string // ID
	Namespace string // that it runs in, which is there
	Device    string // in the namespace, that it serves
	Domain    string // that guests are told; empty for none
	MTU       int    // that guests are told; 0 for none
	Subnets   []Subnet
	Hosts     []Host
}

// Subnet is one of the network's.
type Subnet struct {
	ID      string
	CIDR    netip.Prefix
	Gateway netip.Addr // the zero Addr for none
	// Server is the address of Device in the subnet: that of the network's DHCP port. Guests find their metadata through it, and, of a
	// subnet without DNS, names. The zero Addr for none; then the subnet gets nothing.
	Server netip.Addr
	DNS    []netip.Addr
	Routes []Route
	// Addresses says that DHCP gives addresses of it; else guests get only the other options (stateless), or, of IPv4, nothing.
	Addresses bool
	// Advertise sends router advertisements: that guests make themselves addresses of the prefix (SLAAC). Only of IPv6.
	Advertise bool
	// SLAAC is whether they may.
	SLAAC bool
	// Router says that guests are to route through who advertises. Neutron's routers do that in their own namespace.
	Router bool
}

// Route is a route that guests are told (option 121).
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Host is a port that gets what it is given, and nothing else does.
type Host struct {
	Port      string // ID
	MAC       net.HardwareAddr
	Addresses []netip.Addr
	Name      string
	Options   []Option
}

// Option is one more that a port is told.
type Option struct {
	Name  string // of dnsmasq's list, or a number
	Value string
	IPv6  bool
}
