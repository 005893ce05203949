package guest

import "net/netip"

// Port is a network port of the server as the network service has bound it.
type Port struct {
	ID       string // UUID
	MAC      string
	VNICType string // normal, direct, macvtap, direct-physical, virtio-forwarder, vdpa, remote-managed; empty for normal
	VIFType  string // bridge, ovs, vhostuser, hw_veb, hostdev_physical, 802.1qbh, tap, macvtap...
	Bridge   string // bridge, ovs: its name
	Device   string // name of the tap on the host (devname); empty for what is made of the port's ID
	MTU      int    // 0 leaves it alone
	// Delegated says that the agent plugs the tap into Open vSwitch (delegate_create). Else libvirt does.
	Delegated bool
	Details   PortDetails

	PCISlot string // address of the function that the port got: 0000:81:10.1
	// PhysDev is macvtap: the host's interface for the function; vdpa: the path of the device.
	PhysDev   string
	Addresses []netip.Addr
	Alias     string // a user's tag for the device that begins with ua-; empty for none
}

// PortDetails is what a binding says beside its type (binding:vif_details).
type PortDetails struct {
	Hybrid          bool   // ovs_hybrid_plug: a Linux bridge with the filter lies between guest and Open vSwitch
	CreateTap       bool   // ovs_create_tap: the tap is there before the guest
	InterfaceID     string // Open vSwitch's name for the port (ovs_interfaceid); empty for the port's ID
	VLAN            int    // vlan; 0 for none
	ProfileID       string // profileid of 802.1Qbh
	MacvtapSource   string // macvtap_source
	MacvtapMode     string // macvtap_mode
	PhysicalDevice  string // physical_interface
	Socket          string // vhostuser_socket
	SocketMode      string // vhostuser_mode: client or server, as the guest's side has it; empty for server
	VhostUserOVS    bool   // vhostuser_ovs_plug
	VhostUserFP     bool   // vhostuser_fp_plug
	VhostUserRouter bool   // vhostuser_vrouter_plug
}

// nicNameLen is Nova's length of the names that it makes for interfaces on the host.
const nicNameLen = 14

func (p *Port) named(prefix string) string {
	name := prefix + p.ID
	return name[:min(len(name), nicNameLen)]
}

// tap is the port's interface on the host.
func (p *Port) tap() string {
	if p.Device != "" {
		return p.Device
	}
	return p.named("nic")
}
