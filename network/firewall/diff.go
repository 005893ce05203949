package firewall

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Changes are the lines for iptables-restore --noflush that make the agent's part of a table what is wanted: none if it
// is so already. Chains that stay are edited rule by rule, so that the rules that stay keep their counters and no packet
// ever meets half a chain; iptables-restore makes all of a table's changes at once.
func Changes(loaded, wanted Table) []string {
	var fresh, edits []string
	have, want := loaded.byName(), wanted.byName()
	for _, c := range wanted.Chains {
		if old := have[c.Name]; old != nil {
			edits = append(edits, editChain(c.Name, old.Rules, c.Rules)...)
			continue
		}
		fresh = append(fresh, ":"+c.Name+" - [0:0]")
		edits = append(edits, appendAll(c)...)
	}
	lines := append(fresh, edits...)
	lines = append(lines, hookChanges(loaded, wanted)...)
	var gone []string
	for _, c := range loaded.Chains {
		if want[c.Name] == nil {
			lines = append(lines, "-F "+c.Name)
			gone = append(gone, "-X "+c.Name)
		}
	}
	lines = append(lines, gone...)
	if len(lines) == 0 {
		return nil
	}
	return slices.Concat([]string{"*" + wanted.Name}, lines, []string{"COMMIT"})
}

func appendAll(c Chain) []string {
	out := make([]string, len(c.Rules))
	for i, r := range c.Rules {
		out[i] = "-A " + c.Name + " " + r
	}
	return out
}

// hookChanges puts each hook first in its built-in chain, once, and takes away those that are not wanted.
func hookChanges(loaded, wanted Table) []string {
	var out []string
	for _, chain := range builtIns(loaded, wanted) {
		want, has := wanted.hooks(chain, true), loaded.hooks(chain, false)
		ours := loaded.hooks(chain, true)
		if slices.Equal(want, ours) && slices.Equal(want, has[:min(len(want), len(has))]) {
			continue
		}
		for _, h := range ours {
			out = append(out, "-D "+chain+" "+h)
		}
		for i, h := range want {
			out = append(out, fmt.Sprintf("-I %s %d %s", chain, i+1, h))
		}
	}
	return out
}

func builtIns(tables ...Table) []string {
	var out []string
	for _, t := range tables {
		for _, h := range t.Hooks {
			if !slices.Contains(out, h.Chain) {
				out = append(out, h.Chain)
			}
		}
	}
	return out
}

// hooks are the rules of a built-in chain: all of them, or those that come to a chain of the agent's.
func (t *Table) hooks(chain string, ours bool) []string {
	var out []string
	for _, h := range t.Hooks {
		if h.Chain == chain && (!ours || h.ours()) {
			out = append(out, h.Rule)
		}
	}
	return out
}

func (h Hook) ours() bool {
	return strings.HasPrefix(h.Rule, "-j "+own) || strings.Contains(h.Rule, " -j "+own) || strings.Contains(h.Rule, "-g "+own)
}

// editChain makes old into wanted from the end to the beginning, so that numbers before the place of a change stay true. A
// rule is deleted by what it says: if it is not what it was thought to be, nothing is deleted in its place.
func editChain(name string, old, wanted []string) []string {
	if slices.Equal(old, wanted) {
		return nil
	}
	if repeats(old) {
		return append([]string{"-F " + name}, appendAll(Chain{name, wanted})...)
	}
	head := commonPrefix(old, wanted)
	tail := commonSuffix(old[head:], wanted[head:])
	kept := common(old[head:len(old)-tail], wanted[head:len(wanted)-tail])
	var out []string
	i, j := len(old)-tail, len(wanted)-tail
	for i > head || j > head {
		switch {
		case i > head && j > head && len(kept) > 0 && kept[len(kept)-1] == [2]int{i - 1 - head, j - 1 - head}:
			kept = kept[:len(kept)-1]
			i, j = i-1, j-1
		case j > head && (len(kept) == 0 || kept[len(kept)-1][1] < j-1-head):
			j--
			out = append(out, "-I "+name+" "+strconv.Itoa(i+1)+" "+wanted[j])
		default:
			i--
			out = append(out, "-D "+name+" "+old[i])
		}
	}
	return out
}

func repeats(rules []string) bool {
	seen := make(map[string]bool, len(rules))
	for _, r := range rules {
		if seen[r] {
			return true
		}
		seen[r] = true
	}
	return false
}

func commonPrefix(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonSuffix(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// common are the places, in order, of rules that stay: the longest increasing run of the places that a's rules have in b,
// by patience. Rules occur once in each.
func common(a, b []string) [][2]int {
	at := make(map[string]int, len(b))
	for j, r := range b {
		at[r] = j
	}
	type link struct {
		place [2]int
		prev  *link
	}
	var piles []*link
	for i, r := range a {
		j, ok := at[r]
		if !ok {
			continue
		}
		n, _ := slices.BinarySearchFunc(piles, j, func(l *link, j int) int { return l.place[1] - j })
		l := &link{place: [2]int{i, j}}
		if n > 0 {
			l.prev = piles[n-1]
		}
		if n == len(piles) {
			piles = append(piles, l)
		} else {
			piles[n] = l
		}
	}
	if len(piles) == 0 {
		return nil
	}
	var out [][2]int
	for l := piles[len(piles)-1]; l != nil; l = l.prev {
		out = append(out, l.place)
	}
	slices.Reverse(out)
	return out
}
