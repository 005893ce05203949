package firewall

import "net/netip"

// fixed is a rule that every port has. Its match is empty or ends with a space.
type fixed struct{ match, why, target string }

const (
	accept, drop, back = "ACCEPT", "DROP", "RETURN"

	establishedOnes = "-m state --state RELATED,ESTABLISHED "
	invalidOnes     = "-m state --state INVALID "
)

// line is the text of a rule of a port. Port and rule IDs hold no character that would need more than the quotes.
func line(match, port, why, target string) string {
	return match + `-m comment --comment "port ` + port + " " + why + `" -j ` + target
}

func lines(port string, rules ...fixed) []string {
	out := make([]string, len(rules), len(rules)+8)
	for i, r := range rules {
		out[i] = line(r.match, port, r.why, r.target)
	}
	return out
}

// fixedIngress is what is let in before the groups are asked. Multicast listener queries and neighbour discovery are what IPv6
// cannot do without.
var fixedIngress = map[Ethertype][]fixed{
	IPv4: {{establishedOnes, "established", accept}},
	IPv6: {
		{icmpv6(130), "discovery", accept}, {icmpv6(135), "discovery", accept}, {icmpv6(136), "discovery", accept},
		{establishedOnes, "established", accept},
	},
}

// ending denies what nobody allowed.
var ending = []fixed{{invalidOnes, "invalid", drop}, {"", "no rule", drop}}

// ingress are the rules of what a port gets. ACCEPT is final: a packet of another port has passed that one's rules before.
func (g *generator) ingress(p *Port, e Ethertype) []string {
	if g.Profile == ProfileNova {
		return g.novaIngress(p, e)
	}
	out := lines(p.ID, fixedIngress[e]...)
	out = append(out, servers(p, e)...)
	if e == IPv6 {
		out = append(out, routers(p, icmpv6(134))...)
	}
	out = append(out, g.groupRules(p, Ingress, e, accept)...)
	return append(out, lines(p.ID, ending...)...)
}

// novaIngress is the order of nova-network's iptables driver.
func (g *generator) novaIngress(p *Port, e Ethertype) []string {
	out := lines(p.ID, fixed{invalidOnes, "invalid", drop}, fixed{establishedOnes, "established", accept})
	out = append(out, "-j "+providerChain)
	out = append(out, servers(p, e)...)
	for _, n := range p.SameNet {
		if e.of(n.Addr()) {
			out = append(out, line(new(rule).prefix("-s", n).match(), p.ID, "same net", accept))
		}
	}
	if e == IPv6 {
		out = append(out, routers(p, new(rule).protocol(protoICMPv6).match())...)
	}
	out = append(out, g.groupRules(p, Ingress, e, accept)...)
	return append(out, line("", p.ID, "no rule", drop))
}

// routers lets in what a network's routers may send.
func routers(p *Port, match string) []string {
	var out []string
	for _, router := range p.Routers {
		if router.Is6() {
			out = append(out, line("-s "+router.String()+"/128 "+match, p.ID, "router", accept))
		}
	}
	return out
}

// servers lets the answers of DHCP servers in: those to a broadcast belong to no known connection.
func servers(p *Port, e Ethertype) []string {
	match := udp(67, 68)
	if e == IPv6 {
		match = udp(547, 546)
	}
	var out []string
	for _, server := range p.DHCPServers {
		if e.of(server) {
			out = append(out, line("-s "+single(server).String()+" "+match, p.ID, "dhcp", accept))
		}
	}
	return out
}

// provider are Nova's rules that come before every group's.
func (g *generator) provider(e Ethertype) Chain {
	c := Chain{Name: providerChain}
	for i := range g.Provider {
		if r := &g.Provider[i]; r.Ethertype == e {
			c.Rules = append(c.Rules, r.match()+`-m comment --comment "provider rule `+r.ID+`" -j DROP`)
		}
	}
	return c
}

// matched is a rule of a group as text, without the port that it becomes a rule of.
type matched struct {
	match, why string
	direction  Direction
	ethertype  Ethertype
}

// matchedRules are a group's rules, made once for all its ports. One that says the same as another before it is left out.
func (g *generator) matchedRules(id string) []matched {
	if out, made := g.matched[id]; made {
		return out
	}
	rules := g.groups[id].Rules
	out := make([]matched, 0, len(rules))
	seen := make(map[matched]bool, len(rules))
	for i := range rules {
		m := matched{rules[i].match(), "", rules[i].Direction, rules[i].Ethertype}
		if !seen[m] {
			seen[m] = true
			m.why = "rule " + rules[i].ID
			out = append(out, m)
		}
	}
	g.matched[id] = out
	return out
}

// groupRules are the rules of a port's groups in a direction.
func (g *generator) groupRules(p *Port, d Direction, e Ethertype, target string) []string {
	var out []string
	var seen map[string]bool
	if len(p.Groups) > 1 {
		seen = map[string]bool{}
	}
	for _, id := range p.Groups {
		for _, m := range g.matchedRules(id) {
			if m.direction != d || m.ethertype != e || seen[m.match] {
				continue
			}
			if seen != nil {
				seen[m.match] = true
			}
			out = append(out, line(m.match, p.ID, m.why, target))
		}
	}
	return out
}

// match is what a packet has to be for a rule.
func (r *Rule) match() string {
	protocol, _ := protocolOf(r.Protocol, r.Ethertype) // validated
	flag, side := "-s", "src"
	if r.Direction == Egress {
		flag, side = "-d", "dst"
	}
	m := new(rule).prefix(flag, r.Remote).protocol(protocol)
	if isICMP(protocol) {
		m.icmp(protocol, r.ICMPType, r.ICMPCode)
	} else {
		m.ports(protocol, r.SourcePorts, r.Ports)
	}
	if r.RemoteGroup != "" {
		m.words("-m set --match-set", setName(r.RemoteGroup, r.Ethertype), side)
	}
	return m.match()
}

func icmpv6(kind uint8) string {
	return new(rule).protocol(protoICMPv6).icmp(protoICMPv6, &kind, nil).match()
}

func udp(source, destination uint16) string {
	return new(rule).protocol(protoUDP).ports(protoUDP, &PortRange{source, source}, &PortRange{destination, destination}).match()
}

// dhcpDiscover is how a guest without an address asks for one.
var dhcpDiscover = new(rule).prefix("-s", single(netip.IPv4Unspecified())).
	prefix("-d", single(netip.AddrFrom4([4]byte{255, 255, 255, 255}))).match() + udp(68, 67)
