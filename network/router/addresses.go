package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

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

// addAddresses puts floating IPs on Outside. The neighbours are told first, which is done again if what follows is not: what they send
// is translated before anybody asks whose address it is.
func (r *Router) addAddresses() error {
	if len(r.FloatingIPs) == 0 {
		return nil
	}
	link, have, err := r.addresses()
	if err != nil {
		return err
	}
	for _, f := range r.FloatingIPs {
		if have[f.Address] {
			continue
		}
		if err := announce(link, f.Address); err != nil {
			return fmt.Errorf("%s: announce %s: %w", r.Outside, f.Address, err)
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: single(f.Address)}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s: add %s: %w", r.Outside, f.Address, err)
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

// announceGateway tells the neighbours where the router's own address is.
func (r *Router) announceGateway() error {
	if !r.SNAT.IsValid() {
		return nil
	}
	link, err := netlink.LinkByName(r.Outside)
	if err == nil {
		err = announce(link, r.SNAT)
	}
	if err != nil {
		return fmt.Errorf("%s: announce %s: %w", r.Outside, r.SNAT, err)
	}
	return nil
}

// announce tells the neighbours of a link in the calling thread's namespace that it has an address: by a request, as RFC 5227 has it, and by
// an answer, which some take alone.
func announce(link netlink.Link, a netip.Addr) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	everybody := unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: link.Attrs().Index, Halen: 6,
		Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	for _, operation := range []uint16{arpRequest, arpReply} {
		if err := unix.Sendto(fd, arp(operation, link.Attrs().HardwareAddr, a), 0, &everybody); err != nil {
			return err
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
