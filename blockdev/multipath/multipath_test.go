package multipath

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/multipath/multipathtest"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/scsi/scsitest"
)

const (
	iscsi = "../scsi/testdata/sys/iscsi.txtar"
	wwid  = "36001405ffffffff00000000000000001"
)

var disk = scsitest.Disk{Vendor: "LIO-ORG", Model: "nine", WWID: "naa.6001405ffffffff00000000000000001", Bytes: 1 << 30}

// host is a machine with a disk on two paths, sda and sdj, which were scanned.
func host(t *testing.T) (Daemon, *multipathtest.Daemon, []string) {
	s, k := scsitest.New(t, iscsi)
	var paths []string
	for _, a := range []scsi.Address{{Host: 3, LUN: 9}, {Host: 4, LUN: 9}} {
		k.Put(a, disk)
		d, err := s.Attach(patience(t), a)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, d.Name)
	}
	fake := &multipathtest.Daemon{Kernel: k, Find: "strict"}
	return Daemon{SCSI: s, Commands: fake}, fake, paths
}

func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func reason(err error) connector.Reason {
	var e *connector.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func TestMaps(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	d := Daemon{SCSI: s}
	const known = "36001405aaaaaaaa00000000000000010"
	k.Set("sys/devices/virtual/block/dm-0/dm/suspended", "0")
	maps, err := d.Maps()
	want := Map{WWID: known, Name: known, Device: "dm-0", Paths: []string{"sdb", "sdc"}, Bytes: 1 << 30, ready: true}
	if err != nil || len(maps) != 1 || !equal(maps[0], want) { // neither a partition's map nor LVM's nor LUKS's
		t.Errorf("%+v, %v", maps, err)
	}
	if m, found, err := d.Of("sdc"); !found || err != nil || !equal(m, want) {
		t.Errorf("of sdc: %+v, %v", m, err)
	}
	for _, path := range []string{"sdd", "dm-0", "nothing"} {
		if m, found, err := d.Of(path); found || err != nil {
			t.Errorf("of %s: %+v, %v", path, m, err)
		}
	}
	if m, found, err := d.Find(wwid); found || err != nil {
		t.Errorf("found %+v, %v", m, err)
	}
}

func equal(a, b Map) bool {
	slices.Sort(a.Paths)
	return a.WWID == b.WWID && a.Name == b.Name && a.Device == b.Device && slices.Equal(a.Paths, b.Paths) && a.Bytes == b.Bytes && a.ready == b.ready
}

// TestMake has all policies: with each of them one path is enough, because multipathd is told that the disk is wanted.
func TestMake(t *testing.T) {
	for _, find := range []string{"no", "yes", "strict"} {
		d, fake, paths := host(t)
		fake.Find = find
		m, err := d.Make(patience(t), wwid, paths[:1])
		if err != nil || !slices.Equal(m.Paths, paths[:1]) || m.Bytes != disk.Bytes {
			t.Fatalf("%s: one path: %+v, %v", find, m, err)
		}
		m, err = d.Make(patience(t), wwid, paths)
		if err != nil || !slices.Equal(m.Paths, paths) {
			t.Errorf("%s: two paths: %+v, %v", find, m, err)
		}
		if want := []string{"multipath -a " + wwid, "multipathd add path " + paths[0], "multipathd add path " + paths[1]}; !slices.Equal(fake.Calls(), want) {
			t.Errorf("%s: %q", find, fake.Calls())
		}
	}
}

func TestMakeNeedsTheDaemon(t *testing.T) {
	d, fake, paths := host(t)
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
	fake.Stopped = true
	if _, err := d.Make(patience(t), wwid, paths); reason(err) != connector.NoMultipath {
		t.Error(err)
	}
	if err := d.Check(t.Context()); reason(err) != connector.NoMultipath {
		t.Error(err)
	}
}

func TestMakeSaysWhatTheDaemonSays(t *testing.T) {
	d, fake, paths := host(t)
	d.Patience = time.Millisecond
	fake.Blacklisted = paths
	_, err := d.Make(patience(t), wwid, paths)
	if reason(err) != connector.NoMultipath || !strings.Contains(err.Error(), `of `+paths[0]+` it says "blacklisted"`) || !strings.Contains(err.Error(), "not there after 1ms") {
		t.Error(err)
	}
	for _, bad := range []string{"", "-f", "a b", "a/b", "x\n"} {
		if _, err := d.Make(patience(t), bad, paths); reason(err) != connector.NoMultipath {
			t.Errorf("%q: %v", bad, err)
		}
		if err := d.Remove(patience(t), Map{WWID: bad}); reason(err) != connector.Unsupported {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestMakeWithOneAcceptedPath is a path that is lost while the other one serves.
func TestMakeWithOneAcceptedPath(t *testing.T) {
	d, fake, paths := host(t)
	fake.Blacklisted = paths[:1]
	m, err := d.Make(patience(t), wwid, paths)
	if err != nil || !slices.Equal(m.Paths, paths[1:]) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestResize(t *testing.T) {
	d, fake, paths := host(t)
	m, err := d.Make(patience(t), wwid, paths)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := d.Resize(patience(t), m); err != nil || same.Bytes != disk.Bytes {
		t.Errorf("%+v, %v", same, err)
	}
	fake.Kernel.Set("sys/block/"+paths[0]+"/size", "4194304")
	if _, err := d.Resize(patience(t), m); reason(err) != connector.BadSize {
		t.Errorf("paths that differ: %v", err)
	}
	fake.Kernel.Set("sys/block/"+paths[1]+"/size", "4194304")
	m, err = d.Resize(patience(t), m)
	if err != nil || m.Bytes != 2<<30 {
		t.Errorf("%+v, %v", m, err)
	}
	if n := len(fake.Calls()); n != 4 {
		t.Errorf("%q", fake.Calls())
	}
}

func TestRemove(t *testing.T) {
	d, fake, paths := host(t)
	m, err := d.Make(patience(t), wwid, paths)
	if err != nil {
		t.Fatal(err)
	}
	before := len(fake.Calls())
	fake.Kernel.Hold(m.Device, true)
	if err := d.Remove(patience(t), m); reason(err) != connector.InUse || len(fake.Calls()) != before {
		t.Errorf("held: %v, %q", err, fake.Calls()[before:])
	}
	fake.Kernel.Hold(m.Device, false)
	fake.Glances = 2 // each of the fake's programs ends with an event
	if err := d.Remove(patience(t), m); err != nil {
		t.Error(err)
	}
	if _, found, _ := d.Find(wwid); found || len(fake.WWIDs()) != 0 {
		t.Errorf("it is still there; WWIDs %q", fake.WWIDs())
	}
	for _, path := range paths {
		if err := d.SCSI.CheckFree(path); err != nil {
			t.Errorf("path %s: %v", path, err)
		}
	}
	if err := d.Remove(patience(t), m); err != nil {
		t.Errorf("again: %v", err)
	}
	// Without the daemon maps go as well.
	if m, err = d.Make(patience(t), wwid, paths); err != nil {
		t.Fatal(err)
	}
	fake.Stopped = true
	if err := d.Remove(patience(t), m); err != nil {
		t.Errorf("without the daemon: %v", err)
	}
}

func TestPaths(t *testing.T) {
	for file, want := range map[string][]Path{
		"one-path":  {{"sda", true, "ready"}},
		"two-paths": {{"sda", true, "ready"}, {"sdb", false, "faulty"}},
	} {
		data, err := os.ReadFile("testdata/" + file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if paths, err := parse(data); err != nil || !slices.Equal(paths, want) {
			t.Errorf("%s: %v, %v", file, paths, err)
		}
	}
	for _, bad := range []string{"", "fail", "timeout", "{}", `{"major_version": 1, "map": {}}`, `{"major_version": 0, "map": []}`} {
		if paths, err := parse([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, paths)
		}
	}
	d, _, paths := host(t)
	m, err := d.Make(patience(t), wwid, paths)
	if err != nil {
		t.Fatal(err)
	}
	if states, err := d.Paths(patience(t), m); err != nil || len(states) != 2 || !states[1].Usable {
		t.Errorf("%v, %v", states, err)
	}
}
