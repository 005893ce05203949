package compute

import (
	"cmp"
	"slices"

	"compute-agent/numa"
	"compute-agent/virt"
)

// MachineOf is the host's hardware as its hypervisor describes it, in the terms of package numa. It fails
// with a *numa.Contradiction when the description cannot be true.
func MachineOf(cells []virt.Cell) (numa.Machine, error) {
	m := numa.Machine{Nodes: make([]numa.Node, len(cells))}
	for i, c := range cells {
		node := numa.Node{ID: c.ID, MemoryKiB: c.MemoryKiB}
		for _, cpu := range c.CPUs {
			node.CPUs = append(node.CPUs, numa.CPU(cpu))
		}
		for size, total := range c.Pages {
			node.Pages = append(node.Pages, numa.Pages{SizeKiB: size, Total: total})
		}
		slices.SortFunc(node.Pages, func(a, b numa.Pages) int { return cmp.Compare(a.SizeKiB, b.SizeKiB) })
		for _, other := range cells {
			if d, known := c.Distances[other.ID]; known {
				node.Distances = append(node.Distances, d)
			}
		}
		m.Nodes[i] = node
	}
	return m, m.Check()
}
