package neutron

import (
	"net/netip"
	"slices"
	"strings"
)

// Complete is the subnet that is asked for, checked and with what it does not say: gateway and pools. siblings are the network's others.
func (r SubnetRequest) Complete(on Network, siblings []Subnet) (Subnet, error) {
	s := r.Subnet
	if err := s.checkCIDR(); err != nil {
		return s, err
	}
	for _, o := range siblings {
		if o.CIDR.Overlaps(s.CIDR) {
			return s, invalid("cidr", s.CIDR.String(), "it overlaps with another subnet of network %s", on.ID)
		}
	}
	switch {
	case r.NoGateway:
		s.Gateway = netip.Addr{}
	case !s.Gateway.IsValid() && !s.CIDR.IsSingleIP():
		s.Gateway = s.CIDR.Addr().Next()
	}
	if s.Pools == nil {
		s.Pools = s.allPools()
	}
	return s, s.Check(on)
}

// checkCIDR says whether there can be a subnet of the CIDR.
func (s *Subnet) checkCIDR() error {
	if err := checkPrefix("cidr", s.CIDR); err != nil {
		return err
	}
	a, refuse := s.CIDR.Addr(), func(rule string) error { return invalid("cidr", s.CIDR.String(), "%s", rule) }
	switch {
	case s.CIDR.Bits() == 0:
		return refuse("0 is not allowed as CIDR prefix length")
	case a.IsUnspecified():
		return refuse("a subnet cannot begin with " + a.String())
	case a.IsMulticast():
		return refuse("a multicast subnet is not supported")
	case a.IsLoopback():
		return refuse("a loopback subnet is not supported")
	case a.IsLinkLocalUnicast():
		return refuse("link-local addresses are each link's own")
	}
	return nil
}

// usable are the addresses that ports can have.
func (s *Subnet) usable() Range {
	all := Range{s.CIDR.Addr(), lastOf(s.CIDR)}
	switch {
	case s.CIDR.IsSingleIP():
	case s.CIDR.Addr().Is6():
		all.First = all.First.Next()
	case s.CIDR.Bits() < 31:
		all.First, all.Last = all.First.Next(), all.Last.Prev()
	}
	return all
}

// allPools are all usable addresses but the gateway's.
func (s *Subnet) allPools() []Range {
	all := s.usable()
	if !all.Contains(s.Gateway) {
		return []Range{all}
	}
	var pools []Range
	if all.First != s.Gateway {
		pools = append(pools, Range{all.First, s.Gateway.Prev()})
	}
	if all.Last != s.Gateway {
		pools = append(pools, Range{s.Gateway.Next(), all.Last})
	}
	return pools
}

// Check says what is wrong with a subnet, but for its CIDR, which is checked when it is made and never changes.
func (s *Subnet) Check(on Network) error {
	for _, check := range []func() error{
		func() error { return checkWords(s.Name, s.Description, s.Tags) },
		s.checkGateway, s.checkPools, s.checkDHCP, s.checkModes, s.checkNameservers, s.checkRoutes, s.checkServiceTypes,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return on.CheckMTU([]Subnet{*s})
}

// CheckMTU says whether the network's MTU is enough for its subnets.
func (n *Network) CheckMTU(subnets []Subnet) error {
	for _, s := range subnets {
		if s.CIDR.Addr().Is6() && n.MTU < minMTU6 {
			return failed("NetworkMTUSubnetConflict", Conflict, "mtu", number(n.MTU), "the MTU of network %s is less than the %d that an IPv6 subnet needs", n.ID, minMTU6)
		}
	}
	return nil
}

// family checks that an address is of the subnet's IP version.
func (s *Subnet) family(field string, a netip.Addr) error {
	if err := checkAddress(field, a); err != nil {
		return err
	}
	if a.Is4() != s.CIDR.Addr().Is4() {
		return invalid(field, a.String(), "it is not of the IP version of %s", s.CIDR)
	}
	return nil
}

// checkGateway lets gateways outside of the CIDR pass, as Neutron does.
func (s *Subnet) checkGateway() error {
	if !s.Gateway.IsValid() {
		return nil
	}
	if err := s.family("gateway_ip", s.Gateway); err != nil {
		return err
	}
	if s.CIDR.Addr().Is4() && s.CIDR.Bits() < 31 && (s.Gateway == s.CIDR.Addr() || s.Gateway == lastOf(s.CIDR)) {
		return invalid("gateway_ip", s.Gateway.String(), "it is the network's or the broadcast address of %s", s.CIDR)
	}
	return nil
}

func (s *Subnet) checkPools() error {
	usable := s.usable()
	for i, pool := range s.Pools {
		if !pool.First.IsValid() || !pool.Last.IsValid() || pool.First.BitLen() != usable.First.BitLen() || pool.Last.BitLen() != usable.Last.BitLen() ||
			pool.First.Zone() != "" || pool.Last.Zone() != "" || pool.Last.Less(pool.First) {
			return failed("InvalidAllocationPool", Invalid, "allocation_pools", pool.String(), "it is not from a lower to a higher address of the IP version of %s", s.CIDR)
		}
		if !usable.Contains(pool.First) || !usable.Contains(pool.Last) {
			return failed("OutOfBoundsAllocationPool", Invalid, "allocation_pools", pool.String(), "it is not within %s, what ports can have of %s", usable, s.CIDR)
		}
		if pool.Contains(s.Gateway) {
			return failed("GatewayConflictWithAllocationPools", Conflict, "gateway_ip", s.Gateway.String(), "it is in the allocation pool %s", pool)
		}
		for _, other := range s.Pools[:i] {
			if pool.overlaps(other) {
				return failed("OverlappingAllocationPools", Conflict, "allocation_pools", pool.String(), "it overlaps with %s", other)
			}
		}
	}
	return nil
}

// DHCP needs an address for the server and one for a guest.
func (s *Subnet) checkDHCP() error {
	if s.DHCP && s.CIDR.Addr().BitLen()-s.CIDR.Bits() < 2 {
		return invalid("enable_dhcp", "true", "a prefix length of %d is too long for DHCP", s.CIDR.Bits())
	}
	if s.DHCP && s.CIDR.Addr().Is6() && s.CIDR.Bits() < 64 {
		return invalid("enable_dhcp", "true", "a prefix length of %d is too short for DHCPv6: dnsmasq serves 64 and longer", s.CIDR.Bits())
	}
	return nil
}

func (s *Subnet) checkModes() error {
	for field, mode := range map[string]IPv6Mode{"ipv6_ra_mode": s.RAMode, "ipv6_address_mode": s.AddressMode} {
		switch {
		case mode == "":
			continue
		case mode != SLAAC && mode != Stateful && mode != Stateless:
			return invalid(field, string(mode), "it must be one of %s, %s, %s", SLAAC, Stateful, Stateless)
		case s.CIDR.Addr().Is4():
			return invalid(field, string(mode), "it is not for IPv4")
		case !s.DHCP:
			return invalid(field, string(mode), "it cannot be set when enable_dhcp is false")
		case mode != Stateful && s.CIDR.Bits() != 64:
			return invalid("cidr", s.CIDR.String(), "guests make themselves addresses (%s) only of a prefix of 64 bits", mode)
		}
	}
	if s.RAMode != "" && s.AddressMode != "" && s.RAMode != s.AddressMode {
		return invalid("ipv6_ra_mode", string(s.RAMode), "it must be the same as ipv6_address_mode, %s, where both are set", s.AddressMode)
	}
	return nil
}

func (s *Subnet) checkNameservers() error {
	if len(s.DNS) > maxNameservers {
		return failed("DNSNameServersExhausted", Invalid, "dns_nameservers", "", "%d are more than %d", len(s.DNS), maxNameservers)
	}
	for i, a := range s.DNS {
		if err := s.family("dns_nameservers", a); err != nil {
			return err
		}
		if slices.Contains(s.DNS[:i], a) {
			return invalid("dns_nameservers", a.String(), "it is there twice")
		}
	}
	return nil
}

func (s *Subnet) checkRoutes() error {
	if len(s.Routes) > maxRoutes {
		return failed("HostRoutesExhausted", Invalid, "host_routes", "", "%d are more than %d", len(s.Routes), maxRoutes)
	}
	for i, r := range s.Routes {
		if err := checkPrefix("host_routes", r.To); err != nil {
			return err
		}
		if err := s.family("host_routes", r.Via); err != nil {
			return err
		}
		if r.To.Addr().Is4() != r.Via.Is4() {
			return invalid("host_routes", r.To.String(), "destination and nexthop are not of one IP version")
		}
		if slices.Contains(s.Routes[:i], r) {
			return invalid("host_routes", r.To.String(), "it is there twice")
		}
	}
	return nil
}

func (s *Subnet) checkServiceTypes() error {
	for i, t := range s.ServiceTypes {
		if !strings.HasPrefix(t, "network:") && !strings.HasPrefix(t, "compute:") || slices.Contains(s.ServiceTypes[:i], t) || i >= maxTags {
			return failed("InvalidSubnetServiceType", Invalid, "service_types", t, "it must be a device owner, network:... or compute:..., and be there once")
		}
		if err := checkText("service_types", t); err != nil {
			return err
		}
	}
	return nil
}
