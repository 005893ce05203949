package libvirt

import (
	"fmt"

	"libvirt.org/go/libvirtxml"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// Cells reads the host's NUMA nodes out of libvirt's capabilities. CPUs that are not in online are left
// out, nil meaning that all are online. The result is nil when libvirt does not tell.
func Cells(caps *libvirtxml.Caps, online *cpuset.Set) ([]virt.Cell, error) {
	if caps.Host.NUMA == nil || caps.Host.NUMA.Cells == nil {
		return nil, nil
	}
	var cells []virt.Cell
	for _, c := range caps.Host.NUMA.Cells.Cells {
		cell, err := readCell(c, online)
		if err != nil {
			return nil, fmt.Errorf("capabilities: NUMA cell %d: %w", c.ID, err)
		}
		cells = append(cells, cell)
	}
	return cells, nil
}

func readCell(c libvirtxml.CapsHostNUMACell, online *cpuset.Set) (virt.Cell, error) {
	cell := virt.Cell{ID: c.ID, Pages: map[int]int{}}
	if c.Memory != nil {
		if c.Memory.Unit != "KiB" {
			return cell, fmt.Errorf("memory is in %q, not KiB", c.Memory.Unit)
		}
		cell.MemoryKiB = int(c.Memory.Size)
	}
	for _, p := range c.PageInfo {
		if p.Unit != "KiB" {
			return cell, fmt.Errorf("page size is in %q, not KiB", p.Unit)
		}
		cell.Pages[p.Size] = int(p.Count)
	}
	if c.Distances != nil {
		cell.Distances = map[int]int{}
		for _, d := range c.Distances.Siblings {
			cell.Distances[d.ID] = d.Value
		}
	}
	if c.CPUS == nil {
		return cell, nil
	}
	for _, cpu := range c.CPUS.CPUs {
		if online != nil && !online.Has(cpu.ID) {
			continue // libvirt lists it without a socket and siblings
		}
		known, err := readCPU(cpu, online)
		if err != nil {
			return cell, err
		}
		cell.CPUs = append(cell.CPUs, known)
	}
	return cell, nil
}

func readCPU(c libvirtxml.CapsHostNUMACPU, online *cpuset.Set) (virt.CellCPU, error) {
	cpu := virt.CellCPU{ID: c.ID, Socket: -1}
	if c.SocketID != nil {
		cpu.Socket = *c.SocketID
	}
	var err error
	if cpu.Siblings, err = cpuset.Parse(c.Siblings); err != nil {
		return cpu, fmt.Errorf("CPU %d: siblings: %w", c.ID, err)
	}
	if online != nil {
		cpu.Siblings = cpu.Siblings.Intersect(*online)
	}
	return cpu, nil
}
