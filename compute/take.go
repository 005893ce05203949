package compute

import (
	"fmt"
	"slices"

	"compute-agent/numa"
	"compute-agent/pci"
)

// demand is what a claim's server asks of the host beside sums.
type demand struct {
	numa.Request
	guest   *numa.Guest   // its cells, not placed yet; nil for none
	devices []pci.Request // nil for none
}

func (c Capacity) demandOf(r numa.Request) (demand, error) {
	guest, err := r.Constraints()
	if err != nil {
		return demand{}, refused(err)
	}
	devices, err := c.deviceRequests(r)
	if err != nil {
		return demand{}, refused(err)
	}
	return demand{r, guest, devices}, nil
}

// placed says whether a place has to be looked for.
func (d demand) placed() bool { return d.guest != nil || len(d.devices) > 0 }

// take adds a claim and returns it with the place and the devices that it got, or says what is short: how much was
// asked and how much is free. r is what the claim's server asks. A server that has a claim of this kind
// keeps it until there is room for the new one, and what it takes counts as free.
func (l *ledger) take(c Claim, r numa.Request) (Claim, error) {
	d, err := l.capacity.demandOf(r)
	if err != nil {
		return c, err
	}
	for {
		v := l.view(c.Key())
		if err := l.fit(&c, v, d); err != nil {
			return c, err
		}
		done, err := l.commit(c, v, d)
		if done || err != nil {
			return c, err
		}
	}
}

// view is cells and devices at one moment, for one claim: what its server may use again counts as free.
type view struct {
	cells   numa.Host
	stock   stock
	version uint64
	known   bool // the host's size and, as far as they are asked for, its devices
	listed  bool
}

func (l *ledger) view(key ClaimKey) view {
	l.mu.Lock()
	v := view{l.cells, l.stock, l.version, l.known, l.listed}
	free := []entry{l.entries[key]}
	if own, shares := l.sharedWith(key); shares {
		free = append(free, own)
	}
	var held []ClaimedDevice // by other claims of the server, which are not free
	for k, e := range l.entriesOf(key.ServerID) {
		if k != key && (key.Kind != ClaimRebuild || k.Kind != ClaimOwn) {
			held = append(held, e.PCI...)
		}
	}
	l.mu.Unlock()
	for _, e := range free {
		if e.counted != nil {
			if without, err := numa.Free(v.cells, *e.counted); err == nil {
				v.cells = without
			}
		}
		v.stock = v.stock.without(e.ServerID, slices.DeleteFunc(slices.Clone(e.PCI), func(d ClaimedDevice) bool {
			return slices.ContainsFunc(held, func(o ClaimedDevice) bool { return o.Address == d.Address })
		}))
	}
	return v
}

// entriesOf are all entries of a server.
func (l *ledger) entriesOf(serverID string) map[ClaimKey]entry {
	list := map[ClaimKey]entry{}
	for _, kind := range claimKinds {
		if e, there := l.entries[ClaimKey{serverID, kind}]; there {
			list[e.Key()] = e
		}
	}
	return list
}

// fit looks for a place and for devices without the lock.
func (l *ledger) fit(c *Claim, v view, d demand) (err error) {
	c.NUMA, c.PCI = nil, nil
	if !v.known || len(d.devices) > 0 && !v.listed {
		return nil // commit has the words
	}
	var cells []pci.Cell
	if d.guest != nil {
		if c.NUMA, err = l.fitCells(v, d); err != nil {
			return err
		}
		cells = (&PCIDemand{Host: pciCells(v.cells)}).CellsOf(*c.NUMA)
	}
	c.PCI, err = v.stock.choose(c.ServerID, d.devices, pciCells(v.cells), cells)
	return err
}

func (l *ledger) fitCells(v view, d demand) (*numa.Guest, error) {
	if len(v.cells.Cells) == 0 {
		return nil, &Failure{Kind: ErrNoCapacity, Field: "NUMA", Reason: "the hypervisor does not tell the host's NUMA cells, or contradicts itself about them"}
	}
	opt := l.capacity.fitOptions()
	pools := v.stock.pools()
	if devices := NewPCIDemand(pools, d.devices, v.cells); devices != nil {
		opt.PCI = devices
	}
	placed, ok := numa.Fit(v.cells, *d.guest, opt)
	if ok {
		return &placed, nil
	}
	if short := pci.Short(pools, d.devices, nil, nil); short != nil {
		return nil, &Failure{Kind: ErrNoCapacity, Field: "PCI", Reason: short.Error()}
	}
	return nil, noRoom(v.cells, d.Request, opt, l.placed())
}

// commit adds a claim whose place and devices were found in a view, unless the ledger has moved on since.
func (l *ledger) commit(c Claim, v view, d demand) (done bool, err error) {
	next, stale := v.stock.with(c.ServerID, c.PCI, pci.Claimed)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.known:
		return false, &Failure{Kind: ErrUnavailable, Reason: "the size of the host is not known yet"}
	case len(d.devices) > 0 && !l.listed:
		return false, &Failure{Kind: ErrUnavailable, Reason: "the host's PCI devices are not known yet"}
	case d.placed() && (v.version != l.version || !v.known):
		return false, nil
	case stale != nil:
		return false, stale
	}
	if err := l.room(c); err != nil {
		return false, err
	}
	l.put(c, &next)
	return true, nil
}

// room says which row is short of what a claim needs.
func (l *ledger) room(c Claim) error {
	asked, own := l.capacity.amountsOf(c), l.entries[c.Key()].amounts
	if has, shares := l.sharedWith(c.Key()); shares {
		asked = asked.beyond(has.amounts)
	}
	for i, r := range l.capacity.resources(l.host) {
		free := r.limit() - l.used[i] + own[i]
		if asked[i] > 0 && asked[i] > free {
			return &Failure{Kind: ErrNoCapacity, Field: r.name, Reason: fmt.Sprintf(
				"%d %s asked, %d free (the host has %d, %d reserved, allocation ratio %g, %d claimed)",
				asked[i], r.unit, max(0, free), r.total, r.reserved, r.ratio, l.used[i])}
		}
	}
	return nil
}
