package compute

import (
	"context"
	"errors"
	"slices"

	"compute-agent/network"
	"compute-agent/neutron"
)

// CreatePort makes a port that nothing has yet.
func (s *NetworkService) CreatePort(ctx context.Context, r neutron.PortRequest) (p neutron.Port, err error) {
	err = s.change(ctx, func(tx Writer) error {
		on, err := networkOf(tx, r.NetworkID)
		if err != nil {
			return err
		}
		p = r.Port
		p.PortSecurity = on.PortSecurity
		if r.Secured != nil {
			p.PortSecurity = *r.Secured
		}
		if p.VNICType == "" {
			p.VNICType = neutron.VNICNormal
		}
		p.Status, p.VIFType, p.Made, p.Tag, p.Index = neutron.StatusDown, "", false, "", 0
		if err := p.Check(); err != nil {
			return err
		}
		if err := checkDevice(tx, p); err != nil {
			return err
		}
		p, err = s.makePort(tx, p, on)
		return err
	})
	return p, err
}

// checkDevice keeps users from saying that a port is a server's or the cloud's own: a port becomes a server's when it is attached to it.
func checkDevice(r Reader, p neutron.Port) error {
	if neutron.IsServicePort(p.DeviceOwner) {
		return conflict("UnsupportedPortDeviceOwner", "device_owner %s is not for ports that users make", p.DeviceOwner)
	}
	if p.DeviceID == "" {
		return nil
	}
	for _, known := range []func() error{
		func() error { _, err := r.Server(p.DeviceID); return err },
		func() error { _, err := r.Router(p.DeviceID); return err },
	} {
		err := known()
		if err == nil {
			return conflict("DeviceIDNotOwnedByTenant", "device_id %s is a server or a router: attach the port to it instead", p.DeviceID)
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// Port returns one port.
func (s *NetworkService) Port(ctx context.Context, id string) (neutron.Port, error) {
	return show(ctx, s, func(r Reader) (neutron.Port, error) { return portOf(r, id) })
}

func portOf(r Reader, id string) (neutron.Port, error) {
	p, err := r.Port(id)
	return p, missingRecord("PortNotFound", "port", id, err)
}

// Ports lists all ports, oldest first.
func (s *NetworkService) Ports(ctx context.Context) ([]neutron.Port, error) {
	return show(ctx, s, Reader.Ports)
}

// UpdatePort changes a port. Of one that a server has, the MAC, the VNIC type and the device stay: ErrConflict, as Neutron's PortBound.
// The host follows a change of addresses, pairs, groups and port security.
func (s *NetworkService) UpdatePort(ctx context.Context, id string, change func(*neutron.Port) error) (p neutron.Port, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := portOf(tx, id)
		if err != nil {
			return err
		}
		p = before
		if err := change(&p); err != nil {
			return err
		}
		p.ID, p.NetworkID, p.ProjectID, p.Created, p.Made = before.ID, before.NetworkID, before.ProjectID, before.Created, before.Made
		p.VIFType, p.Status, p.Tag, p.Index = before.VIFType, before.Status, before.Tag, before.Index
		p.Revision, p.Updated = before.Revision+1, s.now()
		if err := s.checkPortUpdate(tx, before, &p); err != nil {
			return err
		}
		if err := s.changeAddresses(tx, before, &p); err != nil {
			return err
		}
		return portTaken(tx.PutPort(p), p)
	})
	return p, err
}

func (s *NetworkService) checkPortUpdate(tx Writer, before neutron.Port, p *neutron.Port) error {
	if p.MAC == "" {
		p.MAC = before.MAC
	}
	if err := p.Check(); err != nil {
		return err
	}
	if err := checkMoved(tx, before, *p); err != nil {
		return err
	}
	if p.VIFType == string(network.VIFMacvtap) && p.PortSecurity {
		return conflict("PortBound", "port %s is a macvtap of server %s, and what goes through one cannot be filtered", p.ID, p.DeviceID)
	}
	if before.PortSecurity && !p.PortSecurity && slices.Equal(p.SecurityGroups, before.SecurityGroups) && isDefaultOnly(tx, p.SecurityGroups) {
		p.SecurityGroups = nil // it got them without being asked
	}
	return checkGroups(tx, *p)
}

// checkMoved says whether a port may become another device's.
func checkMoved(r Reader, before, p neutron.Port) error {
	moved := p.MAC != before.MAC || p.VNICType != before.VNICType || p.DeviceID != before.DeviceID || p.DeviceOwner != before.DeviceOwner
	service := neutron.IsServicePort(before.DeviceOwner)
	switch {
	case service && (moved || len(p.SecurityGroups) > 0 || p.PortSecurity):
		return conflict("UnsupportedPortDeviceOwner", "port %s, of %s, keeps its MAC, VNIC type and device, and has no filter", p.ID, before.DeviceOwner)
	case moved && before.VIFType != "":
		return conflict("PortBound", "unable to complete operation on port %s: it is bound to server %s, so its MAC, VNIC type and device cannot be changed", p.ID, before.DeviceID)
	case moved:
		return checkDevice(r, p)
	}
	return nil
}

// isDefaultOnly says whether a port's only group is a default one.
func isDefaultOnly(r Reader, groups []string) bool {
	if len(groups) != 1 {
		return false
	}
	g, err := r.SecurityGroup(groups[0])
	return err == nil && g.Name == neutron.DefaultGroup
}

// changeAddresses gives a port the addresses that are now asked for. One that a floating IP leads to stays.
func (s *NetworkService) changeAddresses(tx Writer, before neutron.Port, p *neutron.Port) error {
	asked := p.FixedIPs
	if asked == nil {
		asked = []neutron.FixedIP{}
	}
	if slices.Equal(asked, before.FixedIPs) && p.MAC == before.MAC && p.DeviceOwner == before.DeviceOwner {
		return nil
	}
	if neutron.IsServicePort(before.DeviceOwner) {
		return conflict("IPAddressChangeNotAllowed", "the addresses of port %s, of %s, cannot be changed directly", p.ID, before.DeviceOwner)
	}
	book, err := s.addresses(tx, *p)
	if err != nil {
		return err
	}
	if p.MAC != before.MAC {
		asked = withoutAutomatic(asked, book.Subnets)
	}
	if p.FixedIPs, err = book.Change(before.FixedIPs, asked); err != nil {
		return err
	}
	floating, err := tx.FloatingIPsOf(p.ID)
	for _, f := range floating {
		if !slices.ContainsFunc(p.FixedIPs, func(ip neutron.FixedIP) bool { return ip.Address == f.Fixed }) {
			return conflict("FipAssociated", "unable to complete the operation on port %s because floating IP %s leads to its address %s", p.ID, f.Address, f.Fixed)
		}
	}
	return err
}

// withoutAutomatic leaves out what follows from the MAC.
func withoutAutomatic(ips []neutron.FixedIP, subnets []neutron.Subnet) []neutron.FixedIP {
	return slices.DeleteFunc(slices.Clone(ips), func(ip neutron.FixedIP) bool {
		return slices.ContainsFunc(subnets, func(sub neutron.Subnet) bool { return sub.ID == ip.SubnetID && sub.Automatic() })
	})
}

// DeletePort removes a port. ErrConflict for one that a server, a router or a DHCP server has: Neutron deletes a server's port and has Nova
// detach it; here it is detached first, so that no guest keeps a device behind which there is nothing.
func (s *NetworkService) DeletePort(ctx context.Context, id string) error {
	return s.change(ctx, func(tx Writer) error {
		p, err := portOf(tx, id)
		switch {
		case err != nil:
			return err
		case neutron.IsServicePort(p.DeviceOwner):
			return conflict("ServicePortInUse", "port %s cannot be deleted directly via the port API: it has device owner %s", p.ID, p.DeviceOwner)
		case p.VIFType != "":
			return conflict("PortInUse", "unable to complete operation on port %s: it is attached to server %s; detach it there", p.ID, p.DeviceID)
		}
		return s.dropPort(tx, p)
	})
}
