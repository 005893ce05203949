package firewall

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// Flow is a connection as the kernel tracks it, in the direction in which it was begun.
type Flow struct {
	Zone             uint16
	Protocol         uint8
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
}

// Connections are the host's tracked connections.
type Connections interface {
	// Cut makes the kernel forget the connections of a family that match says, and says how many there were. They may not go on but
	// by rules.
	Cut(e Ethertype, match func(Flow) bool) (int, error)
}

// Kernel is the connections of this host's network namespace, by netlink.
type Kernel struct{}

// Cut implements Connections.
func (Kernel) Cut(e Ethertype, match func(Flow) bool) (int, error) {
	family := netlink.InetFamily(netlink.FAMILY_V4)
	if e == IPv6 {
		family = netlink.FAMILY_V6
	}
	n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter(match))
	if err != nil {
		return int(n), fmt.Errorf("conntrack: %w", err)
	}
	return int(n), nil
}

type filter func(Flow) bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f filter) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	src, ok1 := netip.AddrFromSlice(c.Forward.SrcIP)
	dst, ok2 := netip.AddrFromSlice(c.Forward.DstIP)
	return ok1 && ok2 && f(Flow{Zone: c.Zone, Protocol: c.Forward.Protocol, Src: src.Unmap(), Dst: dst.Unmap(),
		SrcPort: c.Forward.SrcPort, DstPort: c.Forward.DstPort})
}

// cut cuts what the State before allowed and this one does not. Nothing is known of what was before the agent started.
func (f *Firewall) cut(s State) error {
	before := f.state
	f.state = &s
	if before == nil || f.connections == nil {
		return nil
	}
	for _, e := range []Ethertype{IPv4, IPv6} {
		if lost := Lost(*before, s, e); lost != nil {
			if _, err := f.connections.Cut(e, lost); err != nil {
				return err
			}
		}
	}
	return nil
}

// Lost says of a connection of a family whether before allowed it and after does not; it is nil if after takes nothing away. Both are
// valid.
// Of ICMP the kernel tracks questions with answers, and tells no type: a connection is taken for an echo request's.
func Lost(before, after State, e Ethertype) func(Flow) bool {
	old, now := newIndex(before, e), newIndex(after, e)
	if !old.losesTo(now) {
		return nil
	}
	return func(f Flow) bool {
		return old.concerns(f) && old.allows(f) && (!now.concernsAll(f, old) || !now.allows(f))
	}
}

// index finds the ports of a State by their addresses of a family.
type index struct {
	State
	family Ethertype
	groups map[string]*Group
	ports  map[place]*Port
	paired []*Port // with address pairs
}

type place struct {
	zone uint16
	addr netip.Addr
}

func newIndex(s State, e Ethertype) *index {
	x := &index{State: s, family: e, groups: map[string]*Group{}, ports: make(map[place]*Port, len(s.Ports))}
	for i := range s.Groups {
		x.groups[s.Groups[i].ID] = &s.Groups[i]
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		if s.closed[p.ID] {
			continue
		}
		for _, ip := range p.fixed(e) {
			x.ports[place{p.Zone, ip}] = p
		}
		if len(p.AddressPairs) > 0 {
			x.paired = append(x.paired, p)
		}
	}
	return x
}

// port is who has an address, or else may use it.
func (x *index) port(zone uint16, a netip.Addr) *Port {
	if p := x.ports[place{zone, a}]; p != nil {
		return p
	}
	for _, p := range x.paired {
		if p.Zone != zone {
			continue
		}
		for _, pair := range p.AddressPairs {
			if pair.Prefix.Contains(a) {
				return p
			}
		}
	}
	return nil
}

func (x *index) concerns(f Flow) bool {
	return x.port(f.Zone, f.Src) != nil || x.port(f.Zone, f.Dst) != nil
}

// concernsAll says that each end of a connection that was a port's still is the same port's.
func (x *index) concernsAll(f Flow, before *index) bool {
	for _, a := range []netip.Addr{f.Src, f.Dst} {
		old, now := before.port(f.Zone, a), x.port(f.Zone, a)
		if old != nil && (now == nil || now.ID != old.ID) {
			return false
		}
	}
	return true
}

// allows says whether a packet that begins the connection passes.
func (x *index) allows(f Flow) bool {
	from, to := x.port(f.Zone, f.Src), x.port(f.Zone, f.Dst)
	if from != nil && !from.Unfiltered && x.Profile == ProfileNeutron && !x.lets(from, Egress, f) {
		return false
	}
	return to == nil || to.Unfiltered || x.lets(to, Ingress, f)
}

func (x *index) lets(p *Port, d Direction, f Flow) bool {
	if d == Egress && always(f) {
		return true
	}
	if d == Ingress {
		for i := range x.Provider {
			if x.matches(&x.Provider[i], f) {
				return false
			}
		}
		if slices.Contains(p.DHCPServers, f.Src) && f.Protocol == protoUDP && (f.DstPort == 68 || f.DstPort == 546) {
			return true
		}
		for _, n := range p.SameNet {
			if n.Contains(f.Src) && x.Profile == ProfileNova {
				return true
			}
		}
	}
	for _, id := range p.Groups {
		rules := x.groups[id].Rules
		for i := range rules {
			if rules[i].Direction == d && x.matches(&rules[i], f) {
				return true
			}
		}
	}
	return false
}

// always is what every guest may send.
func always(f Flow) bool {
	switch f.Protocol {
	case protoICMPv6:
		return true
	case protoUDP:
		return f.SrcPort == 68 && f.DstPort == 67 || f.SrcPort == 546 && f.DstPort == 547
	}
	return false
}

func (x *index) matches(r *Rule, f Flow) bool {
	if !r.Ethertype.of(f.Src) {
		return false
	}
	protocol, _ := protocolOf(r.Protocol, r.Ethertype) // validated
	if protocol != protoAny && protocol != f.Protocol {
		return false
	}
	echo := uint8(8)
	if protocol == protoICMPv6 {
		echo = 128
	}
	if r.ICMPType != nil && (*r.ICMPType != echo || r.ICMPCode != nil && *r.ICMPCode != 0) {
		return false
	}
	if !r.SourcePorts.has(f.SrcPort) || !r.Ports.has(f.DstPort) {
		return false
	}
	remote := f.Src
	if r.Direction == Egress {
		remote = f.Dst
	}
	if r.RemoteGroup != "" {
		return slices.ContainsFunc(x.groups[r.RemoteGroup].Members, func(m netip.Prefix) bool { return m.Contains(remote) })
	}
	return !r.Remote.IsValid() || r.Remote.Contains(remote)
}

func (p *PortRange) has(port uint16) bool { return p == nil || port >= p.Min && port <= p.Max }

// losesTo says whether anything that x has is not in now: a port or one of its addresses or groups, a rule, a member. What is
// only added takes no connection away, except a provider rule.
func (x *index) losesTo(now *index) bool {
	if x.Profile != now.Profile || len(now.Provider) > 0 {
		return true
	}
	for where, p := range x.ports {
		q := now.ports[where]
		if q == nil || q.ID != p.ID || p.Unfiltered && !q.Unfiltered || !containsAll(q.Groups, p.Groups) ||
			!containsAll(q.SameNet, p.SameNet) || !containsAll(q.DHCPServers, p.DHCPServers) {
			return true
		}
	}
	for id, g := range x.groups {
		h := now.groups[id]
		if h == nil || !x.sameRules(h.Rules, g.Rules) || !x.sameMembers(h.Members, g.Members) {
			return true
		}
	}
	return len(x.paired) > 0
}

func containsAll[T comparable](have, all []T) bool {
	if slices.Equal(have, all) {
		return true
	}
	in := make(map[T]bool, len(have))
	for _, v := range have {
		in[v] = true
	}
	return !slices.ContainsFunc(all, func(v T) bool { return !in[v] })
}

func (x *index) sameMembers(have, all []netip.Prefix) bool {
	if slices.Equal(have, all) {
		return true
	}
	in := make(map[netip.Prefix]bool, len(have))
	for _, m := range have {
		in[m] = true
	}
	return !slices.ContainsFunc(all, func(m netip.Prefix) bool { return x.family.of(m.Addr()) && !in[m] })
}

// sameRules says whether every rule of all, of the family, is among have.
func (x *index) sameRules(have, all []Rule) bool {
	if len(have) == len(all) && (len(have) == 0 || &have[0] == &all[0]) {
		return true
	}
	in := make(map[string]bool, len(have))
	for i := range have {
		if have[i].Ethertype == x.family {
			in[string(have[i].Direction)+have[i].match()] = true
		}
	}
	return !slices.ContainsFunc(all, func(r Rule) bool { return r.Ethertype == x.family && !in[string(r.Direction)+r.match()] })
}
