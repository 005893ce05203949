package numa

import (
	"math"

	"compute-agent/internal/cpuset"
)

// packing says which free hardware threads of a cell's cores are used.
type packing struct {
	least int  // a core is used when it has so many free threads
	most  int  // threads that are used of each such core
	whole bool // only cores of which every thread is free are used, also for the emulator
}

// anyThread uses every free thread.
var anyThread = packing{least: 1, most: math.MaxInt}

// choosePacking picks the packing under the guest's thread policy; reserve is how many pCPUs the
// emulator gets.
//
// Prefer and require pack whole cores first: the most threads of a core that every used core can give,
// so that sibling vCPUs land on sibling pCPUs. Prefer falls back to any thread. Isolate takes one
// thread of a core of which nothing is in use. On a host with hardware threads that works only
// where all pCPUs may be pinned and shared (vcpu_pin_set): with cpu_dedicated_set Nova cannot keep
// the siblings free and refuses, and so do we.
func choosePacking(host *HostCell, guest *GuestCell, reserve int) (packing, Obstacle) {
	asked := guest.Dedicated.Len() + reserve
	if free := host.freeCount(); asked > free {
		return packing{}, Obstacle{ResourcePCPU, asked, free, "", "the other dedicated CPUs are pinned"}
	}
	threaded := host.HasThreads()
	switch {
	case guest.ThreadPolicy == ThreadsIsolate && threaded && !host.Shared.Equal(host.Dedicated):
		return packing{}, Obstacle{ResourceThreads, asked, 0, "cores", "isolate does not work with cpu_dedicated_set where cores have several threads"}
	case guest.ThreadPolicy == ThreadsIsolate:
		p := packing{least: 1, most: 1, whole: true}
		if cores := p.room(host.Siblings, host.FreePCPUs()); asked > cores {
			return p, Obstacle{ResourceThreads, asked, cores, "cores", "isolate needs cores of which nothing is in use"}
		}
		return p, Obstacle{}
	case guest.ThreadPolicy == ThreadsRequire && !threaded:
		return packing{}, Obstacle{ResourceThreads, asked, 0, "threads", "require needs cores with several threads"}
	}
	return packCores(host, guest, reserve)
}

func packCores(host *HostCell, guest *GuestCell, reserve int) (packing, Obstacle) {
	vcpus, free := guest.Dedicated.Len(), host.FreePCPUs()
	emulatorFits := anyThread.room(host.Siblings, free) >= vcpus+reserve
	least := 1
	if guest.ThreadPolicy == ThreadsRequire {
		least = 2
	}
	best := 0
	for threads := mostThreads(host.Siblings, free); threads >= least; threads-- {
		p := packing{least: threads, most: threads}
		room := p.room(host.Siblings, free)
		if room >= vcpus && emulatorFits {
			return p, Obstacle{}
		}
		best = max(best, room)
	}
	if least == 1 && emulatorFits {
		return anyThread, Obstacle{}
	}
	return packing{}, Obstacle{ResourceThreads, vcpus, best, "threads", "require needs cores of which several threads are free"}
}

// mostThreads is how many free threads the emptiest core has.
func mostThreads(cores []cpuset.Set, free cpuset.Set) int {
	most := 0
	for i := range cores {
		most = max(most, cores[i].IntersectLen(free))
	}
	return most
}

// room is how many vCPUs the packing has room for.
func (p packing) room(cores []cpuset.Set, free cpuset.Set) int {
	n := 0
	for i := range cores {
		n += p.of(cores[i], free)
	}
	return n
}

// of is how many threads of a core the packing uses.
func (p packing) of(core, free cpuset.Set) int {
	n := core.IntersectLen(free)
	if n < p.least || p.whole && n < core.Len() {
		return 0
	}
	return min(n, p.most)
}

// pin puts the vCPUs on free pCPUs of a host cell, filling the cores in order, and sets reserve
// pCPUs aside for the emulator. There is room for them.
func (p packing) pin(host *HostCell, vcpus cpuset.Set, reserve int) (pins []Pin, reserved cpuset.Set) {
	free := host.FreePCPUs()
	pins = make([]Pin, 0, vcpus.Len())
	threads := p.threads(host.Siblings, free, cap(pins))
	for vcpu := range vcpus.All {
		pins = append(pins, Pin{vcpu, threads[len(pins)]})
	}
	if reserve == 0 {
		return pins, reserved
	}
	for _, t := range threads {
		free.Remove(t)
	}
	if !p.whole {
		p = anyThread // the emulator is not under the thread policy
	}
	return pins, cpuset.Of(p.threads(host.Siblings, free, reserve)...)
}

// threads lists the first n pCPUs that the packing uses.
func (p packing) threads(cores []cpuset.Set, free cpuset.Set, n int) []int {
	list := make([]int, 0, n)
	for _, core := range cores {
		left := min(p.of(core, free), n-len(list))
		for t := range core.All {
			if left > 0 && free.Has(t) {
				list = append(list, t)
				left--
			}
		}
	}
	return list
}
