package fake

import (
	"fmt"
	"syscall"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// CellShape is one NUMA node of a host whose nodes are alike.
type CellShape struct {
	Cores, Threads int // Threads of each core
	MemoryMiB      int
	HugePages      map[int]int // number by size in KiB; what is left of the memory is pages of 4 KiB
}

// Cells returns n NUMA nodes, each in a package of its own and at distance 20 from the others. The CPUs of
// a node, and the threads of a core, are numbered one after the other.
func Cells(n int, shape CellShape) []virt.Cell {
	cells := make([]virt.Cell, n)
	threads := max(1, shape.Threads)
	for i := range cells {
		cell := virt.Cell{ID: i, MemoryKiB: shape.MemoryMiB * 1024, Pages: map[int]int{}, Distances: map[int]int{}}
		for core := range shape.Cores {
			first := (i*shape.Cores + core) * threads
			for t := range threads {
				cell.CPUs = append(cell.CPUs, virt.CellCPU{ID: first + t, Socket: i, Siblings: cpuset.Range(first, first+threads-1)})
			}
		}
		small := cell.MemoryKiB
		for size, count := range shape.HugePages {
			cell.Pages[size] = count
			small -= size * count
		}
		cell.Pages[4] = small / 4
		for other := range cells {
			cell.Distances[other] = 20
		}
		cell.Distances[i] = 10
		cells[i] = cell
	}
	return cells
}

// oneCell is a host without NUMA: one node, one thread a core, no huge pages.
func oneCell(cpus, memoryMiB int) []virt.Cell {
	return Cells(1, CellShape{Cores: cpus, MemoryMiB: memoryMiB})
}

// SetOffline takes logical CPUs away from the host, or gives back those that are no longer named, as
// /sys/devices/system/cpu/cpuN/online does. Guests on them are not touched.
func (h *Hypervisor) SetOffline(cpus cpuset.Set) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.offline = cpus.Clone()
}

// onlineOf is the cells without the CPUs that are offline.
func onlineOf(cells []virt.Cell, offline cpuset.Set) []virt.Cell {
	out := make([]virt.Cell, len(cells))
	for i, c := range cells {
		var cpus []virt.CellCPU
		for _, cpu := range c.CPUs {
			if !offline.Has(cpu.ID) {
				cpu.Siblings = cpu.Siblings.Minus(offline)
				cpus = append(cpus, cpu)
			}
		}
		out[i] = c
		out[i].CPUs = cpus
	}
	return out
}

// checkPins refuses what the kernel does (sched_setaffinity): a vCPU all of whose pCPUs are offline.
func (h *Hypervisor) checkPins(s virt.Spec) error {
	if s.Placement == nil {
		return nil
	}
	for vcpu, cpus := range s.Placement.VCPUs {
		if !cpus.Empty() && cpus.SubsetOf(h.offline) {
			return fmt.Errorf("cannot set CPU affinity of vCPU %d: %w", vcpu, syscall.EINVAL)
		}
	}
	return nil
}

// Spec returns what a guest was made of.
func (h *Hypervisor) Spec(id string) (virt.Spec, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g, err := h.find(id)
	if err != nil {
		return virt.Spec{}, err
	}
	return g.spec.Clone(), nil
}
