package pci

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// State is what a device is to guests. The names are Nova's.
type State string

// The states of a device. A physical function and its virtual ones exclude each other: while one is claimed
// or allocated the others are unavailable.
const (
	Available   State = "available"
	Claimed     State = "claimed"   // promised to a server that is not there yet
	Allocated   State = "allocated" // a guest has it
	Unavailable State = "unavailable"
	Removed     State = "removed" // it has gone from the host
)

// Inventory is the devices that guests may get, and who has which. The zero value is an empty one. It is no
// more than a value: who shares it locks it, and stores the claims.
type Inventory struct {
	entries map[Address]*Entry
}

// Entry is a device of an inventory.
type Entry struct {
	Allowed
	State State
	Owner string // the server that has claimed or allocated it
	// Gone says that the host no longer shows the device while a server has it. It is kept until
	// the server gives it back.
	Gone bool
}

// ErrNotEnough says that the devices that a request asks for are not there.
var ErrNotEnough = errors.New("not enough PCI devices")

// ErrState says that a device is not in a state in which this can be done.
var ErrState = errors.New("the PCI device is not in the state for this")

// used says whether a server has the device.
func (e *Entry) used() bool { return e.State == Claimed || e.State == Allocated }

// Update takes in what the host shows now and returns the differences that somebody should hear of: devices
// that vanished, changed or came back while a server has them.
func (v *Inventory) Update(found []Allowed) (news []string) {
	if v.entries == nil {
		v.entries = map[Address]*Entry{}
	}
	there := map[Address]bool{}
	for _, a := range found {
		there[a.Address] = true
		if note := v.show(a); note != "" {
			news = append(news, note)
		}
	}
	for _, address := range v.Addresses() {
		e := v.entries[address]
		switch {
		case there[address] || e.Gone:
		case e.used():
			e.Gone = true
			news = append(news, fmt.Sprintf("PCI device %v has gone while server %s has it", address, e.Owner))
		default:
			delete(v.entries, address)
		}
	}
	v.exclude()
	return news
}

// show takes in one device. What a server has keeps its description until it is given back.
func (v *Inventory) show(a Allowed) (note string) {
	e := v.entries[a.Address]
	if e == nil {
		v.entries[a.Address] = &Entry{Allowed: a, State: Available}
		return ""
	}
	if !e.used() {
		e.Allowed = a
		return ""
	}
	if e.VendorID != a.VendorID || e.ProductID != a.ProductID || e.Type != a.Type {
		return fmt.Sprintf("PCI device %v is now %s:%s %s, but server %s has it as %s:%s %s", a.Address,
			a.VendorID, a.ProductID, a.Type, e.Owner, e.VendorID, e.ProductID, e.Type)
	}
	if e.Gone {
		e.Gone = false
		return fmt.Sprintf("PCI device %v of server %s is back", a.Address, e.Owner)
	}
	return ""
}

// exclude sets each device that nobody has to available, or to unavailable when its physical function or one of
// its virtual functions is in use.
func (v *Inventory) exclude() {
	busy := map[Address]bool{}
	for address, e := range v.entries {
		if !e.used() {
			continue
		}
		busy[address] = true
		if e.Parent != nil {
			busy[*e.Parent] = true
		}
	}
	for address, e := range v.entries {
		if e.used() {
			continue
		}
		e.State = Available
		parentUsed := e.Parent != nil && v.entries[*e.Parent] != nil && v.entries[*e.Parent].used()
		if busy[address] || parentUsed {
			e.State = Unavailable
		}
	}
}

// Addresses lists the devices in order.
func (v *Inventory) Addresses() []Address {
	return slices.SortedFunc(maps.Keys(v.entries), Address.Compare)
}

// Entry returns a device; State is Removed when it is not known.
func (v *Inventory) Entry(a Address) Entry {
	if e := v.entries[a]; e != nil {
		return *e
	}
	return Entry{Allowed: Allowed{Device: Device{Address: a}}, State: Removed}
}

// Owned lists the devices that a server has.
func (v *Inventory) Owned(owner string) (list []Address) {
	for _, a := range v.Addresses() {
		if e := v.entries[a]; e.used() && e.Owner == owner {
			list = append(list, a)
		}
	}
	return list
}

// Claim promises the server the devices of its requests, in cells as for Consume. It takes all or none: the
// error is then ErrNotEnough and names the request, as a *Shortage where there are too few. The result has a list
// of addresses for each request.
func (v *Inventory) Claim(owner string, requests []Request, host, cells []Cell) ([][]Address, error) {
	next := v.Clone()
	taken := make([][]Address, len(requests))
	for i, r := range requests {
		list, err := next.claim(owner, r, host, cells)
		if err != nil {
			return nil, err
		}
		taken[i] = list
	}
	v.entries = next.entries
	return taken, nil
}

func (v *Inventory) claim(owner string, r Request, host, cells []Cell) ([]Address, error) {
	pools, members := v.pools()
	left := slices.Clone(pools)
	if !consume(left, r, host, cells) {
		return nil, shortage(pools, r, host, cells)
	}
	var list []Address
	for i := range pools {
		list = append(list, members[i][:pools[i].Count-left[i].Count]...)
	}
	for _, a := range list {
		e := v.entries[a]
		if e.State != Available { // a physical function and a virtual one of it in one request
			return nil, fmt.Errorf("%w: device %v of alias %q excludes another one of the request", ErrNotEnough, a, r.Alias)
		}
		e.State, e.Owner = Claimed, owner
		v.exclude()
	}
	return list, nil
}

func (r Request) affinity() string {
	if r.Affinity == "" {
		return AffinityLegacy
	}
	return r.Affinity
}

// Allocate says that the server's guest has its devices now. Devices that it has already are fine.
func (v *Inventory) Allocate(owner string, addresses []Address) error {
	for _, a := range addresses {
		if e := v.entries[a]; e == nil || !e.used() || e.Owner != owner {
			return fmt.Errorf("allocate %v to server %s: %w: it is %s", a, owner, ErrState, v.Entry(a).String())
		}
	}
	for _, a := range addresses {
		v.entries[a].State = Allocated
	}
	return nil
}

// String says in which state the device is, and who has it.
func (e Entry) String() string {
	if e.used() {
		return fmt.Sprintf("%s by server %s", e.State, e.Owner)
	}
	return string(e.State)
}

// Restore puts a stored claim into the inventory: whoever has the devices by the store has them, also those
// that the host does not show. Update comes first. A device that another server has is refused, and then all are.
func (v *Inventory) Restore(owner string, devices []Allowed, state State) error {
	for _, d := range devices {
		if e := v.entries[d.Address]; e != nil && e.used() && e.Owner != owner {
			return fmt.Errorf("restore %v to server %s: %w: it is %s", d.Address, owner, ErrState, e.String())
		}
	}
	holdings := make([]Holding, len(devices))
	for i, d := range devices {
		holdings[i] = Holding{owner, d, state}
	}
	v.Hold(holdings)
	return nil
}

// Holding is a device in the hands of a server.
type Holding struct {
	Owner string
	Allowed
	State State
}

// Hold is Restore for many claims at once. Of two servers with one device it is the first's, and what a server has
// allocated it does not merely claim.
func (v *Inventory) Hold(holdings []Holding) {
	if v.entries == nil {
		v.entries = map[Address]*Entry{}
	}
	for _, h := range holdings {
		e := v.entries[h.Address]
		if e == nil {
			e = &Entry{Allowed: h.Allowed, Gone: true}
			v.entries[h.Address] = e
		}
		if e.used() && (e.Owner != h.Owner || e.State == Allocated) {
			continue
		}
		e.State, e.Owner = h.State, h.Owner
	}
	v.exclude()
}

// Free gives back all devices of a server. One that has none is fine. Devices that have gone
// meanwhile are forgotten.
func (v *Inventory) Free(owner string) { v.Release(owner, v.Owned(owner)) }

// Release gives back some devices of a server. What it does not have is left alone.
func (v *Inventory) Release(owner string, addresses []Address) {
	for _, a := range addresses {
		e := v.entries[a]
		if e == nil || !e.used() || e.Owner != owner {
			continue
		}
		e.State, e.Owner = Available, ""
		if e.Gone {
			delete(v.entries, a)
		}
	}
	v.exclude()
}

// Clone returns a copy that can be changed without changing v.
func (v *Inventory) Clone() *Inventory {
	c := &Inventory{entries: make(map[Address]*Entry, len(v.entries))}
	for a, e := range v.entries {
		copied := *e
		c.entries[a] = &copied
	}
	return c
}

// Pools groups the available devices by what a request can ask for, in the order of their addresses.
func (v *Inventory) Pools() []Pool {
	pools, _ := v.pools()
	return pools
}

func (v *Inventory) pools() (pools []Pool, members [][]Address) {
	index := map[string]int{}
	for _, a := range v.Addresses() {
		e := v.entries[a]
		if e.State != Available {
			continue
		}
		p := e.pool()
		key := p.key()
		i, known := index[key]
		if !known {
			i = len(pools)
			index[key] = i
			pools, members = append(pools, p), append(members, nil)
		}
		pools[i].Count++
		members[i] = append(members[i], a)
	}
	return pools, members
}

// pool is the pool that the device belongs to, empty.
func (e *Entry) pool() Pool {
	tags := maps.Clone(e.Spec.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	tags["dev_type"] = e.Type
	return Pool{VendorID: e.VendorID, ProductID: e.ProductID, Node: e.Node, Tags: tags}
}

func (p Pool) key() string {
	node := -1
	if p.Node != nil {
		node = *p.Node
	}
	parts := []string{fmt.Sprint(node)}
	props := p.Properties()
	for _, k := range slices.Sorted(maps.Keys(props)) {
		parts = append(parts, fmt.Sprintf("%q=%q", k, props[k]))
	}
	return strings.Join(parts, " ")
}
