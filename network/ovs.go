package network

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// SwitchPort is a port of a bridge of Open vSwitch, which is no link of the kernel's: what of one is plugged in is known by its name.
type SwitchPort struct {
	Device string
	Bridge string
	// Port is the ID of the port whose it is, which Neutron's agent and OVN look for (external_ids:iface-id); with Active they use it.
	Port   string
	Active bool   // external_ids:iface-status
	MAC    string // external_ids:attached-mac
	Server string // external_ids:vm-uuid; the ID of the server
	// Type is empty for a link of the kernel's, which then has the same name, or dpdkvhostuserclient, of whose Socket QEMU is the server.
	Type, Socket string
	MTU          int  // that Open vSwitch gives it; 0 for its own choice
	Owned        bool // by the agent: external_ids:compute-agent
}

// String is the port in one line.
func (p SwitchPort) String() string {
	out := p.Device + " in " + p.Bridge
	for _, part := range []struct{ key, value string }{
		{"type", p.Type}, {"socket", p.Socket}, {"iface-id", p.Port}, {"attached-mac", p.MAC}, {"vm-uuid", p.Server},
	} {
		if part.value != "" {
			out += " " + part.key + "=" + part.value
		}
	}
	if p.MTU != 0 {
		out += fmt.Sprintf(" mtu=%d", p.MTU)
	}
	if p.Active {
		out += " active"
	}
	if p.Owned {
		out += " owned"
	}
	return out
}

// ErrNoSwitch says that Open vSwitch is not there or does not answer. It may come.
var ErrNoSwitch = errors.New("no Open vSwitch")

// The links of a port that Neutron's hybrid plugging has: a Linux bridge of its own, in which iptables filters, and a veth from there
// into Open vSwitch. The names are os-vif's.
func hybridLinks(port *Port, mtu int) (links []Link, inBridge, inSwitch string) {
	name := func(prefix string) string { return prefix + first(port.ID, idPart) }
	bridge, near, far := HybridBridgeName(port.ID), name("qvb"), name("qvo")
	owned := Link{Mark: Mark{ID: port.ID}, Up: true, MTU: mtu, IPv6Off: true}
	b, v, o := owned, owned, owned
	b.Name, b.Shape, b.Hub = bridge, Shape{Kind: KindBridge}, true
	v.Name, v.Shape, v.Master = near, Shape{Kind: KindVeth, Peer: far}, bridge
	o.Name, o.Shape = far, Shape{Kind: KindVeth, Peer: near}
	return []Link{b, v, o}, bridge, far
}

const (
	integrationBridge = "br-int"
	vhostClient       = "dpdkvhostuserclient"
)

// switchPort adds what a port needs that is plugged into Open vSwitch.
func (p *plan) switchPort(port *Port) error {
	in := SwitchPort{
		Bridge: cmp.Or(port.Bridge, integrationBridge), Port: port.ID, MAC: port.MAC.String(), Server: port.Server, Active: true, Owned: true,
	}
	var links []Link
	if port.VIF == VIFVHostUser {
		in.Device, in.Type, in.Socket, in.MTU = VHostUserName(port.ID), vhostClient, port.Socket, port.MTU
	} else {
		mtu := cmp.Or(port.MTU, 1500)
		tap := tapOf(port, mtu)
		if in.Device = tap.Name; port.Hybrid {
			links, tap.Master, in.Device = hybridLinks(port, mtu)
		}
		links = append(links, tap)
	}
	for _, l := range links {
		if err := p.room(l); err != nil {
			return err
		}
	}
	if other, taken := p.switched[in.Device]; taken {
		return fmt.Errorf("name: %s is that of port %s too", in.Device, other.Port)
	}
	for _, l := range links {
		p.put(l, "port "+port.ID)
	}
	p.switched[in.Device] = in
	return nil
}

func (p *Port) validateSwitch() error {
	ovs := p.VIF == VIFOVS || p.VIF == VIFVHostUser
	switch {
	case !ovs && (p.Hybrid || p.Bridge != "" || p.Server != ""):
		return fmt.Errorf("hybrid, bridge, server: vif type %s has none", p.VIF)
	case p.VIF != VIFVHostUser && p.Socket != "":
		return fmt.Errorf("socket: vif type %s has none", p.VIF)
	case p.VIF == VIFVHostUser && p.Hybrid:
		return errors.New("hybrid: vif type vhostuser is not")
	case p.VIF == VIFVHostUser && !validSocket(p.Socket):
		return fmt.Errorf("socket: %.120q is no absolute path of letters, digits, dots, dashes and underscores", p.Socket)
	case p.Bridge != "" && !validName(p.Bridge):
		return fmt.Errorf("bridge: %.40q is no name of an interface", p.Bridge)
	case p.Server != "" && !validID(p.Server):
		return errors.New("server: letters, digits, dashes and underscores, at most 64")
	case ovs && p.Network != "":
		return fmt.Errorf("network: vif type %s is in Open vSwitch's", p.VIF)
	}
	return nil
}

// validSocket says whether it can be a path of a socket, and nothing to ovs-vsctl.
func validSocket(path string) bool {
	const maxPath = 107 // sun_path without its zero
	for _, r := range []byte(path) {
		if !letter(r) && r != '.' && r != '/' {
			return false
		}
	}
	return strings.HasPrefix(path, "/") && len(path) <= maxPath && !strings.Contains(path, "..")
}

// dropSwitched leaves out what cannot be plugged in.
func (d *differ) dropSwitched(want State) {
	for _, name := range slices.Sorted(maps.Keys(want.Switched)) {
		w := want.Switched[name]
		have, there := d.now.Switched[name]
		var err error
		switch {
		case d.now.SwitchErr != nil:
			err = fmt.Errorf("%w: %w", ErrNoSwitch, d.now.SwitchErr)
		case there && !have.Owned:
			err = fmt.Errorf("%w: in %s, and not by the agent", ErrTaken, have.Bridge)
		case d.kept[name]:
			err = errors.New("it needs its link")
		default:
			d.switched[name] = w
			continue
		}
		d.errs = append(d.errs, fmt.Errorf("%s: port %s: %w", name, w.Port, err))
	}
}

// unplug takes out of Open vSwitch what is not to be there, while it still has a link.
func (d *differ) unplug() {
	for _, name := range slices.Sorted(maps.Keys(d.now.Switched)) {
		have := d.now.Switched[name]
		w, wanted := d.switched[name]
		if have.Owned && !d.kept[name] && (!wanted || w.Bridge != have.Bridge || w.Type != have.Type) {
			d.emit(Change{Op: OpSwitchOut, Link: name, Port: have})
		}
	}
}

// switchIn plugs into Open vSwitch what is to be there, or tells it what has changed.
func (d *differ) switchIn() {
	for _, name := range slices.Sorted(maps.Keys(d.switched)) {
		if w := d.switched[name]; d.now.Switched[name] != w || d.stirs(name) {
			d.emit(Change{Op: OpSwitchIn, Link: name, Port: w, New: Link{QoS: d.want[name].QoS}})
		}
	}
}

// stirs says whether a link that is to have limits was changed so far. The kernel tells Open vSwitch, which then takes away what polices
// and marks what it gets from the link.
func (d *differ) stirs(name string) bool {
	return d.want[name].QoS != (QoS{}) && slices.ContainsFunc(d.changes, func(c Change) bool {
		return c.Link == name && slices.Contains([]Op{OpAdd, OpMAC, OpMTU, OpUp}, c.Op)
	})
}

// switchedIn says whether a link is among those that Open vSwitch is told of. It thinks the limits of what it takes its own to set, and
// takes away those that it finds.
func (d *differ) switchedIn(name string) bool {
	return slices.ContainsFunc(d.changes, func(c Change) bool { return c.Op == OpSwitchIn && c.Link == name })
}
