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
	r.walk(step{"attach", (*rig).killedInAttach}, step{"detach", (*rig).killedInDetach}, step{"swap", (*rig).killedInSwap}, step{"extend", (*rig).killedInExtend})
}

// killed kills the agent after each of so many parts of the time that something takes, and starts it again.
func (r *rig) killed(takes time.Duration, begin func() error, then func(n int)) {
	r.t.Logf("unhindered it takes %.1f s", takes.Seconds())
	for n := range kills {
		at := time.After(takes * time.Duration(n) / kills)
		if err := begin(); err != nil {
			r.t.Fatalf("%d/%d: %v", n, kills, err)
		}
		<-at
		r.agent.Kill()
		r.agent.Again()
		then(n)
		if r.t.Failed() {
			r.t.Fatalf("after a kill at %d/%d of %.1f s", n, kills, takes.Seconds())
		}
	}
}

// has says whether the guest has the volume, once that is settled; it must be all there or not at all.
func (r *rig) has(volume, wrote string) bool {
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
	if read := r.guest.Sum(r.guest.Disk(volume)); read != wrote {
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
		records, maps := r.agent.Connected(), maps(r.t)
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

func (r *rig) killedInAttach() {
	takes := timed(func() { r.agent.Attach(r.guest.ID, r.volume) })
	wrote := r.guest.Fill(r.guest.Disk(r.volume))
	r.agent.Detach(r.guest.ID, r.volume)
	there := 0
	r.killed(takes, func() error { return r.agent.TryAttach(r.guest.ID, r.volume) }, func(int) {
		if r.has(r.volume, wrote) {
			there++
			r.agent.Detach(r.guest.ID, r.volume)
			r.nothingLeft(0)
		}
	})
	r.t.Logf("%d of %d were attached by the next agent", there, kills)
}

func (r *rig) killedInDetach() {
	r.agent.Attach(r.guest.ID, r.volume)
	wrote := r.guest.Fill(r.guest.Disk(r.volume))
	takes := timed(func() { r.agent.Detach(r.guest.ID, r.volume) })
	r.agent.Attach(r.guest.ID, r.volume)
	gone := 0
	r.killed(takes, func() error { return r.agent.TryDetach(r.guest.ID, r.volume) }, func(int) {
		if !r.has(r.volume, wrote) {
			gone++
			r.agent.Attach(r.guest.ID, r.volume)
		}
	})
	r.t.Logf("%d of %d were detached by the next agent", gone, kills)
}

// killedInSwap moves what the guest has written to and fro between two volumes.
func (r *rig) killedInSwap() {
	on, to := r.volume, r.agent.Volume(growingGiB, map[string]any{"volume_type": "array"})
	other := to
	wrote := r.guest.Fill(r.guest.Disk(on))
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
	r.killed(takes, func() error { return r.agent.TrySwap(r.guest.ID, on, to) }, func(int) {
		r.agent.Settled(on, "in-use", "available", "error")
		if v := r.agent.Settled(to, "in-use", "available", "error"); v.Status == "in-use" {
			moved++
			on, to = to, on
		}
		if v := r.agent.ShowVolume(to); v.Status != "available" {
			r.t.Errorf("the other volume is %+v", v)
		}
		if !r.has(on, wrote) {
			r.t.Error("the guest has neither of the volumes")
		}
	})
	r.t.Logf("%d of %d were moved by the next agent", moved, kills)
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
	r.killed(takes, grow, func(int) {
		seen()
		r.has(r.volume, wrote)
	})
	r.agent.Detach(r.guest.ID, r.volume)
	r.nothingLeft(0)
}
