//go:build lab

package storage

import (
	"crypto/md5"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"compute-agent/blockdev/connector"
	"compute-agent/test/lab/inside"
)

func sectors(bytes int64) string { return strconv.FormatInt(bytes/512, 10) }

// firstBytes is the MD5 sum of the part of a file that guests fill.
func firstBytes(t testing.TB, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	data := make([]byte, mib/4)
	if _, err := file.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", md5.Sum(data))
}

// size is that of a LUN as it is said to be, and as it is.
type size struct {
	gib   int
	bytes int64
}

// iscsiArray is LIO with two portals and CHAP. LUN 1 can grow, which is growing bytes at first.
func iscsiArray(t testing.TB, name, initiator string, others ...size) *array {
	t.Helper()
	iqn := "iqn.2026-11.lab.agent:" + name
	first := newGrowingBackstore(t, name+"-1", serial(900), growing)
	other := newBackstore(t, name+"-other", serial(901), growing)
	g := newGroup(t, "iscsi", iqn, initiator, portalA, portalB)
	g.chap(chapUser, chapPassword)
	stores := []*backstore{first}
	a := &array{}
	for n, s := range append([]size{{gib: grownGiB}}, others...) {
		if n > 0 {
			stores = append(stores, newBackstore(t, fmt.Sprintf("%s-%d", name, n+1), serial(910+n), s.bytes))
		}
		g.show(n+1, stores[n])
		a.luns = append(a.luns, handedOver{fmt.Sprintf("lun %d", n+1), s.gib, connection{"iscsi", map[string]any{
			"target_portals": []string{portalA, portalB}, "target_iqns": []string{iqn, iqn}, "target_luns": []int{n + 1, n + 1}, "target_discovered": false,
			"auth_method": "CHAP", "auth_username": chapUser, "auth_password": chapPassword}}})
	}
	host, _, _ := strings.Cut(portalB, ":")
	a.cut = func(t testing.TB) {
		cut(t, host)
		for _, m := range multipathMaps(t) {
			awaitPaths(t, connector.Device{Map: m}, 1)
		}
	}
	a.restore = func(t testing.TB) {
		mend(t, host)
		for _, m := range multipathMaps(t) {
			awaitPaths(t, connector.Device{Map: m}, 2)
		}
	}
	a.away, a.back = func(testing.TB) { g.stop() }, func(testing.TB) { g.start() }
	a.grow = func(_ testing.TB, bytes int64) { first.grow(bytes) }
	become := func(b *backstore) func(testing.TB) (string, string) {
		return func(testing.TB) (string, string) {
			g.hide(1)
			g.show(1, b)
			return first.wwid(), other.wwid()
		}
	}
	a.another, a.same = become(other), become(first)
	a.sum = func(t testing.TB, lun int) string { return firstBytes(t, stores[lun].file) }
	return a
}

// multipathMaps are the names of the multipath maps that there are.
func multipathMaps(t testing.TB) []string {
	t.Helper()
	var names []string
	files, err := filepath.Glob("/sys/block/dm-*/dm/name")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name, err := os.ReadFile(file)
		if err != nil {
			continue // it is going
		}
		names = append(names, strings.TrimSpace(string(name)))
	}
	return names
}

// volumesAtOnce is how many volumes are attached side by side.
const volumesAtOnce = 20

// TestAgentISCSI has multipathd join two portals.
func TestAgentISCSI(t *testing.T) {
	i := newInitiator(t)
	startMultipathd(t)
	a := iscsiArray(t, "iscsi", i.name, append(slices.Repeat([]size{{1, growing}}, volumesAtOnce), size{2, 2 << 30}, size{3, 3 << 30})...)
	r := newRig(t, a, "volume_use_multipath: true")
	r.walk(append(r.life(),
		step{"encrypted", (*rig).encrypted},
		step{"boot from volume, many side by side", (*rig).bootFromVolume},
	)...)
}

// encrypted has the guest write what the array must not be able to read.
func (r *rig) encrypted() {
	r.agent.VolumeType("secret", true)
	volume := r.agent.Volume(2, map[string]any{"volume_type": "secret"})
	r.agent.Attach(r.guest.ID, volume)
	disk := r.guest.Disk(volume)
	wrote := r.guest.Fill(disk)
	if read := r.guest.Sum(disk); read != wrote {
		r.t.Errorf("the guest reads %s, wrote %s", read, wrote)
	}
	r.agent.Detach(r.guest.ID, volume)
	r.nothingLeft(0)
	if left := strings.Fields(inside.Virsh(r.t, "secret-list")); len(left) > 0 {
		r.t.Errorf("libvirt has secrets: %q", left)
	}
	if there := r.array.sum(r.t, volumesAtOnce+1); strings.HasPrefix(wrote, there) {
		r.t.Error("the array has what the guest wrote")
	}
	r.agent.Attach(r.guest.ID, volume)
	if read := r.guest.Sum(r.guest.Disk(volume)); read != wrote {
		r.t.Errorf("attached again the guest reads %s, wrote %s", read, wrote)
	}
	r.agent.Detach(r.guest.ID, volume)
	r.nothingLeft(0)
}

// bootFromVolume has a volume that holds the tiny guest boot one server and then another, which is the second of those that get many volumes.
func (r *rig) bootFromVolume() {
	volume := r.agent.VolumeOfImage(3, map[string]any{"volume_type": "array"})
	r.nothingLeft(0) // what wrote the image
	server := r.agent.BootFromVolume(volume)
	if said := r.agent.Said(server.ID, "root", patience); said != "dev=/dev/vda boots=1" {
		r.t.Errorf("the guest says %q", said)
	}
	r.agent.Delete(server.ID)
	if v := r.agent.Settled(volume, "available"); len(v.Attachments) > 0 {
		r.t.Errorf("the volume is %+v", v)
	}
	r.nothingLeft(0)
	server = r.agent.BootFromVolume(volume)
	if said := r.agent.Said(server.ID, "root", patience); said != "dev=/dev/vda boots=2" {
		r.t.Errorf("the guest says %q", said)
	}
	r.manyAtOnce(r.guest, server)
	r.agent.Delete(server.ID)
	r.nothingLeft(0)
}

// manyAtOnce attaches and detaches volumes of several servers side by side.
func (r *rig) manyAtOnce(guests ...*inside.Guest) {
	before := r.host()
	var volumes []string
	for range volumesAtOnce {
		volumes = append(volumes, r.agent.Volume(1, map[string]any{"volume_type": "array"}))
	}
	sideBySide := func(try func(server, volume string) error) time.Duration {
		began := time.Now()
		var wg sync.WaitGroup
		for n, volume := range volumes {
			wg.Go(func() {
				if err := inside.InTurn(func() error { return try(guests[n%len(guests)].ID, volume) }); err != nil {
					r.t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, volume := range volumes {
			r.agent.Settled(volume, "in-use", "available", "error")
		}
		return time.Since(began)
	}
	up := sideBySide(r.agent.TryAttach)
	sums := map[string]string{}
	for n, volume := range volumes {
		g := guests[n%len(guests)]
		if v := r.agent.ShowVolume(volume); !v.Of(g.ID) {
			r.t.Fatalf("volume %d is %+v", n, v)
		}
		sums[volume] = g.Fill(g.Disk(volume))
	}
	down := sideBySide(r.agent.TryDetach)
	r.t.Logf("%d volumes of %d servers were there after %.0f s, gone after %.0f s", volumesAtOnce, len(guests), up.Seconds(), down.Seconds())
	if diff := cmp.Diff(before, r.host()); diff != "" {
		r.t.Errorf("the host has and had %s", diff)
	}
	there := map[string]bool{}
	for n := range volumesAtOnce {
		there[r.array.sum(r.t, n+1)] = true
	}
	for volume, wrote := range sums {
		if sum, _, _ := strings.Cut(wrote, " "); !there[sum] {
			r.t.Errorf("no LUN has what a guest wrote to volume %s", volume)
		}
	}
}
