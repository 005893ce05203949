package api

import (
	"math/big"

	"compute-agent/neutron"
)

// availabilityResource tells how many addresses networks have for ports, and how many of them are used.
var availabilityResource = &resource{
	name: "network_ip_availability", plural: "network_ip_availabilities", path: "network-ip-availabilities",
	class: "NetworkNotFound", missing: "Network %s could not be found.",
	attributes: map[string]trait{
		"network_id": 0, "network_name": 0, "project_id": 0, "tenant_id": 0, "ip_version": unseen,
		"total_ips": compound, "used_ips": compound, "subnet_ip_availability": compound,
	},
	list: func(r *records) ([]view, error) {
		all, err := r.api.Backend.Networks(r.ctx())
		if err != nil {
			return nil, err
		}
		return r.availabilities(all)
	},
	show: func(r *records, id string) (view, error) {
		n, err := r.api.Backend.Network(r.ctx(), id)
		if err != nil {
			return nil, err
		}
		views, err := r.availabilities([]neutron.Network{n})
		if err != nil {
			return nil, err
		}
		return views[0], nil
	},
}

func (a *api) availabilityRoutes() []route {
	return []route{
		{pattern: "GET /network-ip-availabilities", do: a.of(availabilityResource, (*records).answerList), access: forAdmin},
		{pattern: "GET /network-ip-availabilities/{id}", do: a.of(availabilityResource, (*records).answerShow), access: forAdmin},
	}
}

// availabilities count the addresses of networks.
func (r *records) availabilities(networks []neutron.Network) ([]view, error) {
	subnets, err := r.api.Backend.Subnets(r.ctx())
	if err != nil {
		return nil, err
	}
	ports, err := r.api.Backend.Ports(r.ctx())
	used := map[string]int{}
	for _, p := range ports {
		for _, ip := range p.FixedIPs {
			used[ip.SubnetID]++
		}
	}
	return listOf(networks, func(n neutron.Network) view { return availabilityView(n, subnets, used) }), err
}

func availabilityView(n neutron.Network, subnets []neutron.Subnet, used map[string]int) view {
	list, total, taken, version := []view{}, new(big.Int), 0, 0
	for _, s := range subnets {
		if s.NetworkID != n.ID {
			continue
		}
		size := poolSize(s)
		total.Add(total, size)
		taken, version = taken+used[s.ID], ipVersion(s)
		list = append(list, view{
			"subnet_id": s.ID, "subnet_name": s.Name, "cidr": s.CIDR.String(), "ip_version": version, "total_ips": size, "used_ips": used[s.ID],
		})
	}
	return view{
		"network_id": n.ID, "network_name": n.Name, "project_id": n.ProjectID, "tenant_id": n.ProjectID, "ip_version": version,
		"total_ips": total, "used_ips": taken, "subnet_ip_availability": list,
	}
}

// poolSize is how many addresses a subnet has for ports. In IPv6 they are more than an int can tell.
func poolSize(s neutron.Subnet) *big.Int {
	size := new(big.Int)
	for _, p := range s.Pools {
		first, last := new(big.Int).SetBytes(p.First.AsSlice()), new(big.Int).SetBytes(p.Last.AsSlice())
		size.Add(size, last.Sub(last, first)).Add(size, big.NewInt(1))
	}
	return size
}
