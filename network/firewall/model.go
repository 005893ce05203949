// Package firewall is what security groups, ports and their addresses mean in iptables, ipset and nftables: rule sets
// out of a State, what to change where others are loaded, and which connections to cut.
//
// The rules are Neutron's, of its iptables driver: a port's traffic passes if it is of a known connection or if
// a rule of one of its groups lets it, and in both cases only with the port's own addresses. A packet between two ports of the
// host passes the sender's rules and the receiver's. Three programs enforce them:
//
//   - iptables and ip6tables, tables filter and raw, see what is bridged (net.bridge.bridge-nf-call-iptables) and routed;
//   - ipset holds the members of remote groups, so that one who joins or leaves is one entry;
//   - nft, table bridge cagent, guards what iptables does not see: the sender's address of every frame, ARP, neighbour
//     advertisements, and frames with a VLAN tag, which would pass the filter unseen.
//
// What the host itself sends to a guest is not filtered, but with ProfileNova; what a guest sends to the host is.
//
// What is named cagent is the agent's own; all else is left alone.
package firewall

import (
	"net"
	"net/netip"
)

// State is all that the firewall of a host has to know. The zero State is no firewall at all: to apply it removes all
// that was loaded.
type State struct {
	Ports  []Port
	Groups []Group
	// Devices are others in bridges that keep VLANs apart: those that lead to DHCP servers and routers. What comes by them is of their VLAN, and
	// not filtered.
	Devices []Device
	// Closed are devices that nothing passes, whosever they are: those of which it is not known what may.
	Closed []string
	// Profile is whose rules the ports get.
	Profile Profile
	// Provider are Nova's provider rules: what they match is dropped before any group is asked. ProfileNova only.
	Provider []Rule
	// AsOpenStack leaves holes where Nova and Neutron do: a port without addresses of a family may use any of it
	// (Neutron), and nothing guards what a guest sends (Nova left that to libvirt's nwfilter). For
	// comparing; a host's own State has no use for it.
	AsOpenStack bool

	// closed are the IDs of ports that nothing passes, because what they ask for could not be loaded.
	closed map[string]bool
}

// Profile is a way to make rules of groups.
type Profile string

const (
	// ProfileNeutron denies both ways what no rule allows. It is the default.
	ProfileNeutron Profile = ""
	// ProfileNova is nova-network's: rules are for ingress, egress is open, a port's neighbours of the same network are let in.
	ProfileNova Profile = "nova"
)

// Port is a network interface of a guest.
type Port struct {
	ID string
	// Device is its network device on the host, such as a tap: at most 15 letters, digits, dots, dashes and underscores.
	Device string
	// Bridge is the bridge that the device is in. It may be empty; then what the host itself routes to the guest is
	// not filtered, and there are no zones.
	Bridge string
	// Zone is the conntrack zone of the port's network: networks with the same addresses need different ones. Zero is the zone
	// of the host, in which it can route for the network.
	Zone uint16
	// VLAN is that of the port's network in a Bridge that keeps VLANs apart: its tag on the wire, or 1 if it has none. It is zero in a
	// bridge that is its network's alone. Zone is then that of the VLAN. What comes with a tag is filtered only where net.bridge.bridge-nf-filter-vlan-tagged is 1.
	VLAN uint16
	MAC  net.HardwareAddr
	// FixedIPs are its addresses. With none at all it may use any, as long as the MAC is its own.
	FixedIPs []netip.Addr
	// AddressPairs may be used besides. What the host itself routes to the guest is filtered only if it is for a single address.
	AddressPairs []AddressPair
	// Unfiltered is a port whose port security is off: everything passes, both ways.
	Unfiltered bool
	// Groups are the IDs of its security groups. Without any nothing passes but what every port may.
	Groups []string
	// DHCPServers may answer the guest (UDP 67 to 68; 547 to 546).
	DHCPServers []netip.Addr
	// Routers may send router advertisements to the guest; with ProfileNova all ICMPv6.
	Routers []netip.Addr
	// SameNet is let in whatever the groups say: Nova's allow_same_net_traffic. ProfileNova only.
	SameNet []netip.Prefix
}

// Device is a network device of the host in a bridge that keeps VLANs apart, with its VLAN as a Port has it.
type Device struct {
	Name string
	VLAN uint16
}

// AddressPair is an address that a guest may use besides its fixed ones, such as a virtual router's.
type AddressPair struct {
	Prefix netip.Prefix
	MAC    net.HardwareAddr // nil for the port's own
}

// Group is a security group.
type Group struct {
	ID    string
	Rules []Rule
	// Stateless groups know no connections: what answers needs a rule too. A port's groups are all of one kind.
	Stateless bool
	// Members are the addresses of the group's ports, on all hosts, for rules that name it as RemoteGroup.
	Members []netip.Prefix
}

// Rule allows what matches all that it says.
type Rule struct {
	ID        string
	Direction Direction
	Ethertype Ethertype
	// Protocol is a name of Neutron's API ("tcp", "icmp", "vrrp"...) or a number from 0 to 255; empty, "any" and "0" are all.
	Protocol string
	// Ports and SourcePorts are for TCP, UDP, SCTP, DCCP and UDP-Lite.
	Ports, SourcePorts *PortRange
	// ICMPType and ICMPCode are for ICMP and ICMPv6; a code needs a type.
	ICMPType, ICMPCode *uint8
	// Remote is whom it is from (ingress) or to (egress); the zero Prefix is anybody.
	Remote netip.Prefix
	// RemoteGroup is the ID of a group whose members it is from or to. Not with Remote.
	RemoteGroup string
}

// Direction is as the guest sees it.
type Direction string

// The directions, spelled as Neutron does.
const (
	Ingress Direction = "ingress"
	Egress  Direction = "egress"
)

// Ethertype is a family of addresses.
type Ethertype string

// The ethertypes, spelled as Neutron does.
const (
	IPv4 Ethertype = "IPv4"
	IPv6 Ethertype = "IPv6"
)

// PortRange is from Min to Max, both included.
type PortRange struct{ Min, Max uint16 }

func (e Ethertype) of(a netip.Addr) bool { return a.Is4() == (e == IPv4) }

// pair is a MAC with what it may send from.
type pair struct {
	mac    net.HardwareAddr
	prefix netip.Prefix
}

// pairs are what the port may send from in a family: address pairs first, as in Neutron, then its own. An IPv6
// address brings the link-local one of its MAC.
func (p *Port) pairs(e Ethertype) []pair {
	var out []pair
	add := func(mac net.HardwareAddr, prefix netip.Prefix) {
		if !e.of(prefix.Addr()) {
			return
		}
		out = appendPair(out, pair{mac, prefix.Masked()})
		if e == IPv6 {
			out = appendPair(out, pair{mac, single(linkLocal(mac))})
		}
	}
	for _, a := range p.AddressPairs {
		mac := a.MAC
		if mac == nil {
			mac = p.MAC
		}
		add(mac, a.Prefix)
	}
	for _, ip := range p.FixedIPs {
		add(p.MAC, single(ip))
	}
	if len(p.FixedIPs) == 0 {
		out = append(out, pair{p.MAC, anyPrefix(e)})
	}
	return out
}

func appendPair(to []pair, p pair) []pair {
	for _, o := range to {
		if o.prefix == p.prefix && string(o.mac) == string(p.mac) {
			return to
		}
	}
	return append(to, p)
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func anyPrefix(e Ethertype) netip.Prefix {
	if e == IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// linkLocal is the IPv6 address that a guest makes of its MAC (EUI-64, RFC 4291).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	a := [16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
	return netip.AddrFrom16(a)
}
