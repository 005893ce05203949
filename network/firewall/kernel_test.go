package firewall_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"compute-agent/internal/command"
	"compute-agent/network/firewall"
	"compute-agent/network/firewall/eval"

	"github.com/vishvananda/netlink"
)

// The guests of the tests: web lets in some, admin is in the group that web lets in more, open has no filter. The uplink is no port.
const (
	web, admin, open, uplink = "tapweb", "tapadmin", "tapopen", "uplink"
)

type endpoint struct {
	mac    net.HardwareAddr
	v4, v6 netip.Addr
}

var endpoints = map[string]endpoint{
	web:    {mac(1), netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("2001:db8::5")},
	admin:  {mac(2), netip.MustParseAddr("10.0.0.6"), netip.MustParseAddr("2001:db8::6")},
	open:   {mac(3), netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("2001:db8::7")},
	uplink: {mac(4), netip.MustParseAddr("10.0.0.99"), netip.MustParseAddr("2001:db8::99")},
}

func testState() firewall.State {
	rule := func(id string, d firewall.Direction, e firewall.Ethertype, protocol string) firewall.Rule {
		return firewall.Rule{ID: id, Direction: d, Ethertype: e, Protocol: protocol}
	}
	with := func(r firewall.Rule, change func(*firewall.Rule)) firewall.Rule { change(&r); return r }
	echo := uint8(8)
	s := firewall.State{Groups: []firewall.Group{
		{ID: "sg-web", Rules: []firewall.Rule{
			with(rule("http", firewall.Ingress, firewall.IPv4, "tcp"), func(r *firewall.Rule) { r.Ports = &firewall.PortRange{Min: 80, Max: 80} }),
			with(rule("high", firewall.Ingress, firewall.IPv4, "tcp"), func(r *firewall.Rule) { r.Ports = &firewall.PortRange{Min: 1000, Max: 2000} }),
			with(rule("ssh", firewall.Ingress, firewall.IPv4, "tcp"), func(r *firewall.Rule) {
				r.Ports, r.RemoteGroup = &firewall.PortRange{Min: 22, Max: 22}, "sg-admin"
			}),
			with(rule("dns", firewall.Ingress, firewall.IPv4, "udp"), func(r *firewall.Rule) {
				r.Ports, r.Remote = &firewall.PortRange{Min: 53, Max: 53}, netip.MustParsePrefix("10.0.0.0/29")
			}),
			with(rule("ntp", firewall.Ingress, firewall.IPv4, "udp"), func(r *firewall.Rule) { r.SourcePorts = &firewall.PortRange{Min: 123, Max: 123} }),
			with(rule("ping", firewall.Ingress, firewall.IPv4, "icmp"), func(r *firewall.Rule) { r.ICMPType = &echo }),
			rule("vrrp", firewall.Ingress, firewall.IPv4, "vrrp"),
			with(rule("http6", firewall.Ingress, firewall.IPv6, "tcp"), func(r *firewall.Rule) { r.Ports = &firewall.PortRange{Min: 80, Max: 80} }),
			with(rule("ssh6", firewall.Ingress, firewall.IPv6, "tcp"), func(r *firewall.Rule) {
				r.Ports, r.RemoteGroup = &firewall.PortRange{Min: 22, Max: 22}, "sg-admin"
			}),
			with(rule("web-out", firewall.Egress, firewall.IPv4, "tcp"), func(r *firewall.Rule) { r.Ports = &firewall.PortRange{Min: 443, Max: 443} }),
			with(rule("dns-out", firewall.Egress, firewall.IPv4, "udp"), func(r *firewall.Rule) { r.Ports = &firewall.PortRange{Min: 53, Max: 53} }),
		}},
		{ID: "sg-admin", Members: []netip.Prefix{netip.MustParsePrefix("10.0.0.6/32"), netip.MustParsePrefix("2001:db8::6/128")},
			Rules: []firewall.Rule{rule("all-out", firewall.Egress, firewall.IPv4, ""), rule("all-out6", firewall.Egress, firewall.IPv6, "")}},
	}}
	for _, p := range []struct {
		device string
		groups []string
	}{{web, []string{"sg-web"}}, {admin, []string{"sg-admin"}}, {open, nil}} {
		e := endpoints[p.device]
		s.Ports = append(s.Ports, firewall.Port{ID: "port-" + p.device, Device: p.device, Bridge: testBridge, MAC: e.mac,
			FixedIPs: []netip.Addr{e.v4, e.v6}, Groups: p.groups, Unfiltered: p.device == open,
			DHCPServers: []netip.Addr{netip.MustParseAddr("10.0.0.99")}})
	}
	s.Ports[0].AddressPairs = []firewall.AddressPair{{Prefix: netip.MustParsePrefix("10.0.0.100/32"), MAC: net.HardwareAddr{0, 0, 0x5e, 0, 1, 0x2a}}}
	return s
}

func eachVariant(t *testing.T, test func(t *testing.T, v firewall.Variant)) {
	for _, v := range []firewall.Variant{firewall.VariantNFT, firewall.VariantLegacy} {
		t.Run(string(v), func(t *testing.T) { test(t, v) })
	}
}

func filteredHost(t testing.TB, v firewall.Variant) (*host, *firewall.Firewall) {
	t.Helper()
	h := newHost(t, web, admin, open, uplink)
	for device, e := range endpoints {
		h.learn(device, e.mac)
	}
	f := firewall.New(command.Exec{}, v, firewall.Kernel{})
	if err := f.Apply(context.Background(), testState()); err != nil {
		t.Fatal(err)
	}
	return h, f
}

// evaluator answers for what the kernel holds, as its own programs print it.
func evaluator(t testing.TB, v firewall.Variant, program string) *eval.Ruleset {
	t.Helper()
	sets := eval.Sets{}
	rules := eval.NewRuleset(sets)
	if err := sets.Restore(output(t, "ipset", "save")); err != nil {
		t.Fatal(err)
	}
	if err := rules.Restore(output(t, program+"-"+string(v)+"-save")); err != nil {
		t.Fatal(err)
	}
	return rules
}

func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := command.Exec{}.Run(context.Background(), command.Cmd{Name: name, Args: args, MaxOutput: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

type sent struct {
	protocol     uint8
	sport, dport uint16
	kind, code   uint8
	state        eval.State
}

func (s sent) String() string {
	return fmt.Sprintf("%s protocol %d %d>%d type %d/%d", s.state, s.protocol, s.sport, s.dport, s.kind, s.code)
}

// packets is what is sent each way between all. A source port of zero is a new one each time.
var packets4 = []sent{
	{6, 0, 22, 0, 0, eval.New}, {6, 0, 79, 0, 0, eval.New}, {6, 0, 80, 0, 0, eval.New}, {6, 0, 81, 0, 0, eval.New},
	{6, 0, 443, 0, 0, eval.New}, {6, 0, 999, 0, 0, eval.New}, {6, 0, 1000, 0, 0, eval.New}, {6, 0, 2000, 0, 0, eval.New}, {6, 0, 2001, 0, 0, eval.New},
	{6, 0, 80, 0, 0, eval.Invalid}, {6, 0, 443, 0, 0, eval.Invalid}, {17, 0, 53, 0, 0, eval.New}, {17, 0, 54, 0, 0, eval.New},
	{17, 123, 4000, 0, 0, eval.New}, {17, 68, 67, 0, 0, eval.New}, {17, 67, 68, 0, 0, eval.New},
	{1, 0, 1, 8, 0, eval.New}, {1, 0, 1, 13, 0, eval.New}, {112, 0, 0, 0, 0, eval.New}, {47, 0, 0, 0, 0, eval.New},
}

var packets6 = []sent{
	{6, 0, 22, 0, 0, eval.New}, {6, 0, 80, 0, 0, eval.New}, {6, 0, 443, 0, 0, eval.New}, {17, 0, 53, 0, 0, eval.New},
	{17, 546, 547, 0, 0, eval.New}, {17, 547, 546, 0, 0, eval.New}, {58, 0, 1, 128, 0, eval.New}, {58, 0, 0, 130, 0, eval.Untracked},
	{58, 0, 0, 134, 0, eval.Untracked}, {58, 0, 0, 135, 0, eval.Untracked},
}

// TestKernelAgrees sends packets between all devices of a bridge, with true and with false source addresses. The kernel has
// to do with each what the evaluator says of the rules that it holds.
func TestKernelAgrees(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		h, _ := filteredHost(t, v)
		rules := map[bool]*eval.Ruleset{true: evaluator(t, v, "iptables"), false: evaluator(t, v, "ip6tables")}
		tried, passed, port := 0, 0, uint16(20000)
		for _, from := range []string{web, admin, open, uplink} {
			for _, to := range []string{web, admin, open, uplink} {
				if from == to {
					continue
				}
				for _, spoof := range []bool{false, true} {
					for _, list := range [][]sent{packets4, packets6} {
						for _, s := range list {
							port++
							h.must(netlink.ConntrackTableFlush(netlink.ConntrackTable)) // an earlier packet may have been the question to this
							p := packetOf(s, from, to, len(list) == len(packets4), spoof, port)
							want := rules[p.Src.Is4()].Forward(p)
							got := h.passes(from, to, p.SrcMAC, endpoints[to].mac, frameOf(p, endpoints[to].mac))
							tried++
							if got {
								passed++
							}
							if got != want.Accept {
								t.Errorf("%s > %s (spoofed: %v): %s: the kernel lets it pass: %v, but by %v it says %v", from, to, spoof, s, got, want.Decider(), want.Accept)
							}
						}
					}
				}
			}
		}
		t.Logf("%d packets sent, %d passed, as the evaluator said", tried, passed)
		if tried < 120 || passed == 0 || passed == tried {
			t.Error("too few packets, or of one kind")
		}
	})
}

func packetOf(s sent, from, to string, v4, spoof bool, port uint16) eval.Packet {
	a, b := endpoints[from], endpoints[to]
	p := eval.Packet{In: testBridge, Out: testBridge, PhysIn: from, PhysOut: to, SrcMAC: a.mac, Src: a.v6, Dst: b.v6, Protocol: s.protocol,
		SrcPort: s.sport, DstPort: s.dport, ICMPType: s.kind, ICMPCode: s.code, State: s.state}
	if v4 {
		p.Src, p.Dst = a.v4, b.v4
	}
	if spoof {
		p.Src = netip.MustParseAddr("2001:db8::42")
		if v4 {
			p.Src = netip.MustParseAddr("10.0.0.42")
		}
	}
	if p.SrcPort == 0 {
		p.SrcPort = port
	}
	return p
}

// TestKernelTable is what has to be, whatever rules say it.
func TestKernelTable(t *testing.T) {
	addr := netip.MustParseAddr
	everybody, all4 := net.HardwareAddr{255, 255, 255, 255, 255, 255}, addr("255.255.255.255")
	vip, vipMAC := addr("10.0.0.100"), net.HardwareAddr{0, 0, 0x5e, 0, 1, 0x2a}
	n := uint16(30000)
	packet := func(from, to string, protocol uint8, sport, dport uint16) eval.Packet {
		n++
		if sport == 0 {
			sport = n
		}
		return eval.Packet{SrcMAC: endpoints[from].mac, Src: endpoints[from].v4, Dst: endpoints[to].v4, Protocol: protocol, SrcPort: sport, DstPort: dport}
	}
	as := func(p eval.Packet, change func(*eval.Packet)) eval.Packet { change(&p); return p }
	e := endpoints
	lla := func(m net.HardwareAddr) netip.Addr {
		return addr(fmt.Sprintf("fe80::%02x%02x:%02xff:fe%02x:%02x%02x", m[0]^2, m[1], m[2], m[3], m[4], m[5]))
	}
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		h, _ := filteredHost(t, v)
		established := packet(uplink, web, 6, 0, 80)
		udp := packet(web, uplink, 17, 0, 53)
		reply := func(p eval.Packet, from string) eval.Packet {
			p.Src, p.Dst, p.SrcPort, p.DstPort, p.SrcMAC = p.Dst, p.Src, p.DstPort, p.SrcPort, e[from].mac
			return p
		}
		synAck := reply(established, web)
		unreachable := icmpError(reply(udp, uplink), frameOf(udp, e[uplink].mac)[14:])
		stray := icmpError(packet(uplink, web, 1, 0, 0), frameOf(packet(web, uplink, 17, 0, 99), e[uplink].mac)[14:])
		long := packet(uplink, web, 17, 0, 54)
		first, second := fragments(long, e[web].mac)
		allowed := packet(uplink, web, 17, 123, 4000)
		firstOK, secondOK := fragments(allowed, e[web].mac)
		for _, c := range []struct {
			name     string
			from, to string
			frames   [][]byte
			want     bool
			before   []byte // what goes the other way first
		}{
			{"a rule's port", uplink, web, list(frameOf(packet(uplink, web, 6, 0, 80), e[web].mac)), true, nil},
			{"no rule's port", uplink, web, list(frameOf(packet(uplink, web, 6, 0, 8080), e[web].mac)), false, nil},
			{"a member of the remote group", admin, web, list(frameOf(packet(admin, web, 6, 0, 22), e[web].mac)), true, nil},
			{"no member of the remote group", uplink, web, list(frameOf(packet(uplink, web, 6, 0, 22), e[web].mac)), false, nil},
			{"no member, but from an unfiltered port", open, web, list(frameOf(packet(open, web, 6, 0, 22), e[web].mac)), false, nil},
			{"egress by a rule", web, uplink, list(frameOf(packet(web, uplink, 6, 0, 443), e[uplink].mac)), true, nil},
			{"egress by no rule", web, uplink, list(frameOf(packet(web, uplink, 6, 0, 25), e[uplink].mac)), false, nil},
			{"egress by a rule, ingress by none", web, admin, list(frameOf(packet(web, admin, 6, 0, 443), e[admin].mac)), false, nil},
			{"an answer", web, uplink, list(ethernet(e[uplink].mac, e[web].mac, 0x0800,
				ipv4(synAck, 0, segment(synAck, tcpSYN|tcpACK, 7, 2)), segment(synAck, tcpSYN|tcpACK, 7, 2))), true, frameOf(established, e[web].mac)},
			{"an answer to nothing", web, uplink, list(ethernet(e[uplink].mac, e[web].mac, 0x0800,
				ipv4(reply(packet(uplink, web, 6, 0, 8081), web), 0, segment(reply(packet(uplink, web, 6, 0, 8081), web), tcpRST, 7, 2)),
				segment(reply(packet(uplink, web, 6, 0, 8081), web), tcpRST, 7, 2))), false, nil},
			{"an answer to a datagram", uplink, web, list(frameOf(reply(udp, uplink), e[web].mac)), true, frameOf(udp, e[uplink].mac)},
			{"an error about a datagram that was sent", uplink, web, list(ethernet(e[web].mac, e[uplink].mac, 0x0800, unreachable)), true, frameOf(udp, e[uplink].mac)},
			{"an error about nothing", uplink, web, list(ethernet(e[web].mac, e[uplink].mac, 0x0800, stray)), false, nil},
			{"a fragment that begins what no rule lets in", uplink, web, list(second, first, nil), false, nil},
			{"a fragment alone", uplink, web, list(second), false, nil},
			{"fragments of what a rule lets in", uplink, web, list(secondOK, firstOK, nil), true, nil},
			{"another's address", web, uplink, list(frameOf(as(packet(web, uplink, 6, 0, 443), func(p *eval.Packet) { p.Src = e[admin].v4 }), e[uplink].mac)), false, nil},
			{"another's MAC", admin, uplink, list(frameOf(as(packet(admin, uplink, 6, 0, 443), func(p *eval.Packet) { p.SrcMAC = e[web].mac }), e[uplink].mac)), false, nil},
			{"another's address and MAC", web, uplink, list(frameOf(packet(admin, uplink, 6, 0, 443), e[uplink].mac)), false, nil},
			{"a pair's address and MAC", web, uplink, list(frameOf(as(packet(web, uplink, 6, 0, 443), func(p *eval.Packet) { p.Src, p.SrcMAC = vip, vipMAC }), e[uplink].mac)), true, nil},
			{"a pair's address with the port's MAC", web, uplink, list(frameOf(as(packet(web, uplink, 6, 0, 443), func(p *eval.Packet) { p.Src = vip }), e[uplink].mac)), false, nil},
			{"the port's address with a pair's MAC", web, uplink, list(frameOf(as(packet(web, uplink, 6, 0, 443), func(p *eval.Packet) { p.SrcMAC = vipMAC }), e[uplink].mac)), false, nil},
			{"a false address from an unfiltered port", open, uplink, list(frameOf(as(packet(open, uplink, 6, 0, 25), func(p *eval.Packet) { p.Src = addr("10.9.9.9") }), e[uplink].mac)), true, nil},
			{"a DHCP discover", web, uplink, list(frameOf(as(packet(web, uplink, 17, 68, 67), func(p *eval.Packet) { p.Src, p.Dst = addr("0.0.0.0"), all4 }), everybody)), true, nil},
			{"a DHCP renewal", web, uplink, list(frameOf(packet(web, uplink, 17, 68, 67), e[uplink].mac)), true, nil},
			{"a DHCP offer from the server", uplink, web, list(frameOf(packet(uplink, web, 17, 67, 68), e[web].mac)), true, nil},
			{"a DHCP offer from a guest", admin, uplink, list(frameOf(packet(admin, uplink, 17, 67, 68), e[uplink].mac)), false, nil},
			{"a DHCP offer from a guest to another", admin, web, list(frameOf(packet(admin, web, 17, 67, 68), e[web].mac)), false, nil},
			{"a DHCPv6 answer from a guest", admin, uplink, list(frameOf(six(admin, uplink, 17, 547, 546, 0), e[uplink].mac)), false, nil},
			{"a router advertisement from a guest", admin, uplink, list(frameOf(six(admin, uplink, 58, 0, 0, 134), e[uplink].mac)), false, nil},
			{"a neighbour solicitation", admin, web, list(frameOf(six(admin, web, 58, 0, 0, 135), e[web].mac)), true, nil},
			{"a neighbour advertisement of its own", admin, web, list(advertisement(e[admin].mac, e[web].mac, e[admin].v6, e[web].v6, e[admin].v6)), true, nil},
			{"a neighbour advertisement of its link-local address", admin, web, list(advertisement(e[admin].mac, e[web].mac, lla(e[admin].mac), e[web].v6, lla(e[admin].mac))), true, nil},
			{"a neighbour advertisement of another's", admin, web, list(advertisement(e[admin].mac, e[web].mac, e[admin].v6, e[web].v6, e[uplink].v6)), false, nil},
			{"IPv6 behind a hop-by-hop header, by a rule", uplink, web, list(hopByHop(six(uplink, web, 6, n+500, 80, 0), e[web].mac)), true, nil},
			{"IPv6 behind a hop-by-hop header, by no rule", uplink, web, list(hopByHop(six(uplink, web, 6, n+501, 81, 0), e[web].mac)), false, nil},
			{"a router advertisement behind a hop-by-hop header", admin, uplink, list(hopByHop(six(admin, uplink, 58, 0, 0, 134), e[uplink].mac)), false, nil},
			{"an ARP request", web, admin, list(ethernet(everybody, e[web].mac, 0x0806, arp(1, e[web].mac, e[web].v4, e[admin].v4))), true, nil},
			{"an ARP probe", web, admin, list(ethernet(everybody, e[web].mac, 0x0806, arp(1, e[web].mac, addr("0.0.0.0"), e[web].v4))), true, nil},
			{"an ARP answer", web, admin, list(ethernet(e[admin].mac, e[web].mac, 0x0806, arp(2, e[web].mac, e[web].v4, e[admin].v4))), true, nil},
			{"an ARP answer for a pair's address", web, admin, list(ethernet(e[admin].mac, vipMAC, 0x0806, arp(2, vipMAC, vip, e[admin].v4))), true, nil},
			{"an ARP answer for another's address", web, admin, list(ethernet(e[admin].mac, e[web].mac, 0x0806, arp(2, e[web].mac, e[uplink].v4, e[admin].v4))), false, nil},
			{"an ARP answer with another's MAC inside", web, admin, list(ethernet(e[admin].mac, e[web].mac, 0x0806, arp(2, e[uplink].mac, e[web].v4, e[admin].v4))), false, nil},
			{"an ARP answer in another's frame", web, admin, list(ethernet(e[admin].mac, e[uplink].mac, 0x0806, arp(2, e[web].mac, e[web].v4, e[admin].v4))), false, nil},
			{"false ARP from an unfiltered port", open, web, list(ethernet(e[web].mac, e[open].mac, 0x0806, arp(2, e[open].mac, e[uplink].v4, e[web].v4))), true, nil},
			{"any other frame with its own MAC", web, admin, list(ethernet(e[admin].mac, e[web].mac, 0x88b6, make([]byte, 46))), true, nil},
			{"any other frame with another's MAC", web, admin, list(ethernet(e[admin].mac, e[uplink].mac, 0x88b6, make([]byte, 46))), false, nil},
			{"IPv4 in a VLAN tag", web, uplink, list(tagged(0x8100, frameOf(packet(web, uplink, 6, 0, 25), e[uplink].mac))), false, nil},
			{"IPv4 in a provider's tag", web, uplink, list(tagged(0x88a8, frameOf(packet(web, uplink, 6, 0, 25), e[uplink].mac))), false, nil},
			{"PPPoE", web, uplink, list(ethernet(e[uplink].mac, e[web].mac, 0x8864, make([]byte, 46))), false, nil},
		} {
			if c.before != nil && !h.passes(c.to, c.from, e[c.to].mac, e[c.from].mac, c.before) {
				t.Errorf("%s: what goes before does not pass", c.name)
			}
			if got := h.passes(c.from, c.to, e[c.from].mac, e[c.to].mac, c.frames...); got != c.want {
				t.Errorf("%s: passes: %v, want %v", c.name, got, c.want)
			}
		}
	})
}

func list(frames ...[]byte) [][]byte { return frames }

func six(from, to string, protocol uint8, sport, dport uint16, kind uint8) eval.Packet {
	return eval.Packet{SrcMAC: endpoints[from].mac, Src: endpoints[from].v6, Dst: endpoints[to].v6, Protocol: protocol, SrcPort: sport, DstPort: dport, ICMPType: kind}
}

func hopByHop(p eval.Packet, dst net.HardwareAddr) []byte {
	payload := append([]byte{p.Protocol, 0, 1, 4, 0, 0, 0, 0}, layer4Of(p)...)
	return ethernet(dst, p.SrcMAC, 0x86dd, ipv6(p, 0, payload), payload)
}

func tagged(kind uint16, frame []byte) []byte {
	tag := []byte{byte(kind >> 8), byte(kind), 0, 42}
	return bytes.Join([][]byte{frame[:12], tag, frame[12:]}, nil)
}

// icmpError is an ICMP packet that says that a packet's port cannot be reached.
func icmpError(p eval.Packet, about []byte) []byte {
	p.Protocol = 1
	body := append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, about[:28]...)
	sum := checksum(body)
	body[2], body[3] = byte(sum>>8), byte(sum)
	return append(ipv4(p, 0, body), body...)
}

// fragments are a datagram in two parts, which may arrive in one.
func fragments(p eval.Packet, dst net.HardwareAddr) (first, second []byte) {
	payload := layer4Of(p)
	const moreFragments = 0x2000
	first = ethernet(dst, p.SrcMAC, 0x0800, ipv4(p, moreFragments, payload[:8]), payload[:8])
	second = ethernet(dst, p.SrcMAC, 0x0800, ipv4(p, 1, payload[8:]), payload[8:])
	return first, second
}

// countOf is how many packets a rule has matched.
func countOf(t testing.TB, f *firewall.Firewall, has string) uint64 {
	t.Helper()
	counters, err := f.Counters(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counters {
		if strings.Contains(c.Rule, has) {
			return c.Packets
		}
	}
	t.Fatalf("no rule has %q", has)
	return 0
}
