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

// Devices is the view that the fit has of a host's PCI devices. One that has a method
// Farther() (Devices, Change), the same demand met by devices however far away and what has to be changed for that, lets
// Explain tell whether it would help.
type Devices interface {
	// Wanted says whether the guest asks for any.
	Wanted() bool
	// InCell counts the free devices of a host cell.
	InCell(id int) int
	// Satisfied says whether the guest's requests can be met when it is placed in these cells.
	Satisfied(cells []*HostCell) bool
	// Short says in one line which request cannot be met in these cells; empty when all can.
	Short(cells []*HostCell) string
}

// Fit places every cell of the guest in a host cell of its own and returns the layout that results, with
// pins and page sizes; ok is false when the guest does not fit. Neither argument is changed.
//
// The answer is Nova's (numa_fit_instance_to_host): host cells are sorted, and of all the ways to
// choose an ordered selection of them the first that works is taken. Nova walks them all, which is
// factorial; here a selection is built cell by cell, each step checked by a bipartite matching of
// what is left, which gives the same first selection in polynomial time. PCI and network
// conditions depend on the set of cells alone, so a set from which the search has failed once is
// not entered again: that bounds it by the number of sets, not of orders.
func Fit(host Host, guest Guest, opt Options) (placed Guest, ok bool) {
	if len(host.Cells) < len(guest.Cells) || len(guest.Cells) == 0 {
		return Guest{}, false
	}
	s := newSearch(sortCells(host, guest, opt), guest, opt)
	if !s.matchable(0) || !s.place(0) {
		return Guest{}, false
	}
	return s.placed(), true
}

// candidate is a host cell with what its place in the order depends on.
type candidate struct {
	*HostCell
	devices, freePCPUs, freeMiB int
}

// sortCells puts the host cells in the order in which they are tried: emptiest first, or fullest when
// packing; cells with PCI devices first for a guest that wants some and last for one that does not.
// With as many guest cells as host cells every one is used, and the order stays as it is.
func sortCells(host Host, guest Guest, opt Options) []candidate {
	cells := make([]candidate, len(host.Cells))
	for i := range host.Cells {
		c := &host.Cells[i]
		cells[i] = candidate{HostCell: c, freeMiB: c.FreeMiB(), freePCPUs: c.freeCount()}
		if opt.PCI != nil {
			cells[i].devices = opt.PCI.InCell(c.ID)
		}
	}
	if len(cells) <= len(guest.Cells) {
		return cells
	}
	emptier := -1 // emptier cells first
	if opt.Pack {
		emptier = 1
	}
	richer := 1 // cells with more devices last
	if opt.PCI != nil && opt.PCI.Wanted() {
		richer = -1
	}
	pinned := slices.ContainsFunc(guest.Cells, func(c GuestCell) bool { return c.pinning() })
	slices.SortStableFunc(cells, func(a, b candidate) int {
		byCPU := -cmp.Compare(a.CPUUsage, b.CPUUsage)
		if pinned {
			byCPU = cmp.Compare(a.freePCPUs, b.freePCPUs)
		}
		return cmp.Or(richer*cmp.Compare(a.devices, b.devices), emptier*byCPU, emptier*cmp.Compare(a.freeMiB, b.freeMiB))
	})
	return cells
}

// search builds the first selection of host cells that works.
type search struct {
	guest  Guest
	cells  []candidate
	opt    Options
	pairs  []pair // of guest cell i and host cell j at i*len(cells)+j, judged when first needed
	chosen []int  // host cell of each guest cell so far
	used   []bool // host cells that are chosen
	owner  []int  // scratch of matchable
	seen   []bool // scratch of matchable
	failed map[string]bool
}

// pair is the verdict on one guest cell in one host cell.
type pair struct {
	judged, fits bool
	fitting      fitting
}

func newSearch(cells []candidate, guest Guest, opt Options) *search {
	n, m := len(guest.Cells), len(cells)
	flags, numbers := make([]bool, 2*m), make([]int, m+n)
	return &search{guest: guest, cells: cells, opt: opt, pairs: make([]pair, n*m),
		used: flags[:m], seen: flags[m:], owner: numbers[:m], chosen: numbers[m:m]}
}

// fits says whether guest cell i fits into host cell j when it is the only one there.
func (s *search) fits(i, j int) bool {
	p := &s.pairs[i*len(s.cells)+j]
	if !p.judged {
		obstacle := p.fitting.judge(s.cells[j].HostCell, &s.guest.Cells[i], s.opt.Limits, s.guest.reserve(i))
		p.judged, p.fits = true, obstacle.none()
	}
	return p.fits
}

// reserve is how many pCPUs of guest cell i's host cell the emulator's threads get for themselves.
func (g *Guest) reserve(i int) int {
	if i == 0 && g.EmulatorThreads == EmulatorIsolate {
		return 1
	}
	return 0
}

// place chooses host cells for the guest cells from i on, in the order of the first that works.
func (s *search) place(i int) bool {
	if i == len(s.guest.Cells) {
		return s.accepted()
	}
	if s.failedBefore() {
		return false
	}
	for j := range s.cells {
		if s.used[j] || !s.fits(i, j) {
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
	s.remember()
	return false
}

// matchable says whether the guest cells from i on can each get a host cell of their own among those
// that are not used: Kuhn's augmenting paths.
func (s *search) matchable(i int) bool {
	clear(s.owner)
	for g := i; g < len(s.guest.Cells); g++ {
		clear(s.seen)
		if !s.augment(g) {
			return false
		}
	}
	return true
}

// augment finds guest cell g a host cell, moving others if that helps. owner has the guest cell + 1
// that holds each host cell.
func (s *search) augment(g int) bool {
	for j := range s.cells {
		if s.used[j] || s.seen[j] || !s.fits(g, j) {
			continue
		}
		s.seen[j] = true
		if s.owner[j] == 0 || s.augment(s.owner[j]-1) {
			s.owner[j] = g + 1
			return true
		}
	}
	return false
}

// conditional says whether there are conditions on the chosen cells as a set. Without them what is
// matchable is a solution, and the search never turns back.
func (s *search) conditional() bool {
	return s.opt.PCI != nil || s.opt.Limits != nil && s.opt.Limits.Network.Needs()
}

func (s *search) failedBefore() bool { return len(s.failed) > 0 && s.failed[s.usedKey()] }

func (s *search) remember() {
	if !s.conditional() {
		return
	}
	if s.failed == nil {
		s.failed = map[string]bool{}
	}
	s.failed[s.usedKey()] = true
}

func (s *search) usedKey() string {
	key := make([]byte, len(s.used))
	for j, used := range s.used {
		if used {
			key[j] = 1
		}
	}
	return string(key)
}

// accepted asks the conditions that hold for the chosen cells as a set.
func (s *search) accepted() bool {
	if !s.conditional() {
		return true
	}
	if s.failedBefore() {
		return false
	}
	chosen := make([]*HostCell, len(s.chosen))
	for i, j := range s.chosen {
		chosen[i] = s.cells[j].HostCell
	}
	if s.opt.PCI != nil && !s.opt.PCI.Satisfied(chosen) ||
		s.opt.Limits != nil && len(s.unreached(chosen)) > 0 {
		s.remember()
		return false
	}
	return true
}

// unreached lists the networks that the guest needs and the chosen cells do not have. A network that no
// cell of the host is known for does not count.
func (s *search) unreached(chosen []*HostCell) []string {
	need := s.opt.Limits.Network
	all := make([]*HostCell, len(s.cells))
	for j := range s.cells {
		all[j] = s.cells[j].HostCell
	}
	var missing []string
	for _, physnet := range need.Physnets {
		has := func(c *HostCell) bool { return slices.Contains(c.Network.Physnets, physnet) }
		if slices.ContainsFunc(all, has) && !slices.ContainsFunc(chosen, has) {
			missing = append(missing, physnet)
		}
	}
	tunneled := func(c *HostCell) bool { return c.Network.Tunneled }
	if need.Tunneled && slices.ContainsFunc(all, tunneled) && !slices.ContainsFunc(chosen, tunneled) {
		missing = append(missing, "tunnel")
	}
	return missing
}

// placed is the guest in the chosen cells.
func (s *search) placed() Guest {
	guest := Guest{Cells: make([]GuestCell, len(s.guest.Cells)), EmulatorThreads: s.guest.EmulatorThreads}
	for i, j := range s.chosen {
		how := &s.pairs[i*len(s.cells)+j].fitting
		guest.Cells[i] = how.put(s.cells[j].HostCell, &s.guest.Cells[i], s.guest.reserve(i))
	}
	return guest
}
