//go:build lab

// Package host tests what the agent sees of the lab's machine, and that it makes guests on it.
package host

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/virt/libvirt"
)

// TestMachine reads the same machine from sysfs and from libvirt, and holds both against what QEMU was
// told to make.
func TestMachine(t *testing.T) {
	fromSysfs, err := numa.ReadMachine(os.DirFS("/sys"), memTotal(t))
	if err != nil {
		t.Fatal(err)
	}
	driver, err := libvirt.Open(t.Context(), libvirt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close() //nolint:errcheck // only read
	host, err := driver.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fromLibvirt, err := compute.MachineOf(host.Cells)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromSysfs, fromLibvirt); diff != "" {
		t.Errorf("sysfs and libvirt disagree, - sysfs, + libvirt:\n%s", diff)
	}

	wantCPUs := [][]int{{0, 1, 2, 3}, {4, 5}, {6, 7}}
	wantDistances := [][]int{{10, 21, 31}, {21, 10, 21}, {31, 21, 10}}
	wantMiB := []int{4096, 2048, 2048}
	if len(fromSysfs.Nodes) != len(wantCPUs) {
		t.Fatalf("%d nodes, want %d", len(fromSysfs.Nodes), len(wantCPUs))
	}
	for i, node := range fromSysfs.Nodes {
		var cpus cpuset.Set
		for _, cpu := range node.CPUs {
			cpus.Add(cpu.ID)
			if !cpu.Siblings.Equal(cpuset.Of(cpu.ID)) {
				t.Errorf("CPU %d has siblings %v on a machine without threads", cpu.ID, cpu.Siblings)
			}
		}
		if want := cpuset.Of(wantCPUs[i]...); !cpus.Equal(want) {
			t.Errorf("node %d has CPUs %v, want %v", i, cpus, want)
		}
		if diff := cmp.Diff(wantDistances[i], node.Distances); diff != "" {
			t.Errorf("distances of node %d: %s", i, diff)
		}
		// The kernel and the firmware keep some memory for themselves.
		if mib := node.MemoryKiB / 1024; mib > wantMiB[i] || mib < wantMiB[i]*9/10 {
			t.Errorf("node %d has %d MiB, want nearly %d", i, mib, wantMiB[i])
		}
		pages := map[int]int{}
		for _, p := range node.Pages {
			pages[p.SizeKiB] = p.Total
		}
		if pages[2048] != 128 {
			t.Errorf("node %d has %d pages of 2 MiB, want 128", i, pages[2048])
		}
		t.Logf("node %d: CPUs %v, %d MiB, pages %v, distances %v", node.ID, cpus, node.MemoryKiB/1024, pages, node.Distances)
	}
}

// memTotal is the machine's memory in KiB.
func memTotal(t *testing.T) int {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}
