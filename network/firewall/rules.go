package firewall

import "net/netip"

// fixed is a rule that every port has. Its match is empty or ends with a space.
type fixed struct{ match, why, target string }

const (
	accept, drop, back = "ACCEPT", "DROP", "RETURN"

	establishedOnes = "-m state --state RELATED,ESTABLISHED "
	invalidOnes     = "-m state --state INVALID "
)

// chainText collects the rules of a chain in one piece of text, of which each is a part: a host has thousands.
type chainText struct {
	text []byte
	ends []int
}

// add writes a rule of a port. Port and rule IDs hold no character that would need more than the quotes.
func (c *chainText) add(match, port, why, target string) {
	c.text = append(c.text, match...)
	c.text = append(c.text, `-m comment --comment "port `...)
	c.text = append(c.text, port...)
	c.text = append(c.text, ' ')
	c.text = append(c.text, why...)
	c.text = append(c.text, `" -j `...)
	c.raw(target)
}

func (c *chainText) addAll(port string, rules []fixed) {
	for _, r := range rules {
		c.add(r.match, port, r.why, r.target)
	}
}

// raw writes a rule as it is, or the end of one.
func (c *chainText) raw(rule string) {
	c.text = append(c.text, rule...)
	c.ends = append(c.ends, len(c.text))
}

// chain returns what was collected, and begins anew.
func (c *chainText) chain(name string) Chain {
	text, begin := string(c.text), 0
	out := Chain{name, make([]string, len(c.ends))}
	for i, end := range c.ends {
		out.Rules[i] = text[begin:end]
		begin = end
	}
	c.text, c.ends = c.text[:0], c.ends[:0]
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

// ingress is the chain of what a port gets. ACCEPT is final: a packet of another port has passed that one's rules before.
func (g *generator) ingress(p *Port, e Ethertype) Chain {
	if g.Profile == ProfileNova {
		g.novaIngress(p, e)
	} else {
		g.out.addAll(p.ID, fixedIngress[e])
		g.servers(p, e)
		if e == IPv6 {
			g.routers(p, icmpv6(134))
		}
		g.groupRules(p, Ingress, e, accept)
		g.out.addAll(p.ID, ending)
	}
	return g.out.chain(ingressPrefix + p.Device)
}

// novaIngress is the order of nova-network's iptables driver.
func (g *generator) novaIngress(p *Port, e Ethertype) {
	g.out.addAll(p.ID, []fixed{{invalidOnes, "invalid", drop}, {establishedOnes, "established", accept}})
	g.out.raw("-j " + providerChain)
	g.servers(p, e)
	for _, n := range p.SameNet {
		if e.of(n.Addr()) {
			g.out.add(new(rule).prefix("-s", n).match(), p.ID, "same net", accept)
		}
	}
	if e == IPv6 {
		g.routers(p, "-p ipv6-icmp ")
	}
	g.groupRules(p, Ingress, e, accept)
	g.out.add("", p.ID, "no rule", drop)
}

// routers lets in what a network's routers may send.
func (g *generator) routers(p *Port, match string) {
	for _, router := range p.Routers {
		if router.Is6() {
			g.out.add("-s "+router.String()+"/128 "+match, p.ID, "router", accept)
		}
	}
}

// servers lets the answers of DHCP servers in: those to a broadcast belong to no known connection.
func (g *generator) servers(p *Port, e Ethertype) {
	for _, server := range p.DHCPServers {
		if e.of(server) {
			match := udp(67, 68)
			if e == IPv6 {
				match = udp(547, 546)
			}
			g.out.add("-s "+single(server).String()+" "+match, p.ID, "dhcp", accept)
		}
	}
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

// groupRules writes the rules of a port's groups in a direction.
func (g *generator) groupRules(p *Port, d Direction, e Ethertype, target string) {
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
			g.out.add(m.match, p.ID, m.why, target)
		}
	}
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
