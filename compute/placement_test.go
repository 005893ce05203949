package compute

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"libvirt.org/go/libvirtxml"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/virt"
)

// TestPlacementAsNova holds placements against the domains that Nova 26.2.2 made of the same placed guests:
// testdata/nova_placement.jsonl has, for each, the parts of Nova's XML that a placement is rendered to. They are
// the same in Nova's master of 2026. Guest cells have distances, which Nova does not give them.
func TestPlacementAsNova(t *testing.T) {
	file, err := os.Open("testdata/nova_placement.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	seen := 0
	for lines.Scan() {
		var c novaCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		seen++
		t.Run(c.Name, func(t *testing.T) { c.compare(t) })
	}
	if lines.Err() != nil || seen < 10 {
		t.Errorf("%d cases were read: %v", seen, lines.Err())
	}
}

type novaCase struct {
	Name   string
	Flavor struct {
		VCPUs      int               `json:"vcpus"`
		MemoryMiB  int               `json:"memory_mb"`
		ExtraSpecs map[string]string `json:"extra_specs"`
	}
	Properties   map[string]string
	SharedSet    *string `json:"shared_set"`
	DedicatedSet *string `json:"dedicated_set"`
	Host         struct {
		Cells []struct {
			ID      int
			CPUSet  cpuset.Set
			PCPUSet cpuset.Set
			Memory  int
		}
	}
	Guest *struct {
		Cells []struct {
			ID       int
			CPUSet   cpuset.Set
			PCPUSet  cpuset.Set
			Reserved cpuset.Set `json:"cpuset_reserved"`
			Memory   int
			PageSize int         `json:"pagesize"`
			Pinning  map[int]int `json:"cpu_pinning"`
		}
		Emulator string `json:"emulator_threads_policy"`
	}
	XML string
}

func (c *novaCase) compare(t *testing.T) {
	s := specServer()
	s.Flavor.VCPUs, s.Flavor.MemoryMiB, s.Flavor.ExtraSpecs, s.Image.Properties = c.Flavor.VCPUs, c.Flavor.MemoryMiB, c.Flavor.ExtraSpecs, c.Properties
	m := specMachine()
	m.host.VirtType = "kvm"
	m.placed, m.cells, m.numa = c.guest(), c.host(), numa.Config{SharedSet: parsed(t, c.SharedSet), DedicatedSet: parsed(t, c.DedicatedSet)}
	spec, err := buildSpec(s, specFiles, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(); err != nil {
		t.Error(err)
	}
	var nova libvirtxml.Domain
	if err := nova.Unmarshal(c.XML); err != nil {
		t.Fatal(err)
	}
	distances := cmpopts.IgnoreFields(virt.GuestCell{}, "Distances")
	place, memory := novaPlacement(t, &nova)
	if diff := cmp.Diff(place, spec.Placement, distances, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-nova +got)\n%s", diff)
	}
	if memory != spec.Memory {
		t.Errorf("memory is %+v, want %+v", spec.Memory, memory)
	}
	topology := *nova.CPU.Topology
	if got := spec.CPU; got.Sockets != topology.Sockets || got.Cores != topology.Cores || got.Threads != topology.Threads {
		t.Errorf("CPU topology %+v, want %+v", got, topology)
	}
}

func (c *novaCase) host() numa.Host {
	host := numa.Host{}
	for _, cell := range c.Host.Cells {
		host.Cells = append(host.Cells, numa.HostCell{ID: cell.ID, Shared: cell.CPUSet, Dedicated: cell.PCPUSet, MemoryMiB: cell.Memory, Distances: [][]int{{10, 20}, {20, 10}}[cell.ID]})
	}
	return host
}

func (c *novaCase) guest() *numa.Guest {
	if c.Guest == nil {
		return nil
	}
	guest := &numa.Guest{EmulatorThreads: c.Guest.Emulator}
	for _, cell := range c.Guest.Cells {
		g := numa.GuestCell{ID: cell.ID, Shared: cell.CPUSet, Dedicated: cell.PCPUSet, Reserved: cell.Reserved, MemoryMiB: cell.Memory, PageKiB: cell.PageSize}
		for vcpu, pcpu := range cell.Pinning {
			g.Pins = append(g.Pins, numa.Pin{VCPU: vcpu, PCPU: pcpu})
		}
		guest.Cells = append(guest.Cells, g)
	}
	return guest
}

func parsed(t *testing.T, text *string) *cpuset.Set {
	t.Helper()
	if text == nil {
		return nil
	}
	set := parse(t, *text)
	return &set
}

func parse(t *testing.T, text string) cpuset.Set {
	t.Helper()
	set, err := cpuset.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// novaPlacement reads a placement out of a domain.
func novaPlacement(t *testing.T, d *libvirtxml.Domain) (*virt.Placement, virt.Memory) {
	t.Helper()
	var memory virt.Memory
	p := &virt.Placement{Floating: parse(t, d.VCPU.CPUSet)}
	if tune := d.CPUTune; tune != nil {
		p.VCPUs = make([]cpuset.Set, d.VCPU.Value)
		for _, pin := range tune.VCPUPin {
			p.VCPUs[pin.VCPU] = parse(t, pin.CPUSet)
		}
		p.Emulator = parse(t, tune.EmulatorPin.CPUSet)
		for _, sched := range tune.VCPUSched {
			if sched.Scheduler != "fifo" || *sched.Priority != 1 {
				t.Errorf("unexpected scheduler %+v", sched)
			}
			p.Realtime = parse(t, sched.VCPUs)
		}
	}
	if d.CPU.Numa != nil {
		for _, cell := range d.CPU.Numa.Cell {
			p.Cells = append(p.Cells, virt.GuestCell{VCPUs: parse(t, cell.CPUs), MemoryMiB: uint64(cell.Memory / 1024)})
		}
		for _, node := range d.NUMATune.MemNodes {
			p.Cells[node.CellID].HostCell = parse(t, node.Nodeset).First()
		}
	}
	if backing := d.MemoryBacking; backing != nil {
		memory.Locked, memory.Unshared = backing.MemoryLocked != nil, backing.MemoryNosharepages != nil
		if backing.MemoryHugePages != nil {
			for _, page := range backing.MemoryHugePages.Hugepages {
				for cell := range parse(t, page.Nodeset).All {
					p.Cells[cell].PageKiB = int(page.Size)
				}
			}
		}
	}
	if p.Floating.Empty() && slices.IndexFunc(p.VCPUs, func(s cpuset.Set) bool { return !s.Empty() }) < 0 {
		return nil, memory
	}
	return p, memory
}
