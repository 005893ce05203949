// Package pci decides which PCI devices of the host a guest gets: which devices may be handed out,
// how they are grouped into pools, and which pools meet a request next to which NUMA cells.
package pci

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The NUMA affinity policies of a request (hw:pci_numa_affinity_policy, alias and port policies).
const (
	AffinityRequired  = "required"  // only devices of the guest's own cells
	AffinityLegacy    = "legacy"    // also devices of which the node is not known; the default
	AffinityPreferred = "preferred" // any device, those of the guest's cells first
	AffinitySocket    = "socket"    // devices of any cell of the same physical package
)

// The device types of a pool and of a request.
const (
	TypePCI  = "type-PCI"
	TypePF   = "type-PF"
	TypeVF   = "type-VF"
	TypeVDPA = "vdpa"
)

// Pool is a number of free devices that are alike in everything a request can ask for.
type Pool struct {
	VendorID  string // four hexadecimal digits, lower case
	ProductID string
	Node      *int // NUMA node; nil when the host does not say
	Count     int
	// Tags are the further properties of the devices: dev_type, physical_network,
	// remote_managed, and what the operator wrote into the device's spec.
	Tags map[string]string
}

// Request asks for Count devices, each of which meets one of the Specs.
type Request struct {
	ID       string
	Alias    string
	Count    int
	Affinity string // empty: AffinityLegacy
	// Specs are alternatives; each maps properties (vendor_id, product_id, dev_type,
	// physical_network, tags) to what they must be.
	Specs []map[string]string
}

// Cell is the part of a host NUMA cell that affinity is about.
type Cell struct {
	ID     int
	Socket int // physical package; -1 when not known
}

// Consume takes the devices of all requests out of the pools, for a guest placed in cells (nil: a guest
// without NUMA cells, to which affinity means nothing). host are all the host's cells. It returns the pools
// that are left, without the empty ones; ok is false when a request cannot be met. pools is not changed.
func Consume(pools []Pool, requests []Request, host, cells []Cell) (left []Pool, ok bool) {
	left = slices.Clone(pools)
	for _, r := range requests {
		if !consume(left, r, host, cells) {
			return nil, false
		}
	}
	return slices.DeleteFunc(left, func(p Pool) bool { return p.Count == 0 }), true
}

func consume(pools []Pool, r Request, host, cells []Cell) bool {
	// Affinity is decided before what was not asked for is left out, as Nova does it: a cell whose only
	// device is a whole physical function counts as having one and is then refused.
	candidates := asked(affine(matching(pools, r), r, host, cells), r)
	need := r.Count
	for _, p := range candidates {
		n := min(need, p.Count)
		p.Count -= n
		need -= n
	}
	return need == 0
}

// Shortage is a request that cannot be met. It is an ErrNotEnough.
type Shortage struct {
	Alias    string
	Asked    int
	Free     int // devices that the alias means, wherever they are
	Near     int // of them: near enough to the guest's cells
	Affinity string
}

// Error says all of it in one line.
func (s *Shortage) Error() string {
	text := fmt.Sprintf("%s of alias %q asked, %d free", devices(s.Asked), s.Alias, s.Free)
	if s.Near < s.Free {
		text += fmt.Sprintf(", %d of them near enough to the guest's cells", s.Near)
	}
	return text + ", affinity " + s.Affinity
}

// Unwrap makes it an ErrNotEnough.
func (s *Shortage) Unwrap() error { return ErrNotEnough }

// Short returns the first of the requests that cannot be met, in the sense of Consume; nil when all can.
func Short(pools []Pool, requests []Request, host, cells []Cell) *Shortage {
	left := slices.Clone(pools)
	for _, r := range requests {
		before := slices.Clone(left)
		if !consume(left, r, host, cells) {
			return shortage(before, r, host, cells)
		}
	}
	return nil
}

func shortage(pools []Pool, r Request, host, cells []Cell) *Shortage {
	return &Shortage{Alias: r.Alias, Asked: r.Count, Affinity: r.affinity(),
		Free: count(asked(matching(pools, r), r)), Near: count(asked(affine(matching(pools, r), r, host, cells), r))}
}

// matching picks the pools that have devices left and whose devices meet one of the request's specs.
func matching(pools []Pool, r Request) []*Pool {
	var list []*Pool
	for i := range pools {
		if pools[i].Count > 0 && slices.ContainsFunc(r.Specs, pools[i].meets) {
			list = append(list, &pools[i])
		}
	}
	return list
}

// asked leaves out whole physical functions, vDPA and remotely managed devices, unless the
// request asks for them.
func asked(pools []*Pool, r Request) []*Pool {
	return filter(pools, func(p *Pool) bool {
		kind := p.Tags["dev_type"]
		if (kind == TypePF || kind == TypeVDPA) && !r.asksFor("dev_type", kind) {
			return false
		}
		return !isTrue(p.Tags["remote_managed"]) || r.asksFor("remote_managed", p.Tags["remote_managed"])
	})
}

func (r Request) asksFor(property, value string) bool {
	return slices.ContainsFunc(r.Specs, func(s map[string]string) bool { return strings.EqualFold(s[property], value) })
}

// meets says whether the pool has every property of the spec.
func (p *Pool) meets(spec map[string]string) bool {
	for property, want := range spec {
		have := p.Tags[property]
		switch property {
		case "vendor_id":
			have = p.VendorID
		case "product_id":
			have = p.ProductID
		}
		if !strings.EqualFold(have, want) {
			return false
		}
	}
	return true
}

// affine orders and narrows pools by the request's affinity.
func affine(pools []*Pool, r Request, host, cells []Cell) []*Pool {
	if cells == nil {
		return pools
	}
	near := filter(pools, func(p *Pool) bool { return p.in(cells) })
	switch {
	case r.Affinity == AffinityRequired || count(near) >= r.Count:
		return near
	case r.Affinity == AffinitySocket:
		return sameSocket(pools, host, cells)
	}
	known := filter(pools, func(p *Pool) bool { return p.Node == nil || p.in(cells) })
	if r.Affinity != AffinityPreferred || count(known) >= r.Count {
		return known
	}
	return pools
}

func sameSocket(pools []*Pool, host, cells []Cell) []*Pool {
	sockets := map[int]bool{}
	for _, c := range cells {
		if c.Socket < 0 {
			return nil // a host that does not say cannot promise
		}
		sockets[c.Socket] = true
	}
	near := filter(toCells(host), func(c *Cell) bool { return sockets[c.Socket] })
	return filter(pools, func(p *Pool) bool {
		return p.Node != nil && slices.ContainsFunc(near, func(c *Cell) bool { return c.ID == *p.Node })
	})
}

func (p *Pool) in(cells []Cell) bool {
	return p.Node != nil && slices.ContainsFunc(cells, func(c Cell) bool { return c.ID == *p.Node })
}

func count(pools []*Pool) int {
	n := 0
	for _, p := range pools {
		n += p.Count
	}
	return n
}

func filter[T any](list []*T, keep func(*T) bool) []*T {
	var out []*T
	for _, x := range list {
		if keep(x) {
			out = append(out, x)
		}
	}
	return out
}

func toCells(cells []Cell) []*Cell {
	out := make([]*Cell, len(cells))
	for i := range cells {
		out[i] = &cells[i]
	}
	return out
}

func isTrue(s string) bool { return strings.EqualFold(s, "true") || s == "1" }

// Properties returns all that a pool says of its devices, as one flat map in Nova's names.
func (p Pool) Properties() map[string]string {
	props := maps.Clone(p.Tags)
	if props == nil {
		props = map[string]string{}
	}
	props["vendor_id"], props["product_id"] = p.VendorID, p.ProductID
	return props
}

func devices(n int) string {
	if n == 1 {
		return "1 PCI device"
	}
	return fmt.Sprintf("%d PCI devices", n)
}
