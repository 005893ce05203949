package neutron

import (
	"net"
	"net/netip"
	"slices"
)

// Addresses chooses the addresses of a port.
type Addresses struct {
	NetworkID string
	Subnets   []Subnet // all of the network's
	Owner     string   // the port's device owner
	MAC       string   // the port's
	// Used counts the addresses of the network in a range that ports have.
	Used func(Range) (int, error)
	// Random returns a number below n; nil takes the lowest address that is free. What was just given back is then the next to be given
	// out, and whoever still believes it to be somebody else's is wrong.
	Random func(n uint64) uint64

	chosen []FixedIP
}

// Choose returns the addresses of a new port. Asked that is nil is one of an IPv4 and one of an IPv6 subnet; an entry of it names a
// subnet, an address or both. What guests make themselves in subnets of SLAAC is always there, but for router ports. As in Neutron.
func (a *Addresses) Choose(asked []FixedIP) ([]FixedIP, error) { return a.Change(nil, asked) }

// Change returns the addresses of a port that has some, of which those that are asked for again stay.
func (a *Addresses) Change(own, asked []FixedIP) ([]FixedIP, error) {
	a.chosen = nil
	if asked == nil {
		if err := a.any(); err != nil {
			return nil, err
		}
	}
	free := slices.Clone(own)
	for _, want := range asked {
		if i := slices.IndexFunc(free, want.covers); i >= 0 && !a.isAutomatic(free[i].SubnetID) {
			a.chosen, free = append(a.chosen, free[i]), slices.Delete(free, i, i+1)
			continue
		}
		if err := a.add(want); err != nil {
			return nil, err
		}
	}
	return a.withAutomatic()
}

// covers says whether an address that a port has is what is asked for.
func (f FixedIP) covers(own FixedIP) bool {
	return (f.SubnetID == "" || f.SubnetID == own.SubnetID) && (!f.Address.IsValid() || f.Address == own.Address)
}

// any chooses an address of each family from the first subnet that has one left.
func (a *Addresses) any() error {
	candidates, err := a.candidates()
	if err != nil {
		return err
	}
	for _, v6 := range []bool{false, true} {
		var family []Subnet
		for _, s := range candidates {
			if s.CIDR.Addr().Is6() == v6 && !s.Automatic() {
				family = append(family, s)
			}
		}
		if len(family) == 0 {
			continue
		}
		ip, err := a.pick(family)
		if err != nil {
			return err
		}
		a.chosen = append(a.chosen, ip)
	}
	return nil
}

// candidates are the subnets for ports of this owner, those first that are for nobody else (Neutron's service subnets).
func (a *Addresses) candidates() ([]Subnet, error) {
	var meant, open []Subnet
	for _, s := range a.Subnets {
		switch {
		case len(s.ServiceTypes) == 0:
			open = append(open, s)
		case slices.Contains(s.ServiceTypes, a.Owner):
			meant = append(meant, s)
		}
	}
	if all := append(meant, open...); len(all) > 0 || len(a.Subnets) == 0 {
		return all, nil
	}
	return nil, failed("IpAddressGenerationFailureNoMatchingSubnet", Conflict, "", "",
		"no subnet of network %s is for ports of %q (service types)", a.NetworkID, a.Owner)
}

// Automatic says whether guests make themselves their addresses in the subnet.
func (s *Subnet) Automatic() bool { return s.AddressMode == SLAAC || s.AddressMode == Stateless }

func (a *Addresses) isAutomatic(subnetID string) bool {
	s := a.subnet(subnetID)
	return s != nil && s.Automatic() && !isRouterOwner(a.Owner)
}

func isRouterOwner(owner string) bool { return owner == OwnerInterface || owner == OwnerGateway }

func (a *Addresses) subnet(id string) *Subnet {
	i := slices.IndexFunc(a.Subnets, func(s Subnet) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	return &a.Subnets[i]
}

// add chooses what one entry asks for.
func (a *Addresses) add(want FixedIP) error {
	if want.SubnetID == "" && !want.Address.IsValid() {
		return invalid("fixed_ips", "", "an entry needs subnet_id or ip_address")
	}
	s, err := a.subnetFor(want)
	if err != nil {
		return err
	}
	switch {
	case s.Automatic() && !isRouterOwner(a.Owner):
		return a.checkAutomatic(s, want)
	case want.Address.IsValid():
		return a.take(s, want.Address)
	}
	ip, err := a.pick([]Subnet{*s})
	if err == nil {
		a.chosen = append(a.chosen, ip)
	}
	return err
}

func (a *Addresses) subnetFor(want FixedIP) (*Subnet, error) {
	if want.SubnetID == "" {
		for i, s := range a.Subnets {
			if s.CIDR.Contains(want.Address) {
				return &a.Subnets[i], nil
			}
		}
		return nil, failed("InvalidIpForNetwork", Invalid, "fixed_ips", want.Address.String(), "it is in no subnet of network %s", a.NetworkID)
	}
	s := a.subnet(want.SubnetID)
	if s == nil {
		return nil, invalid("fixed_ips", want.SubnetID, "it is no subnet of network %s", a.NetworkID)
	}
	return s, nil
}

func (a *Addresses) checkAutomatic(s *Subnet, want FixedIP) error {
	mac, err := net.ParseMAC(a.MAC)
	if err != nil {
		return invalid("mac_address", a.MAC, "it is no MAC address")
	}
	if made := EUI64(s.CIDR, mac); want.Address.IsValid() && want.Address != made {
		return failed("AllocationOnAutoAddressSubnet", Invalid, "fixed_ips", want.Address.String(),
			"in subnet %s guests make themselves their address, %s for the MAC %s", s.ID, made, a.MAC)
	}
	return nil // withAutomatic adds it
}

// take chooses an address that is asked for.
func (a *Addresses) take(s *Subnet, address netip.Addr) error {
	if err := s.permits(address, a.Owner); err != nil {
		return err
	}
	used, err := a.used(Range{address, address})
	if err != nil {
		return err
	}
	if used > 0 {
		return failed("IpAddressAlreadyAllocated", Conflict, "fixed_ips", address.String(), "it is in use in subnet %s", s.ID)
	}
	a.chosen = append(a.chosen, FixedIP{SubnetID: s.ID, Address: address})
	return nil
}

// permits says whether a port of the owner can have the address. The gateway's is for a router: a guest with it would get what others
// send outside.
func (s *Subnet) permits(address netip.Addr, owner string) error {
	refuse := func(rule string, args ...any) error {
		return failed("InvalidIpForSubnet", Invalid, "fixed_ips", address.String(), rule, args...)
	}
	wide := address.Is4() && s.CIDR.Bits() < 31
	switch {
	case !s.CIDR.Contains(address):
		return refuse("it is not in %s of subnet %s", s.CIDR, s.ID)
	case wide && address == s.CIDR.Addr():
		return refuse("it is the network's address of %s", s.CIDR)
	case wide && address == lastOf(s.CIDR):
		return refuse("it is the broadcast address of %s", s.CIDR)
	case address.Is6() && address == s.CIDR.Addr() && !isRouterOwner(owner) && owner != "":
		return refuse("it is the routers' anycast address of %s", s.CIDR)
	case address == s.Gateway && IsGuestPort(owner):
		return refuse("it is the gateway of subnet %s", s.ID)
	}
	return nil
}

// pick chooses an address of the pools of the first subnet that has one left.
func (a *Addresses) pick(subnets []Subnet) (FixedIP, error) {
	for _, s := range subnets {
		for _, pool := range s.Pools {
			address, err := a.free(pool)
			if err != nil {
				return FixedIP{}, err
			}
			if address.IsValid() {
				return FixedIP{SubnetID: s.ID, Address: address}, nil
			}
		}
	}
	if len(subnets) == 1 {
		return FixedIP{}, failed("IpAddressGenerationFailure", Conflict, "", "", "no more IP addresses available on network %s: subnet %s has none left in its allocation pools",
			a.NetworkID, subnets[0].ID)
	}
	return FixedIP{}, failed("IpAddressGenerationFailure", Conflict, "", "", "no more IP addresses available on network %s", a.NetworkID)
}

// probes is how often an address is guessed. In a pool that is half full one guess in 65,536 fails so often in a row.
const probes = 16

// free finds an address of a pool that nobody has; the zero Addr if there is none. It costs one look-up unless the pool is nearly full,
// and then a few counts.
func (a *Addresses) free(pool Range) (netip.Addr, error) {
	span := pool.span()
	for range probes {
		if a.Random == nil {
			break
		}
		address := plus(pool.First, a.Random(span+1))
		if used, err := a.used(Range{address, address}); err != nil || used == 0 {
			return address, err
		}
	}
	used, err := a.used(Range{pool.First, plus(pool.First, span)})
	if err != nil || uint64(used) > span {
		return netip.Addr{}, err
	}
	return a.lowest(pool.First, span)
}

// lowest is the first free address of those from first on, up to span after it, among which there is one.
func (a *Addresses) lowest(first netip.Addr, span uint64) (netip.Addr, error) {
	for span > 0 {
		half := span / 2
		used, err := a.used(Range{first, plus(first, half)})
		if err != nil {
			return netip.Addr{}, err
		}
		if uint64(used) <= half {
			span = half
		} else {
			first, span = plus(first, half+1), span-half-1
		}
	}
	return first, nil
}

// used counts also what was chosen a moment ago.
func (a *Addresses) used(within Range) (int, error) {
	used, err := a.Used(within)
	for _, ip := range a.chosen {
		if within.Contains(ip.Address) {
			used++
		}
	}
	return used, err
}

// withAutomatic adds the addresses that the guest makes itself.
func (a *Addresses) withAutomatic() ([]FixedIP, error) {
	if isRouterOwner(a.Owner) {
		return a.chosen, nil
	}
	mac, err := net.ParseMAC(a.MAC)
	if err != nil {
		return nil, invalid("mac_address", a.MAC, "it is no MAC address")
	}
	candidates, err := a.candidates()
	if err != nil {
		return nil, err
	}
	for _, s := range candidates {
		if s.Automatic() {
			a.chosen = append(a.chosen, FixedIP{SubnetID: s.ID, Address: EUI64(s.CIDR, mac)})
		}
	}
	return a.chosen, nil
}
