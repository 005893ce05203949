package router

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket sends router advertisements by a device, and gets the solicitations that come by it. It stays in the namespace in which it was opened.
type socket struct {
	file  *os.File
	raw   syscall.RawConn
	index int    // of the device
	from  []byte // the control message that says by what device and from which address
}

var allNodes, allRouters = netip.MustParseAddr("ff02::1"), netip.MustParseAddr("ff02::2")

func openSocket(index int, from netip.Addr) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if err != nil {
		return nil, err
	}
	s := &socket{file: os.NewFile(uintptr(fd), "icmpv6"), index: index,
		from: unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16(), Ifindex: uint32(index)})}
	err = configure(fd, index)
	if err == nil {
		s.raw, err = s.file.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

func configure(fd, index int) error {
	for option, value := range map[int]int{
		unix.IPV6_MULTICAST_HOPS: messageHops, unix.IPV6_UNICAST_HOPS: messageHops, unix.IPV6_MULTICAST_LOOP: 0,
		unix.IPV6_RECVHOPLIMIT: 1, unix.IPV6_MULTICAST_IF: index,
	} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option, value); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index); err != nil {
		return err
	}
	var filter unix.ICMPv6Filter
	for i := range filter.Data {
		filter.Data[i] = ^uint32(0) // blocks all
	}
	filter.Data[typeSolicitation/32] &^= 1 << (typeSolicitation % 32)
	if err := unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter); err != nil {
		return err
	}
	return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
		&unix.IPv6Mreq{Multiaddr: allRouters.As16(), Interface: uint32(index)})
}

// send sends a message to all nodes.
func (s *socket) send(message []byte) error {
	var err error
	waited := s.raw.Write(func(fd uintptr) bool {
		err = unix.Sendmsg(int(fd), message, s.from, &unix.SockaddrInet6{Addr: allNodes.As16(), ZoneId: uint32(s.index)}, 0)
		return !errors.Is(err, unix.EAGAIN)
	})
	return errors.Join(waited, tellNoAddress(err))
}

// solicitations tells of each that comes, until the socket is closed.
func (s *socket) solicitations(asked chan<- struct{}) {
	message, control := make([]byte, 1500), make([]byte, 128)
	for {
		var n, c int
		var err error
		closed := s.raw.Read(func(fd uintptr) bool {
			n, c, _, _, err = unix.Recvmsg(int(fd), message, control, 0)
			return !errors.Is(err, unix.EAGAIN)
		})
		if closed != nil {
			return
		}
		if err != nil || !solicitation(message[:n], control[:c]) {
			continue
		}
		select {
		case asked <- struct{}{}:
		default: // one that was not heeded yet tells it
		}
	}
}

// solicitation says whether a message is a router solicitation of a neighbour (RFC 4861, 6.1.1). The kernel has looked at its checksum.
func solicitation(message, control []byte) bool {
	const shortest = 8
	if len(message) < shortest || message[0] != typeSolicitation || message[1] != 0 {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4 {
			return binary.NativeEndian.Uint32(m.Data) == messageHops
		}
	}
	return false
}

func (s *socket) close() { _ = s.file.Close() }
