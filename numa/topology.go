// Package numa decides where a guest's vCPUs and memory go: which host NUMA cell each guest
// cell lands on, which pCPU each dedicated vCPU is pinned to, which page size backs its memory.
// Its answers are those of Nova (nova.virt.hardware), reached in polynomial time; see Fit.
//
// It does no I/O but for ReadMachine, which reads a sysfs tree.
package numa

import (
	"slices"

	"compute-agent/internal/cpuset"
)

// Host is the NUMA layout of a host with what is in use of it. Memory is in MiB.
type Host struct {
	Cells []HostCell
}

// HostCell is one NUMA node of the host.
type HostCell struct {
	ID        int
	Shared    cpuset.Set // pCPUs that floating vCPUs and emulator threads run on: cpu_shared_set
	Dedicated cpuset.Set // pCPUs that dedicated vCPUs are pinned to: cpu_dedicated_set
	Pinned    cpuset.Set // of Dedicated: in use
	CPUUsage  int        // floating vCPUs placed here
	MemoryMiB int
	UsedMiB   int
	Pages     []Pages
	Siblings  []cpuset.Set // hardware threads of a core; a core without them is a set of one
	Socket    int          // physical package; -1 if not known
	Distances []int        // to each cell of the host by its position, in ACPI SLIT units; nil if not known
	Network   Network
}

// Pages counts memory pages of one size in one cell.
type Pages struct {
	SizeKiB               int
	Total, Used, Reserved int
}

// Free is the number of pages that a guest could get.
func (p Pages) Free() int { return p.Total - p.Used - p.Reserved }

// Network says which networks a cell's NICs reach, or a guest's ports need.
type Network struct {
	Physnets []string
	Tunneled bool
}

// Needs says whether anything is named.
func (n Network) Needs() bool { return len(n.Physnets) > 0 || n.Tunneled }

// FreePCPUs is the set of dedicated pCPUs that nothing is pinned to.
func (c *HostCell) FreePCPUs() cpuset.Set { return c.Dedicated.Minus(c.Pinned) }

// freeCount is the number of FreePCPUs.
func (c *HostCell) freeCount() int { return c.Dedicated.Len() - c.Dedicated.IntersectLen(c.Pinned) }

// FreeMiB is the memory that is not in use.
func (c *HostCell) FreeMiB() int { return c.MemoryMiB - c.UsedMiB }

// HasThreads says whether any core of the cell has more than one hardware thread.
func (c *HostCell) HasThreads() bool {
	for i := range c.Siblings {
		if c.Siblings[i].Len() > 1 {
			return true
		}
	}
	return false
}

// Clone returns a copy that can be changed without changing h.
func (h Host) Clone() Host {
	cells := slices.Clone(h.Cells)
	for i := range cells {
		cells[i].Pages = slices.Clone(cells[i].Pages)
	}
	return Host{cells}
}

// Cell returns the cell with an ID, nil if there is none.
func (h Host) Cell(id int) *HostCell {
	for i := range h.Cells {
		if h.Cells[i].ID == id {
			return &h.Cells[i]
		}
	}
	return nil
}

// The CPU policies of hw:cpu_policy.
const (
	PolicyShared    = "shared"
	PolicyDedicated = "dedicated"
	PolicyMixed     = "mixed"
)

// The thread policies of hw:cpu_thread_policy.
const (
	ThreadsPrefer  = "prefer"
	ThreadsIsolate = "isolate"
	ThreadsRequire = "require"
)

// The policies of hw:emulator_threads_policy.
const (
	EmulatorShare   = "share"
	EmulatorIsolate = "isolate"
)

// Page sizes that are asked for by a word, in place of a size in KiB. Nova's numbers.
const (
	PageSmall = -1
	PageLarge = -2
	PageAny   = -3
)

// Guest is the NUMA layout that a guest asks for, or, after Fit, that it got. Its JSON form is stored.
type Guest struct {
	Cells []GuestCell
	// EmulatorThreads is share, isolate, or empty for none asked.
	EmulatorThreads string `json:",omitzero"`
}

// GuestCell is one NUMA cell of a guest.
type GuestCell struct {
	// ID is the guest's number of the cell before Fit and the host's number of the cell that it
	// landed on afterwards; the position in Guest.Cells stays the guest's number. Nova keeps and
	// sends both in one field, and so do we.
	ID        int
	Shared    cpuset.Set `json:",omitzero"` // vCPUs that float
	Dedicated cpuset.Set `json:",omitzero"` // vCPUs that are pinned one to one
	MemoryMiB int
	// PageKiB is a page size in KiB, one of PageSmall, PageLarge, PageAny, or 0 for none asked.
	PageKiB      int    `json:",omitzero"`
	CPUPolicy    string `json:",omitzero"`
	ThreadPolicy string `json:",omitzero"`
	// Pins maps each dedicated vCPU to a pCPU, in the order of vCPUs; nil before Fit.
	Pins []Pin `json:",omitzero"`
	// Reserved is the set of pCPUs for the emulator's threads, when they are isolated.
	Reserved cpuset.Set `json:",omitzero"`
}

// Pin is one vCPU on one pCPU.
type Pin struct {
	VCPU, PCPU int
}

// VCPUs is the set of all the cell's vCPUs.
func (c *GuestCell) VCPUs() cpuset.Set { return c.Shared.Union(c.Dedicated) }

// pinning says whether the cell belongs to a guest that has dedicated vCPUs.
func (c *GuestCell) pinning() bool {
	return c.CPUPolicy == PolicyDedicated || c.CPUPolicy == PolicyMixed
}

// PinnedPCPUs is the set of pCPUs that the cell's vCPUs are pinned to.
func (c *GuestCell) PinnedPCPUs() cpuset.Set {
	var s cpuset.Set
	for _, p := range c.Pins {
		s.Add(p.PCPU)
	}
	return s
}

// Clone returns a copy that shares no slices with g.
func (g Guest) Clone() Guest {
	cells := slices.Clone(g.Cells)
	for i := range cells {
		cells[i].Pins = slices.Clone(cells[i].Pins)
	}
	g.Cells = cells
	return g
}
