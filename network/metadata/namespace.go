package metadata

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"compute-agent/network"
)

// inside is what the service has of a namespace from its start to its end: sockets made in it.
type inside struct {
	host network.Host
	name string
	id   string // of the namespace: another of the same name has another
	link *netlink.Handle
	// neighbours asks the kernel for what it knows of them; it serves one at a time.
	neighbours map[int]*nl.SocketHandle
}

func enter(host network.Host, name string) (*inside, error) {
	in := &inside{host: host, name: name}
	err := host.InNamespace(name, func() (err error) {
		if in.id, err = here(); err != nil {
			return err
		}
		if in.link, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		in.neighbours = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
		timeout := unix.Timeval{Sec: 5} // the kernel answers at once
		return errors.Join(socket.SetReceiveTimeout(&timeout), socket.SetSendTimeout(&timeout))
	})
	if err != nil {
		in.leave()
		return nil, err
	}
	return in, nil
}

// here identifies the namespace that the thread is in.
func here() (string, error) {
	ns, err := netns.Get()
	if err != nil {
		return "", err
	}
	defer func() { _ = ns.Close() }()
	return ns.UniqueId(), nil
}

func (in *inside) leave() {
	if in.link != nil {
		in.link.Close()
	}
	for _, s := range in.neighbours {
		s.Socket.Close()
	}
}

// current says whether the namespace is still the one of its name.
func (in *inside) current() bool {
	var id string
	err := in.host.InNamespace(in.name, func() (err error) {
		id, err = here()
		return err
	})
	return err == nil && id == in.id
}

// index is a device's; an error if it is not there.
func (in *inside) index(device string) (int, error) {
	link, err := in.link.LinkByName(device)
	if err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}

// listen opens the service's port on Address4, or, where index is not 0, on Address6 of that device. The address need not be there yet, nor
// be known to be nobody else's.
func (in *inside) listen(index int) (l net.Listener, err error) {
	protocol, addr := "tcp4", Address4
	if index != 0 {
		// Not by its name: the standard library remembers the names of another namespace.
		protocol, addr = "tcp6", Address6.WithZone(strconv.Itoa(index))
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var optErr error
		err := c.Control(func(fd uintptr) {
			if index != 0 {
				optErr = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
				return
			}
			optErr = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
		})
		return errors.Join(err, optErr)
	}}
	err = in.host.InNamespace(in.name, func() (err error) {
		l, err = config.Listen(context.Background(), protocol, netip.AddrPortFrom(addr, port).String())
		return err
	})
	return l, err
}

var errNoNeighbour = errors.New("the kernel knows no such neighbour")

// valid are the states in which the kernel would send to a neighbour.
const valid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_PROBE | netlink.NUD_STALE | netlink.NUD_DELAY

// neighbour is the MAC that the kernel has of an address on a device: one look-up, not a dump of all neighbours.
func (in *inside) neighbour(index int, addr netip.Addr) (net.HardwareAddr, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.Sockets = in.neighbours
	req.AddData(&netlink.Ndmsg{Family: uint8(family), Index: uint32(index)})
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, addr.AsSlice()))
	found, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, errNoNeighbour
	case err != nil:
		return nil, fmt.Errorf("look up neighbour %s: %w", addr, err)
	case len(found) != 1:
		return nil, errNoNeighbour
	}
	n, err := netlink.NeighDeserialize(found[0])
	if err != nil {
		return nil, err
	}
	if n.LinkIndex != index || n.State&valid == 0 {
		return nil, errNoNeighbour
	}
	return n.HardwareAddr, nil
}
