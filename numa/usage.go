package numa

import (
	"fmt"

	"compute-agent/internal/cpuset"
)

// Place returns the host with the guest's use added. It fails when a pCPU is not in the host's
// dedicated set or is taken already: two claims must never share one.
func Place(host Host, guest Guest) (Host, error) { return account(host, guest, +1) }

// Free returns the host with the guest's use taken away. It fails when a pCPU was not pinned.
func Free(host Host, guest Guest) (Host, error) { return account(host, guest, -1) }

func account(host Host, guest Guest, sign int) (Host, error) {
	t := NewTally(host)
	err := t.account(guest, sign)
	if err != nil {
		return Host{}, err
	}
	return t.host, nil
}

// Tally adds up the guests of a host one after the other. Place makes a host anew for each.
type Tally struct {
	host Host
	was  []cpuset.Set // scratch: what was pinned before a guest
}

// NewTally begins with a host, which is not changed.
func NewTally(host Host) *Tally { return &Tally{host: host.Clone()} }

// Host is the host with all that was placed. The next Place changes it.
func (t *Tally) Host() Host { return t.host }

// Place adds a guest's use as the function Place does. When it fails nothing is added.
func (t *Tally) Place(guest Guest) error { return t.account(guest, +1) }

func (t *Tally) account(guest Guest, sign int) error {
	if err := t.accountPins(guest, sign); err != nil {
		return err
	}
	for i := range guest.Cells {
		g := &guest.Cells[i]
		cell := t.host.Cell(g.ID)
		if cell == nil {
			continue // a cell that this host does not have: nothing of it is in use here
		}
		cell.UsedMiB = max(0, cell.UsedMiB+sign*g.MemoryMiB)
		cell.CPUUsage = max(0, cell.CPUUsage+sign*g.Shared.Len())
		accountPages(cell, g, sign)
	}
	return nil
}

// accountPins pins, or frees, in all cells or in none.
func (t *Tally) accountPins(guest Guest, sign int) error {
	t.was = t.was[:0]
	for i := range t.host.Cells {
		t.was = append(t.was, t.host.Cells[i].Pinned)
	}
	for i := range guest.Cells {
		cell := t.host.Cell(guest.Cells[i].ID)
		if cell == nil {
			continue
		}
		if err := accountPins(cell, &guest.Cells[i], sign); err != nil {
			for j := range t.was {
				t.host.Cells[j].Pinned = t.was[j]
			}
			return err
		}
	}
	return nil
}

func accountPages(cell *HostCell, g *GuestCell, sign int) {
	page := smallest(cell.Pages)
	if g.PageKiB > 0 {
		for i := range cell.Pages {
			if cell.Pages[i].SizeKiB == g.PageKiB {
				page = &cell.Pages[i]
			}
		}
	}
	if page != nil {
		page.Used = max(0, page.Used+sign*g.MemoryMiB*1024/page.SizeKiB)
	}
}

func accountPins(cell *HostCell, g *GuestCell, sign int) error {
	cpus := g.PinnedPCPUs().Union(g.Reserved)
	if cpus.Empty() {
		return nil
	}
	if g.ThreadPolicy == ThreadsIsolate {
		cpus = withSiblings(cell, cpus)
	}
	if unknown := cpus.Minus(cell.Dedicated); !unknown.Empty() {
		return &PinError{Class: "CPUPinningUnknown", Cell: cell.ID, CPUs: unknown, Reason: "not in the dedicated set"}
	}
	if sign > 0 {
		if taken := cpus.Intersect(cell.Pinned); !taken.Empty() {
			return &PinError{Class: "CPUPinningInvalid", Cell: cell.ID, CPUs: taken, Reason: "already pinned"}
		}
		cell.Pinned = cell.Pinned.Union(cpus)
		return nil
	}
	if loose := cpus.Minus(cell.Pinned); !loose.Empty() {
		return &PinError{Class: "CPUUnpinningInvalid", Cell: cell.ID, CPUs: loose, Reason: "not pinned"}
	}
	cell.Pinned = cell.Pinned.Minus(cpus)
	return nil
}

// withSiblings adds the other hardware threads of the cores of cpus.
func withSiblings(cell *HostCell, cpus cpuset.Set) cpuset.Set {
	all := cpus
	for _, core := range cell.Siblings {
		if core.IntersectLen(cpus) > 0 {
			all = all.Union(core)
		}
	}
	return all
}

// PinError says which pCPUs cannot be pinned or freed.
type PinError struct {
	Class  string // Nova's exception
	Cell   int
	CPUs   cpuset.Set
	Reason string
}

// Error names the cell, the pCPUs and the reason.
func (e *PinError) Error() string {
	return fmt.Sprintf("host NUMA cell %d: pCPU %v: %s", e.Cell, e.CPUs, e.Reason)
}
