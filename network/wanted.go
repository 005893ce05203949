package network

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// ErrInvalid is in the chain of every error about networks and ports that make no sense on any host. The message
// names network or port, field and rule.
var ErrInvalid = errors.New("invalid network")

// plan is a State in the making.
type plan struct {
	links     map[string]Link
	switched  map[string]SwitchPort
	functions map[string]Function
	pci       map[string]string // ports, by the PCI address of their device
	spaces    map[string]Space
	makers    map[string]string // what wants the link, by its name
	networks  map[string]*Network
	flat      map[string]string // flat networks, by their physical interface
	shared    map[string]string // the first network of each filtering bridge, by its physical interface
	tags      map[string]string // what wants a VLAN or VNI, by its place and number
	macvtaps  map[string]bool   // IDs of networks with macvtaps instead of a bridge
	errs      []error
}

// Wanted are the links that the networks, ports and namespaces of a host need, and the namespaces. Everything that is wrong with them is in the error; the
// State is then what the rest needs, and to apply it takes away what the wrong ones had. The order of the arguments means nothing.
func Wanted(networks []Network, ports []Port, namespaces ...Namespace) (State, error) {
	p := &plan{
		spaces: map[string]Space{}, switched: map[string]SwitchPort{}, functions: map[string]Function{}, pci: map[string]string{}, links: map[string]Link{}, makers: map[string]string{}, networks: map[string]*Network{},
		flat: map[string]string{}, shared: map[string]string{}, tags: map[string]string{}, macvtaps: map[string]bool{},
	}
	networks, ports = slices.Clone(networks), slices.Clone(ports)
	slices.SortStableFunc(networks, func(a, b Network) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortStableFunc(ports, func(a, b Port) int { return cmp.Compare(a.ID, b.ID) })
	for _, port := range ports {
		if port.VIF == VIFMacvtap {
			p.macvtaps[port.Network] = true
		}
	}
	for i := range networks {
		p.try("network "+shown(networks[i].ID), p.network(&networks[i]))
	}
	seen := map[string]bool{}
	for i := range ports {
		err := errors.New("id: it is there twice")
		if !seen[ports[i].ID] {
			err = p.port(&ports[i])
		}
		seen[ports[i].ID] = true
		p.try("port "+shown(ports[i].ID), err)
	}
	for _, n := range slices.SortedStableFunc(slices.Values(namespaces), func(a, b Namespace) int { return cmp.Compare(a.Name, b.Name) }) {
		p.try("namespace "+shown(n.Name), p.namespace(&n))
	}
	return State{Links: p.links, Spaces: p.spaces, Switched: p.switched, Functions: p.functions}, errors.Join(p.errs...)
}

func shown(id string) string {
	if validID(id) {
		return id
	}
	return fmt.Sprintf("%.40q", id)
}

func (p *plan) try(who string, err error) {
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%w: %s: %w", ErrInvalid, who, err))
	}
}

// network adds the links of a network: all or, with an error, none.
func (p *plan) network(n *Network) error {
	if err := n.validate(); err != nil {
		return err
	}
	if p.networks[n.ID] != nil {
		return errors.New("id: it is there twice")
	}
	links := n.links(p.macvtaps[n.ID])
	who := "network " + n.ID
	for i, l := range links {
		if slices.ContainsFunc(links[:i], func(other Link) bool { return other.Name == l.Name }) {
			return fmt.Errorf("bridge, device, physical: two of them are %s", l.Name)
		}
		if err := p.room(l); err != nil {
			return err
		}
	}
	if other := p.tags[n.tag()]; n.tag() != "" && other != "" {
		return fmt.Errorf("%s is that of network %s", n.tag(), other)
	}
	if err := p.freeBelow(n); err != nil {
		return err
	}
	if p.macvtaps[n.ID] {
		if err := n.withoutBridge(); err != nil {
			return err
		}
	}
	for _, l := range links {
		p.put(l, who)
	}
	p.networks[n.ID], p.tags[n.tag()] = n, n.ID
	if n.Type == Flat {
		p.flat[n.Physical] = n.ID
	}
	if n.Filtering {
		p.shared[n.Physical] = cmp.Or(p.shared[n.Physical], n.ID)
	}
	return nil
}

// withoutBridge says what is wrong with a network that has macvtaps instead of one.
func (n *Network) withoutBridge() error {
	switch {
	case len(n.Addresses) > 0:
		return errors.New("addresses: a network with macvtap ports has no bridge for them")
	case n.Type != Flat && n.Type != VLAN:
		return fmt.Errorf("type: macvtap ports need a flat or vlan network, not %s", n.Type)
	case n.Filtering:
		return errors.New("filtering: macvtap ports are in no bridge")
	}
	return nil
}

// tag is what a VLAN or VXLAN has for itself, in the words of an error.
func (n *Network) tag() string {
	switch n.Type {
	case VLAN:
		return fmt.Sprintf("vlan: %d on %s", n.VLAN, n.Physical)
	case VXLAN:
		return fmt.Sprintf("vni: %d", n.VNI)
	default:
		return ""
	}
}

// room says whether nothing else wants the name. Interfaces that are only used may be so by many.
func (p *plan) room(l Link) error {
	other, taken := p.links[l.Name]
	if taken && l.Filtering && other.Filtering && l.Mark.String() == other.Mark.String() {
		return nil
	}
	if taken && (l.owned() || other.owned() || l.Guest || other.Guest) {
		return fmt.Errorf("name: %s is that of %s too", l.Name, p.makers[l.Name])
	}
	if l.owned() && len(l.Mark.String()) > maxAlias {
		return fmt.Errorf("addresses: %d are more than the alias of a link can hold with it", len(l.Mark.Addresses))
	}
	return nil
}

// freeBelow says whether a flat network can have its physical interface for itself, but for VLANs and VXLANs.
func (p *plan) freeBelow(n *Network) error {
	if other := p.flat[n.Physical]; n.Type == Flat && other != "" {
		return fmt.Errorf("physical: %s is that of the flat network %s", n.Physical, other)
	}
	shared, flat := p.networks[p.shared[n.Physical]], p.networks[p.flat[n.Physical]]
	switch {
	case n.Type == Flat && !n.Filtering && shared != nil:
		return fmt.Errorf("physical: %s is in the VLAN-filtering bridge of network %s", n.Physical, shared.ID)
	case n.Filtering && flat != nil && !flat.Filtering:
		return fmt.Errorf("physical: %s is that of the flat network %s, which is not filtering", n.Physical, flat.ID)
	case n.Filtering && shared != nil && shared.bridge() != n.bridge():
		return fmt.Errorf("bridge: %s is in %s, that of network %s", n.Physical, shared.bridge(), shared.ID)
	}
	return nil
}

func (p *plan) put(l Link, who string) {
	if other, used := p.links[l.Name]; used && other.Master != "" {
		// It is a bridge's uplink already, and besides below a VLAN, or in the same bridge for another.
		other.Tagged = slices.Sorted(slices.Values(append(other.Tagged, l.Tagged...)))
		l = other
	}
	p.links[l.Name], p.makers[l.Name] = l, who
}

// links are those of a network, the ones that are only used too.
func (n *Network) links(macvtaps bool) []Link {
	bridge := Link{
		Name: n.bridge(), Shape: Shape{Kind: KindBridge}, Mark: Mark{ID: n.ID, Addresses: sorted(n.Addresses)},
		Up: true, MTU: n.mtu(), IPv6Off: true, ARPFilter: true, Addresses: sorted(n.Addresses),
	}
	for _, a := range n.Addresses {
		bridge.IPv6Off = bridge.IPv6Off && !a.Addr().Is6()
	}
	if n.Filtering {
		// The bridge is as that of a flat network, which it can be too.
		bridge.IPv6Off, bridge.ARPFilter, bridge.MTU = false, false, 0
		bridge.Mark, bridge.Filtering, bridge.Native = Mark{ID: "filtering", Uplink: n.Physical}, true, nativeVLAN
		up := Link{Name: n.Physical, Up: true, Master: bridge.Name, Native: nativeVLAN}
		if n.Type == VLAN {
			up.Tagged = []int{n.VLAN}
		}
		return []Link{up, bridge}
	}
	below := Link{Name: n.device(), Mark: Mark{ID: n.ID}, Up: true, MTU: n.mtu(), Master: bridge.Name, IPv6Off: true}
	var out []Link
	switch n.Type {
	case Flat:
		// The bridge takes the interface's place on the network, and is to be what the interface was.
		bridge.IPv6Off, bridge.ARPFilter, bridge.Mark.Uplink = false, false, n.Physical
		out = []Link{{Name: n.Physical, Up: true, Master: bridge.Name}}
	case VLAN:
		below.Shape = Shape{Kind: KindVLAN, Parent: n.Physical, VLAN: n.VLAN}
		out = []Link{{Name: n.Physical, Up: true}, below}
	case VXLAN:
		below.Shape = Shape{
			Kind: KindVXLAN, Parent: n.Physical, VNI: n.VNI, Local: n.Local, Group: n.Group, UDPPort: cmp.Or(n.UDPPort, 4789),
		}
		below.Peers = slices.Compact(slices.SortedFunc(slices.Values(n.Peers), netip.Addr.Compare))
		if n.Physical != "" {
			out = []Link{{Name: n.Physical, Up: true}}
		}
		out = append(out, below)
	}
	if macvtaps {
		for i := range out {
			out[i].Master = ""
		}
		return out
	}
	return append(out, bridge)
}

func sorted(list []netip.Prefix) []netip.Prefix {
	return slices.SortedFunc(slices.Values(list), netip.Prefix.Compare)
}

// nativeVLAN is, in a filtering bridge, the VLAN of what has no tag on the wire.
const nativeVLAN = 1

// native is the VLAN that ports of the network have in its bridge, if that is a filtering one.
func (n *Network) native() int {
	if !n.Filtering {
		return 0
	}
	return cmp.Or(n.VLAN, nativeVLAN)
}

func (n *Network) bridge() string {
	if n.Filtering {
		return cmp.Or(n.Bridge, FilteringName(n.Physical))
	}
	return cmp.Or(n.Bridge, BridgeName(n.ID))
}

// device is what of the network is below its ports.
func (n *Network) device() string {
	switch n.Type {
	case VLAN:
		return cmp.Or(n.Device, VLANName(n.Physical, n.VLAN))
	case VXLAN:
		return VXLANName(n.VNI)
	default:
		return n.Physical
	}
}

func (n *Network) mtu() int {
	switch {
	case n.MTU != 0:
		return n.MTU
	case n.Type != VXLAN:
		return 1500
	case n.overIPv6():
		return 1500 - vxlanOverIPv6
	default:
		return 1500 - vxlanOverIPv4
	}
}

// What a VXLAN adds to a frame: Ethernet, IP, UDP and its own header.
const (
	vxlanOverIPv4 = 50
	vxlanOverIPv6 = 70
)

func (n *Network) overIPv6() bool {
	return n.Local.Is6() || n.Group.Is6() || len(n.Peers) > 0 && n.Peers[0].Is6()
}

// port adds the link of a port.
func (p *plan) port(port *Port) error {
	if err := port.validate(); err != nil {
		return err
	}
	switch port.VIF {
	case VIFOVS, VIFVHostUser:
		return p.switchPort(port)
	case VIFHardware, VIFPhysical:
		return p.function(port)
	}
	n := p.networks[port.Network]
	if n == nil && (port.Network != "" || port.VIF != VIFTap) {
		return fmt.Errorf("network: %.40q is none of the host's", port.Network)
	}
	l := Link{Name: TapName(port.ID), Up: true, MTU: port.MTU, QoS: port.QoS.complete(cmp.Or(port.MTU, 1500))}
	if n != nil {
		if port.MTU > n.mtu() {
			return fmt.Errorf("mtu: %d is more than its network's %d", port.MTU, n.mtu())
		}
		l.MTU = cmp.Or(port.MTU, n.mtu())
		l.QoS = port.QoS.complete(l.MTU)
		if port.VIF != VIFMacvtap && p.macvtaps[n.ID] {
			return fmt.Errorf("vif type: %s needs a bridge, and network %s has macvtap ports instead", port.VIF, n.ID)
		}
	}
	switch port.VIF {
	case VIFMacvtap:
		l.Shape = Shape{Kind: KindMacvtap, Parent: n.device(), Mode: cmp.Or(port.Mode, "bridge")}
		l.Mark.ID, l.MAC, l.IPv6Off = port.ID, port.MAC.String(), true
	case VIFTap:
		l = tapOf(port, l.MTU)
	case VIFBridge:
		l.Guest, l.Up = true, false // it comes up when the guest runs
	}
	if n != nil && port.VIF != VIFMacvtap {
		l.Master, l.Native = n.bridge(), n.native()
	}
	if err := p.room(l); err != nil {
		return err
	}
	p.put(l, "port "+port.ID)
	return nil
}

// tapOf is the tap of a port that is there before its guest, in no bridge.
func tapOf(port *Port, mtu int) Link {
	return Link{
		Name: TapName(port.ID), Shape: Shape{Kind: KindTap, MultiQueue: port.Queues > 1}, Mark: Mark{ID: port.ID}, Up: true, MTU: mtu,
		MAC: hostSide(port.MAC), IPv6Off: true, QoS: port.QoS.complete(cmp.Or(mtu, 1500)),
	}
}

// hostSide is the MAC of a tap's end on the host: as libvirt makes it of the guest's, so high that a bridge, which takes the lowest of
// its links' MACs, never takes it.
func hostSide(mac net.HardwareAddr) string {
	out := slices.Clone(mac)
	out[0] = 0xfe
	return out.String()
}
