// Package router routes between the networks of a cloud and to the outside: a namespace for each router, in which addresses are
// translated and floating IPs lead to their ports.
package router

import "net/netip"

// Router is one router. Its namespace with its devices is a network.Namespace with Forwarding.
type Router struct {
	ID        string
	Namespace string
	// Outside is the device to the external network; empty for none. Inside are the others.
	Outside string
	Inside  []Inside
	// SNAT is the address with which all leaves that has no floating IP; the zero Addr for none. Only of IPv4.
	SNAT        netip.Addr
	FloatingIPs []FloatingIP
}

// Inside is a device to a network of the cloud.
type Inside struct {
	Device string
	// Prefixes are the subnets that the router serves by it; of those in Advertise it sends router advertisements.
	Prefixes  []netip.Prefix
	Advertise []Advertisement
	MTU       int
}

// Advertisement is a prefix of which guests are told that the router is there.
type Advertisement struct {
	Prefix netip.Prefix
	// SLAAC lets guests make themselves an address; Managed and Other are the flags that send them to DHCPv6.
	SLAAC, Managed, Other bool
	DNS                   []netip.Addr
}

// FloatingIP leads from an address outside to one inside.
type FloatingIP struct{ Address, Fixed netip.Addr }
