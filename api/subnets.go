package api

import (
	"net/netip"

	"compute-agent/neutron"
)

var subnetResource = &resource{
	name: "subnet", plural: "subnets", path: "subnets", class: "SubnetNotFound", missing: "Subnet %s could not be found.",
	attributes: withStandard(map[string]trait{
		"network_id": creatable, "ip_version": creatable, "cidr": creatable, "gateway_ip": settable, "enable_dhcp": settable,
		"allocation_pools": settable | compound, "dns_nameservers": settable | compound, "host_routes": settable | compound,
		"ipv6_ra_mode": creatable, "ipv6_address_mode": creatable, "service_types": settable | adminSets | compound,
		"subnetpool_id": creatable, "shared": unseen,
	}),
	required: []string{"network_id", "ip_version", "cidr"},
	list:     (*records).subnetViews,
	show: func(r *records, id string) (view, error) {
		s, err := r.api.Backend.Subnet(r.ctx(), id)
		return viewOf(s, err, r.subnetView)
	},
	create:  (*records).createSubnet,
	update:  (*records).updateSubnet,
	remove:  func(r *records, id string) error { return r.api.Backend.DeleteSubnet(r.ctx(), id) },
	visible: func(r *records, v view) bool { return r.ofVisibleNetwork(v) },
	owns:    func(r *records, v view) bool { return r.ofOwnNetwork(v) },
	tag: func(r *records, id string, change func(*[]string)) error {
		_, err := r.api.Backend.UpdateSubnet(r.ctx(), id, func(s *neutron.Subnet) error { change(&s.Tags); return nil })
		return err
	},
}

// ofOwnNetwork tells whether the caller has the network that a record belongs to, ofVisibleNetwork whether he sees it.
func (r *records) ofOwnNetwork(v view) bool {
	id, _ := v["network_id"].(string)
	return r.caller.mine(r.network(id).ProjectID)
}

func (r *records) ofVisibleNetwork(v view) bool {
	id, _ := v["network_id"].(string)
	return r.seesNetwork(r.network(id))
}

func (r *records) seesNetwork(n neutron.Network) bool {
	return n.ID != "" && (r.caller.mine(n.ProjectID) || n.Shared || n.External)
}

func (r *records) subnetViews() ([]view, error) {
	all, err := r.api.Backend.Subnets(r.ctx())
	return viewsOf(all, err, r.subnetView)
}

type poolView struct {
	Start netip.Addr `json:"start"`
	End   netip.Addr `json:"end"`
}

func (r *records) subnetView(s neutron.Subnet) view {
	return standard{s.ID, s.ProjectID, s.Description, s.Tags, s.Revision, s.Created, s.Updated}.add(view{
		"name": s.Name, "network_id": s.NetworkID, "ip_version": ipVersion(s), "cidr": s.CIDR.String(), "gateway_ip": addressOrNull(s.Gateway),
		"enable_dhcp": s.DHCP, "dns_nameservers": listOf(s.DNS, netip.Addr.String), "host_routes": routeViews(s.Routes),
		"allocation_pools": listOf(s.Pools, func(p neutron.Range) poolView { return poolView{p.First, p.Last} }),
		"ipv6_ra_mode":     orNull(string(s.RAMode)), "ipv6_address_mode": orNull(string(s.AddressMode)),
		"service_types": orNone(s.ServiceTypes), "subnetpool_id": nil, "shared": r.network(s.NetworkID).Shared,
	})
}

func ipVersion(s neutron.Subnet) int {
	if s.CIDR.Addr().Is6() {
		return 6
	}
	return 4
}

type subnetBody struct {
	Name         optional[string]       `json:"name"`
	Description  optional[string]       `json:"description"`
	ProjectID    string                 `json:"project_id"`
	NetworkID    string                 `json:"network_id"`
	IPVersion    integer                `json:"ip_version"`
	CIDR         cidr                   `json:"cidr"`
	Gateway      optional[netip.Addr]   `json:"gateway_ip"`
	DHCP         optional[boolean]      `json:"enable_dhcp"`
	Pools        optional[[]poolView]   `json:"allocation_pools"`
	DNS          optional[[]netip.Addr] `json:"dns_nameservers"`
	Routes       optional[[]routeBody]  `json:"host_routes"`
	RAMode       neutron.IPv6Mode       `json:"ipv6_ra_mode"`
	AddressMode  neutron.IPv6Mode       `json:"ipv6_address_mode"`
	ServiceTypes optional[[]string]     `json:"service_types"`
}

// change applies what is given of what can be changed.
func (b subnetBody) change(s *neutron.Subnet) {
	b.Name.set(&s.Name)
	b.Description.set(&s.Description)
	b.Gateway.set(&s.Gateway)
	b.DNS.set(&s.DNS)
	b.ServiceTypes.set(&s.ServiceTypes)
	setBool(b.DHCP, &s.DHCP)
	if b.Pools.given {
		s.Pools = listOf(b.Pools.value, func(p poolView) neutron.Range { return neutron.Range{First: p.Start, Last: p.End} })
	}
	if b.Routes.given {
		s.Routes = routesOf(b.Routes.value)
	}
}

func (r *records) createSubnet(in item) (view, error) {
	var b subnetBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	if (b.IPVersion == 6) != b.CIDR.Addr().Is6() {
		return nil, invalidInput("cidr '%s' does not match the ip_version '%d'", b.CIDR, b.IPVersion)
	}
	n := r.network(b.NetworkID)
	if !r.seesNetwork(n) {
		return nil, networkResource.none(b.NetworkID)
	}
	if !r.caller.mine(n.ProjectID) {
		return nil, notAuthorized("rule:create_subnet")
	}
	req := neutron.SubnetRequest{
		Subnet:    neutron.Subnet{NetworkID: b.NetworkID, ProjectID: b.ProjectID, CIDR: b.CIDR.Prefix, DHCP: true, RAMode: b.RAMode, AddressMode: b.AddressMode},
		NoGateway: b.Gateway.given && !b.Gateway.value.IsValid(),
	}
	b.change(&req.Subnet)
	s, err := r.api.Backend.CreateSubnet(r.ctx(), req)
	return viewOf(s, err, r.subnetView)
}

func (r *records) updateSubnet(id string, in item) (view, error) {
	var b subnetBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	s, err := r.api.Backend.UpdateSubnet(r.ctx(), id, func(s *neutron.Subnet) error { b.change(s); return nil })
	return viewOf(s, err, r.subnetView)
}

// invalidInput is Neutron's fault for values that do not go together.
func invalidInput(format string, args ...any) *fault {
	f := badRequest("Invalid input for operation: "+format+".", args...)
	f.class = "InvalidInput"
	return f
}
