package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dropAddresses takes floating IPs that are not wanted from Outside, in the calling thread's namespace.
func (r *Router) dropAddresses() error {
	if r.Outside == "" {
		return nil
	}
	link, have, err := r.addresses()
	if err != nil {
		return err
	}
	for _, f := range r.FloatingIPs {
		delete(have, f.Address)
	}
	for a := range have {
		err := netlink.AddrDel(link, &netlink.Addr{IPNet: single(a)})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("%s: remove %s: %w", r.Outside, a, err)
		}
	}
	return nil
}

// addAddresses puts floating IPs on Outside, and tells the neighbours where those are that come, and also the router's own address unless
// that is known. They are told first, which is done again if what follows is not: what they send is translated before anybody asks whose
// address it is.
func (r *Router) addAddresses(known netip.Addr) error {
	if r.Outside == "" {
		return nil
	}
	link, have, err := r.addresses()
	if err != nil {
		return err
	}
	var fresh []netip.Addr
	for _, f := range r.FloatingIPs {
		if !have[f.Address] {
			fresh = append(fresh, f.Address)
		}
	}
	told := fresh
	if r.SNAT.IsValid() && r.SNAT != known {
		told = append(slices.Clone(fresh), r.SNAT)
	}
	if err := announce(link, told); err != nil {
		return fmt.Errorf("%s: announce %v: %w", r.Outside, told, err)
	}
	for _, a := range fresh {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: single(a)}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s: add %s: %w", r.Outside, a, err)
		}
	}
	return nil
}

// addresses are those of Outside that may be floating IPs.
func (r *Router) addresses() (netlink.Link, map[netip.Addr]bool, error) {
	link, err := netlink.LinkByName(r.Outside)
	if err != nil {
		return nil, nil, fmt.Errorf("outside: %s: %w", r.Outside, err)
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_V4)
	for n := 1; errors.Is(err, netlink.ErrDumpInterrupted) && n < dumps; n++ {
		list, err = netlink.AddrList(link, netlink.FAMILY_V4)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("outside: addresses of %s: %w", r.Outside, err)
	}
	have := map[netip.Addr]bool{}
	for _, a := range list {
		ip, _ := netip.AddrFromSlice(a.IP)
		if ones, _ := a.Mask.Size(); ones == 32 && ip.Unmap() != r.SNAT {
			have[ip.Unmap()] = true
		}
	}
	return link, have, nil
}

func single(a netip.Addr) *net.IPNet { return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)} }

// announce tells the neighbours of a link in the calling thread's namespace that it has addresses: by requests, as RFC 5227 has it, and by
// answers, which some take alone. One socket is for all of them, because to close one takes the kernel long.
func announce(link netlink.Link, addresses []netip.Addr) error {
	if len(addresses) == 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	everybody := unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: link.Attrs().Index, Halen: 6,
		Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	for _, a := range addresses {
		for _, operation := range []uint16{arpRequest, arpReply} {
			if err := unix.Sendto(fd, arp(operation, link.Attrs().HardwareAddr, a), 0, &everybody); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	arpRequest = 1
	arpReply   = 2
)

// arp is a gratuitous ARP packet of Ethernet and IPv4 (RFC 826): sender and target are the same.
func arp(operation uint16, mac net.HardwareAddr, a netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, operation)
	b = append(append(b, mac...), a.AsSlice()...)
	if operation == arpRequest {
		mac = make(net.HardwareAddr, 6)
	}
	return append(append(b, mac...), a.AsSlice()...)
}

func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
