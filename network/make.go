package network

import "slices"

// make adds what is missing and makes all that is wanted what it should be, from the lowest to the highest.
func (d *differ) make(want State) {
	for _, w := range ordered(d.want) {
		if _, there := d.now.Links[w.Name]; !there {
			if !w.owned() {
				continue // a guest's tap, which will come with the guest
			}
			d.add(w)
		}
		d.settle(w)
	}
	for _, w := range ordered(d.want) {
		d.plug(w)
	}
	d.switchIn()
	d.setFunctions(want)
	for _, w := range ordered(d.want) {
		d.limit(w)
	}
}

func (d *differ) add(w Link) {
	d.emit(Change{Op: OpAdd, Link: w.Name, New: Link{Name: w.Name, Shape: w.Shape, Mark: w.Mark, MTU: w.MTU, MAC: w.MAC, Filtering: w.Filtering, Hub: w.Hub}})
	// What a new link has is the host's default: say it in any case.
	l := d.now.Links[w.Name]
	l.IPv6Off = !w.IPv6Off
	d.now.Links[w.Name] = l
}

// settle makes a link that is there what is wanted, but for what is plugged into what.
func (d *differ) settle(w Link) {
	is := d.now.Links[w.Name]
	say := func(differs bool, op Op) {
		if differs {
			d.emit(Change{Op: op, Link: w.Name, New: w})
		}
	}
	if w.owned() {
		for _, a := range is.Mark.Addresses {
			if !slices.Contains(w.Addresses, a) && slices.Contains(is.Addresses, a) {
				d.emit(Change{Op: OpDropAddress, Link: w.Name, Address: a})
			}
		}
		say(is.Mark.String() != w.Mark.String(), OpMark)
		say(is.IPv6Off != w.IPv6Off, OpIPv6Off)
		say(is.ARPFilter != w.ARPFilter, OpARPFilter)
		d.peers(w)
	}
	say(w.MTU != 0 && is.MTU != w.MTU, OpMTU)
	say(w.MAC != "" && is.MAC != w.MAC, OpMAC)
	for _, a := range w.Addresses {
		if !slices.Contains(is.Addresses, a) {
			d.emit(Change{Op: OpAddAddress, Link: w.Name, Address: a})
		}
	}
	say(w.Hub && !is.Hub, OpHub)
	if w.Filtering {
		say(!is.Filtering, OpFiltering)
		d.vlans(w)
	}
	if w.Kind == KindBridge {
		say(w.Up && !is.Up, OpUp)
	}
}

func (d *differ) peers(w Link) {
	is := d.now.Links[w.Name].Peers
	for _, p := range is {
		if !slices.Contains(w.Peers, p) {
			d.emit(Change{Op: OpDropPeer, Link: w.Name, Peer: p})
		}
	}
	for _, p := range w.Peers {
		if !slices.Contains(is, p) {
			d.emit(Change{Op: OpAddPeer, Link: w.Name, Peer: p})
		}
	}
}

// plug puts a link into its bridge, or takes it out of one, and then lets it carry frames.
func (d *differ) plug(w Link) {
	is, there := d.now.Links[w.Name]
	if !there {
		return
	}
	if is.Master != w.Master && (w.owned() || w.Master != "") {
		d.emit(Change{Op: OpMaster, Link: w.Name, To: w.Master})
	}
	if d.want[w.Master].Filtering {
		d.vlans(w)
	}
	if w.Up && !is.Up {
		d.emit(Change{Op: OpUp, Link: w.Name})
	}
}

// vlans makes the VLANs of a filtering bridge's port those that are wanted, or the bridge's own. A port has none at first, and
// passes nothing.
func (d *differ) vlans(w Link) {
	is := d.now.Links[w.Name]
	for _, id := range is.Tagged {
		if id != w.Native && !slices.Contains(w.Tagged, id) {
			d.emit(Change{Op: OpDropVLAN, Link: w.Name, VLAN: id})
		}
	}
	if is.Native != 0 && is.Native != w.Native && !slices.Contains(w.Tagged, is.Native) {
		d.emit(Change{Op: OpDropVLAN, Link: w.Name, VLAN: is.Native, Native: true})
	}
	for _, id := range w.Tagged {
		if !slices.Contains(is.Tagged, id) {
			d.emit(Change{Op: OpAddVLAN, Link: w.Name, VLAN: id})
		}
	}
	if w.Native != 0 && is.Native != w.Native {
		d.emit(Change{Op: OpAddVLAN, Link: w.Name, VLAN: w.Native, Native: true})
	}
}
