package eval

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Ruleset is a family's tables and the sets that they ask.
type Ruleset struct {
	tables map[string]map[string]*chain
	sets   Sets
}

type chain struct {
	policy string // of a built-in chain; empty for others
	rules  []*rule
}

type rule struct {
	text    string
	matches []func(*Packet) bool
	target  string // a chain, or ACCEPT, DROP, REJECT, RETURN, CT; empty to go on
	isGoto  bool
	options []string // of the target
}

// NewRuleset is the rule set of a host without rules. The sets may be changed afterwards, and are then those that are asked.
func NewRuleset(sets Sets) *Ruleset {
	built := func(names ...string) map[string]*chain {
		t := map[string]*chain{}
		for _, n := range names {
			t[n] = &chain{policy: "ACCEPT"}
		}
		return t
	}
	return &Ruleset{sets: sets, tables: map[string]map[string]*chain{
		"raw": built("PREROUTING", "OUTPUT"), "filter": built("INPUT", "FORWARD", "OUTPUT"),
	}}
}

// Restore does what iptables-restore --noflush does with the text. Of a text with an error nothing is to be expected.
func (r *Ruleset) Restore(text string) error {
	var t map[string]*chain
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		var err error
		switch {
		case line == "" || line[0] == '#' || line == "COMMIT":
		case line[0] == '*':
			t = r.tables[line[1:]] // nil for tables that filter nothing
		case t != nil:
			err = r.command(t, line)
		}
		if err != nil {
			return fmt.Errorf("line %d: %q: %w", n+1, line, err)
		}
	}
	return nil
}

func (r *Ruleset) command(t map[string]*chain, line string) error {
	if name, ok := strings.CutPrefix(line, ":"); ok {
		words := strings.Fields(name)
		if len(words) < 2 {
			return fmt.Errorf("a chain without a policy")
		}
		c := &chain{}
		if words[1] != "-" {
			c.policy = words[1]
			if old := t[words[0]]; old != nil {
				c.rules = old.rules // a policy is set without --noflush and with it
			}
		}
		t[words[0]] = c
		return nil
	}
	if line[0] == '[' {
		_, line, _ = strings.Cut(line, "] ")
	}
	words, err := split(line)
	if err != nil {
		return err
	}
	if len(words) < 2 {
		return fmt.Errorf("no command")
	}
	return r.edit(t, words[0], words[1], words[2:])
}

func (r *Ruleset) edit(t map[string]*chain, command, name string, words []string) error {
	if command == "-N" {
		t[name] = &chain{}
		return nil
	}
	c := t[name]
	if c == nil {
		return fmt.Errorf("chain %s is not there", name)
	}
	switch command {
	case "-F":
		c.rules = nil
	case "-X":
		if len(c.rules) > 0 {
			return fmt.Errorf("chain %s has rules", name)
		}
		delete(t, name)
	case "-A":
		return r.insert(c, len(c.rules), words)
	case "-I":
		at := 1
		if len(words) > 0 {
			if n, err := strconv.Atoi(words[0]); err == nil {
				at, words = n, words[1:]
			}
		}
		return r.insert(c, at-1, words)
	case "-D":
		text := join(words)
		i := slices.IndexFunc(c.rules, func(o *rule) bool { return o.text == text })
		if i < 0 {
			return fmt.Errorf("no such rule")
		}
		c.rules = slices.Delete(c.rules, i, i+1)
	default:
		return fmt.Errorf("command %s is not known", command)
	}
	return nil
}

func (r *Ruleset) insert(c *chain, at int, words []string) error {
	if at < 0 || at > len(c.rules) {
		return fmt.Errorf("there is no place %d", at+1)
	}
	compiled, err := r.compile(words)
	if err == nil {
		c.rules = slices.Insert(c.rules, at, compiled)
	}
	return err
}

// Chains are the names of a table's chains, and Rules the rules of one, for tests that look at what a text makes.
func (r *Ruleset) Chains(table string) []string {
	var out []string
	for name := range r.tables[table] {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Rules are a chain's rules as text.
func (r *Ruleset) Rules(table, name string) []string {
	c := r.tables[table][name]
	if c == nil {
		return nil
	}
	out := make([]string, len(c.rules))
	for i, rule := range c.rules {
		out[i] = rule.text
	}
	return out
}

// Forward is what becomes of a packet that is bridged or routed.
func (r *Ruleset) Forward(p Packet) Verdict { return r.pass(p, "PREROUTING", "FORWARD") }

// Input is what becomes of a packet for the host itself, which has no way out of the bridge.
func (r *Ruleset) Input(p Packet) Verdict {
	p.Out, p.PhysOut = "", ""
	return r.pass(p, "PREROUTING", "INPUT")
}

// Output is what becomes of a packet of the host itself.
func (r *Ruleset) Output(p Packet) Verdict {
	p.In, p.PhysIn, p.PhysOut = "", "", ""
	return r.pass(p, "OUTPUT", "OUTPUT")
}

func (r *Ruleset) pass(p Packet, rawChain, filterChain string) Verdict {
	w := &walk{packet: &p}
	early := p
	early.Out, early.PhysOut = "", ""
	if rawChain == "OUTPUT" {
		early.Out = p.Out
	}
	w.packet = &early
	w.builtIn(r.tables["raw"], "raw", rawChain)
	if !w.verdict.Accept {
		return w.verdict
	}
	w.verdict.Path = slices.DeleteFunc(w.verdict.Path, func(s Step) bool { return s.Number == 0 })
	p.State = early.State
	w.packet = &p
	w.builtIn(r.tables["filter"], "filter", filterChain)
	return w.verdict
}

// walk is a packet's way through the chains.
type walk struct {
	packet  *Packet
	verdict Verdict
}

func (w *walk) builtIn(t map[string]*chain, table, name string) {
	if decided := w.chain(t, table, name, 0); !decided {
		policy := t[name].policy
		w.verdict.Accept = policy == "ACCEPT"
		w.verdict.Path = append(w.verdict.Path, Step{table, name, 0, "policy " + policy})
	}
}

// maxDepth is more than any rule set has; iptables refuses loops itself.
const maxDepth = 64

func (w *walk) chain(t map[string]*chain, table, name string, depth int) (decided bool) {
	c := t[name]
	if c == nil || depth > maxDepth {
		return false
	}
	for i, rule := range c.rules {
		if !rule.matched(w.packet) {
			continue
		}
		w.verdict.Path = append(w.verdict.Path, Step{table, name, i + 1, rule.text})
		switch rule.target {
		case "":
		case "ACCEPT":
			w.verdict.Accept = true
			return true
		case "DROP", "REJECT":
			w.verdict.Accept = false
			return true
		case "RETURN":
			return false
		case "CT":
			w.track(rule.options)
		case "LOG", "NFLOG":
		default:
			if w.chain(t, table, rule.target, depth+1) {
				return true
			}
			if rule.isGoto {
				return false
			}
		}
	}
	return false
}

// track does what -j CT says. A packet that is already taken out, or in a zone, stays so.
func (w *walk) track(options []string) {
	if w.packet.State == Untracked || w.verdict.Zone != "" {
		return
	}
	switch options[0] {
	case "--notrack":
		w.packet.State = Untracked
	case "--zone":
		w.verdict.Zone = options[1]
	}
}

func (r *rule) matched(p *Packet) bool {
	for _, m := range r.matches {
		if !m(p) {
			return false
		}
	}
	return true
}

// Sets are ipsets by their names.
type Sets map[string]map[netip.Prefix]bool

// Restore does what ipset restore does with the text.
func (s Sets) Restore(text string) error {
	for n, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if len(words) > 1 && words[1] == "-exist" {
			words = slices.Delete(words, 1, 2)
		}
		if err := s.command(words); err != nil {
			return fmt.Errorf("line %d: %q: %w", n+1, line, err)
		}
	}
	return nil
}

func (s Sets) command(words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("no set")
	}
	name := words[1]
	if words[0] == "create" {
		if s[name] == nil {
			s[name] = map[netip.Prefix]bool{}
		}
		return nil
	}
	if s[name] == nil {
		return fmt.Errorf("set %s is not there", name)
	}
	switch words[0] {
	case "destroy":
		delete(s, name)
		return nil
	case "flush":
		clear(s[name])
		return nil
	}
	if len(words) < 3 {
		return fmt.Errorf("nothing to %s", words[0])
	}
	if words[0] == "swap" {
		s[name], s[words[2]] = s[words[2]], s[name]
		return nil
	}
	p, err := prefix(words[2])
	switch {
	case err != nil:
		return err
	case words[0] == "add":
		s[name][p] = true
	case words[0] == "del":
		delete(s[name], p)
	default:
		return fmt.Errorf("command %s is not known", words[0])
	}
	return nil
}

func (s Sets) has(name string, a netip.Addr) bool {
	set := s[name]
	for bits := a.BitLen(); bits >= 0; bits-- {
		if p, err := a.Prefix(bits); err == nil && set[p] {
			return true
		}
	}
	return false
}
