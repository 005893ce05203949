package firewall

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// What a guest may send whatever its groups say, before its address is looked at and after. Before it has an address it asks for one;
// multicast listener reports and duplicate address detection come from none.
var (
	beforeSpoof = map[Ethertype][]fixed{
		IPv4: {{dhcpDiscover, "dhcp", back}},
		IPv6: {
			{fromNobody + icmpv6(131), "discovery", back}, {fromNobody + icmpv6(135), "discovery", back},
			{fromNobody + icmpv6(143), "discovery", back},
		},
	}
	afterSpoof = map[Ethertype][]fixed{
		IPv4: {{udp(68, 67), "dhcp", back}, {udp(67, 68), "no dhcp server", drop}},
		IPv6: {
			{icmpv6(134), "no router", drop}, {"-p ipv6-icmp ", "discovery", back},
			{udp(546, 547), "dhcp", back}, {udp(547, 546), "no dhcp server", drop},
		},
	}
)

const fromNobody = "-s ::/128 -d ff02::/16 "

// egress are the chains of what a port sends, nil for one that may send anything. RETURN lets a packet go on to whom it is for.
func (g *generator) egress(p *Port, e Ethertype) []Chain {
	if p.Unfiltered || g.Profile == ProfileNova && g.AsOpenStack {
		return nil
	}
	chains := g.spoof(p, e)
	g.out.addAll(p.ID, beforeSpoof[e])
	if len(chains) > 0 {
		g.out.raw("-j " + chains[0].Name)
	}
	g.out.addAll(p.ID, afterSpoof[e])
	if g.Profile == ProfileNeutron {
		g.out.add(establishedOnes, p.ID, "established", back)
		g.groupRules(p, Egress, e, back)
		g.out.addAll(p.ID, ending)
	}
	return append(chains, g.out.chain(egressPrefix+p.Device))
}

// spoof returns what has an address of the port for its source and drops the rest. A family in which the port has no address has
// only the link-local one that IPv6 makes of its MAC.
func (g *generator) spoof(p *Port, e Ethertype) []Chain {
	pairs := p.pairs(e)
	if len(pairs) == 0 {
		if g.AsOpenStack {
			return nil
		}
		if e == IPv6 {
			pairs = []pair{{p.MAC, single(linkLocal(p.MAC))}}
		}
	}
	for _, a := range pairs {
		g.out.add(new(rule).prefix("-s", a.prefix).mac(a.mac).match(), p.ID, "address", back)
	}
	g.out.add("", p.ID, "not its address", drop)
	return []Chain{g.out.chain(spoofPrefix + p.Device)}
}

// guard is nft's part: per port whose traffic is filtered, frames pass only with a MAC of the port for their source, ARP and
// neighbour advertisements only if they tell of the port's own addresses, and no frame with a VLAN tag or of PPPoE, which iptables does
// not look into. It is in front of everything, what is for the host itself included. Nothing passes to or from a closed port.
func (g *generator) guard() string {
	var from, to, chains strings.Builder
	closed := func(device string) {
		fmt.Fprintf(&from, "\t\tiifname \"%s\" drop\n", device)
		fmt.Fprintf(&to, "\t\toifname \"%s\" drop\n", device)
	}
	for _, device := range slices.Sorted(slices.Values(g.Closed)) {
		closed(device)
	}
	g.marks(&from)
	for i := range g.Ports {
		p := &g.Ports[i]
		switch {
		case g.closed[p.ID]:
			closed(p.Device)
		case !p.Unfiltered && !g.AsOpenStack:
			fmt.Fprintf(&from, "\t\tiifname \"%s\" goto port-%s\n", p.Device, p.Device)
			writeGuard(&chains, p)
		}
	}
	if from.Len() == 0 {
		return ""
	}
	hook := func(name string, rules fmt.Stringer) {
		fmt.Fprintf(&chains, "\tchain %s {\n\t\ttype filter hook %s priority -300; policy accept;\n%s\t}\n", name, name, rules)
	}
	hook("prerouting", &from)
	hook("postrouting", &to)
	sum := sha256.Sum256([]byte(chains.String()))
	return "table bridge " + guardTable + " {\n\tcomment \"" + hex.EncodeToString(sum[:8]) + "\"\n" + chains.String() + "}\n"
}

// vlanMark is the packet mark of a VLAN: 0xca, and the tag. The guard gives it to what comes with the tag and to what comes
// from the port, for iptables, which does not look at tags.
func vlanMark(vlan uint16) string { return fmt.Sprintf("0x%x", 0xca000000+uint32(vlan)) }

// untagged is the VLAN of what has no tag on the wire, which has no mark.
const untagged = 1

// inVLAN matches what is of the port's VLAN, of all that is in its bridge.
func (p *Port) inVLAN() string {
	switch p.VLAN {
	case 0:
		return ""
	case untagged:
		return " -m mark ! --mark 0xca000000/0xff000000"
	default:
		return " -m mark --mark " + vlanMark(p.VLAN)
	}
}

// marks are the rules that give frames the marks of their VLANs.
func (g *generator) marks(out *strings.Builder) {
	devices := slices.Clone(g.Devices)
	for i := range g.Ports {
		devices = append(devices, Device{g.Ports[i].Device, g.Ports[i].VLAN})
	}
	slices.SortFunc(devices, func(a, b Device) int { return cmp.Or(cmp.Compare(a.VLAN, b.VLAN), cmp.Compare(a.Name, b.Name)) })
	vlan := uint16(untagged)
	for _, d := range devices {
		if d.VLAN > vlan {
			vlan = d.VLAN
			fmt.Fprintf(out, "\t\tvlan id %d meta mark set %s\n", vlan, vlanMark(vlan))
		}
		if d.VLAN > untagged {
			fmt.Fprintf(out, "\t\tiifname \"%s\" meta mark set %s\n", d.Name, vlanMark(d.VLAN))
		}
	}
}

// guardTable is the name of nft's table. Its comment is a hash of what was loaded into it, which nft prints in its own way.
const guardTable = "cagent"

func writeGuard(w *strings.Builder, p *Port) {
	macs := p.macs()
	chain := func(kind string, rules ...string) {
		w.WriteString("\tchain " + kind + "-" + p.Device + " {\n")
		for _, r := range rules {
			w.WriteString("\t\t" + r + "\n")
		}
		w.WriteString("\t}\n")
	}
	own := []string{}
	for _, mac := range macs {
		own = append(own, "ether saddr "+mac+" accept")
	}
	chain("mac", append(own, "drop")...)

	arp := []string{}
	for _, mac := range macs {
		arp = append(arp, "arp saddr ether "+mac+" arp saddr ip 0.0.0.0 goto mac-"+p.Device) // a probe (RFC 5227)
	}
	for _, a := range p.pairs(IPv4) {
		match := "arp saddr ether " + a.mac.String()
		if a.prefix.Bits() > 0 {
			match += " arp saddr ip " + a.prefix.String()
		}
		arp = append(arp, match+" goto mac-"+p.Device)
	}
	chain("arp", append(arp, "drop")...)
	chain("nd", append(advertised(p), "drop")...)
	chain("port",
		"ether type { 8021q, 8021ad, 0x8864 } drop",
		"ether type arp goto arp-"+p.Device,
		"icmpv6 type nd-neighbor-advert goto nd-"+p.Device,
		"goto mac-"+p.Device)
}

// advertised are the rules that let neighbour advertisements for the port's addresses go on. Their target is 8 bytes into ICMPv6.
func advertised(p *Port) []string {
	pairs := p.pairs(IPv6)
	if len(pairs) == 0 {
		pairs = []pair{{p.MAC, single(linkLocal(p.MAC))}}
	}
	var out []string
	for _, a := range pairs {
		match := ""
		if n := a.prefix.Bits(); n > 0 {
			match = "@th,64,128 & 0x" + hexMask(n) + " == 0x" + hex.EncodeToString(a.prefix.Addr().AsSlice()) + " "
		}
		out = append(out, "ether saddr "+a.mac.String()+" "+match+"goto mac-"+p.Device)
	}
	return out
}

func hexMask(bits int) string {
	var mask [16]byte
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return hex.EncodeToString(mask[:])
}

func (p *Port) macs() []string {
	out := []string{p.MAC.String()}
	for _, a := range p.AddressPairs {
		if a.MAC == nil {
			continue
		}
		seen := false
		for _, m := range out {
			seen = seen || m == a.MAC.String()
		}
		if !seen {
			out = append(out, a.MAC.String())
		}
	}
	return out
}
