//go:build lab

// Package threads tests hw:cpu_thread_policy on a machine of two NUMA nodes with two cores of two
// hardware threads each: CPUs 0 and 1, 2 and 3, and so on are siblings.
package threads

import (
	"os"
	"testing"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/test/lab/inside"
)

// TestMachine makes sure that the machine is what the other tests take it for.
func TestMachine(t *testing.T) {
	machine, err := numa.ReadMachine(os.DirFS("/sys"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range machine.Nodes {
		for _, cpu := range node.CPUs {
			first := cpu.ID &^ 1
			if want := cpuset.Of(first, first+1); cpu.ID/4 != node.ID || !cpu.Siblings.Equal(want) {
				t.Errorf("CPU %d is on node %d with siblings %v", cpu.ID, node.ID, cpu.Siblings)
			}
		}
	}
	if n := machine.Online().Len(); n != 8 {
		t.Errorf("%d CPUs, want 8", n)
	}
}

func dedicated(vcpus int, policy string) inside.Size {
	return inside.Size{VCPUs: vcpus, MemoryMiB: 64, ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": policy}}
}

// The second node has a little more memory than the first, from which the firmware takes some; guests
// are spread to where there is more room.
func TestPolicies(t *testing.T) {
	two := []inside.Cell{{VCPUs: "0-1", MemoryKiB: 65536, Node: "1"}}
	four := []inside.Cell{{VCPUs: "0-3", MemoryKiB: 65536, Node: "1"}}
	inside.Start(t).Place([]inside.Case{
		{Name: "prefer", Size: dedicated(2, "prefer"), Want: inside.Place{
			VCPUs: []string{"4", "5"}, Emulator: "4-5", Nodes: "1", Cells: two, Topology: "2 sockets, 1 cores, 1 threads",
		}},
		{Name: "require", Size: dedicated(2, "require"), Want: inside.Place{
			VCPUs: []string{"4", "5"}, Emulator: "4-5", Nodes: "1", Cells: two, Topology: "2 sockets, 1 cores, 1 threads",
		}},
		{Name: "require four", Size: dedicated(4, "require"), Want: inside.Place{
			VCPUs: []string{"4", "5", "6", "7"}, Emulator: "4-7", Nodes: "1", Cells: four, Topology: "4 sockets, 1 cores, 1 threads",
		}},
		{Name: "isolate", Size: dedicated(2, "isolate"), Want: inside.Place{
			VCPUs: []string{"4", "6"}, Emulator: "4,6", Nodes: "1", Cells: two, Topology: "2 sockets, 1 cores, 1 threads",
		}},
	})
}

// TestIsolatedCore fills the host beside a server with a core of its own: the core's other thread stays idle.
func TestIsolatedCore(t *testing.T) {
	agent := inside.Start(t)
	alone := onlyPin(t, agent.BootPaused(dedicated(1, "isolate")))
	idle := alone ^ 1
	used := cpuset.Of(alone)
	for used.Len() < 7 {
		cpu := onlyPin(t, agent.BootPaused(dedicated(1, "prefer")))
		if used.Has(cpu) || cpu == idle {
			t.Fatalf("a server is pinned to CPU %d; in use are %v, to be idle is %d", cpu, used, idle)
		}
		used.Add(cpu)
	}
	server, err := agent.TryBoot(dedicated(1, "prefer"))
	if err == nil {
		t.Fatalf("one server more is active, on CPU %d", onlyPin(t, server))
	}
	t.Logf("CPU %d is alone on its core, %d is idle; the next server: %v", alone, idle, err)
}

// TestRefused: Nova does not isolate on a host with hardware threads whose operator has set CPUs aside
// for pinning.
func TestRefused(t *testing.T) {
	agent := inside.Start(t, "cpu_dedicated_set: 0-7")
	server, err := agent.TryBoot(dedicated(1, "isolate"))
	if err == nil {
		t.Fatalf("a server with a core of its own is active, on CPU %d", onlyPin(t, server))
	}
	t.Log(err)
	alike := agent.BootPaused(dedicated(2, "require"))
	if pins := inside.VCPUPins(t, alike.Domain); inside.CPUs(t, pins[0]).First()^1 != inside.CPUs(t, pins[1]).First() {
		t.Errorf("vCPUs that require siblings are on CPUs %v", pins)
	}
}

// onlyPin is the CPU that the server's vCPU is pinned to.
func onlyPin(t *testing.T, s inside.Server) int {
	t.Helper()
	pins := inside.VCPUPins(t, s.Domain)
	if len(pins) != 1 || inside.CPUs(t, pins[0]).Len() != 1 {
		t.Fatalf("server %s is pinned to CPUs %v, want one vCPU on one CPU", s.ID, pins)
	}
	return inside.CPUs(t, pins[0]).First()
}
