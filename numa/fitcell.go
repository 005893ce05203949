package numa

// fitting is how one guest cell goes into one host cell: what is left to choose when it fits.
type fitting struct {
	pageKiB int
	packing packing
}

// judge decides whether the guest cell fits into the host cell, and how. reserve is how many
// pCPUs the emulator gets there. It makes no garbage: a search asks it for many pairs.
func (f *fitting) judge(host *HostCell, guest *GuestCell, limits *Limits, reserve int) (o Obstacle) {
	if o = memoryObstacle(host, guest, limits); !o.none() {
		return o
	}
	if o = cpuObstacle(host, guest, limits, reserve); !o.none() {
		return o
	}
	if guest.PageKiB != 0 {
		if f.pageKiB, o = choosePage(host, guest); !o.none() {
			return o
		}
	}
	if guest.Dedicated.Empty() {
		if guest.pinning() && guest.ThreadPolicy == ThreadsIsolate {
			// Nova: a cell with nothing to isolate does not meet the policy.
			return Obstacle{Resource: ResourceThreads, Rule: "a cell without dedicated vCPUs cannot isolate"}
		}
		return Obstacle{}
	}
	f.packing, o = choosePacking(host, guest, reserve)
	return o
}

// put is the guest cell as it is in the host cell.
func (f *fitting) put(host *HostCell, guest *GuestCell, reserve int) GuestCell {
	placed := *guest
	placed.ID, placed.PageKiB = host.ID, f.pageKiB
	if !guest.Dedicated.Empty() {
		placed.Pins, placed.Reserved = f.packing.pin(host, guest.Dedicated, reserve)
	}
	return placed
}

// cpuObstacle counts CPUs: a guest may not overcommit against itself, and floating vCPUs overcommit
// as far as the limit goes.
func cpuObstacle(host *HostCell, guest *GuestCell, limits *Limits, reserve int) Obstacle {
	floating, total := guest.Shared.Len(), host.Shared.Len()
	if floating > total {
		return Obstacle{ResourceVCPU, floating, total, "", "a guest may not have more vCPUs in a cell than the cell has shared CPUs"}
	}
	if dedicated := guest.Dedicated.Len() + reserve; dedicated > host.Dedicated.Len() {
		return Obstacle{ResourcePCPU, dedicated, host.Dedicated.Len(), "", "the cell has no more dedicated CPUs"}
	}
	if floating == 0 || limits == nil {
		return Obstacle{}
	}
	granted := float64(total) * limits.CPURatio
	if float64(host.CPUUsage+floating) > granted {
		return Obstacle{ResourceVCPU, floating, max(0, int(granted)-host.CPUUsage), "", "the CPU allocation ratio is used up"}
	}
	return Obstacle{}
}

// memoryObstacle checks the memory of a cell that names no page size; one that does is counted in
// pages by choosePage. Pinned guests never overcommit memory, others as far as the limit goes.
func memoryObstacle(host *HostCell, guest *GuestCell, limits *Limits) Obstacle {
	asked := guest.MemoryMiB
	short := func(free int, rule string) Obstacle { return Obstacle{ResourceMemory, asked, free, "MiB", rule} }
	switch {
	case asked > host.MemoryMiB:
		return short(host.MemoryMiB, "the cell has no more memory")
	case guest.PageKiB != 0:
		return Obstacle{}
	case guest.pinning() && asked > host.FreeMiB():
		return short(max(0, host.FreeMiB()), "memory of guests with dedicated vCPUs is not overcommitted")
	}
	small := smallest(host.Pages)
	switch {
	case small != nil && guest.pinning() && !holds(asked, small.Free(), small.SizeKiB):
		return short(max(0, small.Free())*small.SizeKiB/1024, "the rest is huge pages or in use")
	case guest.pinning():
		return Obstacle{}
	case small != nil && !holds(asked, small.Total, small.SizeKiB):
		return short(small.Total*small.SizeKiB/1024, "the rest of the cell's memory is huge pages")
	case limits == nil:
		return Obstacle{}
	}
	granted := float64(host.MemoryMiB) * limits.RAMRatio
	if float64(host.UsedMiB+asked) > granted {
		return short(max(0, int(granted)-host.UsedMiB), "the RAM allocation ratio is used up")
	}
	return Obstacle{}
}

// holds says whether so many pages hold so many MiB.
func holds(mib, pages, sizeKiB int) bool { return mib*1024 <= pages*sizeKiB }

func smallest(pages []Pages) *Pages {
	var best *Pages
	for i := range pages {
		if best == nil || pages[i].SizeKiB < best.SizeKiB {
			best = &pages[i]
		}
	}
	return best
}

// choosePage returns the size of the largest pages that may back the cell's memory and are free.
func choosePage(host *HostCell, guest *GuestCell) (kib int, o Obstacle) {
	small := smallest(host.Pages)
	o = Obstacle{ResourcePages, guest.MemoryMiB, 0, "MiB", "the cell has no pages of this size"}
	for i := range host.Pages {
		p := &host.Pages[i]
		if !wanted(guest.PageKiB, p, small) {
			continue
		}
		free := max(0, p.Free()) * p.SizeKiB / 1024
		switch {
		case guest.MemoryMiB*1024%p.SizeKiB == 0 && guest.MemoryMiB <= free:
			kib = max(kib, p.SizeKiB)
		case guest.MemoryMiB <= free:
			o.Free, o.Rule = free, "the memory is not a multiple of the page size"
		case free >= o.Free:
			o.Free, o.Rule = free, "no more pages of this size are free"
		}
	}
	if kib > 0 {
		return kib, Obstacle{}
	}
	return 0, o
}

// wanted says whether pages p are of the size that was asked for.
func wanted(asked int, p, small *Pages) bool {
	switch asked {
	case PageAny:
		return true
	case PageSmall:
		return p.SizeKiB == small.SizeKiB
	case PageLarge:
		return p.SizeKiB != small.SizeKiB
	}
	return p.SizeKiB == asked
}
