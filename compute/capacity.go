package compute

import (
	"math"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
)

// Capacity says how much of the host servers may claim. A ratio of zero means its default. The
// names and defaults are Nova's.
type Capacity struct {
	CPUAllocationRatio    float64 // claimed vCPUs per CPU that they may float on; default 4.0
	RAMAllocationRatio    float64 // default 1.0
	DiskAllocationRatio   float64 // default 1.0
	ReservedHostCPUs      int
	ReservedHostMemoryMiB int // reserved_host_memory_mb; DefaultReservedMemoryMiB is Nova's default
	ReservedHostDiskMiB   int // reserved_host_disk_mb

	// NUMA says which CPUs are for what, and which huge pages are kept back: cpu_shared_set,
	// cpu_dedicated_set, reserved_huge_pages.
	NUMA numa.Config
	// PackCells fills the host's cells one after the other
	// (packing_host_numa_cells_allocation_strategy).
	PackCells bool
	// FileBackedMiB is the memory of guests where it is in files (file_backed_memory); 0 for the host's own.
	FileBackedMiB int
	// PCI says which devices servers may get: [pci]device_spec and [pci]alias.
	PCI PCIConfig
}

// DefaultReservedMemoryMiB is Nova's default of reserved_host_memory_mb.
const DefaultReservedMemoryMiB = 512

func (c Capacity) withDefaults() Capacity {
	for ratio, def := range map[*float64]float64{&c.CPUAllocationRatio: 4, &c.RAMAllocationRatio: 1, &c.DiskAllocationRatio: 1} {
		if *ratio == 0 {
			*ratio = def
		}
	}
	return c
}

// fitOptions are the operator's choices for a fit.
func (c Capacity) fitOptions() numa.Options {
	return numa.Options{Pack: c.PackCells, Limits: &numa.Limits{CPURatio: c.CPUAllocationRatio, RAMRatio: c.RAMAllocationRatio}}
}

// reservedDiskGiB rounds up.
func (c Capacity) reservedDiskGiB() int { return (c.ReservedHostDiskMiB + 1023) / 1024 }

// hostSize is how large a host is.
type hostSize struct {
	vcpus     int // CPUs that vCPUs float on: Nova's VCPU
	pcpus     int // CPUs that vCPUs are pinned to, where the operator has set some apart: Nova's PCPU
	memoryMiB int
	hugeMiB   int // of it in huge pages, in use or not
	reserved  int // of that: MiB kept back by reserved_huge_pages
	diskGiB   int
	cells     numa.Host // nothing in use
	online    cpuset.Set
	missing   cpuset.Set // CPUs that the configuration names and that are not online
}

// The rows of the ledger.
const (
	rowVCPU = iota
	rowPCPU
	rowMemory
	rowSmallMemory
	rowDisk
	rows
)

// amounts is how much of each row.
type amounts [rows]int

func (a *amounts) add(b amounts, sign int) {
	for i := range a {
		a[i] += sign * b[i]
	}
}

// resource is one row of the ledger.
type resource struct {
	name, unit      string
	total, reserved int
	ratio           float64
}

// limit is how much may be claimed in all: (total - reserved) * ratio, as placement counts.
func (r resource) limit() int {
	return int(math.Floor(float64(max(0, r.total-r.reserved)) * r.ratio))
}

// resources are the ledger's rows. Memory is counted twice: all of it, as Nova does, and what is not set aside
// for huge pages, which is all that guests on ordinary pages can have.
func (c Capacity) resources(h hostSize) [rows]resource {
	return [rows]resource{
		rowVCPU:        {"vCPU", "vCPUs", h.vcpus, c.ReservedHostCPUs, c.CPUAllocationRatio},
		rowPCPU:        {"pCPU", "pinned vCPUs", h.pcpus, 0, 1},
		rowMemory:      {"memory", "MiB", h.memoryMiB, c.ReservedHostMemoryMiB, c.RAMAllocationRatio},
		rowSmallMemory: {"memory outside huge pages", "MiB", h.memoryMiB - h.hugeMiB, c.ReservedHostMemoryMiB, c.RAMAllocationRatio},
		rowDisk:        {"disk", "GiB", h.diskGiB, c.reservedDiskGiB(), c.DiskAllocationRatio},
	}
}

// amountsOf is what a claim takes of each row. Where no CPUs are set apart for pinning, a pinned vCPU
// counts as one that floats, as in Nova.
func (c Capacity) amountsOf(claim Claim) amounts {
	a := amounts{rowVCPU: claim.VCPUs, rowMemory: claim.MemoryMiB, rowSmallMemory: claim.MemoryMiB, rowDisk: claim.DiskGiB}
	if claim.NUMA == nil {
		return a
	}
	for i := range claim.NUMA.Cells {
		cell := &claim.NUMA.Cells[i]
		if c.NUMA.DedicatedSet != nil {
			a[rowVCPU] -= cell.Dedicated.Len()
			a[rowPCPU] += cell.Dedicated.Len() + cell.Reserved.Len()
		}
		if numa.Huge(cell.PageKiB) {
			a[rowSmallMemory] -= cell.MemoryMiB
		}
	}
	return a
}
