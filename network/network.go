// Package network is what a host needs of links so that the ports of its guests reach their networks: bridges, VLANs,
// VXLANs, taps, macvtaps, and the physical interfaces below them; ports of Open vSwitch; virtual functions of interfaces; limits.
//
// Wanted turns networks and ports into a State, Read says what is there, Diff what to change, in order, and Apply does
// it. All of it may be repeated at any time: to apply twice changes nothing, to apply after a crash completes what was begun, and
// to apply the zero State takes everything away again. Keeper does that by itself when somebody changes a link by hand.
//
// The services of networks run in named network namespaces, each of whose devices is one end of a veth with the other in a bridge:
// Namespaces are given to Wanted too, and are made, repaired and taken away with the links.
//
// What the agent makes carries its mark, an alias that begins with "compute-agent:", before it has its name. What has
// no mark is never removed. A namespace's mark is the alias of its lo. A physical interface that becomes a bridge's gives the bridge its addresses and routes, and
// gets them back, as with Nova's and Neutron's ensure_bridge.
package network

import (
	"net"
	"net/netip"
)

// Type is how a network leaves the host. The names are Neutron's network types.
type Type string

// The types of networks.
const (
	Flat  Type = "flat"  // a bridge on a physical interface
	VLAN  Type = "vlan"  // a bridge on an 802.1Q device of a physical interface
	VXLAN Type = "vxlan" // a bridge on a VXLAN device
	Local Type = "local" // a bridge that leads nowhere
)

// Network is a network that has ports on the host.
type Network struct {
	ID   string // of Neutron; bridge names are made of its first 11 characters
	Type Type
	// Physical is the interface of a flat network or a VLAN, and optionally the one below a VXLAN.
	Physical string
	// VLAN is the tag, 1 to 4094.
	VLAN int
	// VNI is the identifier of a VXLAN, 1 to 16777215.
	VNI int
	// Local is the host's address of a VXLAN; none for the kernel's choice.
	Local netip.Addr
	// Peers are the other hosts of a VXLAN that knows them; Group is the multicast group of one that does not, and needs
	// Physical. One or the other.
	Peers []netip.Addr
	Group netip.Addr
	// UDPPort is a VXLAN's; 0 is 4789, IANA's and Neutron's.
	UDPPort int
	// MTU is in bytes; 0 is 1500, and for a VXLAN 1450 or, over IPv6, 1430.
	MTU int
	// Filtering puts a flat network or VLAN into the one VLAN-filtering bridge of its physical interface, which all such
	// networks share, instead of a bridge of its own. What has no tag on the wire is VLAN 1 in there, so no VLAN can be.
	Filtering bool
	// Bridge and Device replace the names that Neutron would give to the bridge (brq...) and to the VLAN's device
	// (eth0.100); Nova's own name for the latter was vlan100.
	Bridge, Device string
	// Addresses are the host's own in the network: those of a DHCP server, a gateway or the metadata service.
	Addresses []netip.Prefix
}

// Port is a network interface of a guest.
type Port struct {
	ID      string // of Neutron; the tap's name is made of its first 11 characters
	Network string // ID of its network; a tap needs none, and is then in no bridge, as Nova leaves it, and what is in Open vSwitch has none here
	MAC     net.HardwareAddr
	// VNIC and VIF are Neutron's binding: what the guest is to have, and what it is plugged into. An empty VNIC is normal.
	VNIC VNIC
	VIF  VIF
	// MTU is 0 for the network's.
	MTU int
	// Hybrid is a port of Open vSwitch's that has a Linux bridge before it, in which the firewall filters it: HybridBridgeName.
	Hybrid bool
	// Bridge is Open vSwitch's that the port is plugged into; empty for br-int.
	Bridge string
	// Server is the ID of the server whose port it is, for Open vSwitch's external_ids.
	Server string
	// Socket is vhost-user's, of which QEMU is the server.
	Socket string
	// PCI is the address of the device that the guest gets, such as 0000:81:00.1. VLAN is the tag that its frames have on the wire; 0
	// for none. It may change its MAC if it is Trusted, and send from others if there is NoSpoofCheck.
	PCI                   string
	VLAN                  int
	Trusted, NoSpoofCheck bool
	// QoS limits a port with a tap.
	QoS QoS
	// Queues of a tap; more than one make a multi-queue device.
	Queues int
	// Mode of a macvtap: bridge, private, vepa or passthru; empty for bridge.
	Mode string
}

// VNIC is a binding:vnic_type of Neutron.
type VNIC string

// The VNIC types that need links of the host.
const (
	VNICNormal  VNIC = "normal"
	VNICMacvtap VNIC = "macvtap"
	// VNICDirect is a virtual function, VNICPhysical a whole interface of the host.
	VNICDirect   VNIC = "direct"
	VNICPhysical VNIC = "direct-physical"
)

// VIF is a binding:vif_type of Neutron.
type VIF string

// The VIF types that need links of the host.
const (
	// VIFBridge is a tap that the hypervisor makes with the guest. While it is there it is in the network's bridge.
	VIFBridge VIF = "bridge"
	// VIFTap is a tap that is there before the guest and after it.
	VIFTap VIF = "tap"
	// VIFMacvtap is a macvtap above the network's physical interface or VLAN; such a network has no bridge.
	VIFMacvtap VIF = "macvtap"
	// VIFOVS is a tap in a bridge of Open vSwitch, or Hybrid. Neutron's agent or OVN gives it its network.
	VIFOVS VIF = "ovs"
	// VIFVHostUser is a port of Open vSwitch with DPDK that speaks to QEMU through a socket, and no link of the kernel's.
	VIFVHostUser VIF = "vhostuser"
	// VIFHardware is a virtual function of an interface of the host, with VNIC direct, or macvtap above it, which libvirt makes.
	VIFHardware VIF = "hw_veb"
	// VIFPhysical is a whole interface, which its guest gets as it is: there is nothing that the host could say of it.
	VIFPhysical VIF = "hostdev_physical"
	// VIFUnbound and VIFBindingFailed are ports that Neutron has no place for on this host.
	VIFUnbound       VIF = "unbound"
	VIFBindingFailed VIF = "binding_failed"
)
