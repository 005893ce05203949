package api

import (
	"net/netip"

	"compute-agent/neutron"
)

var floatingIPResource = &resource{
	name: "floatingip", plural: "floatingips", path: "floatingips", class: "FloatingIPNotFound", missing: "Floating IP %s could not be found",
	attributes: map[string]trait{
		"id": 0, "project_id": creatable, "tenant_id": creatable, "description": settable, "tags": compound,
		"revision_number": 0, "created_at": 0, "updated_at": 0, "status": 0,
		"floating_network_id": creatable, "floating_ip_address": creatable | adminSets, "subnet_id": creatable | unseen | compound,
		"router_id": 0, "port_id": settable, "fixed_ip_address": settable, "port_details": compound,
	},
	required: []string{"floating_network_id"},
	list:     (*records).floatingIPViews,
	show: func(r *records, id string) (view, error) {
		f, err := r.api.Backend.FloatingIP(r.ctx(), id)
		return viewOf(f, err, r.floatingIPView)
	},
	create: (*records).createFloatingIP,
	update: (*records).updateFloatingIP,
	remove: func(r *records, id string) error { return r.api.Backend.DeleteFloatingIP(r.ctx(), id) },
	tag: func(r *records, id string, change func(*[]string)) error {
		_, err := r.api.Backend.UpdateFloatingIP(r.ctx(), id, func(f *neutron.FloatingIP) error { change(&f.Tags); return nil })
		return err
	},
}

func (r *records) floatingIPViews() ([]view, error) {
	all, err := r.api.Backend.FloatingIPs(r.ctx())
	return viewsOf(all, err, r.floatingIPView)
}

func (r *records) floatingIPView(f neutron.FloatingIP) view {
	v := standard{f.ID, f.ProjectID, f.Description, f.Tags, f.Revision, f.Created, f.Updated}.add(view{
		"floating_network_id": f.NetworkID, "floating_ip_address": f.Address.String(), "router_id": orNull(f.RouterID),
		"port_id": orNull(f.PortID), "fixed_ip_address": addressOrNull(f.Fixed), "status": string(neutron.StatusDown), "port_details": nil,
	})
	if f.PortID != "" {
		p := r.port(f.PortID)
		v["status"] = string(neutron.StatusActive)
		v["port_details"] = map[string]any{
			"name": p.Name, "network_id": p.NetworkID, "mac_address": p.MAC, "admin_state_up": p.AdminUp, "status": string(p.Status),
			"device_id": p.DeviceID, "device_owner": p.DeviceOwner,
		}
	}
	return v
}

type floatingIPBody struct {
	Description optional[string]     `json:"description"`
	ProjectID   string               `json:"project_id"`
	NetworkID   string               `json:"floating_network_id"`
	SubnetID    string               `json:"subnet_id"`
	Address     netip.Addr           `json:"floating_ip_address"`
	PortID      optional[string]     `json:"port_id"`
	Fixed       optional[netip.Addr] `json:"fixed_ip_address"`
}

// change applies what is given. Another port, or none, forgets the address that it led to.
func (b floatingIPBody) change(f *neutron.FloatingIP) {
	b.Description.set(&f.Description)
	if b.PortID.given {
		f.PortID, f.Fixed = b.PortID.value, netip.Addr{}
	}
	b.Fixed.set(&f.Fixed)
}

// checkPort refuses a port that is not the caller's.
func (b floatingIPBody) checkPort(r *records) error {
	if b.PortID.value == "" {
		return nil
	}
	return r.ownPort(b.PortID.value)
}

func (r *records) createFloatingIP(in item) (view, error) {
	var b floatingIPBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	if !r.seesNetwork(r.network(b.NetworkID)) {
		return nil, networkResource.none(b.NetworkID)
	}
	if err := b.checkPort(r); err != nil {
		return nil, err
	}
	req := neutron.FloatingIPRequest{
		FloatingIP: neutron.FloatingIP{ProjectID: b.ProjectID, NetworkID: b.NetworkID, Address: b.Address}, SubnetID: b.SubnetID,
	}
	b.change(&req.FloatingIP)
	f, err := r.api.Backend.CreateFloatingIP(r.ctx(), req)
	return viewOf(f, err, r.floatingIPView)
}

func (r *records) updateFloatingIP(id string, in item) (view, error) {
	var b floatingIPBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	if err := b.checkPort(r); err != nil {
		return nil, err
	}
	f, err := r.api.Backend.UpdateFloatingIP(r.ctx(), id, func(f *neutron.FloatingIP) error { b.change(f); return nil })
	return viewOf(f, err, r.floatingIPView)
}
