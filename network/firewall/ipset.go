package firewall

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Set is an ipset of type hash:net, with the members of a group in one family.
type Set struct {
	Name    string
	Family  Ethertype
	MaxElem int
	Members []netip.Prefix // sorted, none twice
}

const (
	setPrefix4, setPrefix6 = "cagent4-", "cagent6-"
	// swapPrefix begins the name of a set that is filled to take another's place.
	swapPrefix = "cagent-swap-"
	maxSetName = 31
	// usualMaxElem is ipset's default; a larger group gets a larger set.
	usualMaxElem = 65536
)

// setName is the name of a group's set: the ID where it fits, else its beginning and a hash of it.
func setName(group string, e Ethertype) string {
	prefix := setPrefix4
	if e == IPv6 {
		prefix = setPrefix6
	}
	if len(prefix)+len(group) <= maxSetName {
		return prefix + group
	}
	return prefix + group[:12] + "-" + hashed(group)
}

// hashed is 10 letters that stand for a longer text.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:5])
}

func newSet(g *Group, e Ethertype) Set {
	s := Set{Name: setName(g.ID, e), Family: e, MaxElem: usualMaxElem}
	for _, m := range g.Members {
		if e.of(m.Addr()) {
			s.Members = append(s.Members, entries(m)...)
		}
	}
	slices.SortFunc(s.Members, comparePrefixes)
	s.Members = slices.Compact(s.Members)
	for s.MaxElem < len(s.Members) {
		s.MaxElem *= 2
	}
	return s
}

// entries are a prefix as hash:net can hold it, which knows no length of zero.
func entries(p netip.Prefix) []netip.Prefix {
	p = p.Masked()
	if p.Bits() > 0 {
		return []netip.Prefix{p}
	}
	upper := p.Addr().AsSlice()
	upper[0] = 0x80
	half, _ := netip.AddrFromSlice(upper)
	return []netip.Prefix{netip.PrefixFrom(p.Addr(), 1), netip.PrefixFrom(half, 1)}
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// create are the lines for ipset restore that make the set under a name, and fill it.
func (s *Set) create(name string) []string {
	family := "inet"
	if s.Family == IPv6 {
		family = "inet6"
	}
	out := make([]string, 0, 1+len(s.Members))
	out = append(out, fmt.Sprintf("create %s hash:net family %s maxelem %d", name, family, s.MaxElem))
	for _, m := range s.Members {
		out = append(out, "add "+name+" "+m.String())
	}
	return out
}

// parseSets reads what ipset save printed, of the agent's sets.
func parseSets(text string) ([]Set, error) {
	var out []Set
	index := map[string]int{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 3 || !ownSet(words[1]) {
			continue
		}
		switch words[0] {
		case "create":
			index[words[1]] = len(out)
			out = append(out, savedSet(words))
		case "add":
			i, known := index[words[1]]
			p, err := netip.ParsePrefix(words[2])
			if err != nil {
				var a netip.Addr
				a, err = netip.ParseAddr(words[2])
				p = single(a)
			}
			if err != nil || !known {
				return nil, fmt.Errorf("ipset save: %q is not understood", strings.TrimSpace(line))
			}
			out[i].Members = append(out[i].Members, p)
		}
	}
	for i := range out {
		slices.SortFunc(out[i].Members, comparePrefixes)
	}
	return out, nil
}

func ownSet(name string) bool {
	return strings.HasPrefix(name, setPrefix4) || strings.HasPrefix(name, setPrefix6) || strings.HasPrefix(name, swapPrefix)
}

// savedSet is a set as it was created: create NAME hash:net family inet hashsize 1024 maxelem 65536...
func savedSet(words []string) Set {
	s := Set{Name: words[1]}
	for i := 3; i+1 < len(words); i += 2 {
		switch words[i] {
		case "family":
			s.Family = IPv4
			if words[i+1] == "inet6" {
				s.Family = IPv6
			}
		case "maxelem":
			s.MaxElem, _ = strconv.Atoi(words[i+1]) // zero is a size that is not wanted
		}
	}
	return s
}

// setChanges are the lines for ipset restore to run before the rules change, and after. Who joins or leaves a set is one
// entry; a set that has the wrong size gives its place to another at once. What is half done is thrown away.
func setChanges(loaded, wanted []Set) (before, after []string) {
	have := make(map[string]*Set, len(loaded))
	for i := range loaded {
		if strings.HasPrefix(loaded[i].Name, swapPrefix) {
			before = append(before, "destroy "+loaded[i].Name)
			continue
		}
		have[loaded[i].Name] = &loaded[i]
	}
	for i := range wanted {
		w := &wanted[i]
		switch old := have[w.Name]; {
		case old == nil:
			before = append(before, w.create(w.Name)...)
		case old.MaxElem != w.MaxElem:
			other := swapPrefix + hashed(w.Name)
			before = append(before, w.create(other)...)
			before = append(before, "swap "+other+" "+w.Name, "destroy "+other)
		default:
			before = append(before, memberChanges(w.Name, old.Members, w.Members)...)
		}
		delete(have, w.Name)
	}
	for _, s := range loaded {
		if have[s.Name] != nil {
			after = append(after, "destroy "+s.Name)
		}
	}
	return before, after
}

// memberChanges walks two sorted lists.
func memberChanges(name string, old, wanted []netip.Prefix) []string {
	var out []string
	for len(old) > 0 || len(wanted) > 0 {
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(wanted) == 0:
			order = -1
		default:
			order = comparePrefixes(old[0], wanted[0])
		}
		if order < 0 {
			out = append(out, "del "+name+" "+old[0].String())
		}
		if order > 0 {
			out = append(out, "add "+name+" "+wanted[0].String())
		}
		if order <= 0 {
			old = old[1:]
		}
		if order >= 0 {
			wanted = wanted[1:]
		}
	}
	return out
}
