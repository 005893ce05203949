// Package neutron is what a cloud's network service speaks of: networks, subnets, ports, security groups, routers and
// floating IPs, as OpenStack's network API has them, the rules about them, and what they ask of a host.
//
// All of it is pure. Records are kept by somebody else; what is decided here is which are possible, which address a port
// gets, and, with Plan, which links, filters, DHCP servers and routers a host must have for its ports.
package neutron

import (
	"net/netip"
	"strings"
	"time"

	"compute-agent/network"
	"compute-agent/network/firewall"
)

// Network is a network of the cloud.
type Network struct {
	ID          string
	ProjectID   string
	Name        string
	Description string
	AdminUp     bool
	Shared      bool // other projects may have ports on it
	External    bool // routers have their gateways on it (router:external)
	// PortSecurity is what its ports get that do not say.
	PortSecurity bool
	MTU          int
	Type         network.Type // provider:network_type
	Physical     string       // provider:physical_network: the operator's name of an interface; empty for vxlan and local
	Segment      int          // provider:segmentation_id: VLAN tag or VNI; 0 for none
	DNSDomain    string
	Default      bool // is_default, of an external network
	// Zone is the conntrack zone of its ports on a host: a number that no other network has for as long as it is there.
	Zone     uint16
	Tags     []string
	Revision int
	Created  time.Time
	Updated  time.Time
}

// Subnet is a range of addresses of a network.
type Subnet struct {
	ID          string
	NetworkID   string
	ProjectID   string
	Name        string
	Description string
	CIDR        netip.Prefix
	Gateway     netip.Addr // the zero Addr for none
	Pools       []Range    // of which ports get addresses, in order
	DNS         []netip.Addr
	Routes      []Route
	DHCP        bool
	// AddressMode and RAMode are ipv6_address_mode and ipv6_ra_mode: slaac, dhcpv6-stateful, dhcpv6-stateless or empty.
	AddressMode, RAMode IPv6Mode
	ServiceTypes        []string
	Tags                []string
	Revision            int
	Created             time.Time
	Updated             time.Time
}

// IPv6Mode is how guests come by their addresses.
type IPv6Mode string

// The modes, spelled as Neutron does.
const (
	SLAAC     IPv6Mode = "slaac"
	Stateful  IPv6Mode = "dhcpv6-stateful"
	Stateless IPv6Mode = "dhcpv6-stateless"
)

// Range is from First to Last, both included.
type Range struct{ First, Last netip.Addr }

// Route is a host route of a subnet or a static one of a router.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Port is an interface on a network: a guest's, a router's, a DHCP server's.
type Port struct {
	ID           string
	NetworkID    string
	ProjectID    string
	Name         string
	Description  string
	AdminUp      bool
	MAC          string // lower case, with colons
	FixedIPs     []FixedIP
	AddressPairs []AddressPair
	// PortSecurity off lets everything pass; the port then has no groups.
	PortSecurity   bool
	SecurityGroups []string // IDs
	DeviceID       string   // the server or router that has it; empty for nobody
	DeviceOwner    string
	VNICType       string // normal, macvtap, direct...; empty is normal
	VIFType        string // that it is bound with; empty is unbound
	DNSName        string
	ExtraDHCP      []DHCPOption
	// Made says that it was made for a server, and goes with it. Nova keeps that in its network info cache ("preserve on
	// delete" is its contrary).
	Made bool
	Tag  string // by which the server's user knows the device
	// Queues is how many its tap has, for a guest that spreads a NIC's work over its vCPUs (hw:vif_multiqueue_enabled); 0 is one.
	Queues int
	// Index is its place among the server's interfaces.
	Index    int
	Status   Status
	Tags     []string
	Revision int
	Created  time.Time
	Updated  time.Time
}

// Status of a port, router or floating IP, in Neutron's words.
type Status string

// The statuses.
const (
	StatusActive Status = "ACTIVE"
	StatusDown   Status = "DOWN"
	StatusBuild  Status = "BUILD"
	StatusError  Status = "ERROR"
	// StatusNone is that of a port which stands only for an address.
	StatusNone Status = "N/A"
)

// The device owners that mean something.
const (
	OwnerCompute    = "compute:nova"
	OwnerDHCP       = "network:dhcp"
	OwnerInterface  = "network:router_interface"
	OwnerGateway    = "network:router_gateway"
	OwnerFloatingIP = "network:floatingip"
)

// OfServer says whether a server has the port.
func (p *Port) OfServer() bool {
	return p.DeviceID != "" && strings.HasPrefix(p.DeviceOwner, "compute:")
}

// FixedIP is an address of a port.
type FixedIP struct {
	SubnetID string
	Address  netip.Addr
}

// AddressPair is an address that a port may use besides its own.
type AddressPair struct {
	Prefix netip.Prefix
	MAC    string // empty for the port's
}

// DHCPOption is an option that a port's guest is told.
type DHCPOption struct {
	Name  string // of dnsmasq, or a number
	Value string
	IPv6  bool
}

// SecurityGroup is a set of rules for ports.
type SecurityGroup struct {
	ID          string
	ProjectID   string
	Name        string
	Description string
	Stateless   bool
	Rules       []Rule // oldest first
	Tags        []string
	Revision    int
	Created     time.Time
	Updated     time.Time
}

// DefaultGroup is the name of the group that every project has, and ports that name none are in.
const DefaultGroup = "default"

// Rule lets traffic through.
type Rule struct {
	ID          string
	Description string
	Direction   firewall.Direction
	Ethertype   firewall.Ethertype
	Protocol    string // a name or number; empty for all
	// PortMin and PortMax are a range of ports, or ICMP's type and code; nil for all.
	PortMin, PortMax *int
	Remote           netip.Prefix // the zero Prefix for anybody
	RemoteGroup      string       // ID; not with Remote
	Revision         int
	Created          time.Time
	Updated          time.Time
}

// Router routes between networks.
type Router struct {
	ID          string
	ProjectID   string
	Name        string
	Description string
	AdminUp     bool
	// Gateway is the external network that it leads to, by GatewayPort; empty for none.
	Gateway     string
	GatewayPort string
	SNAT        bool // enable_snat: what has no floating IP leaves with the gateway port's address
	Routes      []Route
	Tags        []string
	Revision    int
	Created     time.Time
	Updated     time.Time
}

// FloatingIP is an address of an external network that leads to a port.
type FloatingIP struct {
	ID          string
	ProjectID   string
	Description string
	NetworkID   string // the external one
	Address     netip.Addr
	OwnPort     string // on the external network, which holds the address (network:floatingip)
	PortID      string // that it leads to; empty for none
	Fixed       netip.Addr
	RouterID    string // by which
	Tags        []string
	Revision    int
	Created     time.Time
	Updated     time.Time
}

// Records are all that there is.
type Records struct {
	Networks    []Network
	Subnets     []Subnet
	Ports       []Port
	Groups      []SecurityGroup
	Routers     []Router
	FloatingIPs []FloatingIP
}
