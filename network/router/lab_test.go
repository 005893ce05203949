package router_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"compute-agent/internal/command"
	"compute-agent/network"
	"compute-agent/network/firewall"
	"compute-agent/network/router"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// lab is a host in a namespace, with bridges, and nodes in namespaces of their own that are plugged into them: routers, guests, and
// who is outside. The test's goroutine keeps its thread, which is in the host.
type lab struct {
	t     testing.TB
	here  netns.NsHandle
	veths int

	passed, dropped int // packets
}

// node is a namespace.
type node struct {
	lab  *lab
	name string // below /run/netns; empty for none
	ns   netns.NsHandle
}

func newLab(t testing.TB, bridges ...string) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	l := &lab{t: t}
	var err error
	l.here, err = netns.New()
	l.must(err)
	t.Cleanup(func() {
		_ = l.here.Close()
		if l.passed > 0 {
			t.Logf("%d packets passed, %d were dropped, as they should", l.passed, l.dropped)
		}
	})
	set(t, "ipv6/conf/default/disable_ipv6", "1")
	for _, name := range bridges {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
		l.must(netlink.LinkAdd(br))
		l.must(netlink.LinkSetUp(br))
	}
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func set(t testing.TB, setting, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/"+setting, []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) node() *node {
	l.t.Helper()
	ns, err := netns.New()
	l.must(err)
	return l.made(&node{lab: l, ns: ns})
}

// router makes a namespace that routes, under a name as a Router's.
func (l *lab) router(id string) *node {
	l.t.Helper()
	name := fmt.Sprintf("qrouter-test-%d-%s", os.Getpid(), id)
	ns, err := netns.NewNamed(name)
	l.must(err)
	l.t.Cleanup(func() { _ = netns.DeleteNamed(name) })
	n := l.made(&node{lab: l, name: name, ns: ns})
	n.do(func() {
		set(l.t, "ipv4/ip_forward", "1")
		set(l.t, "ipv6/conf/all/forwarding", "1")
	})
	return n
}

func (l *lab) made(n *node) *node {
	l.t.Helper()
	l.t.Cleanup(func() { _ = n.ns.Close() })
	lo, err := netlink.LinkByName("lo")
	l.must(err)
	l.must(netlink.LinkSetUp(lo))
	l.must(netns.Set(l.here))
	return n
}

// do calls f in the node.
func (n *node) do(f func()) {
	n.lab.t.Helper()
	n.lab.must(netns.Set(n.ns))
	defer func() { n.lab.must(netns.Set(n.lab.here)) }()
	f()
}

// plug gives a node a device in a bridge, with addresses.
func (n *node) plug(device, bridge string, addresses ...string) {
	l := n.lab
	l.t.Helper()
	l.veths++
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("veth%d", l.veths)}, PeerName: device, PeerNamespace: netlink.NsFd(int(n.ns))}
	l.must(netlink.LinkAdd(veth))
	br, err := netlink.LinkByName(bridge)
	l.must(err)
	l.must(netlink.LinkSetMaster(veth, br))
	l.must(netlink.LinkSetUp(veth))
	n.do(func() {
		link, err := netlink.LinkByName(device)
		l.must(err)
		set(l.t, "ipv6/conf/"+device+"/accept_dad", "0")
		l.must(netlink.LinkSetUp(link))
	})
	for _, a := range addresses {
		n.address(device, a)
	}
}

func (n *node) address(device, cidr string) {
	n.lab.t.Helper()
	n.do(func() {
		link, err := netlink.LinkByName(device)
		n.lab.must(err)
		a, err := netlink.ParseAddr(cidr)
		n.lab.must(err)
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD // it can be used at once
		}
		n.lab.must(netlink.AddrAdd(link, a))
	})
}

// addresses are a device's of a family, without those of its link.
func (n *node) addresses(device string, family int) []string {
	n.lab.t.Helper()
	var out []string
	n.do(func() {
		link, err := netlink.LinkByName(device)
		n.lab.must(err)
		list, err := netlink.AddrList(link, family)
		n.lab.must(err)
		for _, a := range list {
			if !a.IP.IsLinkLocalUnicast() {
				out = append(out, a.IPNet.String())
			}
		}
	})
	return out
}

func (n *node) route(to, via string) {
	n.lab.t.Helper()
	n.do(func() {
		_, dst, err := net.ParseCIDR(to)
		n.lab.must(err)
		n.lab.must(netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)}))
	})
}

// udp opens a socket in the node.
func (n *node) udp(local string) *net.UDPConn {
	n.lab.t.Helper()
	var c *net.UDPConn
	n.do(func() {
		var err error
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local)))
		n.lab.must(err)
	})
	n.lab.t.Cleanup(func() { _ = c.Close() })
	return c
}

// patience ends a test that waits for what does not come.
const patience = 10 * time.Second

// ask sends a datagram to an address, at which server gets it, and the answer. It says whom server saw.
func (l *lab) ask(client *net.UDPConn, to string, server *net.UDPConn) netip.Addr {
	l.t.Helper()
	target := netip.MustParseAddrPort(to)
	question := fmt.Sprintf("question %d", l.passed)
	_, err := client.WriteToUDPAddrPort([]byte(question), target)
	l.must(err)
	from := l.receive(server, question, to)
	_, err = server.WriteToUDPAddrPort([]byte("answer to "+question), from)
	l.must(err)
	if answered := l.receive(client, "answer to "+question, "the client"); answered != target {
		l.t.Errorf("what was sent to %s is answered from %s", to, answered)
	}
	l.passed += 2
	return from.Addr().Unmap()
}

func (l *lab) receive(c *net.UDPConn, want, who string) netip.AddrPort {
	l.t.Helper()
	l.must(c.SetReadDeadline(time.Now().Add(patience)))
	buffer := make([]byte, 2048)
	n, from, err := c.ReadFromUDPAddrPort(buffer)
	if err != nil {
		l.t.Fatalf("%q does not come to %s: %v", want, who, err)
	}
	if got := string(buffer[:n]); got != want {
		l.t.Fatalf("to %s comes %q, want %q", who, got, want)
	}
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// gets reads a datagram that is there already; empty if there is none.
func gets(t testing.TB, c *net.UDPConn) string {
	t.Helper()
	buffer := make([]byte, 2048)
	if err := c.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := raw.Control(func(fd uintptr) { n, _ = readNow(int(fd), buffer) }); err != nil {
		t.Fatal(err)
	}
	return string(buffer[:max(n, 0)])
}

// echo serves TCP in a node: it says to each who it saw, and repeats all that it gets.
func (n *node) echo(local string) {
	n.lab.t.Helper()
	var listener net.Listener
	n.do(func() {
		var err error
		listener, err = net.Listen("tcp", local)
		n.lab.must(err)
	})
	n.lab.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go repeat(c)
		}
	}()
}

func repeat(c net.Conn) {
	defer func() { _ = c.Close() }()
	buffer := make([]byte, 2048)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		from := netip.MustParseAddrPort(c.RemoteAddr().String()).Addr()
		if _, err := fmt.Fprintf(c, "%s from %s", buffer[:n], from); err != nil {
			return
		}
	}
}

// connect opens a TCP connection.
func (n *node) connect(to string) net.Conn {
	n.lab.t.Helper()
	var c net.Conn
	n.do(func() {
		var err error
		c, err = net.DialTimeout("tcp", to, patience)
		if err != nil {
			n.lab.t.Fatalf("connect to %s: %v", to, err)
		}
	})
	n.lab.t.Cleanup(func() { _ = c.Close() })
	return c
}

// says sends over a connection and gives what comes back.
func (l *lab) says(c net.Conn) (string, error) {
	l.must(c.SetDeadline(time.Now().Add(patience)))
	if _, err := c.Write([]byte("hello")); err != nil {
		return "", err
	}
	buffer := make([]byte, 2048)
	n, err := c.Read(buffer)
	if err == nil {
		l.passed += 2
	}
	return string(buffer[:n]), err
}

// counted is how many packets a rule of the router has matched.
func (n *node) counted(v firewall.Variant, comment string) uint64 {
	n.lab.t.Helper()
	var out uint64
	n.do(func() {
		counters, err := firewall.New(command.Exec{}, v, nil).Counters(context.Background())
		n.lab.must(err)
		for _, c := range counters {
			if strings.Contains(c.Rule, comment) {
				out += c.Packets
			}
		}
	})
	return out
}

// held is what a router's namespace has of iptables and ip6tables, without counters.
func (n *node) held(v firewall.Variant) string {
	n.lab.t.Helper()
	var out strings.Builder
	n.do(func() {
		for _, family := range []string{"iptables", "ip6tables"} {
			text, err := command.Exec{}.Run(context.Background(), command.Cmd{Name: v.Program(family, "save")})
			n.lab.must(err)
			tables, err := firewall.ParseSave(strings.NewReader(string(text)))
			n.lab.must(err)
			for _, name := range []string{"raw", "nat", "filter"} {
				for _, t := range tables {
					if t.Name == name {
						out.WriteString(firewall.Text([]firewall.Table{t}))
					}
				}
			}
		}
	})
	return out.String()
}

func textOf(t testing.TB, r router.Router) string {
	t.Helper()
	rules, err := router.Generate(r)
	if err != nil {
		t.Fatal(err)
	}
	return firewall.Text(rules.IPv4) + firewall.Text(rules.IPv6)
}

func eachVariant(t *testing.T, test func(t *testing.T, v firewall.Variant)) {
	for _, v := range []firewall.Variant{firewall.VariantNFT, firewall.VariantLegacy} {
		t.Run(string(v), func(t *testing.T) { test(t, v) })
	}
}

func routers(t testing.TB, run command.Runner, v firewall.Variant) *router.Routers {
	t.Helper()
	return routersOf(t, network.Host{}, run, v)
}

func routersOf(t testing.TB, h network.Host, run command.Runner, v firewall.Variant) *router.Routers {
	t.Helper()
	rs := router.New(h, run, v, func(err error) { t.Error(err) })
	t.Cleanup(rs.Close)
	return rs
}

func apply(t testing.TB, rs *router.Routers, wanted ...router.Router) {
	t.Helper()
	if err := rs.Apply(context.Background(), wanted); err != nil {
		t.Fatal(err)
	}
}

var errCrash = errors.New("killed")
