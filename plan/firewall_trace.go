package plan

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"compute-agent/network/firewall"
	"compute-agent/network/firewall/eval"
)

// FirewallTrace is a packet's way through the rules.
type FirewallTrace struct {
	Port      string      `json:"port"`
	Direction string      `json:"direction"`
	Packet    string      `json:"packet"`
	Accept    bool        `json:"accept"`
	Rule      string      `json:"rule"`       // what decided, in a user's words
	Decider   eval.Step   `json:"decided_by"` // likewise, as iptables has it
	Path      []eval.Step `json:"path"`
}

// TraceFirewall says what becomes of a packet from or to a port, in the state after the last step of a question of Firewall, and by the
// agent's own rules, which have none of the holes of Nova's and Neutron's. The packet is
//
//	PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT] [type N[/CODE]] [state NAME] [mac ADDRESS]
//
// with IPv6 addresses in brackets if a port follows. Its state is NEW and its MAC the sender's unless it says otherwise. The direction
// is the port's that it is from or to; it has to be said when the packet has neither address.
func TraceFirewall(question []byte, portID, packet, direction string) (FirewallTrace, error) {
	steps, err := firewallStates(question)
	if err != nil {
		return FirewallTrace{}, err
	}
	if len(steps) == 0 {
		return FirewallTrace{}, fmt.Errorf("the question has no step")
	}
	return traceStep(steps[len(steps)-1], portID, packet, direction)
}

// TraceState is TraceFirewall in a State of the firewall.
func TraceState(state firewall.State, portID, packet, direction string) (FirewallTrace, error) {
	return traceStep(FirewallStep{state: state}, portID, packet, direction)
}

func traceStep(step FirewallStep, portID, packet, direction string) (_ FirewallTrace, err error) {
	t := tracer{FirewallStep: step}
	t.state.AsOpenStack = false
	if t.rules, err = firewall.Generate(t.state); err != nil {
		return FirewallTrace{}, err
	}
	if t.port = t.portOf(func(p *firewall.Port) bool { return p.ID == portID || p.Device == portID }); t.port == nil {
		return FirewallTrace{}, fmt.Errorf("port %q is not known", portID)
	}
	p, err := readPacket(packet)
	if err != nil {
		return FirewallTrace{}, fmt.Errorf("packet: %w", err)
	}
	if direction, err = t.direct(&p, direction); err != nil {
		return FirewallTrace{}, err
	}
	return t.trace(p, direction, packet)
}

type tracer struct {
	FirewallStep
	port *firewall.Port
}

func (t *tracer) portOf(is func(*firewall.Port) bool) *firewall.Port {
	for i := range t.state.Ports {
		if is(&t.state.Ports[i]) {
			return &t.state.Ports[i]
		}
	}
	return nil
}

func (t *tracer) owner(a netip.Addr) *firewall.Port {
	return t.portOf(func(p *firewall.Port) bool { return owns(p, a) })
}

func owns(p *firewall.Port, a netip.Addr) bool {
	return slices.Contains(p.FixedIPs, a) ||
		slices.ContainsFunc(p.AddressPairs, func(pair firewall.AddressPair) bool { return pair.Prefix.Contains(a) })
}

// elsewhere is the device of what is no port of the host.
const elsewhere = "elsewhere"

// direct finds out where the packet comes in and goes out.
func (t *tracer) direct(p *eval.Packet, direction string) (string, error) {
	if direction == "" {
		switch {
		case owns(t.port, p.Src):
			direction = "egress"
		case owns(t.port, p.Dst):
			direction = "ingress"
		default:
			return "", fmt.Errorf("neither %s nor %s is an address of port %s: say whether it is ingress or egress", p.Src, p.Dst, t.port.ID)
		}
	}
	device := func(a netip.Addr) string {
		if o := t.owner(a); o != nil && o.ID != t.port.ID {
			return o.Device
		}
		return elsewhere
	}
	sender := t.port
	switch direction {
	case "egress":
		p.PhysIn, p.PhysOut = t.port.Device, device(p.Dst)
	case "ingress":
		p.PhysIn, p.PhysOut = device(p.Src), t.port.Device
		sender = t.owner(p.Src)
	default:
		return "", fmt.Errorf("direction %q is neither ingress nor egress", direction)
	}
	if p.SrcMAC == nil && sender != nil {
		p.SrcMAC = sender.MAC
	}
	p.In, p.Out = t.port.Bridge, t.port.Bridge
	return direction, nil
}

func (t *tracer) trace(p eval.Packet, direction, packet string) (FirewallTrace, error) {
	sets := eval.Sets{}
	rules := eval.NewRuleset(sets)
	tables := t.rules.IPv4
	if p.Src.Is6() {
		tables = t.rules.IPv6
	}
	if err := sets.Restore(firewall.SetsText(t.rules.Sets)); err != nil {
		return FirewallTrace{}, err
	}
	if err := rules.Restore(firewall.Text(tables)); err != nil {
		return FirewallTrace{}, err
	}
	v := rules.Forward(p)
	out := FirewallTrace{Port: t.port.ID, Direction: direction, Packet: packet, Accept: v.Accept, Decider: t.decider(v, direction), Path: v.Path}
	out.Rule = t.describe(out.Decider)
	return out, nil
}

// decider is the rule that says why. What a port may send goes on to whom it is for, so that of an accepted packet it is the last rule of
// the port that was asked about.
func (t *tracer) decider(v eval.Verdict, direction string) eval.Step {
	if v.Accept {
		chain := map[string]string{"ingress": "cagent-i-", "egress": "cagent-o-"}[direction] + t.port.Device
		for _, s := range slices.Backward(v.Path) {
			if s.Chain == chain {
				return s
			}
		}
	}
	return v.Decider()
}

// describe says whose rule it is, from its comment, and what the rule was made of.
func (t *tracer) describe(s eval.Step) string {
	_, comment, found := strings.Cut(s.Rule, `--comment "`)
	comment, _, _ = strings.Cut(comment, `"`)
	if !found {
		return s.Rule
	}
	_, id, isRule := strings.Cut(comment, " rule ")
	for _, g := range t.state.Groups {
		for _, r := range g.Rules {
			if isRule && r.ID == id {
				return fmt.Sprintf("%s of security group %s: %s", comment, g.ID, ruleText(r))
			}
		}
	}
	return comment
}

func ruleText(r firewall.Rule) string {
	words := []string{string(r.Direction), string(r.Ethertype)}
	if r.Protocol != "" {
		words = append(words, r.Protocol)
	}
	for _, p := range []struct {
		name  string
		ports *firewall.PortRange
	}{{"source port", r.SourcePorts}, {"port", r.Ports}} {
		if p.ports != nil && p.ports.Min == p.ports.Max {
			words = append(words, fmt.Sprintf("%s %d", p.name, p.ports.Min))
		} else if p.ports != nil {
			words = append(words, fmt.Sprintf("%ss %d to %d", p.name, p.ports.Min, p.ports.Max))
		}
	}
	if r.ICMPType != nil {
		words = append(words, fmt.Sprintf("type %d", *r.ICMPType))
	}
	if r.ICMPCode != nil {
		words = append(words, fmt.Sprintf("code %d", *r.ICMPCode))
	}
	side := map[firewall.Direction]string{firewall.Ingress: "from ", firewall.Egress: "to "}[r.Direction]
	switch {
	case r.RemoteGroup != "":
		words = append(words, side+"group "+r.RemoteGroup)
	case r.Remote.IsValid():
		words = append(words, side+r.Remote.String())
	}
	return strings.Join(words, " ")
}

var packetProtocols = map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ipv6-icmp": 58,
	"vrrp": 112, "sctp": 132, "udplite": 136}

func readPacket(text string) (p eval.Packet, err error) {
	words := strings.Fields(text)
	if len(words) < 4 || words[2] != ">" {
		return p, fmt.Errorf("%q is not PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT]", text)
	}
	known := false
	if p.Protocol, known = packetProtocols[words[0]]; !known {
		n, err := strconv.ParseUint(words[0], 10, 8)
		if err != nil {
			return p, fmt.Errorf("protocol %q is not known", words[0])
		}
		p.Protocol = uint8(n)
	}
	if p.Src, p.SrcPort, err = readEnd(words[1]); err != nil {
		return p, fmt.Errorf("source: %w", err)
	}
	if p.Dst, p.DstPort, err = readEnd(words[3]); err != nil {
		return p, fmt.Errorf("destination: %w", err)
	}
	if p.Src.Is4() != p.Dst.Is4() {
		return p, fmt.Errorf("%s and %s are not of one family", p.Src, p.Dst)
	}
	if p.Protocol == 1 && p.Src.Is6() {
		p.Protocol = 58
	}
	p.State = eval.New
	return p, readRest(&p, words[4:])
}

func readEnd(text string) (netip.Addr, uint16, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a, 0, nil
	}
	a, err := netip.ParseAddrPort(text)
	return a.Addr(), a.Port(), err
}

func readRest(p *eval.Packet, words []string) error {
	for ; len(words) >= 2; words = words[2:] {
		value := words[1]
		switch words[0] {
		case "type":
			kind, code, _ := strings.Cut(value+"/0", "/")
			code, _, _ = strings.Cut(code, "/")
			k, err1 := strconv.ParseUint(kind, 10, 8)
			c, err2 := strconv.ParseUint(code, 10, 8)
			if err1 != nil || err2 != nil {
				return fmt.Errorf("type %q is not a number, or two with a slash", value)
			}
			p.ICMPType, p.ICMPCode = uint8(k), uint8(c)
		case "state":
			p.State = eval.State(strings.ToUpper(value))
			if !slices.Contains([]eval.State{eval.New, eval.Established, eval.Related, eval.Invalid, eval.Untracked}, p.State) {
				return fmt.Errorf("state %q is not known", value)
			}
		case "mac":
			mac, err := net.ParseMAC(value)
			if err != nil {
				return err
			}
			p.SrcMAC = mac
		default:
			return fmt.Errorf("%q is not known", words[0])
		}
	}
	if len(words) > 0 {
		return fmt.Errorf("%q has no value", words[0])
	}
	return nil
}

// Text is the trace for a person.
func (t FirewallTrace) Text() string {
	var b strings.Builder
	verdict := "dropped"
	if t.Accept {
		verdict = "accepted"
	}
	fmt.Fprintf(&b, "%s, %s at port %s: %s\n", t.Packet, t.Direction, t.Port, verdict)
	fmt.Fprintf(&b, "by %s\n\nrules that match, in order:\n", t.Rule)
	for _, s := range t.Path {
		mark := " "
		if s == t.Decider {
			mark = "*"
		}
		fmt.Fprintf(&b, "%s %-6s %-28s %3d  %s\n", mark, s.Table, s.Chain, s.Number, s.Rule)
	}
	return b.String()
}
