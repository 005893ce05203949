// Package router routes between the networks of a cloud and to the outside: a namespace for each router, in which addresses are
// translated and floating IPs lead to their ports.
package router

import "net/netip"

// Router is one router. Its namespace with its devices, their addresses and the routes, static ones and the default one by the gateway
// of the external subnet, is a network.Namespace with Forwarding; neutron.Plan makes both.
type Router struct {
	ID        string
	Namespace string
	// Outside is the device to the external network; empty for none. Inside are the others.
	Outside string
	Inside  []Inside
	// SNAT is the address of Outside with which all leaves that has no floating IP. Only of IPv4, and then nothing comes in but answers and
	// what is for a floating IP. With the zero Addr the inside networks are routed both ways, as Neutron does without enable_snat.
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

// FloatingIP leads from an address outside to one inside, and back. Only of IPv4. It is no address of the network.Namespace: Routers puts it
// on Outside, with a prefix of 32 bits, and tells the neighbours.
type FloatingIP struct{ Address, Fixed netip.Addr }
