package compute

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/virt"
)

// measure lays the operator's configuration over the host as its hypervisor describes it. CPUs that the
// configuration names and that are not online are left out: hostSize.missing. The error is a
// *numa.Contradiction when the description cannot be true; the size is then without cells.
func (c Capacity) measure(h virt.Host, st Storage) (hostSize, error) {
	size := hostSize{vcpus: h.CPUs, memoryMiB: cmp.Or(c.FileBackedMiB, int(h.MemoryMiB)), diskGiB: int(st.TotalBytes >> 30)}
	machine, err := MachineOf(h.Cells)
	if err != nil || len(machine.Nodes) == 0 {
		size.vcpus, size.pcpus = c.countedCPUs(h.CPUs)
		return size, err
	}
	size.online = machine.Online()
	present := c.NUMA
	for _, set := range []**cpuset.Set{&present.SharedSet, &present.DedicatedSet, &present.PinSet} {
		if *set != nil {
			there := (*set).Intersect(size.online)
			size.missing = size.missing.Union((*set).Minus(size.online))
			*set = &there
		}
	}
	present.Reserved = map[int]map[int]int{}
	for _, n := range machine.Nodes {
		present.Reserved[n.ID] = c.NUMA.Reserved[n.ID]
	}
	if size.cells, err = machine.Host(present); err != nil {
		return size, err
	}
	floating, err := present.VCPUSet(machine)
	if err != nil {
		return size, err
	}
	pinned, err := present.PCPUSet(machine)
	if err != nil {
		return size, err
	}
	size.vcpus, size.pcpus = floating.Len(), pinned.Len()
	for _, cell := range size.cells.Cells {
		for _, p := range cell.Pages {
			if numa.Huge(p.SizeKiB) {
				size.hugeMiB += p.Total * p.SizeKiB / 1024
				size.reserved += p.Reserved * p.SizeKiB / 1024
			}
		}
	}
	return size, nil
}

// countedCPUs is what the sets say on a host whose cells are not known.
func (c Capacity) countedCPUs(online int) (floating, pinned int) {
	if c.NUMA.DedicatedSet != nil {
		pinned, online = c.NUMA.DedicatedSet.Len(), 0
	}
	if c.NUMA.SharedSet != nil {
		online = c.NUMA.SharedSet.Len()
	}
	return online, pinned
}

// checkHost refuses a configuration that is not one for this host, with a *numa.Error that names the key. pinned
// are pCPUs that servers are pinned to: one of those that is gone was there once, and is no reason
// not to start.
func (c Capacity) checkHost(h virt.Host, size hostSize, pinned cpuset.Set) error {
	if len(size.cells.Cells) == 0 {
		return nil // there is nothing to hold it against
	}
	for key, set := range map[string]*cpuset.Set{"cpu_shared_set": c.NUMA.SharedSet, "cpu_dedicated_set": c.NUMA.DedicatedSet} {
		if set == nil {
			continue
		}
		if off := set.Intersect(size.missing).Minus(pinned); !off.Empty() {
			return &numa.Error{Class: "Invalid", Key: key, Value: set.String(), Rule: fmt.Sprintf("CPU %v is not online", off)}
		}
	}
	for node, pages := range c.NUMA.Reserved {
		if err := checkReserved(h, node, pages); err != nil {
			return err
		}
	}
	return nil
}

func checkReserved(h virt.Host, node int, pages map[int]int) error {
	wrong := func(value int, format string, args ...any) error {
		return &numa.Error{Class: "InvalidReservedMemoryPagesOption", Key: "reserved_huge_pages", Value: strconv.Itoa(value), Rule: fmt.Sprintf(format, args...)}
	}
	at := slices.IndexFunc(h.Cells, func(c virt.Cell) bool { return c.ID == node })
	if at < 0 {
		return wrong(node, "there is no NUMA node %d", node)
	}
	for size, count := range pages {
		total, there := h.Cells[at].Pages[size]
		switch {
		case !there:
			return wrong(size, "node %d has no pages of %d KiB", node, size)
		case count > total:
			return wrong(count, "node %d has %d pages of %d KiB", node, total, size)
		}
	}
	return nil
}
