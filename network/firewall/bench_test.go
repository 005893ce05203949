package firewall_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"compute-agent/internal/command"
	"compute-agent/network/firewall"
)

// benchState is a host of ports with so many rules each, of one group, with others for remote.
func benchState(ports, rules, members int) firewall.State {
	g := firewall.Group{ID: "6f0c5f4e-0b43-4c0e-8a1c-000000000001"}
	for i := range rules {
		p := uint16(1000 + i)
		g.Rules = append(g.Rules, firewall.Rule{ID: fmt.Sprintf("6f0c5f4e-0b43-4c0e-8a1c-%012d", i), Direction: firewall.Ingress, Ethertype: firewall.IPv4,
			Protocol: "tcp", Ports: &firewall.PortRange{Min: p, Max: p}, Remote: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i / 250), byte(i % 250), 0}), 24)})
	}
	s := firewall.State{Groups: []firewall.Group{g}}
	if members > 0 {
		far := firewall.Group{ID: "far"}
		for i := range members {
			far.Members = append(far.Members, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, byte(i / 250), byte(i % 250)}), 32))
		}
		s.Groups[0].Rules = append(s.Groups[0].Rules, firewall.Rule{ID: "far", Direction: firewall.Ingress, Ethertype: firewall.IPv4, RemoteGroup: "far"})
		s.Groups = append(s.Groups, far)
	}
	for i := range ports {
		s.Ports = append(s.Ports, firewall.Port{ID: fmt.Sprintf("6f0c5f4e-0b43-4c0e-8a1d-%012d", i), Device: fmt.Sprintf("tap%07d-00", i), Bridge: testBridge, MAC: mac(i % 200),
			FixedIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(i%250 + 1)})}, Groups: []string{g.ID}})
	}
	return s
}

// moreRules is the State with rules from one port to another in a group of its own, which only the last port is in.
func moreRules(s firewall.State, from, to uint16) firewall.State {
	g := firewall.Group{ID: "more"}
	for port := from; port <= to; port++ {
		g.Rules = append(g.Rules, firewall.Rule{ID: fmt.Sprint(port), Direction: firewall.Ingress,
			Ethertype: firewall.IPv4, Protocol: "tcp", Ports: &firewall.PortRange{Min: port, Max: port}})
	}
	out := s
	out.Groups = append(append([]firewall.Group{}, s.Groups...), g)
	out.Ports = append([]firewall.Port{}, s.Ports...)
	last := &out.Ports[len(out.Ports)-1]
	last.Groups = append(append([]string{}, last.Groups...), "more")
	return out
}

// ratio reports how many times faster than Neutron's Python code, which took so many microseconds (its best of the same
// work on the same machine).
func ratio(b *testing.B, neutron float64) {
	b.ReportMetric(neutron/(float64(b.Elapsed().Microseconds())/float64(b.N)), "x_python")
}

var sizes = []struct {
	ports, rules int
	neutron      float64 // one rule's change with iptables-restore, in microseconds
}{{2, 50, 14019}, {20, 50, 54879}, {100, 50, 144673}}

func BenchmarkGenerate(b *testing.B) {
	s := benchState(100, 50, 0)
	for b.Loop() {
		if _, err := firewall.Generate(s); err != nil {
			b.Fatal(err)
		}
	}
	ratio(b, 54085) // to add 5,000 rules and to compute what to load
}

func benchVariants(b *testing.B, bench func(b *testing.B, v firewall.Variant)) {
	for _, v := range []firewall.Variant{firewall.VariantNFT, firewall.VariantLegacy} {
		b.Run(string(v), func(b *testing.B) {
			newHost(b)
			bench(b, v)
		})
	}
}

// BenchmarkOneRule adds a rule to one port among 100, 1,000 and 5,000 rules, which is what Neutron was timed with.
func BenchmarkOneRule(b *testing.B) {
	benchOneRule(b, func(s firewall.State, n uint16) firewall.State { return moreRules(s, 1, n) })
}

// BenchmarkOneRuleReplaced puts another in the rule's place: the kernel waits for all who still see the old one, and its connections
// are looked for.
func BenchmarkOneRuleReplaced(b *testing.B) {
	benchOneRule(b, func(s firewall.State, n uint16) firewall.State { return moreRules(s, n, n) })
}

func benchOneRule(b *testing.B, with func(s firewall.State, n uint16) firewall.State) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size.ports*size.rules), func(b *testing.B) {
			benchVariants(b, func(b *testing.B, v firewall.Variant) {
				f := firewall.New(command.Exec{}, v, firewall.Kernel{})
				s := benchState(size.ports, size.rules, 0)
				apply(b, f, s)
				n := uint16(0)
				for b.Loop() {
					n++
					apply(b, f, with(s, n))
				}
				ratio(b, size.neutron)
			})
		})
	}
}

// BenchmarkFullApply loads 100 ports with 50 rules each on a host that has nothing.
func BenchmarkFullApply(b *testing.B) {
	benchVariants(b, func(b *testing.B, v firewall.Variant) {
		s := benchState(100, 50, 0)
		for b.Loop() {
			f := firewall.New(command.Exec{}, v, nil)
			if err := f.Apply(context.Background(), s); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			apply(b, f, firewall.State{})
			b.StartTimer()
		}
		ratio(b, 449000)
	})
}

// BenchmarkMemberJoins adds an address to a group of 1,000.
func BenchmarkMemberJoins(b *testing.B) {
	benchVariants(b, func(b *testing.B, v firewall.Variant) {
		f := firewall.New(command.Exec{}, v, firewall.Kernel{})
		s := benchState(100, 50, 1000)
		apply(b, f, s)
		n, members := 0, slices.Clone(s.Groups[1].Members)
		for b.Loop() {
			n++
			members = append(members, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 201, byte(n >> 8), byte(n)}), 32))
			with := s
			with.Groups = append([]firewall.Group{}, s.Groups...)
			with.Groups[1].Members = members
			apply(b, f, with)
		}
	})
}
