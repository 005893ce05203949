package numa_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"compute-agent/internal/cpuset"
	"compute-agent/internal/golden"
	"compute-agent/numa"
)

// nonumaKiB is /proc/meminfo's MemTotal on the fixture without NUMA nodes.
const nonumaKiB = 8 << 20

// readTree reads a machine's sysfs from testdata/sys.
func readTree(t *testing.T, name string) fstest.MapFS {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/sys/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	tree := fstest.MapFS{}
	for _, f := range archive.Files {
		tree[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	return tree
}

func TestReadMachine(t *testing.T) {
	files, err := filepath.Glob("testdata/sys/*.txtar")
	if err != nil || len(files) < 9 {
		t.Fatalf("only %d machines: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			m, err := numa.ReadMachine(readTree(t, name), nonumaKiB)
			if err != nil {
				t.Fatal(err)
			}
			golden.Assert(t, "testdata/sys/"+name+".golden", describe(t, m))
		})
	}
}

// describe writes a machine, and the cells that it offers when nothing is configured, for a person to read.
func describe(t *testing.T, m numa.Machine) string {
	var b strings.Builder
	for _, n := range m.Nodes {
		fmt.Fprintf(&b, "node %d: %d KiB", n.ID, n.MemoryKiB)
		for _, p := range n.Pages {
			fmt.Fprintf(&b, ", %d pages of %d KiB", p.Total, p.SizeKiB)
		}
		fmt.Fprintf(&b, "; distances %v\n", n.Distances)
		for _, c := range n.CPUs {
			fmt.Fprintf(&b, "  CPU %d: socket %d, siblings %v\n", c.ID, c.Socket, c.Siblings)
		}
	}
	host, err := m.Host(numa.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range host.Cells {
		fmt.Fprintf(&b, "cell %d: socket %d, shared %q, dedicated %q, cores %v\n", c.ID, c.Socket, c.Shared, c.Dedicated, c.Siblings)
	}
	return b.String()
}

// TestReadMachineLies changes one file of a good tree: the tree is refused and the file named.
func TestReadMachineLies(t *testing.T) {
	for _, c := range []struct {
		name, machine, file, says string
		blames                    string // when it is another file than the changed one
	}{
		{name: "no such set", machine: "threads", file: "devices/system/cpu/online", says: "0-15-16"},
		{name: "a CPU without a home", machine: "threads", file: "devices/system/node/node1/cpulist", says: "4-7,12-14",
			blames: "devices/system/cpu/online: CPU 15 is in no NUMA node"},
		{name: "a CPU with two homes", machine: "threads", file: "devices/system/node/node1/cpulist", says: "3-7,12-15",
			blames: "devices/system/node/node1/cpulist: NUMA node 1: CPU 3 is in node 0 too"},
		{name: "a node that is not there", machine: "threads", file: "devices/system/node/online", says: "0-2",
			blames: "devices/system/node/node2/cpulist"},
		{name: "not its own sibling", machine: "threads", file: "devices/system/cpu/cpu2/topology/thread_siblings_list", says: "10"},
		{name: "a sibling in another node", machine: "threads", file: "devices/system/cpu/cpu2/topology/thread_siblings_list", says: "2,14"},
		{name: "siblings that disagree", machine: "threads", file: "devices/system/cpu/cpu10/topology/thread_siblings_list", says: "10",
			blames: "devices/system/cpu/cpu2/topology/thread_siblings_list: NUMA node 0: CPU 2 has siblings 2,10, but its sibling CPU 10 has 10"},
		{name: "a socket that is no number", machine: "threads", file: "devices/system/cpu/cpu5/topology/physical_package_id", says: "one"},
		{name: "a distance too few", machine: "threads", file: "devices/system/node/node0/distance", says: "10"},
		{name: "nearer than near", machine: "threads", file: "devices/system/node/node1/distance", says: "9 10"},
		{name: "far from itself", machine: "threads", file: "devices/system/node/node1/distance", says: "10 21"},
		{name: "a distance that is no number", machine: "threads", file: "devices/system/node/node1/distance", says: "near far"},
		{name: "more huge pages than memory", machine: "threads", file: "devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages", says: "33"},
		{name: "pages of two sizes in the same memory", machine: "threads", file: "devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages", says: "31"},
		{name: "fewer pages than none", machine: "threads", file: "devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", says: "-1"},
		{name: "pages of no size", machine: "threads", file: "devices/system/node/node0/hugepages/hugepages-hugekB/nr_hugepages", says: "1",
			blames: "devices/system/node/node0/hugepages/hugepages-hugekB: not the name"},
		{name: "memory without a number", machine: "threads", file: "devices/system/node/node0/meminfo", says: "Node 0 MemTotal: much kB"},
		{name: "memory without a total", machine: "threads", file: "devices/system/node/node0/meminfo", says: "Node 0 MemFree: 1 kB"},
		{name: "more pages than the host without nodes", machine: "nonuma", file: "kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", says: "9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := readTree(t, c.machine)
			tree[c.file] = &fstest.MapFile{Data: []byte(c.says + "\n")}
			m, err := numa.ReadMachine(tree, nonumaKiB)
			if err == nil {
				t.Fatalf("accepted as %+v", m)
			}
			blames := c.blames
			if blames == "" {
				blames = c.file + ": "
			}
			if !strings.Contains(err.Error(), blames) {
				t.Errorf("error %q does not say %q", err, blames)
			}
		})
	}
}

// TestReadMachineMissing takes away each file in turn: no tree with a hole is taken for a whole one.
func TestReadMachineMissing(t *testing.T) {
	optional := func(file string) bool {
		return strings.Contains(file, "hugepages") || file == "devices/system/node/online" ||
			file == "devices/system/cpu/present" || file == "devices/system/cpu/offline"
	}
	for file := range readTree(t, "offline") {
		tree := readTree(t, "offline")
		delete(tree, file)
		_, err := numa.ReadMachine(tree, nonumaKiB)
		if optional(file) {
			if err != nil {
				t.Errorf("without %s: %v", file, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("without %s: error %v does not name it", file, err)
		}
	}
}

// TestReadThisMachine reads the host that the test runs on: what it says must be consistent.
func TestReadThisMachine(t *testing.T) {
	m, err := numa.ReadMachine(os.DirFS("/sys"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	host, err := m.Host(numa.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var all cpuset.Set
	for _, c := range host.Cells {
		all = all.Union(c.Dedicated)
	}
	if all.Empty() || !all.Equal(m.Online()) {
		t.Errorf("the cells have CPUs %v, the machine %v", all, m.Online())
	}
}
