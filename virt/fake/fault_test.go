package fake_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// stateOf returns a guest's state as another driver sees it; PowerNoState when there is none.
func stateOf(t testing.TB, hv *fake.Hypervisor, id string) virt.PowerState {
	t.Helper()
	g, err := open(t, hv).Guest(t.Context(), id)
	if err != nil && !errors.Is(err, virt.ErrNotFound) {
		t.Fatal(err)
	}
	return g.State
}

// methods calls each method that a fault can strike, on a guest in a state in which it succeeds.
var methods = map[string]struct {
	from virt.PowerState // of the guest before the call
	to   virt.PowerState // and after it
	call func(ctx context.Context, d *fake.Driver, s virt.Spec) error
}{
	"Host": {virt.PowerNoState, virt.PowerNoState, func(ctx context.Context, d *fake.Driver, _ virt.Spec) error {
		_, err := d.Host(ctx)
		return err
	}},
	"Create": {virt.PowerNoState, virt.PowerPaused, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.Create(ctx, s)
	}},
	"Remake": {virt.PowerRunning, virt.PowerPaused, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.Remake(ctx, s)
	}},
	"Start": {virt.PowerPaused, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.Start(ctx, s.ID)
	}},
	"Stop": {virt.PowerRunning, virt.PowerShutdown, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.Stop(ctx, s.ID, virt.StopOptions{Grace: time.Minute})
	}},
	"Destroy": {virt.PowerRunning, virt.PowerNoState, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.Destroy(ctx, s.ID)
	}},
	"Guest": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		_, err := d.Guest(ctx, s.ID)
		return err
	}},
	"Guests": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, _ virt.Spec) error {
		_, err := d.Guests(ctx)
		return err
	}},
	"Pause": {virt.PowerRunning, virt.PowerPaused, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.Pause(ctx, s.ID)
	}},
	"Unpause": {virt.PowerPaused, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.Unpause(ctx, s.ID)
	}},
	"Machine": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		_, err := d.Machine(ctx, s.ID)
		return err
	}},
	"ConsoleLog": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		_, err := d.ConsoleLog(ctx, s.ID, 100)
		return err
	}},
	"PlugNIC": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.PlugNIC(ctx, s.ID, virt.NIC{MAC: "fa:16:3e:00:00:01", Attach: virt.Attachment{Type: "ethernet"}})
	}},
	"UnplugNIC": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.UnplugNIC(ctx, s.ID, "fa:16:3e:00:00:01", virt.UnplugOptions{Patience: time.Minute})
	}},
	"SetMetadata": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.SetMetadata(ctx, s.ID, virt.Metadata{Name: "web"})
	}},
	"PlugDisk": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.PlugDisk(ctx, s.ID, volume("vdb"))
	}},
	"UnplugDisk": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.UnplugDisk(ctx, s.ID, "vdb", virt.UnplugOptions{Patience: time.Minute})
	}},
	"Disks": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		_, err := d.Disks(ctx, s.ID)
		return err
	}},
	"ResizeDisk": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.ResizeDisk(ctx, s.ID, "vda", 2<<30)
	}},
	"CopyDisk": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.CopyDisk(ctx, s.ID, "vda", volume("vda"), nil)
	}},
	"AbortCopy": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.AbortCopy(ctx, s.ID, "vda")
	}},
	"DiskUse": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, _ virt.Spec) error {
		_, err := d.DiskUse(ctx)
		return err
	}},
	"PutSecret": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.PutSecret(ctx, virt.Secret{UUID: s.ID, Usage: "volume", For: "v", Value: []byte("x")})
	}},
	"DeleteSecret": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		return d.DeleteSecret(ctx, s.ID)
	}},
	"Secrets": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, _ virt.Spec) error {
		_, err := d.Secrets(ctx)
		return err
	}},
	"NICs": {virt.PowerRunning, virt.PowerRunning, func(ctx context.Context, d *fake.Driver, s virt.Spec) error {
		_, err := d.NICs(ctx, s.ID)
		return err
	}},
}

// volume is a disk that the hypervisor reaches over the network.
func volume(target string) virt.Disk {
	return virt.Disk{
		Source: virt.Source{Network: &virt.NetworkSource{Protocol: "nbd", Hosts: []virt.HostPort{{Host: "192.0.2.1"}}}},
		Format: "raw", Target: target, Bus: "virtio",
	}
}

// guestIn makes a guest in a state, or none.
func guestIn(t testing.TB, d *fake.Driver, state virt.PowerState) virt.Spec {
	t.Helper()
	s := newSpec(t)
	if state != virt.PowerNoState {
		ok(t, d.Create(t.Context(), s))
	}
	if state == virt.PowerRunning {
		ok(t, d.Start(t.Context(), s.ID))
	}
	return s
}

// strike plans a fault for a method and calls it with little time.
func strike(t *testing.T, method string, when fake.Moment, do fake.Action) (hv *fake.Hypervisor, d *fake.Driver, s virt.Spec, err error) {
	t.Helper()
	hv = fake.NewHypervisor()
	d = open(t, hv)
	s = guestIn(t, d, methods[method].from)
	in := hv.Inject(fake.Fault{Method: method, When: when, Do: do})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = methods[method].call(ctx, d, s)
	select {
	case <-in.Struck():
	default:
		t.Error("the fault did not strike")
	}
	return hv, d, s, err
}

// inBubble runs a test whose clock goes on only when all that it does waits: a call has its time, however slow the machine is.
func inBubble(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

func TestFaultsAtEveryMethod(t *testing.T) {
	moments := map[string]fake.Moment{"before": fake.Before, "after": fake.After}
	for method, m := range methods {
		for moment, when := range moments {
			want := m.from
			if when == fake.After {
				want = m.to
			}
			t.Run(method+" fails "+moment, inBubble(func(t *testing.T) {
				hv, d, s, err := strike(t, method, when, fake.Fail(virt.ErrBusy))
				if !errors.Is(err, virt.ErrBusy) {
					t.Errorf("error is %v, want ErrBusy", err)
				}
				if got := stateOf(t, hv, s.ID); got != want {
					t.Errorf("state is %v, want %v", got, want)
				}
				if _, err := d.Host(t.Context()); err != nil {
					t.Errorf("the next call: %v", err)
				}
			}))
			t.Run(method+" hangs "+moment, inBubble(func(t *testing.T) {
				hv, _, s, err := strike(t, method, when, fake.Hang)
				if !errors.Is(err, virt.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error is %v, want ErrUnavailable that wraps DeadlineExceeded", err)
				}
				if got := stateOf(t, hv, s.ID); got != want {
					t.Errorf("state is %v, want %v", got, want)
				}
			}))
			t.Run(method+" dies "+moment, inBubble(func(t *testing.T) {
				hv, d, s, err := strike(t, method, when, fake.Die)
				if !errors.Is(err, virt.ErrUnavailable) {
					t.Errorf("error is %v, want ErrUnavailable", err)
				}
				if got := stateOf(t, hv, s.ID); got != want {
					t.Errorf("state is %v, want %v", got, want)
				}
				for later, call := range methods {
					if err := call.call(t.Context(), d, s); !errors.Is(err, virt.ErrUnavailable) {
						t.Errorf("%s on a dead driver: error is %v, want ErrUnavailable", later, err)
					}
				}
				if _, open := <-d.Events(t.Context()); open {
					t.Error("a dead driver sends events")
				}
				if got := stateOf(t, hv, s.ID); got != want {
					t.Errorf("a dead driver changed the state to %v", got)
				}
			}))
		}
	}
}

func TestDeathIsOfOneDriverOnly(t *testing.T) {
	hv := fake.NewHypervisor()
	victim, survivor := open(t, hv), open(t, hv)
	stream := victim.Events(t.Context())
	hv.Inject(fake.Fault{Method: "Create", When: fake.After, Do: fake.Die})
	s := newSpec(t)
	if err := victim.Create(t.Context(), s); !errors.Is(err, virt.ErrUnavailable) {
		t.Fatalf("error is %v, want ErrUnavailable", err)
	}
	for range stream { // it ends
	}
	ok(t, survivor.Start(t.Context(), s.ID))
	if got := stateOf(t, hv, s.ID); got != virt.PowerRunning {
		t.Errorf("state is %v", got)
	}
}

func TestFaultCountsItsCalls(t *testing.T) {
	for name, c := range map[string]struct {
		nth, times int
		want       string // x where the call fails
	}{
		"the first":             {0, 0, "x....."},
		"the first, said":       {1, 1, "x....."},
		"the third":             {3, 0, "..x..."},
		"two from the second":   {2, 2, ".xx..."},
		"all from the fourth":   {4, -1, "...xxx"},
		"all":                   {0, -1, "xxxxxx"},
		"one that is not there": {7, 0, "......"},
	} {
		t.Run(name, func(t *testing.T) {
			d := fake.New(fake.Options{})
			defer func() { _ = d.Close() }()
			d.Hypervisor().Inject(fake.Fault{Method: "Host", Nth: c.nth, Times: c.times, Do: fake.Fail(virt.ErrBusy)})
			got := ""
			for range len(c.want) {
				mark := "."
				if _, err := d.Host(t.Context()); err != nil {
					mark = "x"
				}
				got += mark
			}
			if got != c.want {
				t.Errorf("calls went %s, want %s", got, c.want)
			}
		})
	}
}

func TestFaultIsForOneGuest(t *testing.T) {
	hv := fake.NewHypervisor()
	d := open(t, hv)
	one, two := guestIn(t, d, virt.PowerPaused), guestIn(t, d, virt.PowerPaused)
	in := hv.Inject(fake.Fault{ID: two.ID, Times: -1, Do: fake.Fail(virt.ErrBusy)})
	ok(t, d.Start(t.Context(), one.ID))
	if err := d.Start(t.Context(), two.ID); !errors.Is(err, virt.ErrBusy) {
		t.Errorf("error is %v, want ErrBusy", err)
	}
	in.Remove()
	ok(t, d.Start(t.Context(), two.ID))
	if got := hv.Calls("Start"); got != 3 {
		t.Errorf("%d calls of Start, want 3", got)
	}
	if got := hv.Calls(""); got != 5 {
		t.Errorf("%d calls, want 5", got)
	}
}

func TestFaultPlaysOutsideWorldInTheMiddle(t *testing.T) {
	hv := fake.NewHypervisor()
	d := open(t, hv)
	s := guestIn(t, d, virt.PowerRunning)
	hv.Inject(fake.Fault{Method: "Pause", Do: fake.Pass, OnStrike: func() { ok(t, hv.Crash(s.ID)) }})
	if err := d.Pause(t.Context(), s.ID); !errors.Is(err, virt.ErrInvalidState) {
		t.Errorf("error is %v, want ErrInvalidState", err)
	}
}

func TestFaultForUnknownMethodPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a plan that can never strike was taken")
		}
	}()
	fake.NewHypervisor().Inject(fake.Fault{Method: "create"})
}
