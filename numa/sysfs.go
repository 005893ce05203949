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

// ReadMachine reads a machine from a sysfs tree: os.DirFS("/sys") on a live host. Every error names the
// file. A kernel without NUMA support shows no nodes; then the machine is one node with all CPUs
// and the memory that memoryKiB says (0 if not known).
//
// The files are those of Documentation/ABI/stable/sysfs-devices-node and sysfs-devices-system-cpu.
func ReadMachine(sys fs.FS, memoryKiB uint64) (Machine, error) {
	online, err := readSet(sys, "devices/system/cpu/online")
	if err != nil {
		return Machine{}, err
	}
	ids, err := readSet(sys, "devices/system/node/online")
	if errors.Is(err, fs.ErrNotExist) {
		node, err := readCPUs(sys, Node{MemoryMiB: int(memoryKiB / 1024)}, online)
		return Machine{Nodes: []Node{node}}, err
	}
	if err != nil {
		return Machine{}, err
	}
	var m Machine
	for id := range ids.All {
		node, err := readNode(sys, id, online)
		if err != nil {
			return Machine{}, err
		}
		m.Nodes = append(m.Nodes, node)
	}
	if err := m.Check(); err != nil {
		return Machine{}, fmt.Errorf("devices/system/node: %w", err)
	}
	return m, nil
}

func readNode(sys fs.FS, id int, online cpuset.Set) (Node, error) {
	dir := "devices/system/node/node" + strconv.Itoa(id)
	cpus, err := readSet(sys, path.Join(dir, "cpulist"))
	if err != nil {
		return Node{}, err
	}
	node := Node{ID: id}
	if node.MemoryMiB, err = readMemTotal(sys, path.Join(dir, "meminfo")); err != nil {
		return Node{}, err
	}
	if node.Distances, err = readDistances(sys, path.Join(dir, "distance")); err != nil {
		return Node{}, err
	}
	if node.Pages, err = readPages(sys, dir, node.MemoryMiB); err != nil {
		return Node{}, err
	}
	return readCPUs(sys, node, cpus.Intersect(online))
}

func readCPUs(sys fs.FS, node Node, cpus cpuset.Set) (Node, error) {
	for id := range cpus.All {
		dir := fmt.Sprintf("devices/system/cpu/cpu%d/topology", id)
		siblings, err := readSet(sys, path.Join(dir, "thread_siblings_list"))
		if err != nil {
			return Node{}, err
		}
		socket, err := readInt(sys, path.Join(dir, "physical_package_id"))
		if err != nil {
			return Node{}, err
		}
		if !siblings.Has(id) {
			return Node{}, fmt.Errorf("%s/thread_siblings_list: CPU %d is not among its own siblings %v", dir, id, siblings)
		}
		node.CPUs = append(node.CPUs, CPU{ID: id, Socket: socket, Siblings: siblings.Intersect(cpus)})
	}
	return node, nil
}

// readPages lists the page sizes of a node. What is not set aside for huge pages is small ones.
func readPages(sys fs.FS, dir string, memoryMiB int) ([]Pages, error) {
	entries, err := fs.ReadDir(sys, path.Join(dir, "hugepages"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var pages []Pages
	smallKiB := memoryMiB * 1024
	for _, e := range entries {
		size, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB"))
		if err != nil || size <= 0 {
			return nil, fmt.Errorf("%s/hugepages/%s: not a page size", dir, e.Name())
		}
		file := path.Join(dir, "hugepages", e.Name(), "nr_hugepages")
		total, err := readInt(sys, file)
		if err != nil {
			return nil, err
		}
		if smallKiB -= total * size; smallKiB < 0 || total < 0 {
			return nil, fmt.Errorf("%s: %d pages of %d KiB are more than the node's %d MiB", file, total, size, memoryMiB)
		}
		pages = append(pages, Pages{SizeKiB: size, Total: total})
	}
	pages = append(pages, Pages{SizeKiB: smallPageKiB, Total: smallKiB / smallPageKiB})
	slices.SortFunc(pages, func(a, b Pages) int { return a.SizeKiB - b.SizeKiB })
	return pages, nil
}

// smallPageKiB is the size of an ordinary page on the machines that the agent runs on.
const smallPageKiB = 4

func readMemTotal(sys fs.FS, file string) (mib int, err error) {
	text, err := readText(sys, file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		// "Node 0 MemTotal:  16384 kB"
		if f := strings.Fields(line); len(f) >= 4 && f[2] == "MemTotal:" {
			kib, err := strconv.Atoi(f[3])
			if err != nil || kib < 0 {
				return 0, fmt.Errorf("%s: MemTotal %q is not a number", file, f[3])
			}
			return kib / 1024, nil
		}
	}
	return 0, fmt.Errorf("%s: no MemTotal", file)
}

func readDistances(sys fs.FS, file string) ([]int, error) {
	text, err := readText(sys, file)
	if err != nil {
		return nil, err
	}
	var list []int
	for _, f := range strings.Fields(text) {
		d, err := strconv.Atoi(f)
		if err != nil || d < 10 {
			return nil, fmt.Errorf("%s: %q is not a distance (10 or more)", file, f)
		}
		list = append(list, d)
	}
	return list, nil
}

func readSet(sys fs.FS, file string) (cpuset.Set, error) {
	text, err := readText(sys, file)
	if err != nil {
		return cpuset.Set{}, err
	}
	set, err := cpuset.Parse(text)
	if err != nil {
		return cpuset.Set{}, fmt.Errorf("%s: %w", file, err)
	}
	return set, nil
}

func readInt(sys fs.FS, file string) (int, error) {
	text, err := readText(sys, file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number", file, text)
	}
	return n, nil
}

func readText(sys fs.FS, file string) (string, error) {
	data, err := fs.ReadFile(sys, file)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}
