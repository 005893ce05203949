package inside

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"
)

// HugeKiB is the size of the lab machine's huge pages.
const HugeKiB = 2048

// Place is where on the host a guest is.
type Place struct {
	VCPUs    []string // CPUs of the host that each vCPU may run on: "0-3"
	Emulator string   // CPUs of QEMU's other threads
	Nodes    string   // nodes of the host that all of its memory comes from; empty for any
	Cells    []Cell   // of the guest
	Topology string   // of the guest's CPUs: "2 sockets, 1 cores, 1 threads"
}

// Cell is a NUMA cell of a guest.
type Cell struct {
	VCPUs     string
	MemoryKiB int
	Node      string // of the host
	PageKiB   int    // 0 for ordinary pages
}

// CheckPlace compares where a guest is with where it should be. It looks at libvirt's definition, at the
// pins that libvirt tells, at the threads of QEMU and at its memory; all of them must agree.
func CheckPlace(t testing.TB, s Server, want Place) {
	t.Helper()
	d := Domain(t, s.Domain)
	t.Logf("%s", strings.Join(tuning(Virsh(t, "dumpxml", s.Domain)), "\n"))
	got := Place{VCPUs: VCPUPins(t, s.Domain), Emulator: EmulatorPin(t, s.Domain), Cells: cells(t, &d), Topology: "none"}
	if d.NUMATune != nil && d.NUMATune.Memory != nil {
		if d.NUMATune.Memory.Mode != "strict" {
			t.Errorf("numatune's mode is %s, not strict", d.NUMATune.Memory.Mode)
		}
		got.Nodes = d.NUMATune.Memory.Nodeset
	}
	if d.CPU != nil && d.CPU.Topology != nil {
		c := d.CPU.Topology
		got.Topology = fmt.Sprintf("%d sockets, %d cores, %d threads", c.Sockets, c.Cores, c.Threads)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the guest's place, - wanted, + found:\n%s", diff)
	}
	checkTuning(t, &d, got)
	checkThreads(t, s.Domain, got)
	checkMemory(t, s.Domain, got)
}

// Case is a size of server and where its guest goes on a host that is empty.
type Case struct {
	Name string
	Size Size
	Want Place
}

// Place boots a server for each case, one after the other, as a subtest. It also holds the host's counters
// of huge pages against what the server is to use.
func (a *Agent) Place(cases []Case) {
	t := a.t.(*testing.T)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			free, used := FreeHugePages(t), c.Want.hugePages(t)
			agent := a.In(t)
			server := agent.BootPaused(c.Size)
			CheckPlace(t, server, c.Want)
			for node, n := range FreeHugePages(t) {
				if n != free[node]-used[node] {
					t.Errorf("node %d has %d free huge pages, had %d before the server that uses %d", node, n, free[node], used[node])
				}
			}
			agent.Delete(server.ID)
			if diff := cmp.Diff(free, FreeHugePages(t)); diff != "" {
				t.Errorf("free huge pages of the nodes, - before the server, + after it:\n%s", diff)
			}
		})
	}
}

// hugePages is how many huge pages of each node the guest uses.
func (p Place) hugePages(t testing.TB) map[int]int {
	t.Helper()
	used := map[int]int{}
	for _, c := range p.Cells {
		if c.PageKiB == HugeKiB {
			used[CPUs(t, c.Node).First()] += c.MemoryKiB / HugeKiB
		}
	}
	return used
}

// tuning is the lines of a definition that place a guest.
func tuning(xml string) []string {
	var lines []string
	for line := range strings.Lines(xml) {
		for _, element := range []string{"vcpu", "emulator", "memory mode", "memnode", "cell ", "sibling", "topology", "page ", "locked", "nosharepages"} {
			if strings.HasPrefix(strings.TrimSpace(line), "<"+element) && !strings.Contains(line, "<emulator>") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return lines
}

func cells(t testing.TB, d *libvirtxml.Domain) []Cell {
	t.Helper()
	if d.CPU == nil || d.CPU.Numa == nil {
		return nil
	}
	var list []Cell
	for i, c := range d.CPU.Numa.Cell {
		cell := Cell{VCPUs: c.CPUs, MemoryKiB: int(c.Memory), PageKiB: pageKiB(t, d, i)}
		if c.Unit != "KiB" {
			t.Errorf("cell %d has its memory in %q", i, c.Unit)
		}
		if d.NUMATune != nil {
			for _, m := range d.NUMATune.MemNodes {
				if int(m.CellID) == i && m.Mode == "strict" {
					cell.Node = m.Nodeset
				}
			}
		}
		list = append(list, cell)
	}
	return list
}

// pageKiB is the size of the huge pages that a cell of a guest is on, or 0. Without a list of cells a size
// is for all.
func pageKiB(t testing.TB, d *libvirtxml.Domain, cell int) int {
	t.Helper()
	if d.MemoryBacking == nil || d.MemoryBacking.MemoryHugePages == nil {
		return 0
	}
	for _, p := range d.MemoryBacking.MemoryHugePages.Hugepages {
		if p.Unit == "KiB" && (p.Nodeset == "" || CPUs(t, p.Nodeset).Has(cell)) {
			return int(p.Size)
		}
	}
	return 0
}

// checkTuning compares the pins in a definition with those that libvirt tells. A guest that may run
// everywhere has none.
func checkTuning(t testing.TB, d *libvirtxml.Domain, p Place) {
	t.Helper()
	if d.CPUTune == nil {
		return
	}
	for _, pin := range d.CPUTune.VCPUPin {
		if want := p.VCPUs[pin.VCPU]; !CPUs(t, pin.CPUSet).Equal(CPUs(t, want)) {
			t.Errorf("vcpupin of vCPU %d is %s, libvirt tells %s", pin.VCPU, pin.CPUSet, want)
		}
	}
	if pin := d.CPUTune.EmulatorPin; pin != nil && !CPUs(t, pin.CPUSet).Equal(CPUs(t, p.Emulator)) {
		t.Errorf("emulatorpin is %s, libvirt tells %s", pin.CPUSet, p.Emulator)
	}
}

// checkThreads asks the kernel where QEMU's threads may run.
func checkThreads(t testing.TB, domain string, p Place) {
	t.Helper()
	vcpus, main := Affinities(t, Process(t, domain))
	for i, want := range p.VCPUs {
		if !CPUs(t, vcpus[i]).Equal(CPUs(t, want)) {
			t.Errorf("the thread of vCPU %d may run on CPUs %q, libvirt tells %s", i, vcpus[i], want)
		}
	}
	if !CPUs(t, main).Equal(CPUs(t, p.Emulator)) {
		t.Errorf("QEMU's main thread may run on CPUs %s, libvirt tells %s", main, p.Emulator)
	}
}

// checkMemory asks the kernel where QEMU's memory comes from: there is memory bound to the node of each
// cell, its pages are there and nowhere else, and those of a cell on huge pages are all there.
func checkMemory(t testing.TB, domain string, p Place) {
	t.Helper()
	bound := map[string]int{} // KiB on huge pages, by policy
	for _, m := range Memories(t, Process(t, domain)) {
		node, is := strings.CutPrefix(m.Policy, "bind:")
		if !is {
			continue
		}
		bound[node] += 0
		for n, pages := range m.Pages {
			if !CPUs(t, node).Has(n) {
				t.Errorf("%d pages are on node %d, of memory bound to %s", pages, n, node)
			}
			if m.Huge {
				bound[node] += pages * m.PageKiB
			}
		}
	}
	want := map[string]int{}
	for _, c := range p.Cells {
		want[c.Node] += 0
		if c.PageKiB > 0 {
			want[c.Node] += c.MemoryKiB
		}
	}
	if diff := cmp.Diff(want, bound); diff != "" {
		t.Errorf("KiB of huge pages by the node that QEMU's memory is bound to, - wanted, + found:\n%s", diff)
	}
}
