package libvirt

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"compute-agent/virt"
)

// daemon is a libvirtd of the test's own, which it may stop and kill. It lives in a mount namespace with
// its own /run/libvirt, /var/lib/libvirt and /etc/libvirt, and does not meet the host's.
type daemon struct {
	dir string
	cmd *exec.Cmd
}

// inNamespace mounts a daemon's directories over libvirt's and becomes libvirtd.
const inNamespace = `set -e
for pair in run:/run/libvirt lib:/var/lib/libvirt etc:/etc/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
	mkdir -p "${pair#*:}"
	mount --bind "$1/${pair%%:*}" "${pair#*:}"
done
exec libvirtd --pid-file "$1/libvirtd.pid" --config "$1/etc/libvirtd.conf"`

func newDaemon(t testing.TB) *daemon {
	t.Helper()
	needLibvirt(t)
	p := &daemon{dir: diskDir(t)}
	for _, sub := range []string{"run", "lib/qemu", "etc", "log", "cache"} {
		if err := os.MkdirAll(filepath.Join(p.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat("/var/cache/libvirt/qemu"); err == nil { // what the host's daemon found out of QEMU
		run(t, "cp", "-a", "/var/cache/libvirt/qemu", filepath.Join(p.dir, "cache"))
	}
	for name, text := range map[string]string{
		"libvirtd.conf": "auth_unix_rw = \"none\"\nunix_sock_rw_perms = \"0700\"\nlog_outputs = \"3:file:/var/log/libvirt/libvirtd.log\"\n",
		"qemu.conf":     "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\nstdio_handler = \"file\"\nnamespaces = []\n",
	} {
		if err := os.WriteFile(filepath.Join(p.dir, "etc", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.start(t)
	t.Cleanup(func() {
		p.kill()
		if state := p.cmd.ProcessState; t.Failed() && state != nil {
			log, _ := os.ReadFile(filepath.Join(p.dir, "log/libvirtd.log")) // there may be none
			t.Logf("the test's libvirtd: %v; its log:\n%s", state, log)
		}
	})
	return p
}

func (p *daemon) socket() string { return filepath.Join(p.dir, "run/libvirt-sock") }

func (p *daemon) uri() string {
	return "qemu+unix:///system?socket=" + url.QueryEscape(p.socket())
}

func (p *daemon) start(t testing.TB) {
	t.Helper()
	p.cmd = exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", inNamespace, "sh", p.dir)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		out, err := exec.Command("virsh", "-q", "-c", p.uri(), "uri").CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("libvirtd of the test does not answer: %s", out)
		}
		time.Sleep(50 * time.Millisecond) // it has no way to say when it listens
	}
}

func (p *daemon) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// forgot says whether libvirtd holds a guest for a start that it was killed in: libvirt 9.0 can come back with that
// job open, owned by nobody, and then refuses all others of the guest. It takes the end of libvirtd, of QEMU and of libvirt's
// note of the running guest to go on, and the guest must be destroyed then.
func (p *daemon) forgot(t *testing.T, d *Driver, s virt.Spec) bool {
	t.Helper()
	if err := d.Destroy(within(t), s.ID); !errors.Is(err, virt.ErrBusy) {
		return false
	}
	p.kill()
	if pid := findQEMU(t, s.ID); pid > 0 {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	must(t, os.Remove(filepath.Join(p.dir, "run/qemu", s.Name+".xml")))
	p.start(t)
	must(t, d.Destroy(within(t), s.ID))
	return true
}

func (p *daemon) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	_ = p.cmd.Wait()
}

// eventually reads events until one is of the kind.
func eventually(t testing.TB, events <-chan virt.Event, kind virt.EventKind) virt.Event {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for {
		select {
		case e, open := <-events:
			if !open {
				t.Fatalf("the stream ended before %v", kind)
			}
			if e.Kind == kind {
				return e
			}
		case <-late.C:
			t.Fatalf("no event %v", kind)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func runningGuest(t testing.TB, d *Driver, s virt.Spec) virt.Spec {
	t.Helper()
	destroyAtEnd(t, d, s.ID)
	must(t, d.Create(within(t), s))
	must(t, d.Start(within(t), s.ID))
	return s
}

func TestLibvirtdKilledAndRestarted(t *testing.T) {
	p := newDaemon(t)
	d := newDriver(t, Options{URI: p.uri(), ReconnectWait: time.Second})
	events := d.Events(within(t))
	stays, stops := runningGuest(t, d, smallSpec(t)), runningGuest(t, d, smallSpec(t))
	pid := qemuPID(t, stays.ID)

	p.kill()
	eventually(t, events, virt.EventConnectionLost)
	if _, err := d.Guests(within(t)); !errors.Is(err, virt.ErrUnavailable) {
		t.Errorf("without libvirtd: error is %v, want ErrUnavailable", err)
	}
	if d.Status().Connected {
		t.Error("the driver counts as connected without libvirtd")
	}
	crashGuest(t, stops.ID) // nobody is there to tell of it

	p.start(t)
	eventually(t, events, virt.EventConnectionBack)
	states := map[string]virt.PowerState{}
	guests, err := d.Guests(within(t))
	must(t, err)
	for _, g := range guests {
		states[g.ID] = g.State
	}
	if states[stays.ID] != virt.PowerRunning || states[stops.ID] != virt.PowerShutdown {
		t.Errorf("after the restart the guests are %v, want one running and one shut down", states)
	}
	if now := qemuPID(t, stays.ID); now != pid {
		t.Errorf("the guest's process is %d, was %d", now, pid)
	}

	must(t, d.Stop(within(t), stays.ID, virt.StopOptions{})) // callbacks are registered again
	if e := eventually(t, events, virt.EventStopped); e.ID != stays.ID {
		t.Errorf("stopped is %s, want %s", e.ID, stays.ID)
	}
	if s := d.Status(); !s.Connected || s.Lost != 1 || len(s.Calls) != 0 {
		t.Errorf("status is %+v", s)
	}
}

func TestFrozenLibvirtd(t *testing.T) {
	p := newDaemon(t)
	d := newDriver(t, Options{URI: p.uri(), KeepAlive: time.Second, KeepAliveMisses: 2, ReconnectWait: time.Second})
	events := d.Events(within(t))

	p.signal(t, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := d.Guests(ctx)
	if !errors.Is(err, virt.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want ErrUnavailable that wraps the deadline", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a call with 200 ms returned after %v", took)
	}
	if calls := d.Status().Calls; len(calls) != 1 || !calls[0].Abandoned || calls[0].Op != "list guests" {
		t.Errorf("calls under way are %+v, want the abandoned one", calls)
	}
	if e := eventually(t, events, virt.EventConnectionLost); !strings.Contains(e.Reason, "does not answer") {
		t.Errorf("lost because %q", e.Reason)
	}

	p.signal(t, syscall.SIGCONT)
	eventually(t, events, virt.EventConnectionBack)
	if _, err := d.Guests(within(t)); err != nil {
		t.Error(err)
	}
	if calls := d.Status().Calls; len(calls) != 0 {
		t.Errorf("calls under way are %+v, want none", calls)
	}
}

func TestCloseOfFrozenLibvirtd(t *testing.T) {
	p := newDaemon(t)
	d := newDriver(t, Options{URI: p.uri(), KeepAlive: time.Second, KeepAliveMisses: 2})
	p.signal(t, syscall.SIGSTOP)
	begin := time.Now()
	must(t, d.Close())
	if took := time.Since(begin); took > closeWait+5*time.Second {
		t.Errorf("Close took %v", took)
	}
	p.signal(t, syscall.SIGCONT)
}

func TestFrozenGuestDoesNotHideTheOthers(t *testing.T) {
	p := newDaemon(t)
	d := newDriver(t, Options{URI: p.uri()})
	d.statsPatience = time.Second
	frozen, well := runningGuest(t, d, smallSpec(t)), runningGuest(t, d, smallSpec(t))
	pid := qemuPID(t, frozen.ID)
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })

	guests, err := d.Guests(within(t))
	must(t, err)
	found := map[string]virt.Guest{}
	for _, g := range guests {
		found[g.ID] = g
	}
	if len(found[well.ID].Disks) == 0 || found[well.ID].Disks[0].CapacityBytes == 0 {
		t.Errorf("the guest that is well is listed as %+v", found[well.ID])
	}
	if g := found[frozen.ID]; g.State != virt.PowerRunning || g.MemoryMiB != frozen.MemoryMiB || g.VCPUs != frozen.VCPUs {
		t.Errorf("the frozen guest is listed as %+v", g)
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := d.Pause(ctx, frozen.ID); !errors.Is(err, virt.ErrUnavailable) {
		t.Errorf("pausing a frozen guest: error is %v, want ErrUnavailable", err)
	}
	must(t, d.Destroy(within(t), frozen.ID)) // overtakes what hangs
	if _, err := d.Guest(within(t), frozen.ID); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("after Destroy: error is %v, want ErrNotFound", err)
	}
}

// TestCreateIsWholeOrNotAtAll freezes or kills libvirtd at some moment of a creation. Whenever that is,
// there is afterwards a guest if Create said so, and none if it failed.
func TestCreateIsWholeOrNotAtAll(t *testing.T) {
	p := newDaemon(t)
	d := newDriver(t, Options{URI: p.uri(), KeepAlive: time.Second, KeepAliveMisses: 30})
	freeze := func() func() {
		p.signal(t, syscall.SIGSTOP)
		return func() { p.signal(t, syscall.SIGCONT) }
	}
	kill := func() func() {
		p.kill()
		return func() { p.start(t) }
	}
	made := 0
	for _, delay := range []time.Duration{0, 10, 40, 160, 640} {
		for name, stop := range map[string]func() func(){"frozen": freeze, "killed": kill} {
			spec := smallSpec(t)
			destroyAtEnd(t, d, spec.ID)
			ctx, cancel := context.WithTimeout(context.Background(), delay*time.Millisecond+500*time.Millisecond)
			done := make(chan error, 1)
			go func() { done <- d.Create(ctx, spec) }()
			time.Sleep(delay * time.Millisecond) // the moment is arbitrary
			resume := stop()
			err := <-done
			cancel()
			resume()
			give, turnErr := d.turns.take(within(t), spec.ID) // the end of what Create left running
			must(t, turnErr)
			give()
			_, guestErr := d.Guest(within(t), spec.ID)
			switch {
			case err == nil && guestErr == nil:
				made++
			case errors.Is(err, virt.ErrUnavailable) && errors.Is(guestErr, virt.ErrNotFound):
			case name == "killed" && guestErr == nil && p.forgot(t, d, spec):
				t.Logf("libvirtd killed after %d ms: it came back with the start that it was killed in still under way", delay)
			default:
				t.Errorf("libvirtd %s after %d ms: Create says %v, Guest says %v", name, delay, err, guestErr)
			}
		}
	}
	t.Logf("%d of 10 guests were made", made)
}
