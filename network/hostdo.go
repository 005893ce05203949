package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Do makes one change in the namespace.
func (h Host) Do(ctx context.Context, c Change) error {
	if c.Op == OpFunction || c.Op == OpFunctionBack {
		return h.changeFunction(c)
	}
	if c.Op == OpSwitchIn || c.Op == OpSwitchOut {
		return h.changeSwitch(ctx, c)
	}
	if c.Space != "" {
		return h.doSpace(c)
	}
	if c.Op == OpAdd {
		return h.add(c.New)
	}
	link, err := netlink.LinkByName(c.Link)
	if gone(err) {
		if c.Op == OpRemove || c.Op == opRemoveUnmade {
			return nil
		}
		return fmt.Errorf("%s: %w", c.Link, ErrMissing)
	}
	if err != nil {
		return err
	}
	if c.Op == OpRemove && parseMark(link.Attrs().Alias).ID == "" {
		return fmt.Errorf("%w: it is not the agent's any longer", ErrTaken)
	}
	return tellGone(h.change(link, c))
}

func (h Host) change(link netlink.Link, c Change) error {
	switch c.Op {
	case OpRemove, opRemoveUnmade:
		return netlink.LinkDel(link)
	case OpMark:
		return netlink.LinkSetAlias(link, c.New.Mark.String())
	case OpMTU:
		return netlink.LinkSetMTU(link, c.New.MTU)
	case OpMAC:
		mac, err := net.ParseMAC(c.New.MAC)
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(link, mac)
	case OpUp:
		return netlink.LinkSetUp(link)
	case OpMaster:
		return setMaster(link, c.To)
	case OpFiltering:
		return h.filterVLANs(link)
	case OpHub:
		return makeHub(link)
	case OpAddVLAN, OpDropVLAN:
		return changeVLAN(link, c)
	case OpIPv6Off, OpARPFilter:
		return h.changeSysctls(c)
	case OpToGuest, OpFromGuest, OpDSCP:
		return changeQoS(link, c)
	case OpAddAddress, OpCopyAddress, OpDropAddress:
		return changeAddress(link, c)
	case OpMoveRoute:
		return moveRoute(link, c)
	case OpAddPeer, OpDropPeer:
		return changePeer(link, c)
	case OpAddRoute, OpDropRoute:
		return changeRoute(link, c)
	default:
		return fmt.Errorf("%q is no change of a link", c.Op)
	}
}

func gone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}

func tellGone(err error) error {
	if gone(err) {
		return fmt.Errorf("%w: it vanished", ErrMissing)
	}
	return err
}

// add makes a link under a name that nothing else has, and gives it its own name when it has its mark: whatever a crash
// leaves can be told from what others made.
func (h Host) add(l Link) error {
	if err := h.create(l); err != nil {
		return err
	}
	if err := h.finish(l); err != nil {
		if left, e := netlink.LinkByName(halfMade); e == nil {
			err = errors.Join(err, netlink.LinkDel(left))
		}
		return err
	}
	return nil
}

func (h Host) create(l Link) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = halfMade
	parent, err := parentIndex(l.Parent)
	if err != nil {
		return err
	}
	var link netlink.Link
	switch l.Kind {
	case KindBridge:
		// A bridge has the smallest MTU of its links until it is told one, and to tell it the one it has is nothing.
		if l.MTU != 0 {
			attrs.MTU = l.MTU ^ 1
		}
		link = &netlink.Bridge{LinkAttrs: attrs}
	case KindVLAN:
		attrs.ParentIndex = parent
		link = &netlink.Vlan{LinkAttrs: attrs, VlanId: l.VLAN, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	case KindVXLAN:
		link = &netlink.Vxlan{
			LinkAttrs: attrs, VxlanId: l.VNI, VtepDevIndex: parent, SrcAddr: toIP(l.Local), Group: toIP(l.Group),
			Port: l.UDPPort, Learning: true,
		}
	case KindMacvtap:
		attrs.ParentIndex = parent
		for mode, name := range macvtapModes {
			if name == l.Mode {
				link = &netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: attrs, Mode: mode}}
			}
		}
	case KindTap:
		return createTap(attrs, l.MultiQueue)
	case KindVeth:
		return h.createVeth(attrs, l)
	}
	if link == nil {
		return fmt.Errorf("%s is nothing that can be made", l)
	}
	err = netlink.LinkAdd(link)
	if errors.Is(err, unix.EEXIST) && (l.Kind == KindVLAN || l.Kind == KindVXLAN) {
		return fmt.Errorf("%w: another link has its tag or VNI", ErrTaken)
	}
	return err
}

// createVeth makes both ends, one that is in a namespace under its own name.
func (h Host) createVeth(attrs netlink.LinkAttrs, l Link) error {
	if l.Space == "" {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: halfPeer})
	}
	space, err := os.Open(h.space(l.Space))
	if err != nil {
		return fmt.Errorf("namespace %s: %w", l.Space, ErrMissing)
	}
	defer func() { _ = space.Close() }()
	err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: l.Peer, PeerNamespace: netlink.NsFd(space.Fd())})
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s in %s: %w", l.Peer, l.Space, ErrTaken)
	}
	return err
}

func createTap(attrs netlink.LinkAttrs, multiQueue bool) error {
	tap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Queues: 1, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
	if multiQueue {
		tap.Flags |= netlink.TUNTAP_MULTI_QUEUE
	}
	err := netlink.LinkAdd(tap)
	for _, queue := range tap.Fds {
		err = errors.Join(err, queue.Close())
	}
	return err
}

func parentIndex(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, tellGone(err))
	}
	return link.Attrs().Index, nil
}

func toIP(a netip.Addr) net.IP {
	if !a.IsValid() {
		return nil
	}
	return a.AsSlice()
}

func (h Host) finish(l Link) error {
	link, err := netlink.LinkByName(halfMade)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetAlias(link, l.Mark.String()); err != nil {
		return err
	}
	if l.MTU != 0 {
		if err := netlink.LinkSetMTU(link, l.MTU); err != nil {
			return fmt.Errorf("mtu %d: %w", l.MTU, err)
		}
	}
	if l.Kind == KindBridge {
		if err := h.finishBridge(link, l); err != nil {
			return err
		}
	}
	if l.Kind == KindVeth && l.Space == "" {
		if err := finishPeer(l); err != nil {
			return err
		}
	}
	if l.MAC != "" {
		mac, err := net.ParseMAC(l.MAC)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("mac %s: %w", mac, err)
		}
	}
	err = netlink.LinkSetName(link, l.Name)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: %w", l.Name, ErrTaken)
	}
	return err
}

func (h Host) finishBridge(link netlink.Link, l Link) error {
	if err := plainBridge(link); err != nil {
		return fmt.Errorf("spanning tree off: %w", err)
	}
	if l.Filtering {
		if err := h.filterVLANs(link); err != nil {
			return err
		}
	}
	if l.Hub {
		if err := makeHub(link); err != nil {
			return fmt.Errorf("hub: %w", err)
		}
	}
	// An address of the agent's may be removed that came before one of an uplink in the same subnet.
	return h.setSysctl("ipv4", halfMade, "promote_secondaries", "1")
}

// finishPeer gives the other end of a veth its mark and name.
func finishPeer(l Link) error {
	peer, err := netlink.LinkByName(halfPeer)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetAlias(peer, l.Mark.String()); err != nil {
		return err
	}
	err = netlink.LinkSetName(peer, l.Peer)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: %w", l.Peer, ErrTaken)
	}
	return err
}

// makeHub makes a bridge of two or three forget at once what it learns, and ask for no multicast groups, as Nova does.
func makeHub(link netlink.Link) error {
	return tellBridge(link, map[int][]byte{nl.IFLA_BR_AGEING_TIME: nl.Uint32Attr(0), nl.IFLA_BR_MCAST_SNOOPING: nl.Uint8Attr(0)})
}

// plainBridge makes a bridge forward at once, as Nova and Neutron do: no spanning tree, no delay.
func plainBridge(link netlink.Link) error {
	return tellBridge(link, map[int][]byte{nl.IFLA_BR_STP_STATE: nl.Uint32Attr(0), nl.IFLA_BR_FORWARD_DELAY: nl.Uint32Attr(0)})
}

func tellBridge(link netlink.Link, options map[int][]byte) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	for option, value := range options {
		data.AddRtAttr(option, value)
	}
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func setMaster(link netlink.Link, name string) error {
	if name == "" {
		return netlink.LinkSetNoMaster(link)
	}
	index, err := parentIndex(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetMasterByIndex(link, index)
}

func (h Host) changeSysctls(c Change) error {
	if c.Op == OpIPv6Off {
		return h.setSysctl("ipv6", c.Link, "disable_ipv6", map[bool]string{true: "1", false: "0"}[c.New.IPv6Off])
	}
	ignore, announce := "0", "0"
	if c.New.ARPFilter {
		ignore, announce = "1", "2"
	}
	if err := h.setSysctl("ipv4", c.Link, "arp_ignore", ignore); err != nil {
		return err
	}
	return h.setSysctl("ipv4", c.Link, "arp_announce", announce)
}

func changeAddress(link netlink.Link, c Change) error {
	var err error
	switch c.Op {
	case OpAddAddress:
		added := netlink.Addr{IPNet: toIPNet(c.Address)}
		if c.Address.Addr().Is6() && c.New.Kind == KindVeth {
			added.Flags = unix.IFA_F_NODAD // Neutron knows whose it is, and a service listens on it at once
		}
		err = netlink.AddrAdd(link, &added)
	case OpDropAddress:
		var found *netlink.Addr
		if found, err = findAddress(link, c.Address); found != nil {
			err = netlink.AddrDel(link, found)
		}
	case OpCopyAddress:
		err = copyAddress(link, c)
	}
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EADDRNOTAVAIL) && c.Op == OpDropAddress {
		return nil
	}
	return err
}

func findAddress(link netlink.Link, address netip.Prefix) (*netlink.Addr, error) {
	addresses, err := list(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	for i := range addresses {
		if toPrefix(addresses[i].IPNet) == address {
			return &addresses[i], nil
		}
	}
	return nil, err
}

// copyAddress gives an address to another link, with what was said of it. It was found to be nobody else's where it was.
func copyAddress(from netlink.Link, c Change) error {
	to, err := netlink.LinkByName(c.To)
	if err != nil {
		return fmt.Errorf("%s: %w", c.To, tellGone(err))
	}
	a, err := findAddress(from, c.Address)
	if err != nil || a == nil {
		return err
	}
	said := a.Flags & (unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_HOMEADDRESS)
	moved := netlink.Addr{
		IPNet: a.IPNet, Peer: a.Peer, Broadcast: a.Broadcast, Scope: a.Scope, Flags: said | unix.IFA_F_NODAD,
		ValidLft: a.ValidLft, PreferedLft: a.PreferedLft,
	}
	if c.Address.Addr().Is4() {
		moved.Flags = said
		if a.Broadcast == nil {
			moved.Broadcast = net.IPv4zero // none, or the library makes one
		}
	}
	return netlink.AddrAdd(to, &moved)
}

// moveRoute gives a route to another link: an IPv4 one is there twice for a moment; an IPv6 one would become one with two next
// hops, and is replaced.
func moveRoute(from netlink.Link, c Change) error {
	to, err := netlink.LinkByName(c.To)
	if err != nil {
		return fmt.Errorf("%s: %w", c.To, tellGone(err))
	}
	routes, err := listRoutes()
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.LinkIndex != from.Attrs().Index || toRoute(r) != c.Route {
			continue
		}
		moved := r
		moved.LinkIndex, moved.Flags = to.Attrs().Index, r.Flags&int(netlink.FLAG_ONLINK)
		if c.Route.To.Addr().Is6() {
			return netlink.RouteReplace(&moved)
		}
		if err := netlink.RouteAppend(&moved); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

func changePeer(link netlink.Link, c Change) error {
	entry := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
		State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, HardwareAddr: make(net.HardwareAddr, 6), IP: toIP(c.Peer),
	}
	if c.Op == OpAddPeer {
		if err := netlink.NeighAppend(entry); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	}
	if err := netlink.NeighDel(entry); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// changeRoute adds or removes a route of a namespace's device. A next hop may be off the device's subnets.
func changeRoute(link netlink.Link, c Change) error {
	r := netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: toIPNet(c.Route.To), Gw: toIP(c.Route.Via), Priority: c.Route.Metric, Table: c.Route.Table,
		Protocol: netlink.RouteProtocol(c.Route.Protocol),
	}
	if c.Route.To.Addr().Is4() && !c.Route.Via.IsValid() {
		r.Scope = netlink.SCOPE_LINK
	}
	near := func(a netip.Prefix) bool { return a.Contains(c.Route.Via) }
	if c.Route.Via.IsValid() && !slices.ContainsFunc(c.New.Addresses, near) {
		r.Flags = int(netlink.FLAG_ONLINK)
	}
	if c.Op == OpAddRoute {
		if err := netlink.RouteAdd(&r); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	}
	if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
