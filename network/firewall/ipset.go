package firewall

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
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
	sum := sha256.Sum256([]byte(group))
	return prefix + group[:12] + "-" + hex.EncodeToString(sum[:5])
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
