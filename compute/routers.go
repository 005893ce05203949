package compute

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"compute-agent/neutron"
)

// CreateRouter makes a router, with a port on the external network that it leads to.
func (s *NetworkService) CreateRouter(ctx context.Context, req neutron.RouterRequest) (r neutron.Router, err error) {
	r = req.Router
	r.ID, r.Revision, r.Created, r.GatewayPort = newID(), 1, s.now(), ""
	r.Updated, r.SNAT = r.Created, req.Translate == nil || *req.Translate
	err = s.change(ctx, func(tx Writer) error {
		if err := s.within(tx, ResourceRouter, r.ProjectID); err != nil {
			return err
		}
		if err := s.openGateway(tx, &r, req.GatewayIPs); err != nil {
			return err
		}
		return putRouter(tx, r)
	})
	return r, err
}

// putRouter stores a router that is possible with the interfaces that it has.
func putRouter(tx Writer, r neutron.Router) error {
	interfaces, err := interfacesOf(tx, r.ID)
	if err != nil {
		return err
	}
	if err := r.Check(interfaces); err != nil {
		return err
	}
	return tx.PutRouter(r)
}

// openGateway gives a router its port on the external network that it names, if it names one.
func (s *NetworkService) openGateway(tx Writer, r *neutron.Router, asked []neutron.FixedIP) error {
	if r.Gateway == "" {
		return nil
	}
	on, err := networkOf(tx, r.Gateway)
	if err != nil {
		return err
	}
	if !on.External {
		return badRequest("network %s is not an external network", on.ID)
	}
	p, err := s.makePort(tx, neutron.Port{
		AdminUp: true, DeviceID: r.ID, DeviceOwner: neutron.OwnerGateway, VNICType: neutron.VNICNormal, Status: neutron.StatusActive, FixedIPs: asked,
	}, on)
	if err != nil {
		return err
	}
	if err := fitsRouter(tx, r.ID, p); err != nil {
		return err
	}
	r.GatewayPort = p.ID
	return nil
}

// fitsRouter says whether a port with addresses, which the router has already, overlaps with none of its others.
func fitsRouter(r Reader, routerID string, p neutron.Port) error {
	if len(p.FixedIPs) == 0 {
		return badRequest("no IPs available for external network %s", p.NetworkID)
	}
	interfaces, err := interfacesOf(r, routerID)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(interfaces, func(in neutron.Interface) bool { return in.Port.ID == p.ID })
	for _, ip := range p.FixedIPs {
		sub, err := subnetOf(r, ip.SubnetID)
		if err != nil {
			return err
		}
		if err := neutron.Overlap(others, sub); err != nil {
			return err
		}
	}
	return nil
}

func badRequest(reason string, args ...any) error {
	return &neutron.Error{Class: "BadRequest", Kind: neutron.Invalid, Rule: fmt.Sprintf(reason, args...)}
}

// interfacesOf are a router's ports, the one to the outside too.
func interfacesOf(r Reader, routerID string) ([]neutron.Interface, error) {
	ports, err := r.PortsOf(routerID)
	if err != nil {
		return nil, err
	}
	var all []neutron.Interface
	for _, p := range ports {
		if !neutron.IsServicePort(p.DeviceOwner) {
			continue // whose user calls its device so
		}
		in := neutron.Interface{Port: p}
		for _, ip := range p.FixedIPs {
			sub, err := r.Subnet(ip.SubnetID)
			if err != nil {
				return nil, err
			}
			in.Subnets = append(in.Subnets, sub)
		}
		all = append(all, in)
	}
	return all, nil
}

// Router returns one router.
func (s *NetworkService) Router(ctx context.Context, id string) (neutron.Router, error) {
	return show(ctx, s, func(r Reader) (neutron.Router, error) { return routerOf(r, id) })
}

func routerOf(r Reader, id string) (neutron.Router, error) {
	router, err := r.Router(id)
	return router, missingRecord("RouterNotFound", "router", id, err)
}

// Routers lists all routers, oldest first.
func (s *NetworkService) Routers(ctx context.Context) ([]neutron.Router, error) {
	return show(ctx, s, Reader.Routers)
}

// UpdateRouter changes a router. The request begins as the router is, with GatewayIPs nil, which leaves those of a gateway that stays.
// ErrConflict for another gateway while floating IPs lead through the old one.
func (s *NetworkService) UpdateRouter(ctx context.Context, id string, change func(*neutron.RouterRequest) error) (r neutron.Router, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := routerOf(tx, id)
		if err != nil {
			return err
		}
		snat := before.SNAT
		req := neutron.RouterRequest{Router: before, Translate: &snat}
		if err := change(&req); err != nil {
			return err
		}
		r = req.Router
		r.ID, r.ProjectID, r.Created, r.GatewayPort = before.ID, before.ProjectID, before.Created, before.GatewayPort
		r.Revision, r.Updated = before.Revision+1, s.now()
		r.SNAT = req.Translate == nil || *req.Translate
		switch {
		case r.Gateway != before.Gateway:
			err = s.moveGateway(tx, before, &r, req.GatewayIPs)
		case r.Gateway != "" && req.GatewayIPs != nil:
			err = s.readdressGateway(tx, r, req.GatewayIPs)
		}
		if err != nil {
			return err
		}
		return putRouter(tx, r)
	})
	return r, err
}

// moveGateway leads a router to another external network, or to none.
func (s *NetworkService) moveGateway(tx Writer, before neutron.Router, r *neutron.Router, asked []neutron.FixedIP) error {
	if err := gatewayUnused(tx, before); err != nil {
		return err
	}
	if before.GatewayPort != "" {
		closed := *r
		closed.Gateway, closed.GatewayPort = "", ""
		if err := errors.Join(tx.PutRouter(closed), tx.DeletePort(before.GatewayPort)); err != nil {
			return err
		}
		r.GatewayPort = ""
	}
	return s.openGateway(tx, r, asked)
}

func gatewayUnused(tx Reader, r neutron.Router) error {
	all, err := tx.FloatingIPs()
	for _, f := range all {
		if f.RouterID == r.ID {
			return conflict("RouterExternalGatewayInUseByFloatingIp",
				"gateway cannot be updated for router %s, since a gateway to external network %s is required by floating IP %s", r.ID, r.Gateway, f.Address)
		}
	}
	return err
}

func (s *NetworkService) readdressGateway(tx Writer, r neutron.Router, asked []neutron.FixedIP) error {
	p, err := tx.Port(r.GatewayPort)
	if err != nil {
		return err
	}
	if err := s.readdress(tx, p, asked); err != nil {
		return err
	}
	if p, err = tx.Port(p.ID); err != nil {
		return err
	}
	return fitsRouter(tx, r.ID, p)
}

// DeleteRouter removes a router with its gateway. ErrConflict while it has interfaces.
func (s *NetworkService) DeleteRouter(ctx context.Context, id string) error {
	return s.change(ctx, func(tx Writer) error {
		r, err := routerOf(tx, id)
		if err != nil {
			return err
		}
		ports, err := tx.PortsOf(id)
		if err != nil {
			return err
		}
		for _, p := range ports {
			if p.DeviceOwner == neutron.OwnerInterface {
				return conflict("RouterInUse", "router %s still has ports: %s on network %s", id, p.ID, p.NetworkID)
			}
		}
		if err := tx.DeleteRouter(id); err != nil || r.GatewayPort == "" {
			return err
		}
		return tx.DeletePort(r.GatewayPort)
	})
}

// AddInterface connects a router to a subnet, with the subnet's gateway address, or by a port that is there; one of the two is named.
// IPv6 subnets of one network share a port, as in Neutron.
func (s *NetworkService) AddInterface(ctx context.Context, routerID, subnetID, portID string) (p neutron.Port, err error) {
	err = s.change(ctx, func(tx Writer) error {
		r, err := routerOf(tx, routerID)
		switch {
		case err != nil:
		case (subnetID == "") == (portID == ""):
			err = badRequest("either subnet_id or port_id must be specified, and not both")
		case portID != "":
			p, err = s.addPort(tx, r, portID)
		default:
			p, err = s.addSubnet(tx, r, subnetID)
		}
		if err != nil {
			return err
		}
		r.Revision, r.Updated = r.Revision+1, s.now()
		return putRouter(tx, r)
	})
	return p, err
}

func (s *NetworkService) addSubnet(tx Writer, r neutron.Router, subnetID string) (neutron.Port, error) {
	sub, err := subnetOf(tx, subnetID)
	if err != nil {
		return neutron.Port{}, err
	}
	if !sub.Gateway.IsValid() {
		return neutron.Port{}, badRequest("subnet %s for router interface must have a gateway IP", sub.ID)
	}
	interfaces, err := interfacesOf(tx, r.ID)
	if err != nil {
		return neutron.Port{}, err
	}
	if err := neutron.Overlap(interfaces, sub); err != nil {
		return neutron.Port{}, err
	}
	ip := neutron.FixedIP{SubnetID: sub.ID, Address: sub.Gateway}
	for _, in := range interfaces {
		p := in.Port
		if sub.CIDR.Addr().Is6() && p.NetworkID == sub.NetworkID && p.DeviceOwner == neutron.OwnerInterface && p.FixedIPs[0].Address.Is6() {
			if err := s.readdress(tx, p, append(slices.Clone(p.FixedIPs), ip)); err != nil {
				return p, err
			}
			return tx.Port(p.ID)
		}
	}
	on, err := networkOf(tx, sub.NetworkID)
	if err != nil {
		return neutron.Port{}, err
	}
	return s.makePort(tx, neutron.Port{
		ProjectID: r.ProjectID, AdminUp: true, DeviceID: r.ID, DeviceOwner: neutron.OwnerInterface, VNICType: neutron.VNICNormal,
		Status: neutron.StatusActive, FixedIPs: []neutron.FixedIP{ip},
	}, on)
}

// addPort makes a port that is there an interface. It has no filter from then on.
func (s *NetworkService) addPort(tx Writer, r neutron.Router, portID string) (neutron.Port, error) {
	p, err := portOf(tx, portID)
	switch {
	case err != nil:
		return p, err
	case p.DeviceID != "" || p.DeviceOwner != "":
		return p, conflict("PortInUse", "unable to complete operation on port %s: it is attached to %s %q", p.ID, p.DeviceOwner, p.DeviceID)
	case len(p.FixedIPs) == 0:
		return p, badRequest("router port %s must have at least one fixed IP", p.ID)
	}
	four := 0
	for _, ip := range p.FixedIPs {
		if ip.Address.Is4() {
			four++
		}
	}
	if four > 1 {
		return p, badRequest("cannot have multiple IPv4 subnets on router port %s", p.ID)
	}
	if err := fitsRouter(tx, r.ID, p); err != nil {
		return p, err
	}
	p.DeviceID, p.DeviceOwner, p.Status = r.ID, neutron.OwnerInterface, neutron.StatusActive
	p.PortSecurity, p.SecurityGroups, p.AddressPairs = false, nil, nil
	p.Revision, p.Updated = p.Revision+1, s.now()
	return p, tx.PutPort(p)
}

// RemoveInterface disconnects a router from a subnet, or takes a port from it, and the port with it. ErrConflict while floating IPs or
// routes need it.
func (s *NetworkService) RemoveInterface(ctx context.Context, routerID, subnetID, portID string) (p neutron.Port, err error) {
	err = s.change(ctx, func(tx Writer) error {
		r, err := routerOf(tx, routerID)
		if err != nil {
			return err
		}
		in, err := findInterface(tx, r, subnetID, portID)
		if err != nil {
			return err
		}
		p = in.Port
		leaving := in.Subnets
		if portID == "" {
			leaving = slices.DeleteFunc(slices.Clone(in.Subnets), func(sub neutron.Subnet) bool { return sub.ID != subnetID })
		}
		for _, sub := range leaving {
			if err := interfaceUnused(tx, r, sub); err != nil {
				return err
			}
		}
		if len(leaving) < len(in.Subnets) {
			left := slices.DeleteFunc(slices.Clone(p.FixedIPs), func(ip neutron.FixedIP) bool { return ip.SubnetID == subnetID })
			err = s.readdress(tx, p, left)
		} else {
			err = s.dropPort(tx, p)
		}
		if err != nil {
			return err
		}
		r.Revision, r.Updated = r.Revision+1, s.now()
		return putRouter(tx, r)
	})
	return p, err
}

// findInterface is the router's port that is named, or the one on the subnet.
func findInterface(tx Reader, r neutron.Router, subnetID, portID string) (neutron.Interface, error) {
	if subnetID == "" && portID == "" {
		return neutron.Interface{}, badRequest("either subnet_id or port_id must be specified")
	}
	interfaces, err := interfacesOf(tx, r.ID)
	if err != nil {
		return neutron.Interface{}, err
	}
	onSubnet := func(sub neutron.Subnet) bool { return sub.ID == subnetID }
	for _, in := range interfaces {
		switch {
		case in.Port.DeviceOwner != neutron.OwnerInterface:
		case portID == "" && slices.ContainsFunc(in.Subnets, onSubnet):
			return in, nil
		case portID == in.Port.ID && subnetID != "" && !slices.ContainsFunc(in.Subnets, onSubnet):
			return in, &neutron.Error{Class: "SubnetMismatchForPort", Kind: neutron.Invalid, Rule: "subnet on port " + portID + " does not match the requested subnet " + subnetID}
		case portID == in.Port.ID:
			return in, nil
		}
	}
	if portID != "" {
		return neutron.Interface{}, missingRecord("RouterInterfaceNotFound", "interface of router "+r.ID+" with port", portID, ErrNotFound)
	}
	return neutron.Interface{}, missingRecord("RouterInterfaceNotFoundForSubnet", "interface of router "+r.ID+" on subnet", subnetID, ErrNotFound)
}

func interfaceUnused(tx Reader, r neutron.Router, sub neutron.Subnet) error {
	if route, needs := r.NeedsFor(sub); needs {
		return conflict("RouterInterfaceInUseByRoute", "router interface for subnet %s on router %s cannot be deleted, as it is required by the route to %s",
			sub.ID, r.ID, route.To)
	}
	all, err := tx.FloatingIPs()
	for _, f := range all {
		if f.RouterID == r.ID && sub.CIDR.Contains(f.Fixed) {
			return conflict("RouterInterfaceInUseByFloatingIP", "router interface for subnet %s on router %s cannot be deleted, as it is required by floating IP %s",
				sub.ID, r.ID, f.Address)
		}
	}
	return err
}
