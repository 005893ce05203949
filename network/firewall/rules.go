package firewall

import (
	"net/netip"
	"slices"
)

const (
	established = "-m state --state RELATED,ESTABLISHED"
	invalidOnes = "-m state --state INVALID"
)

// ingress are the rules of what a port gets. ACCEPT is final: a packet of another port has passed that one's rules before.
func (g *generator) ingress(p *Port, e Ethertype) []string {
	if g.Profile == ProfileNova {
		return g.novaIngress(p, e)
	}
	var out []string
	if e == IPv6 {
		// Multicast listener queries and neighbour discovery, without which there is no IPv6.
		for _, kind := range []uint8{130, 135, 136} {
			out = append(out, icmpv6(kind).comment(p.ID, "discovery").jump("ACCEPT").String())
		}
	}
	out = append(out, new(rule).words(established).comment(p.ID, "established").jump("ACCEPT").String())
	out = append(out, servers(p, e)...)
	if e == IPv6 {
		for _, router := range p.Routers {
			if router.Is6() {
				r := new(rule).prefix("-s", single(router)).protocol(protoICMPv6).icmp(protoICMPv6, new8(134), nil)
				out = append(out, r.comment(p.ID, "router").jump("ACCEPT").String())
			}
		}
	}
	out = append(out, g.groupRules(p, Ingress, e, "ACCEPT")...)
	return append(out, ending(p)...)
}

// novaIngress is the order of nova-network's iptables driver.
func (g *generator) novaIngress(p *Port, e Ethertype) []string {
	out := []string{
		new(rule).words(invalidOnes).comment(p.ID, "invalid").jump("DROP").String(),
		new(rule).words(established).comment(p.ID, "established").jump("ACCEPT").String(),
		new(rule).jump(providerChain).String(),
	}
	out = append(out, servers(p, e)...)
	for _, n := range p.SameNet {
		if e.of(n.Addr()) {
			out = append(out, new(rule).prefix("-s", n).comment(p.ID, "same net").jump("ACCEPT").String())
		}
	}
	if e == IPv6 {
		for _, router := range p.Routers {
			if router.Is6() {
				out = append(out, new(rule).prefix("-s", single(router)).protocol(protoICMPv6).
					comment(p.ID, "router").jump("ACCEPT").String())
			}
		}
	}
	out = append(out, g.groupRules(p, Ingress, e, "ACCEPT")...)
	return append(out, new(rule).comment(p.ID, "no rule").jump("DROP").String())
}

// servers lets the answers of DHCP servers in: those to a broadcast belong to no known connection.
func servers(p *Port, e Ethertype) []string {
	from, to := uint16(67), uint16(68)
	if e == IPv6 {
		from, to = 547, 546
	}
	var out []string
	for _, server := range p.DHCPServers {
		if e.of(server) {
			r := new(rule).prefix("-s", single(server)).protocol(protoUDP).ports(protoUDP, one(from), one(to))
			out = append(out, r.comment(p.ID, "dhcp").jump("ACCEPT").String())
		}
	}
	return out
}

// provider are Nova's rules that come before every group's.
func (g *generator) provider(e Ethertype) Chain {
	c := Chain{Name: providerChain}
	for i := range g.Provider {
		if r := &g.Provider[i]; r.Ethertype == e {
			c.Rules = append(c.Rules, r.match(nil).words(`-m comment --comment "provider rule`, r.ID+`"`).jump("DROP").String())
		}
	}
	return c
}

// groupRules are the rules of a port's groups in a direction. One that says the same as another before it is left out.
func (g *generator) groupRules(p *Port, d Direction, e Ethertype, target string) []string {
	var out []string
	seen := map[string]bool{}
	for _, id := range p.Groups {
		rules := g.groups[id].Rules
		out = slices.Grow(out, len(rules))
		for i := range rules {
			r := &rules[i]
			if r.Direction != d || r.Ethertype != e {
				continue
			}
			m := r.match(make([]byte, 0, 192))
			if seen[string(m.b)] {
				continue
			}
			seen[string(m.b)] = true
			out = append(out, m.words(`-m comment --comment "port`, p.ID, "rule", r.ID+`"`).jump(target).String())
		}
	}
	return out
}

// match is what a packet has to be for a rule, written into b.
func (r *Rule) match(b []byte) *rule {
	protocol, _ := protocolOf(r.Protocol, r.Ethertype) // validated
	flag, side := "-s", "src"
	if r.Direction == Egress {
		flag, side = "-d", "dst"
	}
	m := &rule{b}
	m.prefix(flag, r.Remote).protocol(protocol)
	if isICMP(protocol) {
		m.icmp(protocol, r.ICMPType, r.ICMPCode)
	} else {
		m.ports(protocol, r.SourcePorts, r.Ports)
	}
	if r.RemoteGroup != "" {
		m.words("-m set --match-set", setName(r.RemoteGroup, r.Ethertype), side)
	}
	return m
}

func ending(p *Port) []string {
	return []string{
		new(rule).words(invalidOnes).comment(p.ID, "invalid").jump("DROP").String(),
		new(rule).comment(p.ID, "no rule").jump("DROP").String(),
	}
}

func icmpv6(kind uint8) *rule {
	return new(rule).protocol(protoICMPv6).icmp(protoICMPv6, &kind, nil)
}

func new8(n uint8) *uint8 { return &n }

func one(port uint16) *PortRange { return &PortRange{port, port} }

func dhcpDiscover() *rule {
	everybody := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return new(rule).prefix("-s", single(netip.IPv4Unspecified())).prefix("-d", single(everybody)).
		protocol(protoUDP).ports(protoUDP, one(68), one(67))
}
