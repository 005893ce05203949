//go:build lab

package storage

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/image"
	"compute-agent/internal/command"
)

const lvmGroup = "ca-test-vg"

// lvmRun is a program that must succeed.
func lvmRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// lvmVolumes is a volume group over a loop device.
func lvmVolumes(t *testing.T, wipe compute.Wipe) *compute.LVMVolumes {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pv")
	file, err := os.Create(path)
	if err == nil {
		err = file.Truncate(5 << 30)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	loop := lvmRun(t, "losetup", "--find", "--show", path)
	t.Cleanup(func() {
		_ = exec.Command("vgremove", "--force", "--yes", lvmGroup).Run()
		_ = exec.Command("pvremove", "--force", "--force", "--yes", loop).Run()
		lvmRun(t, "losetup", "--detach", loop)
	})
	lvmRun(t, "vgcreate", "--yes", lvmGroup, loop)
	scratch := t.TempDir()
	for d := scratch; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	l, err := compute.NewLVMVolumes(compute.LVMOptions{Group: lvmGroup, Wipe: wipe, Scratch: scratch, Runner: command.Exec{}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func lvmMust(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lvmDevice is where a server of this host finds a volume.
func lvmDevice(t *testing.T, l *compute.LVMVolumes, v cinder.Volume) string {
	t.Helper()
	raw, err := l.Connection(context.Background(), v, connector.Properties{})
	lvmMust(t, err)
	info, err := connector.Parse(raw)
	lvmMust(t, err)
	return info.Path
}

func lvmRead(t *testing.T, path string, n int) []byte {
	t.Helper()
	file, err := os.Open(path)
	lvmMust(t, err)
	defer func() { _ = file.Close() }()
	data := make([]byte, n)
	_, err = file.ReadAt(data, 0)
	lvmMust(t, err)
	return data
}

func lvmWrite(t *testing.T, path string, data []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_SYNC, 0)
	lvmMust(t, err)
	_, err = file.Write(data)
	lvmMust(t, err)
	lvmMust(t, file.Close())
}

// lvmHolds says whether a device has some words anywhere.
func lvmHolds(t *testing.T, path string, words []byte) bool {
	t.Helper()
	file, err := os.Open(path)
	lvmMust(t, err)
	defer func() { _ = file.Close() }()
	buf := make([]byte, len(words)+4<<20)
	for kept := 0; ; kept = len(words) {
		n, err := io.ReadFull(file, buf[kept:])
		if bytes.Contains(buf[:kept+n], words) {
			return true
		}
		if err != nil {
			return false
		}
		copy(buf, buf[len(buf)-len(words):])
	}
}

// TestLVMVolumes makes volumes of images and of each other, extends them, also with snapshots, and finds nothing of them afterwards: neither names nor contents.
func TestLVMVolumes(t *testing.T) {
	l, ctx := lvmVolumes(t, compute.WipeZero), t.Context()
	secret := bytes.Repeat([]byte("a tenant's secret "), 1<<16)[:1<<20]
	copy(secret[510:], "\x55\xaa")
	dir := t.TempDir()
	lvmMust(t, os.WriteFile(dir+"/raw", secret, 0o644))
	lvmRun(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", dir+"/raw", dir+"/qcow2")

	v, encrypted := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}, cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}
	for range 2 {
		lvmMust(t, l.Create(ctx, v, compute.VolumeOrigin{Image: &image.Base{Path: dir + "/qcow2", Format: "qcow2"}}))
	}
	if !bytes.Equal(lvmRead(t, lvmDevice(t, l, v), len(secret)), secret) {
		t.Error("the volume is not what the image is")
	}
	lvmMust(t, l.Create(ctx, encrypted, compute.VolumeOrigin{Image: &image.Base{Path: dir + "/raw", Format: "raw"},
		Cipher: &connector.Cipher{Format: "luks", Key: "0123456789"}}))
	if head := lvmRead(t, lvmDevice(t, l, encrypted), 4<<20); !bytes.HasPrefix(head, []byte("LUKS\xba\xbe")) || bytes.Contains(head, []byte("a tenant's secret")) {
		t.Error("the volume is not encrypted")
	}
	lvmMust(t, l.Delete(ctx, encrypted))

	s := cinder.Snapshot{ID: uuid.NewString()}
	lvmMust(t, l.Snapshot(ctx, s, v))
	lvmWrite(t, lvmDevice(t, l, v), bytes.Repeat([]byte{0xff}, len(secret))) // what was there goes to the snapshot's blocks
	v.Before = cinder.Available
	lvmMust(t, l.Extend(ctx, v, 2))
	if size := lvmRun(t, "blockdev", "--getsize64", lvmDevice(t, l, v)); size != "2147483648" {
		t.Errorf("the volume has %s bytes", size)
	}
	restored := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}
	lvmMust(t, l.Create(ctx, restored, compute.VolumeOrigin{Snapshot: &s, Volume: &v}))
	if !bytes.Equal(lvmRead(t, lvmDevice(t, l, restored), len(secret)), secret) {
		t.Error("the volume is not what the snapshot is")
	}
	lvmMust(t, l.Delete(ctx, restored))
	cutOff := func() { lvmRun(t, "lvchange", "-q", "--yes", "-a", "n", lvmGroup+"/volume-"+v.ID) } // as an extension is that was killed
	cutOff()
	lvmMust(t, l.DeleteSnapshot(ctx, s, v))
	cutOff()
	lvmMust(t, l.Delete(ctx, v))

	clone := cinder.Volume{ID: uuid.NewString(), SizeGiB: 4}
	lvmMust(t, l.Create(ctx, clone, compute.VolumeOrigin{}))
	// Nearly all of the group is in this volume, and all that was used.
	if lvmHolds(t, lvmDevice(t, l, clone), []byte("a tenant's secret")) {
		t.Error("what a deleted volume had is in a new one")
	}
	lvmMust(t, l.Delete(ctx, clone))
	if left := lvmRun(t, "lvs", "--noheadings", "-o", "lv_name", lvmGroup); left != "" {
		t.Errorf("%s are left", left)
	}
}

// TestLVMClone copies a volume that is written to, as it was at one moment, and leaves no snapshot.
func TestLVMClone(t *testing.T) {
	l, ctx := lvmVolumes(t, compute.WipeNone), t.Context()
	v, clone := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1, Status: cinder.InUse}, cinder.Volume{ID: uuid.NewString(), SizeGiB: 2}
	lvmMust(t, l.Create(ctx, v, compute.VolumeOrigin{}))
	lvmWrite(t, lvmDevice(t, l, v), []byte("contents"))
	holder, err := os.OpenFile(lvmDevice(t, l, v), os.O_RDWR|os.O_EXCL, 0)
	lvmMust(t, err)
	lvmMust(t, l.Create(ctx, clone, compute.VolumeOrigin{Volume: &v}))
	if got := lvmRead(t, lvmDevice(t, l, clone), 8); string(got) != "contents" {
		t.Errorf("the copy begins with %q", got)
	}
	if err := l.Delete(ctx, v); err == nil {
		t.Error("what somebody has open was deleted")
	}
	lvmMust(t, holder.Close())
	lvmMust(t, l.Delete(ctx, v))
	lvmMust(t, l.Delete(ctx, clone))
	p, err := l.Pool(ctx)
	if err != nil || p.TotalGiB < 4.9 || p.FreeGiB != p.TotalGiB {
		t.Errorf("%+v, %v", p, err)
	}
}
