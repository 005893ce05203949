//go:build lab

// Package network tests on a full kernel what the tests of package network cannot on every one: VLAN devices, VLAN-filtering bridges, the
// policing of tc. Two hosts are two namespaces, the cable between them is a veth.
package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"compute-agent/network"
)

const (
	netA, netB = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	portA      = "11111111-1111-4111-8111-111111111111"
	portB      = "22222222-2222-4222-8222-222222222222"
	uplink     = "up0"
)

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, last} }

// host is a host in a namespace of its own, with the interface up0.
type host struct {
	t  *testing.T
	ns netns.NsHandle
	network.Host
}

// twoHosts moves the test's thread into namespaces, and ends it with the test.
func twoHosts(t *testing.T) (left, right *host) {
	t.Helper()
	runtime.LockOSThread()
	hosts := []*host{}
	for range 2 {
		ns, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ns.Close() })
		hosts = append(hosts, &host{t: t, ns: ns})
		for _, setting := range []string{"all", "default"} { // nobody sends what no test asked for
			run(t, "sysctl", "-qw", "net.ipv6.conf."+setting+".disable_ipv6=1")
		}
	}
	left, right = hosts[0], hosts[1]
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: uplink}, PeerName: uplink, PeerNamespace: netlink.NsFd(left.ns)}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		h.enter()
		run(t, "ip", "link", "set", uplink, "up")
	}
	return left, right
}

func (h *host) enter() {
	h.t.Helper()
	if err := netns.Set(h.ns); err != nil {
		h.t.Fatal(err)
	}
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// apply makes the host so, and checks that to do it again would be nothing.
func (h *host) apply(networks []network.Network, ports []network.Port, spaces ...network.Namespace) {
	h.t.Helper()
	h.enter()
	want, err := network.Wanted(networks, ports, spaces...)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := network.Apply(h.t.Context(), h.Host, want); err != nil {
		h.t.Fatal(err)
	}
	h.settled(want)
}

func (h *host) settled(want network.State) {
	h.t.Helper()
	have, err := network.Read(h.t.Context(), h.Host, want)
	if err != nil {
		h.t.Fatal(err)
	}
	if changes, err := network.Diff(have, want); err != nil || len(changes) > 0 {
		h.t.Errorf("it would change %v, %v", changes, err)
	}
}

// names are the host's links.
func (h *host) names() string {
	h.t.Helper()
	h.enter()
	var names []string
	for line := range strings.Lines(run(h.t, "ip", "-br", "link")) {
		names = append(names, strings.Fields(line)[0])
	}
	return strings.Join(names, " ") + "\n"
}

// guest is the end of a tap that QEMU would have.
type guest struct {
	t  *testing.T
	fd int
}

const vnetHeader = 10

// guest opens a port's tap and waits until its bridge lets frames pass.
func (h *host) guest(port string) *guest {
	h.t.Helper()
	h.enter()
	events, err := h.Watch(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	g := &guest{h.t, fd}
	h.t.Cleanup(g.close)
	request, err := unix.NewIfreq(network.TapName(port))
	if err != nil {
		h.t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		h.t.Fatal(err)
	}
	for !strings.Contains(run(h.t, "bridge", "link", "show", "dev", network.TapName(port)), "state forwarding") {
		<-events
	}
	return g
}

func (g *guest) close() {
	_ = unix.Close(g.fd)
	g.fd = -1
}

func (g *guest) send(frame []byte) {
	g.t.Helper()
	if _, err := unix.Write(g.fd, append(make([]byte, vnetHeader), frame...)); err != nil {
		g.t.Fatal(err)
	}
}

// got says whether a frame came. What comes before the mark is told, and the mark ends it.
func (g *guest) got(frame, mark []byte) bool {
	g.t.Helper()
	seen := false
	for {
		buffer := make([]byte, 4096)
		n, err := unix.Read(g.fd, buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			ready, err := unix.Poll([]unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}, 20_000)
			if ready == 0 && err == nil {
				g.t.Fatal("no mark came")
			}
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			g.t.Fatal(err)
		}
		if bytes.Equal(buffer[vnetHeader:n], mark) {
			return seen
		}
		seen = seen || bytes.Equal(buffer[vnetHeader:n], frame)
	}
}

// gets waits for a frame with this at its end.
func (g *guest) gets(end []byte) bool {
	for buffer := make([]byte, 4096); ; {
		n, err := unix.Read(g.fd, buffer)
		if err == nil && bytes.HasSuffix(buffer[:n], end) {
			return true
		}
		if errors.Is(err, unix.EAGAIN) {
			if ready, _ := unix.Poll([]unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}, 5_000); ready == 0 {
				return false
			}
		}
	}
}

var numbered uint64

// frame is a new broadcast frame of an ethertype for experiments.
func frame(from byte) []byte {
	numbered++
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac(from)...)
	f = append(f, 0x88, 0xb5)
	return append(binary.BigEndian.AppendUint64(f, numbered), make([]byte, 42)...)
}

// wire sees what comes through the cable, with its tag.
type wire struct {
	t  *testing.T
	fd int
}

func (h *host) wire() *wire {
	h.t.Helper()
	h.enter()
	link, err := netlink.LinkByName(uplink)
	if err != nil {
		h.t.Fatal(err)
	}
	all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = unix.Close(fd) })
	for _, option := range []int{unix.PACKET_AUXDATA, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}); err != nil {
		h.t.Fatal(err)
	}
	return &wire{h.t, fd}
}

// tag is the tag that a frame came with; 0 for none.
func (w *wire) tag(frame []byte) int {
	w.t.Helper()
	for {
		if ready, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, 20_000); ready == 0 && err == nil {
			w.t.Fatal("the frame was not on the wire")
		}
		buffer, control := make([]byte, 4096), make([]byte, 256)
		n, controls, _, _, err := unix.Recvmsg(w.fd, buffer, control, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if !bytes.Equal(buffer[:n], frame) {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(control[:controls])
		if err != nil || len(messages) != 1 {
			w.t.Fatalf("%d control messages, %v", len(messages), err)
		}
		const tagAt = 16 // in struct tpacket_auxdata
		return int(binary.NativeEndian.Uint16(messages[0].Data[tagAt:])) & 0xfff
	}
}

// networksOf are two VLANs of a host, 100 and 200, each with a bridge of its own, or in one that filters.
func networksOf(filtering bool) []network.Network {
	return []network.Network{
		{ID: netA, Type: network.VLAN, Physical: uplink, VLAN: 100, Filtering: filtering},
		{ID: netB, Type: network.VLAN, Physical: uplink, VLAN: 200, Filtering: filtering},
	}
}

func portsOf() []network.Port {
	return []network.Port{
		{ID: portA, Network: netA, MAC: mac(1), VIF: network.VIFTap}, {ID: portB, Network: netB, MAC: mac(2), VIF: network.VIFTap},
	}
}

// TestVLANs sends frames between guests of two hosts, each with bridges of its VLANs or with one that filters: they pass in the same VLAN, with
// its tag on the wire, and not to the other; and nothing is left in the end.
func TestVLANs(t *testing.T) {
	for _, c := range []struct{ left, right bool }{{false, false}, {false, true}, {true, true}} {
		t.Run(fmt.Sprintf("filtering %v and %v", c.left, c.right), func(t *testing.T) {
			left, right := twoHosts(t)
			before := left.names() + right.names()
			left.apply(networksOf(c.left), portsOf())
			right.apply(networksOf(c.right), portsOf())
			wire := right.wire()
			from := map[int]*guest{100: left.guest(portA), 200: left.guest(portB)}
			to := map[int]*guest{100: right.guest(portA), 200: right.guest(portB)}
			for vlan, other := range map[int]int{100: 200, 200: 100} {
				sent, mark := frame(9), frame(8)
				from[vlan].send(sent)
				if got := wire.tag(sent); got != vlan {
					t.Errorf("a frame of VLAN %d has tag %d on the wire", vlan, got)
				}
				from[other].send(mark) // comes after it, to those of the other VLAN
				if to[other].got(sent, mark) {
					t.Errorf("a frame of VLAN %d comes to VLAN %d", vlan, other)
				}
				from[vlan].send(mark)
				if !to[vlan].got(sent, mark) {
					t.Errorf("a frame of VLAN %d does not come to it", vlan)
				}
			}
			left.apply(nil, nil)
			right.apply(nil, nil)
			for _, h := range []*host{left, right} {
				h.enter()
				if have, err := h.Links(t.Context()); err != nil || strings.Contains(have.String(), "compute-agent") {
					t.Errorf("left is %v\n%s", err, have)
				}
			}
			if after := left.names() + right.names(); after != before {
				t.Errorf("there are\n%snot\n%s", after, before)
			}
		})
	}
}

// TestNative: what has no tag on the wire is of the flat network in the filtering bridge, and of the host, which keeps its
// address; no guest of a VLAN sees it.
func TestNative(t *testing.T) {
	left, right := twoHosts(t)
	left.enter()
	run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", uplink)
	right.enter()
	run(t, "ip", "addr", "add", "192.0.2.2/24", "dev", uplink)
	networks := networksOf(true)
	networks[1] = network.Network{ID: netB, Type: network.Flat, Physical: uplink, Filtering: true}
	right.apply(networks, portsOf())
	if out := run(t, "ip", "-br", "addr", "show", "dev", network.FilteringName(uplink)); !strings.Contains(out, "192.0.2.2/24") {
		t.Errorf("the bridge has %s", out)
	}
	left.enter()
	run(t, "ping", "-c", "1", "-W", "20", "192.0.2.2")
	tagged, native := right.guest(portA), right.guest(portB)
	left.apply([]network.Network{{ID: netA, Type: network.VLAN, Physical: uplink, VLAN: 100}}, portsOf()[:1])
	sender, sent, mark := left.guest(portA), frame(9), frame(8)
	link, err := netlink.LinkByName(uplink)
	if err != nil {
		t.Fatal(err)
	}
	out, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(out) }()
	if err := unix.Sendto(out, sent, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	sender.send(mark)
	if tagged.got(sent, mark) {
		t.Error("a frame without a tag comes to a VLAN")
	}
	if err := unix.Sendto(out, mark, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	if !native.got(sent, mark) {
		t.Error("a frame without a tag does not come to the flat network")
	}
	right.apply(nil, nil)
	if out := run(t, "ip", "-br", "addr", "show", "dev", uplink); !strings.Contains(out, "192.0.2.2/24") {
		t.Errorf("the interface has %s", out)
	}
}

// TestRepair breaks by hand what was made, one thing after the other: each is repaired.
func TestRepair(t *testing.T) {
	bridge, tap := network.FilteringName(uplink), network.TapName(portA)
	for _, c := range []struct {
		filtering bool
		command   []string
	}{
		{false, []string{"ip", "link", "del", network.VLANName(uplink, 100)}},
		{false, []string{"ip", "link", "set", network.VLANName(uplink, 200), "nomaster"}},
		{true, []string{"bridge", "vlan", "del", "vid", "100", "dev", tap}},
		{true, []string{"bridge", "vlan", "add", "vid", "200", "dev", tap}},
		{true, []string{"bridge", "vlan", "del", "vid", "200", "dev", uplink}},
		{true, []string{"bridge", "vlan", "add", "vid", "300", "dev", uplink}},
		{true, []string{"bridge", "vlan", "del", "vid", "1", "dev", bridge, "self"}},
		{true, []string{"ip", "link", "set", bridge, "type", "bridge", "vlan_filtering", "0"}},
		{true, []string{"ip", "link", "del", bridge}},
		{true, []string{"tc", "qdisc", "del", "dev", tap, "root"}},
		{true, []string{"tc", "filter", "del", "dev", tap, "ingress", "prio", "49"}},
	} {
		t.Run(strings.Join(c.command, " "), func(t *testing.T) {
			h, _ := twoHosts(t)
			h.enter()
			ports := portsOf()
			ports[0].QoS = network.QoS{ToGuest: network.Rate{Kbit: 1000}, FromGuest: network.Rate{Kbit: 1000}}
			want, err := network.Wanted(networksOf(c.filtering), ports)
			if err != nil {
				t.Fatal(err)
			}
			ctx, done := contextOf(t)
			keeper := network.NewKeeper(h.Host, func(changes []network.Change, err error) {
				t.Logf("%v %v", changes, err)
				if have, e := network.Read(ctx, h.Host, want); err == nil && e == nil {
					if left, e := network.Diff(have, want); e == nil && len(left) == 0 {
						done()
					}
				}
			})
			events, err := h.Watch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := keeper.Apply(ctx, want); err != nil {
				t.Fatal(err)
			}
			run(t, c.command[0], c.command[1:]...)
			_ = keeper.Run(ctx, events) // until it is repaired
			if keeper.Repairs() == 0 {
				t.Error("nothing was repaired")
			}
			h.settled(want)
		})
	}
}

// TestPolice: of what a guest sends at once, as much passes as its burst, and all of it without a limit.
func TestPolice(t *testing.T) {
	left, right := twoHosts(t)
	right.apply(networksOf(true), portsOf())
	receiver := right.guest(portA)
	for _, rate := range []network.Rate{{Kbit: 100, BurstKbit: 50}, {}} {
		ports := portsOf()
		ports[0].QoS = network.QoS{FromGuest: rate, SetDSCP: true, DSCP: 46}
		left.apply(networksOf(true), ports)
		sender := left.guest(portA)
		const frames = 50
		for range frames {
			sender.send(append(frame(9), make([]byte, 1250-64)...))
		}
		left.enter()
		link, err := netlink.LinkByName(uplink)
		if err != nil {
			t.Fatal(err)
		}
		filters := run(t, "tc", "-s", "filter", "show", "dev", network.TapName(portA), "ingress")
		passed := receiver.count()
		t.Logf("limit %v: %d of %d frames pass", rate, passed, frames)
		if limited := rate.Kbit != 0; passed == 0 || limited && passed >= frames || !limited && passed != frames {
			t.Errorf("limit %v: %d of %d frames pass; the uplink has sent %d\n%s", rate, passed, frames, link.Attrs().Statistics.TxPackets, filters)
		}
		sender.close()
	}
}

// count takes what is there: veths, bridges and taps are passed in the sender's call, but for what waits for another CPU.
func (g *guest) count() int {
	n := 0
	for {
		buffer := make([]byte, 4096)
		switch size, err := unix.Read(g.fd, buffer); {
		case errors.Is(err, unix.EAGAIN):
			if ready, _ := unix.Poll([]unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}, 1000); ready == 0 {
				return n
			}
		case err == nil && bytes.Equal(buffer[vnetHeader+6:vnetHeader+12], mac(9)) && size > 0:
			n++
		}
	}
}

// contextOf ends with done, or when nothing was repaired for long.
func contextOf(t *testing.T) (ctx context.Context, done func()) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, cancel
}
