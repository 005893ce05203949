package plan

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"

	"compute-agent/network/firewall"
	"compute-agent/network/firewall/eval"
)

// firewallVector is a case that the real Neutron or Nova answered, by each variant of it.
type firewallVector struct {
	ID     string
	Input  json.RawMessage
	Output map[string]struct {
		Steps []struct {
			Step  string
			IPv4  []string `json:"iptables_save"`
			IPv6  []string `json:"ip6tables_save"`
			IPSet []string `json:"ipset_save"`
		}
	}
}

// TestFirewallVectors sends the same packets through the rule sets that Neutron and Nova made and through the agent's. Where
// the verdicts differ the difference has to be one of testdata/firewall_differences.yaml, with its reason.
func TestFirewallVectors(t *testing.T) {
	accepted := readFirewallDifferences(t)
	cases, packets := 0, 0
	for _, line := range readLines(t, "testdata/firewall.jsonl.gz") {
		var v firewallVector
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		t.Run(v.ID, func(t *testing.T) {
			steps, err := Firewall(v.Input)
			if err != nil {
				t.Fatal(err)
			}
			for variant, output := range v.Output {
				if len(output.Steps) != len(steps) {
					t.Fatalf("%s: %d steps, of which the agent sees %d", variant, len(output.Steps), len(steps))
				}
				cases++
				for i, theirs := range output.Steps {
					c := comparison{t: t, id: fmt.Sprintf("%s/%s/%d", v.ID, variant, i), variant: variant, step: steps[i], accepted: accepted}
					c.compare(firewall.IPv4, theirs.IPv4, theirs.IPSet, existing(t, v.Input))
					c.compare(firewall.IPv6, theirs.IPv6, theirs.IPSet, nil)
					packets += c.packets
				}
			}
		})
	}
	for _, d := range accepted {
		if d.used == 0 {
			t.Errorf("difference %q is not there any more", d.Name)
		}
		t.Logf("difference %q: %d packets", d.Name, d.used)
	}
	t.Logf("%d rule sets compared with %d packets", cases, packets)
}

// existing are the rules of others that were on the host before.
func existing(t *testing.T, input []byte) []string {
	var q struct {
		Existing struct{ IPTables []string }
	}
	if err := json.Unmarshal(input, &q); err != nil {
		t.Fatal(err)
	}
	return q.Existing.IPTables
}

type comparison struct {
	t           *testing.T
	id, variant string
	step        FirewallStep
	accepted    []*firewallDifference
	packets     int
	shown       int
}

func (c *comparison) compare(e firewall.Ethertype, save, sets, existing []string) {
	theirSets, ourSets := eval.Sets{}, eval.Sets{}
	theirs, ours := eval.NewRuleset(theirSets), eval.NewRuleset(ourSets)
	tables := c.step.rules.IPv4
	if e == firewall.IPv6 {
		tables = c.step.rules.IPv6
	}
	changes := ""
	for _, table := range tables {
		changes += strings.Join(firewall.Changes(firewall.Table{}, table), "\n") + "\n"
	}
	for _, err := range []error{
		theirSets.Restore(strings.Join(sets, "\n")), theirs.Restore(strings.Join(save, "\n")),
		ourSets.Restore(firewall.SetsText(c.step.rules.Sets)), ours.Restore(strings.Join(existing, "\n")), ours.Restore(changes),
	} {
		if err != nil {
			c.t.Fatalf("%s: %v", c.id, err)
		}
	}
	for _, p := range trials(c.step.state, e) {
		c.packets++
		their := theirs.Forward(c.renamed(p.Packet))
		our := ours.Forward(p.Packet)
		if p.fromHost {
			their, our = theirs.Output(p.Packet), ours.Output(p.Packet)
		}
		if their.Accept != our.Accept {
			c.differs(p, their, our)
		}
	}
}

// renamed is the packet on the devices that Neutron's hybrid driver makes of a port's.
func (c *comparison) renamed(p eval.Packet) eval.Packet {
	if c.variant != "hybrid" {
		return p
	}
	for _, d := range []*string{&p.PhysIn, &p.PhysOut} {
		if strings.HasPrefix(*d, "tap") {
			*d = ("tap" + *d)[:14]
		}
	}
	return p
}

func (c *comparison) differs(p trial, their, our eval.Verdict) {
	for _, d := range c.accepted {
		if d.is(c.id, p, their, our) {
			d.used++
			return
		}
	}
	if c.shown++; c.shown < 5 {
		c.t.Errorf("%s: %s: theirs %v by %v, ours %v by %v", c.id, p, their.Accept, their.Decider(), our.Accept, our.Decider())
	}
}

// trial is a packet for a port or from it.
type trial struct {
	eval.Packet
	port     *firewall.Port
	egress   bool
	fromHost bool
}

func (p trial) String() string {
	way := "to"
	if p.egress {
		way = "from"
	}
	return fmt.Sprintf("%s %s %s: %s:%d > %s:%d protocol %d type %d/%d mac %s %s>%s", p.State, way, p.port.Device, p.Src, p.SrcPort, p.Dst, p.DstPort,
		p.Protocol, p.ICMPType, p.ICMPCode, p.SrcMAC, p.PhysIn, p.PhysOut)
}

// layer4 is what a packet is above IP.
type layer4 struct {
	protocol   uint8
	sport      uint16
	dport      uint16
	kind, code uint8
}

const uplink, bridge = "vxlan-42", "brqf0e1d2c3-b4"

var strangerMAC = net.HardwareAddr{0xfa, 0x16, 0x3e, 0xee, 0xee, 0xee}

// trials are the packets of a state: of each rule what is just inside and just outside of it, in each connection state, from and to
// each port, from true and from false addresses, and what every port may or may not do.
func trials(s firewall.State, e firewall.Ethertype) (out []trial) {
	for i := range s.Ports {
		p := &s.Ports[i]
		upper := layers(s, e)
		for _, remote := range remotes(s, p, e) {
			for _, l := range upper {
				for _, state := range []eval.State{eval.New, eval.Established, eval.Related, eval.Invalid, eval.Untracked} {
					out = append(out, exchange(s, p, e, remote, l, state)...)
				}
			}
		}
	}
	return out
}

func exchange(s firewall.State, p *firewall.Port, e firewall.Ethertype, remote netip.Addr, l layer4, state eval.State) (out []trial) {
	base := eval.Packet{In: bridge, Out: bridge, Protocol: l.protocol, SrcPort: l.sport, DstPort: l.dport, ICMPType: l.kind, ICMPCode: l.code, State: state}
	other := deviceOf(s, remote)
	for _, own := range sources(s, p, e) {
		in := base
		in.Src, in.Dst, in.SrcMAC, in.PhysIn, in.PhysOut = remote, own.ip, strangerMAC, other, p.Device
		if o := portOf(s, other); o != nil {
			in.SrcMAC = o.MAC
		}
		out = append(out, trial{Packet: in, port: p})
		if s.Profile == firewall.ProfileNova {
			out = append(out, trial{Packet: in, port: p, fromHost: true})
			continue
		}
		from := base
		from.Src, from.Dst, from.SrcMAC, from.PhysIn, from.PhysOut = own.ip, remote, own.mac, p.Device, other
		out = append(out, trial{Packet: from, port: p, egress: true})
	}
	return out
}

func portOf(s firewall.State, device string) *firewall.Port {
	for i := range s.Ports {
		if s.Ports[i].Device == device {
			return &s.Ports[i]
		}
	}
	return nil
}

func deviceOf(s firewall.State, a netip.Addr) string {
	for _, p := range s.Ports {
		if slices.Contains(p.FixedIPs, a) {
			return p.Device
		}
	}
	return uplink
}

type ownAddress struct {
	ip  netip.Addr
	mac net.HardwareAddr
}

// sources are the addresses that a port has, and such as it does not have.
func sources(s firewall.State, p *firewall.Port, e firewall.Ethertype) []ownAddress {
	var out []ownAddress
	add := func(a string, mac net.HardwareAddr) { out = append(out, ownAddress{netip.MustParseAddr(a), mac}) }
	for _, ip := range p.FixedIPs {
		if ip.Is4() == (e == firewall.IPv4) {
			out = append(out, ownAddress{ip, p.MAC}, ownAddress{ip, strangerMAC})
		}
	}
	for _, a := range p.AddressPairs {
		if a.Prefix.Addr().Is4() == (e == firewall.IPv4) {
			out = append(out, ownAddress{a.Prefix.Addr(), a.MAC}, ownAddress{a.Prefix.Addr(), p.MAC})
		}
	}
	for _, o := range s.Ports {
		for _, ip := range o.FixedIPs {
			if o.ID != p.ID && ip.Is4() == (e == firewall.IPv4) {
				out = append(out, ownAddress{ip, o.MAC})
			}
		}
	}
	if e == firewall.IPv4 {
		add("10.0.0.77", p.MAC)
		add("0.0.0.0", p.MAC)
		return out
	}
	m := p.MAC
	add(fmt.Sprintf("fe80::%02x%02x:%02xff:fe%02x:%02x%02x", m[0]^2, m[1], m[2], m[3], m[4], m[5]), m)
	add("2001:db8::77", m)
	add("::", m)
	return out
}

// remotes are whom a port talks with: each rule's prefix and group at its borders and just outside, and some others.
func remotes(s firewall.State, p *firewall.Port, e firewall.Ethertype) []netip.Addr {
	var out []netip.Addr
	for _, ip := range p.FixedIPs {
		if ip.Is4() == (e == firewall.IPv4) {
			out = append(out, ip) // a packet from the port's own address
		}
	}
	texts := []string{"203.0.113.9", "10.0.0.2", "10.0.0.1", "255.255.255.255", "10.0.1.9"}
	if e == firewall.IPv6 {
		texts = []string{"2001:db8:ffff::9", "2001:db8::1", "fe80::1", "ff02::1", "ff02::16"}
	}
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	border := func(n netip.Prefix) {
		if n.IsValid() && n.Bits() > 0 && n.Addr().Is4() == (e == firewall.IPv4) {
			n = n.Masked()
			out = append(out, n.Addr(), last(n), n.Addr().Prev(), last(n).Next())
		}
	}
	for _, g := range s.Groups {
		for _, m := range g.Members {
			border(m)
		}
		for _, r := range g.Rules {
			border(r.Remote)
		}
	}
	for _, r := range s.Provider {
		border(r.Remote)
	}
	for _, n := range p.SameNet {
		border(n)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.DeleteFunc(slices.Compact(out), func(a netip.Addr) bool { return !a.IsValid() })
}

func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func layers(s firewall.State, e firewall.Ethertype) []layer4 {
	out := []layer4{
		{6, 40000, 22, 0, 0}, {6, 40000, 80, 0, 0}, {6, 22, 40000, 0, 0}, {17, 40000, 53, 0, 0}, {17, 40000, 5004, 0, 0},
		{17, 68, 67, 0, 0}, {17, 67, 68, 0, 0}, {17, 546, 547, 0, 0}, {17, 547, 546, 0, 0}, {protocol: 112}, {protocol: 47}, {protocol: 2},
	}
	icmp := uint8(1)
	kinds := []uint8{0, 3, 5, 8, 11}
	if e == firewall.IPv6 {
		icmp = 58
		kinds = []uint8{1, 2, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143}
	}
	for _, k := range kinds {
		out = append(out, layer4{protocol: icmp, kind: k})
	}
	rules := slices.Clone(s.Provider)
	for _, g := range s.Groups {
		rules = append(rules, g.Rules...)
	}
	for _, r := range rules {
		protocol := map[string]uint8{"tcp": 6, "udp": 17}[r.Protocol]
		if r.Ports != nil {
			for _, port := range []uint16{r.Ports.Min - 1, r.Ports.Min, r.Ports.Max, r.Ports.Max + 1} {
				out = append(out, layer4{protocol, 40000, port, 0, 0})
			}
		}
		if r.SourcePorts != nil {
			for _, port := range []uint16{r.SourcePorts.Min - 1, r.SourcePorts.Min, r.SourcePorts.Max, r.SourcePorts.Max + 1} {
				out = append(out, layer4{protocol, port, 40000, 0, 0})
			}
		}
		if r.ICMPType != nil {
			for _, code := range []uint8{0, 3, 4, 5} {
				out = append(out, layer4{protocol: icmp, kind: *r.ICMPType, code: code}, layer4{protocol: icmp, kind: *r.ICMPType + 1, code: code})
			}
		}
	}
	seen := map[layer4]bool{}
	return slices.DeleteFunc(out, func(l layer4) bool {
		again := seen[l]
		seen[l] = true
		return again
	})
}

// firewallDifference is a difference that is meant.
type firewallDifference struct {
	Name   string
	Cases  string // a pattern of case/variant/step
	Packet string // what is true of the packet: see is
	Ours   string // accept or drop
	Reason string
	used   int
}

func (d *firewallDifference) is(id string, p trial, _, our eval.Verdict) bool {
	if ok, err := path.Match(d.Cases, id); err != nil || !ok {
		return false
	}
	if our.Accept != (d.Ours == "accept") {
		return false
	}
	switch d.Packet {
	case "from another port's address":
		return p.egress && !slices.Contains(p.port.FixedIPs, p.Src)
	case "to 10.0.0.77":
		return p.Dst == netip.MustParseAddr("10.0.0.77")
	}
	return false
}
