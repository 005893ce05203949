package numa

import (
	"fmt"
	"slices"
	"strings"

	"compute-agent/internal/cpuset"
)

// Explanation says why a guest does not fit a host, and what would let it in.
type Explanation struct {
	Pairs      []PairObstacle // by guest cell, then by host cell as they are numbered
	Conditions []string       // what stands against the cells as a set
	Changes    []Change       // each of which alone lets the guest in, the smallest first
}

// PairObstacle is what keeps one guest cell out of one host cell, were it the only one.
type PairObstacle struct {
	GuestCell, HostCell int // numbers as the guest and the host have them
	Obstacle            Obstacle
}

// Explain says why the guest that r asks for does not fit; nil when it fits, or asks for no cells.
// others are guests on the host, one of which might be moved. The error is r's own, as Constraints gives it.
func Explain(host Host, r Request, opt Options, others []Placed) (*Explanation, error) {
	guest, err := r.Constraints()
	if err != nil || guest == nil {
		return nil, err
	}
	e := Diagnose(host, *guest, opt)
	if e != nil {
		e.Changes = changes(host, r, opt, others)
	}
	return e, nil
}

// Diagnose is Explain for a guest whose request is not known: without changes.
func Diagnose(host Host, guest Guest, opt Options) *Explanation {
	if _, fits := Fit(host, guest, opt); fits {
		return nil
	}
	e := &Explanation{}
	fits := make([][]bool, len(guest.Cells))
	for i := range guest.Cells {
		fits[i] = make([]bool, len(host.Cells))
		for j := range host.Cells {
			var f fitting
			o := f.judge(&host.Cells[j], &guest.Cells[i], opt.Limits, guest.reserve(i))
			fits[i][j] = o.none()
			e.Pairs = append(e.Pairs, PairObstacle{guest.Cells[i].ID, host.Cells[j].ID, o})
		}
	}
	e.Conditions = conditions(host, guest, opt, fits)
	return e
}

func conditions(host Host, guest Guest, opt Options, fits [][]bool) []string {
	if len(guest.Cells) > len(host.Cells) {
		return []string{fmt.Sprintf("the guest has %d cells and needs as many of the host, which has %d", len(guest.Cells), len(host.Cells))}
	}
	if cells, room := crowded(fits); cells != nil {
		if len(room) == 0 {
			return nil // the pairs say it all
		}
		return []string{fmt.Sprintf("guest cells %v fit only into host cells %v, and each needs one of its own",
			cellIDs(cells, func(i int) int { return guest.Cells[i].ID }), cellIDs(room, func(j int) int { return host.Cells[j].ID }))}
	}
	return setConditions(host, guest, opt)
}

func cellIDs(positions []int, id func(int) int) cpuset.Set {
	var s cpuset.Set
	for _, p := range positions {
		s.Add(id(p))
	}
	return s
}

// setConditions says which of the conditions on the chosen cells as a set cannot be met: each alone, or
// else only both together.
func setConditions(host Host, guest Guest, opt Options) []string {
	var list []string
	noPCI, noNetwork := opt, opt
	noPCI.PCI = nil
	if opt.Limits != nil {
		limits := *opt.Limits
		limits.Network = Network{}
		noNetwork.Limits = &limits
	}
	const pci = "no cells that the guest fits into have the PCI devices that it asks for, near enough"
	const network = "no cells that the guest fits into reach the networks of its ports"
	if placed, ok := Fit(host, guest, noPCI); ok {
		list = append(list, pci+shortOf(host, placed, opt.PCI))
	}
	if _, ok := Fit(host, guest, noNetwork); ok {
		list = append(list, network)
	}
	if list == nil {
		list = append(list, pci, network)
	}
	return list
}

// shortOf says which device is short where the guest would go without any.
func shortOf(host Host, placed Guest, devices Devices) string {
	var cells []*HostCell
	for i := range placed.Cells {
		cells = append(cells, host.Cell(placed.Cells[i].ID))
	}
	if devices == nil {
		return ""
	}
	if short := devices.Short(cells); short != "" {
		return ": " + short
	}
	return ""
}

// crowded finds guest cells that together fit into fewer host cells than they are (Hall's theorem):
// their positions and those of the host cells. nil when every guest cell can have one of its own.
func crowded(fits [][]bool) (guestCells, hostCells []int) {
	if len(fits) == 0 {
		return nil, nil
	}
	owner := make([]int, len(fits[0])) // guest cell + 1
	var reached, visited []bool
	var augment func(g int) bool
	augment = func(g int) bool {
		reached[g] = true
		for j, ok := range fits[g] {
			if !ok || visited[j] {
				continue
			}
			visited[j] = true
			if owner[j] == 0 || augment(owner[j]-1) {
				owner[j] = g + 1
				return true
			}
		}
		return false
	}
	for g := range fits {
		reached, visited = make([]bool, len(fits)), make([]bool, len(owner))
		if !augment(g) {
			return positions(reached), positions(visited)
		}
	}
	return nil, nil
}

func positions(flags []bool) []int {
	list := []int{}
	for i, set := range flags {
		if set {
			list = append(list, i)
		}
	}
	return list
}

// Group is guest cells that the same thing keeps out of each of some host cells.
type Group struct {
	GuestCells, HostCells cpuset.Set // their numbers
	Obstacle              Obstacle
}

// Groups puts pairs with the same obstacle together: first host cells, then guest cells to which they are all
// the same.
func (e *Explanation) Groups() []Group {
	var groups []Group
	for from := 0; from < len(e.Pairs); {
		var own []Group
		cell := e.Pairs[from].GuestCell
		for ; from < len(e.Pairs) && e.Pairs[from].GuestCell == cell; from++ {
			own = addPair(own, e.Pairs[from])
		}
		if n := len(groups) - len(own); n >= 0 && slices.EqualFunc(groups[n:], own, sameObstacle) {
			for i := range own {
				groups[n+i].GuestCells = groups[n+i].GuestCells.Union(own[i].GuestCells)
			}
			continue
		}
		groups = append(groups, own...)
	}
	return groups
}

func addPair(groups []Group, p PairObstacle) []Group {
	for i := range groups {
		if groups[i].Obstacle == p.Obstacle {
			groups[i].HostCells.Add(p.HostCell)
			return groups
		}
	}
	return append(groups, Group{cpuset.Of(p.GuestCell), cpuset.Of(p.HostCell), p.Obstacle})
}

func sameObstacle(a, b Group) bool { return a.Obstacle == b.Obstacle && a.HostCells.Equal(b.HostCells) }

// String says it in one line, for the fault of a server.
func (e *Explanation) String() string {
	why := strings.Join(e.Conditions, "; ")
	if why == "" {
		why = e.shortages()
	}
	if len(e.Changes) == 0 {
		return why + "; no single change lets it in"
	}
	return why + "; it would fit with " + e.Changes[0].String()
}

// shortages tells of the first guest cell that fits nowhere.
func (e *Explanation) shortages() string {
	stuck := e.stuck()
	var parts []string
	for _, g := range e.Groups() {
		if g.GuestCells.Has(stuck) {
			parts = append(parts, fmt.Sprintf("host cell %v: %v", g.HostCells, g.Obstacle))
		}
	}
	return strings.Join(parts, "; ")
}

// stuck is the first guest cell that fits into no host cell; -1 when there is none.
func (e *Explanation) stuck() int {
	fits := map[int]bool{}
	for _, p := range e.Pairs {
		fits[p.GuestCell] = fits[p.GuestCell] || p.Obstacle.none()
	}
	for _, p := range e.Pairs {
		if !fits[p.GuestCell] {
			return p.GuestCell
		}
	}
	return -1
}
