//go:build lab

package host

import (
	"strings"
	"testing"
	"time"

	"compute-agent/test/lab/inside"
)

// TestBoot makes one emulated guest, which boots from its disk, and removes it.
func TestBoot(t *testing.T) {
	agent := inside.Start(t)
	server := agent.Boot(inside.Size{VCPUs: 1, MemoryMiB: 128})
	if list := inside.Virsh(t, "list", "--name"); list != server.Domain {
		t.Errorf("running domains are %q, want %q", list, server.Domain)
	}
	if d := inside.Domain(t, server.Domain); d.Type != "qemu" || d.UUID != server.ID {
		t.Errorf("domain %s of type %s, want %s of type qemu", d.UUID, d.Type, server.ID)
	}
	t.Logf("the guest's system is up after %s of its own time", agent.Said(server.ID, "ready", 10*time.Minute))
	agent.Delete(server.ID)
	if list := inside.Virsh(t, "list", "--all", "--name"); list != "" {
		t.Errorf("domains after the delete: %s", strings.Fields(list))
	}
}
