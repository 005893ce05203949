package firewall

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// own begins the name of all that is the agent's.
const own = "cagent-"

// Table is a table of iptables or ip6tables: of a rule set, the part that is the agent's.
type Table struct {
	Name string // raw or filter
	// Hooks are how built-in chains come to the agent's; each is the first rule of its chain.
	Hooks  []Hook
	Chains []Chain
}

// Hook is a rule of a built-in chain.
type Hook struct {
	Chain string // FORWARD
	Rule  string // -j cagent-forward
}

// Chain is a chain with its rules in order, each as iptables-save prints it after "-A NAME ".
type Chain struct {
	Name  string
	Rules []string
}

func (t *Table) byName() map[string]*Chain {
	out := make(map[string]*Chain, len(t.Chains))
	for i := range t.Chains {
		out[t.Chains[i].Name] = &t.Chains[i]
	}
	return out
}

// rule writes one rule, its parts in the order in which iptables-save prints them.
type rule struct{ b []byte }

func (r *rule) words(words ...string) *rule {
	for _, w := range words {
		if len(r.b) > 0 {
			r.b = append(r.b, ' ')
		}
		r.b = append(r.b, w...)
	}
	return r
}

// prefix writes -s or -d; any address needs neither.
func (r *rule) prefix(flag string, p netip.Prefix) *rule {
	if !p.IsValid() || p.Bits() == 0 {
		return r
	}
	r.words(flag, "")
	r.b = p.Masked().AppendTo(r.b)
	return r
}

// protocol writes -p; all protocols need none.
func (r *rule) protocol(n uint8) *rule {
	if n == protoAny {
		return r
	}
	return r.words("-p", protocolName(n))
}

func (r *rule) mac(mac net.HardwareAddr) *rule { return r.words("-m mac --mac-source", mac.String()) }

// match is what has been written, ready to be followed by a comment or a target.
func (r *rule) match() string {
	if len(r.b) == 0 {
		return ""
	}
	return string(append(r.b, ' '))
}

// ports writes source and destination ports of a protocol that has them.
func (r *rule) ports(protocol uint8, source, destination *PortRange) *rule {
	if source == nil && destination == nil {
		return r
	}
	if protocol == protoTCP || protocol == protoUDP {
		return r.words("-m", protocolName(protocol)).portRange("--sport", source).portRange("--dport", destination)
	}
	// Not every kernel has a match of its own for the others.
	if source != nil {
		r.words("-m multiport").portRange("--sports", source)
	}
	if destination != nil {
		r.words("-m multiport").portRange("--dports", destination)
	}
	return r
}

func (r *rule) portRange(flag string, p *PortRange) *rule {
	if p == nil || *p == (PortRange{0, 65535}) && !strings.HasSuffix(flag, "s") {
		return r
	}
	r.words(flag, strconv.Itoa(int(p.Min)))
	if p.Max != p.Min {
		r.b = append(r.b, ':')
		r.b = strconv.AppendUint(r.b, uint64(p.Max), 10)
	}
	return r
}

func (r *rule) icmp(protocol uint8, kind, code *uint8) *rule {
	if kind == nil {
		return r
	}
	if protocol == protoICMPv6 {
		r.words("-m icmp6 --icmpv6-type")
	} else {
		r.words("-m icmp --icmp-type")
	}
	r.words(strconv.Itoa(int(*kind)))
	if code != nil {
		r.b = append(r.b, '/')
		r.b = strconv.AppendUint(r.b, uint64(*code), 10)
	}
	return r
}

// ParseSave reads what iptables-save or ip6tables-save printed: all built-in chains' rules that come to the agent's chains as
// Hooks, in their order, and the agent's own chains. Counters are left out, and protocols are named as in rules of ours.
func ParseSave(r io.Reader) ([]Table, error) {
	var tables []Table
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	index := map[string]int{}
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "*") {
			tables = append(tables, Table{Name: line[1:]})
			clear(index)
			continue
		}
		if len(tables) == 0 {
			continue
		}
		t := &tables[len(tables)-1]
		if name, ok := strings.CutPrefix(line, ":"+own); ok {
			name, _, _ = strings.Cut(name, " ")
			index[own+name] = len(t.Chains)
			t.Chains = append(t.Chains, Chain{Name: own + name})
		} else if err := t.readRule(line, index); err != nil {
			return nil, err
		}
	}
	return tables, lines.Err()
}

func (t *Table) readRule(line string, index map[string]int) error {
	if strings.HasPrefix(line, "[") { // iptables-save -c
		_, line, _ = strings.Cut(line, "] ")
	}
	rest, isRule := strings.CutPrefix(line, "-A ")
	if !isRule {
		return nil
	}
	name, text, _ := strings.Cut(rest, " ")
	if !strings.HasPrefix(name, own) {
		t.Hooks = append(t.Hooks, Hook{name, text}) // others' too: whether ours is first depends on them
		return nil
	}
	i, known := index[name]
	if !known {
		return fmt.Errorf("iptables-save: a rule of chain %s, which was not announced", name)
	}
	t.Chains[i].Rules = append(t.Chains[i].Rules, normal(text))
	return nil
}

// normal is a saved rule with its protocol named as rules of ours name it.
func normal(rule string) string {
	at := strings.Index(rule, "-p ")
	if at < 0 {
		return rule
	}
	before, after := rule[:at+3], rule[at+3:]
	name, rest, more := strings.Cut(after, " ")
	named := savedName(name)
	if named == name {
		return rule
	}
	if more {
		rest = " " + rest
	}
	return before + named + rest
}

// Text is tables as iptables-save prints them on a host that has nothing else, which iptables-restore takes.
func Text(tables []Table) string {
	var b strings.Builder
	for _, t := range tables {
		if len(t.Chains) == 0 {
			continue
		}
		b.WriteString("*" + t.Name + "\n")
		for _, h := range t.Hooks {
			b.WriteString(":" + h.Chain + " ACCEPT [0:0]\n")
		}
		for _, c := range t.Chains {
			b.WriteString(":" + c.Name + " - [0:0]\n")
		}
		for _, h := range t.Hooks {
			b.WriteString("-A " + h.Chain + " " + h.Rule + "\n")
		}
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				b.WriteString("-A " + c.Name + " " + r + "\n")
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// SetsText is sets as ipset restore takes them.
func SetsText(sets []Set) string {
	var b strings.Builder
	for i := range sets {
		b.WriteString(strings.Join(sets[i].create(sets[i].Name), "\n") + "\n")
	}
	return b.String()
}
