package network

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Space is a network namespace with a name. Its Links are the devices in it: of a wanted one those that are veths to the host.
type Space struct {
	Name string
	// Taken is one of somebody else's, and Half what a crash left of one of the agent's. Only read.
	Taken, Half bool
	Forwarding  bool
	// Tuned is that all its sysctls are those of a namespace with or without Forwarding.
	Tuned bool
	Links map[string]Link
}

// String is the namespace in one line, without its devices.
func (s Space) String() string {
	out := "namespace " + s.Name
	for _, said := range []struct {
		is   bool
		word string
	}{{s.Taken, "somebody's"}, {s.Half, "half-made"}, {s.Forwarding, "forwarding"}, {s.Tuned, "tuned"}} {
		if said.is {
			out += " " + said.word
		}
	}
	return out
}

// dropSpaces leaves out of the wanted namespaces those that somebody else has.
func (d *differ) dropSpaces(want State) {
	for _, name := range slices.Sorted(maps.Keys(want.Spaces)) {
		if d.now.Spaces[name].Taken {
			d.errs = append(d.errs, fmt.Errorf("namespace %s: %w: it is not the agent's", name, ErrTaken))
			continue
		}
		d.spaces[name] = want.Spaces[name]
	}
}

// nowhere says why a veth's other end cannot be where it is wanted.
func (d *differ) nowhere(w Link) error {
	if _, had := d.spaces[w.Space]; w.Space != "" && !had {
		return fmt.Errorf("%s: it needs the namespace %s", w.Name, w.Space)
	}
	return nil
}

func (d *differ) removeSpaces() {
	for _, name := range slices.Sorted(maps.Keys(d.now.Spaces)) {
		if _, wanted := d.spaces[name]; !wanted && !d.now.Spaces[name].Taken {
			d.emit(Change{Op: OpRemoveSpace, Space: name})
		}
	}
}

func (d *differ) makeSpaces() {
	for _, name := range slices.Sorted(maps.Keys(d.spaces)) {
		if is, there := d.now.Spaces[name]; !there || is.Half {
			d.emit(Change{Op: OpAddSpace, Space: name})
		}
		want := d.spaces[name]
		if is := d.now.Spaces[name]; is.Forwarding != want.Forwarding || !is.Tuned {
			d.emit(Change{Op: OpTune, Space: name, Forward: want.Forwarding})
		}
	}
}

// furnish makes the devices in the namespaces what they should be.
func (d *differ) furnish() {
	for _, space := range slices.Sorted(maps.Keys(d.spaces)) {
		devices := d.spaces[space].Links
		for _, name := range slices.Sorted(maps.Keys(devices)) {
			if _, there := d.now.Spaces[space].Links[name]; there {
				d.furnishOne(space, devices[name])
			}
		}
	}
}

// furnishOne has new addresses and routes come before old ones go, and routes when there is a way to their next hops.
func (d *differ) furnishOne(space string, w Link) {
	is := d.now.Spaces[space].Links[w.Name]
	say := func(c Change) {
		c.Space, c.Link, c.New = space, w.Name, w
		d.emit(c)
	}
	if is.MTU != w.MTU {
		say(Change{Op: OpMTU})
	}
	if is.MAC != w.MAC {
		say(Change{Op: OpMAC})
	}
	for _, a := range w.Addresses {
		if !slices.Contains(is.Addresses, a) {
			say(Change{Op: OpAddAddress, Address: a})
		}
	}
	for _, a := range is.Addresses {
		floating := a.Addr().Is4() && a.IsSingleIP()
		if !slices.Contains(w.Addresses, a) && !floating {
			say(Change{Op: OpDropAddress, Address: a})
		}
	}
	if !is.Up {
		say(Change{Op: OpUp})
	}
	for _, r := range is.Routes {
		if !slices.Contains(w.Routes, r) {
			say(Change{Op: OpDropRoute, Route: r})
		}
	}
	for _, r := range w.Routes {
		if !slices.Contains(is.Routes, r) {
			say(Change{Op: OpAddRoute, Route: r})
		}
	}
}

// namespace adds a namespace, and of its devices those that make sense.
func (p *plan) namespace(n *Namespace) error {
	if !validID(n.Name) || n.Name == halfMade {
		return errors.New("name: letters, digits, dashes and underscores, at most 64")
	}
	if _, there := p.spaces[n.Name]; there {
		return errors.New("name: it is there twice")
	}
	space := Space{Name: n.Name, Forwarding: n.Forwarding, Tuned: true, Links: map[string]Link{}}
	p.spaces[n.Name] = space
	var errs []error
	for i := range n.Devices {
		if err := p.device(space, &n.Devices[i]); err != nil {
			errs = append(errs, fmt.Errorf("device %s: %w", shown(n.Devices[i].Name), err))
		}
	}
	return errors.Join(errs...)
}

// device adds both ends of a veth.
func (p *plan) device(space Space, d *Device) error {
	if err := d.validate(); err != nil {
		return err
	}
	n := p.networks[d.Network]
	switch {
	case n == nil:
		return fmt.Errorf("network: %.40q is none of the host's", d.Network)
	case p.macvtaps[n.ID]:
		return fmt.Errorf("network: %s has macvtap ports instead of a bridge", n.ID)
	case d.MTU > n.mtu():
		return fmt.Errorf("mtu: %d is more than its network's %d", d.MTU, n.mtu())
	}
	if _, there := space.Links[d.Name]; there {
		return errors.New("name: it is there twice")
	}
	mtu := d.MTU
	if mtu == 0 {
		mtu = n.mtu()
	}
	host := Link{
		Name: TapName(d.Port), Shape: Shape{Kind: KindVeth, Space: space.Name, Peer: d.Name}, Mark: Mark{ID: d.Port},
		Up: true, MTU: mtu, MAC: hostSide(d.MAC), Master: n.bridge(), Native: n.native(), IPv6Off: true,
	}
	if err := p.room(host); err != nil {
		return err
	}
	p.put(host, "port "+d.Port)
	space.Links[d.Name] = d.link(host.Name, mtu)
	return nil
}
