package network

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrTaken says that a link of the wanted name is there and not the agent's. It stays as it is, and what was to be
	// has to wait until it is gone.
	ErrTaken = errors.New("name is taken")
	// ErrMissing says that an interface of the host that is needed is not there. It may come.
	ErrMissing = errors.New("no such interface")
	// ErrMTU says that a link below has a smaller MTU than is needed.
	ErrMTU = errors.New("mtu is too large")
	// ErrConflict says that an interface's addresses or routes cannot be moved to the bridge that is to have them.
	ErrConflict = errors.New("in the way")
)

// differ makes changes, and knows what there is after each.
type differ struct {
	now      State
	want     map[string]Link       // that can be had
	spaces   map[string]Space      // that are wanted and can be had
	switched map[string]SwitchPort // that are wanted and can be had
	kept     map[string]bool       // that are wanted, cannot be made so, and stay as they are
	changes  []Change
	errs     []error
}

// Diff is what makes the links that are there into those that are wanted, in an order in which it can be done: what is to go is
// let go of before it goes, and what is to be is there before it is used. No address or route is taken from a link
// before another has it. What cannot be had is in the error, and with it what depends on that; the changes are for all the rest.
func Diff(have, want State) ([]Change, error) {
	d := &differ{now: have.clone(), want: map[string]Link{}, spaces: map[string]Space{}, switched: map[string]SwitchPort{}, kept: map[string]bool{}}
	if d.now.Spaces == nil {
		d.now.Spaces = map[string]Space{}
	}
	for _, name := range want.names() {
		d.want[name] = want.Links[name]
	}
	for name, w := range d.want {
		if w.Filtering {
			w.MTU = have.Links[w.Mark.Uplink].MTU
			d.want[name] = w
		}
	}
	d.drop(want)
	d.dropSwitched(want)
	d.unplug()
	d.giveBack(want)
	d.release()
	d.remove()
	d.removeSpaces()
	d.makeSpaces()
	d.make(want)
	d.furnish()
	for _, name := range want.names() {
		if w, ok := d.want[name]; ok && w.Mark.Uplink != "" {
			d.take(w)
		}
	}
	return d.changes, errors.Join(d.errs...)
}

func (d *differ) emit(c Change) {
	d.changes = append(d.changes, c)
	d.now.do(c)
}

// drop leaves out of what is wanted what cannot be had, and what depends on it.
func (d *differ) drop(want State) {
	d.dropSpaces(want)
	for _, name := range want.names() {
		if err := cmp.Or(d.nowhere(d.want[name]), d.impossible(d.want[name])); err != nil {
			d.leave(name, err)
		}
	}
	for again := true; again; {
		again = false
		for _, name := range want.names() {
			l, ok := d.want[name]
			lacks := cmp.Or(d.lacks(want, l.Parent), d.lacks(want, l.Master))
			if l.Space == "" {
				lacks = cmp.Or(lacks, d.lacks(want, l.Peer))
			}
			if !ok || lacks == nil {
				continue
			}
			d.leave(name, fmt.Errorf("%s: %w", name, lacks))
			again = true
		}
	}
}

func (d *differ) leave(name string, why error) {
	d.errs = append(d.errs, why)
	d.kept[name] = true
	delete(d.want, name)
}

// lacks says what is wrong with a link that another needs.
func (d *differ) lacks(want State, name string) error {
	if _, asked := want.Links[name]; asked && d.kept[name] {
		return fmt.Errorf("it needs %s", name)
	}
	return nil
}

func (d *differ) impossible(w Link) error {
	have, there := d.now.Links[w.Name]
	switch {
	case w.owned() && there && !have.owned():
		return fmt.Errorf("%s: %w: it is %s, and not the agent's", w.Name, ErrTaken, cmp.Or(string(have.Kind), "an interface"))
	case !w.owned() && !w.Guest && !there:
		return fmt.Errorf("%s: %w", w.Name, ErrMissing)
	case !w.owned() && !w.Guest && have.owned():
		return fmt.Errorf("%s: %w: it is the agent's own %s", w.Name, ErrTaken, have.Kind)
	case !w.owned() && !w.Guest && w.Master != "" && have.Master != "" && have.Master != w.Master && !d.ours(have.Master):
		return fmt.Errorf("%s: %w: it is in %s already", w.Name, ErrTaken, have.Master)
	}
	if err := d.tooLarge(w); err != nil {
		return err
	}
	if w.Mark.Uplink != "" {
		return d.obstacle(w)
	}
	return nil
}

func (d *differ) ours(name string) bool {
	l := d.now.Links[name]
	return l.owned()
}

// tooLarge says whether the link below carries frames of the wanted link's size.
func (d *differ) tooLarge(w Link) error {
	below, room := w.Parent, 0
	switch {
	case w.Kind == KindVXLAN && (w.Local.Is6() || w.Group.Is6() || len(w.Peers) > 0 && w.Peers[0].Is6()):
		room = vxlanOverIPv6
	case w.Kind == KindVXLAN:
		room = vxlanOverIPv4
	case w.Mark.Uplink != "":
		below = w.Mark.Uplink
	case w.owned() && d.want[w.Master].Filtering:
		below = d.want[w.Master].Mark.Uplink
	}
	lower, there := d.now.Links[below]
	if wanted, ok := d.want[below]; ok && wanted.MTU != 0 {
		lower.MTU = wanted.MTU
	}
	if there && lower.MTU != 0 && w.MTU > lower.MTU-room {
		return fmt.Errorf("%s: %w: %d, and %s has %d, of which %d can be had", w.Name, ErrMTU, w.MTU, below, lower.MTU, lower.MTU-room)
	}
	return nil
}

// obstacle says why the bridge cannot stand in for its uplink.
func (d *differ) obstacle(w Link) error {
	up := d.now.Links[w.Mark.Uplink]
	for _, r := range up.Routes {
		if r.Multi {
			return fmt.Errorf("%s: %w: route %s of %s", w.Name, ErrConflict, r, up.Name)
		}
	}
	bridge := d.now.Links[w.Name]
	for _, a := range slices.Concat(up.foreign(), bridge.foreign()) {
		for _, own := range w.Addresses {
			if a.Addr() == own.Addr() {
				return fmt.Errorf("%s: %w: address %s, which is to be the agent's, is %s's", w.Name, ErrConflict, own, up.Name)
			}
		}
	}
	return nil
}

// release gives interfaces back what bridges have of them that are not to have it any longer.
func (d *differ) release() {
	for _, name := range d.now.names() {
		bridge := d.now.Links[name]
		up := bridge.Mark.Uplink
		if up == "" || d.want[name].Mark.Uplink == up && !d.mixes(name) || d.kept[name] {
			continue
		}
		if _, there := d.now.Links[up]; !there {
			continue // with the interface its addresses are gone
		}
		if d.now.Links[up].Master == name {
			d.emit(Change{Op: OpMaster, Link: up})
		}
		d.move(name, up)
	}
}

// mixes says whether a bridge that filters is to be one that does not. It is made anew, or whoever is in it still would be in one
// network with all.
func (d *differ) mixes(name string) bool {
	return d.now.Links[name].Filtering && !d.want[name].Filtering
}

// take gives a bridge what its uplink has.
func (d *differ) take(w Link) {
	up, there := d.now.Links[w.Mark.Uplink]
	if !there || up.Master != w.Name {
		return
	}
	if bridge := d.now.Links[w.Name]; bridge.MAC != up.MAC {
		d.emit(Change{Op: OpMAC, Link: w.Name, New: Link{MAC: up.MAC}})
	}
	d.move(up.Name, w.Name)
}

// move moves addresses and routes: each is on the new link before it is off the old one. The kernel removes an
// IPv4 address's secondaries with it, so those go first.
func (d *differ) move(from, to string) {
	addresses, routes := d.now.Links[from], slices.Clone(d.now.Links[from].Routes)
	moved := addresses.foreign()
	if len(moved)+len(routes) > 0 && !d.now.Links[to].Up {
		d.emit(Change{Op: OpUp, Link: to})
	}
	for _, a := range moved {
		if !slices.Contains(d.now.Links[to].Addresses, a) {
			d.emit(Change{Op: OpCopyAddress, Link: from, To: to, Address: a})
		}
	}
	for _, r := range routes {
		d.emit(Change{Op: OpMoveRoute, Link: from, To: to, Route: r})
	}
	for _, a := range slices.Backward(moved) {
		d.emit(Change{Op: OpDropAddress, Link: from, Address: a})
	}
}

// rank orders links from the lowest to the highest.
func rank(l Link) int {
	return slices.Index([]Kind{KindBridge, "", KindVLAN, KindVXLAN, KindMacvtap, KindTap, KindVeth}, l.Kind)
}

// ordered are the links from the lowest to the highest.
func ordered(links map[string]Link) []Link {
	var out []Link
	for _, name := range (State{Links: links}).names() {
		out = append(out, links[name])
	}
	slices.SortStableFunc(out, func(a, b Link) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// remove takes away what is the agent's and not wanted, or wanted as something else, from the highest to the lowest.
func (d *differ) remove() {
	if _, there := d.now.Links[halfMade]; there {
		d.emit(Change{Op: opRemoveUnmade, Link: halfMade})
	}
	gone := map[string]bool{}
	low := ordered(d.now.Links)
	for _, l := range low {
		w, wanted := d.want[l.Name]
		switch {
		case !l.owned():
		case gone[l.Parent] || !d.kept[l.Name] && (!wanted || w.Shape != l.Shape || d.mixes(l.Name)):
			gone[l.Name] = true
		}
	}
	for _, l := range slices.Backward(low) {
		if _, there := d.now.Links[l.Name]; there && gone[l.Name] { // a veth's other end went with it
			d.emit(Change{Op: OpRemove, Link: l.Name})
		}
	}
}
