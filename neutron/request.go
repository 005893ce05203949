package neutron

// SubnetRequest asks for a subnet. A CIDR is required.
type SubnetRequest struct {
	Subnet
	// NoGateway asks for none; else a zero Gateway gets the first address of the CIDR. Pools that are nil are all that is left.
	NoGateway bool
}

// PortRequest asks for a port. An empty MAC is made up. FixedIPs that are nil are one of an IPv4 and one of an IPv6 subnet, and what
// SLAAC gives; an entry may name a subnet, an address or both. SecurityGroups that are nil are the project's default one.
type PortRequest struct {
	Port
	// Secured is port_security_enabled; nil is the network's.
	Secured *bool
}

// RouterRequest asks for a router.
type RouterRequest struct {
	Router
	// GatewayIPs are the addresses of its gateway port: an entry may name a subnet, an address or both. None for any.
	GatewayIPs []FixedIP
	// Translate is enable_snat; nil is true.
	Translate *bool
}

// FloatingIPRequest asks for a floating IP. A zero Address is any of the external network's.
type FloatingIPRequest struct {
	FloatingIP
	SubnetID string // of the external network; empty for any
}
