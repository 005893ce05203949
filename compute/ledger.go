package compute

import (
	"cmp"
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
	l.noteGuests([]string{serverID})
}

// noteAllocated is allocate for guests that were seen with devices, where these are all that their servers claim.
func (l *ledger) noteAllocated(owners map[string][]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for id, has := range owners {
		lacks := func(d ClaimedDevice) bool { return !slices.Contains(has, d.Address.String()) }
		if !slices.ContainsFunc(l.entries[ClaimKey{id, ClaimOwn}].PCI, lacks) {
			ids = append(ids, id)
		}
	}
	l.noteGuests(ids)
}

// noteGuests marks the devices of servers as allocated.
func (l *ledger) noteGuests(ids []string) {
	var next *pci.Inventory
	for _, id := range ids {
		key := ClaimKey{id, ClaimOwn}
		e, there := l.entries[key]
		if !there || e.allocated || len(e.PCI) == 0 {
			continue
		}
		e.allocated = true
		l.entries[key] = e
		if next == nil {
			next = l.stock.Clone()
		}
		_ = next.Allocate(id, addressesOf(e.PCI)) // another server has one: the audit tells of it
	}
	if next != nil {
		l.stock, l.version = newStock(next), l.version+1
	}
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
