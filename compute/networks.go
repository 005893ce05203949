package compute

import (
	"context"
	"errors"
	"slices"
	"strings"

	"compute-agent/neutron"
)

// CreateNetwork makes a network. Type, segment and MTU that it does not say are chosen. ErrConflict where another network has the
// segment, and above the project's quota.
func (s *NetworkService) CreateNetwork(ctx context.Context, n neutron.Network) (neutron.Network, error) {
	n.ID, n.Revision, n.Created = newID(), 1, s.now()
	n.Updated = n.Created
	err := s.change(ctx, func(tx Writer) error {
		if err := s.within(tx, ResourceNetwork, n.ProjectID); err != nil {
			return err
		}
		others, err := tx.Networks()
		if err != nil {
			return err
		}
		if err := s.opt.Provider.Complete(&n, others); err != nil {
			return err
		}
		if err := checkDefaultNetwork(n, others); err != nil {
			return err
		}
		return tx.PutNetwork(n)
	})
	return n, err
}

// checkDefaultNetwork lets there be one default external network.
func checkDefaultNetwork(n neutron.Network, all []neutron.Network) error {
	for _, o := range all {
		if n.Default && o.Default && o.ID != n.ID {
			return conflict("DefaultExternalNetworkExists", "a default external network already exists: %s", o.ID)
		}
	}
	return nil
}

// Network returns one network.
func (s *NetworkService) Network(ctx context.Context, id string) (neutron.Network, error) {
	return show(ctx, s, func(r Reader) (neutron.Network, error) { return networkOf(r, id) })
}

// Networks lists all networks, oldest first.
func (s *NetworkService) Networks(ctx context.Context) ([]neutron.Network, error) {
	return show(ctx, s, Reader.Networks)
}

// UpdateNetwork changes a network; what it is made of, its type and segment, stays. ErrConflict when others use what would go: ports of
// other projects its being shared, routers its being external.
func (s *NetworkService) UpdateNetwork(ctx context.Context, id string, change func(*neutron.Network) error) (n neutron.Network, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := networkOf(tx, id)
		if err != nil {
			return err
		}
		n = before
		if err := change(&n); err != nil {
			return err
		}
		if n.Type != before.Type || n.Physical != before.Physical || n.Segment != before.Segment {
			return invalidInput("provider:network_type", "a network's type, physical network and segment cannot be changed")
		}
		n.ID, n.ProjectID, n.Zone, n.Created = before.ID, before.ProjectID, before.Zone, before.Created
		n.Revision, n.Updated = before.Revision+1, s.now()
		if err := s.checkNetworkUpdate(tx, before, &n); err != nil {
			return err
		}
		return tx.PutNetwork(n)
	})
	return n, err
}

func (s *NetworkService) checkNetworkUpdate(tx Writer, before neutron.Network, n *neutron.Network) error {
	if err := s.opt.Provider.Check(n); err != nil {
		return err
	}
	subnets, err := tx.SubnetsOf(n.ID)
	if err != nil {
		return err
	}
	if err := n.CheckMTU(subnets); err != nil {
		return err
	}
	all, err := tx.Networks()
	if err != nil {
		return err
	}
	if err := checkDefaultNetwork(*n, all); err != nil {
		return err
	}
	ports, err := tx.PortsOn(n.ID)
	if err != nil {
		return err
	}
	for _, p := range ports {
		switch {
		case before.Shared && !n.Shared && p.ProjectID != n.ProjectID && p.ProjectID != "":
			return conflict("InvalidSharedSetting", "unable to reconfigure sharing settings for network %s: port %s is another project's", n.ID, p.ID)
		case before.External && !n.External && (p.DeviceOwner == neutron.OwnerGateway || p.DeviceOwner == neutron.OwnerFloatingIP):
			return conflict("ExternalNetworkInUse", "external network %s cannot be updated to be made non-external: port %s is a router's gateway or a floating IP", n.ID, p.ID)
		}
	}
	return nil
}

// DeleteNetwork removes a network with its subnets and its DHCP server. ErrConflict while other ports are on it.
func (s *NetworkService) DeleteNetwork(ctx context.Context, id string) error {
	return s.change(ctx, func(tx Writer) error {
		if _, err := networkOf(tx, id); err != nil {
			return err
		}
		ports, err := tx.PortsOn(id)
		if err != nil {
			return err
		}
		if users := usersOf(ports); users != "" {
			return conflict("NetworkInUse", "unable to complete operation on network %s: there are one or more ports still in use on the network: %s", id, users)
		}
		for _, p := range ports {
			if err := tx.DeletePort(p.ID); err != nil {
				return err
			}
		}
		subnets, err := tx.SubnetsOf(id)
		for _, sub := range subnets {
			err = errors.Join(err, tx.DeleteSubnet(sub.ID))
		}
		return errors.Join(err, tx.DeleteNetwork(id))
	})
}

// usersOf names the ports, and who has them, that are not just a DHCP server's.
func usersOf(ports []neutron.Port) string {
	const most = 5
	var users []string
	for _, p := range ports {
		switch {
		case p.DeviceOwner == neutron.OwnerDHCP:
		case len(users) == most:
			return strings.Join(append(users, "..."), ", ")
		case p.DeviceID != "":
			users = append(users, p.ID+" ("+p.DeviceOwner+" "+p.DeviceID+")")
		default:
			users = append(users, p.ID)
		}
	}
	return strings.Join(users, ", ")
}

func invalidInput(field, rule string) error {
	return &neutron.Error{Class: "InvalidInput", Kind: neutron.Invalid, Field: field, Rule: rule}
}

// CreateSubnet makes a subnet, and with a network's first one with DHCP the port of its DHCP server. Guests of its network get addresses
// of a subnet of SLAAC at once.
func (s *NetworkService) CreateSubnet(ctx context.Context, r neutron.SubnetRequest) (sub neutron.Subnet, err error) {
	r.ID, r.Revision, r.Created = newID(), 1, s.now()
	r.Updated = r.Created
	err = s.change(ctx, func(tx Writer) error {
		on, err := networkOf(tx, r.NetworkID)
		if err != nil {
			return err
		}
		if err := s.within(tx, ResourceSubnet, r.ProjectID); err != nil {
			return err
		}
		siblings, err := tx.SubnetsOf(on.ID)
		if err != nil {
			return err
		}
		if sub, err = r.Complete(on, siblings); err != nil {
			return err
		}
		if err := tx.PutSubnet(sub); err != nil {
			return err
		}
		if err := s.serveDHCP(tx, on); err != nil {
			return err
		}
		return s.addAutomatic(tx, sub)
	})
	return sub, err
}

// addAutomatic gives the ports of a network the addresses that their guests make themselves in a new subnet.
func (s *NetworkService) addAutomatic(tx Writer, sub neutron.Subnet) error {
	if !sub.Automatic() {
		return nil
	}
	ports, err := tx.PortsOn(sub.NetworkID)
	if err != nil {
		return err
	}
	for _, p := range ports {
		if p.DeviceOwner == neutron.OwnerDHCP || p.DeviceOwner == neutron.OwnerFloatingIP {
			continue // it has its address already, or needs none
		}
		if err := s.readdress(tx, p, p.FixedIPs); err != nil {
			return err
		}
	}
	return nil
}

// readdress stores a port with other addresses, if they are. None that are asked for is none, but for those that guests make themselves.
func (s *NetworkService) readdress(tx Writer, p neutron.Port, asked []neutron.FixedIP) error {
	book, err := s.addresses(tx, p)
	if err != nil {
		return err
	}
	ips, err := book.Change(p.FixedIPs, append([]neutron.FixedIP{}, asked...))
	if err != nil || slices.Equal(ips, p.FixedIPs) {
		return err
	}
	p.FixedIPs, p.Revision, p.Updated = ips, p.Revision+1, s.now()
	return portTaken(tx.PutPort(p), p)
}

// Subnet returns one subnet.
func (s *NetworkService) Subnet(ctx context.Context, id string) (neutron.Subnet, error) {
	return show(ctx, s, func(r Reader) (neutron.Subnet, error) { return subnetOf(r, id) })
}

func subnetOf(r Reader, id string) (neutron.Subnet, error) {
	sub, err := r.Subnet(id)
	return sub, missingRecord("SubnetNotFound", "subnet", id, err)
}

// Subnets lists all subnets, oldest first.
func (s *NetworkService) Subnets(ctx context.Context) ([]neutron.Subnet, error) {
	return show(ctx, s, Reader.Subnets)
}

// UpdateSubnet changes a subnet; its CIDR and how its guests come by IPv6 addresses stay. ErrConflict when a router has the gateway
// that would no longer be it.
func (s *NetworkService) UpdateSubnet(ctx context.Context, id string, change func(*neutron.Subnet) error) (sub neutron.Subnet, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := subnetOf(tx, id)
		if err != nil {
			return err
		}
		sub = before
		if err := change(&sub); err != nil {
			return err
		}
		if sub.CIDR != before.CIDR || sub.AddressMode != before.AddressMode || sub.RAMode != before.RAMode {
			return invalidInput("cidr", "a subnet's CIDR and its IPv6 modes cannot be changed")
		}
		sub.ID, sub.NetworkID, sub.ProjectID, sub.Created = before.ID, before.NetworkID, before.ProjectID, before.Created
		sub.Revision, sub.Updated = before.Revision+1, s.now()
		on, err := networkOf(tx, sub.NetworkID)
		if err != nil {
			return err
		}
		if err := sub.Check(on); err != nil {
			return err
		}
		if err := checkGatewayUse(tx, before, sub); err != nil {
			return err
		}
		if err := tx.PutSubnet(sub); err != nil {
			return err
		}
		return s.serveDHCP(tx, on)
	})
	return sub, err
}

func checkGatewayUse(r Reader, before, after neutron.Subnet) error {
	if before.Gateway == after.Gateway || !before.Gateway.IsValid() {
		return nil
	}
	ports, err := r.PortsOn(before.NetworkID)
	for _, p := range ports {
		if p.DeviceOwner == neutron.OwnerInterface && slices.Contains(p.FixedIPs, neutron.FixedIP{SubnetID: before.ID, Address: before.Gateway}) {
			return conflict("GatewayIpInUse", "current gateway ip %s already in use by port %s: unable to update", before.Gateway, p.ID)
		}
	}
	return err
}

// DeleteSubnet removes a subnet. ErrConflict while ports have addresses of it; those of DHCP servers and what guests make
// themselves go with it.
func (s *NetworkService) DeleteSubnet(ctx context.Context, id string) error {
	return s.change(ctx, func(tx Writer) error {
		sub, err := subnetOf(tx, id)
		if err != nil {
			return err
		}
		on, err := networkOf(tx, sub.NetworkID)
		if err != nil {
			return err
		}
		ports, err := tx.PortsOn(sub.NetworkID)
		if err != nil {
			return err
		}
		var users, leaving []neutron.Port
		for _, p := range ports {
			switch {
			case !hasAddressOf(p, id):
			case p.DeviceOwner == neutron.OwnerDHCP, sub.Automatic() && p.DeviceOwner != neutron.OwnerInterface && p.DeviceOwner != neutron.OwnerGateway:
				leaving = append(leaving, p)
			default:
				users = append(users, p)
			}
		}
		if len(users) > 0 {
			return conflict("SubnetInUse", "unable to complete operation on subnet %s: one or more ports have an IP allocation from this subnet: %s", id, usersOf(users))
		}
		for _, p := range leaving {
			p.FixedIPs = slices.DeleteFunc(slices.Clone(p.FixedIPs), func(ip neutron.FixedIP) bool { return ip.SubnetID == id })
			p.Revision, p.Updated = p.Revision+1, s.now()
			if err := tx.PutPort(p); err != nil {
				return err
			}
		}
		if err := tx.DeleteSubnet(id); err != nil {
			return err
		}
		return s.serveDHCP(tx, on)
	})
}

func hasAddressOf(p neutron.Port, subnetID string) bool {
	return slices.ContainsFunc(p.FixedIPs, func(ip neutron.FixedIP) bool { return ip.SubnetID == subnetID })
}

// serveDHCP makes, changes or removes the port of a network's DHCP server: there is one while a subnet has DHCP, with an address of
// each that has.
func (s *NetworkService) serveDHCP(tx Writer, on neutron.Network) error {
	subnets, err := tx.SubnetsOf(on.ID)
	if err != nil {
		return err
	}
	asked := []neutron.FixedIP{}
	for _, sub := range subnets {
		if sub.DHCP {
			asked = append(asked, neutron.FixedIP{SubnetID: sub.ID})
		}
	}
	servers, err := tx.PortsOf(dhcpDevice(on.ID))
	// Users name devices as they like.
	servers = slices.DeleteFunc(servers, func(p neutron.Port) bool { return p.DeviceOwner != neutron.OwnerDHCP || p.NetworkID != on.ID })
	switch {
	case err != nil:
		return err
	case len(servers) == 0 && len(asked) == 0:
		return nil
	case len(servers) == 0:
		_, err := s.makePort(tx, neutron.Port{
			ProjectID: on.ProjectID, AdminUp: true, DeviceID: dhcpDevice(on.ID), DeviceOwner: neutron.OwnerDHCP, VNICType: neutron.VNICNormal,
			Status: neutron.StatusActive, FixedIPs: asked,
		}, on)
		return err
	case len(asked) == 0:
		return tx.DeletePort(servers[0].ID)
	}
	return s.readdress(tx, servers[0], asked)
}

// dhcpDevice is the device ID of a network's DHCP server.
func dhcpDevice(networkID string) string { return "dhcp-" + networkID }
