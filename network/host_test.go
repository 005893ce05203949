package network

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// testHost has its named namespaces in a directory of the test's process.
var testHost = Host{Netns: filepath.Join(os.TempDir(), fmt.Sprintf("compute-agent-netns-%d", os.Getpid()))}

// removeNamespaces takes away what is left in testHost's directory, and the directory.
func removeNamespaces() {
	files, _ := os.ReadDir(testHost.Netns)
	for _, f := range files {
		_ = unix.Unmount(testHost.space(f.Name()), unix.MNT_DETACH)
	}
	_ = unix.Unmount(testHost.Netns, unix.MNT_DETACH)
	_ = os.RemoveAll(testHost.Netns)
}

// inNamespace moves the test into a network namespace of its own, which goes with it: its thread is never used again. In
// it are the interfaces up0 and up1, whose other ends are peer0 and peer1.
func inNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("these tests make network namespaces, which root can: %v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	t.Cleanup(removeNamespaces)
	for _, args := range []string{
		"link set lo up",
		"link add up0 mtu 9000 type veth peer name peer0 mtu 9000", "link add up1 mtu 1600 type veth peer name peer1 mtu 1600",
		"link set up0 up", "link set up1 up", "link set peer0 up", "link set peer1 up",
		"addr add 192.0.2.5/24 dev up0 noprefixroute", "addr del 192.0.2.5/24 dev up0",
		"addr add 192.0.2.5/24 brd + dev up0", "addr add 192.0.2.6/24 dev up0 valid_lft 10000 preferred_lft 9000",
		"addr add 2001:db8::5/64 dev up0 nodad", "addr add 203.0.113.1 peer 203.0.113.2/32 dev up0",
		"route add default via 192.0.2.1 proto static", "route add 198.51.100.0/24 via 192.0.2.9 metric 50 mtu 1300 table 100 proto static",
		"-6 route add default via 2001:db8::1 proto static", "route add 233.252.0.0/24 dev up0 src 192.0.2.6",
	} {
		ip(t, strings.Fields(args)...)
	}
}

// ip runs the program of iproute2 in the thread's namespace.
func ip(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, "ip", args...)
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// hostText is what must not change of a host's own interfaces, as the kernel says it.
func hostText(t testing.TB) string {
	t.Helper()
	host, err := testHost.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range host.Links {
		slices.SortFunc(l.Addresses, netip.Prefix.Compare) // the kernel's order is by when they came
	}
	return host.String() + addressText(t) + ip(t, "route", "show", "table", "100") + ip(t, "route") + ip(t, "-6", "route")
}

// addressText are the addresses with their attributes, without what the clock changes.
func addressText(t testing.TB) string {
	t.Helper()
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range addresses {
		if !a.IP.IsLinkLocalUnicast() {
			out = append(out, fmt.Sprintf("%d %s peer %s broadcast %s secondary %v forever %v\n",
				a.LinkIndex, a.IPNet, a.Peer, a.Broadcast, a.Flags&unix.IFA_F_SECONDARY != 0, a.ValidLft > 10000))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

// realTypes are without VLANs, for which not every kernel has devices: TestHostVLAN is theirs.
var realTypes = []Type{Flat, VXLAN, Local, ""}

// TestWalkHost is the walk in a real network namespace.
func TestWalkHost(t *testing.T) {
	inNamespace(t)
	fewer(t, "12") // to remove a link takes the kernel 20 ms
	host := openSwitch(t)
	before := hostText(t)
	steps, changes := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s, c := walk(rt, host, func(after int) OS { return &mortal{host, after} }, realTypes)
		steps, changes = steps+s, changes+c
		if after := hostText(t); after != before {
			rt.Fatalf("afterwards:\n%s\nbefore:\n%s", after, before)
		}
	})
	t.Logf("%d steps, %d changes", steps, changes)
}

// fewer lowers the number of checks, unless somebody asked for another than the default.
func fewer(t testing.TB, checks string) {
	f := flag.Lookup("rapid.checks")
	if f.Value.String() != f.DefValue {
		return
	}
	if err := f.Value.Set(checks); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(f.DefValue) })
}

// TestHostBridge: iproute2 sees the bridge as the host's way out, with the interface's addresses, routes and MAC.
func TestHostBridge(t *testing.T) {
	inNamespace(t)
	want := mustWant(t, []Network{{ID: netA, Type: Flat, Physical: "up0"}}, []Port{{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap}})
	applied(t, testHost, want)
	bridge := BridgeName(netA)
	for _, c := range []struct{ what, has string }{
		{ip(t, "route", "get", "10.1.2.3"), "via 192.0.2.1 dev " + bridge},
		{ip(t, "route", "show", "table", "100"), "via 192.0.2.9 dev " + bridge + " proto static metric 50 mtu 1300"},
		{ip(t, "route", "get", "2001:db8:ffff::1"), "via 2001:db8::1 dev " + bridge},
		{ip(t, "addr", "show", "dev", bridge), "192.0.2.6/24 scope global secondary dynamic " + bridge},
		{ip(t, "addr", "show", "dev", bridge), "203.0.113.1 peer 203.0.113.2/32"},
		{ip(t, "-d", "link", "show", "dev", bridge), "forward_delay 0"},
		{ip(t, "-d", "link", "show", "dev", bridge), "stp_state 0"},
		{ip(t, "-d", "link", "show", "dev", TapName(one)), "master " + bridge},
		{ip(t, "-d", "link", "show", "dev", TapName(one)), "alias compute-agent:" + one},
	} {
		if !strings.Contains(c.what, c.has) {
			t.Errorf("no %q in:\n%s", c.has, c.what)
		}
	}
	if out := ip(t, "addr", "show", "dev", "up0", "scope", "global"); strings.Contains(out, "inet") {
		t.Errorf("addresses left:\n%s", out)
	}
	up, _ := net.InterfaceByName("up0")
	if br, err := net.InterfaceByName(bridge); err != nil || br.HardwareAddr.String() != up.HardwareAddr.String() {
		t.Errorf("the bridge has another MAC than its interface: %v, %v", br, err)
	}
}

// TestHostLinks: iproute2 sees each kind of link as it was wanted.
func TestHostLinks(t *testing.T) {
	inNamespace(t)
	applied(t, testHost, mustWant(t, []Network{
		{ID: netA, Type: VXLAN, VNI: 7, Local: netip.MustParseAddr("192.0.2.5"), Peers: addrs("192.0.2.21", "192.0.2.22")},
		{ID: netB, Type: VXLAN, VNI: 8, Physical: "up0", Group: netip.MustParseAddr("239.1.1.8"), UDPPort: 8472, MTU: 8950},
		{ID: netC, Type: Flat, Physical: "up1"},
	}, []Port{
		{ID: one, Network: netC, MAC: mac(1), VNIC: VNICMacvtap, VIF: VIFMacvtap, Mode: "vepa"},
		{ID: two, Network: netA, MAC: mac(2), VIF: VIFTap, Queues: 2},
	}))
	for _, c := range []struct {
		link string
		has  []string
	}{
		{"vxlan-7", []string{"vxlan id 7 local 192.0.2.5", "dstport 4789", "mtu 1450", "master " + BridgeName(netA), ",UP"}},
		{"vxlan-8", []string{"vxlan id 8 group 239.1.1.8 dev up0", "dstport 8472", "mtu 8950", "master " + BridgeName(netB)}},
		{TapName(one), []string{"@up1", "macvtap mode vepa", "link/ether " + mac(1).String(), "mtu 1500"}},
		{TapName(two), []string{"tun type tap pi off vnet_hdr on", "multi_queue", "persist on", "link/ether fe:16:3e:00:00:02"}},
		{BridgeName(netA), []string{"mtu 1450", "stp_state 0", "alias compute-agent:" + netA}},
	} {
		text := ip(t, "-d", "link", "show", "dev", c.link)
		for _, part := range c.has {
			if !strings.Contains(text, part) {
				t.Errorf("no %q in:\n%s", part, text)
			}
		}
	}
	fdb, err := exec.CommandContext(t.Context(), "bridge", "fdb", "show", "dev", "vxlan-7").CombinedOutput()
	for _, peer := range []string{"192.0.2.21", "192.0.2.22"} {
		if !strings.Contains(string(fdb), noMAC+" dst "+peer+" self permanent") {
			t.Errorf("no entry for %s: %v\n%s", peer, err, fdb)
		}
	}
	applied(t, testHost, State{})
}

// TestHostVLAN: a VLAN is made, or, by a kernel that has none, refused, with nothing half-made left and all else there.
func TestHostVLAN(t *testing.T) {
	inNamespace(t)
	want := mustWant(t, []Network{{ID: netA, Type: VLAN, Physical: "up0", VLAN: 100}, {ID: netB, Type: Local}}, []Port{
		{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap},
	})
	err := Apply(t.Context(), testHost, want)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		t.Log("this kernel has no VLAN devices")
		if !strings.HasPrefix(err.Error(), "add up0.100 vlan tag 100 on up0") || strings.Contains(err.Error(), "\n") {
			t.Errorf("it says %v", err)
		}
		ip(t, "link", "show", "dev", BridgeName(netB))
	case err != nil:
		t.Error(err)
	default:
		text := ip(t, "-d", "link", "show", "dev", "up0.100")
		for _, part := range []string{"up0.100@up0", "vlan protocol 802.1Q id 100", "mtu 1500", "master " + BridgeName(netA), ",UP"} {
			if !strings.Contains(text, part) {
				t.Errorf("no %q in:\n%s", part, text)
			}
		}
		applied(t, testHost, want)
	}
	applied(t, testHost, State{})
	if all, err := testHost.Links(t.Context()); err != nil || len(all.Links) != 5 {
		t.Errorf("left are: %v\n%s", err, all)
	}
}

// TestListAgain: a list that changed while it was read is read again, but not for ever.
func TestListAgain(t *testing.T) {
	reads := 0
	got, err := list(func() ([]int, error) {
		if reads++; reads < 3 {
			return []int{1}, netlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	})
	if len(got) != 2 || err != nil {
		t.Errorf("%v, %v after %d reads", got, err, reads)
	}
	reads = 0
	_, err = list(func() ([]int, error) { reads++; return nil, netlink.ErrDumpInterrupted })
	if !errors.Is(err, netlink.ErrDumpInterrupted) || reads != attempts {
		t.Errorf("%v after %d reads", err, reads)
	}
}

// TestHostTakenName: a stranger's link stays, and what was half made goes.
func TestHostTakenName(t *testing.T) {
	inNamespace(t)
	ip(t, "link", "add", BridgeName(netA), "type", "bridge")
	ip(t, "link", "add", halfMade, "type", "bridge")
	want := mustWant(t, []Network{{ID: netA, Type: Local}, {ID: netB, Type: Local}}, nil)
	if err := Apply(t.Context(), testHost, want); err == nil || !strings.Contains(err.Error(), "name is taken: it is bridge, and not the agent's") {
		t.Errorf("it says %v", err)
	}
	if err := Apply(t.Context(), testHost, State{}); err != nil {
		t.Error(err)
	}
	all, err := testHost.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, stranger := all.Links[BridgeName(netA)]
	_, half := all.Links[halfMade]
	_, other := all.Links[BridgeName(netB)]
	if !stranger || half || other {
		t.Errorf("stranger %v, half-made %v, other %v", stranger, half, other)
	}
	// A name that is taken while the link is made leaves nothing either.
	err = testHost.Do(t.Context(), Change{Op: OpAdd, Link: BridgeName(netA), New: Link{Name: BridgeName(netA), Shape: Shape{Kind: KindBridge}, MTU: 1500}})
	if err == nil || !strings.Contains(err.Error(), ErrTaken.Error()) {
		t.Errorf("it says %v", err)
	}
	if _, err := net.InterfaceByName(halfMade); err == nil {
		t.Error("a half-made link is left")
	}
}

// TestHostTakenVNI: a VXLAN of somebody else's is in the way until it is gone.
func TestHostTakenVNI(t *testing.T) {
	inNamespace(t)
	ip(t, "link", "add", "theirs", "type", "vxlan", "id", "7", "dstport", "4789")
	want := mustWant(t, []Network{{ID: netA, Type: VXLAN, VNI: 7}}, nil)
	err := Apply(t.Context(), testHost, want)
	if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "another link has its tag or VNI") {
		t.Errorf("it says %v", err)
	}
	ip(t, "link", "del", "theirs")
	applied(t, testHost, want)
}

// TestHostVanished: links that go while they are changed are told, and going is no error for those that were to go.
func TestHostVanished(t *testing.T) {
	inNamespace(t)
	for _, c := range []Change{
		{Op: OpUp, Link: "away"}, {Op: OpMaster, Link: "up0", To: "away"}, {Op: OpMTU, Link: "away", New: Link{MTU: 1500}},
		{Op: OpCopyAddress, Link: "up0", To: "away", Address: netip.MustParsePrefix("192.0.2.5/24")},
		{Op: OpAdd, Link: "tapx", New: Link{Name: "tapx", Shape: Shape{Kind: KindMacvtap, Parent: "away", Mode: "bridge"}}},
	} {
		if err := testHost.Do(t.Context(), c); err == nil || !strings.Contains(err.Error(), "away: no such interface") {
			t.Errorf("%s: it says %v", c, err)
		}
	}
	if err := testHost.Do(t.Context(), Change{Op: OpRemove, Link: "away"}); err != nil {
		t.Error(err)
	}
	if err := testHost.Do(t.Context(), Change{Op: OpRemove, Link: "up0"}); err == nil {
		t.Error("it removes what is not the agent's")
	}
}
