package fake_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"compute-agent/virt"
	"compute-agent/virt/fake"
)

func TestUseOfResourcesFollowsFromTheClock(t *testing.T) {
	measure := func() []virt.Guest {
		hv := fake.NewHypervisor()
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		hv.SetClock(func() time.Time { return now })
		d := open(t, hv)
		s := newSpec(t)
		s.ID, s.Name = "11111111-2222-4333-8444-555555555555", "same"
		s.VCPUs, s.CPU.Cores, s.MemoryMiB = 4, 4, 2048
		ok(t, d.Create(t.Context(), s))
		var seen []virt.Guest
		look := func() {
			g, err := d.Guest(t.Context(), s.ID)
			ok(t, err)
			g.Disks[0].Path = ""
			seen = append(seen, g)
		}
		look()
		ok(t, d.Start(t.Context(), s.ID))
		now = now.Add(time.Minute)
		look()
		ok(t, d.Pause(t.Context(), s.ID))
		now = now.Add(time.Hour)
		look()
		ok(t, d.Unpause(t.Context(), s.ID))
		now = now.Add(time.Minute)
		look()
		ok(t, d.Stop(t.Context(), s.ID, virt.StopOptions{}))
		look()
		return seen
	}
	first := measure()
	if diff := cmp.Diff(first, measure()); diff != "" {
		t.Errorf("the same life used other resources:\n%s", diff)
	}
	fresh, minute, paused, two, stopped := first[0], first[1], first[2], first[3], first[4]
	if fresh.CPUTime != 0 || fresh.Disks[0].ReadBytes != 0 || fresh.ResidentKiB == 0 {
		t.Errorf("a guest whose vCPUs never ran used %+v", fresh)
	}
	if minute.CPUTime < time.Second || minute.CPUTime > 4*time.Minute {
		t.Errorf("four vCPUs used %v of CPU time in a minute", minute.CPUTime)
	}
	if minute.ResidentKiB > minute.BalloonKiB || minute.UnusedKiB > minute.BalloonKiB || minute.BalloonKiB != 2048*1024 {
		t.Errorf("memory is %d KiB, resident %d, unused %d", minute.BalloonKiB, minute.ResidentKiB, minute.UnusedKiB)
	}
	if paused.CPUTime != minute.CPUTime || paused.Disks[0] != minute.Disks[0] {
		t.Errorf("a paused guest went on: %+v, was %+v", paused, minute)
	}
	if two.CPUTime <= minute.CPUTime || two.Disks[0].ReadBytes <= minute.Disks[0].ReadBytes || two.Disks[0].WriteBytes <= minute.Disks[0].WriteBytes {
		t.Errorf("a running guest stood still: %+v, was %+v", two, minute)
	}
	if two.Disks[0].CapacityBytes != 1<<30 {
		t.Errorf("capacity is %d, want what the image says", two.Disks[0].CapacityBytes)
	}
	if stopped.CPUTime != 0 || stopped.ResidentKiB != 0 {
		t.Errorf("a stopped guest uses %+v", stopped)
	}
}

func TestGuestWritesItsConsole(t *testing.T) {
	d := fake.New(fake.Options{})
	defer func() { _ = d.Close() }()
	s := newSpec(t)
	ok(t, d.Create(t.Context(), s))
	for range 2 {
		ok(t, d.Start(t.Context(), s.ID))
		ok(t, d.Pause(t.Context(), s.ID))
		ok(t, d.Unpause(t.Context(), s.ID))
		ok(t, d.Stop(t.Context(), s.ID, virt.StopOptions{}))
	}
	log, err := d.ConsoleLog(t.Context(), s.ID, 1<<20)
	ok(t, err)
	line := "fake guest " + s.Name + " started\n"
	if string(log) != line+line {
		t.Errorf("console log is %q, want one line for each of 2 boots", log)
	}
}

func TestSlowReaderIsToldToListTheGuests(t *testing.T) {
	d := fake.New(fake.Options{})
	defer func() { _ = d.Close() }()
	s := guestIn(t, d, virt.PowerRunning)
	events := d.Events(t.Context())
	for range 3000 {
		ok(t, d.Pause(t.Context(), s.ID))
		ok(t, d.Unpause(t.Context(), s.ID))
	}
	n := 0
	for e := range events {
		if e.Kind == virt.EventConnectionBack {
			break
		}
		n++
	}
	if n > 4097 {
		t.Errorf("%d events came before the word that some were lost", n)
	}
}

func TestOutsideWorldNeedsAGuestInTheRightState(t *testing.T) {
	hv := fake.NewHypervisor()
	d := open(t, hv)
	s := guestIn(t, d, virt.PowerRunning)
	ok(t, d.Stop(t.Context(), s.ID, virt.StopOptions{}))
	for name, act := range map[string]func(string) error{
		"Crash": hv.Crash, "Panic": hv.Panic, "GuestShutdown": hv.GuestShutdown, "GuestSleep": hv.GuestSleep,
		"GuestWake": hv.GuestWake, "IOError": hv.IOError, "PauseByHand": hv.PauseByHand, "DestroyByHand": hv.DestroyByHand,
	} {
		if err := act(s.ID); err == nil {
			t.Errorf("%s of a stopped guest succeeded", name)
		}
		if err := act("no such guest"); err == nil {
			t.Errorf("%s of no guest succeeded", name)
		}
	}
}

func TestOutsideWorld(t *testing.T) {
	for name, c := range map[string]struct {
		act   func(hv *fake.Hypervisor, id string) error
		event virt.EventKind
		state virt.PowerState
		why   string
	}{
		"panic":      {(*fake.Hypervisor).Panic, virt.EventPanicked, virt.PowerCrashed, "panicked"},
		"shutdown":   {(*fake.Hypervisor).GuestShutdown, virt.EventStopped, virt.PowerShutdown, "shutdown"},
		"sleep":      {(*fake.Hypervisor).GuestSleep, virt.EventSuspended, virt.PowerSuspended, "guest suspended"},
		"disk error": {(*fake.Hypervisor).IOError, virt.EventPaused, virt.PowerPaused, "I/O error"},
		"suspend":    {(*fake.Hypervisor).PauseByHand, virt.EventPaused, virt.PowerPaused, "paused"},
	} {
		t.Run(name, func(t *testing.T) {
			hv := fake.NewHypervisor()
			d := open(t, hv)
			s := guestIn(t, d, virt.PowerRunning)
			events := d.Events(t.Context())
			ok(t, c.act(hv, s.ID))
			if e := <-events; e.Kind != c.event || e.ID != s.ID || e.Reason != c.why {
				t.Errorf("event is %+v, want %v because of %s", e, c.event, c.why)
			}
			g, err := d.Guest(t.Context(), s.ID)
			ok(t, err)
			if g.State != c.state || g.Reason != c.why {
				t.Errorf("state is %v (%s), want %v (%s)", g.State, g.Reason, c.state, c.why)
			}
		})
	}
}

func TestGuestStartsAfterPanicAndWakesFromSleep(t *testing.T) {
	hv := fake.NewHypervisor()
	d := open(t, hv)
	s := guestIn(t, d, virt.PowerRunning)
	ok(t, hv.Panic(s.ID))
	ok(t, d.Start(t.Context(), s.ID))
	ok(t, hv.GuestSleep(s.ID))
	ok(t, hv.GuestWake(s.ID))
	if got := stateOf(t, hv, s.ID); got != virt.PowerRunning {
		t.Errorf("state is %v", got)
	}
}

func BenchmarkGuests1000(b *testing.B) {
	d := fake.New(fake.Options{MemoryMiB: 1 << 20})
	defer func() { _ = d.Close() }()
	for i := range 1000 {
		s := newSpec(b)
		s.Name = fmt.Sprintf("guest-%d", i)
		ok(b, d.Create(b.Context(), s))
		ok(b, d.Start(b.Context(), s.ID))
	}
	for b.Loop() {
		if all, err := d.Guests(b.Context()); err != nil || len(all) != 1000 {
			b.Fatal(len(all), err)
		}
	}
}
