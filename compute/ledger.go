package compute

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/pci"
)

// ledger counts what servers claim of the host: vCPUs, pinned ones, memory, pages and pCPUs of each
// cell, disk, PCI devices. Its lock is short: nothing is done under it but sums. Places are looked for outside of it,
// on cells and devices as they were at one moment, which are never changed but replaced. The store has the same
// claims; the ledger is what decides.
type ledger struct {
	capacity Capacity

	mu      sync.Mutex
	known   bool // the host's size
	host    hostSize
	listed  bool          // the host's devices
	found   []pci.Allowed // of the host's devices: those that servers may get
	cells   numa.Host     // with what is in use
	stock   stock         // found, with what is in use
	version uint64        // of cells and stock: how often they were replaced
	entries map[ClaimKey]entry
	used    amounts
	sum     sizes // of all claims, as they stand
	serial  uint64
}

// entry is a claim in the ledger.
type entry struct {
	Claim
	serial uint64 // in the order in which they came
	// allocated says that a guest has the claim's devices.
	allocated bool
	// counted is the part of NUMA that is counted in the cells: all of it, unless the host has lost
	// pCPUs that it was given, or another claim has them too.
	counted *numa.Guest
	amounts amounts // that are counted, and so in sum
	sum     sizes
}

func newLedger(c Capacity) *ledger {
	return &ledger{capacity: c.withDefaults(), entries: map[ClaimKey]entry{}, stock: newStock(&pci.Inventory{})}
}

// size tells the ledger how large the host is. Claims stay, also where the host has become too small
// for them.
func (l *ledger) size(h hostSize) {
	l.mu.Lock()
	defer l.mu.Unlock()
	same := l.known && reflect.DeepEqual(h.cells, l.host.cells)
	l.known, l.host = true, h
	if !same {
		l.recount()
	}
}

// show tells the ledger which devices servers may get. Devices that have gone stay with those that have them.
func (l *ledger) show(found []pci.Allowed) {
	same := func(a, b pci.Allowed) bool { return reflect.DeepEqual(a.Device, b.Device) }
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listed && slices.EqualFunc(found, l.found, same) {
		return
	}
	l.listed, l.found = true, found
	l.recount()
}

// sized says whether the host's size is known.
func (l *ledger) sized() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

// recount counts all claims anew, oldest first; those that share with what their server has come last.
func (l *ledger) recount() {
	l.used, l.sum, l.version = amounts{}, sizes{}, l.version+1
	tally, devices := numa.NewTally(l.host.cells), &pci.Inventory{}
	devices.Update(l.found)
	var holdings []pci.Holding
	order := slices.SortedFunc(maps.Values(l.entries), func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.serial, b.serial))
	})
	for _, e := range order {
		l.weigh(&e, tally.Host())
		if e.counted != nil && tally.Place(*e.counted) != nil {
			e.counted = nil
		}
		holdings = append(holdings, e.holdings()...)
		l.entries[e.Key()] = e
	}
	devices.Hold(holdings)
	l.cells, l.stock = tally.Host(), newStock(devices)
}

// rank is the order in which kinds of claims are counted.
func (e entry) rank() int {
	if e.Kind == ClaimRebuild {
		return 1
	}
	return 0
}

func (e entry) state() pci.State {
	if e.allocated {
		return pci.Allocated
	}
	return pci.Claimed
}

// holdings are the claim's devices. Of those that another server has the audit tells.
func (e entry) holdings() []pci.Holding {
	list := make([]pci.Holding, len(e.PCI))
	for i, d := range e.PCI {
		list[i] = pci.Holding{Owner: e.ServerID, Allowed: pci.Allowed{Device: d.Device}, State: e.state()}
	}
	return list
}

// weigh adds an entry to the sums, and says what of it is to be counted in the cells.
func (l *ledger) weigh(e *entry, cells numa.Host) {
	e.amounts, e.sum, e.counted = l.capacity.amountsOf(e.Claim), e.sizes(), nil
	guest := e.NUMA
	if own, shares := l.sharedWith(e.Key()); shares {
		e.amounts, e.sum = e.amounts.beyond(own.amounts), e.sum.beyond(own.sum)
		guest = excess(guest, own.counted, cells)
	}
	l.tally(*e, +1)
	if guest != nil {
		counted := countable(cells, *guest)
		e.counted = &counted
	}
}

// sharedWith is what a claim need not count again: that of which its server has only one at a time.
func (l *ledger) sharedWith(key ClaimKey) (entry, bool) {
	if key.Kind != ClaimRebuild {
		return entry{}, false
	}
	own, there := l.entries[ClaimKey{key.ServerID, ClaimOwn}]
	return own, there
}

func (l *ledger) tally(e entry, sign int) {
	l.used.add(e.amounts, sign)
	l.sum.add(e.sum, sign)
}

// put adds a claim, in the place of one with its key. next is the stock with the claim's devices in it; nil to have
// that found out.
func (l *ledger) put(c Claim, next *stock) {
	old, again := l.entries[c.Key()]
	l.serial++
	e := entry{Claim: c, serial: l.serial, allocated: again && old.allocated && reflect.DeepEqual(old.PCI, c.PCI)}
	if again || l.others(c.Key()) {
		l.entries[c.Key()] = e
		l.recount()
		return
	}
	l.weigh(&e, l.cells)
	if e.counted != nil {
		cells, err := numa.Place(l.cells, *e.counted)
		if err != nil {
			e.counted = nil
		} else {
			l.cells, l.version = cells, l.version+1
		}
	}
	if len(c.PCI) > 0 {
		if next == nil {
			devices := l.stock.Clone()
			devices.Hold(e.holdings())
			held := newStock(devices)
			next = &held
		}
		l.stock, l.version = *next, l.version+1
	}
	l.entries[c.Key()] = e
}

// others says whether the server has claims of other kinds.
func (l *ledger) others(key ClaimKey) bool {
	for _, kind := range claimKinds {
		if _, there := l.entries[ClaimKey{key.ServerID, kind}]; there && kind != key.Kind {
			return true
		}
	}
	return false
}

// drop takes an entry out; one that is not there is fine.
func (l *ledger) drop(key ClaimKey) {
	e, there := l.entries[key]
	if !there {
		return
	}
	delete(l.entries, key)
	if l.others(key) {
		l.recount() // what they share with it counts from now on
		return
	}
	l.tally(e, -1)
	if len(e.PCI) > 0 {
		l.stock, l.version = l.stock.without(key.ServerID, e.PCI), l.version+1
	}
	if e.counted == nil {
		return
	}
	cells, err := numa.Free(l.cells, *e.counted)
	if err != nil { // it frees what it has placed; if ever not, counting anew is right
		l.recount()
		return
	}
	l.cells, l.version = cells, l.version+1
}

// restore puts a stored claim into the ledger, whatever room there is.
func (l *ledger) restore(c Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(c, nil)
}

// abort gives one claim back; one that is not there is fine.
func (l *ledger) abort(key ClaimKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(key)
}

// release gives all claims of a server back; one that has none is fine.
func (l *ledger) release(serverID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range claimKinds {
		l.drop(ClaimKey{serverID, kind})
	}
}

// move makes a claim one of another kind, in the place of what the server has of that: ClaimOwn at the end of an
// operation that succeeded, ClaimOutgoing of ClaimOwn when a guest begins to leave, and back. A claim that is not there,
// because it was moved before, moves nothing.
func (l *ledger) move(from ClaimKey, to ClaimKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, there := l.entries[from]
	if !there || from.Kind == to {
		return
	}
	delete(l.entries, from)
	e.Kind = to
	l.entries[e.Key()] = e
	l.recount()
}

// allocate says that the server's guest has the devices of its own claim.
func (l *ledger) allocate(serverID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := ClaimKey{serverID, ClaimOwn}
	e, there := l.entries[key]
	if !there || e.allocated || len(e.PCI) == 0 {
		return
	}
	e.allocated = true
	l.entries[key] = e
	next := l.stock.Clone()
	if next.Allocate(serverID, addressesOf(e.PCI)) == nil { // else another server has one: the audit tells of it
		l.stock, l.version = newStock(next), l.version+1
	}
}

// noteAllocated is allocate for a guest that was seen with devices, if they are all that its server claims.
func (l *ledger) noteAllocated(serverID string, has []string) {
	claim, _ := l.place(serverID)
	for _, d := range claim.PCI {
		if !slices.Contains(has, d.Address.String()) {
			return
		}
	}
	l.allocate(serverID)
}

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

// balance is the ledger at one moment.
type balance struct {
	host  hostSize
	cells numa.Host // with what is in use
	stock stock     // the same
	found []pci.Allowed
	used  amounts
	sum   sizes // of all claims, as they stand
}

func (l *ledger) balance() balance {
	l.mu.Lock()
	defer l.mu.Unlock()
	return balance{host: l.host, cells: l.cells, stock: l.stock, found: l.found, used: l.used, sum: l.sum}
}

// claims returns all entries.
func (l *ledger) claims() map[ClaimKey]entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.entries)
}

// place returns a server's own claim and the host's cells. Its NUMA is nil for a server that may run anywhere.
func (l *ledger) place(serverID string) (Claim, numa.Host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[ClaimKey{serverID, ClaimOwn}].Claim, l.host.cells
}

// pinned is the set of pCPUs that guests are pinned to.
func (l *ledger) pinned() cpuset.Set {
	var s cpuset.Set
	for _, e := range l.claims() {
		if e.NUMA != nil {
			s = s.Union(pinnedTo(*e.NUMA))
		}
	}
	return s
}

// placed lists the guests that have cells.
func (l *ledger) placed() []numa.Placed {
	var list []numa.Placed
	for key, e := range l.claims() {
		if e.counted != nil {
			list = append(list, numa.Placed{ID: key.ServerID, Guest: *e.counted})
		}
	}
	slices.SortFunc(list, func(a, b numa.Placed) int { return cmp.Compare(a.ID, b.ID) })
	return list
}
