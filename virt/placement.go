package virt

import "compute-agent/internal/cpuset"

// Placement says where on the host a guest runs and where its memory lies. A Spec without one may run
// anywhere.
type Placement struct {
	// VCPUs are the pCPUs that each vCPU may run on, by the vCPU's number: one for a dedicated vCPU,
	// several for one that floats. Empty: all of them may run on Floating.
	VCPUs []cpuset.Set
	// Floating are the pCPUs of a guest whose vCPUs are not placed one by one; empty for all.
	Floating cpuset.Set
	// Emulator are the pCPUs of the hypervisor's own threads, I/O threads among them; empty for
	// wherever the guest may run.
	Emulator cpuset.Set
	// Realtime are the vCPUs that the host schedules first in, first out.
	Realtime cpuset.Set
	// RealtimePriority is theirs, of 1 to 99; 0 for 1. Nova: [libvirt]realtime_scheduler_priority.
	RealtimePriority int
	// Cells are the guest's NUMA cells in the guest's order; none for a guest without.
	Cells []GuestCell
}

// GuestCell is one NUMA cell of a guest.
type GuestCell struct {
	VCPUs     cpuset.Set
	MemoryMiB uint64
	// HostCell is the number of the host's cell that the memory comes from, and from no other.
	HostCell int
	// PageKiB is the size of the pages that the memory is on; 0 for ordinary ones.
	PageKiB int
	// Distances to each of the guest's cells by position, in ACPI SLIT units: 10 to itself. Empty
	// to leave them to the hypervisor.
	Distances []int
}

// validatePlacement checks that every vCPU and every MiB of a guest with cells is in one of them.
func (s Spec) validatePlacement() error {
	p := s.Placement
	switch {
	case p == nil:
		return nil
	case len(p.VCPUs) > 0 && len(p.VCPUs) != s.VCPUs:
		return invalid("placement of %d vCPUs for a guest with %d", len(p.VCPUs), s.VCPUs)
	case !p.Realtime.SubsetOf(cpuset.Range(0, s.VCPUs-1)):
		return invalid("real-time vCPUs %v of a guest with %d", p.Realtime, s.VCPUs)
	case p.RealtimePriority < 0 || p.RealtimePriority > 99:
		return invalid("real-time priority %d is not from 1 to 99", p.RealtimePriority)
	case len(p.Cells) == 0:
		return nil
	}
	var seen cpuset.Set
	var memory uint64
	for i, c := range p.Cells {
		if both := seen.Intersect(c.VCPUs); !both.Empty() {
			return invalid("guest cell %d: vCPU %v is in another cell too", i, both)
		}
		if err := c.validate(i, len(p.Cells)); err != nil {
			return err
		}
		seen = seen.Union(c.VCPUs)
		memory += c.MemoryMiB
	}
	if !seen.Equal(cpuset.Range(0, s.VCPUs-1)) {
		return invalid("the guest's cells have the vCPUs %v, the guest has %d", seen, s.VCPUs)
	}
	if memory != s.MemoryMiB {
		return invalid("the guest's cells have %d MiB, the guest has %d", memory, s.MemoryMiB)
	}
	return nil
}

// validate checks the guest's cell at a position among several.
func (c GuestCell) validate(own, cells int) error {
	switch {
	case c.MemoryMiB == 0:
		return invalid("guest cell %d: no memory", own)
	case c.HostCell < 0:
		return invalid("guest cell %d: host cell %d", own, c.HostCell)
	case c.PageKiB < 0 || c.PageKiB > 0 && c.MemoryMiB*1024%uint64(c.PageKiB) != 0:
		return invalid("guest cell %d: %d MiB are not pages of %d KiB", own, c.MemoryMiB, c.PageKiB)
	case len(c.Distances) > 0 && len(c.Distances) != cells:
		return invalid("guest cell %d: %d distances for %d cells", own, len(c.Distances), cells)
	}
	return c.validateDistances(own)
}

// validateDistances keeps to the SLIT of ACPI: 10 to itself, no less to others, and 255 for out of reach.
func (c GuestCell) validateDistances(own int) error {
	for to, d := range c.Distances {
		if to == own && d != 10 || d < 10 || d > 255 {
			return invalid("guest cell %d: distance %d to cell %d", own, d, to)
		}
	}
	return nil
}
