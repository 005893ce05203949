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
	if p == nil {
		return nil
	}
	if len(p.VCPUs) > 0 && len(p.VCPUs) != s.VCPUs {
		return invalid("placement of %d vCPUs for a guest with %d", len(p.VCPUs), s.VCPUs)
	}
	all := cpuset.Range(0, s.VCPUs-1)
	if !p.Realtime.SubsetOf(all) {
		return invalid("real-time vCPUs %v of a guest with %d", p.Realtime, s.VCPUs)
	}
	if p.RealtimePriority < 0 || p.RealtimePriority > 99 {
		return invalid("real-time priority %d is not from 1 to 99", p.RealtimePriority)
	}
	if len(p.Cells) == 0 {
		return nil
	}
	var seen cpuset.Set
	var memory uint64
	for i, c := range p.Cells {
		switch {
		case seen.IntersectLen(c.VCPUs) > 0:
			return invalid("guest cell %d: vCPU %v is in another cell too", i, seen.Intersect(c.VCPUs))
		case c.MemoryMiB == 0:
			return invalid("guest cell %d: no memory", i)
		case c.HostCell < 0:
			return invalid("guest cell %d: host cell %d", i, c.HostCell)
		case c.PageKiB < 0 || c.PageKiB > 0 && c.MemoryMiB*1024%uint64(c.PageKiB) != 0:
			return invalid("guest cell %d: %d MiB are not pages of %d KiB", i, c.MemoryMiB, c.PageKiB)
		case len(c.Distances) > 0 && len(c.Distances) != len(p.Cells):
			return invalid("guest cell %d: %d distances for %d cells", i, len(c.Distances), len(p.Cells))
		}
		seen = seen.Union(c.VCPUs)
		memory += c.MemoryMiB
	}
	if !seen.Equal(all) {
		return invalid("the guest's cells have the vCPUs %v, the guest has %d", seen, s.VCPUs)
	}
	if memory != s.MemoryMiB {
		return invalid("the guest's cells have %d MiB, the guest has %d", memory, s.MemoryMiB)
	}
	return nil
}
