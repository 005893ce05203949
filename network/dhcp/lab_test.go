package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"compute-agent/internal/command"
	"compute-agent/network"
)

const (
	netA  = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	space = "qdhcp-" + netA
)

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, last} }

// lab is a host with one network: a namespace for its DHCP server, and one for each of three guests.
type lab struct {
	t    testing.TB
	host network.Host
	dir  string
	want network.State
	uid  int        // of the servers
	told chan error // what the supervisors reported
}

// newLab moves the test into a network namespace of its own, with the server's device and three guests, whose MACs end in 1, 2 and 3.
func newLab(t testing.TB, addresses ...string) *lab {
	t.Helper()
	runtime.LockOSThread()
	outer, err := netns.New()
	if err != nil {
		t.Fatalf("these tests make network namespaces, which root can: %v", err)
	}
	dir, err := os.MkdirTemp("", "compute-agent-dhcp-") // that dnsmasq, which is not root, can enter
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, dir: filepath.Join(dir, "dhcp"), host: network.Host{Netns: filepath.Join(dir, "netns")}, told: make(chan error, 100)}
	t.Cleanup(func() {
		if err := network.Apply(context.Background(), l.host, network.State{}); err != nil {
			t.Error(err)
		}
		_ = unix.Unmount(l.host.Netns, unix.MNT_DETACH)
		_ = os.RemoveAll(dir)
		_ = outer.Close()
	})
	l.plug(addresses...)
	return l
}

// plug makes the links, with these addresses of the server's device.
func (l *lab) plug(addresses ...string) {
	l.t.Helper()
	device := network.Device{Port: "server", Network: netA, Name: "ns-server", MAC: mac(100)}
	for _, a := range addresses {
		device.Addresses = append(device.Addresses, netip.MustParsePrefix(a))
	}
	namespaces := []network.Namespace{{Name: space, Devices: []network.Device{device}}}
	for i := byte(1); i <= 3; i++ {
		namespaces = append(namespaces, network.Namespace{Name: guest(i), Devices: []network.Device{{
			Port: fmt.Sprintf("%d-guest", i), Network: netA, Name: "eth0", MAC: mac(i),
		}}})
	}
	var err error
	l.want, err = network.Wanted([]network.Network{{ID: netA, Type: network.Local}}, nil, namespaces...)
	if err == nil {
		err = network.Apply(l.t.Context(), l.host, l.want)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func guest(i byte) string { return fmt.Sprintf("guest-%d", i) }

// supervisor is one that ends, with all its servers, with the test.
func (l *lab) supervisor() *Supervisor {
	l.t.Helper()
	s, err := New(Options{
		Dir: l.dir, Run: command.Exec{}, Host: l.host, Report: func(_ string, err error) { l.told <- err },
		Backoff: func(int) time.Duration { return 0 },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.uid = s.uid
	l.t.Cleanup(func() {
		s.Close()
		s, err := New(s.opt)
		if err == nil {
			err = s.Apply(context.Background(), nil)
			s.Close()
		}
		if err != nil {
			l.t.Error(err)
		}
		if left, err := find("/proc", l.dir, s.uid); err != nil || len(left) > 0 {
			l.t.Errorf("left running: %v, %v", left, err)
		}
	})
	return s
}

func (l *lab) apply(s *Supervisor, want ...Server) {
	l.t.Helper()
	if err := s.Apply(l.t.Context(), want); err != nil {
		l.t.Fatal(err)
	}
}

// pid is the one server's.
func (l *lab) pid() int {
	l.t.Helper()
	running, err := find("/proc", l.dir, l.uid)
	if err != nil || len(running) != 1 {
		l.t.Fatalf("%d servers run: %v", len(running), err)
	}
	_ = running[0].fd.Close()
	return running[0].pid
}

// kill ends the one server, and waits for its end.
func (l *lab) kill() {
	l.t.Helper()
	running, err := find("/proc", l.dir, l.uid)
	if err != nil || len(running) != 1 {
		l.t.Fatalf("%d servers run: %v", len(running), err)
	}
	if err := running[0].signal(unix.SIGKILL); err != nil || !running[0].wait() {
		l.t.Fatalf("it does not end: %v", err)
	}
	_ = running[0].fd.Close()
}

// inside runs a program in a namespace.
func (l *lab) inside(space string, args ...string) string {
	l.t.Helper()
	var out []byte
	err := l.host.InNamespace(space, func() (err error) {
		out, err = exec.CommandContext(l.t.Context(), args[0], args[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		l.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

const patience = 2 * time.Second // for one answer, of five

// lease4 is what a guest gets when it asks for an address.
func (l *lab) lease4(i byte, ask ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, error) {
	l.t.Helper()
	var client *nclient4.Client
	err := l.host.InNamespace(guest(i), func() (err error) {
		client, err = nclient4.New("eth0", nclient4.WithTimeout(patience), nclient4.WithRetry(5))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ask = append(ask, dhcpv4.WithRequestedOptions(
		dhcpv4.OptionClasslessStaticRoute, dhcpv4.GenericOptionCode(249), dhcpv4.OptionHostName, dhcpv4.OptionBootfileName, dhcpv4.OptionNTPServers,
		dhcpv4.OptionInterfaceMTU))
	lease, err := client.Request(l.t.Context(), ask...)
	if err != nil {
		return nil, err
	}
	return lease.ACK, nil
}

// gets4 says that a guest gets this address.
func (l *lab) gets4(i byte, address string) *dhcpv4.DHCPv4 {
	l.t.Helper()
	ack, err := l.lease4(i)
	if err != nil {
		l.t.Fatalf("guest %d: %v", i, err)
	}
	if got := ack.YourIPAddr.String(); got != address {
		l.t.Fatalf("guest %d gets %s, not %s", i, got, address)
	}
	return ack
}

// nothing4 says that a guest gets no answer, though the server has answered another that asked later.
func (l *lab) nothing4(i, other byte, address string) {
	l.t.Helper()
	var conn net.PacketConn
	err := l.host.InNamespace(guest(i), func() (err error) {
		conn, err = nclient4.NewRawUDPConn("eth0", nclient4.ClientPort)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	discover, err := dhcpv4.NewDiscovery(mac(i))
	if err == nil {
		_, err = conn.WriteTo(discover.ToBytes(), nclient4.DefaultServers)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.gets4(other, address)
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	buf := make([]byte, 2000)
	for {
		n, _, err := conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			l.t.Fatal(err)
		}
		if answer, err := dhcpv4.FromBytes(buf[:n]); err == nil && answer.OpCode == dhcpv4.OpcodeBootReply && answer.ClientHWAddr.String() == mac(i).String() {
			l.t.Errorf("guest %d, whom the server does not know, gets %s", i, answer)
		}
	}
}

// client6 is a DHCPv6 client in a guest.
func (l *lab) client6(i byte) *nclient6.Client {
	l.t.Helper()
	var client *nclient6.Client
	err := l.host.InNamespace(guest(i), func() (err error) {
		client, err = nclient6.New("eth0", nclient6.WithTimeout(patience), nclient6.WithRetry(5))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return client
}

// lease6 is the answer to a guest that asks for an IPv6 address.
func (l *lab) lease6(i byte) *dhcpv6.Message {
	l.t.Helper()
	client := l.client6(i)
	defer func() { _ = client.Close() }()
	advertise, err := client.Solicit(l.t.Context())
	if err != nil {
		l.t.Fatalf("guest %d: %v", i, err)
	}
	reply, err := client.Request(l.t.Context(), advertise, dhcpv6.WithRequestedOptions(dhcpv6.OptionBootfileURL, dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList))
	if err != nil {
		l.t.Fatalf("guest %d: %v", i, err)
	}
	return reply
}

// gets6 says that a guest gets this IPv6 address.
func (l *lab) gets6(i byte, address string) *dhcpv6.Message {
	l.t.Helper()
	reply := l.lease6(i)
	ia := reply.Options.OneIANA()
	if ia == nil || ia.Options.OneAddress() == nil || ia.Options.OneAddress().IPv6Addr.String() != address {
		l.t.Fatalf("guest %d does not get %s: %s", i, address, reply.Summary())
	}
	return reply
}

// slaac makes a guest ask for routers, and waits until its kernel has made itself this address of a router's advertisement.
func (l *lab) slaac(i byte, address string) {
	l.t.Helper()
	l.inside(guest(i), "ip", "link", "set", "eth0", "down") // what it heard before is gone
	for _, setting := range []string{"accept_ra=1", "addr_gen_mode=0", "router_solicitation_delay=0"} {
		l.inside(guest(i), "sysctl", "-qw", "net.ipv6.conf.eth0."+setting)
	}
	err := l.host.InNamespace(guest(i), func() error {
		updates, stop := make(chan netlink.AddrUpdate, 10), make(chan struct{})
		defer close(stop)
		if err := netlink.AddrSubscribe(updates, stop); err != nil {
			return err
		}
		if out, err := exec.CommandContext(l.t.Context(), "ip", "link", "set", "eth0", "up").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for u := range updates {
			if u.NewAddr && u.LinkAddress.IP.String() == address {
				return nil
			}
		}
		return errors.New("no more addresses are told")
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// lookup asks the server at 10.0.0.2 for a name's IPv4 addresses.
func lookup(t testing.TB, name string) ([]string, error) {
	conn, err := net.Dial("udp", "10.0.0.2:53")
	if err != nil {
		return nil, err
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	r := net.Resolver{PreferGo: true, Dial: dial}
	found, err := r.LookupNetIP(t.Context(), "ip4", name+".")
	var out []string
	for _, a := range found {
		out = append(out, a.String())
	}
	return out, err
}
