package virttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"compute-agent/virt"
)

var nicPromises = group{"NICs", []promise{
	{"PlugNIC gives a running guest the NIC, live and in its definition", plugRunning, nicPlugger},
	{"PlugNIC gives a paused or just created guest the NIC", plugPaused, nicPlugger},
	{"PlugNIC gives a stopped guest the NIC in its definition only, and it starts with it", plugStopped, nicPlugger},
	{"a NIC that was plugged in stays over a stop and a start", plugStays, nicPlugger},
	{"a NIC that is plugged in is the last", plugLast, nicPlugger},
	{"PlugNIC: ErrInvalid when the NIC contradicts itself", plugInvalid, nicPlugger},
	{"PlugNIC: ErrExists when the guest has a NIC of this MAC, which stays as it is", plugExists, nicPlugger},
	{"PlugNIC: after an error the guest has of the NIC what it had before", plugFails, nicPlugger},
	{"PlugNIC makes half a NIC whole", plugHalf, unplugsByHand},
	{"PlugNIC: ErrNotFound without the guest", missingGuest(func(e *env, id string) error { return e.plugger().PlugNIC(e.within(), id, nicNumber(1)) }), nicPlugger},
	{"PlugNIC: of concurrent calls for one MAC exactly one succeeds", plugConcurrent, nicPlugger},
	{"UnplugNIC takes the NIC from a running guest that lets go of it, and EventDeviceRemoved is sent", unplugRunning, bootablePlugger},
	{"UnplugNIC takes the NIC from a stopped guest", unplugStopped, nicPlugger},
	{"UnplugNIC: the case of the MAC does not matter", unplugCase, nicPlugger},
	{"UnplugNIC: ErrBusy when Patience is over, and the guest has the NIC still", unplugBusy, nicPlugger},
	{"UnplugNIC: ErrInvalidState when the guest is paused, which has the NIC still", unplugPaused, nicPlugger},
	{"UnplugNIC: when ctx ends the guest has the NIC still", unplugLetGo, nicPlugger},
	{"UnplugNIC: a guest that ends meanwhile has let go", unplugEnds, crashingPlugger},
	{"UnplugNIC takes away half a NIC", unplugHalf, unplugsByHand},
	{"UnplugNIC: without such a NIC it succeeds and changes nothing", unplugMissing, nicPlugger},
	{"UnplugNIC: ErrNotFound without the guest", missingGuest(func(e *env, id string) error {
		return e.plugger().UnplugNIC(e.within(), id, nicNumber(1).MAC, virt.UnplugOptions{})
	}), nicPlugger},
	{"NICs: ErrNotFound without the guest", missingGuest(func(e *env, id string) error { _, err := e.plugger().NICs(e.within(), id); return err }), nicPlugger},
}}

func (e *env) plugger() virt.NICPlugger { return e.Driver.(virt.NICPlugger) }

// nicNumber is one of a few NICs whose host side is the hypervisor's.
func nicNumber(n int) virt.NIC {
	return virt.NIC{MAC: fmt.Sprintf("fa:16:3e:00:10:%02x", n), Model: "virtio", Attach: virt.Attachment{Type: "ethernet"}}
}

// wired is a Spec with the first of the NICs.
func wired(s virt.Spec) virt.Spec {
	s.NICs = []virt.NIC{nicNumber(1)}
	return s
}

func (e *env) plug(id string, n int) {
	e.Helper()
	e.ok(e.plugger().PlugNIC(e.within(), id, nicNumber(n)))
}

// has checks which NICs a guest has: each is a number, and what of it is there: "1 live+defined".
func (e *env) has(id string, want ...string) {
	e.Helper()
	list, err := e.plugger().NICs(e.within(), id)
	e.ok(err)
	var got []string
	for _, n := range list {
		var parts []string
		if n.Live {
			parts = append(parts, "live")
		}
		if n.Defined {
			parts = append(parts, "defined")
		}
		got = append(got, strings.TrimPrefix(n.MAC, "fa:16:3e:00:10:0")+" "+strings.Join(parts, "+"))
	}
	if !slices.Equal(got, want) {
		e.Errorf("the guest has NICs %q, want %q", got, want)
	}
}

func plugRunning(e *env) {
	s := e.running()
	e.plug(s.ID, 1)
	e.has(s.ID, "1 live+defined")
	e.state(s.ID, virt.PowerRunning)
}

func plugPaused(e *env) {
	s := e.created()
	e.plug(s.ID, 1)
	e.has(s.ID, "1 live+defined")
	e.state(s.ID, virt.PowerPaused)
}

func plugStopped(e *env) {
	s := e.stopped()
	e.plug(s.ID, 1)
	e.has(s.ID, "1 defined")
	e.state(s.ID, virt.PowerShutdown)
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.has(s.ID, "1 live+defined")
}

func plugStays(e *env) {
	s := e.running()
	e.plug(s.ID, 1)
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	e.has(s.ID, "1 defined")
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.has(s.ID, "1 live+defined")
}

func plugLast(e *env) {
	s := e.create(wired(e.spec()))
	e.plug(s.ID, 3)
	e.plug(s.ID, 2)
	e.has(s.ID, "1 live+defined", "3 live+defined", "2 live+defined")
}

func plugInvalid(e *env) {
	s := e.created()
	for _, spoil := range []func(*virt.NIC){
		func(n *virt.NIC) { n.MAC = "01:00:5e:00:00:01" }, // of a group
		func(n *virt.NIC) { n.MAC = "fa:16:3e:00:10:01'/><x a='" },
		func(n *virt.NIC) { n.Attach.Type = "" },
		func(n *virt.NIC) { n.Attach = virt.Attachment{Type: "bridge"} },
		func(n *virt.NIC) { n.Attach.Existing = true }, // without a name
		func(n *virt.NIC) { n.Target = "a name with spaces" },
		func(n *virt.NIC) { n.MTU = 10 },
		func(n *virt.NIC) { n.Alias = "net0" },
	} {
		n := nicNumber(1)
		spoil(&n)
		if err := e.plugger().PlugNIC(e.within(), s.ID, n); !errors.Is(err, virt.ErrInvalid) {
			e.Errorf("NIC %+v: error is %v, want ErrInvalid", n, err)
		}
	}
	e.has(s.ID)
}

func plugExists(e *env) {
	for _, s := range []virt.Spec{e.create(wired(e.spec())), e.stopped()} {
		if len(s.NICs) == 0 {
			e.plug(s.ID, 1)
		}
		before, err := e.plugger().NICs(e.within(), s.ID)
		e.ok(err)
		n := nicNumber(1)
		n.Model, n.MAC = "e1000", strings.ToUpper(n.MAC)
		e.fails(e.plugger().PlugNIC(e.within(), s.ID, n), virt.ErrExists)
		after, err := e.plugger().NICs(e.within(), s.ID)
		e.ok(err)
		if !slices.Equal(before, after) {
			e.Errorf("the guest had NICs %+v, has %+v", before, after)
		}
	}
}

func plugFails(e *env) {
	s := e.create(wired(e.spec()))
	n := nicNumber(2)
	n.Model = "nosuchmodel"
	e.fails(e.plugger().PlugNIC(e.within(), s.ID, n), virt.ErrUnsupported)
	e.has(s.ID, "1 live+defined")
	e.plug(s.ID, 2)
}

func plugHalf(e *env) {
	s := e.create(wired(e.spec()))
	e.UnplugByHand(e, s.ID, nicNumber(1).MAC)
	e.has(s.ID, "1 live")
	e.plug(s.ID, 1)
	e.has(s.ID, "1 live+defined")
}

func plugConcurrent(e *env) {
	s := e.created()
	succeeded := 0
	for _, err := range together(4, func(int) error { return e.plugger().PlugNIC(e.within(), s.ID, nicNumber(1)) }) {
		if err == nil {
			succeeded++
		} else {
			e.fails(err, virt.ErrExists)
		}
	}
	if succeeded != 1 {
		e.Errorf("%d calls succeeded, want 1", succeeded)
	}
	e.has(s.ID, "1 live+defined")
}

func unplugRunning(e *env) {
	s := e.create(e.adopt(wired(e.BootableSpec(e))))
	e.ok(e.Driver.Start(e.within(), s.ID))
	w := e.watch(s.ID)
	w.expect(virt.EventResumed)
	e.plug(s.ID, 2)
	ctx, cancel := context.WithTimeout(e.Context(), 2*e.Patience)
	defer cancel()
	for _, n := range []int{2, 1} { // one that was plugged in, one that it was made with
		e.ok(e.plugger().UnplugNIC(ctx, s.ID, nicNumber(n).MAC, virt.UnplugOptions{Patience: anHour, Retry: time.Second}))
		if ev := w.expect(virt.EventDeviceRemoved); ev.Device == "" {
			e.Error("the event names no device")
		}
	}
	e.has(s.ID)
	e.state(s.ID, virt.PowerRunning)
}

func (e *env) unplug(id, mac string) error {
	return e.plugger().UnplugNIC(e.within(), id, mac, virt.UnplugOptions{Patience: anHour, Retry: time.Second})
}

func unplugStopped(e *env) {
	s := e.stopped()
	e.plug(s.ID, 1)
	e.plug(s.ID, 2)
	e.ok(e.unplug(s.ID, nicNumber(1).MAC))
	e.has(s.ID, "2 defined")
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.has(s.ID, "2 live+defined")
}

func unplugCase(e *env) {
	s := e.stopped()
	e.plug(s.ID, 1)
	e.ok(e.unplug(s.ID, strings.ToUpper(nicNumber(1).MAC)))
	e.has(s.ID)
}

func unplugBusy(e *env) {
	s := e.create(wired(e.spec()))
	e.ok(e.Driver.Start(e.within(), s.ID))
	const patience = 300 * time.Millisecond
	err := e.plugger().UnplugNIC(e.within(), s.ID, nicNumber(1).MAC, virt.UnplugOptions{Patience: patience, Retry: patience / 3})
	e.fails(err, virt.ErrBusy)
	e.has(s.ID, "1 live+defined")
}

func unplugPaused(e *env) {
	s := e.create(wired(e.spec()))
	e.fails(e.unplug(s.ID, nicNumber(1).MAC), virt.ErrInvalidState)
	e.has(s.ID, "1 live+defined")
}

func unplugLetGo(e *env) {
	s := e.create(wired(e.spec()))
	e.ok(e.Driver.Start(e.within(), s.ID))
	ctx, cancel := context.WithTimeout(e.Context(), 300*time.Millisecond)
	defer cancel()
	err := e.plugger().UnplugNIC(ctx, s.ID, nicNumber(1).MAC, virt.UnplugOptions{Patience: anHour})
	e.fails(err, virt.ErrUnavailable)
	e.fails(err, context.DeadlineExceeded)
	e.has(s.ID, "1 live+defined")
}

func unplugEnds(e *env) {
	s := e.create(wired(e.spec()))
	e.ok(e.Driver.Start(e.within(), s.ID))
	done := make(chan error, 1)
	go func() { done <- e.unplug(s.ID, nicNumber(1).MAC) }()
	e.CrashGuest(e, s.ID)
	e.ok(<-done)
	e.has(s.ID)
	e.state(s.ID, virt.PowerShutdown)
}

func unplugHalf(e *env) {
	s := e.create(e.adopt(wired(e.BootableSpec(e))))
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.UnplugByHand(e, s.ID, nicNumber(1).MAC)
	ctx, cancel := context.WithTimeout(e.Context(), 2*e.Patience)
	defer cancel()
	e.ok(e.plugger().UnplugNIC(ctx, s.ID, nicNumber(1).MAC, virt.UnplugOptions{Patience: anHour, Retry: time.Second}))
	e.has(s.ID)
}

func unplugMissing(e *env) {
	s := e.create(wired(e.spec()))
	w := e.watch(s.ID)
	for _, mac := range []string{nicNumber(2).MAC, "", "no MAC", "'\"<&>\x00\xff"} {
		e.ok(e.unplug(s.ID, mac))
	}
	e.has(s.ID, "1 live+defined")
	e.ok(e.Driver.Destroy(e.within(), s.ID))
	w.expect(virt.EventStopped, virt.EventUndefined)
}
