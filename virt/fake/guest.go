package fake

import (
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"compute-agent/virt"
)

// guest is one guest; Hypervisor.mu guards it.
type guest struct {
	spec    virt.Spec
	machine string               // canonical, of the hypervisor that made it
	nics    []virt.NIC           // those that its process has
	disks   []virt.Disk          // those that its process has
	sizes   map[string]diskSize  // of all its disks, by target
	copies  map[string]*diskCopy // under way, by target
	later   map[string]diskSize  // of disks that have a larger source, from the next start on; by target
	state   virt.PowerState
	reason  string
	// endpoints are its consoles once somebody asked for them; they end with its process.
	endpoints []*endpoint
	// transient: the definition was removed while it ran; it is gone when it stops.
	transient bool
	changed   chan struct{} // closed and replaced at each change of state

	booted bool          // an instruction has run since the process began
	ran    time.Duration // how long the vCPUs have run since then, but for the present run
	since  time.Time     // when the present run began
}

// alive says whether the guest's process exists.
func (g *guest) alive() bool {
	return g.state == virt.PowerRunning || g.state == virt.PowerPaused || g.state == virt.PowerSuspended
}

// locks says whether the guest's process has a drive's file open so that no other can.
func (g *guest) locks(drive virt.Disk) bool {
	for _, c := range g.copies {
		if c.to.Path() == drive.Path() && c.to.Path() != "" {
			return true
		}
	}
	return slices.ContainsFunc(g.disks, func(d virt.Disk) bool { return d.Path() == drive.Path() && d.Path() != "" && excludes(d, drive) })
}

// excludes says whether QEMU's locks keep two drives from having one file: one writes it, and one does not
// share it.
func excludes(a, b virt.Disk) bool {
	switch {
	case a.Removable(), b.Removable(), a.ReadOnly && b.ReadOnly:
		return false
	}
	return !a.Shared || !b.Shared
}

// announce wakes those who wait for the guest to change.
func (g *guest) announce() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// enter puts the guest into a state at a time and keeps the account of its running time.
func (g *guest) enter(state virt.PowerState, reason string, now time.Time) {
	wasAlive := g.alive()
	if g.state == virt.PowerRunning {
		g.ran += now.Sub(g.since)
	}
	g.state, g.reason = state, reason
	if !wasAlive {
		g.ran, g.booted = 0, false
		g.nics, g.disks = slices.Clone(g.spec.NICs), g.spec.Clone().Disks
	}
	if !g.alive() {
		g.hangUp()
		g.nics, g.disks = nil, nil
		clear(g.copies)
		maps.Copy(g.sizes, g.later)
		clear(g.later)
	}
	if state == virt.PowerRunning {
		g.since, g.booted = now, true
	}
	g.announce()
}

// character is a number from 0 to 99 that is the guest's own: what it uses follows from it.
func (g *guest) character() uint64 {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(g.spec.ID))
	return uint64(sum.Sum32() % 100)
}

// bootTime is the CPU time that a guest has used when it has just begun to run.
const bootTime = 800 * time.Millisecond

// report describes the guest as virt.Guest. What it uses is a function of its ID, its Spec and how
// long it has run: a vCPU is 3 to 23 % busy, 20 to 60 % of the memory is resident, and it reads
// and writes some kilobytes a second.
func (g *guest) report(now time.Time) virt.Guest {
	r := virt.Guest{
		ID: g.spec.ID, Name: g.spec.Name, State: g.state, Reason: g.reason,
		VCPUs: g.spec.VCPUs, MemoryMiB: g.spec.MemoryMiB,
	}
	ran := g.ran
	if g.state == virt.PowerRunning {
		ran += now.Sub(g.since)
	}
	if g.alive() {
		memory := g.spec.MemoryMiB * 1024
		r.BalloonKiB = memory
		r.ResidentKiB = memory/100*(20+g.character()*2/5) + 20*1024
		if g.spec.Balloon.Period > 0 && g.booted {
			r.UnusedKiB = memory / 100 * (70 - g.character()*2/5)
		}
		if g.booted {
			busy := ran * time.Duration(g.spec.VCPUs) / 500 * time.Duration(15+g.character())
			r.CPUTime = bootTime + busy
		}
	}
	disks := g.spec.Disks
	if g.alive() {
		disks = g.disks
	}
	for _, d := range disks {
		r.Disks = append(r.Disks, g.diskStats(d, g.sizes[d.Target], ran))
	}
	return r
}

// diskStats are the figures of one disk after the guest ran for a time.
func (g *guest) diskStats(d virt.Disk, size diskSize, ran time.Duration) virt.DiskStats {
	stats := virt.DiskStats{
		Target: d.Target, Path: d.Path(),
		CapacityBytes: size.capacity, AllocatedBytes: size.allocated,
	}
	if !g.alive() || !g.booted {
		return stats
	}
	seconds := uint64(ran / time.Second)
	const block = 4096
	stats.ReadRequests = 500 + seconds*(1+g.character()/20)
	stats.ReadBytes = stats.ReadRequests * block
	if !d.Removable() {
		stats.WriteRequests = 50 + seconds*(1+g.character()/30)
		stats.WriteBytes = stats.WriteRequests * block
	}
	return stats
}
