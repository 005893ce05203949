package plan

import (
	"slices"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
)

// The recorded sequences of claims are those of Nova 26.2.2 ("zed") and have no variants, and each claim of a
// sequence builds on the ones before. So this file does what that release does where the agent
// does it otherwise: which thread of a core is pinned first, and what memory a pinned guest needs.

// threadOrder follows the lists of CPUs of Nova's host cells through the sets that hold them.
type threadOrder struct {
	cells []cellOrder
}

type cellOrder struct {
	dedicated []int
	cores     [][]int
}

// newThreadOrder is the order on a host as the driver reports it.
func newThreadOrder(host numa.Host) threadOrder {
	var o threadOrder
	for i := range host.Cells {
		c := cellOrder{dedicated: coerced(host.Cells[i].Dedicated.Slice())}
		for _, core := range host.Cells[i].Siblings {
			c.cores = append(c.cores, coerced(core.Slice()))
		}
		o.cells = append(o.cells, c)
	}
	return o
}

// coerced is a list after it has gone through a set and the typed set of a versioned object's field.
func coerced(list []int) []int { return coerce(pySetOf(list)).list() }

func coerce(s *pySet) *pySet { return pySetOf(s.list()).copied() }

// parsed is a set of a host that is read from its stored JSON.
func parsed(list []int) *pySet { return coerce(pySetOf(list)) }

// stored writes the host back after a guest was placed or freed: each cell is read, made anew and written.
func (o threadOrder) stored() {
	for i := range o.cells {
		c := &o.cells[i]
		c.dedicated = coerce(parsed(c.dedicated)).list()
		for j, core := range c.cores {
			c.cores[j] = coerce(parsed(core)).list()
		}
	}
}

// pins lets the pins of a placed guest follow the order: Fit pins the free threads of a core by their numbers.
func (o threadOrder) pins(host numa.Host, placed *numa.Guest) {
	for i := range placed.Cells {
		g := &placed.Cells[i]
		at := slices.IndexFunc(host.Cells, func(c numa.HostCell) bool { return c.ID == g.ID })
		takes := o.cells[at].replacements(host.Cells[at])
		for j, pin := range g.Pins {
			g.Pins[j].PCPU = takes[pin.PCPU]
		}
		reserved := g.Reserved.Slice()
		for j, cpu := range reserved {
			reserved[j] = takes[cpu]
		}
		g.Reserved = cpuset.Of(reserved...)
	}
}

// replacements says for each free pCPU which one Nova takes in its place.
func (c cellOrder) replacements(host numa.HostCell) map[int]int {
	free := parsed(c.dedicated).minus(pySetOf(host.Pinned.Slice()))
	takes := map[int]int{}
	for _, core := range c.cores {
		order := parsed(core).and(free).list()
		for i, cpu := range slices.Sorted(slices.Values(order)) {
			takes[cpu] = order[i]
		}
	}
	return takes
}

// zedMemory is the host as zed sees its memory for a guest with dedicated vCPUs: what is free counts, also for
// a guest on huge pages; small pages do not, where the guest names no page size.
func zedMemory(host numa.Host, guest numa.Guest) numa.Host {
	pinned := slices.ContainsFunc(guest.Cells, func(c numa.GuestCell) bool { return !c.Dedicated.Empty() })
	if !pinned {
		return host
	}
	host = host.Clone()
	for i := range host.Cells {
		c := &host.Cells[i]
		c.MemoryMiB, c.UsedMiB = c.FreeMiB(), 0
		if guest.Cells[0].PageKiB == 0 {
			c.Pages = nil
		}
	}
	return host
}
