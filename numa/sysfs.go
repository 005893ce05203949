package numa

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"compute-agent/internal/cpuset"
)

// The directories and files of sysfs that describe a machine: Documentation/ABI/stable/sysfs-devices-node,
// sysfs-devices-system-cpu and admin-guide/mm/hugetlbpage.rst of the kernel.
const (
	cpuDir         = "devices/system/cpu"
	nodeDir        = "devices/system/node"
	hostHugePages  = "kernel/mm/hugepages" // of a kernel without NUMA nodes
	smallPageKiB   = 4                     // an ordinary page on the machines that the agent runs on
	hugePagePrefix = "hugepages-"
)

// ReadMachine reads a machine from a sysfs tree: os.DirFS("/sys") on a live host. memoryKiB is the
// host's memory (MemTotal of /proc/meminfo); it counts only where the kernel knows no NUMA nodes,
// and the machine is one node. Every error names the file; a tree that contradicts itself
// is refused with a *Contradiction.
func ReadMachine(sys fs.FS, memoryKiB int) (Machine, error) {
	t := tree{sys}
	online, err := t.set(cpuDir + "/online")
	if err != nil {
		return Machine{}, err
	}
	m, err := t.nodes(online, memoryKiB)
	if err != nil {
		return Machine{}, err
	}
	if homeless := online.Minus(m.Online()); !homeless.Empty() {
		return Machine{}, fmt.Errorf("%s/online: CPU %v is in no NUMA node", cpuDir, homeless)
	}
	var wrong *Contradiction
	if err := m.Check(); errors.As(err, &wrong) {
		return Machine{}, fmt.Errorf("%s: %w", t.blames(wrong), err)
	}
	return m, nil
}

// blames is the file in which a contradiction shows.
func (t tree) blames(c *Contradiction) string {
	dir := nodePath(c.Node)
	switch c.Aspect {
	case AspectNodes:
		return nodeDir + "/online"
	case AspectSiblings:
		return siblingsFile(c.CPU)
	case AspectDistances:
		return dir + "/distance"
	case AspectPages:
		if _, err := fs.Stat(t.sys, dir); err != nil {
			return pagesFile(hostHugePages, c.SizeKiB)
		}
		return pagesFile(dir+"/hugepages", c.SizeKiB)
	}
	return dir + "/cpulist"
}

func nodePath(id int) string    { return nodeDir + "/node" + strconv.Itoa(id) }
func topologyDir(id int) string { return fmt.Sprintf("%s/cpu%d/topology", cpuDir, id) }
func siblingsFile(id int) string {
	return topologyDir(id) + "/thread_siblings_list"
}
func pagesFile(dir string, sizeKiB int) string {
	return fmt.Sprintf("%s/%s%dkB/nr_hugepages", dir, hugePagePrefix, sizeKiB)
}

// tree reads files of a sysfs.
type tree struct{ sys fs.FS }

func (t tree) nodes(online cpuset.Set, memoryKiB int) (m Machine, err error) {
	ids, err := t.set(nodeDir + "/online")
	if errors.Is(err, fs.ErrNotExist) {
		node := Node{MemoryKiB: memoryKiB}
		if node.Pages, err = t.pages(hostHugePages, node.MemoryKiB); err == nil {
			node.CPUs, err = t.cpus(online)
		}
		return Machine{Nodes: []Node{node}}, err
	}
	for id := range ids.All {
		node, err := t.node(id, online)
		if err != nil {
			return Machine{}, err
		}
		m.Nodes = append(m.Nodes, node)
	}
	return m, err
}

func (t tree) node(id int, online cpuset.Set) (node Node, err error) {
	dir := nodePath(id)
	node.ID = id
	cpus, err := t.set(dir + "/cpulist")
	if err != nil {
		return node, err
	}
	if node.MemoryKiB, err = t.memTotal(dir + "/meminfo"); err != nil {
		return node, err
	}
	if node.Distances, err = t.distances(dir + "/distance"); err != nil {
		return node, err
	}
	if node.Pages, err = t.pages(dir+"/hugepages", node.MemoryKiB); err != nil {
		return node, err
	}
	node.CPUs, err = t.cpus(cpus.Intersect(online))
	return node, err
}

func (t tree) cpus(ids cpuset.Set) ([]CPU, error) {
	var cpus []CPU
	for id := range ids.All {
		siblings, err := t.set(siblingsFile(id))
		if err != nil {
			return nil, err
		}
		socket, err := t.number(topologyDir(id) + "/physical_package_id")
		if err != nil {
			return nil, err
		}
		cpus = append(cpus, CPU{ID: id, Socket: socket, Siblings: siblings})
	}
	return cpus, nil
}

// pages lists the page sizes of a node, smallest first. What is not set aside for huge pages is
// small ones.
func (t tree) pages(dir string, memoryKiB int) ([]Pages, error) {
	entries, err := fs.ReadDir(t.sys, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var huge []Pages
	smallKiB := memoryKiB
	for _, e := range entries {
		text, _ := strings.CutPrefix(e.Name(), hugePagePrefix)
		size, err := strconv.Atoi(strings.TrimSuffix(text, "kB"))
		if err != nil || size <= 0 {
			return nil, fmt.Errorf("%s: not the name of a page size", path.Join(dir, e.Name()))
		}
		total, err := t.number(pagesFile(dir, size))
		if err != nil {
			return nil, err
		}
		huge = append(huge, Pages{SizeKiB: size, Total: total})
		if total <= smallKiB/size { // Check refuses more than there is
			smallKiB -= total * size
		}
	}
	slices.SortFunc(huge, func(a, b Pages) int { return a.SizeKiB - b.SizeKiB })
	return append([]Pages{{SizeKiB: smallPageKiB, Total: smallKiB / smallPageKiB}}, huge...), nil
}

// memTotal reads MemTotal of a node's meminfo: "Node 0 MemTotal:  16384 kB".
func (t tree) memTotal(file string) (kib int, err error) {
	text, err := t.text(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != "MemTotal:" {
			continue
		}
		if kib, err = strconv.Atoi(f[3]); err != nil || kib < 0 {
			return 0, fmt.Errorf("%s: MemTotal %q is not a number of kB", file, f[3])
		}
		return kib, nil
	}
	return 0, fmt.Errorf("%s: no MemTotal", file)
}

func (t tree) distances(file string) ([]int, error) {
	text, err := t.text(file)
	if err != nil {
		return nil, err
	}
	var list []int
	for _, f := range strings.Fields(text) {
		d, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not a distance", file, f)
		}
		list = append(list, d)
	}
	return list, nil
}

func (t tree) set(file string) (cpuset.Set, error) {
	text, err := t.text(file)
	if err != nil {
		return cpuset.Set{}, err
	}
	set, err := cpuset.Parse(text)
	if err != nil {
		return cpuset.Set{}, fmt.Errorf("%s: %w", file, err)
	}
	return set, nil
}

func (t tree) number(file string) (int, error) {
	text, err := t.text(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number", file, text)
	}
	return n, nil
}

func (t tree) text(file string) (string, error) {
	data, err := fs.ReadFile(t.sys, file)
	return strings.TrimSpace(string(data)), err
}
