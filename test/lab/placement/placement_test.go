//go:build lab

// Package placement tests where guests of the agent run on a machine of three NUMA nodes, with 4, 2 and 2
// CPUs and 4, 2 and 2 GiB. Guests are emulated and their operating systems not waited for: where they
// are is decided before.
package placement

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/internal/cpuset"
	"compute-agent/test/lab/inside"
)

// each vCPU of n may run on the same CPUs.
func each(n int, cpus string) []string { return slices.Repeat([]string{cpus}, n) }

// The procedure of Nova's documentation (Testing NUMA related hardware setup with libvirt), but for
// the guest without a topology, which Nova has not confined to a node any more since its release Juno.
func TestDocumented(t *testing.T) {
	inside.Start(t).Place([]inside.Case{
		{Name: "no topology", Size: inside.Size{VCPUs: 1, MemoryMiB: 512}, Want: inside.Place{
			VCPUs: each(1, "0-7"), Emulator: "0-7", Topology: "1 sockets, 1 cores, 1 threads",
		}},
		{Name: "one cell", Size: inside.Size{VCPUs: 4, MemoryMiB: 1024, ExtraSpecs: map[string]string{"hw:numa_nodes": "1"}}, Want: inside.Place{
			VCPUs: each(4, "0-3"), Emulator: "0-3", Nodes: "0", Topology: "4 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0-3", MemoryKiB: 1048576, Node: "0"}},
		}},
		{Name: "two cells", Size: inside.Size{VCPUs: 4, MemoryMiB: 1024, ExtraSpecs: map[string]string{"hw:numa_nodes": "2"}}, Want: inside.Place{
			VCPUs: []string{"0-3", "0-3", "4-5", "4-5"}, Emulator: "0-5", Nodes: "0-1", Topology: "4 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0-1", MemoryKiB: 524288, Node: "0"}, {VCPUs: "2-3", MemoryKiB: 524288, Node: "1"}},
		}},
	})
}

func TestHugePages(t *testing.T) {
	agent := inside.Start(t)
	agent.Place([]inside.Case{
		{Name: "one cell", Size: inside.Size{VCPUs: 2, MemoryMiB: 128, ExtraSpecs: map[string]string{"hw:mem_page_size": "2048"}}, Want: inside.Place{
			VCPUs: each(2, "0-3"), Emulator: "0-3", Nodes: "0", Topology: "2 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0-1", MemoryKiB: 131072, Node: "0", PageKiB: inside.HugeKiB}},
		}},
		{Name: "large", Size: inside.Size{VCPUs: 1, MemoryMiB: 64, ExtraSpecs: map[string]string{"hw:mem_page_size": "large"}}, Want: inside.Place{
			VCPUs: each(1, "0-3"), Emulator: "0-3", Nodes: "0", Topology: "1 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0", MemoryKiB: 65536, Node: "0", PageKiB: inside.HugeKiB}},
		}},
		{Name: "two cells", Size: inside.Size{VCPUs: 2, MemoryMiB: 128, ExtraSpecs: map[string]string{"hw:mem_page_size": "2MB", "hw:numa_nodes": "2"}}, Want: inside.Place{
			VCPUs: []string{"0-3", "4-5"}, Emulator: "0-5", Nodes: "0-1", Topology: "2 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0", MemoryKiB: 65536, Node: "0", PageKiB: inside.HugeKiB}, {VCPUs: "1", MemoryKiB: 65536, Node: "1", PageKiB: inside.HugeKiB}},
		}},
		{Name: "uneven cells", Size: inside.Size{VCPUs: 3, MemoryMiB: 192, ExtraSpecs: map[string]string{"hw:mem_page_size": "2048", "hw:numa_nodes": "2",
			"hw:numa_cpus.0": "0", "hw:numa_mem.0": "64", "hw:numa_cpus.1": "1,2", "hw:numa_mem.1": "128"}}, Want: inside.Place{
			VCPUs: []string{"0-3", "4-5", "4-5"}, Emulator: "0-5", Nodes: "0-1", Topology: "3 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0", MemoryKiB: 65536, Node: "0", PageKiB: inside.HugeKiB}, {VCPUs: "1-2", MemoryKiB: 131072, Node: "1", PageKiB: inside.HugeKiB}},
		}},
	})
	t.Run("too many", func(t *testing.T) {
		free := inside.FreeHugePages(t)
		server, err := agent.In(t).TryBoot(inside.Size{VCPUs: 1, MemoryMiB: 512, ExtraSpecs: map[string]string{"hw:mem_page_size": "2048"}})
		if err == nil {
			t.Fatalf("256 pages on nodes with 128 each: server %s is active", server.ID)
		}
		t.Log(err)
		if diff := cmp.Diff(free, inside.FreeHugePages(t)); diff != "" {
			t.Errorf("free huge pages changed:\n%s", diff)
		}
	})
}

// Node 1 has one CPU for pinning, node 2 two: of the two it is the one with more room.
func TestDedicated(t *testing.T) {
	agent := inside.Start(t, "cpu_shared_set: 0,4", "cpu_dedicated_set: 1-3,5-7")
	with := func(more map[string]string) map[string]string {
		specs := map[string]string{"hw:cpu_policy": "dedicated"}
		for key, value := range more {
			specs[key] = value
		}
		return specs
	}
	agent.Place([]inside.Case{
		{Name: "shared beside it", Size: inside.Size{VCPUs: 2, MemoryMiB: 64}, Want: inside.Place{
			VCPUs: each(2, "0,4"), Emulator: "0,4", Topology: "2 sockets, 1 cores, 1 threads",
		}},
		{Name: "one cell", Size: inside.Size{VCPUs: 2, MemoryMiB: 64, ExtraSpecs: with(nil)}, Want: inside.Place{
			VCPUs: []string{"1", "2"}, Emulator: "1-2", Nodes: "0", Topology: "2 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0-1", MemoryKiB: 65536, Node: "0"}},
		}},
		{Name: "two cells", Size: inside.Size{VCPUs: 2, MemoryMiB: 128, ExtraSpecs: with(map[string]string{"hw:numa_nodes": "2"})}, Want: inside.Place{
			VCPUs: []string{"1", "6"}, Emulator: "1,6", Nodes: "0,2", Topology: "2 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0", MemoryKiB: 65536, Node: "0"}, {VCPUs: "1", MemoryKiB: 65536, Node: "2"}},
		}},
		{Name: "emulator isolated", Size: inside.Size{VCPUs: 2, MemoryMiB: 64, ExtraSpecs: with(map[string]string{"hw:emulator_threads_policy": "isolate"})}, Want: inside.Place{
			VCPUs: []string{"1", "2"}, Emulator: "3", Nodes: "0", Topology: "2 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0-1", MemoryKiB: 65536, Node: "0"}},
		}},
		{Name: "emulator shared", Size: inside.Size{VCPUs: 2, MemoryMiB: 64, ExtraSpecs: with(map[string]string{"hw:emulator_threads_policy": "share"})}, Want: inside.Place{
			VCPUs: []string{"1", "2"}, Emulator: "0,4", Nodes: "0", Topology: "2 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0-1", MemoryKiB: 65536, Node: "0"}},
		}},
		{Name: "mixed", Size: inside.Size{VCPUs: 3, MemoryMiB: 64, ExtraSpecs: map[string]string{"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0"}}, Want: inside.Place{
			VCPUs: []string{"0", "1", "2"}, Emulator: "0-2", Nodes: "0", Topology: "3 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0-2", MemoryKiB: 65536, Node: "0"}},
		}},
		{Name: "pinned on huge pages", Size: inside.Size{VCPUs: 2, MemoryMiB: 128, ExtraSpecs: with(map[string]string{"hw:numa_nodes": "2", "hw:mem_page_size": "large"})}, Want: inside.Place{
			VCPUs: []string{"1", "6"}, Emulator: "1,6", Nodes: "0,2", Topology: "2 sockets, 1 cores, 1 threads",
			Cells: []inside.Cell{{VCPUs: "0", MemoryKiB: 65536, Node: "0", PageKiB: inside.HugeKiB}, {VCPUs: "1", MemoryKiB: 65536, Node: "2", PageKiB: inside.HugeKiB}},
		}},
	})
	t.Run("no CPU twice", func(t *testing.T) { fill(t, agent.In(t)) })
}

// fill boots pinned servers until none fits: each of the six dedicated CPUs is used once.
func fill(t *testing.T, agent *inside.Agent) {
	var used cpuset.Set
	for used.Len() < 6 {
		server := agent.BootPaused(inside.Size{VCPUs: 1, MemoryMiB: 64, ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated"}})
		for _, pin := range inside.VCPUPins(t, server.Domain) {
			cpu := inside.CPUs(t, pin)
			if cpu.Len() != 1 || cpu.IntersectLen(used) > 0 || !cpu.SubsetOf(inside.CPUs(t, "1-3,5-7")) {
				t.Fatalf("a vCPU is on CPUs %v, others on %v", cpu, used)
			}
			used = used.Union(cpu)
		}
	}
	server, err := agent.TryBoot(inside.Size{VCPUs: 1, MemoryMiB: 64, ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated"}})
	if err == nil {
		t.Fatalf("a seventh server is active, on CPUs %v", inside.VCPUPins(t, server.Domain))
	}
	t.Log(err)
}

// TestOffline takes a CPU away under a guest that is pinned to it. The agent says so, and pins nothing to it.
func TestOffline(t *testing.T) {
	agent := inside.Start(t, "cpu_shared_set: 0", "cpu_dedicated_set: 1-3", "sync_power_state_interval: 10")
	size := inside.Size{VCPUs: 1, MemoryMiB: 64, ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated"}}
	server := agent.BootPaused(size)
	if pins := inside.VCPUPins(t, server.Domain); !slices.Equal(pins, []string{"1"}) {
		t.Fatalf("the first server is pinned to CPUs %v", pins)
	}
	switchCPU(t, "1", false)
	defer switchCPU(t, "1", true)
	t.Log(agent.Logs("pCPU 1, which it is pinned to, is offline"))
	agent.Delete(server.ID)
	next := agent.BootPaused(size)
	if pins := inside.VCPUPins(t, next.Domain); !slices.Equal(pins, []string{"2"}) {
		t.Errorf("the next server is pinned to CPUs %v, want 2", pins)
	}
}

func switchCPU(t *testing.T, cpu string, on bool) {
	value := map[bool]string{false: "0", true: "1"}[on]
	if err := os.WriteFile("/sys/devices/system/cpu/cpu"+cpu+"/online", []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}
