package guest

import (
	"net/netip"
)

// Port is a network port of the server as the network service has bound it.
type Port struct {
	ID       string // UUID
	MAC      string
	VNICType string // normal, direct, macvtap, direct-physical, virtio-forwarder, vdpa...
	VIFType  string // bridge, ovs, vhostuser, hw_veb, hostdev_physical, 802.1qbh, tap, macvtap...
	Bridge   string // bridge or ovs: its name
	Device   string // name of the tap on the host; empty for what is made of the port's ID
	MTU      int    // 0 leaves it alone
	Details  PortDetails

	PCISlot   string // address of the function that the port got: 0000:81:10.1
	PhysDev   string // macvtap: the host's interface for the function
	Addresses []netip.Addr
	Alias     string // a user's tag for the device that begins with ua-; empty for none
	Boot      int    // position in the boot order from 1; 0 for none
}

// PortDetails is what a binding says beside its type (binding:vif_details).
type PortDetails struct {
	Hybrid         bool   // ovs_hybrid_plug: a Linux bridge with the filter lies between guest and Open vSwitch
	PortFilter     bool   // port_filter: somebody else filters the port
	InterfaceID    string // Open vSwitch's name for the port; empty for the port's ID
	VLAN           int    // vlan; 0 for none
	ProfileID      string // profileid of 802.1Qbh
	MacvtapSource  string // macvtap_source
	MacvtapMode    string // macvtap_mode
	Socket         string // vhostuser_socket
	SocketMode     string // vhostuser_mode: client or server, as the guest's side has it
	VhostUserOVS   bool   // vhostuser_ovs_plug
	PhysicalDevice string // physical_interface
}
