//go:build lab

package storage

import (
	"testing"

	"compute-agent/blockdev/connector"
)

// TestAgentFibreChannel has multipathd join two ports of the host, each with one of the array's.
func TestAgentFibreChannel(t *testing.T) {
	startMultipathd(t)
	a := fcArray(t)
	r := newRig(t, a, "volume_use_multipath: true")
	r.walk(r.life()...)
}

func fcArray(t testing.TB) *array {
	t.Helper()
	first, other := newGrowingBackstore(t, "fc-agent", fcSerial(60), growing), newBackstore(t, "fc-agent-other", fcSerial(61), growing)
	left, right := newFCPath(t, "fcA", "fcB"), newFCPath(t, "fcC", "fcD")
	paths := []*fcPath{left, right}
	for _, p := range paths {
		t.Cleanup(func() { removeAll(t, p) })
		p.group.show(1, first)
	}
	a := &array{luns: []handedOver{{"lun 1", grownGiB, connection{"fibre_channel", map[string]any{
		"target_discovered": true, "target_lun": 1, "target_wwn": []string{left.far, right.far},
		"initiator_target_map": map[string][]string{left.wwpn: {left.far}, right.wwpn: {right.far}}}}}}}
	await := func(t testing.TB, want int) {
		for _, m := range multipathMaps(t) {
			awaitPaths(t, connector.Device{Map: m}, want)
		}
	}
	a.cut = func(t testing.TB) { right.cut(); await(t, 1) }
	a.restore = func(t testing.TB) { right.restore(); await(t, 2) }
	a.away = func(testing.TB) { left.cut(); right.cut() }
	a.back = func(testing.TB) { left.restore(); right.restore() }
	a.grow = func(_ testing.TB, bytes int64) { first.grow(bytes) }
	become := func(b *backstore) func(testing.TB) (string, string) {
		return func(testing.TB) (string, string) {
			for _, p := range paths {
				p.group.hide(1)
				p.group.show(1, b)
			}
			return first.wwid(), other.wwid()
		}
	}
	a.another, a.same = become(other), become(first)
	a.sum = func(t testing.TB, _ int) string { return firstBytes(t, first.file) }
	return a
}
