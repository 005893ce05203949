package neutron

import (
	"net/netip"
	"slices"
)

const maxRouterRoutes = 30

// Interface is a port of a router with the subnets that it has addresses of.
type Interface struct {
	Port    Port
	Subnets []Subnet
}

// Check says what is wrong with a router whose interfaces, the one to the outside too, are these.
func (r *Router) Check(interfaces []Interface) error {
	if err := checkWords(r.Name, r.Description, r.Tags); err != nil {
		return err
	}
	if len(r.Routes) > maxRouterRoutes {
		return failed("RoutesExhausted", Invalid, "routes", "", "%d are more than %d", len(r.Routes), maxRouterRoutes)
	}
	for i, route := range r.Routes {
		if err := checkPrefix("routes", route.To); err != nil {
			return err
		}
		if err := checkAddress("routes", route.Via); err != nil {
			return err
		}
		if slices.Contains(r.Routes[:i], route) || route.To.Addr().Is4() != route.Via.Is4() {
			return invalid("routes", route.To.String(), "destination and nexthop must be of one IP version, and be there once")
		}
		if err := reaches(interfaces, route); err != nil {
			return err
		}
	}
	return nil
}

// reaches says whether a router can send to the nexthop of a route.
func reaches(interfaces []Interface, route Route) error {
	connected := false
	for _, in := range interfaces {
		if slices.ContainsFunc(in.Port.FixedIPs, func(ip FixedIP) bool { return ip.Address == route.Via }) {
			return failed("InvalidRoutes", Invalid, "routes", route.Via.String(), "the nexthop is used by router")
		}
		connected = connected || slices.ContainsFunc(in.Subnets, func(s Subnet) bool { return s.CIDR.Contains(route.Via) })
	}
	if !connected {
		return failed("InvalidRoutes", Invalid, "routes", route.Via.String(), "the nexthop is not connected with router")
	}
	return nil
}

// NeedsFor is the first of the router's routes whose nexthop is in a subnet; ok is false if there is none.
func (r *Router) NeedsFor(s Subnet) (route Route, ok bool) {
	i := slices.IndexFunc(r.Routes, func(route Route) bool { return s.CIDR.Contains(route.Via) })
	if i < 0 {
		return Route{}, false
	}
	return r.Routes[i], true
}

// Overlap says whether a router with these interfaces can have one more subnet: no two may overlap.
func Overlap(interfaces []Interface, more Subnet) error {
	for _, in := range interfaces {
		for _, s := range in.Subnets {
			switch {
			case s.ID == more.ID:
				return failed("BadRequest", Invalid, "", "", "router already has a port on subnet %s", s.ID)
			case s.CIDR.Overlaps(more.CIDR):
				return failed("BadRequest", Invalid, "", "", "cidr %s of subnet %s overlaps with cidr %s of subnet %s", more.CIDR, more.ID, s.CIDR, s.ID)
			}
		}
	}
	return nil
}

// FixedFor is the address of a port that a floating IP leads to: the one that is asked for, or the only one of IPv4.
func FixedFor(p Port, asked netip.Addr) (FixedIP, error) {
	var four []FixedIP
	for _, ip := range p.FixedIPs {
		if asked == ip.Address && asked.Is4() {
			return ip, nil
		}
		if ip.Address.Is4() {
			four = append(four, ip)
		}
	}
	switch {
	case asked.IsValid():
		return FixedIP{}, failed("BadRequest", Invalid, "fixed_ip_address", asked.String(), "port %s has no such fixed IPv4 address", p.ID)
	case len(four) == 0:
		return FixedIP{}, failed("BadRequest", Invalid, "port_id", p.ID, "it has no fixed IPv4 addresses")
	case len(four) > 1:
		return FixedIP{}, failed("BadRequest", Invalid, "fixed_ip_address", "", "port %s has several fixed IPv4 addresses: one must be named", p.ID)
	}
	return four[0], nil
}

// Check says what is wrong with a floating IP's own words.
func (f *FloatingIP) Check() error { return checkWords("", f.Description, f.Tags) }
