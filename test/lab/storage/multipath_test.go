//go:build lab

package storage

import (
	"os"
	"slices"
	"strings"
	"testing"

	"compute-agent/blockdev/connector"
	luns "compute-agent/blockdev/lun"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/scsi"
	"compute-agent/internal/command"
)

// findMultipaths restarts multipathd with another policy than multipathConf's.
func findMultipaths(t testing.TB, policy string) {
	t.Helper()
	put(t, "/etc/multipath.conf", strings.Replace(multipathConf, "find_multipaths yes", "find_multipaths "+policy, 1))
	run(t, "systemctl", "restart", "multipathd")
}

// wwidsFile is what multipathd remembers of disks that have maps.
func wwidsFile(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("/etc/multipath/wwids")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}

// TestMultipathFibreChannel has two ports of the host, each with one of the array's.
func TestMultipathFibreChannel(t *testing.T) {
	startMultipathd(t)
	store := newGrowingBackstore(t, "fc-mpath", fcSerial(50), 64*mib)
	next := newBackstore(t, "fc-mpath-next", fcSerial(51), 32*mib)
	left, right := newFCPath(t, "fcA", "fcB"), newFCPath(t, "fcC", "fcD")
	for _, p := range []*fcPath{left, right} {
		t.Cleanup(func() { removeAll(t, p) })
		p.group.show(1, store)
	}
	info := fcInfo(1, left, right)
	before := disks(t)
	c := newFC(luns.Host{Multipath: true, Enforce: true})
	for _, policy := range []string{"yes", "strict", "no"} {
		t.Run("find_multipaths "+policy, func(t *testing.T) {
			findMultipaths(t, policy)
			dev, err := c.Connect(fcContext(t), info, connector.Identity(store.wwid()))
			if err != nil {
				t.Fatal(err)
			}
			if len(dev.Paths) != 2 || !strings.Contains(dev.Path, "/dm-uuid-mpath-") {
				t.Errorf("%+v", dev)
			}
			useDisk(t, dev.Path)
			for range 2 {
				if err := c.Disconnect(fcContext(t), info, dev); err != nil {
					t.Error(err)
				}
			}
			if after := disks(t); !slices.Equal(after, before) || strings.Contains(wwidsFile(t), "\n/"+dev.Map+"/") { // what was removed begins with #
				t.Errorf("there are %q, before %q; WWIDs %s", after, before, wwidsFile(t))
			}
		})
	}
	dev, err := c.Connect(fcContext(t), info, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("path loss and return under I/O", func(t *testing.T) {
		written := fill(t, dev.Path, 4*mib)
		right.cut()
		writes(t, dev.Path, func() { awaitPaths(t, dev, 1) })
		right.restore()
		writes(t, dev.Path, func() { awaitPaths(t, dev, 2) })
		if sum(t, dev.Path, 4*mib) != written {
			t.Error("what was written is not read")
		}
	})
	t.Run("states", func(t *testing.T) {
		maps := multipath.Daemon{SCSI: scsi.Host(), Commands: command.Exec{}}
		m, found, err := maps.Find(dev.Map)
		if err != nil || !found {
			t.Fatal(found, err)
		}
		if paths, err := maps.Paths(fcContext(t), m); err != nil || len(paths) != 2 || !paths[0].Usable || !paths[1].Usable {
			t.Errorf("%+v, %v", paths, err)
		}
	})
	t.Run("extend", func(t *testing.T) {
		store.grow(96 * mib)
		if dev, err = c.Extend(fcContext(t), info, dev); err != nil || dev.Bytes != 96*mib || blockSize(t, dev.Path) != 96*mib {
			t.Errorf("%+v, %v", dev, err)
		}
	})
	t.Run("held", func(t *testing.T) { fcHeld(t, c, info, dev) })
	t.Run("one path left", func(t *testing.T) {
		if err := c.Disconnect(fcContext(t), info, dev); err != nil {
			t.Fatal(err)
		}
		right.cut()
		one, err := c.Connect(fcContext(t), info, dev.Identity)
		if err != nil || len(one.Paths) != 1 || one.Map == "" {
			t.Fatalf("%+v, %v", one, err)
		}
		right.restore()
		if dev, err = c.Connect(fcContext(t), info, dev.Identity); err != nil || len(dev.Paths) != 2 {
			t.Errorf("%+v, %v", dev, err)
		}
	})
	t.Run("LUN given to another volume", func(t *testing.T) {
		for _, p := range []*fcPath{left, right} { // nobody disconnected the first
			p.group.hide(1)
			p.group.show(1, next)
		}
		_, err := c.Connect(fcContext(t), info, dev.Identity)
		expect(t, err, connector.IdentityMismatch, store.wwid(), next.wwid())
		other, err := c.Connect(fcContext(t), info, connector.Identity(next.wwid()))
		if err != nil || other.Map == dev.Map || other.Bytes != 32*mib {
			t.Fatalf("%+v, %v", other, err)
		}
		if err := c.Disconnect(fcContext(t), info, dev); err != nil {
			t.Error(err)
		}
		if scsi.Host().Name(other.Path) == "" {
			t.Error("the end of the volume that was there took the one that is")
		}
		if err := c.Disconnect(fcContext(t), info, other); err != nil {
			t.Error(err)
		}
	})
	t.Run("enforced without multipathd", func(t *testing.T) {
		run(t, "systemctl", "stop", "multipathd.socket", "multipathd")
		_, err := c.Connect(fcContext(t), info, "")
		expect(t, err, connector.NoMultipath)
	})
	if after := disks(t); !slices.Equal(after, before) {
		t.Errorf("after the end there are %q, before %q", after, before)
	}
}
