//go:build lab

package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"compute-agent/blockdev/attach"
	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/remote"
	"compute-agent/blockdev/scsi"
	"compute-agent/internal/command"
)

const nfsServer = "127.0.3.1"

// atEnd runs a program when the test ends, in its place among what else is taken down.
func atEnd(t testing.TB, name string, args ...string) {
	t.Cleanup(func() {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	})
}

// exportNFS exports a directory with files of so many bytes, and returns the directory and the export's name.
func exportNFS(t testing.TB, options string, files map[string]int64) (dir, export string) {
	t.Helper()
	dir = t.TempDir()
	for d := dir; d != "/"; d = filepath.Dir(d) { // a server's root may look in, and nobody else of its clients
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if d == os.TempDir() {
			run(t, "chmod", "1777", d)
			break
		}
	}
	for name, size := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Truncate(filepath.Join(dir, name), size), os.Chmod(filepath.Join(dir, name), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "systemctl", "start", "nfs-server")
	atEnd(t, "systemctl", "stop", "nfs-server") // which exports nothing any more then
	client := nfsServer[:strings.LastIndex(nfsServer, ".")] + ".0/24"
	for _, c := range []string{client, "127.0.0.1"} {
		run(t, "exportfs", "-o", options, c+":"+dir)
	}
	return dir, nfsServer + ":" + dir
}

func newNFS(t testing.TB) *remote.NFS {
	t.Helper()
	dir := t.TempDir()
	c := &remote.NFS{Run: command.Exec{}, Base: filepath.Join(dir, "mnt"), Options: "soft,timeo=50,actimeo=1", Users: filepath.Join(dir, "nfs"), Proc: "/proc"}
	t.Cleanup(func() {
		if left := nfsMounts(t, c); len(left) != 0 {
			t.Errorf("mounts are left: %q", left)
			for _, where := range left {
				_ = exec.Command("umount", "-f", "-l", where).Run()
			}
		}
	})
	return c
}

// nfsMounts are the places below a connector's base where something is mounted.
func nfsMounts(t testing.TB, c *remote.NFS) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(table)) {
		if where := strings.Fields(line)[4]; strings.HasPrefix(where, c.Base+"/") {
			out = append(out, where)
		}
	}
	return out
}

func nfsRequest(t testing.TB, export, name string) connector.Request {
	t.Helper()
	info, err := connector.Parse(connector.Raw(fmt.Sprintf(
		`{"driver_volume_type": "nfs", "data": {"export": %q, "name": %q, "options": "-o vers=4.2", "format": "raw"}}`, export, name)))
	if err != nil {
		t.Fatal(err)
	}
	return connector.Request{VolumeID: uuid.NewString(), Info: info}
}

func refusedFor(t testing.TB, err error, reason connector.Reason, says string) {
	t.Helper()
	var e *connector.Error
	if !errors.As(err, &e) || e.Reason != reason || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v; want the reason %s and %q", err, reason, says)
	}
}

// TestNFS: two volumes of an export share its mount, which outlives the agent, and goes with the last of them, and not before its files are closed.
func TestNFS(t *testing.T) {
	dir, export := exportNFS(t, "rw,root_squash,insecure", map[string]int64{"volume-1": 1 << 20, "volume-2": 2 << 20})
	c := newNFS(t)
	state := filepath.Join(t.TempDir(), "volumes")
	open := func(c *remote.NFS) *attach.Host {
		t.Helper()
		h, err := attach.New(attach.Options{Connectors: map[connector.Type]connector.Connector{connector.NFS: c}, State: state})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := open(c)
	one, two := nfsRequest(t, export, "volume-1"), nfsRequest(t, export, "volume-2")
	dev, err := h.Connect(t.Context(), one)
	if err != nil || dev.Bytes != 1<<20 || dev.Format != "raw" {
		t.Fatalf("%+v, %v", dev, err)
	}
	data := bytes.Repeat([]byte("written by a guest\n"), 1000)
	disk, err := os.OpenFile(dev.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	if _, err := disk.WriteAt(data, 4096); err != nil {
		t.Fatal(err)
	}
	if err := disk.Sync(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "volume-1")); err != nil || !bytes.Equal(got[4096:4096+len(data)], data) {
		t.Errorf("the server's file does not hold what was written: %v", err)
	}
	if _, err := h.Connect(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	if got := nfsMounts(t, c); len(got) != 1 {
		t.Errorf("mounts %q, want one", got)
	}
	if table := run(t, "findmnt", "-n", "-o", "OPTIONS", nfsMounts(t, c)[0]); !strings.Contains(table, "nosuid") || !strings.Contains(table, "nodev") || !strings.Contains(table, "vers=4.2") {
		t.Errorf("mounted with %s", table)
	}

	again := successor(c)
	h = open(again)
	if err := h.Disconnect(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	refusedFor(t, h.Disconnect(t.Context(), one), connector.InUse, "busy")
	if got := nfsMounts(t, c); len(got) != 1 {
		t.Errorf("mounts %q: the file is open", got)
	}
	if err := os.Truncate(filepath.Join(dir, "volume-1"), 3<<20); err != nil {
		t.Fatal(err)
	}
	grown, err := awaitSize(t, h, one, 3<<20)
	if err != nil || grown.Bytes != 3<<20 {
		t.Errorf("extended: %+v, %v", grown, err)
	}
	if err := disk.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Disconnect(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if left, err := h.Stale(t.Context(), nil); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// successor is the connector of an agent that comes after one that was killed.
func successor(c *remote.NFS) *remote.NFS {
	return &remote.NFS{Run: c.Run, Base: c.Base, Options: c.Options, Users: c.Users, Proc: c.Proc}
}

// awaitSize extends until the client's attributes of the file are as new as the server's.
func awaitSize(t testing.TB, h *attach.Host, r connector.Request, want int64) (dev connector.Device, err error) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if dev, err = h.Extend(t.Context(), r); err != nil || dev.Bytes == want {
			return dev, err
		}
	}
	return dev, err
}

// TestNFSRefusals: what an export holds besides files leads nowhere, and a server that is gone holds nobody up.
func TestNFSRefusals(t *testing.T) {
	dir, export := exportNFS(t, "rw,root_squash,insecure", map[string]int64{"volume-1": 1 << 20, "empty": 0})
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfifo", filepath.Join(dir, "fifo"))
	c := newNFS(t)
	for name, reason := range map[string]connector.Reason{
		"link": connector.InvalidInfo, "fifo": connector.InvalidInfo, "empty": connector.BadSize, "nothing": connector.NoDevice,
	} {
		_, err := c.Connect(t.Context(), nfsRequest(t, export, name).Info, "")
		refusedFor(t, err, reason, name)
	}
	_, err := c.Connect(t.Context(), nfsRequest(t, nfsServer+":/not/exported", "volume-1").Info, "")
	refusedFor(t, err, connector.Unreachable, "/not/exported")
	if left := nfsMounts(t, c); len(left) != 0 {
		t.Errorf("mounts are left: %q", left)
	}
	run(t, "systemctl", "stop", "nfs-server")
	_, err = c.Connect(t.Context(), nfsRequest(t, export, "volume-1").Info, "")
	refusedFor(t, err, connector.Unreachable, nfsServer+":2049")
}

// TestLocal is a logical volume of LVM: who it is, what the host itself does with it, another under the same name.
func TestLocal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 128<<20); err != nil {
		t.Fatal(err)
	}
	loop := strings.TrimSpace(run(t, "losetup", "--find", "--show", file))
	atEnd(t, "losetup", "--detach", loop)
	run(t, "vgcreate", "--yes", "remotetest", loop)
	atEnd(t, "vgremove", "--yes", "--force", "remotetest")
	create := func() {
		run(t, "lvcreate", "--yes", "--wipesignatures", "n", "--size", "16m", "--name", "volume", "remotetest")
	}
	create()
	c := remote.Local{System: scsi.Host()}
	info := connector.Info{Type: connector.Local, Path: "/dev/remotetest/volume"}
	dev, err := c.Connect(t.Context(), info, "")
	if err != nil || dev.Bytes != 16<<20 || !strings.HasPrefix(string(dev.Identity), "dm.LVM-") {
		t.Fatalf("%+v, %v", dev, err)
	}
	run(t, "lvextend", "--size", "32m", "remotetest/volume")
	if grown, err := c.Extend(t.Context(), info, dev); err != nil || grown.Bytes != 32<<20 {
		t.Errorf("extended: %+v, %v", grown, err)
	}

	_, err = c.Connect(t.Context(), connector.Info{Type: connector.Local, Path: loop}, "")
	refusedFor(t, err, connector.InUse, "remotetest-volume")
	run(t, "mkfs.ext4", "-q", info.Path)
	where := t.TempDir()
	run(t, "mount", info.Path, where)
	_, err = c.Connect(t.Context(), info, dev.Identity)
	run(t, "umount", where)
	refusedFor(t, err, connector.InUse, where)

	run(t, "lvremove", "--yes", "remotetest/volume")
	_, err = c.Connect(t.Context(), info, dev.Identity)
	refusedFor(t, err, connector.NoDevice, info.Path)
	create()
	_, err = c.Connect(t.Context(), info, dev.Identity)
	refusedFor(t, err, connector.IdentityMismatch, string(dev.Identity))
	if list := strings.Fields(run(t, "lvs", "--noheadings", "-o", "lv_name", "remotetest")); !slices.Equal(list, []string{"volume"}) {
		t.Errorf("logical volumes %q", list)
	}
}
