package compute

import (
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
)

// sizes are what a claim sums up to for Nova's eyes.
type sizes struct{ VCPUs, MemoryMiB, DiskGiB int }

func (c Claim) sizes() sizes { return sizes{c.VCPUs, c.MemoryMiB, c.DiskGiB} }

func (s *sizes) add(o sizes, sign int) {
	s.VCPUs += sign * o.VCPUs
	s.MemoryMiB += sign * o.MemoryMiB
	s.DiskGiB += sign * o.DiskGiB
}

// beyond is how much of each is more than in another.
func (s sizes) beyond(o sizes) sizes {
	return sizes{max(0, s.VCPUs-o.VCPUs), max(0, s.MemoryMiB-o.MemoryMiB), max(0, s.DiskGiB-o.DiskGiB)}
}

// beyond is how much of each row is more than in another.
func (a amounts) beyond(other amounts) amounts {
	for i := range a {
		a[i] = max(0, a[i]-other[i])
	}
	return a
}

// excess is what a placed guest takes beyond what another one has already, which is never there at the same time: it
// is counted, and cannot run. held may be nil.
func excess(guest, held *numa.Guest, host numa.Host) *numa.Guest {
	if guest == nil || held == nil {
		return guest
	}
	more := numa.Guest{}
	for i := range guest.Cells {
		more.Cells = append(more.Cells, excessCell(&guest.Cells[i], held, host))
	}
	return &more
}

func excessCell(g *numa.GuestCell, held *numa.Guest, host numa.Host) numa.GuestCell {
	cell := host.Cell(g.ID)
	if cell == nil {
		return *g // counted nowhere
	}
	more := numa.GuestCell{ID: g.ID, MemoryMiB: g.MemoryMiB, PageKiB: g.PageKiB, Reserved: taken(cell, g)}
	floating := g.Shared.Len()
	for i := range held.Cells {
		h := &held.Cells[i]
		if h.ID != g.ID {
			continue
		}
		more.Reserved = more.Reserved.Minus(taken(cell, h))
		floating -= h.Shared.Len()
		if h.PageKiB == g.PageKiB {
			more.MemoryMiB = max(0, more.MemoryMiB-h.MemoryMiB)
		}
	}
	more.Shared = cpuset.Range(0, floating-1)
	return more
}

// countable is the part of a placed guest that can be counted in the cells: without the pCPUs that they have
// lost, and those that another guest has.
func countable(cells numa.Host, guest numa.Guest) numa.Guest {
	clean := true
	for i := range guest.Cells {
		clean = clean && lost(cells, &guest.Cells[i]).Empty()
	}
	if clean {
		return guest
	}
	guest = guest.Clone()
	for i := range guest.Cells {
		g := &guest.Cells[i]
		if gone := lost(cells, g); !gone.Empty() {
			g.Pins, g.ThreadPolicy, g.Reserved = nil, "", taken(cells.Cell(g.ID), g).Minus(gone)
		}
	}
	return guest
}

// lost is the pCPUs of a guest cell that cannot be counted. A cell that the host does not have is counted nowhere.
func lost(cells numa.Host, g *numa.GuestCell) cpuset.Set {
	cell := cells.Cell(g.ID)
	if cell == nil {
		return cpuset.Set{}
	}
	takes := taken(cell, g)
	return takes.Minus(cell.Dedicated).Union(takes.Intersect(cell.Pinned))
}

// taken is the pCPUs that a guest cell keeps others off: those that it is pinned to, those of its emulator, and,
// where it is isolated, their siblings.
func taken(cell *numa.HostCell, g *numa.GuestCell) cpuset.Set {
	cpus := g.PinnedPCPUs().Union(g.Reserved)
	if g.ThreadPolicy != numa.ThreadsIsolate {
		return cpus
	}
	all := cpus
	for _, core := range cell.Siblings {
		if core.IntersectLen(cpus) > 0 {
			all = all.Union(core)
		}
	}
	return all
}
