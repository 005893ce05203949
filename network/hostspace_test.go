package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	dhcpSpace   = "qdhcp-" + netA
	routerSpace = "qrouter-" + netB
)

// twoSpaces are a DHCP server's namespace and a router's, in one network.
func twoSpaces() []Namespace {
	return []Namespace{
		{Name: dhcpSpace, Devices: []Device{{
			Port: one, Network: netA, Name: "ns-1", MAC: mac(1), Addresses: prefixes("10.0.0.2/24", "169.254.169.254/32", "2001:db8:1::2/64", "fe80::a9fe:a9fe/64"),
		}}},
		{Name: routerSpace, Forwarding: true, Devices: []Device{{
			Port: two, Network: netA, Name: "qr-1", MAC: mac(2), Addresses: prefixes("10.0.0.1/24", "2001:db8:1::1/64"),
			Routes: []Route{
				{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.0.0.9")},
				{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::1")},
				{To: netip.MustParsePrefix("198.51.100.0/24"), Via: netip.MustParseAddr("203.0.113.1")},
				{To: netip.MustParsePrefix("192.0.2.0/24")},
			},
		}}},
	}
}

func wantSpaces(t testing.TB, mtu int, namespaces []Namespace) State {
	t.Helper()
	want, err := Wanted([]Network{{ID: netA, Type: Local, MTU: mtu}}, nil, namespaces...)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// inside runs the program of iproute2 in a namespace.
func inside(t testing.TB, space string, args string) string {
	t.Helper()
	out := ""
	err := testHost.InNamespace(space, func() error {
		out = ip(t, strings.Fields(args)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func has(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
}

// TestHostSpaces: iproute2 sees the devices as they were wanted, those of one network reach each other, and all goes again.
func TestHostSpaces(t *testing.T) {
	inNamespace(t)
	applied(t, testHost, wantSpaces(t, 1400, twoSpaces()))
	has(t, ip(t, "-d", "link", "show", "dev", TapName(one)), "alias compute-agent:"+one, "master "+BridgeName(netA), "mtu 1400", "link/ether fe:16:3e:00:00:01")
	has(t, inside(t, dhcpSpace, "-d addr show"), "ns-1@", "link/ether "+mac(1).String(), "mtu 1400", "inet 10.0.0.2/24", "inet 169.254.169.254/32",
		"inet6 2001:db8:1::2/64 scope global nodad", "inet6 fe80::a9fe:a9fe/64", "inet6 fe80::f816:3eff:fe00:1/64", "inet6 ::1/128", "alias compute-agent:"+dhcpSpace)
	has(t, inside(t, routerSpace, "route show"), "default via 10.0.0.9 dev qr-1 proto static", "198.51.100.0/24 via 203.0.113.1 dev qr-1 proto static onlink", "192.0.2.0/24 dev qr-1 proto static scope link")
	has(t, inside(t, routerSpace, "-6 route show"), "default via fe80::1 dev qr-1 proto static metric 1024")
	for _, to := range []string{"10.0.0.1", "2001:db8:1::1", "fe80::f816:3eff:fe00:2%ns-1"} {
		reached(t, dhcpSpace, to)
	}
	links, namespaces, err := testHost.Made(t.Context())
	if err != nil || !slices.Equal(links, []string{BridgeName(netA), TapName(one), TapName(two)}) || !slices.Equal(namespaces, []string{dhcpSpace, routerSpace}) {
		t.Errorf("made are %v and %v: %v", links, namespaces, err)
	}
	// What differs is changed, and nothing else.
	changed := twoSpaces()
	changed[0].Devices[0].Addresses = prefixes("10.0.0.3/24", "2001:db8:1::3/64")
	changed[1].Devices[0].Routes = changed[1].Devices[0].Routes[1:2]
	changed[1].Forwarding = false
	made := applied(t, testHost, wantSpaces(t, 0, changed))
	if strings.Contains(made, "add "+TapName(one)) {
		t.Errorf("it made the veth anew:\n%s", made)
	}
	applied(t, testHost, wantSpaces(t, 0, changed[:1]))
	applied(t, testHost, State{})
	if files, err := os.ReadDir(testHost.Netns); err != nil || len(files) != 0 {
		t.Errorf("left are %v, %v", files, err)
	}
}

// reached makes a connection's start from a namespace to an address where nothing listens: the refusal is an answer.
func reached(t *testing.T, space, to string) {
	t.Helper()
	err := testHost.InNamespace(space, func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(to, "9"), 10*time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%s from %s: %v", to, space, err)
	}
}

// TestHostSpacesRepaired: whatever is done to a namespace or a device, the next Apply repairs.
func TestHostSpacesRepaired(t *testing.T) {
	inNamespace(t)
	want := wantSpaces(t, 0, twoSpaces())
	applied(t, testHost, want)
	inSpace := func(args string) func() { return func() { inside(t, dhcpSpace, args) } }
	for _, c := range []struct {
		name    string
		breaks  func()
		changes int
	}{
		{"address removed", inSpace("addr del 10.0.0.2/24 dev ns-1"), 1},
		{"address added", inSpace("addr add 10.0.0.77/24 dev ns-1"), 1},
		{"device down", inSpace("link set ns-1 down"), 4}, // its IPv6 addresses are gone with it
		{"device's MAC", inSpace("link set ns-1 address 02:00:00:00:00:09"), 1},
		{"device renamed", func() {
			inside(t, dhcpSpace, "link set ns-1 down")
			inside(t, dhcpSpace, "link set ns-1 name other")
		}, 13},
		{"device removed", inSpace("link del ns-1"), 12},
		{"host's end out of its bridge", func() { ip(t, "link", "set", TapName(one), "nomaster") }, 1},
		{"namespace unmounted", func() {
			if err := unix.Unmount(testHost.space(dhcpSpace), unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			waitGone(t, TapName(one))
		}, 14},
		{"sysctl", func() {
			if err := testHost.InNamespace(routerSpace, func() error { return testHost.tune(false) }); err != nil {
				t.Fatal(err)
			}
		}, 1},
	} {
		c.breaks()
		made, err := apply(t.Context(), testHost, want)
		if err != nil || len(made) != c.changes {
			t.Errorf("%s: %v, %d changes: %v", c.name, err, len(made), made)
		}
		if again, err := apply(t.Context(), testHost, want); err != nil || len(again) > 0 {
			t.Errorf("%s: again: %v, %v", c.name, err, again)
		}
	}
	applied(t, testHost, State{})
}

// waitGone waits until the kernel has taken away a link whose other end's namespace is gone.
func waitGone(t *testing.T, name string) {
	t.Helper()
	updates, stop := make(chan netlink.LinkUpdate), make(chan struct{})
	if err := netlink.LinkSubscribe(updates, stop); err != nil {
		t.Fatal(err)
	}
	defer func() {
		close(stop)
		for range updates { // until it is closed
		}
	}()
	for {
		if _, err := net.InterfaceByName(name); err != nil {
			return
		}
		select {
		case <-updates:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// TestHostSpaceOfOthers: a namespace of somebody else's, of a wanted name or not, stays, as does a file that is none; what a crash
// left is completed or taken away.
func TestHostSpaceOfOthers(t *testing.T) {
	inNamespace(t)
	applied(t, testHost, wantSpaces(t, 0, twoSpaces()[:1])) // makes the directory
	err := testHost.elsewhere(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		if err := os.WriteFile(testHost.space(routerSpace), nil, 0); err != nil {
			return err
		}
		return unix.Mount(testHost.ownNamespace(), testHost.space(routerSpace), "none", unix.MS_BIND, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"qdhcp-file": "mine", "qdhcp-empty": "", "qdhcp-half": stub, halfMade: ""} {
		if err := os.WriteFile(testHost.space(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spaces := append(twoSpaces(), Namespace{Name: "qdhcp-half"}, Namespace{Name: "qdhcp-file"})
	err = Apply(t.Context(), testHost, wantSpaces(t, 0, spaces))
	if !errors.Is(err, ErrTaken) {
		t.Fatalf("it says %v", err)
	}
	has(t, err.Error(), "namespace "+routerSpace+": name is taken: it is not the agent's", "namespace qdhcp-file: name is taken", TapName(two)+": it needs the namespace "+routerSpace)
	has(t, inside(t, dhcpSpace, "addr show"), "10.0.0.2/24")
	has(t, inside(t, "qdhcp-half", "link show"), "lo")
	if err := Apply(t.Context(), testHost, State{}); err != nil {
		t.Error(err)
	}
	files, err := os.ReadDir(testHost.Netns)
	if err != nil || len(files) != 3 {
		t.Errorf("left are %v, %v", files, err)
	}
	if err := testHost.Do(t.Context(), Change{Op: OpRemoveSpace, Space: routerSpace}); !errors.Is(err, ErrTaken) {
		t.Errorf("it removes what is not the agent's: %v", err)
	}
}

// TestInNamespace: what runs inside is inside, and who asked is where it was.
func TestInNamespace(t *testing.T) {
	inNamespace(t)
	applied(t, testHost, wantSpaces(t, 0, twoSpaces()))
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		listening := func() error {
			l, err := net.Listen("tcp", "10.0.0.2:80")
			if err == nil {
				err = l.Close()
			}
			return err
		}
		if err := testHost.InNamespace(dhcpSpace, listening); err != nil {
			t.Fatal(err)
		}
		if err := listening(); err == nil {
			t.Fatal("it listens on an address that is only inside")
		}
	}
	if err := testHost.InNamespace("qdhcp-none", func() error { return nil }); !errors.Is(err, ErrMissing) || err.Error() != "namespace qdhcp-none: no such interface" {
		t.Errorf("it says %v", err)
	}
	failed := errors.New("failed")
	if err := testHost.InNamespace(dhcpSpace, func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("it says %v", err)
	}
	if after, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || after != before {
		t.Errorf("the thread is in %s, and was in %s: %v", after, before, err)
	}
}

// TestWantedSpaces: what makes no sense is told with its place, and the rest is wanted.
func TestWantedSpaces(t *testing.T) {
	good := twoSpaces()[0].Devices[0]
	with := func(change func(*Device)) []Namespace {
		d := good
		change(&d)
		return []Namespace{{Name: dhcpSpace, Devices: []Device{d}}}
	}
	for _, c := range []struct {
		spaces []Namespace
		says   string
	}{
		{[]Namespace{{Name: "../etc"}}, `namespace "../etc": name: letters, digits, dashes and underscores, at most 64`},
		{[]Namespace{{Name: "a"}, {Name: "a"}}, "namespace a: name: it is there twice"},
		{with(func(d *Device) { d.Name = "lo" }), "device lo: name: \"lo\" is no name of an interface"},
		{with(func(d *Device) { d.Port = "" }), "device ns-1: port: letters"},
		{with(func(d *Device) { d.Network = netD }), `device ns-1: network: "` + netD + `" is none of the host's`},
		{with(func(d *Device) { d.MAC = net.HardwareAddr{1, 2, 3, 4, 5, 6} }), "device ns-1: mac: "},
		{with(func(d *Device) { d.MTU = 9000 }), "device ns-1: mtu: 9000 is more than its network's 1500"},
		{with(func(d *Device) { d.MTU = 1 }), "device ns-1: mtu: 1 is not from 68"},
		{with(func(d *Device) { d.Addresses = prefixes("224.0.0.1/24") }), "device ns-1: addresses: 224.0.0.1/24 is no host's address"},
		{with(func(d *Device) { d.Addresses = prefixes("10.0.0.1/24", "10.0.0.1/24") }), "device ns-1: addresses: 10.0.0.1/24 is there twice"},
		{with(func(d *Device) {
			d.Routes = []Route{{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("10.0.0.1")}}
		}), "device ns-1: routes: to ::/0 by 10.0.0.1 is no route"},
		{[]Namespace{{Name: dhcpSpace, Devices: []Device{good, good}}}, "device ns-1: name: it is there twice"},
		{[]Namespace{{Name: dhcpSpace, Devices: []Device{good}}, {Name: routerSpace, Devices: []Device{good}}}, "name: " + TapName(one) + " is that of port " + one + " too"},
	} {
		_, err := Wanted([]Network{{ID: netA, Type: Local}}, nil, c.spaces...)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("no %q in: %v", c.says, err)
		}
	}
	want, err := Wanted([]Network{{ID: netA, Type: Local}}, nil, append(twoSpaces(), with(func(d *Device) { d.Name = "lo" })...)...)
	if err == nil || len(want.Spaces) != 2 {
		t.Errorf("%v, %v", want, err)
	}
}
