package api

import (
	"compute-agent/network"
	"compute-agent/neutron"
)

var networkResource = &resource{
	name: "network", plural: "networks", path: "networks", class: "NetworkNotFound", missing: "Network %s could not be found.",
	attributes: withStandard(map[string]trait{
		"admin_state_up": settable, "shared": settable | adminSets, "router:external": settable | adminSets, "is_default": settable | adminSets,
		"port_security_enabled": settable, "mtu": settable, "status": 0, "subnets": compound,
		"provider:network_type":     creatable | adminSets | adminSees,
		"provider:physical_network": creatable | adminSets | adminSees,
		"provider:segmentation_id":  creatable | adminSets | adminSees,
		"availability_zone_hints":   creatable | compound, "availability_zones": compound,
		"ipv4_address_scope": compound, "ipv6_address_scope": compound,
	}),
	list: (*records).networkViews,
	show: func(r *records, id string) (view, error) {
		n, err := r.api.Backend.Network(r.ctx(), id)
		return viewOf(n, err, r.networkView)
	},
	create:  (*records).createNetwork,
	update:  (*records).updateNetwork,
	remove:  func(r *records, id string) error { return r.api.Backend.DeleteNetwork(r.ctx(), id) },
	visible: func(_ *records, v view) bool { return v["shared"] == true || v["router:external"] == true },
	tag: func(r *records, id string, change func(*[]string)) error {
		_, err := r.api.Backend.UpdateNetwork(r.ctx(), id, func(n *neutron.Network) error { change(&n.Tags); return nil })
		return err
	},
}

func (r *records) networkViews() ([]view, error) {
	all, err := r.api.Backend.Networks(r.ctx())
	return viewsOf(all, err, r.networkView)
}

func (r *records) networkView(n neutron.Network) view {
	v := standard{n.ID, n.ProjectID, n.Description, n.Tags, n.Revision, n.Created, n.Updated}.add(view{
		"name": n.Name, "admin_state_up": n.AdminUp, "shared": n.Shared, "router:external": n.External, "mtu": n.MTU,
		"port_security_enabled": n.PortSecurity, "status": "ACTIVE", "subnets": r.subnetsOf(n.ID),
		"provider:network_type": string(n.Type), "provider:physical_network": orNull(n.Physical), "provider:segmentation_id": orNone0(n.Segment),
		"availability_zone_hints": []string{}, "availability_zones": []string{availabilityZone},
		"ipv4_address_scope": nil, "ipv6_address_scope": nil,
	})
	if n.External {
		v["is_default"] = n.Default
	}
	return v
}

// orNone0 is null for 0.
func orNone0(n int) any {
	if n == 0 {
		return nil
	}
	return n
}

// subnetsOf are the IDs of a network's subnets.
func (r *records) subnetsOf(networkID string) []string {
	if r.subnets == nil {
		all, err := r.api.Backend.Subnets(r.ctx())
		r.fail(err)
		r.subnets = map[string][]string{}
		for _, s := range all {
			r.subnets[s.NetworkID] = append(r.subnets[s.NetworkID], s.ID)
		}
	}
	return orNone(r.subnets[networkID])
}

type networkBody struct {
	Name         optional[string]  `json:"name"`
	Description  optional[string]  `json:"description"`
	ProjectID    string            `json:"project_id"`
	AdminUp      optional[boolean] `json:"admin_state_up"`
	Shared       optional[boolean] `json:"shared"`
	External     optional[boolean] `json:"router:external"`
	Default      optional[boolean] `json:"is_default"`
	PortSecurity optional[boolean] `json:"port_security_enabled"`
	MTU          *integer          `json:"mtu"`
	Type         network.Type      `json:"provider:network_type"`
	Physical     string            `json:"provider:physical_network"`
	Segment      integer           `json:"provider:segmentation_id"`
}

// change applies what is given.
func (b networkBody) change(n *neutron.Network) {
	b.Name.set(&n.Name)
	b.Description.set(&n.Description)
	if b.MTU != nil {
		n.MTU = int(*b.MTU)
	}
	setBool(b.AdminUp, &n.AdminUp)
	setBool(b.Shared, &n.Shared)
	setBool(b.External, &n.External)
	setBool(b.Default, &n.Default)
	setBool(b.PortSecurity, &n.PortSecurity)
}

func (r *records) createNetwork(in item) (view, error) {
	var b networkBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	n := neutron.Network{
		ProjectID: b.ProjectID, AdminUp: true, PortSecurity: true, Type: b.Type, Physical: b.Physical, Segment: int(b.Segment),
	}
	b.change(&n)
	made, err := r.api.Backend.CreateNetwork(r.ctx(), n)
	return viewOf(made, err, r.networkView)
}

func (r *records) updateNetwork(id string, in item) (view, error) {
	var b networkBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	n, err := r.api.Backend.UpdateNetwork(r.ctx(), id, func(n *neutron.Network) error { b.change(n); return nil })
	return viewOf(n, err, r.networkView)
}
