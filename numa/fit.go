package numa

import (
	"cmp"
	"slices"
)

// Limits is what a scheduler grants beyond what is there.
type Limits struct {
	CPURatio, RAMRatio float64 // allocation ratios for floating vCPUs and their memory
	Network            Network // networks that the guest's ports need
}

// Options are the choices of the host's operator and the conditions that other packages put on a
// choice of cells.
type Options struct {
	Limits *Limits // nil: no limit but what a guest may not overcommit against itself
	// Pack fills used cells first instead of spreading. Nova:
	// [compute]packing_host_numa_cells_allocation_strategy.
	Pack bool
	// PCI orders and refuses host cells for the guest's PCI devices; nil when the host has none to
	// think of.
	PCI Devices
}

// Devices is the view that the fit has of a host's PCI devices.
type Devices interface {
	// Wanted says whether the guest asks for any.
	Wanted() bool
	// InCell counts the free devices of a host cell.
	InCell(id int) int
	// Satisfied says whether the guest's requests can be met when it is placed in these cells.
	Satisfied(cells []*HostCell) bool
}

// Fit places every cell of the guest in a host cell of its own and returns the layout that results, with
// pins and page sizes; ok is false when the guest does not fit. Neither argument is changed.
//
// The answer is Nova's (numa_fit_instance_to_host): host cells are sorted, and of all the ways to
// choose an ordered selection of them the first that works is taken. Nova walks them all, which is
// factorial; here a selection is built cell by cell, each step checked by a bipartite matching of
// what is left, which gives the same first selection in polynomial time. PCI and network
// conditions depend on the set of cells alone, so each set is tried once.
func Fit(host Host, guest Guest, opt Options) (placed Guest, ok bool) {
	if len(host.Cells) < len(guest.Cells) || len(guest.Cells) == 0 {
		return Guest{}, false
	}
	s := newSearch(sortCells(host, guest, opt), guest, opt)
	if !s.place(0) {
		return Guest{}, false
	}
	placed = Guest{Cells: make([]GuestCell, len(guest.Cells)), EmulatorThreads: guest.EmulatorThreads}
	for i, j := range s.chosen {
		placed.Cells[i] = *s.fits[i][j]
	}
	return placed, true
}

// sortCells puts the host cells in the order in which they are tried: emptiest first, or fullest when
// packing; cells with PCI devices first for a guest that wants some and last for one that does not.
// With as many guest cells as host cells every one is used, and the order stays as it is.
func sortCells(host Host, guest Guest, opt Options) []*HostCell {
	cells := make([]*HostCell, len(host.Cells))
	for i := range host.Cells {
		cells[i] = &host.Cells[i]
	}
	if len(cells) <= len(guest.Cells) {
		return cells
	}
	direction := -1 // most free first
	if opt.Pack {
		direction = 1
	}
	slices.SortStableFunc(cells, func(a, b *HostCell) int { return direction * cmp.Compare(a.FreeMiB(), b.FreeMiB()) })
	if slices.ContainsFunc(guest.Cells, func(c GuestCell) bool { return c.pinning() }) {
		slices.SortStableFunc(cells, func(a, b *HostCell) int {
			return direction * cmp.Compare(a.FreePCPUs().Len(), b.FreePCPUs().Len())
		})
	} else {
		slices.SortStableFunc(cells, func(a, b *HostCell) int { return -direction * cmp.Compare(a.CPUUsage, b.CPUUsage) })
	}
	if opt.PCI != nil {
		toward := 1
		if opt.PCI.Wanted() {
			toward = -1
		}
		slices.SortStableFunc(cells, func(a, b *HostCell) int {
			return toward * cmp.Compare(opt.PCI.InCell(a.ID), opt.PCI.InCell(b.ID))
		})
	}
	return cells
}

// search builds the first selection of host cells that works.
type search struct {
	cells  []*HostCell
	opt    Options
	fits   [][]*GuestCell // fits[i][j]: guest cell i as it would be in host cell j; nil if it does not fit
	chosen []int          // host cell of each guest cell so far
	used   []bool
	tried  map[string]bool // verdicts on sets of host cells
}

func newSearch(cells []*HostCell, guest Guest, opt Options) *search {
	s := &search{cells: cells, opt: opt, used: make([]bool, len(cells)), fits: make([][]*GuestCell, len(guest.Cells))}
	for i := range guest.Cells {
		reserve := 0
		if i == 0 && guest.EmulatorThreads == EmulatorIsolate {
			reserve = 1
		}
		s.fits[i] = make([]*GuestCell, len(cells))
		for j, cell := range cells {
			s.fits[i][j] = fitCell(cell, &guest.Cells[i], opt.Limits, reserve)
		}
	}
	return s
}

// place chooses host cells for the guest cells from i on, in the order of the first that works.
func (s *search) place(i int) bool {
	if i == len(s.fits) {
		return s.accepted()
	}
	for j := range s.cells {
		if s.used[j] || s.fits[i][j] == nil {
			continue
		}
		s.used[j] = true
		s.chosen = append(s.chosen, j)
		if s.matchable(i+1) && s.place(i+1) {
			return true
		}
		s.used[j] = false
		s.chosen = s.chosen[:i]
	}
	return false
}

// matchable says whether the guest cells from i on can each get a host cell of their own among those
// that are not used: Kuhn's augmenting paths.
func (s *search) matchable(i int) bool {
	owner := make([]int, len(s.cells)) // guest cell + 1 that has the host cell
	for g := i; g < len(s.fits); g++ {
		if !s.augment(g, owner, make([]bool, len(s.cells))) {
			return false
		}
	}
	return true
}

func (s *search) augment(g int, owner []int, seen []bool) bool {
	for j := range s.cells {
		if s.used[j] || seen[j] || s.fits[g][j] == nil {
			continue
		}
		seen[j] = true
		if owner[j] == 0 || s.augment(owner[j]-1, owner, seen) {
			owner[j] = g + 1
			return true
		}
	}
	return false
}

// accepted asks the conditions that hold for the chosen cells as a set.
func (s *search) accepted() bool {
	if s.opt.PCI == nil && (s.opt.Limits == nil || !s.opt.Limits.Network.Needs()) {
		return true
	}
	key := make([]byte, len(s.used))
	for j, u := range s.used {
		if u {
			key[j] = 1
		}
	}
	if verdict, known := s.tried[string(key)]; known {
		return verdict
	}
	verdict := s.conditions()
	if s.tried == nil {
		s.tried = map[string]bool{}
	}
	s.tried[string(key)] = verdict
	return verdict
}

func (s *search) conditions() bool {
	chosen := make([]*HostCell, len(s.chosen))
	for i, j := range s.chosen {
		chosen[i] = s.cells[j]
	}
	if s.opt.PCI != nil && !s.opt.PCI.Satisfied(chosen) {
		return false
	}
	return s.opt.Limits == nil || reaches(s.cells, chosen, s.opt.Limits.Network)
}

// reaches says whether the chosen cells have every network that is needed; a network that no cell of the
// host is known for does not count.
func reaches(host, chosen []*HostCell, need Network) bool {
	has := func(cells []*HostCell, physnet string) bool {
		return slices.ContainsFunc(cells, func(c *HostCell) bool { return slices.Contains(c.Network.Physnets, physnet) })
	}
	for _, physnet := range need.Physnets {
		if has(host, physnet) && !has(chosen, physnet) {
			return false
		}
	}
	tunneled := func(c *HostCell) bool { return c.Network.Tunneled }
	return !need.Tunneled || !slices.ContainsFunc(host, tunneled) || slices.ContainsFunc(chosen, tunneled)
}

// fitCell returns the guest cell as it would be in the host cell, nil if it does not fit.
func fitCell(host *HostCell, guest *GuestCell, limits *Limits, reserve int) *GuestCell {
	if !memoryFits(host, guest, limits) {
		return nil
	}
	if !cpusFit(host, guest, limits, reserve) {
		return nil
	}
	placed := *guest
	placed.ID = host.ID
	placed.PageKiB = choosePage(host, guest)
	if guest.PageKiB != 0 && placed.PageKiB == 0 {
		return nil
	}
	if guest.Dedicated.Empty() {
		if guest.pinning() && guest.ThreadPolicy == ThreadsIsolate {
			return nil // Nova: a cell with nothing to isolate does not meet the policy
		}
		return &placed
	}
	var ok bool
	if placed.Pins, placed.Reserved, ok = pinCell(host, guest, reserve); !ok {
		return nil
	}
	return &placed
}

// cpusFit counts CPUs: a guest may not overcommit against itself, and floating vCPUs overcommit
// as far as the limit goes.
func cpusFit(host *HostCell, guest *GuestCell, limits *Limits, reserve int) bool {
	if guest.Shared.Len() > host.Shared.Len() || guest.Dedicated.Len()+reserve > host.Dedicated.Len() {
		return false
	}
	return guest.Shared.Empty() || limits == nil ||
		float64(host.CPUUsage+guest.Shared.Len()) <= float64(host.Shared.Len())*limits.CPURatio
}

// memoryFits checks the memory of a cell that names no page size; one that does is counted in
// pages by choosePage. Pinned guests never overcommit memory, others as far as the limit goes.
func memoryFits(host *HostCell, guest *GuestCell, limits *Limits) bool {
	switch {
	case guest.MemoryMiB > host.MemoryMiB:
		return false
	case guest.PageKiB != 0:
		return true
	case guest.pinning():
		return guest.MemoryMiB <= host.FreeMiB() && smallPagesFit(host, guest.MemoryMiB)
	case !ownSmallPages(host, guest.MemoryMiB):
		return false
	case limits == nil:
		return true
	}
	return float64(host.UsedMiB+guest.MemoryMiB) <= float64(host.MemoryMiB)*limits.RAMRatio
}

func smallPagesFit(host *HostCell, mib int) bool {
	p := smallest(host.Pages)
	return p == nil || mib*1024 <= p.Free()*p.SizeKiB
}

// ownSmallPages says whether the memory would fit if nothing else were in the cell: memory on small
// pages cannot come from what is set aside for huge ones.
func ownSmallPages(host *HostCell, mib int) bool {
	p := smallest(host.Pages)
	return p == nil || mib*1024 <= p.Total*p.SizeKiB
}

func smallest(pages []Pages) *Pages {
	var best *Pages
	for i := range pages {
		if best == nil || pages[i].SizeKiB < best.SizeKiB {
			best = &pages[i]
		}
	}
	return best
}

// choosePage returns the size of the pages that the cell's memory would be on, 0 if there are none.
func choosePage(host *HostCell, guest *GuestCell) int {
	if guest.PageKiB == 0 {
		return 0
	}
	pages := slices.Clone(host.Pages)
	slices.SortFunc(pages, func(a, b Pages) int { return b.SizeKiB - a.SizeKiB }) // largest first
	small := 0
	if len(pages) > 0 {
		small = pages[len(pages)-1].SizeKiB
	}
	for _, p := range pages {
		wanted := guest.PageKiB == p.SizeKiB || guest.PageKiB == PageAny ||
			guest.PageKiB == PageSmall && p.SizeKiB == small || guest.PageKiB == PageLarge && p.SizeKiB != small
		if wanted && pagesFit(p, guest.MemoryMiB) {
			return p.SizeKiB
		}
	}
	return 0
}

func pagesFit(p Pages, mib int) bool {
	return mib*1024%p.SizeKiB == 0 && mib*1024/p.SizeKiB <= p.Free()
}
