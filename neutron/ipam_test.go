package neutron_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"compute-agent/neutron"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// subnet is one of network "n" with all that it can have in its pools.
func subnet(t testing.TB, id, cidr string, change ...func(*neutron.SubnetRequest)) neutron.Subnet {
	t.Helper()
	r := neutron.SubnetRequest{Subnet: neutron.Subnet{ID: id, NetworkID: "n", CIDR: prefix(cidr), DHCP: true}}
	for _, c := range change {
		c(&r)
	}
	s, err := r.Complete(neutron.Network{ID: "n", MTU: 1500}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func slaac(r *neutron.SubnetRequest) { r.AddressMode, r.RAMode = neutron.SLAAC, neutron.SLAAC }

// used is what ports have, sorted.
type used []netip.Addr

func (u *used) add(ips []neutron.FixedIP) {
	for _, ip := range ips {
		i, _ := slices.BinarySearchFunc(*u, ip.Address, netip.Addr.Compare)
		*u = slices.Insert(*u, i, ip.Address)
	}
}

func (u *used) count(within neutron.Range) (int, error) {
	first, _ := slices.BinarySearchFunc(*u, within.First, netip.Addr.Compare)
	last, found := slices.BinarySearchFunc(*u, within.Last, netip.Addr.Compare)
	if found {
		last++
	}
	return last - first, nil
}

func book(u *used, subnets ...neutron.Subnet) *neutron.Addresses {
	return &neutron.Addresses{NetworkID: "n", Subnets: subnets, MAC: "fa:16:3e:01:02:03", Used: u.count, Random: rand.Uint64N}
}

func TestAddressesOfANewPort(t *testing.T) {
	four, more := subnet(t, "four", "10.0.0.0/29"), subnet(t, "more", "10.0.1.0/30")
	six, auto := subnet(t, "six", "2001:db8:6::/64"), subnet(t, "auto", "2001:db8:a::/64", slaac)
	meant := subnet(t, "meant", "10.0.2.0/24", func(r *neutron.SubnetRequest) { r.ServiceTypes = []string{"network:floatingip"} })
	made := neutron.FixedIP{SubnetID: "auto", Address: addr("2001:db8:a::f816:3eff:fe01:203")}
	for name, c := range map[string]struct {
		subnets []neutron.Subnet
		owner   string
		asked   []neutron.FixedIP
		want    []neutron.FixedIP // an entry without an address is any of the subnet's
		err     string
	}{
		"one of each family":      {[]neutron.Subnet{four, more, six, auto}, "", nil, []neutron.FixedIP{{SubnetID: "four"}, {SubnetID: "six"}, made}, ""},
		"none is asked for":       {[]neutron.Subnet{four, six, auto}, "", []neutron.FixedIP{}, []neutron.FixedIP{made}, ""},
		"no subnets":              {nil, "", nil, nil, ""},
		"of a subnet":             {[]neutron.Subnet{four, more}, "", []neutron.FixedIP{{SubnetID: "more"}}, []neutron.FixedIP{{SubnetID: "more", Address: addr("10.0.1.2")}}, ""},
		"an address":              {[]neutron.Subnet{four, more}, "", []neutron.FixedIP{{Address: addr("10.0.0.5")}}, []neutron.FixedIP{{SubnetID: "four", Address: addr("10.0.0.5")}}, ""},
		"two of one subnet":       {[]neutron.Subnet{four}, "", []neutron.FixedIP{{SubnetID: "four"}, {SubnetID: "four"}}, []neutron.FixedIP{{SubnetID: "four"}, {SubnetID: "four"}}, ""},
		"an IPv6 one":             {[]neutron.Subnet{six}, "", []neutron.FixedIP{{Address: addr("2001:db8:6::77")}}, []neutron.FixedIP{{SubnetID: "six", Address: addr("2001:db8:6::77")}}, ""},
		"SLAAC by name":           {[]neutron.Subnet{auto}, "", []neutron.FixedIP{{SubnetID: "auto"}}, []neutron.FixedIP{made}, ""},
		"SLAAC, its own":          {[]neutron.Subnet{auto}, "", []neutron.FixedIP{made}, []neutron.FixedIP{made}, ""},
		"SLAAC, another":          {[]neutron.Subnet{auto}, "", []neutron.FixedIP{{Address: addr("2001:db8:a::9")}}, nil, `fixed_ips="2001:db8:a::9": in subnet auto guests make themselves`},
		"a router, SLAAC":         {[]neutron.Subnet{four, auto}, neutron.OwnerInterface, []neutron.FixedIP{{Address: addr("2001:db8:a::1")}}, []neutron.FixedIP{{SubnetID: "auto", Address: addr("2001:db8:a::1")}}, ""},
		"the gateway for nobody":  {[]neutron.Subnet{four}, "", []neutron.FixedIP{{Address: addr("10.0.0.1")}}, []neutron.FixedIP{{SubnetID: "four", Address: addr("10.0.0.1")}}, ""},
		"the gateway for a guest": {[]neutron.Subnet{four}, "compute:nova", []neutron.FixedIP{{Address: addr("10.0.0.1")}}, nil, "it is the gateway"},
		"the network's address":   {[]neutron.Subnet{four}, "", []neutron.FixedIP{{Address: addr("10.0.0.0")}}, nil, "it is the network's address"},
		"the broadcast address":   {[]neutron.Subnet{four}, "", []neutron.FixedIP{{Address: addr("10.0.0.7")}}, nil, "it is the broadcast address"},
		"the routers' anycast":    {[]neutron.Subnet{six}, "compute:nova", []neutron.FixedIP{{Address: addr("2001:db8:6::")}}, nil, "anycast"},
		"in another subnet":       {[]neutron.Subnet{four, more}, "", []neutron.FixedIP{{SubnetID: "four", Address: addr("10.0.1.2")}}, nil, "it is not in 10.0.0.0/29"},
		"in no subnet":            {[]neutron.Subnet{four}, "", []neutron.FixedIP{{Address: addr("10.9.9.9")}}, nil, "it is in no subnet of network n"},
		"of no subnet":            {[]neutron.Subnet{four}, "", []neutron.FixedIP{{SubnetID: "none"}}, nil, `fixed_ips="none": it is no subnet of network n`},
		"of nothing":              {[]neutron.Subnet{four}, "", []neutron.FixedIP{{}}, nil, "an entry needs subnet_id or ip_address"},
		"twice":                   {[]neutron.Subnet{four}, "", []neutron.FixedIP{{Address: addr("10.0.0.5")}, {Address: addr("10.0.0.5")}}, nil, "it is in use"},
		"more than there are":     {[]neutron.Subnet{more}, "", []neutron.FixedIP{{SubnetID: "more"}, {SubnetID: "more"}}, nil, "no more IP addresses available on network n"},
		"meant for others":        {[]neutron.Subnet{meant}, "compute:nova", nil, nil, `no subnet of network n is for ports of "compute:nova"`},
		"meant for it":            {[]neutron.Subnet{four, meant}, "network:floatingip", nil, []neutron.FixedIP{{SubnetID: "meant"}}, ""},
		"not meant for it":        {[]neutron.Subnet{meant, four}, "compute:nova", nil, []neutron.FixedIP{{SubnetID: "four"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := book(&used{}, c.subnets...)
			b.Owner = c.owner
			got, err := b.Choose(c.asked)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v, %v; want %q", got, err, c.err)
				}
				return
			}
			if err != nil || len(got) != len(c.want) {
				t.Fatalf("%v, %v; want %v", got, err, c.want)
			}
			for i, w := range c.want {
				if got[i].SubnetID != w.SubnetID || w.Address.IsValid() && got[i].Address != w.Address {
					t.Errorf("%v, want %v", got, c.want)
				}
			}
		})
	}
}

func TestAddressesThatStay(t *testing.T) {
	four, auto := subnet(t, "four", "10.0.0.0/24"), subnet(t, "auto", "2001:db8:a::/64", slaac)
	u := used{}
	own := []neutron.FixedIP{{SubnetID: "four", Address: addr("10.0.0.5")}, {SubnetID: "four", Address: addr("10.0.0.6")},
		{SubnetID: "auto", Address: addr("2001:db8:a::f816:3eff:fe01:203")}}
	u.add(own)
	for name, c := range map[string]struct{ asked, want []neutron.FixedIP }{
		"all":             {own, own},
		"one":             {own[1:2], own[1:]},
		"by its subnet":   {[]neutron.FixedIP{{SubnetID: "four"}}, []neutron.FixedIP{own[0], own[2]}},
		"none":            {[]neutron.FixedIP{}, own[2:]},
		"one and another": {[]neutron.FixedIP{{Address: addr("10.0.0.9")}, own[0]}, []neutron.FixedIP{{SubnetID: "four", Address: addr("10.0.0.9")}, own[0], own[2]}},
	} {
		if got, err := book(&u, four, auto).Change(own, c.asked); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
}

// Whatever ports come and go: none gets an address that another has, each is in a pool or was asked for, and a port is refused only
// when the pools are used up.
func TestNoAddressTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cidr := rapid.SampledFrom([]string{"10.0.0.0/28", "10.0.0.0/30", "10.0.0.0/31", "2001:db8::/124", "2001:db8::/64"}).Draw(t, "cidr")
		r := neutron.SubnetRequest{Subnet: neutron.Subnet{ID: "s", NetworkID: "n", CIDR: prefix(cidr)}, NoGateway: rapid.Bool().Draw(t, "no gateway")}
		s, err := r.Complete(neutron.Network{ID: "n", MTU: 1500}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Pools) > 0 && s.Pools[0].First.Next() == s.Pools[0].Last {
			s.Pools = []neutron.Range{{First: s.Pools[0].First, Last: s.Pools[0].First}, {First: s.Pools[0].Last, Last: s.Pools[0].Last}}
		}
		u, ports := used{}, [][]neutron.FixedIP{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(ports) > 0 && rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				i := rapid.IntRange(0, len(ports)-1).Draw(t, "port")
				u = slices.DeleteFunc(u, func(a netip.Addr) bool { return a == ports[i][0].Address })
				ports = slices.Delete(ports, i, i+1)
				continue
			}
			asked := []neutron.FixedIP{{SubnetID: "s"}}
			if rapid.Bool().Draw(t, "explicit") {
				a := s.CIDR.Addr()
				for range rapid.IntRange(0, 20).Draw(t, "address") {
					a = a.Next()
				}
				asked[0].Address = a
			}
			b := book(&u, s)
			if rapid.Bool().Draw(t, "lowest") {
				b.Random = nil
			}
			got, err := b.Choose(asked)
			if err != nil {
				checkRefusal(t, err, s, u, asked[0])
				continue
			}
			if slices.Contains(u, got[0].Address) || !s.CIDR.Contains(got[0].Address) {
				t.Fatalf("%s is somebody's, or not in %s", got[0].Address, s.CIDR)
			}
			if !asked[0].Address.IsValid() && !slices.ContainsFunc(s.Pools, func(p neutron.Range) bool { return p.Contains(got[0].Address) }) {
				t.Fatalf("%s is in no pool of %v", got[0].Address, s.Pools)
			}
			u.add(got)
			ports = append(ports, got)
		}
	})
}

func checkRefusal(t *rapid.T, err error, s neutron.Subnet, u used, asked neutron.FixedIP) {
	var why *neutron.Error
	if !errors.As(err, &why) {
		t.Fatal(err)
	}
	switch why.Class {
	case "IpAddressAlreadyAllocated":
		if !slices.Contains(u, asked.Address) {
			t.Fatalf("%v, and nobody has it", err)
		}
	case "InvalidIpForSubnet":
		if !asked.Address.IsValid() {
			t.Fatal(err)
		}
	case "IpAddressGenerationFailure":
		for _, pool := range s.Pools {
			for a := pool.First; pool.Contains(a) && pool.Last != s.CIDR.Addr(); a = a.Next() {
				if !slices.Contains(u, a) {
					t.Fatalf("%v, and %s is free", err, a)
				}
			}
		}
	default:
		t.Fatal(err)
	}
}

func TestEUI64(t *testing.T) {
	mac, _ := net.ParseMAC("00:16:3e:aa:bb:cc")
	if got := neutron.EUI64(prefix("2001:db8:1:2::/64"), mac); got != addr("2001:db8:1:2:216:3eff:feaa:bbcc") {
		t.Error(got)
	}
	if got := neutron.RandomMAC(0x0a0b0c); got != "fa:16:3e:0a:0b:0c" {
		t.Error(got)
	}
}

// A /16 with all but the last of its 65,533 addresses used: the whole cost of a choice is some counts.
func BenchmarkChooseOfAFullSubnet(b *testing.B) {
	s := subnet(b, "s", "10.0.0.0/16")
	var u used
	for a := s.Pools[0].First; a != s.Pools[0].Last; a = a.Next() {
		u = append(u, a)
	}
	for b.Loop() {
		got, err := book(&u, s).Choose(nil)
		if err != nil || got[0].Address != addr("10.0.255.254") {
			b.Fatal(got, err)
		}
	}
}
