package compute

import (
	"context"
	"net/netip"

	"compute-agent/network/fabric"
	"compute-agent/neutron"
)

// NetworkReader reads the records of the network service. A single record that is not there is ErrNotFound. Lists come in the
// order of creation, oldest first.
type NetworkReader interface {
	Network(id string) (neutron.Network, error)
	Networks() ([]neutron.Network, error)
	Subnet(id string) (neutron.Subnet, error)
	Subnets() ([]neutron.Subnet, error)
	SubnetsOf(networkID string) ([]neutron.Subnet, error)
	Port(id string) (neutron.Port, error)
	Ports() ([]neutron.Port, error)
	// PortsOf lists the ports of a device: a server's in the order of Index.
	PortsOf(deviceID string) ([]neutron.Port, error)
	// PortsOn lists the ports on a network, PortsPlugged those of them with a VIF type, PortsIn those in a security group.
	PortsOn(networkID string) ([]neutron.Port, error)
	PortsPlugged(networkID, vif string) ([]neutron.Port, error)
	PortsIn(groupID string) ([]neutron.Port, error)
	// AddressesUsed counts the addresses of a network that its ports have, in a range.
	AddressesUsed(networkID string, within neutron.Range) (int, error)
	SecurityGroup(id string) (neutron.SecurityGroup, error)
	SecurityGroups() ([]neutron.SecurityGroup, error)
	SecurityGroupsOf(projectID string) ([]neutron.SecurityGroup, error)
	Router(id string) (neutron.Router, error)
	Routers() ([]neutron.Router, error)
	FloatingIP(id string) (neutron.FloatingIP, error)
	FloatingIPs() ([]neutron.FloatingIP, error)
	// FloatingIPsOf lists those that lead to a port.
	FloatingIPsOf(portID string) ([]neutron.FloatingIP, error)
	// Owned counts what a project has.
	Owned(what NetworkResource, projectID string) (int, error)
}

// NetworkResource is a kind of record that projects have a quota of, spelled as Neutron's quotas are.
type NetworkResource string

// The kinds. Rules are part of their groups.
const (
	ResourceNetwork       NetworkResource = "network"
	ResourceSubnet        NetworkResource = "subnet"
	ResourcePort          NetworkResource = "port"
	ResourceSecurityGroup NetworkResource = "security_group"
	ResourceRule          NetworkResource = "security_group_rule"
	ResourceRouter        NetworkResource = "router"
	ResourceFloatingIP    NetworkResource = "floatingip"
)

// NetworkWriter changes the records of the network service, as Writer does. What another record refers to cannot be deleted:
// ErrConflict. PutPort is ErrExists with the field at fault when another port of the network has the MAC or an address, PutSecurityGroup
// when the project has another one of the name DefaultGroup. What refers to a record that is not there is ErrNotFound.
type NetworkWriter interface {
	PutNetwork(neutron.Network) error
	DeleteNetwork(id string) error
	PutSubnet(neutron.Subnet) error
	DeleteSubnet(id string) error
	PutPort(neutron.Port) error
	DeletePort(id string) error
	PutSecurityGroup(neutron.SecurityGroup) error
	DeleteSecurityGroup(id string) error
	PutRouter(neutron.Router) error
	DeleteRouter(id string) error
	PutFloatingIP(neutron.FloatingIP) error
	DeleteFloatingIP(id string) error
}

// Fabric makes the host's links, filters, DHCP servers, routers and metadata service what is wanted; *fabric.Fabric is it.
type Fabric interface {
	// Apply may be called again at any time, also after a crash in the middle: it changes only what differs. What cannot be had of
	// one port or network leaves the others as they are wanted; the error then has a *fabric.PortError for each port that does not
	// work. A port whose filter could not be loaded lets nothing pass.
	Apply(ctx context.Context, want fabric.State) error
	// Resync makes the next Apply read what it else remembers of the host.
	Resync()
}

// RequestedNetwork is one interface that a new server is to have.
type RequestedNetwork struct {
	NetworkID string     // a port is made on it; or
	PortID    string     // this port is taken
	FixedIP   netip.Addr // of a port that is made; the zero Addr for any
	Tag       string     // by which the guest knows the device
}

// Networking is what a new server asks for beside a list of networks.
type Networking string

// The words of Nova's API.
const (
	NetworksListed Networking = ""     // those that are listed; none is none
	NetworksAuto   Networking = "auto" // the one network that the project can use; none if there is none
	NetworksNone   Networking = "none"
)
