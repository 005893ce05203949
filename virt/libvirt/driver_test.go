package libvirt

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

func TestOpenWithoutLibvirt(t *testing.T) {
	uri := "qemu+unix:///system?socket=" + filepath.Join(t.TempDir(), "none")
	_, err := Open(within(t), Options{URI: uri})
	if !errors.Is(err, virt.ErrUnavailable) || !strings.Contains(err.Error(), uri) {
		t.Errorf("error is %v, want ErrUnavailable that names the address", err)
	}
}

func TestVirtType(t *testing.T) {
	needLibvirt(t)
	conn, err := lv.NewConnect(testURI())
	must(t, err)
	defer func() { _, _ = conn.Close() }()
	_, offersKVM := emulatorFor(conn, "kvm")
	present := "qemu"
	if offersKVM == nil {
		present = "kvm"
	}
	for _, c := range []struct {
		asked, device, want string
		err                 error
	}{
		{"qemu", "/dev/null", "qemu", nil},
		{"kvm", "/nonexistent", present, offersKVM}, // the operator's word is not second-guessed
		{"auto", "/nonexistent", "qemu", nil},
		{"auto", "/dev/null", present, nil}, // a device that opens
		{"xen", "/dev/null", "", virt.ErrUnsupported},
	} {
		got, emulator, err := virtType(conn, c.asked, c.device)
		switch {
		case c.err != nil:
			if !errors.Is(err, virt.ErrUnsupported) {
				t.Errorf("%s: error is %v, want ErrUnsupported", c.asked, err)
			}
		case err != nil:
			t.Errorf("%s with %s: %v", c.asked, c.device, err)
		case got != c.want || !filepath.IsAbs(emulator):
			t.Errorf("%s with %s: %s by %q, want %s", c.asked, c.device, got, emulator, c.want)
		}
	}
	if _, err := Open(within(t), Options{URI: testURI(), VirtType: "xen"}); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("Open with type xen: error is %v, want ErrUnsupported", err)
	}
}

// TestNothingIsLeaked counts the references to the connection: a domain that is not freed holds one.
func TestNothingIsLeaked(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	ctx := within(t)
	before := references(t, d)
	spec := smallSpec(t)
	destroyAtEnd(t, d, spec.ID)
	must(t, d.Create(ctx, spec))
	if err := d.Create(ctx, spec); !errors.Is(err, virt.ErrExists) {
		t.Errorf("error is %v, want ErrExists", err)
	}
	must(t, d.Start(ctx, spec.ID))
	must(t, d.Pause(ctx, spec.ID))
	must(t, d.Unpause(ctx, spec.ID))
	var wg sync.WaitGroup
	for range 20 { // more than the connection has slots
		wg.Go(func() {
			for _, call := range []func() error{
				func() error { _, err := d.Guests(ctx); return err },
				func() error { _, err := d.Guest(ctx, spec.ID); return err },
				func() error { _, err := d.ConsoleLog(ctx, spec.ID, 100); return err },
				func() error { _, err := d.Host(ctx); return err },
				func() error { return d.Start(ctx, spec.ID) },
			} {
				if err := call(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	must(t, d.Stop(ctx, spec.ID, virt.StopOptions{Grace: time.Millisecond}))
	must(t, d.Destroy(ctx, spec.ID))
	if after := references(t, d); after != before {
		t.Errorf("the connection has %d references, had %d", after, before)
	}
	if s := d.Status(); len(s.Calls) != 0 || !s.Connected || s.VirtType != "qemu" {
		t.Errorf("status is %+v", s)
	}
}

// references counts the references to the driver's connection.
func references(t testing.TB, d *Driver) int {
	t.Helper()
	conn := d.current.conn
	must(t, conn.Ref())
	left, err := conn.Close()
	must(t, err)
	return left
}

// TestStartAfterManagedSave starts guests that somebody saved by hand, one of them while it was paused.
func TestStartAfterManagedSave(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	ctx := within(t)
	spec := smallSpec(t)
	destroyAtEnd(t, d, spec.ID)
	must(t, d.Create(ctx, spec))
	for _, state := range []virt.PowerState{virt.PowerPaused, virt.PowerRunning} {
		run(t, "virsh", "-c", testURI(), "managedsave", spec.ID)
		must(t, d.Start(ctx, spec.ID))
		g, err := d.Guest(ctx, spec.ID)
		must(t, err)
		if g.State != virt.PowerRunning {
			t.Errorf("saved while %v, started it is %v (%s)", state, g.State, g.Reason)
		}
	}
}

// TestCallsStuckInOneConnection leaves three calls hanging in guests that do not answer: the fourth gets a
// new connection.
func TestCallsStuckInOneConnection(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	events := d.Events(within(t))
	release := make(chan struct{})
	var wg sync.WaitGroup
	for range maxCalls - 1 {
		wg.Go(func() {
			err := d.run(within(t), "hang", "", 10*time.Millisecond, hang(release))
			if !errors.Is(err, virt.ErrUnavailable) {
				t.Errorf("error is %v, want ErrUnavailable", err)
			}
		})
	}
	wg.Wait()
	eventually(t, events, virt.EventConnectionLost)
	eventually(t, events, virt.EventConnectionBack)
	if _, err := d.Guests(within(t)); err != nil {
		t.Error(err)
	}
	if n := len(d.Status().Calls); n != maxCalls-1 {
		t.Errorf("%d calls are under way, want the %d that hang", n, maxCalls-1)
	}
	close(release)
}

func BenchmarkGuests(b *testing.B) {
	needLibvirt(b)
	d := newDriver(b, Options{})
	spec := smallSpec(b)
	destroyAtEnd(b, d, spec.ID)
	must(b, d.Create(within(b), spec))
	guests := 0
	for b.Loop() {
		all, err := d.Guests(within(b))
		must(b, err)
		guests = len(all)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*guests), "us/guest")
}

// hang makes a call that holds a slot of its connection until release is closed.
func hang(release <-chan struct{}) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		return c.rpc(ctx, func(*lv.Connect) error {
			<-release
			return nil
		})
	}
}

func BenchmarkHost(b *testing.B) {
	needLibvirt(b)
	d := newDriver(b, Options{})
	for b.Loop() {
		_, err := d.Host(within(b))
		must(b, err)
	}
}
