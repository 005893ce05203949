package numa

import "compute-agent/internal/cpuset"

// pinCell puts the dedicated vCPUs of a guest cell on free pCPUs of a host cell, and sets
// reserve pCPUs aside for the emulator. ok is false when they do not fit under the guest's
// thread policy.
//
// Prefer and require pack whole cores first: the most threads of a core that every used core can give,
// so that sibling vCPUs land on sibling pCPUs. Prefer falls back to single threads. Isolate takes one
// thread of a core of which nothing is in use. On a host with hardware threads that works only
// where all pCPUs may be pinned and shared (vcpu_pin_set): with cpu_dedicated_set Nova cannot keep
// the siblings free and refuses, and so do we.
func pinCell(host *HostCell, guest *GuestCell, reserve int) (pins []Pin, reserved cpuset.Set, ok bool) {
	cores := freeCores(host)
	threaded := host.HasThreads()
	switch {
	case guest.ThreadPolicy == ThreadsRequire && !threaded:
		return nil, reserved, false
	case guest.ThreadPolicy == ThreadsIsolate:
		if threaded && !host.Shared.Equal(host.Dedicated) {
			return nil, reserved, false
		}
		return pinIsolated(wholeCores(host, cores), guest.Dedicated, reserve)
	}
	least := 1
	if guest.ThreadPolicy == ThreadsRequire {
		least = 2
	}
	for threads := mostThreads(cores); threads >= least; threads-- {
		if pins, ok = pinThreads(cores, threads, guest.Dedicated); !ok {
			continue
		}
		if reserved, ok = reserveCPUs(cores, pins, reserve); ok {
			return pins, reserved, true
		}
	}
	if guest.ThreadPolicy == ThreadsRequire {
		return nil, cpuset.Set{}, false
	}
	// Any free thread of any core.
	if pins, ok = pinThreads(split(cores), 1, guest.Dedicated); !ok {
		return nil, cpuset.Set{}, false
	}
	reserved, ok = reserveCPUs(cores, pins, reserve)
	return pins, reserved, ok
}

// pinIsolated puts each vCPU, and the emulator, on a core of its own.
func pinIsolated(cores []cpuset.Set, vcpus cpuset.Set, reserve int) ([]Pin, cpuset.Set, bool) {
	var first []cpuset.Set
	for _, core := range cores {
		first = append(first, cpuset.Of(core.First()))
	}
	pins, ok := pinThreads(first, 1, vcpus)
	if !ok {
		return nil, cpuset.Set{}, false
	}
	reserved, ok := reserveCPUs(first, pins, reserve)
	return pins, reserved, ok
}

// wholeCores picks the cores of which every hardware thread is free.
func wholeCores(host *HostCell, free []cpuset.Set) []cpuset.Set {
	var whole []cpuset.Set
	for _, core := range host.Siblings {
		for _, f := range free {
			if f.Equal(core) {
				whole = append(whole, core)
			}
		}
	}
	return whole
}

// freeCores lists, for each core, its hardware threads that are free, those without any left out.
func freeCores(host *HostCell) []cpuset.Set {
	free := host.FreePCPUs()
	cores := make([]cpuset.Set, 0, len(host.Siblings))
	for _, core := range host.Siblings {
		if threads := core.Intersect(free); !threads.Empty() {
			cores = append(cores, threads)
		}
	}
	return cores
}

func mostThreads(cores []cpuset.Set) int {
	most := 0
	for _, c := range cores {
		most = max(most, c.Len())
	}
	return most
}

// pinThreads fills the cores in order, using as many threads of each core that has so many free.
func pinThreads(cores []cpuset.Set, threads int, vcpus cpuset.Set) ([]Pin, bool) {
	want := vcpus.Slice()
	pins := make([]Pin, 0, len(want))
	for _, core := range cores {
		if len(pins) == len(want) {
			break
		}
		if core.Len() < threads {
			continue
		}
		left := threads
		for pcpu := range core.All {
			if left == 0 || len(pins) == len(want) {
				break
			}
			pins = append(pins, Pin{want[len(pins)], pcpu})
			left--
		}
	}
	return pins, len(pins) == len(want)
}

// split makes each free thread a core of its own.
func split(cores []cpuset.Set) []cpuset.Set {
	var single []cpuset.Set
	for _, core := range cores {
		for c := range core.All {
			single = append(single, cpuset.Of(c))
		}
	}
	return single
}

// reserveCPUs takes n of the free pCPUs that nothing was pinned to, from the first core on.
func reserveCPUs(cores []cpuset.Set, pins []Pin, n int) (cpuset.Set, bool) {
	var reserved cpuset.Set
	if n == 0 {
		return reserved, true
	}
	var taken cpuset.Set
	for _, p := range pins {
		taken.Add(p.PCPU)
	}
	for _, core := range cores {
		for c := range core.All {
			if taken.Has(c) {
				continue
			}
			reserved.Add(c)
			if n--; n == 0 {
				return reserved, true
			}
		}
	}
	return cpuset.Set{}, false
}
