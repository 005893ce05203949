//go:build lab

package storage

import (
	"path/filepath"
	"testing"
	"time"
)

// kills is how often the agent is killed in each operation.
const kills = 12

// TestAgentKilled kills the agent in the middle of operations, at later and later times: the next agent ends them or takes them back, the guest's data is good, and
// nothing is left.
func TestAgentKilled(t *testing.T) {
	i := newInitiator(t)
	startMultipathd(t)
	a := iscsiArray(t, "killed", i.name, size{growingGiB + kills + 2, growing})
	a.luns[0].SizeGiB = growingGiB + kills + 1
	r := newRig(t, a, "volume_use_multipath: true")
	r.walk(step{"attach and detach", (*rig).killedInAttachAndDetach}, step{"swap", (*rig).killedInSwap}, step{"extend", (*rig).killedInExtend})
}

// killed kills the agent when the nth part of the time that something takes is over, and starts it again.
func (r *rig) killed(n int, takes time.Duration, begin func() error) {
	r.t.Helper()
	at := time.After(takes * time.Duration(n) / kills)
	if err := begin(); err != nil {
		r.t.Fatalf("%d/%d: %v", n, kills, err)
	}
	<-at
	r.agent.Kill()
	r.agent.Again()
}

// passed ends the test when something was wrong after a kill.
func (r *rig) passed(n int, what string, takes time.Duration) {
	r.t.Helper()
	if r.t.Failed() {
		r.t.Fatalf("after a kill at %d/%d of %.1f s of %s", n, kills, takes.Seconds(), what)
	}
}

// has says whether the guest has the volume, once that is settled; it must be all there or not at all. Its disk is found by the volume where no name is given:
// after a swap it has the serial number of the volume before, for as long as the guest runs.
func (r *rig) has(volume, disk, wrote string) bool {
	r.t.Helper()
	v := r.agent.Settled(volume, "in-use", "available", "error", "error_extending")
	switch {
	case v.Status == "available":
		r.nothingLeft(patience)
		return false
	case !v.Of(r.guest.ID):
		r.t.Errorf("the volume is %+v", v)
		return false
	}
	r.one(patience)
	if disk == "" {
		disk = r.guest.Disk(volume)
	}
	if read := r.guest.Sum(disk); read != wrote {
		r.t.Errorf("the guest reads %s of volume %s, wrote %s", read, volume, wrote)
	}
	return true
}

// one says that the host has the paths and the record of one volume, and no more.
func (r *rig) one(limit time.Duration) {
	r.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(time.Second) {
		paths, err := filepath.Glob("/sys/block/sd*")
		if err != nil {
			r.t.Fatal(err)
		}
		records, maps := r.agent.Connected(), multipathMaps(r.t)
		if len(paths) == 2 && len(records) == 1 && len(maps) == 1 {
			return
		}
		if time.Now().After(end) {
			r.t.Errorf("the host has paths %q, maps %q, records %q of one volume", paths, maps, records)
			return
		}
	}
}

// timed is how long something takes.
func timed(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}

func (r *rig) killedInAttachAndDetach() {
	attaching := timed(func() { r.agent.Attach(r.guest.ID, r.volume) })
	wrote := r.guest.Fill(r.guest.Disk(r.volume))
	detaching := timed(func() { r.agent.Detach(r.guest.ID, r.volume) })
	there, gone := 0, 0
	for n := range kills {
		r.killed(n, attaching, func() error { return r.agent.TryAttach(r.guest.ID, r.volume) })
		if r.has(r.volume, "", wrote) {
			there++
		} else {
			r.agent.Attach(r.guest.ID, r.volume)
		}
		r.passed(n, "attach", attaching)
		r.killed(n, detaching, func() error { return r.agent.TryDetach(r.guest.ID, r.volume) })
		if r.has(r.volume, "", wrote) {
			r.agent.Detach(r.guest.ID, r.volume)
		} else {
			gone++
		}
		r.passed(n, "detach", detaching)
	}
	r.t.Logf("attach takes %.1f s, detach %.1f s; the agent that came after the kill ended %d attachments of %d and %d detachments", attaching.Seconds(), detaching.Seconds(),
		there, kills, gone)
}

// killedInSwap moves what the guest has written to and fro between two volumes.
func (r *rig) killedInSwap() {
	r.agent.Attach(r.guest.ID, r.volume)
	on, to := r.volume, r.agent.Volume(growingGiB, map[string]any{"volume_type": "array"})
	other, disk := to, r.guest.Disk(on)
	swap := func() {
		if err := r.agent.TrySwap(r.guest.ID, on, to); err != nil {
			r.t.Fatal(err)
		}
		r.agent.Settled(to, "in-use", "available", "error")
		r.agent.Settled(on, "in-use", "available", "error")
	}
	takes := timed(swap)
	on, to = to, on
	moved := 0
	for n := range kills {
		wrote := r.guest.Fill(disk)
		r.killed(n, takes, func() error { return r.agent.TrySwap(r.guest.ID, on, to) })
		r.agent.Settled(on, "in-use", "available", "error")
		if v := r.agent.Settled(to, "in-use", "available", "error"); v.Status == "in-use" {
			moved++
			on, to = to, on
		}
		if v := r.agent.ShowVolume(to); v.Status != "available" {
			r.t.Errorf("the other volume is %+v", v)
		}
		if !r.has(on, disk, wrote) {
			r.t.Error("the guest has neither of the volumes")
		}
		r.passed(n, "swap", takes)
	}
	r.t.Logf("a swap takes %.1f s; the agent that came after the kill ended %d of %d", takes.Seconds(), moved, kills)
	r.agent.Detach(r.guest.ID, on)
	r.nothingLeft(0)
	r.agent.DeleteVolume(other)
	r.agent.Attach(r.guest.ID, r.volume)
}

func (r *rig) killedInExtend() {
	disk := r.guest.Disk(r.volume)
	wrote := r.guest.Fill(disk)
	gib, bytes := growingGiB, int64(growing)
	grow := func() error {
		gib, bytes = gib+1, bytes+mib
		r.array.grow(r.t, bytes)
		return r.agent.TryExtend(r.volume, gib)
	}
	seen := func() {
		if v := r.agent.Settled(r.volume, "in-use", "error_extending"); v.Status != "in-use" || v.Size != gib {
			r.t.Errorf("the volume is %+v, not of %d GiB", v, gib)
		}
		r.guest.Await("[ $(cat /sys/block/" + disk + "/size) = " + sectors(bytes) + " ]")
	}
	takes := timed(func() {
		if err := grow(); err != nil {
			r.t.Fatal(err)
		}
		seen()
	})
	for n := range kills {
		r.killed(n, takes, grow)
		seen()
		r.has(r.volume, "", wrote)
		r.passed(n, "extend", takes)
	}
	r.t.Logf("an extension takes %.1f s; all were ended", takes.Seconds())
	r.agent.Detach(r.guest.ID, r.volume)
	r.nothingLeft(0)
}
