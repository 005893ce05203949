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
)

// ledger counts what servers claim of the host: vCPUs, pinned ones, memory, pages and pCPUs of each
// cell, disk. Its lock is short: nothing is done under it but sums. Places are looked for outside of it,
// on the cells as they were at one moment, which are never changed but replaced. The store has the same
// claims; the ledger is what decides.
type ledger struct {
	capacity Capacity

	mu      sync.Mutex
	known   bool // the host's size
	host    hostSize
	cells   numa.Host // with what is in use
	version uint64    // of cells: how often they were replaced
	entries map[string]entry
	used    amounts
	sum     Claim // of all claims, as they stand
	serial  uint64
}

// entry is a claim in the ledger.
type entry struct {
	Claim
	serial uint64 // in the order in which they came
	// counted is the part of NUMA that is counted in the cells: all of it, unless the host has lost
	// pCPUs that it was given, or another claim has them too.
	counted *numa.Guest
}

func newLedger(c Capacity) *ledger {
	return &ledger{capacity: c.withDefaults(), entries: map[string]entry{}}
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

// sized says whether the host's size is known.
func (l *ledger) sized() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

// recount counts all claims anew, oldest first.
func (l *ledger) recount() {
	l.used, l.sum = amounts{}, Claim{}
	l.cells, l.version = l.host.cells, l.version+1
	for _, e := range slices.SortedFunc(maps.Values(l.entries), func(a, b entry) int { return cmp.Compare(a.serial, b.serial) }) {
		l.count(e)
	}
}

// count adds an entry to the sums and the cells.
func (l *ledger) count(e entry) {
	l.tally(e.Claim, +1)
	if e.NUMA != nil {
		counted := countable(l.cells, *e.NUMA)
		if cells, err := numa.Place(l.cells, counted); err == nil {
			l.cells, l.version = cells, l.version+1
			e.counted = &counted
		}
	}
	l.entries[e.ServerID] = e
}

// drop takes an entry out; one that is not there is fine.
func (l *ledger) drop(serverID string) {
	e, there := l.entries[serverID]
	if !there {
		return
	}
	delete(l.entries, serverID)
	l.tally(e.Claim, -1)
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

func (l *ledger) tally(c Claim, sign int) {
	l.used.add(l.capacity.amountsOf(c), sign)
	l.sum.VCPUs += sign * c.VCPUs
	l.sum.MemoryMiB += sign * c.MemoryMiB
	l.sum.DiskGiB += sign * c.DiskGiB
}

func (l *ledger) put(c Claim) {
	l.drop(c.ServerID)
	l.serial++
	l.count(entry{Claim: c, serial: l.serial})
}

// restore puts a stored claim into the ledger, whatever room there is.
func (l *ledger) restore(c Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(c)
}

// release frees a server's claim; one that has none is fine.
func (l *ledger) release(serverID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(serverID)
}

// take adds a claim and returns it with the place that it got, or says what is short: how much was
// asked and how much is free. r is what the claim's server asks of the cells. A server that has a claim
// keeps the old one until there is room for the new one, and what the old one takes counts as free.
func (l *ledger) take(c Claim, r numa.Request) (Claim, error) {
	guest, err := r.Constraints()
	if err != nil {
		return c, refused(err)
	}
	for {
		cells, version := l.view(c.ServerID)
		if c.NUMA, err = l.fit(cells, guest, r); err != nil {
			return c, err
		}
		done, err := l.commit(c, version)
		if done || err != nil {
			return c, err
		}
	}
}

// view is the cells as they are now for a server: without what it claims itself.
func (l *ledger) view(serverID string) (numa.Host, uint64) {
	l.mu.Lock()
	cells, version, own := l.cells, l.version, l.entries[serverID].counted
	l.mu.Unlock()
	if own != nil {
		if without, err := numa.Free(cells, *own); err == nil {
			cells = without
		}
	}
	return cells, version
}

// fit looks for a place without the lock.
func (l *ledger) fit(cells numa.Host, guest *numa.Guest, r numa.Request) (*numa.Guest, error) {
	if guest == nil || !l.sized() {
		return nil, nil // for the second, commit has the words
	}
	if len(cells.Cells) == 0 {
		return nil, &Failure{Kind: ErrNoCapacity, Field: "NUMA", Reason: "the hypervisor does not tell the host's NUMA cells, or contradicts itself about them"}
	}
	opt := l.capacity.fitOptions()
	placed, ok := numa.Fit(cells, *guest, opt)
	if !ok {
		return nil, noRoom(cells, r, opt, l.placed())
	}
	return &placed, nil
}

// commit adds a claim whose place was found in cells of the version, unless they have changed since.
func (l *ledger) commit(c Claim, version uint64) (done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		return false, &Failure{Kind: ErrUnavailable, Reason: "the size of the host is not known yet"}
	}
	if c.NUMA != nil && version != l.version {
		return false, nil
	}
	if err := l.room(c); err != nil {
		return false, err
	}
	l.put(c)
	return true, nil
}

// room says which row is short of what a claim needs.
func (l *ledger) room(c Claim) error {
	asked, own := l.capacity.amountsOf(c), amounts{}
	if e, there := l.entries[c.ServerID]; there {
		own = l.capacity.amountsOf(e.Claim)
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
	used  amounts
	sum   Claim // of all claims, as they stand
}

func (l *ledger) balance() balance {
	l.mu.Lock()
	defer l.mu.Unlock()
	return balance{host: l.host, cells: l.cells, used: l.used, sum: l.sum}
}

// claims returns all entries by server.
func (l *ledger) claims() map[string]entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.entries)
}

// place returns where a server was placed and the host's cells; nil for a server that may run anywhere.
func (l *ledger) place(serverID string) (*numa.Guest, numa.Host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[serverID].NUMA, l.host.cells
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
	for id, e := range l.claims() {
		if e.counted != nil {
			list = append(list, numa.Placed{ID: id, Guest: *e.counted})
		}
	}
	slices.SortFunc(list, func(a, b numa.Placed) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// countable is the part of a placed guest that can be counted in the cells: without the pCPUs that they have
// lost, and those that another guest has.
func countable(cells numa.Host, guest numa.Guest) numa.Guest {
	guest = guest.Clone()
	for i := range guest.Cells {
		g := &guest.Cells[i]
		cell := cells.Cell(g.ID)
		if cell == nil {
			continue // counted nowhere
		}
		takes := taken(cell, g)
		lost := takes.Minus(cell.Dedicated).Union(takes.Intersect(cell.Pinned))
		if !lost.Empty() {
			g.Pins, g.ThreadPolicy, g.Reserved = nil, "", takes.Minus(lost)
		}
	}
	return guest
}

// taken is the pCPUs that a guest cell keeps others off: those that it is pinned to, those of its emulator, and,
// where it is isolated, their siblings.
func taken(cell *numa.HostCell, g *numa.GuestCell) cpuset.Set {
	cpus := g.PinnedPCPUs().Union(g.Reserved)
	if g.ThreadPolicy != numa.ThreadsIsolate {
		return cpus
	}
	all := cpus
	for _, core := range cell.Siblings {
		if core.IntersectLen(cpus) > 0 {
			all = all.Union(core)
		}
	}
	return all
}
