package firewall

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
)

// RuleSet is all that a State asks to be loaded.
type RuleSet struct {
	// IPv4 and IPv6 are the tables raw and filter of a family.
	IPv4, IPv6 []Table
	Sets       []Set // sorted by name
	// Guard is the text of nft's table bridge cagent; empty for none.
	Guard string
}

// Chains of the filter table. A port's own are its device's name after these.
const (
	forwardChain  = own + "forward"  // of FORWARD
	inputChain    = own + "input"    // of INPUT
	outputChain   = own + "output"   // of OUTPUT; ProfileNova
	deliverChain  = own + "deliver"  // where a packet goes that its sender may send
	inChain       = own + "in"       // to the chain of the port that gets it
	providerChain = own + "provider" // ProfileNova
	rawChain      = own + "raw"      // of PREROUTING and OUTPUT, table raw

	egressPrefix  = own + "o-"
	ingressPrefix = own + "i-"
	spoofPrefix   = own + "s-"
)

// Generate makes the rule set of a State. It is the same for the same State, whatever the order of its Ports and Groups. The
// error is of Validate.
func Generate(s State) (RuleSet, error) {
	if err := s.Validate(); err != nil {
		return RuleSet{}, err
	}
	s.Ports = slices.SortedFunc(slices.Values(s.Ports), func(a, b Port) int { return cmp.Compare(a.Device, b.Device) })
	g := &generator{State: s, groups: make(map[string]*Group, len(s.Groups)), matched: map[string][]matched{}}
	for i := range s.Groups {
		g.groups[s.Groups[i].ID] = &s.Groups[i]
	}
	guard := g.guard()
	g.Ports = slices.DeleteFunc(g.Ports, func(p Port) bool { return g.closed[p.ID] })
	out := RuleSet{
		IPv4:  []Table{g.raw(IPv4), g.filter(IPv4)},
		IPv6:  []Table{g.raw(IPv6), g.filter(IPv6)},
		Sets:  g.sets(),
		Guard: guard,
	}
	return out, nil
}

type generator struct {
	State
	groups  map[string]*Group
	matched map[string][]matched
	out     chainText // the chain that is being written
}

// filter is the filter table of a family.
func (g *generator) filter(e Ethertype) Table {
	t := Table{Name: "filter"}
	if len(g.Ports) == 0 {
		return t
	}
	t.Hooks = []Hook{{"FORWARD", "-j " + forwardChain}, {"INPUT", "-j " + inputChain}}
	forward, input := Chain{Name: forwardChain}, Chain{Name: inputChain}
	if g.Profile == ProfileNova {
		t.Hooks = append(t.Hooks, Hook{"OUTPUT", "-j " + outputChain})
		t.Chains = append(t.Chains, Chain{outputChain, []string{"-j " + inChain}}, g.provider(e))
		if e == IPv4 {
			discover := dhcpDiscover + "-j ACCEPT"
			forward.Rules, input.Rules = append(forward.Rules, discover), append(input.Rules, discover)
		}
	}
	for i := range g.Ports {
		p := &g.Ports[i]
		from := "-m physdev --physdev-in " + p.Device
		if guarded := g.egress(p, e); guarded != nil {
			t.Chains = append(t.Chains, guarded...)
			forward.Rules = append(forward.Rules, from+" -j "+egressPrefix+p.Device)
			input.Rules = append(input.Rules, from+" -j "+egressPrefix+p.Device)
		}
		forward.Rules = append(forward.Rules, from+" -g "+deliverChain)
		if !p.Unfiltered {
			t.Chains = append(t.Chains, g.ingress(p, e))
		}
	}
	forward.Rules = append(forward.Rules, "-j "+inChain)
	t.Chains = append(t.Chains, forward, input, g.in(e),
		Chain{deliverChain, []string{"-j " + inChain, "-j ACCEPT"}})
	return t
}

// in finds the port that a packet is for: by its device when it is bridged, by address when the host routes it there, which
// iptables then does not know the device of. Who has an address comes before those who may use it too, so that nobody gets
// another's traffic past the other's rules.
func (g *generator) in(e Ethertype) Chain {
	c := Chain{Name: inChain}
	var fixed, extra []string
	for i := range g.Ports {
		p := &g.Ports[i]
		target := ingressPrefix + p.Device
		if p.Unfiltered {
			target = accept
		}
		if g.Profile != ProfileNova || !g.AsOpenStack { // Nova looks at addresses alone
			c.Rules = append(c.Rules, "-m physdev --physdev-out "+p.Device+" --physdev-is-bridged -j "+target)
		}
		if p.Bridge == "" && g.Profile != ProfileNova {
			continue
		}
		for _, ip := range p.fixed(e) {
			fixed = append(fixed, routed(ip, p.Bridge, target))
		}
		for _, ip := range p.extra(e) {
			extra = append(extra, routed(ip, p.Bridge, target))
		}
	}
	c.Rules = append(c.Rules, once(append(fixed, extra...))...)
	return c
}

// once leaves out what is there already: two pairs may have one address.
func once(rules []string) []string {
	seen := make(map[string]bool, len(rules))
	return slices.DeleteFunc(rules, func(r string) bool {
		again := seen[r]
		seen[r] = true
		return again
	})
}

func routed(ip netip.Addr, bridge, target string) string {
	r := new(rule).prefix("-d", single(ip))
	if bridge != "" { // what is flooded in the bridge goes to others too
		r.words("-o", bridge, "-m physdev ! --physdev-is-bridged")
	}
	return r.match() + "-j " + target
}

// fixed are a port's own addresses of a family.
func (p *Port) fixed(e Ethertype) []netip.Addr {
	var out []netip.Addr
	for _, ip := range p.FixedIPs {
		if e.of(ip) {
			out = append(out, ip)
		}
	}
	return out
}

// extra are the single addresses among a port's address pairs. Wider pairs may be anybody's.
func (p *Port) extra(e Ethertype) []netip.Addr {
	var out []netip.Addr
	for _, a := range p.AddressPairs {
		if e.of(a.Prefix.Addr()) && a.Prefix.IsSingleIP() {
			out = append(out, a.Prefix.Addr())
		}
	}
	return out
}

// raw sets the conntrack zone of each bridge's traffic, and takes that of stateless ports out of connection tracking. What comes
// from a bridge is seen there with the bridge as its device, whichever port it came by. In a bridge of several VLANs
// it is known by the mark that the guard gave it.
func (g *generator) raw(e Ethertype) Table {
	t := Table{Name: "raw"}
	c := Chain{Name: rawChain}
	var zones []string
	for i := range g.Ports {
		p := &g.Ports[i]
		if g.stateless(p) {
			c.Rules = append(c.Rules, notrack(p, e)...)
		}
		if p.Zone == 0 {
			continue
		}
		to := " -j CT --zone " + strconv.Itoa(int(p.Zone))
		zones = append(zones, "-i "+p.Bridge+p.inVLAN()+to)
		if p.VLAN <= untagged { // the host itself is in no other
			zones = append(zones, "-o "+p.Bridge+to)
		}
	}
	c.Rules = append(c.Rules, once(zones)...)
	if len(c.Rules) > 0 {
		t.Hooks = []Hook{{"PREROUTING", "-j " + rawChain}, {"OUTPUT", "-j " + rawChain}}
		t.Chains = []Chain{c}
	}
	return t
}

func notrack(p *Port, e Ethertype) []string {
	out := []string{"-m physdev --physdev-in " + p.Device + " -j CT --notrack"}
	for _, ip := range p.fixed(e) {
		r := new(rule).prefix("-d", single(ip))
		if p.Bridge != "" {
			r.words("-i", p.Bridge+p.inVLAN())
		}
		out = append(out, r.match()+"-j CT --notrack")
	}
	return out
}

func (g *generator) stateless(p *Port) bool {
	return !p.Unfiltered && len(p.Groups) > 0 && g.groups[p.Groups[0]].Stateless
}

// sets are those of the remote groups that rules of the ports name, in the families in which they do.
func (g *generator) sets() []Set {
	var out []Set
	seen := map[string]bool{}
	for i := range g.Ports {
		if g.Ports[i].Unfiltered {
			continue
		}
		for _, id := range g.Ports[i].Groups {
			for _, r := range g.groups[id].Rules {
				if r.RemoteGroup == "" || g.Profile == ProfileNova && r.Direction == Egress {
					continue
				}
				if name := setName(r.RemoteGroup, r.Ethertype); !seen[name] {
					seen[name] = true
					out = append(out, newSet(g.groups[r.RemoteGroup], r.Ethertype))
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
