package scsi_test

import (
	"fmt"
	"strings"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/scsi/scsitest"
	"compute-agent/internal/golden"
)

const iscsi = "testdata/sys/iscsi.txtar"

// TestDevices writes all that is read of a machine: its disks with their names in the kernel's and multipath's forms, who holds them, the path to use.
func TestDevices(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	devices, err := s.Devices()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, d := range devices {
		fmt.Fprintf(&b, "%v (%s) %s %q %q %s %d bytes\n    identity %q, wwid %q\n", d.Address, scsi.LUNInPath(d.Address.LUN), d.Name, d.Vendor, d.Model, d.State, d.Bytes, d.Identity, s.WWID(d))
		if d.Name == "" {
			continue
		}
		holders, err := s.Holders(d.Name)
		fmt.Fprintf(&b, "    held by %v, %v; settled %v; path %s\n", holders, err, s.Settled(d.Name), strings.TrimPrefix(s.Path(d.Name), k.Root))
	}
	for _, name := range []string{"dm-0", "dm-1", "dm-2", "dm-3"} {
		holders, err := s.Holders(name)
		fmt.Fprintf(&b, "%s held by %v, %v; path %s\n", name, holders, err, strings.TrimPrefix(s.Path(name), k.Root))
	}
	duplicates, err := s.Duplicates()
	for _, d := range duplicates {
		fmt.Fprintf(&b, "duplicate %s:", d.Identity)
		for _, one := range d.Devices {
			fmt.Fprintf(&b, " %v", one.Address)
		}
		fmt.Fprintf(&b, ", %v\n", err)
	}
	golden.Assert(t, "testdata/sys/iscsi.golden", b.String())
}

func TestNoSCSI(t *testing.T) {
	s := scsi.System{Sys: t.TempDir()}
	if devices, err := s.Devices(); err != nil || devices != nil {
		t.Errorf("%v, %v", devices, err)
	}
	for _, name := range []string{"sda", "", "..", "../sda"} {
		if d, found, err := s.Block(name); err != nil || found {
			t.Errorf("%q: %v, %v", name, d, err)
		}
		if who, busy, err := s.Busy(name); err != nil || busy {
			t.Errorf("%q: %v, %v", name, who, err)
		}
	}
}

// TestLyingTrees changes one file of a good tree: nothing is made up of it.
func TestLyingTrees(t *testing.T) {
	const dir = "sys/bus/scsi/devices/3:0:0:16640/"
	for file, text := range map[string]string{
		dir + "block/sdd/size":   "9223372036854775807",
		dir + "block/sdd/size ":  "-1",
		dir + "block/sdd/size  ": "many",
	} {
		s, k := scsitest.New(t, iscsi)
		k.Set(strings.TrimSpace(file), text)
		if d, _, err := s.Block("sdd"); err == nil {
			t.Errorf("%s=%s: %+v", file, text, d)
		}
	}
	for _, file := range []string{dir + "state", dir + "vendor", dir + "block/sdd/dev"} {
		s, k := scsitest.New(t, iscsi)
		k.Unset(file)
		if d, found, err := s.Block("sdd"); found || err != nil { // as while it is being made
			t.Errorf("no %s: %+v, %v", file, d, err)
		}
	}
}

func TestBlockFollowsTheName(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	if d, found, err := s.Block("sdd"); err != nil || !found || d.Address.LUN != 0x4100 {
		t.Errorf("%+v %v %v", d, found, err)
	}
	if _, found, err := s.Block("dm-0"); found || err != nil {
		t.Errorf("a map is a SCSI disk: %v", err)
	}
	k.Set("sys/bus/scsi/devices/3:0:0:16640/block/sdd/device", "-> ../../../3:0:0:3")
	if d, found, _ := s.Block("sdd"); found {
		t.Errorf("sdd is %+v", d)
	}
	if name := s.Name(k.Root + "/dev/disk/by-id/wwn-0x6001405bbbbbbbb00000000000000256"); name != "sdd" {
		t.Errorf("the link leads to %q", name)
	}
	k.Set("dev/elsewhere", "-> ../proc/swaps")
	for _, path := range []string{"/dev/elsewhere", "/dev/disk", "/dev/none", "/proc/swaps"} {
		if name := s.Name(k.Root + path); name != "" {
			t.Errorf("%s leads to %q", path, name)
		}
	}
}

func TestBusy(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	k.Set("proc/swaps", "Filename Type Size Used Priority\n"+s.Node("sdk")+" partition 1 0 -2\n")
	for _, c := range []struct {
		name string
		but  []string
		who  string
	}{
		{"sdb", []string{"dm-0"}, ""},
		{"sdb", nil, "map 36001405aaaaaaaa00000000000000010"},
		{"sdb", []string{"dm-1"}, "map 36001405aaaaaaaa00000000000000010"},
		{"dm-0", nil, "map crypt_data"},
		{"dm-0", []string{"dm-2"}, ""},
		{"sdd", nil, "process qemu-system-x86 (4711)"},
		{"sde", []string{"dm-3"}, `mount /mnt/data\040disk`},
		{"sdf", nil, ""},
		{"sdi", nil, ""}, // multipathd and udev look at it
		{"sdk", nil, "swap " + s.Node("sdk")},
		{"sdz", nil, ""},
	} {
		who, busy, err := s.Busy(c.name, c.but...)
		if err != nil || who != c.who || busy != (c.who != "") {
			t.Errorf("%s but %v: %q, %v, %v", c.name, c.but, who, busy, err)
		}
	}
	k.Hold("sdf", true)
	if who, busy, err := s.Busy("sdf"); err != nil || !busy || !strings.HasPrefix(who, "claim") {
		t.Errorf("held by somebody unseen: %q, %v, %v", who, busy, err)
	}
}

// TestBusyForAMoment has a program of udev's hold a disk for itself, as multipath does on each that comes.
func TestBusyForAMoment(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	k.Hold("sdi", true)
	go func() {
		k.Hold("sdi", false)
		k.Event()
	}()
	if who, busy, err := s.Busy("sdi"); err != nil || busy {
		t.Errorf("%q, %v", who, err)
	}
}

func TestAddress(t *testing.T) {
	for _, text := range []string{"0:0:0:0", "3:0:12:16640", "4:1:2:18446744073709551615"} {
		a, err := scsi.ParseAddress(text)
		if err != nil || a.String() != text {
			t.Errorf("%s: %v, %v", text, a, err)
		}
	}
	for _, text := range []string{"", "host3", "target3:0:0", "3:0:0", "3:0:0:1:2", "3:0:0:-1", "3:0:0:18446744073709551616", "9999999999:0:0:0", "3:0:0:1\n"} {
		if a, err := scsi.ParseAddress(text); err == nil {
			t.Errorf("%q is %v", text, a)
		}
	}
}

// TestLUN has the numbers of os-brick's table of addressing modes.
func TestLUN(t *testing.T) {
	for _, c := range []struct {
		number int
		mode   string
		lun    uint64
		path   string
	}{
		{0, "", 0, "0"},
		{1, "SAM", 1, "1"},
		{255, "SAM2", 255, "255"},
		{256, "SAM", 256, "0x0100000000000000"},
		{256, "transparent", 256, "0x0100000000000000"},
		{256, "SAM2", 16640, "0x4100000000000000"},
		{1, "SAM3-flat", 16385, "0x4001000000000000"},
		{16640, "", 16640, "0x4100000000000000"},
		{0x41000001, "", 0x41000001, "0x0001410000000000"},
	} {
		lun, err := scsi.LUN(c.number, c.mode)
		if err != nil || lun != c.lun || scsi.LUNInPath(lun) != c.path {
			t.Errorf("%+v: %d %s, %v", c, lun, scsi.LUNInPath(lun), err)
		}
	}
	for number, mode := range map[int]string{-1: "", 16384: "SAM2", 20000: "SAM3-flat", 1: "flat"} {
		if lun, err := scsi.LUN(number, mode); err == nil {
			t.Errorf("%d %s: %d", number, mode, lun)
		}
	}
}

func TestSameWWID(t *testing.T) {
	const naa = "naa.6001405bbbbbbbb00000000000000256"
	for _, c := range []struct {
		id, wwid string
		same     bool
	}{
		{naa, "6001405bbbbbbbb00000000000000256", true},
		{naa, "36001405bbbbbbbb00000000000000256", true},
		{naa, "0x6001405BBBBBBBB00000000000000256", true},
		{naa, naa, true},
		{naa, "36001405bbbbbbbb00000000000000257", false},
		{naa, "", false},
		{"", "", false},
		{"eui.002538b571b00a31", "2002538b571b00a31", true},
		{"eui.002538b571b00a31", "00-25-38-b5-71-b0-0a-31", true},
		{"uuid.12345678123412341234123456789abc", "12345678-1234-1234-1234-123456789abc", true},
		{"t10.ATA QEMU", "t10.ATA QEMU", true},
	} {
		if scsi.SameWWID(connector.Identity(c.id), c.wwid) != c.same {
			t.Errorf("%+v", c)
		}
	}
}
