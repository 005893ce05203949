package numa

import (
	"slices"
	"strconv"

	"compute-agent/internal/cpuset"
)

// Machine is a host's hardware as its kernel or its hypervisor describes it, before the operator's
// configuration says what of it guests may use.
type Machine struct {
	Nodes []Node
}

// Node is one NUMA node of a machine. A node may lack memory or CPUs.
type Node struct {
	ID        int
	CPUs      []CPU // online ones
	MemoryKiB int
	Pages     []Pages // Total alone; the smallest size is what is not set aside for the others
	Distances []int   // to each node by its position
}

// CPU is one logical CPU.
type CPU struct {
	ID       int
	Socket   int        // physical package; -1 if not known
	Siblings cpuset.Set // hardware threads of its core, itself among them
}

// Online is the set of all CPUs of the machine.
func (m Machine) Online() cpuset.Set {
	var s cpuset.Set
	for i := range m.Nodes {
		s = s.Union(m.Nodes[i].cpus())
	}
	return s
}

func (n *Node) cpus() cpuset.Set {
	var s cpuset.Set
	for _, c := range n.CPUs {
		s.Add(c.ID)
	}
	return s
}

// Config is what the operator says of the host's CPUs and memory. The names are Nova's.
type Config struct {
	SharedSet    *cpuset.Set         // [compute]cpu_shared_set; nil when not set
	DedicatedSet *cpuset.Set         // [compute]cpu_dedicated_set; nil when not set
	PinSet       *cpuset.Set         // vcpu_pin_set of releases before 2020: shared and dedicated in one
	Reserved     map[int]map[int]int // reserved_huge_pages: pages by node and size in KiB
	Networks     map[int]Network     // networks that the NICs of a node reach
}

// VCPUSet is the set of CPUs that Nova counts as VCPU inventory; all online ones when nothing is said.
func (c Config) VCPUSet(m Machine) (cpuset.Set, error) {
	switch {
	case c.PinSet != nil:
		return c.online("vcpu_pin_set", *c.PinSet, m)
	case c.SharedSet != nil:
		return c.online("cpu_shared_set", *c.SharedSet, m)
	case c.DedicatedSet != nil:
		return cpuset.Set{}, nil
	}
	return m.Online(), nil
}

// PCPUSet is the set of CPUs that Nova counts as PCPU inventory: cpu_dedicated_set alone.
func (c Config) PCPUSet(m Machine) (cpuset.Set, error) {
	if c.DedicatedSet == nil {
		return cpuset.Set{}, nil
	}
	return c.online("cpu_dedicated_set", *c.DedicatedSet, m)
}

func (c Config) online(key string, set cpuset.Set, m Machine) (cpuset.Set, error) {
	if off := set.Minus(m.Online()); !off.Empty() {
		return cpuset.Set{}, failed("Invalid", key, set.String(), "CPU %v is not online; online are %v", off, m.Online())
	}
	return set, nil
}

// pinnable is the set of CPUs that the NUMA cells offer to dedicated vCPUs. Without cpu_dedicated_set
// it is the CPUs for floating ones too: a guest that asks for pinning on such a host gets it, as in Nova,
// unless the operator has said by cpu_shared_set what the CPUs are for.
func (c Config) pinnable(m Machine) (cpuset.Set, error) {
	switch {
	case c.DedicatedSet != nil:
		return c.PCPUSet(m)
	case c.SharedSet != nil && c.PinSet == nil:
		return cpuset.Set{}, nil
	}
	return c.VCPUSet(m)
}

// Host lays the configuration over the machine: the cells that guests are placed in, with nothing in use.
func (m Machine) Host(c Config) (Host, error) {
	shared, err := c.VCPUSet(m)
	if err != nil {
		return Host{}, err
	}
	dedicated, err := c.pinnable(m)
	if err != nil {
		return Host{}, err
	}
	for node := range c.Reserved {
		if !slices.ContainsFunc(m.Nodes, func(n Node) bool { return n.ID == node }) {
			return Host{}, failed("InvalidReservedMemoryPagesOption", "reserved_huge_pages", strconv.Itoa(node), "there is no such node")
		}
	}
	host := Host{Cells: make([]HostCell, len(m.Nodes))}
	for i := range m.Nodes {
		host.Cells[i] = m.Nodes[i].cell(shared, dedicated, c)
	}
	return host, nil
}

func (n *Node) cell(shared, dedicated cpuset.Set, c Config) HostCell {
	own := n.cpus()
	cell := HostCell{ID: n.ID, Shared: own.Intersect(shared), Dedicated: own.Intersect(dedicated), MemoryMiB: n.MemoryKiB / 1024,
		Distances: n.Distances, Socket: n.socket(), Network: c.Networks[n.ID]}
	cell.Siblings = n.cores(cell.Shared.Union(cell.Dedicated))
	for _, p := range n.Pages {
		cell.Pages = append(cell.Pages, Pages{SizeKiB: p.SizeKiB, Total: p.Total, Reserved: c.Reserved[n.ID][p.SizeKiB]})
	}
	return cell
}

// socket is the package that the node lies in; -1 for a node without CPUs or across packages, which
// is next to no device by its socket.
func (n *Node) socket() int {
	if len(n.CPUs) == 0 {
		return -1
	}
	socket := n.CPUs[0].Socket
	for _, cpu := range n.CPUs {
		if cpu.Socket != socket {
			return -1
		}
	}
	return socket
}

// cores lists the cores of the node by their lowest thread, each with those threads that are usable.
func (n *Node) cores(usable cpuset.Set) []cpuset.Set {
	var cores []cpuset.Set
	for _, cpu := range n.CPUs {
		threads := cpu.Siblings.Intersect(usable)
		if threads.First() == cpu.ID {
			cores = append(cores, threads)
		}
	}
	return cores
}
