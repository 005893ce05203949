package router_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"compute-agent/internal/command"
	"compute-agent/network"
	"compute-agent/network/firewall"
	"compute-agent/network/router"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func readNow(fd int, buffer []byte) (int, error) {
	n, _, err := syscall.Recvfrom(fd, buffer, syscall.MSG_DONTWAIT)
	return n, err
}

var addr, prefix = netip.MustParseAddr, netip.MustParsePrefix

func floating(address, fixed string) router.FloatingIP {
	return router.FloatingIP{Address: addr(address), Fixed: addr(fixed)}
}

// cloud is an external network with who is outside, and a router with two networks: a with two guests and b with one.
type cloud struct {
	*lab
	outside, ns, a1, a2, b1 *node
	router                  router.Router
}

const (
	gatewayIP = "203.0.113.2"
	remoteIP  = "198.51.100.1" // somewhere behind the external network's gateway
	qg        = "qg-0123456789a"
	qrA       = "qr-aaaaaaaaaaa"
	qrB       = "qr-bbbbbbbbbbb"
)

func newCloud(t testing.TB) *cloud {
	t.Helper()
	c := &cloud{lab: newLab(t, "br-ext", "br-a", "br-b")}
	c.outside = c.node()
	c.outside.plug("eth0", "br-ext", "203.0.113.1/24")
	c.outside.address("lo", remoteIP+"/32")
	c.outside.route("10.0.0.0/16", gatewayIP) // somebody tries
	c.ns = c.tenant("1", gatewayIP, "br-a", "br-b")
	c.a1, c.a2, c.b1 = c.guest("br-a", "10.0.0.5"), c.guest("br-a", "10.0.0.6"), c.guest("br-b", "10.0.1.5")
	c.router = wanted(c.ns)
	return c
}

// tenant makes the namespace of a router with its devices.
func (l *lab) tenant(id, gateway, bridgeA, bridgeB string) *node {
	l.t.Helper()
	n := l.router(id)
	n.plug(qg, "br-ext", gateway+"/24")
	n.plug(qrA, bridgeA, "10.0.0.1/24")
	n.plug(qrB, bridgeB, "10.0.1.1/24")
	n.route("0.0.0.0/0", "203.0.113.1")
	return n
}

func wanted(n *node) router.Router {
	return router.Router{ID: "r1", Namespace: n.name, Outside: qg, SNAT: addr(gatewayIP), Inside: []router.Inside{
		{Device: qrA, Prefixes: []netip.Prefix{prefix("10.0.0.0/24")}},
		{Device: qrB, Prefixes: []netip.Prefix{prefix("10.0.1.0/24")}},
	}}
}

func (l *lab) guest(bridge, address string) *node {
	l.t.Helper()
	n := l.node()
	n.plug("eth0", bridge, address+"/24")
	gateway := addr(address).As4()
	gateway[3] = 1
	n.route("0.0.0.0/0", netip.AddrFrom4(gateway).String())
	return n
}

// TestTraffic: who sees whom with which address, and what does not pass.
func TestTraffic(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		c := newCloud(t)
		c.router.FloatingIPs = []router.FloatingIP{floating("203.0.113.10", "10.0.0.6"), floating("203.0.113.11", "10.0.1.5")}
		apply(t, routers(t, command.Exec{}, v), c.router)
		outside, remote := c.outside.udp("203.0.113.1:1000"), c.outside.udp(remoteIP+":1000")
		a1, a2, b1 := c.a1.udp("10.0.0.5:1000"), c.a2.udp("10.0.0.6:1000"), c.b1.udp("10.0.1.5:1000")
		own := c.a2.udp("10.0.0.6:1001")
		for _, p := range []struct {
			name   string
			client *net.UDPConn
			to     string
			server *net.UDPConn
			seen   string
		}{
			{"out without a floating IP", a1, remoteIP + ":1000", remote, gatewayIP},
			{"to a neighbour of the router", a1, "203.0.113.1:1000", outside, gatewayIP},
			{"out with a floating IP", a2, remoteIP + ":1000", remote, "203.0.113.10"},
			{"out of the other network with a floating IP", b1, remoteIP + ":1000", remote, "203.0.113.11"},
			{"in to a floating IP", outside, "203.0.113.10:1000", a2, "203.0.113.1"},
			{"in from afar", remote, "203.0.113.10:1000", a2, remoteIP},
			{"in to the other network", remote, "203.0.113.11:1000", b1, remoteIP},
			{"from network to network", a1, "10.0.1.5:1000", b1, "10.0.0.5"},
			{"from network to network, both with floating IPs", b1, "10.0.0.6:1000", a2, "10.0.1.5"},
			{"to another's floating IP without one, on the same network", a1, "203.0.113.10:1000", a2, gatewayIP},
			{"to another's floating IP without one, on another network", a1, "203.0.113.11:1000", b1, gatewayIP},
			{"to another's floating IP with one", b1, "203.0.113.10:1000", a2, "203.0.113.11"},
			{"to its own floating IP", own, "203.0.113.10:1000", a2, "203.0.113.10"},
		} {
			if seen := c.ask(p.client, p.to, p.server); seen != addr(p.seen) {
				t.Errorf("%s: seen from %s, want %s", p.name, seen, p.seen)
			}
		}
		c.a1.address("lo", "10.9.9.9/32")
		c.a1.address("lo", "10.0.1.6/32")
		c.outside.address("lo", "10.0.1.7/32")
		stranger, neighbour := c.a1.udp("10.9.9.9:1000"), c.a1.udp("10.0.1.6:1000")
		intruder := c.outside.udp("10.0.1.7:1000")
		for _, p := range []struct {
			name string
			from *net.UDPConn
			to   string
			at   *net.UDPConn
			rule string
		}{
			{"in to who has no floating IP", outside, "10.0.0.5:1000", a1, `-i ` + qg + ` -m comment --comment "no floating ip"`},
			{"in past the floating IP", outside, "10.0.0.6:1000", a2, `-i ` + qg + ` -m comment --comment "no floating ip"`},
			{"in from afar, to who has no floating IP", remote, "10.0.0.5:1000", a1, `-i ` + qg + ` -m comment --comment "no floating ip"`},
			{"out with an address of nobody", stranger, remoteIP + ":1000", remote, "false source"},
			{"out with an address of another network", neighbour, remoteIP + ":1000", remote, "false source"},
			{"between networks with an address of nobody", stranger, "10.0.1.5:1000", b1, "false source"},
			{"in with an address of the inside", intruder, "203.0.113.10:1000", a2, "false source"},
		} {
			before := c.ns.counted(v, p.rule)
			_, err := p.from.WriteToUDPAddrPort([]byte("intruder"), netip.MustParseAddrPort(p.to))
			c.must(err)
			c.ask(a1, remoteIP+":1000", remote) // what was sent before has been
			c.ask(outside, "203.0.113.10:1000", a2)
			if n := c.ns.counted(v, p.rule) - before; n != 1 {
				t.Errorf("%s: its rule dropped %d", p.name, n)
			}
			if got := gets(t, p.at); got != "" {
				t.Errorf("%s: %q came", p.name, got)
			}
			c.dropped++
		}
	})
}

// TestConnections: TCP, and what an ICMP error says about a datagram, through both kinds of translation.
func TestConnections(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		c := newCloud(t)
		c.router.FloatingIPs = []router.FloatingIP{floating("203.0.113.10", "10.0.0.6")}
		apply(t, routers(t, command.Exec{}, v), c.router)
		c.outside.echo(remoteIP + ":80")
		c.a2.echo("10.0.0.6:80")
		for _, p := range []struct {
			from     *node
			to, seen string
		}{{c.a1, remoteIP, gatewayIP}, {c.a2, remoteIP, "203.0.113.10"}, {c.outside, "203.0.113.10", "203.0.113.1"}, {c.a1, "203.0.113.10", gatewayIP}} {
			if got, err := c.says(p.from.connect(p.to + ":80")); err != nil || got != "hello from "+p.seen {
				t.Errorf("to %s: %q, %v, want that it comes from %s", p.to, got, err, p.seen)
			}
		}
		for to, from := range map[string]*node{remoteIP + ":9": c.a1, "203.0.113.10:9": c.outside} {
			var conn net.Conn
			from.do(func() {
				var err error
				conn, err = net.Dial("udp", to)
				c.must(err)
			})
			if _, err := c.says(conn); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("nobody listens on %s, which is told by an ICMP error: err = %v", to, err)
			}
			_ = conn.Close()
		}
	})
}

// TestFloatingIPMoves: its connections end, and all others go on.
func TestFloatingIPMoves(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		c := newCloud(t)
		moved := floating("203.0.113.10", "10.0.0.5")
		c.router.FloatingIPs = []router.FloatingIP{moved, floating("203.0.113.11", "10.0.1.5")}
		rs := routers(t, command.Exec{}, v)
		apply(t, rs, c.router)
		c.outside.echo(remoteIP + ":80")
		for _, n := range []*node{c.a1, c.a2, c.b1} {
			n.echo(":80")
		}
		cut := map[string]net.Conn{
			"in by it": c.outside.connect("203.0.113.10:80"), "out by it": c.a1.connect(remoteIP + ":80"),
			"from inside to it": c.b1.connect("203.0.113.10:80"), "from it to another": c.a1.connect("203.0.113.11:80"),
		}
		kept := map[string]net.Conn{
			"in by another": c.outside.connect("203.0.113.11:80"), "out by another": c.b1.connect(remoteIP + ":80"),
			"out without": c.a2.connect(remoteIP + ":80"), "between networks": c.a1.connect("10.0.1.5:80"),
			"to another from without": c.a2.connect("203.0.113.11:80"),
		}
		alive := func(conns map[string]net.Conn, want bool, when string) {
			t.Helper()
			for name, conn := range conns {
				if got, err := c.says(conn); (err == nil) != want {
					t.Errorf("%s: %s goes on: %v, want %v: %q, %v", when, name, err == nil, want, got, err)
				}
			}
		}
		alive(cut, true, "before")
		alive(kept, true, "before")
		c.router.FloatingIPs[0].Fixed = addr("10.0.0.6")
		apply(t, rs, c.router)
		alive(kept, true, "it moved")
		if left := c.translated("203.0.113.10"); left != 0 {
			t.Errorf("%d connections are tracked that the floating IP has no longer", left)
		}
		alive(cut, false, "it moved")
		if got, err := c.says(c.outside.connect("203.0.113.10:80")); err != nil || got != "hello from 203.0.113.1" {
			t.Errorf("to where it moved: %q, %v", got, err)
		}
		cut = map[string]net.Conn{"out without": kept["out without"], "to another from without": kept["to another from without"]}
		delete(kept, "out without")
		delete(kept, "to another from without")
		alive(cut, true, "the guest without has one")
		c.router.SNAT = netip.Addr{}
		apply(t, rs, c.router)
		alive(kept, true, "the gateway's translation goes")
		if left := c.translated(gatewayIP); left != 0 {
			t.Errorf("%d connections are tracked that are translated to the gateway's address", left)
		}
		alive(cut, false, "the gateway's translation goes")
	})
}

// translated counts the connections of the router that have to do with an address.
func (c *cloud) translated(address string) int {
	c.t.Helper()
	n := 0
	c.ns.do(func() {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
		c.must(err)
		for _, f := range flows {
			if f.Forward.DstIP.String() == address || f.Reverse.DstIP.String() == address {
				n++
			}
		}
	})
	return n
}

// TestTwoRouters: tenants with the same addresses do not meet, and a floating IP goes from one to the other at once.
func TestTwoRouters(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		l := newLab(t, "br-ext", "br-a", "br-b", "br-c", "br-d")
		outside := l.node()
		outside.plug("eth0", "br-ext", "203.0.113.1/24")
		one, two := l.tenant("1", "203.0.113.2", "br-a", "br-b"), l.tenant("2", "203.0.113.3", "br-c", "br-d")
		guests := []*net.UDPConn{l.guest("br-a", "10.0.0.5").udp("10.0.0.5:1000"), l.guest("br-c", "10.0.0.5").udp("10.0.0.5:1000")}
		wantedOne, wantedTwo := wanted(one), wanted(two)
		wantedTwo.ID, wantedTwo.SNAT = "r2", addr("203.0.113.3")
		wantedOne.FloatingIPs = []router.FloatingIP{floating("203.0.113.10", "10.0.0.5")}
		rs := routers(t, command.Exec{}, v)
		apply(t, rs, wantedOne, wantedTwo)
		server := outside.udp("203.0.113.1:1000")
		see := func(guest int, want string) {
			t.Helper()
			if seen := l.ask(guests[guest], "203.0.113.1:1000", server); seen != addr(want) {
				t.Errorf("guest %d is seen with %s, want %s", guest, seen, want)
			}
		}
		see(0, "203.0.113.10")
		see(1, "203.0.113.3")
		l.ask(server, "203.0.113.10:1000", guests[0])
		tracked := func(n *node) (out []string) {
			n.do(func() {
				flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
				l.must(err)
				for _, f := range flows {
					out = append(out, fmt.Sprint(f.Forward))
				}
			})
			return out
		}
		before := tracked(two)
		wantedOne.FloatingIPs, wantedTwo.FloatingIPs = nil, wantedOne.FloatingIPs
		apply(t, rs, wantedTwo, wantedOne) // whoever is first
		if now := tracked(two); len(before) == 0 || !slices.Equal(before, now) {
			t.Errorf("connections of the router to which the floating IP came: %v, and before %v", now, before)
		}
		if now := tracked(one); len(now) != 0 {
			t.Errorf("connections of the router that lost it: %v", now)
		}
		l.ask(server, "203.0.113.10:1000", guests[1]) // the neighbour was told: it does not ask
		see(0, "203.0.113.2")
		fresh := outside.udp("203.0.113.1:1001")
		if seen := l.ask(guests[1], "203.0.113.1:1001", fresh); seen != addr("203.0.113.10") {
			t.Errorf("the guest with the floating IP is seen with %s", seen)
		}
	})
}

// TestWithoutSNAT: the inside networks are routed both ways, and floating IPs are as ever.
func TestWithoutSNAT(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		c := newCloud(t)
		c.router.SNAT = netip.Addr{}
		c.router.FloatingIPs = []router.FloatingIP{floating("203.0.113.10", "10.0.0.6")}
		apply(t, routers(t, command.Exec{}, v), c.router)
		outside := c.outside.udp("203.0.113.1:1000")
		a1, a2, b1 := c.a1.udp("10.0.0.5:1000"), c.a2.udp("10.0.0.6:1000"), c.b1.udp("10.0.1.5:1000")
		for _, p := range []struct {
			client *net.UDPConn
			to     string
			server *net.UDPConn
			seen   string
		}{
			{a1, "203.0.113.1:1000", outside, "10.0.0.5"}, {outside, "10.0.1.5:1000", b1, "203.0.113.1"},
			{a2, "203.0.113.1:1000", outside, "203.0.113.10"}, {outside, "203.0.113.10:1000", a2, "203.0.113.1"},
			{a1, "203.0.113.10:1000", a2, "10.0.0.1"}, {b1, "203.0.113.10:1000", a2, "10.0.0.1"},
		} {
			if seen := c.ask(p.client, p.to, p.server); seen != addr(p.seen) {
				t.Errorf("to %s: seen from %s, want %s", p.to, seen, p.seen)
			}
		}
		if n := c.translated("203.0.113.10"); n == 0 {
			t.Error("no connection is tracked")
		}
		rs := routers(t, command.Exec{}, v) // that knows nothing looks at all connections, and cuts none
		before := c.translated("203.0.113.10")
		apply(t, rs, c.router)
		if now := c.translated("203.0.113.10"); now != before {
			t.Errorf("%d connections of %d are left", now, before)
		}
	})
}

// recorder runs programs, and remembers those that change anything. When there are none left that it may run, the next is the last:
// it does what it does, but nobody gets to know.
type recorder struct {
	command.Exec
	ran  []string
	left int // negative for no end
}

func (r *recorder) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	if strings.HasSuffix(c.Name, "restore") {
		r.ran = append(r.ran, c.Name)
	}
	out, err := r.Exec.Run(ctx, c)
	if r.left == 0 {
		return nil, errCrash
	}
	r.left--
	return out, err
}

// TestApplyTwice: a second Apply runs no program that changes anything, not even by an agent that has just started.
func TestApplyTwice(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		c := newCloud(t)
		c.router.FloatingIPs = []router.FloatingIP{floating("203.0.113.10", "10.0.0.6"), floating("203.0.113.11", "10.0.1.5")}
		r := &recorder{left: -1}
		rs := routers(t, r, v)
		apply(t, rs, c.router)
		if len(r.ran) != 2 {
			t.Errorf("%q ran, want one for each family", r.ran)
		}
		r.ran = nil
		apply(t, rs, c.router)
		rs.Resync()
		apply(t, rs, c.router)
		slices.Reverse(c.router.FloatingIPs)
		slices.Reverse(c.router.Inside)
		apply(t, routers(t, r, v), c.router)
		if r.ran != nil {
			t.Errorf("programs ran that changed nothing: %q", r.ran)
		}
		if got, want := c.ns.held(v), textOf(t, c.router); got != want {
			t.Errorf("loaded:\n%swanted:\n%s", got, want)
		}
		c.router = router.Router{ID: "r1", Namespace: c.ns.name, Inside: c.router.Inside} // the gateway goes
		gone := c.router
		gone.Outside = qg // the device is still there
		apply(t, rs, gone)
		if got, want := c.ns.held(v), textOf(t, c.router); got != want {
			t.Errorf("loaded:\n%swanted:\n%s", got, want)
		}
		if got := c.ns.addresses(qg, netlink.FAMILY_V4); !slices.Equal(got, []string{gatewayIP + "/24"}) {
			t.Errorf("addresses of the outside: %v", got)
		}
	})
}

// TestKilled: whatever an agent was doing when it was killed, the next Apply completes it, and cuts what is to be cut.
func TestKilled(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		for left := range 3 { // two read, one changes
			t.Run(strconv.Itoa(left), func(t *testing.T) { killed(t, v, left) })
		}
	})
}

func killed(t *testing.T, v firewall.Variant, left int) {
	c := newCloud(t)
	c.router.FloatingIPs = []router.FloatingIP{floating("203.0.113.10", "10.0.0.5"), floating("203.0.113.11", "10.0.1.5")}
	apply(t, routers(t, command.Exec{}, v), c.router)
	c.a1.echo(":80")
	c.b1.echo(":80")
	_, kept := c.outside.connect("203.0.113.10:80"), c.outside.connect("203.0.113.11:80")
	if c.translated("203.0.113.10") != 1 {
		t.Error("the connection that is to be cut is not tracked")
	}
	c.router.FloatingIPs = []router.FloatingIP{floating("203.0.113.12", "10.0.0.5"), floating("203.0.113.11", "10.0.1.5")}
	err := routers(t, &recorder{left: left}, v).Apply(context.Background(), []router.Router{c.router})
	if !errors.Is(err, errCrash) {
		t.Fatalf("err = %v", err)
	}
	apply(t, routers(t, command.Exec{}, v), c.router)
	if got, want := c.ns.held(v), textOf(t, c.router); got != want {
		t.Errorf("loaded:\n%swanted:\n%s", got, want)
	}
	have := c.ns.addresses(qg, netlink.FAMILY_V4)
	if slices.Sort(have); !slices.Equal(have, []string{"203.0.113.11/32", "203.0.113.12/32", gatewayIP + "/24"}) {
		t.Errorf("addresses of the outside: %v", have)
	}
	if _, err := c.says(kept); err != nil {
		t.Errorf("another's connection is cut: %v", err)
	}
	if n := c.translated("203.0.113.10"); n != 0 {
		t.Errorf("%d connections of what went are left", n)
	}
}

// TestOneFails: a router that makes no sense or has no namespace leaves the others as they are to be.
func TestOneFails(t *testing.T) {
	c := newCloud(t)
	c.router.FloatingIPs = []router.FloatingIP{floating("203.0.113.10", "10.0.0.6")}
	wrong, lost := wanted(c.ns), wanted(c.ns)
	wrong.ID, wrong.Namespace, wrong.Outside = "wrong", "qrouter-wrong", "a; b"
	lost.ID, lost.Namespace = "lost", "qrouter-lost"
	err := routers(t, command.Exec{}, firewall.VariantNFT).Apply(context.Background(), []router.Router{wrong, lost, c.router})
	if !errors.Is(err, router.ErrInvalid) || !errors.Is(err, network.ErrMissing) || !strings.Contains(err.Error(), `router lost: namespace qrouter-lost: `) {
		t.Errorf("err = %v", err)
	}
	c.ask(c.outside.udp("203.0.113.1:1000"), "203.0.113.10:1000", c.a2.udp("10.0.0.6:1000"))
}

// TestNamespaceIsMadeAnew: what was known of one of the same name is not believed.
func TestNamespaceIsMadeAnew(t *testing.T) {
	c := newCloud(t)
	rs := routers(t, command.Exec{}, firewall.VariantNFT)
	apply(t, rs, c.router)
	c.must(c.ns.ns.Close())
	c.must(netns.DeleteNamed(c.ns.name))
	again := c.tenant("1", gatewayIP, "br-a", "br-b")
	apply(t, rs, c.router)
	if got, want := again.held(firewall.VariantNFT), textOf(t, c.router); got != want {
		t.Errorf("loaded:\n%swanted:\n%s", got, want)
	}
}

// TestNamespacesOfTheAgent: package network makes the namespace, holds its devices, and leaves the floating IPs alone.
func TestNamespacesOfTheAgent(t *testing.T) {
	l := newLab(t)
	host := network.Host{Netns: t.TempDir()}
	t.Cleanup(func() { l.must(unix.Unmount(host.Netns, unix.MNT_DETACH)) })
	ext, a := "ee000000-0000-4000-8000-000000000000", "aa000000-0000-4000-8000-000000000000"
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, n} }
	space := network.Namespace{Name: "qrouter-agent", Forwarding: true, Devices: []network.Device{
		{Port: "01234567-89ab", Network: ext, Name: qg, MAC: mac(1), Addresses: []netip.Prefix{prefix(gatewayIP + "/24")},
			Routes: []network.Route{{To: prefix("0.0.0.0/0"), Via: addr("203.0.113.1")}}},
		{Port: "aaaaaaaa-aaaa", Network: a, Name: qrA, MAC: mac(2), Addresses: []netip.Prefix{prefix("10.0.0.1/24"), prefix("2001:db8:a::1/64")}},
	}}
	networks := []network.Network{{ID: ext, Type: network.Local}, {ID: a, Type: network.Local}}
	links, err := network.Wanted(networks, nil, space)
	l.must(err)
	l.must(network.Apply(context.Background(), host, links))
	t.Cleanup(func() { l.must(network.Apply(context.Background(), host, network.State{})) })

	outside := l.node()
	outside.plug("eth0", network.BridgeName(ext), "203.0.113.1/24")
	guest := l.node()
	guest.do(func() { set(t, "ipv6/conf/default/router_solicitation_delay", "0") })
	guest.plug("eth0", network.BridgeName(a), "10.0.0.5/24")
	guest.route("0.0.0.0/0", "10.0.0.1")
	rs := routersOf(t, host, command.Exec{}, firewall.VariantNFT)
	r := router.Router{ID: "r1", Namespace: space.Name, Outside: qg, SNAT: addr(gatewayIP), Inside: []router.Inside{{Device: qrA, Prefixes: []netip.Prefix{prefix("10.0.0.0/24")},
		Advertise: []router.Advertisement{{Prefix: prefix("2001:db8:a::/64"), SLAAC: true}}}}, FloatingIPs: []router.FloatingIP{floating("203.0.113.10", "10.0.0.5")}}
	apply(t, rs, r)
	l.must(network.Apply(context.Background(), host, links))
	client, server := guest.udp("10.0.0.5:1000"), outside.udp("203.0.113.1:1000")
	if seen := l.ask(client, "203.0.113.1:1000", server); seen != addr("203.0.113.10") {
		t.Errorf("seen from %s, want the floating IP", seen)
	}
	outside.do(func() { l.must(forget("eth0")) }) // it has to ask who has the floating IP
	l.ask(server, "203.0.113.10:1000", client)
	guest.await("2001:db8:a::/64", usable)
	rs.Release(nil)
	if via := guest.defaultRoute(); via.IsValid() {
		t.Errorf("the guest still routes by %s", via)
	}
}

// forget makes the thread's namespace forget the neighbours of a device.
func forget(device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	list, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
	for _, n := range list {
		err = errors.Join(err, netlink.NeighDel(&n))
	}
	return err
}
