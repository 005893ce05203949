package api

import (
	"maps"
	"net/netip"
	"time"

	"compute-agent/neutron"
)

// standardAttributes are what nearly all records have.
var standardAttributes = map[string]trait{
	"id": 0, "name": settable, "description": settable, "project_id": creatable, "tenant_id": creatable,
	"tags": compound, "revision_number": 0, "created_at": 0, "updated_at": 0,
}

func withStandard(attributes map[string]trait) map[string]trait {
	for name, t := range standardAttributes {
		if _, own := attributes[name]; !own {
			attributes[name] = t
		}
	}
	return attributes
}

// standard is the part of a view that nearly all records have.
type standard struct {
	id, project, description string
	tags                     []string
	revision                 int
	created, updated         time.Time
}

// add gives a view the standard attributes.
func (s standard) add(v view) view {
	maps.Copy(v, view{
		"id": s.id, "project_id": s.project, "tenant_id": s.project, "description": s.description, "tags": orNone(s.tags),
		"revision_number": s.revision, "created_at": novaTime(s.created), "updated_at": novaTime(s.updated),
	})
	return v
}

// orNone is an empty list for none.
func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// listOf renders each item of a list.
func listOf[T, V any](list []T, show func(T) V) []V {
	out := make([]V, len(list))
	for i, item := range list {
		out[i] = show(item)
	}
	return out
}

// addressOrNull is null for the zero Addr.
func addressOrNull(a netip.Addr) any {
	if !a.IsValid() {
		return nil
	}
	return a.String()
}

type fixedIPView struct {
	SubnetID string `json:"subnet_id"`
	Address  string `json:"ip_address"`
}

func fixedIPViews(ips []neutron.FixedIP) []fixedIPView {
	return listOf(ips, func(ip neutron.FixedIP) fixedIPView { return fixedIPView{ip.SubnetID, ip.Address.String()} })
}

type routeView struct {
	Destination string `json:"destination"`
	Nexthop     string `json:"nexthop"`
}

func routeViews(routes []neutron.Route) []routeView {
	return listOf(routes, func(r neutron.Route) routeView { return routeView{r.To.String(), r.Via.String()} })
}

// The forms in which addresses come. The schemas have checked them.
type (
	// cidr is a prefix, or an address for the prefix that holds only it.
	cidr struct{ netip.Prefix }

	routeBody struct {
		Destination cidr       `json:"destination"`
		Nexthop     netip.Addr `json:"nexthop"`
	}

	fixedIPBody struct {
		SubnetID string     `json:"subnet_id"`
		Address  netip.Addr `json:"ip_address"`
	}
)

// UnmarshalText reads 192.0.2.0/24 and 192.0.2.1; an empty text is no prefix.
func (c *cidr) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		c.Prefix = netip.Prefix{}
		return nil
	}
	c.Prefix, err = parseCIDR(string(text))
	return err
}

func parseCIDR(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

func routesOf(bodies []routeBody) []neutron.Route {
	return listOf(bodies, func(r routeBody) neutron.Route { return neutron.Route{To: r.Destination.Prefix, Via: r.Nexthop} })
}

func fixedIPsOf(bodies []fixedIPBody) []neutron.FixedIP {
	return listOf(bodies, func(ip fixedIPBody) neutron.FixedIP {
		return neutron.FixedIP{SubnetID: ip.SubnetID, Address: ip.Address}
	})
}
