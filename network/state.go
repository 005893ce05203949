package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// State is links and named network namespaces by their name: those that are wanted, or those that are there. The zero State
// wants nothing.
type State struct {
	Links  map[string]Link
	Spaces map[string]Space
	// Switched are the ports of Open vSwitch's bridges, by their device. SwitchErr says why they cannot be read.
	Switched  map[string]SwitchPort
	SwitchErr error
	// Functions are virtual functions of network interfaces, by their PCI addresses.
	Functions map[string]Function
}

// Kind is what a link is, as the kernel calls it.
type Kind string

// The kinds that the agent makes; any other is empty.
const (
	KindBridge  Kind = "bridge"
	KindVLAN    Kind = "vlan"
	KindVXLAN   Kind = "vxlan"
	KindTap     Kind = "tap"
	KindMacvtap Kind = "macvtap"
	KindVeth    Kind = "veth"
)

// Shape is what cannot be changed of a link: one that is to have another is made anew.
type Shape struct {
	Kind       Kind
	Parent     string // the link below a VLAN, VXLAN or macvtap
	VLAN       int
	VNI        int
	Local      netip.Addr
	Group      netip.Addr
	UDPPort    int
	Mode       string // of a macvtap
	MultiQueue bool
	Space      string // the namespace of a veth's other end, which is called Peer there; empty for the host itself
	Peer       string
}

// Link is a network device. What is zero of a wanted one is left as it is, but for an owned one's Master, IPv6Off,
// ARPFilter and lists.
type Link struct {
	Name string
	Shape
	// Mark is zero for a link that is not the agent's. A wanted link without a mark is only used, if it is there.
	Mark Mark
	// Guest is a wanted link that the hypervisor makes: it may not be there.
	Guest  bool
	Up     bool
	MTU    int
	MAC    string
	Master string
	// Filtering bridges keep the VLANs of their ports apart. Of what enters by a port, Native is the VLAN of frames without a tag, and
	// Tagged are those that may come with one; what leaves has a tag if it had to come with one. No VLAN is in both.
	// A Filtering bridge has a Native of its own, for the host; its MTU is always that of its uplink.
	Filtering bool
	Native    int
	Tagged    []int // ascending
	// Hub is a bridge that does not learn where anybody is, and sends all to all: Nova's for hybrid plugging.
	Hub bool
	// IPv6Off keeps the host's IPv6 out of what is only for guests; ARPFilter answers only for the link's own addresses.
	IPv6Off, ARPFilter bool
	// QoS is of a port's link, with complete bursts.
	QoS       QoS
	Addresses []netip.Prefix
	Routes    []Route      // that are not the kernel's own; only read, but for those of a namespace's device
	Peers     []netip.Addr // where a VXLAN sends what it does not know
}

// Route is a route through a link.
type Route struct {
	To       netip.Prefix
	Via      netip.Addr // none for what is on the link itself
	Metric   int
	Table    int
	Protocol int
	Multi    bool // it has other next hops besides
}

// Mark is what the agent writes into a link's alias: whose it is, and what it has to know when it takes it away.
type Mark struct {
	ID string // of the network or port
	// Uplink is the physical interface whose addresses and routes a bridge has.
	Uplink string
	// Addresses are the bridge's own, which are no uplink's.
	Addresses []netip.Prefix
}

const (
	markPrefix = "compute-agent:"
	maxAlias   = 255 // IFALIASZ without its zero
)

// String is the alias; empty for no mark.
func (m Mark) String() string {
	if m.ID == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(markPrefix + m.ID)
	if m.Uplink != "" {
		b.WriteString(" uplink=" + m.Uplink)
	}
	for _, a := range m.Addresses {
		b.WriteString(" address=" + a.String())
	}
	return b.String()
}

// parseMark reads an alias. One that somebody else wrote is no mark.
func parseMark(alias string) Mark {
	rest, ours := strings.CutPrefix(alias, markPrefix)
	fields := strings.Split(rest, " ")
	if !ours || !validID(fields[0]) {
		return Mark{}
	}
	m := Mark{ID: fields[0]}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "uplink":
			m.Uplink = value
		case "address":
			if a, err := netip.ParsePrefix(value); err == nil {
				m.Addresses = append(m.Addresses, a)
			}
		}
	}
	return m
}

func (l *Link) owned() bool { return l.Mark.ID != "" }

// foreign are a link's addresses that somebody else gave it and that mean something on another link too: not those that
// IPv6 makes of the MAC.
func (l *Link) foreign() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range l.Addresses {
		if !slices.Contains(l.Mark.Addresses, a) && (a.Addr().Is4() || !a.Addr().IsLinkLocalUnicast()) {
			out = append(out, a)
		}
	}
	return out
}

// names are the links' in order.
func (s State) names() []string { return slices.Sorted(maps.Keys(s.Links)) }

// String is the state as text, a line for a link and one for each address, route and peer.
func (s State) String() string {
	var b strings.Builder
	for _, name := range s.names() {
		s.Links[name].text(&b, "")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Spaces)) {
		space := s.Spaces[name]
		b.WriteString(space.String() + "\n")
		for _, device := range slices.Sorted(maps.Keys(space.Links)) {
			space.Links[device].text(&b, "    ")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Switched)) {
		fmt.Fprintf(&b, "switched %s\n", s.Switched[name])
	}
	for _, pci := range slices.Sorted(maps.Keys(s.Functions)) {
		fmt.Fprintf(&b, "function %s\n", s.Functions[pci])
	}
	return b.String()
}

func (l Link) text(b *strings.Builder, indent string) {
	b.WriteString(indent + l.String() + "\n")
	for _, a := range l.Addresses {
		fmt.Fprintf(b, "%s    address %s\n", indent, a)
	}
	for _, r := range l.Routes {
		fmt.Fprintf(b, "%s    route %s\n", indent, r)
	}
	for _, p := range l.Peers {
		fmt.Fprintf(b, "%s    peer %s\n", indent, p)
	}
}

// String is the link in one line, without its addresses, routes and peers.
func (l Link) String() string {
	out := l.Name
	say := func(is bool, format string, args ...any) {
		if is {
			out += fmt.Sprintf(" "+format, args...)
		}
	}
	say(l.Kind != "", "%s", l.Kind)
	say(l.Guest, "guest's")
	say(l.VLAN != 0, "tag %d", l.VLAN)
	say(l.VNI != 0, "vni %d", l.VNI)
	say(l.Parent != "", "on %s", l.Parent)
	say(l.Local.IsValid(), "local %s", l.Local)
	say(l.Group.IsValid(), "group %s", l.Group)
	say(l.UDPPort != 0, "port %d", l.UDPPort)
	say(l.Mode != "", "mode %s", l.Mode)
	say(l.MultiQueue, "multi_queue")
	say(l.Space != "", "to %s in %s", l.Peer, l.Space)
	say(l.Space == "" && l.Peer != "", "to %s", l.Peer)
	say(l.MTU != 0, "mtu %d", l.MTU)
	say(l.MAC != "", "mac %s", l.MAC)
	say(l.Master != "", "master %s", l.Master)
	say(l.Hub, "hub")
	say(l.Filtering, "filtering")
	say(l.Native != 0, "native %d", l.Native)
	say(len(l.Tagged) > 0, "tagged %s", numbers(l.Tagged))
	say(l.IPv6Off, "ipv6 off")
	say(l.ARPFilter, "arp filter")
	say(l.QoS != QoS{}, "limits%s", l.QoS)
	say(l.Up, "up")
	say(l.owned(), "[%s]", l.Mark)
	return out
}

func numbers(list []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ","), "[]")
}

// String is the route as ip prints it.
func (r Route) String() string {
	out := r.To.String()
	if r.To.Bits() == 0 {
		out = "default"
	}
	if r.Via.IsValid() {
		out += " via " + r.Via.String()
	}
	if r.Metric != 0 {
		out += fmt.Sprintf(" metric %d", r.Metric)
	}
	if r.Table != mainTable {
		out += fmt.Sprintf(" table %d", r.Table)
	}
	if r.Multi {
		out += " and other next hops"
	}
	return out
}

const mainTable = 254

func (s State) clone() State {
	out := State{Links: cloneLinks(s.Links), Spaces: maps.Clone(s.Spaces), Switched: map[string]SwitchPort{}, SwitchErr: s.SwitchErr}
	out.Functions = map[string]Function{}
	maps.Copy(out.Switched, s.Switched)
	maps.Copy(out.Functions, s.Functions)
	for name, space := range out.Spaces {
		space.Links = cloneLinks(space.Links)
		out.Spaces[name] = space
	}
	return out
}

func cloneLinks(links map[string]Link) map[string]Link {
	out := make(map[string]Link, len(links))
	for name, l := range links {
		l.Addresses, l.Routes, l.Peers = slices.Clone(l.Addresses), slices.Clone(l.Routes), slices.Clone(l.Peers)
		l.Tagged = slices.Clone(l.Tagged)
		out[name] = l
	}
	return out
}
