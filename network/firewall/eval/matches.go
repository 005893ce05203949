package eval

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// split takes a line apart as iptables-restore does: quotes keep spaces.
func split(line string) ([]string, error) {
	var words []string
	for rest := strings.TrimLeft(line, " "); rest != ""; rest = strings.TrimLeft(rest, " ") {
		if rest[0] != '"' {
			word, after, _ := strings.Cut(rest, " ")
			words, rest = append(words, word), after
			continue
		}
		quoted, after, closed := strings.Cut(rest[1:], `"`)
		if !closed {
			return nil, fmt.Errorf("a quote is not closed")
		}
		words, rest = append(words, quoted), after
	}
	return words, nil
}

func join(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		if strings.ContainsAny(w, " ") {
			w = `"` + w + `"`
		}
		out[i] = w
	}
	return strings.Join(out, " ")
}

// compiler reads a rule's words.
type compiler struct {
	rest  []string
	rule  *rule
	sets  Sets
	wrong error
}

func (r *Ruleset) compile(words []string) (*rule, error) {
	c := &compiler{rest: words, sets: r.sets, rule: &rule{text: join(words)}}
	for len(c.rest) > 0 && c.wrong == nil {
		inverted := false
		word := c.next()
		if word == "!" {
			inverted = true
			word = c.next()
		}
		c.option(word, inverted)
	}
	return c.rule, c.wrong
}

func (c *compiler) next() string {
	if len(c.rest) == 0 {
		if c.wrong == nil {
			c.wrong = fmt.Errorf("the rule ends too early")
		}
		return ""
	}
	word := c.rest[0]
	c.rest = c.rest[1:]
	return word
}

func (c *compiler) add(inverted bool, match func(*Packet) bool) {
	if inverted {
		inner := match
		match = func(p *Packet) bool { return !inner(p) }
	}
	c.rule.matches = append(c.rule.matches, match)
}

func (c *compiler) option(word string, inverted bool) {
	switch word {
	case "-s", "-d":
		c.address(word, inverted)
	case "-i", "-o", "--physdev-in", "--physdev-out":
		c.device(word, inverted)
	case "--physdev-is-bridged":
		c.add(inverted, func(p *Packet) bool { return p.PhysOut != "" })
	case "-p":
		c.protocol(inverted)
	case "-m":
		c.module()
	case "--dport", "--sport", "--dports", "--sports":
		c.ports(word, inverted)
	case "--icmp-type", "--icmpv6-type":
		c.icmp(inverted)
	case "--state", "--ctstate":
		c.state(inverted)
	case "--mac-source":
		mac, err := net.ParseMAC(c.next())
		c.fail(err)
		c.add(inverted, func(p *Packet) bool { return bytes.Equal(p.SrcMAC, mac) })
	case "--mark":
		value, bits, masked := strings.Cut(c.next(), "/")
		mark, err := strconv.ParseUint(value, 0, 32)
		c.fail(err)
		mask := uint64(1<<32 - 1)
		if masked {
			mask, err = strconv.ParseUint(bits, 0, 32)
			c.fail(err)
		}
		c.add(inverted, func(p *Packet) bool { return uint64(p.Mark)&mask == mark })
	case "--match-set":
		c.set(inverted)
	case "--comment":
		c.next()
	case "-j", "-g":
		c.rule.target, c.rule.isGoto = c.next(), word == "-g"
		c.target()
	default:
		c.fail(fmt.Errorf("%s is not known", word))
	}
}

func (c *compiler) fail(err error) {
	if c.wrong == nil {
		c.wrong = err
	}
}

func (c *compiler) module() {
	switch m := c.next(); m {
	case "tcp", "udp", "sctp", "dccp", "icmp", "icmp6", "multiport", "state", "conntrack", "mac", "mark", "physdev", "set", "comment":
	default:
		c.fail(fmt.Errorf("match %s is not known", m))
	}
}

func (c *compiler) target() {
	t := c.rule.target
	switch t {
	case "CT":
		c.rule.options, c.rest = c.rest, nil
		words := strings.Join(c.rule.options, " ")
		if words != "--notrack" && (!strings.HasPrefix(words, "--zone ") || len(c.rule.options) != 2) {
			c.fail(fmt.Errorf("CT: --zone or --notrack is wanted"))
		}
	case "REJECT", "LOG", "NFLOG":
		c.rest = nil // how it says no, or what it writes
	case "ACCEPT", "DROP", "RETURN":
	default:
		if strings.ToUpper(t) == t && !strings.ContainsAny(t, "-_") {
			c.fail(fmt.Errorf("target %s is not known", t))
		}
	}
}

func prefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen()), err
}

func (c *compiler) address(word string, inverted bool) {
	net, err := prefix(c.next())
	c.fail(err)
	if word == "-s" {
		c.add(inverted, func(p *Packet) bool { return net.Contains(p.Src) })
	} else {
		c.add(inverted, func(p *Packet) bool { return net.Contains(p.Dst) })
	}
}

func (c *compiler) device(word string, inverted bool) {
	name := c.next()
	of := map[string]func(*Packet) string{
		"-i":            func(p *Packet) string { return p.In },
		"-o":            func(p *Packet) string { return p.Out },
		"--physdev-in":  func(p *Packet) string { return p.PhysIn },
		"--physdev-out": func(p *Packet) string { return p.PhysOut },
	}[word]
	if begin, ok := strings.CutSuffix(name, "+"); ok {
		c.add(inverted, func(p *Packet) bool { return strings.HasPrefix(of(p), begin) })
		return
	}
	c.add(inverted, func(p *Packet) bool { return of(p) == name })
}

var protocols = map[string]uint8{
	"icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6": 41, "ipv6-route": 43, "ipv6-frag": 44,
	"rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ospf": 89,
	"vrrp": 112, "sctp": 132, "udplite": 136,
}

func (c *compiler) protocol(inverted bool) {
	name := c.next()
	n, known := protocols[name]
	if !known {
		parsed, err := strconv.ParseUint(name, 10, 8)
		if err != nil {
			c.fail(fmt.Errorf("protocol %s is not known", name))
		}
		n = uint8(parsed)
	}
	c.add(inverted, func(p *Packet) bool { return p.Protocol == n })
}

func hasPorts(p *Packet) bool {
	switch p.Protocol {
	case 6, 17, 33, 132, 136:
		return true
	}
	return false
}

func (c *compiler) ports(word string, inverted bool) {
	type span struct{ low, high uint16 }
	var spans []span
	for part := range strings.SplitSeq(c.next(), ",") {
		low, high, isRange := strings.Cut(part, ":")
		if !isRange {
			high = low
		}
		a, err := strconv.ParseUint(low, 10, 16)
		c.fail(err)
		b, err := strconv.ParseUint(high, 10, 16)
		c.fail(err)
		spans = append(spans, span{uint16(a), uint16(b)})
	}
	source := strings.HasPrefix(word, "--s")
	c.add(inverted, func(p *Packet) bool {
		port := p.DstPort
		if source {
			port = p.SrcPort
		}
		for _, s := range spans {
			if hasPorts(p) && port >= s.low && port <= s.high {
				return true
			}
		}
		return false
	})
}

func (c *compiler) icmp(inverted bool) {
	kind, code, hasCode := strings.Cut(c.next(), "/")
	k, err := strconv.ParseUint(kind, 10, 8)
	c.fail(err)
	n := uint64(0)
	if hasCode {
		n, err = strconv.ParseUint(code, 10, 8)
		c.fail(err)
	}
	c.add(inverted, func(p *Packet) bool {
		return p.ICMPType == uint8(k) && (!hasCode || p.ICMPCode == uint8(n))
	})
}

func (c *compiler) state(inverted bool) {
	states := strings.Split(c.next(), ",")
	c.add(inverted, func(p *Packet) bool {
		for _, s := range states {
			if State(s) == p.State {
				return true
			}
		}
		return false
	})
}

func (c *compiler) set(inverted bool) {
	name, side := c.next(), c.next()
	if c.sets[name] == nil {
		c.fail(fmt.Errorf("set %s is not there", name))
	}
	sets := c.sets
	switch side {
	case "src":
		c.add(inverted, func(p *Packet) bool { return sets.has(name, p.Src) })
	case "dst":
		c.add(inverted, func(p *Packet) bool { return sets.has(name, p.Dst) })
	default:
		c.fail(fmt.Errorf("--match-set: %s is not known", side))
	}
}
