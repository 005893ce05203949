package compute

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"compute-agent/neutron"
)

// CreateFloatingIP takes an address of an external network, and leads it to a port if one is named.
func (s *NetworkService) CreateFloatingIP(ctx context.Context, req neutron.FloatingIPRequest) (f neutron.FloatingIP, err error) {
	f = req.FloatingIP
	f.ID, f.Revision, f.Created, f.OwnPort, f.RouterID = newID(), 1, s.now(), "", ""
	f.Updated = f.Created
	err = s.change(ctx, func(tx Writer) error {
		if err := f.Check(); err != nil {
			return err
		}
		if err := s.within(tx, ResourceFloatingIP, f.ProjectID); err != nil {
			return err
		}
		if err := s.takeAddress(tx, &f, req.SubnetID); err != nil {
			return err
		}
		if err := associate(tx, &f); err != nil {
			return err
		}
		return tx.PutFloatingIP(f)
	})
	return f, err
}

// takeAddress makes the port on the external network that holds the floating IP's address.
func (s *NetworkService) takeAddress(tx Writer, f *neutron.FloatingIP, subnetID string) error {
	on, err := networkOf(tx, f.NetworkID)
	if err != nil {
		return err
	}
	if !on.External {
		return badRequest("network %s is not a valid external network", on.ID)
	}
	p := neutron.Port{DeviceID: f.ID, DeviceOwner: neutron.OwnerFloatingIP, VNICType: neutron.VNICNormal, AdminUp: true}
	if f.Address.IsValid() || subnetID != "" {
		p.FixedIPs = []neutron.FixedIP{{SubnetID: subnetID, Address: f.Address}}
	}
	if p, err = s.makePort(tx, p, on); err != nil {
		return err
	}
	if len(p.FixedIPs) == 0 || !p.FixedIPs[0].Address.Is4() {
		return &neutron.Error{Class: "ExternalIpAddressExhausted", Kind: neutron.Invalid, Rule: "unable to find any IP address on external network " + on.ID}
	}
	f.OwnPort, f.Address = p.ID, p.FixedIPs[0].Address
	return nil
}

// associate finds the address and the router for the port that a floating IP names; none for none.
func associate(tx Reader, f *neutron.FloatingIP) error {
	if f.PortID == "" {
		f.Fixed, f.RouterID = netip.Addr{}, ""
		return nil
	}
	p, err := portOf(tx, f.PortID)
	if err != nil {
		return err
	}
	if p.ProjectID != f.ProjectID {
		return badRequest("cannot process floating IP association with port %s, since that port is owned by a different project", p.ID)
	}
	ip, err := neutron.FixedFor(p, f.Fixed)
	if err != nil {
		return err
	}
	others, err := tx.FloatingIPsOf(p.ID)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.ID != f.ID && o.Fixed == ip.Address && o.NetworkID == f.NetworkID {
			return conflict("FloatingIPPortAlreadyAssociated", "cannot associate floating IP %s with port %s using fixed IP %s, as that fixed IP already has floating IP %s",
				f.Address, p.ID, ip.Address, o.Address)
		}
	}
	f.Fixed = ip.Address
	f.RouterID, err = routerBetween(tx, f.NetworkID, ip.SubnetID)
	if err == nil && f.RouterID == "" {
		return missingRecord("ExternalGatewayForFloatingIPNotFound",
			"a router from subnet "+ip.SubnetID+" of port "+p.ID+" to external network", f.NetworkID, ErrNotFound)
	}
	return err
}

// routerBetween is a router from an external network to a subnet, rather one that has the subnet's gateway address; empty if there
// is none.
func routerBetween(tx Reader, external, subnetID string) (string, error) {
	sub, err := subnetOf(tx, subnetID)
	if err != nil {
		return "", err
	}
	ports, err := tx.PortsOn(sub.NetworkID)
	if err != nil {
		return "", err
	}
	found := ""
	for _, p := range ports {
		if p.DeviceOwner != neutron.OwnerInterface || !hasAddressOf(p, subnetID) {
			continue
		}
		r, err := tx.Router(p.DeviceID)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return "", err
		case r.Gateway != external:
		case slices.Contains(p.FixedIPs, neutron.FixedIP{SubnetID: subnetID, Address: sub.Gateway}):
			return r.ID, nil
		case found == "":
			found = r.ID
		}
	}
	return found, nil
}

// FloatingIP returns one floating IP.
func (s *NetworkService) FloatingIP(ctx context.Context, id string) (neutron.FloatingIP, error) {
	return show(ctx, s, func(r Reader) (neutron.FloatingIP, error) { return floatingOf(r, id) })
}

func floatingOf(r Reader, id string) (neutron.FloatingIP, error) {
	f, err := r.FloatingIP(id)
	return f, missingRecord("FloatingIPNotFound", "floating IP", id, err)
}

// FloatingIPs lists all floating IPs, oldest first.
func (s *NetworkService) FloatingIPs(ctx context.Context) ([]neutron.FloatingIP, error) {
	return show(ctx, s, Reader.FloatingIPs)
}

// UpdateFloatingIP changes a floating IP's words, and where it leads; its address stays. A Fixed that is not of the port that it then
// leads to is only a mistake if it was changed.
func (s *NetworkService) UpdateFloatingIP(ctx context.Context, id string, change func(*neutron.FloatingIP) error) (f neutron.FloatingIP, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := floatingOf(tx, id)
		if err != nil {
			return err
		}
		f = before
		if err := change(&f); err != nil {
			return err
		}
		f.ID, f.ProjectID, f.NetworkID, f.Address, f.OwnPort = before.ID, before.ProjectID, before.NetworkID, before.Address, before.OwnPort
		f.Revision, f.Created, f.Updated = before.Revision+1, before.Created, s.now()
		if f.PortID != before.PortID && f.Fixed == before.Fixed {
			f.Fixed = netip.Addr{}
		}
		if err := f.Check(); err != nil {
			return err
		}
		if err := associate(tx, &f); err != nil {
			return err
		}
		return tx.PutFloatingIP(f)
	})
	return f, err
}

// DeleteFloatingIP gives a floating IP's address back.
func (s *NetworkService) DeleteFloatingIP(ctx context.Context, id string) error {
	return s.change(ctx, func(tx Writer) error {
		f, err := floatingOf(tx, id)
		if err != nil {
			return err
		}
		return errors.Join(tx.DeleteFloatingIP(id), tx.DeletePort(f.OwnPort))
	})
}
