//go:build lab

package storage

import (
	"path/filepath"
	"testing"

	"compute-agent/blockdev/nvmeof"
)

// TestAgentNVMe has the kernel join two ports over TCP.
func TestAgentNVMe(t *testing.T) {
	a := nvmeArray(t)
	r := newRig(t, a)
	r.walk(r.life()...)
}

// nvmeArray hands a namespace over by its number.
func nvmeArray(t testing.TB) *array {
	t.Helper()
	const nqn = "nqn.2026-11.lab.agent:array"
	g := newNVMeTarget(t)
	c := nvmeof.Host(filepath.Join(t.TempDir(), "nvmeof")) // to look
	g.subsystem(nqn)
	n := g.namespace(nqn, 7, nvmeUUID(900), growing)
	a := &array{luns: []handedOver{{"lun 1", grownGiB, connection{"nvmeof", map[string]any{
		"target_nqn": nqn, "ns_id": 7, "portals": []any{[]any{nvmePorts[0], nvmePort, "tcp"}, []any{nvmePorts[1], nvmePort, "tcp"}}}}}}}
	var open func()
	a.cut = func(t testing.TB) {
		open = firewall(t, nvmePorts[1], true)
		nvmeStates(t, c, nvmePorts[1], nvmeof.Connecting)
	}
	a.restore = func(t testing.TB) {
		open()
		nvmeStates(t, c, nvmePorts[1], nvmeof.Live)
		nvmePaths(t, c, nqn, 2)
	}
	a.away = func(t testing.TB) {
		for i, address := range nvmePorts {
			g.hide(i, nqn)
			nvmeStates(t, c, address, nvmeof.Connecting)
		}
	}
	a.back = func(testing.TB) {
		for i := range nvmePorts {
			g.show(i, nqn)
		}
	}
	a.grow = func(t testing.TB, bytes int64) { n.grow(t, bytes) }
	become := func(uuid string) func(testing.TB) (string, string) {
		return func(t testing.TB) (string, string) {
			n.become(t, uuid)
			return "uuid." + nvmeUUID(900), "uuid." + nvmeUUID(901)
		}
	}
	a.another, a.same = become(nvmeUUID(901)), become(nvmeUUID(900))
	a.sum = func(t testing.TB, _ int) string { return firstBytes(t, n.file) }
	return a
}
