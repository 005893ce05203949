package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"compute-agent/internal/command"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is the OS of the network namespace in which its methods are called. Its sysctls are below Proc, its named namespaces below Netns.
type Host struct {
	Proc  string // /proc
	Netns string // /run/netns
	// Run runs ovs-vsctl, which speaks to Switch, the socket of Open vSwitch's database (/run/openvswitch/db.sock). Without it there is no
	// Open vSwitch.
	Run    command.Runner
	Switch string
	// Sys is where virtual functions are found (/sys), and State where it is written what they were (/run/compute-agent).
	Sys, State string
}

// attempts are how often a list is read that changes meanwhile.
const attempts = 10

// list reads a list of the kernel's until it did not change while it was read.
func list[T interface{}](read func() ([]T, error)) ([]T, error) {
	for n := 1; ; n++ {
		out, err := read()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || n == attempts {
			return out, err
		}
	}
}

// Links reads the links of the namespace, and the named namespaces that are the agent's.
func (h Host) Links(ctx context.Context) (State, error) {
	out, links, err := h.links()
	if err == nil {
		err = h.readSpaces(ctx, out, links)
	}
	if err == nil {
		err = h.readFunctions(&out)
	}
	if err != nil {
		return State{}, err
	}
	h.readSwitch(ctx, &out)
	return out, ctx.Err()
}

// links are the links of the thread's namespace.
func (h Host) links() (State, []netlink.Link, error) {
	links, err := list(netlink.LinkList)
	if err != nil {
		return State{}, nil, fmt.Errorf("links: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	out := State{Links: make(map[string]Link, len(links)), Spaces: map[string]Space{}}
	for _, l := range links {
		out.Links[l.Attrs().Name] = h.read(l, names)
	}
	for _, add := range []func(State, map[int]string) error{addAddresses, addRoutes, addPeers, addVLANs, addQoS} {
		if err := add(out, names); err != nil {
			return State{}, nil, err
		}
	}
	return out, links, nil
}

func (h Host) read(link netlink.Link, names map[int]string) Link {
	a := link.Attrs()
	l := Link{
		Name: a.Name, Mark: parseMark(a.Alias), Up: a.Flags&net.FlagUp != 0, MTU: a.MTU, MAC: a.HardwareAddr.String(),
		Master: names[a.MasterIndex], Shape: Shape{Parent: names[a.ParentIndex]},
	}
	if l.Master == kernelSwitch {
		l.Master = ""
	}
	switch link := link.(type) {
	case *netlink.Bridge:
		l.Shape, l.Filtering, l.Hub = Shape{Kind: KindBridge}, h.filters(link), isHub(link)
	case *netlink.Vlan:
		l.Kind, l.VLAN = KindVLAN, link.VlanId
	case *netlink.Vxlan:
		l.Shape = Shape{
			Kind: KindVXLAN, Parent: names[link.VtepDevIndex], VNI: link.VxlanId,
			Local: toAddr(link.SrcAddr), Group: toAddr(link.Group), UDPPort: link.Port,
		}
	case *netlink.Tuntap:
		l.Shape = Shape{Kind: KindTap, MultiQueue: link.Flags&netlink.TUNTAP_MULTI_QUEUE != 0}
	case *netlink.Macvtap:
		l.Kind, l.Mode = KindMacvtap, macvtapModes[link.Mode]
	case *netlink.Veth:
		if l.owned() {
			l.Shape = Shape{Kind: KindVeth} // where its other end is is found there, if it is not here
			if a.NetNsID < 0 {
				l.Peer = names[a.ParentIndex]
			}
		}
	}
	if l.owned() {
		l.IPv6Off = h.sysctl("ipv6", l.Name, "disable_ipv6") != "0"
		l.ARPFilter = l.Kind == KindBridge && h.sysctl("ipv4", l.Name, "arp_ignore") == "1" &&
			h.sysctl("ipv4", l.Name, "arp_announce") == "2"
	}
	return l
}

// kernelSwitch is what the kernel's part of Open vSwitch has for a master of all its ports. It is no bridge, and says not which is.
const kernelSwitch = "ovs-system"

func isHub(b *netlink.Bridge) bool {
	return b.AgeingTime != nil && *b.AgeingTime == 0 && b.MulticastSnooping != nil && !*b.MulticastSnooping
}

var macvtapModes = map[netlink.MacvlanMode]string{
	netlink.MACVLAN_MODE_PRIVATE: "private", netlink.MACVLAN_MODE_VEPA: "vepa",
	netlink.MACVLAN_MODE_BRIDGE: "bridge", netlink.MACVLAN_MODE_PASSTHRU: "passthru",
}

func toAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func toPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(toAddr(n.IP), ones)
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func addAddresses(s State, names map[int]string) error {
	addresses, err := list(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	for _, a := range addresses {
		if l, there := s.Links[names[a.LinkIndex]]; there && a.Scope != unix.RT_SCOPE_HOST {
			l.Addresses = append(l.Addresses, toPrefix(a.IPNet))
			s.Links[l.Name] = l
		}
	}
	return nil
}

// addRoutes adds the routes that somebody made, of all tables: those of the kernel come and go with the addresses.
func addRoutes(s State, names map[int]string) error {
	routes, err := listRoutes()
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	add := func(index int, r Route) {
		if l, there := s.Links[names[index]]; there {
			l.Routes = append(l.Routes, r)
			s.Links[l.Name] = l
		}
	}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST || r.Protocol == unix.RTPROT_KERNEL {
			continue
		}
		if len(r.MultiPath) == 0 {
			add(r.LinkIndex, toRoute(r))
		}
		for _, hop := range r.MultiPath {
			one := toRoute(r)
			one.Via, one.Multi = toAddr(hop.Gw), true
			add(hop.LinkIndex, one)
		}
	}
	return nil
}

func listRoutes() ([]netlink.Route, error) {
	return list(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	})
}

func toRoute(r netlink.Route) Route {
	to := toPrefix(r.Dst)
	if !to.IsValid() {
		to = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if r.Family == netlink.FAMILY_V6 {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	return Route{To: to, Via: toAddr(r.Gw), Metric: r.Priority, Table: r.Table, Protocol: int(r.Protocol)}
}

// addPeers adds where the VXLANs of the agent send what they do not know: the entries of the FDB without a MAC.
func addPeers(s State, names map[int]string) error {
	if !slices.ContainsFunc(slices.Collect(maps.Values(s.Links)), func(l Link) bool { return l.owned() && l.Kind == KindVXLAN }) {
		return nil
	}
	entries, err := list(func() ([]netlink.Neigh, error) { return netlink.NeighList(0, unix.AF_BRIDGE) })
	if err != nil {
		return fmt.Errorf("fdb: %w", err)
	}
	for _, e := range entries {
		l, there := s.Links[names[e.LinkIndex]]
		peer := toAddr(e.IP)
		if there && l.owned() && l.Kind == KindVXLAN && e.HardwareAddr.String() == noMAC && peer.IsValid() && peer != l.Group {
			l.Peers = append(l.Peers, peer)
			s.Links[l.Name] = l
		}
	}
	return nil
}

const noMAC = "00:00:00:00:00:00"

// conf is the file of a link's sysctl.
func (h Host) conf(family, link, key string) string {
	return filepath.Join(cmp.Or(h.Proc, "/proc"), "sys/net", family, "conf", link, key)
}

func (h Host) bridgeConf(key string) string {
	return filepath.Join(cmp.Or(h.Proc, "/proc"), "sys/net/bridge", key)
}

func (h Host) bridgeSysctl(key string) string { return readLine(h.bridgeConf(key)) }

// sysctl is the value, or empty: a host without IPv6 has none.
func (h Host) sysctl(family, link, key string) string {
	return readLine(h.conf(family, link, key))
}

func readLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func (h Host) setSysctl(family, link, key, value string) error {
	err := os.WriteFile(h.conf(family, link, key), []byte(value), 0)
	if family == "ipv6" && value == "1" && errors.Is(err, fs.ErrNotExist) {
		return nil // a host without IPv6
	}
	return err
}
