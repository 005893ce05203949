package firewall_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"compute-agent/internal/golden"
	"compute-agent/network/firewall"
	"compute-agent/network/firewall/eval"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestGolden has whole rule sets, as a person can read them.
func TestGolden(t *testing.T) {
	stateless := testState()
	stateless.Groups[0].Stateless = true
	for i := range stateless.Ports {
		stateless.Ports[i].Zone = 7
	}
	vlans := testState()
	for i := range vlans.Ports {
		vlans.Ports[i].VLAN, vlans.Ports[i].Zone = []uint16{1, 100, 100}[i], []uint16{7, 8, 8}[i]
	}
	vlans.Devices = []firewall.Device{{Name: "tapdhcp", VLAN: 100}, {Name: "taprouter", VLAN: 200}, {Name: "tapflat", VLAN: 1}}
	bare := firewall.State{Ports: []firewall.Port{{ID: "p", Device: "tap0", MAC: mac(1)}}}
	nova := testState()
	nova.Profile = firewall.ProfileNova
	nova.Provider = []firewall.Rule{{ID: "spam", Direction: firewall.Ingress, Ethertype: firewall.IPv4, Protocol: "tcp", Ports: &firewall.PortRange{Min: 25, Max: 25}}}
	for i := range nova.Ports {
		nova.Ports[i].SameNet = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::/64")}
		nova.Ports[i].Routers = []netip.Addr{netip.MustParseAddr("fe80::1")}
	}
	for name, s := range map[string]firewall.State{"neutron": testState(), "stateless": stateless, "vlans": vlans, "bare": bare, "nova": nova, "none": {}} {
		t.Run(name, func(t *testing.T) {
			r, err := firewall.Generate(s)
			if err != nil {
				t.Fatal(err)
			}
			golden.Assert(t, "testdata/"+name+".golden", "# ipset\n"+firewall.SetsText(r.Sets)+"# iptables\n"+firewall.Text(r.IPv4)+
				"# ip6tables\n"+firewall.Text(r.IPv6)+"# nft\n"+r.Guard)
		})
	}
}

// TestOrderDoesNotMatter: a State in another order is the same rule set.
func TestOrderDoesNotMatter(t *testing.T) {
	s, other := testState(), testState()
	slices.Reverse(other.Ports)
	slices.Reverse(other.Groups)
	a, err1 := firewall.Generate(s)
	b, err2 := firewall.Generate(other)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(firewall.Text(a.IPv4)+firewall.Text(a.IPv6)+a.Guard, firewall.Text(b.IPv4)+firewall.Text(b.IPv6)+b.Guard); diff != "" {
		t.Error(diff)
	}
}

// TestChanges: what Changes says, done by the evaluator, makes one State's rule set of another's.
func TestChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, err1 := firewall.Generate(anyState(t))
		to, err2 := firewall.Generate(anyState(t))
		sets := eval.Sets{}
		rules := eval.NewRuleset(sets)
		if err := errors.Join(err1, err2, sets.Restore(firewall.SetsText(from.Sets)), sets.Restore(firewall.SetsText(to.Sets))); err != nil {
			t.Fatal(err)
		}
		for i := range from.IPv4 {
			change := firewall.Changes(firewall.Table{}, from.IPv4[i])
			change = append(change, firewall.Changes(from.IPv4[i], to.IPv4[i])...)
			if err := rules.Restore(strings.Join(change, "\n")); err != nil {
				t.Fatal(err)
			}
			name := to.IPv4[i].Name
			for _, c := range to.IPv4[i].Chains {
				if diff := cmp.Diff(c.Rules, rules.Rules(name, c.Name)); diff != "" && len(c.Rules) > 0 {
					t.Fatalf("%s (-want +got):\n%s", c.Name, diff)
				}
			}
			for _, c := range rules.Chains(name) {
				if strings.HasPrefix(c, "cagent-") && !slices.ContainsFunc(to.IPv4[i].Chains, func(w firewall.Chain) bool { return w.Name == c }) {
					t.Fatalf("chain %s is left", c)
				}
			}
			if again := firewall.Changes(to.IPv4[i], to.IPv4[i]); again != nil {
				t.Fatalf("no change takes %q", again)
			}
		}
	})
}

// TestPairsTakeNothing: a port whose address pairs are another's address, or all addresses, changes nothing of what is for the other.
func TestPairsTakeNothing(t *testing.T) {
	s := testState()
	s.Groups = append(s.Groups, firewall.Group{ID: "all", Stateless: true, Rules: []firewall.Rule{{ID: "all", Direction: firewall.Ingress, Ethertype: firewall.IPv4}}})
	s.Ports = append([]firewall.Port{{ID: "thief", Device: "tap-thief", Bridge: testBridge, MAC: mac(7), FixedIPs: []netip.Addr{netip.MustParseAddr("10.0.0.66")}, Groups: []string{"all"},
		AddressPairs: []firewall.AddressPair{{Prefix: netip.PrefixFrom(endpoints[web].v4, 32)}, {Prefix: netip.MustParsePrefix("0.0.0.0/0")}}}}, s.Ports...)
	r, err := firewall.Generate(s)
	if err != nil {
		t.Fatal(err)
	}
	sets := eval.Sets{}
	rules := eval.NewRuleset(sets)
	if err := errors.Join(sets.Restore(firewall.SetsText(r.Sets)), rules.Restore(firewall.Text(r.IPv4))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		dst       netip.Addr
		in, out   string
		dport     uint16
		state     eval.State
		accept    bool
		decidedBy string
	}{
		{"routed to web", endpoints[web].v4, "eth0", testBridge, 81, eval.New, false, "cagent-i-tapweb"},
		{"routed to nobody's address", netip.MustParseAddr("10.0.0.200"), "eth0", testBridge, 81, eval.New, true, "FORWARD"},
		{"routed to the thief", netip.MustParseAddr("10.0.0.66"), "eth0", testBridge, 81, eval.New, true, "cagent-i-tap-thief"},
		{"an answer to web", endpoints[web].v4, testBridge, testBridge, 40000, eval.Established, true, "cagent-i-tapweb"},
	} {
		p := eval.Packet{In: c.in, Out: c.out, Src: netip.MustParseAddr("192.0.2.1"), Dst: c.dst, Protocol: 6, SrcPort: 9, DstPort: c.dport, State: c.state}
		if c.in == testBridge {
			p.PhysIn, p.PhysOut = uplink, web
		}
		if v := rules.Forward(p); v.Accept != c.accept || v.Decider().Chain != c.decidedBy {
			t.Errorf("%s: accept %v by %v", c.name, v.Accept, v.Decider())
		}
	}
}

// TestValidate: each field of a State, malformed, is refused with a message that names it.
func TestValidate(t *testing.T) {
	five, ten := uint8(5), uint16(10)
	port := func(change func(*firewall.Port)) func(*firewall.State) {
		return func(s *firewall.State) { change(&s.Ports[0]) }
	}
	rule := func(change func(*firewall.Rule)) func(*firewall.State) {
		return func(s *firewall.State) { change(&s.Groups[0].Rules[0]) }
	}
	for want, change := range map[string]func(*firewall.State){
		`profile "x" is not known`:                                       func(s *firewall.State) { s.Profile = "x" },
		`port: id: "": 1 to 64 characters`:                               port(func(p *firewall.Port) { p.ID = "" }),
		`port: id: "a\" -j ACCEPT": only letters`:                        port(func(p *firewall.Port) { p.ID = `a" -j ACCEPT` }),
		`port: id: "a\n-F": only letters`:                                port(func(p *firewall.Port) { p.ID = "a\n-F" }),
		`port port-tapweb: device: "tap0123456789abc": 1 to 15`:          port(func(p *firewall.Port) { p.Device = "tap0123456789abc" }),
		`port port-tapweb: device: "tap a": only letters`:                port(func(p *firewall.Port) { p.Device = "tap a" }),
		`port port-tapweb: device: "-j" begins with "-"`:                 port(func(p *firewall.Port) { p.Device = "-j" }),
		`port port-tapweb: bridge: "b\"": only letters`:                  port(func(p *firewall.Port) { p.Bridge = `b"` }),
		`port port-tapweb: vlan: 4095: 1 to 4094 in a bridge are wanted`: port(func(p *firewall.Port) { p.VLAN = 4095 }),
		`device: "-x" begins with "-"`:                                   func(s *firewall.State) { s.Devices = []firewall.Device{{Name: "-x"}} },
		`device tap1: vlan: 4095: 1 to 4094 are wanted`:                  func(s *firewall.State) { s.Devices = []firewall.Device{{Name: "tap1", VLAN: 4095}} },
		`port port-tapweb: vlan: 5: 1 to 4094 in a bridge are wanted`:    port(func(p *firewall.Port) { p.Bridge, p.VLAN = "", 5 }),
		`port port-tapweb: zone: needs a bridge`:                         port(func(p *firewall.Port) { p.Bridge, p.Zone = "", 1 }),
		`port port-tapweb: mac: "01:02" has not 6 bytes`:                 port(func(p *firewall.Port) { p.MAC = net.HardwareAddr{1, 2} }),
		`port port-tapweb: mac: 01:00:00:00:00:00 is a group's address`:  port(func(p *firewall.Port) { p.MAC = net.HardwareAddr{1, 0, 0, 0, 0, 0} }),
		`port port-tapweb: mac: 00:00:00:00:00:00 is nobody's`:           port(func(p *firewall.Port) { p.MAC = make(net.HardwareAddr, 6) }),
		`port port-tapweb: fixed ip: no address`:                         port(func(p *firewall.Port) { p.FixedIPs = []netip.Addr{{}} }),
		`port port-tapweb: fixed ip: ::ffff:1.2.3.4 is an IPv4`:          port(func(p *firewall.Port) { p.FixedIPs = []netip.Addr{netip.MustParseAddr("::ffff:1.2.3.4")} }),
		`port port-tapweb: fixed ip: "fe80::1%eth0" has a zone`:          port(func(p *firewall.Port) { p.FixedIPs = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} }),
		`port port-tapweb: fixed ip: 0.0.0.0 is no address of a port`:    port(func(p *firewall.Port) { p.FixedIPs = []netip.Addr{netip.IPv4Unspecified()} }),
		`port port-tapweb: dhcp server: no address`:                      port(func(p *firewall.Port) { p.DHCPServers = []netip.Addr{{}} }),
		`port port-tapweb: router: ff02::1 is no address of a port`:      port(func(p *firewall.Port) { p.Routers = []netip.Addr{netip.MustParseAddr("ff02::1")} }),
		`port port-tapweb: allowed address pair: no prefix`:              port(func(p *firewall.Port) { p.AddressPairs = []firewall.AddressPair{{}} }),
		`port port-tapweb: same net: no prefix`:                          port(func(p *firewall.Port) { p.SameNet = []netip.Prefix{{}} }),
		`port port-tapweb: security group: "x" is not known`:             port(func(p *firewall.Port) { p.Groups = []string{"x"} }),
		`port port-tapweb: security group: sg-web is there twice`:        port(func(p *firewall.Port) { p.Groups = []string{"sg-web", "sg-web"} }),
		`sg-web and sg-admin are not both stateful`: func(s *firewall.State) {
			s.Groups[1].Stateless, s.Ports[0].Groups = true, []string{"sg-web", "sg-admin"}
		},
		`port port-tapweb is there twice`:                                   func(s *firewall.State) { s.Ports[1].ID = s.Ports[0].ID },
		`device: tapweb is port port-tapweb's`:                              func(s *firewall.State) { s.Ports[1].Device = web },
		`group: id: "g;": only letters`:                                     func(s *firewall.State) { s.Groups[0].ID = "g;" },
		`group sg-web is there twice`:                                       func(s *firewall.State) { s.Groups[1].ID = "sg-web" },
		`group sg-admin: member: no prefix`:                                 func(s *firewall.State) { s.Groups[1].Members = []netip.Prefix{{}} },
		`rule: id: "$(reboot)": only letters`:                               rule(func(r *firewall.Rule) { r.ID = "$(reboot)" }),
		`rule http: direction: "in" is neither`:                             rule(func(r *firewall.Rule) { r.Direction = "in" }),
		`rule http: ethertype: "IPX" is neither`:                            rule(func(r *firewall.Rule) { r.Ethertype = "IPX" }),
		`rule http: protocol: "tcp -j ACCEPT" is neither a protocol's name`: rule(func(r *firewall.Rule) { r.Protocol = "tcp -j ACCEPT" }),
		`rule http: protocol: "256" is neither`:                             rule(func(r *firewall.Rule) { r.Protocol = "256" }),
		`rule http: ports: protocol "icmp" has no ports`:                    rule(func(r *firewall.Rule) { r.Protocol = "icmp" }),
		`rule http: ports: 10 is more than 9`:                               rule(func(r *firewall.Rule) { r.Ports = &firewall.PortRange{Min: ten, Max: 9} }),
		`rule http: source ports: protocol "" has no ports`:                 rule(func(r *firewall.Rule) { r.Protocol, r.Ports, r.SourcePorts = "", nil, &firewall.PortRange{} }),
		`rule http: icmp type: protocol "tcp" has none`:                     rule(func(r *firewall.Rule) { r.ICMPType = &five }),
		`rule http: icmp code: without a type`:                              rule(func(r *firewall.Rule) { r.ICMPCode = &five }),
		`rule http: remote: 2001:db8::/32 is not IPv4`:                      rule(func(r *firewall.Rule) { r.Remote = netip.MustParsePrefix("2001:db8::/32") }),
		`rule http: remote: a prefix and a group at once`:                   rule(func(r *firewall.Rule) { r.Remote, r.RemoteGroup = netip.MustParsePrefix("10.0.0.0/8"), "sg-admin" }),
		`group sg-web: rule http: remote group: "nobody" is not known`:      rule(func(r *firewall.Rule) { r.RemoteGroup = "nobody" }),
		`rule http: icmp type: 255 is any type to iptables`:                 rule(func(r *firewall.Rule) { any := uint8(255); r.Protocol, r.Ports, r.ICMPType = "icmp", nil, &any }),
	} {
		s := testState()
		change(&s)
		_, err := firewall.Generate(s)
		if !errors.Is(err, firewall.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %s", err, want)
		}
	}
}

// TestHostileNames: whatever text is in an ID or a name, either it is refused or every line of the rule set is one command of
// the agent's own.
func TestHostileNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := testState()
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9 "\n;$'\\-]{1,16}`)).Draw(t, "text")
		switch rapid.IntRange(0, 4).Draw(t, "where") {
		case 0:
			s.Ports[0].ID = text
		case 1:
			s.Ports[0].Device = text
		case 2:
			s.Groups[0].Rules[0].ID = text
		case 3:
			s.Groups[0].Rules[0].Protocol = text
		case 4:
			s.Groups[1].ID, s.Groups[0].Rules[2].RemoteGroup, s.Ports[1].Groups = text, text, []string{text}
			s.Groups[0].Rules = s.Groups[0].Rules[:3]
		}
		r, err := firewall.Generate(s)
		if err != nil {
			if !errors.Is(err, firewall.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		sets := eval.Sets{}
		if err := sets.Restore(firewall.SetsText(r.Sets)); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(firewall.Text(r.IPv4)) {
			ours := strings.HasPrefix(line, "-A cagent-") || strings.HasPrefix(line, ":cagent-")
			builtIn := strings.HasPrefix(line, ":FORWARD ") || strings.HasPrefix(line, ":INPUT ") || strings.HasPrefix(line, "-A FORWARD -j cagent-") ||
				strings.HasPrefix(line, "-A INPUT -j cagent-") || line == "*filter\n" || line == "COMMIT\n"
			if !ours && !builtIn {
				t.Fatalf("%q makes the line %q", text, line)
			}
		}
		if err := eval.NewRuleset(sets).Restore(firewall.Text(r.IPv4)); err != nil {
			t.Fatal(err)
		}
	})
}
