//go:build lab

// Package nested tests guests under KVM, on the emulated processor's own virtualization. They boot many
// times faster than emulated ones, so that here the guest's operating system is asked what it sees. The
// emulation of nested virtualization is not always stable; the runner repeats this group once, in a
// fresh machine, when the lab's machine itself has failed.
package nested

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"compute-agent/test/lab/inside"
)

const bootTime = 5 * time.Minute

// TestKVM boots a guest with two cells, each on huge pages of a node, its vCPUs pinned there.
func TestKVM(t *testing.T) {
	agent := inside.Start(t, "virt_type: kvm", "cpu_mode: none", "cpu_shared_set: 0", "cpu_dedicated_set: 1-3,4-5")
	server := agent.Boot(inside.Size{VCPUs: 2, MemoryMiB: 256, ExtraSpecs: map[string]string{
		"hw:cpu_policy": "dedicated", "hw:numa_nodes": "2", "hw:mem_page_size": "large"}})
	if d := inside.Domain(t, server.Domain); d.Type != "kvm" {
		t.Fatalf("the domain is of type %s", d.Type)
	}
	inside.CheckPlace(t, server, inside.Place{
		VCPUs: []string{"1", "4"}, Emulator: "1,4", Nodes: "0-1", Topology: "2 sockets, 1 cores, 1 threads",
		Cells: []inside.Cell{{VCPUs: "0", MemoryKiB: 131072, Node: "0", PageKiB: inside.HugeKiB}, {VCPUs: "1", MemoryKiB: 131072, Node: "1", PageKiB: inside.HugeKiB}},
	})
	t.Logf("the guest's system is up after %s", agent.Said(server.ID, "ready", bootTime))
	for cell, distances := range []string{"10 21", "21 10"} {
		said := agent.Said(server.ID, fmt.Sprintf("numa node%d ", cell), bootTime)
		t.Logf("the guest says of its node %d: %s", cell, said)
		checkCell(t, said, strconv.Itoa(cell), distances)
	}
}

var cellForm = regexp.MustCompile(`^cpus=(\S*) kib=(\d+) distances=(.*)$`)

// checkCell holds what a guest says of a cell of 128 MiB against what it was given.
func checkCell(t *testing.T, said, cpus, distances string) {
	t.Helper()
	f := cellForm.FindStringSubmatch(said)
	if f == nil {
		t.Fatalf("the guest says %q", said)
	}
	kib, _ := strconv.Atoi(f[2]) // digits
	if f[1] != cpus || f[3] != distances || kib > 131072 || kib < 131072*6/10 {
		t.Errorf("the guest says %q, want CPU %s, nearly 131072 KiB and distances %s", said, cpus, distances)
	}
}
