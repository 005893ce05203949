package numa

import (
	"fmt"
	"slices"

	"compute-agent/internal/cpuset"
)

// Aspect is a part of a machine's description.
type Aspect string

// The aspects that a machine can contradict itself in.
const (
	AspectNodes     Aspect = "nodes"
	AspectCPUs      Aspect = "CPUs" // of a node
	AspectSiblings  Aspect = "siblings"
	AspectDistances Aspect = "distances"
	AspectPages     Aspect = "pages"
)

// Contradiction says where a machine's description contradicts itself. Placing guests by such a
// description would put two of them on one core.
type Contradiction struct {
	Aspect  Aspect
	Node    int // its ID
	CPU     int // for AspectSiblings
	SizeKiB int // for AspectPages
	Reason  string
}

// Error names the node and the reason.
func (c *Contradiction) Error() string { return fmt.Sprintf("NUMA node %d: %s", c.Node, c.Reason) }

// Check refuses a machine that contradicts itself, with a *Contradiction.
func (m Machine) Check() error {
	seen := map[int]int{} // node of each CPU
	for i := range m.Nodes {
		n := &m.Nodes[i]
		if slices.ContainsFunc(m.Nodes[:i], func(o Node) bool { return o.ID == n.ID }) {
			return &Contradiction{Aspect: AspectNodes, Node: n.ID, Reason: "there are two of it"}
		}
		for _, cpu := range n.CPUs {
			if other, twice := seen[cpu.ID]; twice {
				return &Contradiction{Aspect: AspectCPUs, Node: n.ID, Reason: fmt.Sprintf("CPU %d is in node %d too", cpu.ID, other)}
			}
			seen[cpu.ID] = n.ID
		}
		if err := n.checkSiblings(); err != nil {
			return err
		}
		if err := m.checkDistances(i); err != nil {
			return err
		}
		if err := n.checkPages(); err != nil {
			return err
		}
	}
	return nil
}

// checkSiblings wants the cores of a node to be whole, inside it, and the same from each of their threads.
func (n *Node) checkSiblings() error {
	own, cores := n.cpus(), map[int]cpuset.Set{}
	for _, cpu := range n.CPUs {
		cores[cpu.ID] = cpu.Siblings
	}
	for _, cpu := range n.CPUs {
		wrong := func(format string, args ...any) error {
			return &Contradiction{Aspect: AspectSiblings, Node: n.ID, CPU: cpu.ID,
				Reason: fmt.Sprintf("CPU %d ", cpu.ID) + fmt.Sprintf(format, args...)}
		}
		if !cpu.Siblings.Has(cpu.ID) {
			return wrong("is not among its own siblings %v", cpu.Siblings)
		}
		if out := cpu.Siblings.Minus(own); !out.Empty() {
			return wrong("has sibling %v outside the node", out)
		}
		for other := range cpu.Siblings.All {
			if !cores[other].Equal(cpu.Siblings) {
				return wrong("has siblings %v, but its sibling CPU %d has %v", cpu.Siblings, other, cores[other])
			}
		}
	}
	return nil
}

// localDistance is the distance of a node to itself (ACPI SLIT).
const localDistance = 10

func (m Machine) checkDistances(i int) error {
	n := &m.Nodes[i]
	wrong := func(format string, args ...any) error {
		return &Contradiction{Aspect: AspectDistances, Node: n.ID, Reason: fmt.Sprintf(format, args...)}
	}
	if n.Distances == nil {
		return nil
	}
	if len(n.Distances) != len(m.Nodes) {
		return wrong("%d distances for %d nodes", len(n.Distances), len(m.Nodes))
	}
	for j, d := range n.Distances {
		if d < localDistance || (i == j) != (d == localDistance) {
			return wrong("a distance of %d to node %d; it is %d to the node itself and more to others", d, m.Nodes[j].ID, localDistance)
		}
	}
	return nil
}

func (n *Node) checkPages() error {
	leftKiB := n.MemoryKiB
	for _, p := range n.Pages {
		if p.Total < 0 || p.SizeKiB <= 0 || p.Total > leftKiB/p.SizeKiB {
			return &Contradiction{Aspect: AspectPages, Node: n.ID, SizeKiB: p.SizeKiB,
				Reason: fmt.Sprintf("%d pages of %d KiB are more than its %d KiB", p.Total, p.SizeKiB, n.MemoryKiB)}
		}
		leftKiB -= p.Total * p.SizeKiB
	}
	return nil
}
