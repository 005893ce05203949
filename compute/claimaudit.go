package compute

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/pci"
	"compute-agent/virt"
)

// difference is something that the audit found not to be as it should be.
type difference struct {
	serverID string // empty: it is about the host
	what     string
}

// auditClaims counts what is claimed anew, from the store, and holds it against the ledger, the host and the
// guests. The ledger is put right; what else differs is told to the operator, once.
func (m *Manager) auditClaims(in inventory) {
	found, err := m.differences(in)
	if err != nil {
		m.log.Warn("audit: cannot compare claims", "error", err)
		return
	}
	m.tell(found)
}

// differences compares claims, and puts right what can be.
func (m *Manager) differences(in inventory) (found []difference, err error) {
	// A write transaction, though it seldom writes: no claim is taken meanwhile.
	err = m.store.Update(m.base, func(tx Writer) error {
		claims, err := tx.Claims()
		if err != nil {
			return err
		}
		missing, err := addMissingClaims(tx, in.servers, claims)
		if err != nil {
			return err
		}
		for _, c := range missing {
			found = append(found, difference{c.ServerID, "it had no claim; what its flavor takes is counted from now on"})
		}
		found = append(found, m.ledger.repair(append(claims, missing...), m.underWay())...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	m.ledger.noteAllocated(in.owners)
	entries, b := m.ledger.claims(), m.ledger.balance()
	found = append(found, compareGuests(in.guests, entries)...)
	found = append(found, comparePlaces(b, entries)...)
	found = append(found, compareDevices(b.stock, entries, in, m.underWay())...)
	return append(found, m.compareDisks(in)...), nil
}

// addMissingClaims stores a claim for each server that was built and has none.
func addMissingClaims(tx Writer, servers []Server, claims []Claim) (added []Claim, err error) {
	claimed := make(map[string]bool, len(claims))
	for _, c := range claims {
		claimed[c.ServerID] = true
	}
	for _, state := range servers {
		if claimed[state.ID] {
			continue
		}
		s, err := tx.Server(state.ID)
		if errors.Is(err, ErrNotFound) || err == nil && s.Launched.IsZero() {
			continue // deleted meanwhile, or never built
		}
		if err != nil {
			return nil, err
		}
		c := claimOf(s.ID, s.claimedFlavor(), Image{})
		if err := tx.PutClaim(c); err != nil {
			return nil, err
		}
		added = append(added, c)
	}
	return added, nil
}

// underWay are the servers with an operation.
func (m *Manager) underWay() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	busy := make(map[string]bool, len(m.running))
	for id := range m.running {
		busy[id] = true
	}
	return busy
}

// tell logs what was not found by the audit before.
func (m *Manager) tell(found []difference) {
	m.mu.Lock()
	before := m.told
	m.told = map[difference]bool{}
	for _, d := range found {
		m.told[d] = true
	}
	m.mu.Unlock()
	for _, d := range found {
		if !before[d] {
			m.logger(d.serverID, "").Warn("audit found a difference", "difference", d.what)
		}
	}
}

// repair makes the ledger what the stored claims say, and returns where it was not. A server that is busy may
// be about to give its claim back.
func (l *ledger) repair(stored []Claim, busy map[string]bool) (found []difference) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := make(map[ClaimKey]bool, len(stored))
	for _, c := range stored {
		known[c.Key()] = true
		e, there := l.entries[c.Key()]
		switch {
		case !there:
			found = append(found, difference{c.ServerID, c.Kind.named("its claim") + " was not counted"})
		case !reflect.DeepEqual(e.Claim, c):
			found = append(found, difference{c.ServerID, c.Kind.named("another claim") + " than the stored one was counted"})
		default:
			continue
		}
		l.put(c, nil)
	}
	for key := range l.entries {
		if !known[key] && !busy[key.ServerID] {
			found = append(found, difference{key.ServerID, key.Kind.named("a claim") + " was counted that is not stored"})
			l.drop(key)
		}
	}
	cells, used, devices := l.cells, l.used, l.stock
	l.recount()
	if used != l.used {
		found = append(found, difference{"", fmt.Sprintf("the sums of what is claimed were %v; they are %v", used, l.used)})
	}
	for _, a := range l.stock.Addresses() {
		if was, is := devices.Entry(a), l.stock.Entry(a); was.State != is.State || was.Owner != is.Owner {
			found = append(found, difference{"", fmt.Sprintf("PCI device %v was counted as %s; it is %s", a, was, is)})
		}
	}
	return append(found, compareCells(cells, l.cells)...)
}

// named says which claim it is about.
func (k ClaimKind) named(claim string) string {
	if k == ClaimOwn {
		return claim
	}
	return claim + " (" + string(k) + ")"
}

// compareCells says where cells were counted wrong.
func compareCells(was, is numa.Host) (found []difference) {
	for i := range is.Cells {
		a, b := was.Cell(is.Cells[i].ID), &is.Cells[i]
		if a != nil && a.Pinned.Equal(b.Pinned) && a.CPUUsage == b.CPUUsage && a.UsedMiB == b.UsedMiB && slices.Equal(a.Pages, b.Pages) {
			continue
		}
		found = append(found, difference{"", fmt.Sprintf("the use of host cell %d was counted wrong", b.ID)})
	}
	return found
}

// compareGuests holds the hypervisor's guests against what their servers claim, for whatever purpose.
func compareGuests(guests []virt.Guest, entries map[ClaimKey]entry) (found []difference) {
	for _, g := range guests {
		own, ours := entries[ClaimKey{g.ID, ClaimOwn}]
		if !ours || g.VCPUs == 0 || g.MemoryMiB == 0 {
			continue
		}
		matches := func(kind ClaimKind) bool {
			e, there := entries[ClaimKey{g.ID, kind}]
			return there && g.VCPUs == e.VCPUs && g.MemoryMiB == uint64(e.MemoryMiB)
		}
		if !slices.ContainsFunc(claimKinds, matches) {
			found = append(found, difference{g.ID, fmt.Sprintf("its guest has %d vCPUs and %d MiB; it claims %d and %d",
				g.VCPUs, g.MemoryMiB, own.VCPUs, own.MemoryMiB)})
		}
	}
	return found
}

// comparePlaces holds the places of the servers against the host as it is now.
func comparePlaces(b balance, entries map[ClaimKey]entry) (found []difference) {
	if len(b.host.cells.Cells) == 0 {
		return nil // it does not tell
	}
	if !b.host.missing.Empty() {
		found = append(found, difference{"", fmt.Sprintf("CPU %v of cpu_shared_set or cpu_dedicated_set is offline; nothing is placed on it", b.host.missing)})
	}
	owner := map[int]string{}
	for key, e := range entries {
		if e.NUMA == nil {
			continue
		}
		id := key.ServerID
		for i := range e.NUMA.Cells {
			found = append(found, comparePlace(b.host, id, &e.NUMA.Cells[i])...)
		}
		for pcpu := range pinnedTo(*e.NUMA).All {
			if other, taken := owner[pcpu]; taken && other != id {
				found = append(found, difference{max(id, other), fmt.Sprintf("pCPU %d is claimed by server %s too", pcpu, min(id, other))})
			}
			owner[pcpu] = id
		}
	}
	return append(found, comparePages(b.cells)...)
}

// compareDevices holds the servers' PCI devices against those of the host and of the guests.
func compareDevices(s stock, entries map[ClaimKey]entry, in inventory, busy map[string]bool) (found []difference) {
	owner := map[pci.Address]string{}
	claimed := map[string]map[string]bool{}
	for key, e := range entries {
		id := key.ServerID
		for _, d := range e.PCI {
			if other, taken := owner[d.Address]; taken && other != id {
				found = append(found, difference{max(id, other), fmt.Sprintf("PCI device %v is claimed by server %s too", d.Address, min(id, other))})
			}
			owner[d.Address] = id
			if claimed[id] == nil {
				claimed[id] = map[string]bool{}
			}
			claimed[id][d.Address.String()] = true
			found = append(found, compareDevice(s.Entry(d.Address), id, d)...)
		}
	}
	for _, g := range in.guests {
		if in.owners != nil && !busy[g.ID] {
			found = append(found, compareOwned(s, g.ID, claimed[g.ID], in.owners[g.ID])...)
		}
	}
	return found
}

// compareDevice holds a claimed device against the host's.
func compareDevice(is pci.Entry, id string, d ClaimedDevice) []difference {
	switch {
	case is.Gone || is.State == pci.Removed:
		return []difference{{id, fmt.Sprintf("PCI device %v, which it has, has gone from the host or is not one that pci_device_spec means any more", d.Address)}}
	case is.VendorID != d.VendorID || is.ProductID != d.ProductID || is.Type != d.Type:
		return []difference{{id, fmt.Sprintf("PCI device %v is now %s:%s %s; it has it as %s:%s %s", d.Address,
			is.VendorID, is.ProductID, is.Type, d.VendorID, d.ProductID, d.Type)}}
	}
	return nil
}

// compareOwned holds the devices of a guest against those that its server claims. What a guest that is no server's has
// concerns only those devices that servers may get.
func compareOwned(s stock, id string, claimed map[string]bool, has []string) (found []difference) {
	for _, text := range has {
		address, err := pci.ParseAddress(text)
		switch {
		case claimed[text] || err != nil || claimed == nil && s.Entry(address).State == pci.Removed:
		default:
			found = append(found, difference{id, fmt.Sprintf("its guest has PCI device %s, which it does not claim", text)})
		}
	}
	for _, text := range slices.Sorted(maps.Keys(claimed)) {
		if !slices.Contains(has, text) {
			found = append(found, difference{id, fmt.Sprintf("it claims PCI device %s, which its guest does not have", text)})
		}
	}
	return found
}

func comparePlace(host hostSize, id string, g *numa.GuestCell) (found []difference) {
	cell := host.cells.Cell(g.ID)
	if cell == nil {
		return []difference{{id, fmt.Sprintf("host cell %d, in which it was placed, is gone", g.ID)}}
	}
	pcpus := g.PinnedPCPUs().Union(g.Reserved)
	say := func(cpus cpuset.Set, what string) {
		if !cpus.Empty() {
			found = append(found, difference{id, fmt.Sprintf("pCPU %v, which it is pinned to, %s; no other server is pinned to it", cpus, what)})
		}
	}
	say(pcpus.Minus(host.online), "is offline")
	say(pcpus.Intersect(host.online).Minus(cell.Dedicated), "is not one that servers may be pinned to any more")
	return found
}

// comparePages names pages of which more are claimed than there are.
func comparePages(cells numa.Host) (found []difference) {
	for i := range cells.Cells {
		for _, p := range cells.Cells[i].Pages {
			if numa.Huge(p.SizeKiB) && p.Free() < 0 {
				found = append(found, difference{"", fmt.Sprintf("%d pages of %d KiB are claimed of host cell %d, which has %d, %d of them reserved",
					p.Used, p.SizeKiB, cells.Cells[i].ID, p.Total, p.Reserved)})
			}
		}
	}
	return found
}
