package remote

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
)

// kernel is one that lets claim every device but those that are held.
type kernel struct {
	scsi.Kernel
	held string
}

func (k kernel) Exclusive(node string) error {
	if k.held != "" && filepath.Base(node) == k.held {
		return scsi.ErrHeld
	}
	return nil
}

// newLocal is a host with a logical volume (dm-0), a map of multipath (dm-1), a disk of NVMe, a virtual disk, a partition of it, and an empty one; the files are as Linux
// 6.1 has them (Documentation/ABI/testing/sysfs-block, sysfs-block-dm).
func newLocal(t *testing.T) Local {
	t.Helper()
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	device := func(name, dir string, major, minor uint32, sectors string) {
		t.Helper()
		number := unix.Mkdev(major, minor)
		put(filepath.Join("sys", dir, "size"), sectors+"\n")
		put(filepath.Join("sys", dir, "dev"), numbers(number)+"\n")
		put("dev/.made", "")
		if err := unix.Mknod(filepath.Join(root, "dev", name), unix.S_IFBLK|0o600, int(number)); err != nil {
			t.Fatalf("a device's file: %v (this test needs root)", err)
		}
		if err := os.MkdirAll(filepath.Join(root, "sys/dev/block"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("../..", dir), filepath.Join(root, "sys/dev/block", numbers(number))); err != nil {
			t.Fatal(err)
		}
	}
	device("dm-0", "block/dm-0", 253, 0, "2048")
	put("sys/block/dm-0/dm/uuid", "LVM-abcdefghijklmnopqrstuvwxyz0123456789\n")
	put("sys/block/dm-0/dm/name", "vg0-volume\n")
	device("dm-1", "block/dm-1", 253, 1, "2048")
	put("sys/block/dm-1/dm/uuid", "mpath-360014051234567890123456789abcdef\n")
	put("sys/block/dm-1/dm/name", "mpatha\n")
	device("nvme0n1", "block/nvme0n1", 259, 0, "4096")
	put("sys/block/nvme0n1/wwid", "uuid.e1fc1d2b-1a66-4f5f-8a8a-0d2a2a7e6b3c\n")
	device("vda", "block/vda", 254, 0, "8192")
	device("vda1", "block/vda/vda1", 254, 1, "1024")
	put("sys/block/vda/vda1/partition", "1\n")
	device("vdb", "block/vdb", 254, 16, "0")
	put("proc/self/mountinfo", "22 27 254:1 / / rw shared:1 - ext4 /dev/vda1 rw\n")
	put("proc/swaps", "Filename Type Size Used Priority\n")
	if err := os.MkdirAll(filepath.Join(root, "dev/vg0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../dm-0", filepath.Join(root, "dev/vg0/volume")); err != nil {
		t.Fatal(err)
	}
	return Local{System: scsi.System{Sys: root + "/sys", Dev: root + "/dev", Proc: root + "/proc", RunUdev: root + "/run/udev", Kernel: kernel{}}}
}

func TestLocal(t *testing.T) {
	c := newLocal(t)
	for path, want := range map[string]connector.Device{
		"/dev/vg0/volume": {Path: "dm-0", Bytes: 1 << 20, Identity: "dm.LVM-abcdefghijklmnopqrstuvwxyz0123456789"},
		"/dev/dm-1":       {Path: "dm-1", Bytes: 1 << 20, Identity: "naa.60014051234567890123456789abcdef"},
		"/dev/nvme0n1":    {Path: "nvme0n1", Bytes: 2 << 20, Identity: "uuid.e1fc1d2b-1a66-4f5f-8a8a-0d2a2a7e6b3c"},
	} {
		dev, err := c.Connect(t.Context(), connector.Info{Type: connector.Local, Path: path}, want.Identity)
		if err != nil || dev.Path != c.System.Node(want.Path) || dev.Bytes != want.Bytes || dev.Identity != want.Identity || dev.Format != "raw" {
			t.Errorf("%s: %+v, %v; want %+v", path, dev, err, want)
		}
	}
}

func TestLocalRefusals(t *testing.T) {
	for _, c2 := range []struct {
		path   string
		known  connector.Identity
		held   string
		reason connector.Reason
		says   string
	}{
		{"/dev/nothing", "", "", connector.NoDevice, "not there"},
		{"/etc/passwd", "", "", connector.InvalidInfo, "below /dev"},
		{"/dev/.made", "", "", connector.InvalidInfo, "not a block device"},
		{"/dev/vdb", "", "", connector.BadSize, "empty"},
		{"/dev/vda", "", "", connector.InUse, "mount /"},
		{"/dev/vda1", "", "vda1", connector.InUse, "mounted"},
		{"/dev/dm-0", "", "dm-0", connector.InUse, "the host itself uses"},
		{"/dev/nvme0n1", "naa.6001", "", connector.IdentityMismatch, "uuid.e1fc1d2b"},
		{"/dev/vda", "naa.6001", "", connector.IdentityMismatch, "without a name"},
	} {
		c := newLocal(t)
		c.System.Kernel = kernel{held: c2.held}
		_, err := c.Connect(t.Context(), connector.Info{Type: connector.Local, Path: c2.path}, c2.known)
		isReason(t, err, c2.reason, c2.says)
	}
	c := newLocal(t)
	_, err := c.Extend(t.Context(), connector.Info{Type: connector.Local, Path: "/dev/nvme0n1"}, connector.Device{Identity: "uuid.another"})
	isReason(t, err, connector.IdentityMismatch)
}
