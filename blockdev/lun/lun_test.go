package lun

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/multipath/multipathtest"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/scsi/scsitest"
	"compute-agent/internal/command"
)

var (
	nine  = []scsi.Address{{Host: 3, LUN: 9}, {Host: 4, LUN: 9}}
	disk  = scsitest.Disk{Vendor: "LIO-ORG", Model: "nine", WWID: "naa.6001405ffffffff00000000000000001", Bytes: 1 << 30}
	other = scsitest.Disk{Vendor: "LIO-ORG", Model: "nine", WWID: "naa.6001405ffffffff00000000000000002", Bytes: 1 << 30}
	info  = connector.Info{Type: connector.ISCSI}
)

// newHost has the disk at both addresses of nine.
func newHost(t *testing.T) (Host, *multipathtest.Daemon) {
	s, k := scsitest.New(t, "../scsi/testdata/sys/iscsi.txtar")
	for _, a := range nine {
		k.Put(a, disk)
	}
	daemon := &multipathtest.Daemon{Kernel: k, Find: "strict"}
	maps := multipath.Daemon{SCSI: s, Commands: daemon, Patience: time.Minute}
	return Host{SCSI: s, Maps: maps, Multipath: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, daemon
}

func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (h Host) left(t *testing.T) (names []string) {
	for _, a := range nine {
		if d, found, err := h.SCSI.Find(a); found || err != nil {
			names = append(names, d.Name)
		}
	}
	return names
}

func TestAttachIsRefusedAndLeavesNothing(t *testing.T) {
	empty, larger := disk, disk
	empty.Bytes = 0
	larger.Bytes *= 2
	for _, c := range []struct {
		name   string
		disks  [2]scsitest.Disk
		info   connector.Info
		known  string
		reason connector.Reason
		says   string
	}{
		{"different disks", [2]scsitest.Disk{disk, other}, info, "", connector.IdentityMismatch, "lead to different disks"},
		{"one of them wrong", [2]scsitest.Disk{disk, other}, info, disk.WWID, connector.IdentityMismatch, other.WWID},
		{"both wrong", [2]scsitest.Disk{other, other}, info, disk.WWID, connector.IdentityMismatch, disk.WWID},
		{"not what the array says", [2]scsitest.Disk{disk, disk}, connector.Info{WWID: "6001405ffffffff00000000000000009"}, "", connector.IdentityMismatch, "the storage system says"},
		{"different sizes", [2]scsitest.Disk{disk, larger}, info, "", connector.BadSize, "one size"},
		{"empty", [2]scsitest.Disk{empty, empty}, info, "", connector.BadSize, "empty"},
		{"no disk", [2]scsitest.Disk{}, info, "", connector.NoDevice, "no disk"},
	} {
		h, daemon := newHost(t)
		for i, d := range c.disks {
			daemon.Kernel.Put(nine[i], d)
		}
		_, err := h.Attach(patience(t), c.info, connector.Identity(c.known), nine)
		if reason(err) != c.reason || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if left := h.left(t); len(left) > 0 {
			t.Errorf("%s: %v are left", c.name, left)
		}
	}
	h, _ := newHost(t)
	if _, err := h.Attach(patience(t), info, "", nil); reason(err) != connector.Unreachable {
		t.Errorf("no path: %v", err)
	}
}

func TestOnePathServes(t *testing.T) {
	h, daemon := newHost(t)
	daemon.Kernel.Put(nine[0], scsitest.Disk{})
	dev, err := h.Attach(patience(t), info, "", nine)
	if err != nil || len(dev.Paths) != 1 || dev.Map == "" {
		t.Errorf("%+v, %v", dev, err)
	}
	// The other path comes back.
	daemon.Kernel.Put(nine[0], disk)
	if dev, err = h.Attach(patience(t), info, dev.Identity, nine); err != nil || len(dev.Paths) != 2 {
		t.Errorf("%+v, %v", dev, err)
	}
}

func TestWithoutMultipathd(t *testing.T) {
	h, daemon := newHost(t)
	daemon.Stopped = true
	dev, err := h.Attach(patience(t), info, "", nine)
	if err != nil || dev.Map != "" || len(dev.Paths) != 2 || !strings.Contains(dev.Path, "disk/by-id/") {
		t.Errorf("%+v, %v", dev, err)
	}
	for name, refusing := range map[string]Host{"host": {SCSI: h.SCSI, Maps: h.Maps, Enforce: true}, "volume": h} {
		enforced := info
		enforced.EnforceMultipath = name == "volume"
		if _, err := refusing.Attach(patience(t), enforced, "", nine); reason(err) != connector.NoMultipath {
			t.Errorf("enforced by the %s: %v", name, err)
		}
	}
	if err := h.Detach(patience(t), Volume{Addresses: nine, Identity: dev.Identity}); err != nil || len(h.left(t)) > 0 {
		t.Errorf("%v are left, %v", h.left(t), err)
	}
}

// TestTwin has the disk at a third address, where a guest uses it.
func TestTwin(t *testing.T) {
	h, daemon := newHost(t)
	twin := scsi.Address{Host: 5, LUN: 1}
	daemon.Kernel.Put(twin, disk)
	d, err := h.SCSI.Attach(patience(t), twin)
	if err != nil {
		t.Fatal(err)
	}
	daemon.Kernel.Hold(d.Name, true)
	if _, err := h.Attach(patience(t), info, "", nine); reason(err) != connector.InUse || !strings.Contains(err.Error(), d.Name+" is the disk") {
		t.Error(err)
	}
	daemon.Kernel.Hold(d.Name, false)
	if _, err := h.Attach(patience(t), info, "", nine); err != nil {
		t.Error(err)
	}
}

// TestMapOfAnEarlierVolume is what a crash leaves when the LUN is then given to another volume: the earlier volume's map holds the paths.
func TestMapOfAnEarlierVolume(t *testing.T) {
	for _, rescanned := range []bool{false, true} {
		h, daemon := newHost(t)
		old, err := h.Attach(patience(t), info, "", nine)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range nine {
			daemon.Kernel.Put(a, other)
			if rescanned { // somebody else has made the kernel look
				if err := h.SCSI.Rescan(patience(t), a); err != nil {
					t.Fatal(err)
				}
			}
		}
		m, _, _ := h.Maps.Find(old.Map)
		daemon.Kernel.Hold(m.Device, true)
		// One path can leave a map that a guest has, the last one cannot.
		if _, err := h.Attach(patience(t), info, connector.Identity(other.WWID), nine[:1]); err != nil {
			t.Errorf("rescanned %v, held: %v", rescanned, err)
		}
		if _, err := h.Attach(patience(t), info, connector.Identity(other.WWID), nine[1:]); reason(err) != connector.InUse {
			t.Errorf("rescanned %v, held, last path: %v; %q\n%q", rescanned, err, daemon.Calls(), daemon.Kernel.Writes())
		}
		daemon.Kernel.Hold(m.Device, false)
		dev, err := h.Attach(patience(t), info, connector.Identity(other.WWID), nine)
		if err != nil || dev.Map == old.Map || string(dev.Identity) != other.WWID {
			t.Errorf("rescanned %v: %+v, %v", rescanned, dev, err)
		}
		// The earlier volume's end takes nothing of the new one's.
		if err := h.Detach(patience(t), Volume{Addresses: nine, Identity: old.Identity}); err != nil || !slices.Equal(h.left(t), dev.Paths) {
			t.Errorf("rescanned %v: %v are left of %v, %v", rescanned, h.left(t), dev.Paths, err)
		}
	}
}

// TestDetachOfAMapWithMorePaths has a path in the map that no address tells of, found by the kernel itself.
func TestDetachOfAMapWithMorePaths(t *testing.T) {
	h, _ := newHost(t)
	dev, err := h.Attach(patience(t), info, "", nine)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Detach(patience(t), Volume{Addresses: nine[:1], Identity: dev.Identity}); err != nil || len(h.left(t)) > 0 {
		t.Errorf("%v are left, %v", h.left(t), err)
	}
}

// automatic makes multipathd take each path as it comes, as with find_multipaths no.
func automatic(h Host, daemon *multipathtest.Daemon) {
	daemon.Find = "no"
	daemon.Kernel.After(func() {
		for _, a := range nine {
			if d, found, _ := h.SCSI.Find(a); found {
				_, _ = daemon.Run(context.Background(), command.Cmd{Name: "multipathd", Args: []string{"add", "path", d.Name}})
			}
		}
	})
}

// TestRefusedDiskThatIsInAMap: multipathd has made a map of the disks before they are found to be the wrong ones.
func TestRefusedDiskThatIsInAMap(t *testing.T) {
	h, daemon := newHost(t)
	automatic(h, daemon)
	if _, err := h.Attach(patience(t), info, connector.Identity(other.WWID), nine); reason(err) != connector.IdentityMismatch {
		t.Error(err)
	}
	if m, found, err := h.Maps.Find("3" + disk.WWID[4:]); len(h.left(t)) > 0 || found || err != nil {
		t.Errorf("%v and %+v are left, %v", h.left(t), m, err)
	}
}

// TestMapOfAnotherDisk: disks with a name of their own for the kernel, and another volume's for udev and so for multipathd, do not get that volume's map.
func TestMapOfAnotherDisk(t *testing.T) {
	h, daemon := newHost(t)
	forged := other
	forged.Serial = "3" + disk.WWID[4:]
	at := scsi.Address{Host: 5, LUN: 1}
	daemon.Kernel.Put(at, forged)
	victim, err := h.Attach(patience(t), info, "", nine)
	if err != nil {
		t.Fatal(err)
	}
	if dev, err := h.Attach(patience(t), info, "", []scsi.Address{at}); reason(err) != connector.IdentityMismatch {
		t.Errorf("%+v, %v", dev, err)
	}
	if _, found, _ := h.SCSI.Find(at); found {
		t.Error("the disk is still there")
	}
	if m, _, err := h.Maps.Find(victim.Map); err != nil || !slices.Equal(m.Paths, victim.Paths) {
		t.Errorf("the map is %+v, %v", m, err)
	}
}

// TestTwinThatTheHostUses has the disk at a third address, in a map that the host has mounted.
func TestTwinThatTheHostUses(t *testing.T) {
	h, daemon := newHost(t)
	twin := scsi.Address{Host: 5, LUN: 1}
	daemon.Kernel.Put(twin, disk)
	root, err := h.Attach(patience(t), info, "", []scsi.Address{twin})
	if err != nil {
		t.Fatal(err)
	}
	m, _, _ := h.Maps.Find(root.Map)
	number, err := os.ReadFile(filepath.Join(h.SCSI.Sys, "block", m.Device, "dev"))
	if err != nil {
		t.Fatal(err)
	}
	daemon.Kernel.Set("proc/self/mountinfo", "22 1 "+strings.TrimSpace(string(number))+" / /srv rw shared:1 - ext4 /dev/mapper/x rw\n")
	if dev, err := h.Attach(patience(t), info, "", nine); reason(err) != connector.InUse || !strings.Contains(err.Error(), "/srv") {
		t.Errorf("%+v, %v", dev, err)
	}
	if left := h.left(t); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}
