package virttest

import (
	"errors"
	"os"
	"strings"
	"testing"

	"compute-agent/virt"
)

var guestPromises = group{"Guest", []promise{
	{"returns one guest as it is now, with its use of resources", guestReports, always},
	{"ErrNotFound if there is none", missingGuest(func(e *env, id string) error {
		_, err := e.Driver.Guest(e.within(), id)
		return err
	}), always},
	{"Guests returns every guest with its use of resources", guestsReport, always},
	{"Guests returns also those that this agent did not make", guestsOfOthers, always},
	{"Guests has each guest once and all states", guestsOnce, always},
}}

// usesResources checks the figures of a running guest.
func usesResources(t testing.TB, g virt.Guest, s virt.Spec) {
	t.Helper()
	if g.ID != s.ID || g.Name != s.Name || g.State != virt.PowerRunning || g.VCPUs != s.VCPUs || g.MemoryMiB != s.MemoryMiB {
		t.Errorf("guest is %+v, made of %+v", g, s)
	}
	if g.CPUTime <= 0 || g.ResidentKiB == 0 || g.BalloonKiB == 0 {
		t.Errorf("a running guest uses %v of CPU time, %d KiB resident, %d KiB balloon", g.CPUTime, g.ResidentKiB, g.BalloonKiB)
	}
	if len(g.Disks) != len(s.Disks) {
		t.Fatalf("%d disks in the report, %d in the Spec", len(g.Disks), len(s.Disks))
	}
	for i, d := range g.Disks {
		if d.Target != s.Disks[i].Target || d.Path != s.Disks[i].Source.File || d.CapacityBytes == 0 {
			t.Errorf("disk %d is %+v, made of %+v", i, d, s.Disks[i])
		}
	}
}

// measured looks until the guest's figures are there: a hypervisor leaves them out while another call holds the guest, also one of its own.
func (e *env) measured(look func() virt.Guest) virt.Guest {
	e.Helper()
	ctx := e.within()
	for {
		if g := look(); g.ResidentKiB > 0 && len(g.Disks) > 0 && g.Disks[0].CapacityBytes > 0 || ctx.Err() != nil {
			return g
		}
	}
}

func guestReports(e *env) {
	s := e.running()
	usesResources(e, e.measured(func() virt.Guest { return e.guest(s.ID) }), s)
}

func guestsReport(e *env) {
	s := e.running()
	usesResources(e, e.measured(func() virt.Guest {
		g, found := e.listed(e.Driver, s.ID)
		if !found {
			e.Fatal("the guest is not in the list")
		}
		return g
	}), s)
}

func guestsOfOthers(e *env) {
	s := e.created()
	g, found := e.listed(e.Reopen(e), s.ID)
	if !found || g.Name != s.Name || g.State != virt.PowerPaused {
		e.Errorf("another driver's guest: listed %v, %+v", found, g)
	}
}

func guestsOnce(e *env) {
	want := map[string]virt.PowerState{
		e.created().ID: virt.PowerPaused,
		e.running().ID: virt.PowerRunning,
		e.stopped().ID: virt.PowerShutdown,
	}
	all, err := e.Driver.Guests(e.within())
	e.ok(err)
	seen := map[string]int{}
	for _, g := range all {
		seen[g.ID]++
		if state, ours := want[g.ID]; ours && g.State != state {
			e.Errorf("a guest is listed as %v, want %v", g.State, state)
		}
	}
	for id := range want {
		if seen[id] != 1 {
			e.Errorf("guest %s is listed %d times", id, seen[id])
		}
	}
}

var consolePromises = group{"ConsoleLog", []promise{
	{"returns at most limit bytes from the end of the guest's console output", consoleTail, logger},
	{"returns output across rotated files", consoleRotated, logger},
	{"a guest that has written nothing yet has an empty log", consoleEmpty, logger},
	{"returns what the guest wrote as it is", consoleHostile, logger},
	{"ErrNotFound if there is no such guest", missingGuest(func(e *env, id string) error {
		_, err := e.console(id, 100)
		return err
	}), logger},
	{"ErrUnsupported if it was made without a console log", consoleNone, logger},
}}

func (e *env) console(id string, limit int) ([]byte, error) {
	return e.Driver.(virt.ConsoleLogger).ConsoleLog(e.within(), id, limit)
}

// wrote stops a guest and gives it this console output.
func (e *env) wrote(text string) virt.Spec {
	e.Helper()
	s := e.stopped()
	e.ok(os.WriteFile(s.ConsoleLog(), []byte(text), 0o600))
	return s
}

func (e *env) reads(id string, limit int, want string) {
	e.Helper()
	got, err := e.console(id, limit)
	e.ok(err)
	if string(got) != want {
		e.Errorf("the last %d bytes are %.200q, want %.200q", limit, got, want)
	}
}

func consoleTail(e *env) {
	s := e.wrote("0123456789")
	for limit, want := range map[int]string{0: "", 1: "9", 4: "6789", 10: "0123456789", 11: "0123456789", 1 << 30: "0123456789"} {
		e.reads(s.ID, limit, want)
	}
	e.reads(s.ID, -1, "")
}

func consoleRotated(e *env) {
	s := e.wrote("new")
	for suffix, text := range map[string]string{".0": "older ", ".1": "oldest "} {
		e.ok(os.WriteFile(s.ConsoleLog()+suffix, []byte(text), 0o600))
		e.Cleanup(func() { _ = os.Remove(s.ConsoleLog() + suffix) })
	}
	e.reads(s.ID, 3, "new")
	e.reads(s.ID, 6, "er new")
	e.reads(s.ID, 100, "oldest older new")
}

func consoleEmpty(e *env) {
	s := e.created()
	e.reads(s.ID, 100, "")
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	if err := os.Remove(s.ConsoleLog()); err != nil && !errors.Is(err, os.ErrNotExist) {
		e.Fatal(err)
	}
	e.reads(s.ID, 100, "")
}

func consoleHostile(e *env) {
	const text = "\x1b]0;title\x07\x00\xff<b>&\r\n"
	e.reads(e.wrote(strings.Repeat(text, 5)).ID, 5*len(text), strings.Repeat(text, 5))
}

func consoleNone(e *env) {
	s := e.spec()
	s.Serial = nil
	e.ok(e.Driver.Create(e.within(), s))
	_, err := e.console(s.ID, 100)
	e.fails(err, virt.ErrUnsupported)
}

var machinePromises = group{"Machine", []promise{
	{"returns the guest's machine type by its canonical name", machineCanonical, machines},
	{"ErrNotFound if there is none", missingGuest(func(e *env, id string) error {
		_, err := e.machine(id)
		return err
	}), machines},
}}

func (e *env) machine(id string) (string, error) {
	return e.Driver.(virt.MachineTeller).Machine(e.within(), id)
}

func machineCanonical(e *env) {
	host, err := e.Driver.Host(e.within())
	e.ok(err)
	s := e.spec()
	for _, m := range host.Machines {
		if m.Name == host.CanonicalMachine(s.Arch, s.Machine) && len(m.Aliases) > 0 {
			s.Machine = m.Aliases[0]
		}
	}
	e.create(s)
	for _, stop := range []bool{false, true} {
		if stop {
			e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
		}
		got, err := e.machine(s.ID)
		e.ok(err)
		if want := host.CanonicalMachine(s.Arch, s.Machine); got != want {
			e.Errorf("the guest was made as %s and is %q, want %q", s.Machine, got, want)
		}
	}
}
