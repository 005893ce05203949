package network

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestKeeper breaks by hand what was made in a real namespace, one thing after the other: each is repaired.
func TestKeeper(t *testing.T) {
	defer goleak.VerifyNone(t)
	inNamespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	bridge, tap, guests := BridgeName(netA), TapName(one), TapName(two)
	// Who breaks is in the thread of the namespace, as is who repairs: it breaks the next when it is told of the last.
	breaks := []struct {
		do      func() error
		changes int // that it takes to repair it
	}{
		{func() error { return onLink(tap, netlink.LinkDel) }, 4},
		{func() error { return onLink("vxlan-7", netlink.LinkSetNoMaster) }, 1},
		{func() error { return onLink(bridge, netlink.LinkSetDown) }, 1},
		{func() error {
			return onLink(tap, func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1300) })
		}, 1},
		{func() error {
			return onLink(bridge, func(l netlink.Link) error {
				a, err := netlink.ParseAddr("10.0.0.1/24")
				if err != nil {
					return err
				}
				return netlink.AddrDel(l, a)
			})
		}, 1},
		{func() error { return netlink.LinkAdd(guestTap(guests)) }, 0},
		{func() error { return onLink(bridge, netlink.LinkDel) }, 7},
	}
	var keeper *Keeper
	next, before := 0, uint64(0)
	proceed := func(made []Change, err error) {
		if err != nil {
			t.Error(err)
		}
		if got := int(keeper.Repairs() - before); next > 0 && got != breaks[next-1].changes {
			t.Errorf("break %d: %d changes repaired it, not %d: %v", next, got, breaks[next-1].changes, made)
		}
		before = keeper.Repairs()
		if next == len(breaks) {
			cancel()
			return
		}
		next++
		if err := breaks[next-1].do(); err != nil {
			t.Errorf("break %d: %v", next, err)
			cancel()
		}
	}
	keeper = NewKeeper(testHost, proceed)
	want := mustWant(t, []Network{{ID: netA, Type: VXLAN, VNI: 7, Addresses: prefixes("10.0.0.1/24")}}, []Port{
		{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap}, {ID: two, Network: netA, MAC: mac(2), VIF: VIFBridge},
	})
	events, err := testHost.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.Apply(ctx, want); err != nil {
		t.Fatal(err)
	}
	proceed(nil, nil)
	if err := keeper.Run(ctx, events); !errors.Is(err, context.Canceled) && err != nil {
		t.Error(err)
	}
	if next != len(breaks) {
		t.Errorf("only %d of %d breaks were repaired", next, len(breaks))
	}
	for range events { // until it is closed, and nobody waits
	}
}

// TestKeeperNamespace: what is done in a namespace is undone, and one that loses its name while a process is in it has it again.
func TestKeeperNamespace(t *testing.T) {
	for _, c := range []struct {
		name   string
		breaks func(t *testing.T)
		first  Op
		rounds int // more than there are events of the host itself when links were just made
	}{
		{"name", func(t *testing.T) {
			if err := errors.Join(unix.Unmount(testHost.space(dhcpSpace), unix.MNT_DETACH), os.Remove(testHost.space(dhcpSpace))); err != nil {
				t.Fatal(err)
			}
		}, OpRemove, 1},
		{"address", func(t *testing.T) { inside(t, dhcpSpace, "addr del 10.0.0.2/24 dev ns-1") }, OpAddAddress, 20},
		{"device", func(t *testing.T) { inside(t, dhcpSpace, "link set ns-1 mtu 1400") }, OpMTU, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			inNamespace(t)
			keeperRepairs(t, c.breaks, c.first, c.rounds)
		})
	}
}

// keeperRepairs breaks something of a namespace in which a process is, so often, each time that it was repaired.
func keeperRepairs(t *testing.T, breaks func(t *testing.T), first Op, rounds int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var repaired []Change
	keeper := NewKeeper(testHost, func(made []Change, err error) {
		if err != nil {
			t.Error(err)
		}
		repaired = append(repaired, made...)
		if rounds--; rounds == 0 {
			cancel()
			return
		}
		breaks(t)
	})
	if err := keeper.Apply(ctx, wantSpaces(t, 0, twoSpaces()[:1])); err != nil {
		t.Fatal(err)
	}
	events, err := testHost.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	inUse, err := os.Open(testHost.space(dhcpSpace))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inUse.Close() }()
	breaks(t)
	if err := keeper.Run(ctx, events); !errors.Is(err, context.Canceled) && err != nil {
		t.Error(err)
	}
	if len(repaired) == 0 || repaired[0].Op != first || int(keeper.Repairs()) != len(repaired) {
		t.Errorf("%d repairs: %v", keeper.Repairs(), repaired)
	}
	has(t, inside(t, dhcpSpace, "addr show"), "10.0.0.2/24", "mtu 1500")
	for range events { // until it is closed, and nobody waits
	}
}

func onLink(name string, do func(netlink.Link) error) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return do(l)
}

func guestTap(name string) netlink.Link {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP}
}

// TestKeeperReports: what cannot be repaired is reported once, and again when it is another thing.
func TestKeeperReports(t *testing.T) {
	host := newHost(t)
	var said []string
	keeper := NewKeeper(host, func(made []Change, err error) { said = append(said, text(err)) })
	event := func() { keeper.repair(t.Context()) }
	event() // before anything was asked
	if err := keeper.Apply(t.Context(), mustWant(t, []Network{{ID: netA, Type: Flat, Physical: "eth0"}}, nil)); err != nil {
		t.Fatal(err)
	}
	eth0 := host.state.Links["eth0"]
	host.precious = nil
	delete(host.state.Links, "eth0")
	event()
	event()
	host.state.Links["eth0"] = eth0
	host.master("eth0", "")
	event()
	if len(said) != 2 || !strings.Contains(said[0], "eth0: no such interface") || said[1] != "" {
		t.Errorf("it said %q", said)
	}
	if keeper.Repairs() == 0 {
		t.Error("no repair is counted")
	}
}
