package firewall_test

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"

	"compute-agent/network/firewall"
	"compute-agent/network/firewall/eval"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func flow(from, to string, protocol uint8, dport uint16) firewall.Flow {
	return firewall.Flow{Protocol: protocol, Src: endpoints[from].v4, Dst: endpoints[to].v4, SrcPort: 40000, DstPort: dport}
}

// TestLost: who loses its connection when something goes, and who does not.
func TestLost(t *testing.T) {
	flows := map[string]firewall.Flow{
		"http from the uplink": flow(uplink, web, 6, 80), "ssh from admin": flow(admin, web, 6, 22), "dns out": flow(web, uplink, 17, 53),
		"ping of web": flow(uplink, web, 1, 0), "what no rule allowed": flow(uplink, web, 6, 9999), "strangers": flow(uplink, uplink, 6, 80),
		"admin out": flow(admin, uplink, 6, 4711), "to the open port": flow(uplink, open, 6, 1), "dns in": flow(admin, web, 17, 53),
	}
	without := func(id string) func(*firewall.State) {
		return func(s *firewall.State) {
			s.Groups[0].Rules = slices.DeleteFunc(s.Groups[0].Rules, func(r firewall.Rule) bool { return r.ID == id })
		}
	}
	for name, c := range map[string]struct {
		change func(*firewall.State)
		want   []string
	}{
		"nothing":                    {func(*firewall.State) {}, nil},
		"a rule":                     {without("http"), []string{"http from the uplink"}},
		"the rule of a remote group": {without("ssh"), []string{"ssh from admin"}},
		"an egress rule":             {without("dns-out"), []string{"dns out"}},
		"ping":                       {without("ping"), []string{"ping of web"}},
		"a member":                   {func(s *firewall.State) { s.Groups[1].Members = nil }, []string{"ssh from admin"}},
		"a port": {func(s *firewall.State) { s.Ports = slices.Delete(s.Ports, 1, 2) },
			[]string{"admin out", "dns in", "ssh from admin"}},
		"an address":     {func(s *firewall.State) { s.Ports[2].FixedIPs = nil }, []string{"to the open port"}},
		"a port's group": {func(s *firewall.State) { s.Ports[1].Groups = nil }, []string{"admin out", "dns in", "ssh from admin"}},
		"a rule that another repeats": {func(s *firewall.State) {
			s.Groups[0].Rules[0] = firewall.Rule{ID: "all", Direction: firewall.Ingress, Ethertype: firewall.IPv4, Protocol: "tcp"}
		}, nil},
		"a rule, and one comes": {func(s *firewall.State) {
			without("http")(s)
			s.Groups[0].Rules = append(s.Groups[0].Rules, firewall.Rule{ID: "new", Direction: firewall.Ingress, Ethertype: firewall.IPv4, Protocol: "gre"})
		}, []string{"http from the uplink"}},
		"the filter":                    {func(s *firewall.State) { s.Ports[0].Unfiltered = true }, nil},
		"the unfiltered port's freedom": {func(s *firewall.State) { s.Ports[2].Unfiltered = false }, []string{"to the open port"}},
	} {
		t.Run(name, func(t *testing.T) {
			after := testState()
			c.change(&after)
			var got []string
			if lost := firewall.Lost(testState(), after, firewall.IPv4); lost != nil {
				for name, f := range flows {
					if lost(f) {
						got = append(got, name)
					}
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("cut: %q, want %q", got, c.want)
			}
		})
	}
}

// TestConnectionsAreCut: a connection that is under way passes until its rule goes, and another one goes on.
func TestConnectionsAreCut(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		h, f := filteredHost(t, v)
		answer := func(dport uint16, begin bool) bool {
			p := eval.Packet{SrcMAC: endpoints[uplink].mac, Src: endpoints[uplink].v4, Dst: endpoints[web].v4, Protocol: 6, SrcPort: 50000, DstPort: dport}
			back := eval.Packet{SrcMAC: endpoints[web].mac, Src: p.Dst, Dst: p.Src, Protocol: 6, SrcPort: dport, DstPort: 50000}
			if begin && !h.passes(uplink, web, p.SrcMAC, endpoints[web].mac, frameOf(p, endpoints[web].mac)) {
				t.Fatal("the connection does not begin")
			}
			flags := byte(tcpSYN | tcpACK)
			if !begin {
				flags = tcpACK
			}
			s := segment(back, flags, 7, 2)
			return h.passes(web, uplink, back.SrcMAC, endpoints[uplink].mac, ethernet(endpoints[uplink].mac, back.SrcMAC, 0x0800, ipv4(back, 0, s), s))
		}
		if !answer(80, true) || !answer(1500, true) {
			t.Fatal("answers do not pass")
		}
		s := testState()
		s.Groups[0].Rules = s.Groups[0].Rules[1:] // http goes
		apply(t, f, s)
		if answer(80, false) {
			t.Error("a connection goes on whose rule has gone")
		}
		if !answer(1500, false) {
			t.Error("a connection was cut whose rule is there")
		}
		left, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(left, func(c *netlink.ConntrackFlow) bool { return c.Forward.DstPort == 1500 }) {
			t.Errorf("the other connection is not tracked any more: %v", left)
		}
	})
}

// TestHostItself: what a guest sends to the host is its own, and what the host routes to a guest passes the guest's rules.
func TestHostItself(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		h, _ := filteredHost(t, v)
		h.connect("outside", false)
		gateway, outside := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.9")
		h.address(testBridge, "10.0.0.1/24")
		h.address("outside", "192.0.2.1/24")
		h.set("ipv4/ip_forward", "1")
		h.neighbour(testBridge, endpoints[web].v4, endpoints[web].mac)
		h.neighbour(testBridge, endpoints[admin].v4, endpoints[admin].mac)
		link, err := netlink.LinkByName("outside")
		h.must(err)
		h.neighbour("outside", outside, mac(9))
		for _, c := range []struct {
			name  string
			dst   string
			dport uint16
			want  bool
		}{{"routed, by a rule", web, 80, true}, {"routed, by no rule", web, 81, false}, {"routed, no member", web, 22, false}, {"routed to a port without ingress rules", admin, 80, false}} {
			p := eval.Packet{SrcMAC: mac(9), Src: outside, Dst: endpoints[c.dst].v4, Protocol: 6, SrcPort: 50000 + c.dport, DstPort: c.dport}
			if got := h.sentTo(c.dst, "outside", frameOf(p, link.Attrs().HardwareAddr)); got != c.want {
				t.Errorf("%s: passes: %v, want %v", c.name, got, c.want)
			}
		}
		for _, c := range []struct {
			name string
			p    eval.Packet
			want bool
		}{
			{"by a rule, to beyond the host", eval.Packet{SrcMAC: endpoints[web].mac, Src: endpoints[web].v4, Dst: outside, Protocol: 6, SrcPort: 51000, DstPort: 443}, true},
			{"by no rule, to beyond the host", eval.Packet{SrcMAC: endpoints[web].mac, Src: endpoints[web].v4, Dst: outside, Protocol: 6, SrcPort: 51001, DstPort: 25}, false},
			{"with a false address", eval.Packet{SrcMAC: endpoints[web].mac, Src: netip.MustParseAddr("10.0.0.42"), Dst: outside, Protocol: 6, SrcPort: 51002, DstPort: 443}, false},
		} {
			if got := h.sentTo("outside", web, frameOf(c.p, h.bridge)); got != c.want {
				t.Errorf("%s: passes: %v, want %v", c.name, got, c.want)
			}
		}
		rules := evaluator(t, v, "iptables")
		for _, c := range []struct {
			src   netip.Addr
			dport uint16
			want  bool
		}{{endpoints[web].v4, 53, true}, {endpoints[web].v4, 54, false}, {netip.MustParseAddr("10.0.0.42"), 53, false}} {
			p := eval.Packet{In: testBridge, PhysIn: web, SrcMAC: endpoints[web].mac, Src: c.src, Dst: gateway, Protocol: 17, SrcPort: 52000 + c.dport, DstPort: c.dport, State: eval.New}
			if got := rules.Input(p).Accept; got != c.want {
				t.Errorf("the evaluator: to the host itself, %s to port %d: %v, want %v", c.src, c.dport, got, c.want)
			}
			if got := h.received(p); got != c.want {
				t.Errorf("to the host itself: %s to port %d: %v, want %v", c.src, c.dport, got, c.want)
			}
		}
	})
}

func (h *host) address(device, cidr string) {
	h.t.Helper()
	link, err := netlink.LinkByName(device)
	h.must(err)
	a, err := netlink.ParseAddr(cidr)
	h.must(err)
	h.must(netlink.AddrAdd(link, a))
}

func (h *host) neighbour(device string, ip netip.Addr, mac []byte) {
	h.t.Helper()
	link, err := netlink.LinkByName(device)
	h.must(err)
	h.must(netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac}))
}

// tracked are the connections of UDP: the host itself has others, with groups.
func (h *host) tracked() []*netlink.ConntrackFlow {
	h.t.Helper()
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
	h.must(err)
	return slices.DeleteFunc(flows, func(f *netlink.ConntrackFlow) bool { return f.Forward.Protocol != unix.IPPROTO_UDP })
}

// TestVLANs: in a bridge of several VLANs a frame with a tag is filtered, and tracked in the zone of its VLAN, whether it comes from the wire or
// from the port; a guest's own tags do not pass.
func TestVLANs(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		h, f := filteredHost(t, v)
		h.set("bridge/bridge-nf-filter-vlan-tagged", "1")
		s := testState()
		for i := range s.Ports {
			s.Ports[i].VLAN, s.Ports[i].Zone = []uint16{100, 101, 102}[i], uint16(7+i)
		}
		from := func(who string, port uint16, to string) eval.Packet {
			return eval.Packet{SrcMAC: endpoints[who].mac, Src: endpoints[who].v4, Dst: endpoints[to].v4, Protocol: 17, SrcPort: 123, DstPort: port}
		}
		s.Devices = []firewall.Device{{Name: uplink, VLAN: 102}}
		apply(t, f, s)
		if p := from(uplink, 4005, open); !h.passes(uplink, open, p.SrcMAC, endpoints[open].mac, frameOf(p, endpoints[open].mac)) {
			t.Error("what comes by another device of a VLAN does not pass")
		}
		s.Devices, s.Ports[2].VLAN = nil, 1
		apply(t, f, s)
		tagged := func(from, to string, vlan byte, p eval.Packet, toMAC net.HardwareAddr) bool {
			t.Helper()
			plain := frameOf(p, toMAC)
			return h.passesAs(from, to, p.SrcMAC, toMAC, plain, slices.Concat(plain[:12], []byte{0x81, 0, 0, vlan}, plain[12:]))
		}
		denied := from(uplink, 4000, web)
		denied.SrcPort = 124
		if tagged(uplink, web, 100, denied, endpoints[web].mac) {
			t.Error("what no rule allows passes with a tag")
		}
		for vlan, port := range map[byte]uint16{100: 4000, 101: 4001} {
			p := from(uplink, port, web)
			if !tagged(uplink, web, vlan, p, endpoints[web].mac) {
				t.Errorf("what a rule allows does not pass with tag %d", vlan)
			}
		}
		plain, answer := from(uplink, 4003, open), from(open, 4004, uplink)
		if !h.passes(uplink, open, plain.SrcMAC, endpoints[open].mac, frameOf(plain, endpoints[open].mac)) ||
			!h.passes(open, uplink, answer.SrcMAC, endpoints[uplink].mac, frameOf(answer, endpoints[uplink].mac)) {
			t.Error("what has no tag does not pass")
		}
		own := from(admin, 4002, uplink)
		if !h.passes(admin, uplink, own.SrcMAC, endpoints[uplink].mac, frameOf(own, endpoints[uplink].mac)) {
			t.Error("what a port may send does not pass")
		}
		if tagged(admin, uplink, 101, own, endpoints[uplink].mac) {
			t.Error("what a guest tags passes")
		}
		zones := map[uint16]uint16{}
		for _, flow := range h.tracked() {
			zones[flow.Forward.DstPort] = flow.Zone
		}
		if want := map[uint16]uint16{4000: 7, 4001: 8, 4002: 8, 4003: 9, 4004: 9, 4005: 9}; !maps.Equal(zones, want) {
			t.Errorf("the zones of each port are %v, want %v", zones, want)
		}
	})
}

// TestZonesAndStateless: an answer passes in a zone as it does without, and for a stateless group only by a rule.
func TestZonesAndStateless(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		h, f := filteredHost(t, v)
		question := eval.Packet{SrcMAC: endpoints[uplink].mac, Src: endpoints[uplink].v4, Dst: endpoints[web].v4, Protocol: 17, SrcPort: 123, DstPort: 4000}
		answer := eval.Packet{SrcMAC: endpoints[web].mac, Src: question.Dst, Dst: question.Src, Protocol: 17, SrcPort: 4000, DstPort: 123}
		answered := func() bool {
			t.Helper()
			if !h.passes(uplink, web, question.SrcMAC, endpoints[web].mac, frameOf(question, endpoints[web].mac)) {
				t.Fatal("the question does not pass")
			}
			return h.passes(web, uplink, answer.SrcMAC, endpoints[uplink].mac, frameOf(answer, endpoints[uplink].mac))
		}
		s := testState()
		for i := range s.Ports {
			s.Ports[i].Zone = 7
		}
		apply(t, f, s)
		if !answered() {
			t.Error("an answer in a zone does not pass")
		}
		flows := h.tracked()
		if len(flows) == 0 || flows[0].Zone != 7 {
			t.Errorf("tracked: %v, want one in zone 7", flows)
		}
		stateless := testState()
		stateless.Groups[0].Stateless = true
		apply(t, f, stateless)
		h.must(netlink.ConntrackTableFlush(netlink.ConntrackTable))
		if answered() {
			t.Error("an answer passes without a rule in a stateless group")
		}
		with := testState()
		with.Groups[0].Stateless = true
		with.Groups[0].Rules = append(with.Groups[0].Rules, firewall.Rule{ID: "ntp-out", Direction: firewall.Egress, Ethertype: firewall.IPv4, Protocol: "udp",
			Ports: &firewall.PortRange{Min: 123, Max: 123}})
		apply(t, f, with)
		if !answered() {
			t.Error("an answer does not pass by its rule")
		}
		if flows = h.tracked(); len(flows) != 0 {
			t.Errorf("tracked all the same: %v", flows)
		}
	})
}
