package libvirt

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"compute-agent/virt"
	"compute-agent/virt/virttest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("compute-agent/virt/libvirt.runEventLoop"))
}

// testURI is the libvirt that the tests run guests on.
func testURI() string {
	if uri := os.Getenv("TEST_LIBVIRT_URI"); uri != "" {
		return uri
	}
	return "qemu:///system"
}

// needLibvirt leaves a test out of -short, and fails it when there is no libvirt.
func needLibvirt(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs libvirtd; left out by -short")
	}
	out, err := exec.Command("virsh", "-q", "-c", testURI(), "version").CombinedOutput()
	if err != nil {
		t.Fatalf("%s does not answer: %s\nStart libvirtd (`scripts/libvirtd up tests` does it, and `make test` too), "+
			"name another in TEST_LIBVIRT_URI, or leave these tests out with -short.", testURI(), out)
	}
}

// newDriver opens a driver and closes it when the test ends.
func newDriver(t testing.TB, opt Options) *Driver {
	t.Helper()
	if opt.URI == "" {
		opt.URI = testURI()
	}
	if opt.VirtType == "" {
		opt.VirtType = "qemu"
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	d, err := Open(within(t), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// testWriter writes the driver's log to the test's.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("log: %s", p)
	return len(p), nil
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// diskDir returns a directory that QEMU's user may read.
func diskDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "compute-agent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// smallSpec is a guest without an operating system, on an empty disk.
func smallSpec(t testing.TB) virt.Spec {
	t.Helper()
	dir, id := diskDir(t), uuid.NewString()
	disk := filepath.Join(dir, "disk")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", disk, "8M")
	return virt.Spec{
		ID: id, Name: "catest-" + id[:8], VirtType: "qemu", Arch: "x86_64", Machine: "pc",
		VCPUs: 1, MemoryMiB: 64, CPU: virt.CPU{Mode: "none", Sockets: 1, Cores: 1, Threads: 1},
		Disks:  []virt.Disk{{Source: virt.Source{File: disk}, Format: "qcow2", Target: "vda", Bus: "virtio", Cache: "unsafe", Boot: 1}},
		Serial: []virt.SerialPort{{Type: "pty", Log: filepath.Join(dir, "console.log"), AppendLog: true}},
	}
}

// tinyImage is the tiny guest's disk.
func tinyImage(t testing.TB) string {
	t.Helper()
	if image := os.Getenv("TINY_GUEST_IMAGE"); image != "" {
		return image
	}
	build := exec.Command("../../test/guest/build.sh")
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("build the tiny guest: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// bootableSpec is the tiny guest on an overlay.
func bootableSpec(t testing.TB) virt.Spec {
	t.Helper()
	s := smallSpec(t)
	overlay, base := s.Disks[0].Source.File, filepath.Join(filepath.Dir(s.Disks[0].Source.File), "base")
	run(t, "cp", tinyImage(t), base) // where QEMU's user may read it
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
	s.Disks[0].Backing = []virt.Backing{{Path: base, Format: "qcow2"}}
	s.MemoryMiB = 192
	return s
}

// destroyAtEnd leaves no guest behind, whatever the test does.
func destroyAtEnd(t testing.TB, d *Driver, id string) {
	t.Cleanup(func() {
		if err := d.Destroy(context.Background(), id); err != nil {
			t.Errorf("a guest is left behind: %v", err)
		}
	})
}

func TestContract(t *testing.T) {
	needLibvirt(t)
	virttest.TestDriver(t, func(t *testing.T) virttest.Harness {
		link := newLink(t)
		opt := Options{URI: link.uri, VirtType: "qemu", ReconnectWait: time.Second}
		return virttest.Harness{
			Driver:         newDriver(t, opt),
			NewSpec:        smallSpec,
			Reopen:         func(t testing.TB) virt.Driver { return newDriver(t, opt) },
			BootableSpec:   bootableSpec,
			CrashGuest:     crashGuest,
			DestroyByHand:  func(t testing.TB, id string) { run(t, "virsh", "-c", testURI(), "destroy", id) },
			UndefineByHand: func(t testing.TB, id string) { run(t, "virsh", "-c", testURI(), "undefine", id) },
			UnplugByHand: func(t testing.TB, id, mac string) {
				run(t, "virsh", "-c", testURI(), "detach-interface", id, "ethernet", "--mac", mac, "--config")
			},
			UnplugDiskByHand: func(t testing.TB, id, target string) {
				run(t, "virsh", "-c", testURI(), "detach-disk", id, target, "--config")
			},
			SlowCopies: func(t testing.TB) virt.Driver {
				slow := opt
				slow.CopyBytes = 64 << 10
				return newDriver(t, slow)
			},
			SuspendGuest: suspendGuest,
			BreakLink:    link.cut,
		}
	})
}

// crashGuest kills a guest's QEMU.
func crashGuest(t testing.TB, id string) {
	t.Helper()
	if err := syscall.Kill(qemuPID(t, id), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// suspendGuest writes to the ACPI register as an operating system that goes to sleep does. The firmware
// puts the register in its place while the guest starts, and nothing tells when it has.
func suspendGuest(t testing.TB, id string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		run(t, "virsh", "-c", testURI(), "qemu-monitor-command", id, "--hmp", "o/h 0x604 0x2400")
		if strings.Contains(run(t, "virsh", "-c", testURI(), "domstate", id), "pmsuspended") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the guest does not go to sleep")
		}
	}
}

// qemuPID is a guest's process.
func qemuPID(t testing.TB, id string) int {
	t.Helper()
	pid := findQEMU(t, id)
	if pid == 0 {
		t.Fatalf("guest %s has no QEMU", id)
	}
	return pid
}

// findQEMU finds a guest's process by the UUID on its command line; 0 for none.
func findQEMU(t testing.TB, id string) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range lines {
		line, err := os.ReadFile(name)
		if err == nil && strings.HasPrefix(string(line), "/usr/bin/qemu-system") && strings.Contains(string(line), "\x00-uuid\x00"+id+"\x00") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	return 0
}

// link is a way to libvirtd's socket that a test can cut.
type link struct {
	t        testing.TB
	uri      string
	path     string
	upstream string

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	wg       sync.WaitGroup
}

func newLink(t testing.TB) *link {
	t.Helper()
	path := filepath.Join(diskDir(t), "libvirt-sock")
	l := &link{t: t, path: path, upstream: "/run/libvirt/libvirt-sock",
		uri: "qemu+unix:///system?socket=" + url.QueryEscape(path)}
	if u, err := url.Parse(testURI()); err == nil && u.Query().Get("socket") != "" {
		l.upstream = u.Query().Get("socket")
	}
	l.mend()
	t.Cleanup(func() {
		l.sever()
		l.wg.Wait()
	})
	return l
}

// cut breaks the link until mend.
func (l *link) cut(testing.TB) (mend func()) {
	l.sever()
	return l.mend
}

func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	listener, err := net.Listen("unix", l.path)
	if err != nil {
		l.t.Error(err)
		return
	}
	l.listener = listener
	l.wg.Go(func() { l.serve(listener) })
}

func (l *link) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.listener.Close()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

func (l *link) serve(listener net.Listener) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("unix", l.upstream)
		if err != nil {
			_ = near.Close()
			fmt.Fprintln(os.Stderr, "link:", err)
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, near, far)
		l.mu.Unlock()
		l.wg.Go(func() { pipe(near, far) })
		l.wg.Go(func() { pipe(far, near) })
	}
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}
