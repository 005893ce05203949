package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"compute-agent/internal/golden"
)

const (
	netA = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	netB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	netC = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"
	netD = "dddddddd-dddd-4ddd-8ddd-dddddddddddd"
	one  = "11111111-1111-4111-8111-111111111111"
	two  = "22222222-2222-4222-8222-222222222222"
	tri  = "33333333-3333-4333-8333-333333333333"
)

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, last} }

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range list {
		out = append(out, netip.MustParsePrefix(a))
	}
	return out
}

func mustWant(t testing.TB, networks []Network, ports []Port) State {
	t.Helper()
	want, err := Wanted(networks, ports)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// TestApply makes networks of each type on a fake host, changes them, and takes them away again.
func TestApply(t *testing.T) {
	tap := func(id string, n string, last byte) Port {
		return Port{ID: id, Network: n, MAC: mac(last), VIF: VIFTap}
	}
	type step struct {
		networks []Network
		ports    []Port
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"flat", []step{{[]Network{{ID: netA, Type: Flat, Physical: "eth0"}}, []Port{tap(one, netA, 1)}}}},
		{"flat with addresses of the agent", []step{
			{[]Network{{ID: netA, Type: Flat, Physical: "eth0", Addresses: prefixes("10.0.0.1/24", "2001:db8:1::1/64")}}, nil},
			{[]Network{{ID: netA, Type: Flat, Physical: "eth0", Addresses: prefixes("10.0.0.2/24")}}, nil},
		}},
		{"flat to another interface", []step{
			{[]Network{{ID: netA, Type: Flat, Physical: "eth0"}}, nil},
			{[]Network{{ID: netA, Type: Flat, Physical: "eth1"}}, nil},
		}},
		{"flat to another network", []step{
			{[]Network{{ID: netA, Type: Flat, Physical: "eth0"}}, []Port{tap(one, netA, 1)}},
			{[]Network{{ID: netB, Type: Flat, Physical: "eth0"}}, []Port{tap(one, netB, 1)}},
		}},
		{"vlan", []step{
			{[]Network{{ID: netB, Type: VLAN, Physical: "eth0", VLAN: 100}}, []Port{tap(one, netB, 1)}},
			{[]Network{{ID: netB, Type: VLAN, Physical: "eth0", VLAN: 101}}, []Port{tap(one, netB, 1), tap(two, netB, 2)}},
		}},
		{"filtering", []step{
			{[]Network{{ID: netB, Type: VLAN, Physical: "eth0", VLAN: 100, Filtering: true}}, []Port{tap(one, netB, 1)}},
			{[]Network{
				{ID: netB, Type: VLAN, Physical: "eth0", VLAN: 101, Filtering: true}, {ID: netC, Type: Flat, Physical: "eth0", Filtering: true},
				{ID: netD, Type: VLAN, Physical: "eth0", VLAN: 7, Filtering: true}, {ID: netA, Type: VLAN, Physical: "eth0", VLAN: 8},
			}, []Port{tap(one, netB, 1), tap(two, netC, 2), {ID: "guest0000-0", Network: netD, MAC: mac(3), VIF: VIFBridge}}},
			{[]Network{{ID: netC, Type: Flat, Physical: "eth0", Bridge: "brv-eth0"}}, []Port{tap(two, netC, 2)}},
		}},
		{"vxlan", []step{
			{[]Network{{ID: netC, Type: VXLAN, VNI: 7, Local: netip.MustParseAddr("192.0.2.5"), Peers: addrs("192.0.2.7", "192.0.2.8")}}, nil},
			{[]Network{{ID: netC, Type: VXLAN, VNI: 7, Local: netip.MustParseAddr("192.0.2.5"), Peers: addrs("192.0.2.8", "192.0.2.9")}}, nil},
			{[]Network{{ID: netC, Type: VXLAN, VNI: 7, Physical: "eth0", Group: netip.MustParseAddr("239.1.1.7")}}, nil},
		}},
		{"local", []step{
			{[]Network{{ID: netD, Type: Local, Addresses: prefixes("10.9.0.1/24")}}, []Port{
				tap(one, netD, 1), {ID: two, Network: netD, MAC: mac(2), VIF: VIFTap, Queues: 4, MTU: 1400},
				{ID: "guest0000-0", Network: netD, MAC: mac(3), VIF: VIFBridge}, {ID: "not-yet", Network: netD, MAC: mac(4), VIF: VIFBridge},
				{ID: tri, MAC: mac(5), VIF: VIFTap},
			}},
		}},
		{"open vswitch", []step{
			{nil, []Port{{ID: one, MAC: mac(1), VIF: VIFOVS, Server: "server"}, {ID: two, MAC: mac(2), VIF: VIFOVS, Hybrid: true}}},
			{nil, []Port{
				{ID: one, MAC: mac(1), VIF: VIFOVS, Bridge: "br-ex"}, {ID: two, MAC: mac(2), VIF: VIFOVS},
				{ID: tri, MAC: mac(3), VIF: VIFVHostUser, Socket: "/run/vhost/3"},
			}},
		}},
		{"functions", []step{
			{nil, []Port{{ID: one, MAC: mac(1), VIF: VIFHardware, VNIC: VNICDirect, PCI: "0000:81:00.1", VLAN: 7}}},
			{nil, []Port{
				{ID: one, MAC: mac(1), VIF: VIFHardware, VNIC: VNICDirect, PCI: "0000:81:00.1", Trusted: true},
				{ID: two, MAC: mac(2), VIF: VIFHardware, VNIC: VNICMacvtap, PCI: "0000:81:00.2", NoSpoofCheck: true},
			}},
			{nil, []Port{{ID: two, MAC: mac(2), VIF: VIFHardware, VNIC: VNICMacvtap, PCI: "0000:81:00.2", NoSpoofCheck: true}}},
		}},
		{"limits", []step{
			{[]Network{{ID: netD, Type: Local}}, []Port{
				limited(tap(one, netD, 1), QoS{ToGuest: Rate{Kbit: 1000, BurstKbit: 100}, FromGuest: Rate{Kbit: 500}, SetDSCP: true, DSCP: 46}),
				limited(Port{ID: "guest0000-0", Network: netD, MAC: mac(3), VIF: VIFBridge}, QoS{SetDSCP: true}),
			}},
			{[]Network{{ID: netD, Type: Local}}, []Port{
				limited(tap(one, netD, 1), QoS{ToGuest: Rate{Kbit: 2000, BurstKbit: 100}}), {ID: "guest0000-0", Network: netD, MAC: mac(3), VIF: VIFBridge},
			}},
		}},
		{"macvtap", []step{{
			[]Network{{ID: netA, Type: Flat, Physical: "eth1"}, {ID: netB, Type: VLAN, Physical: "eth0", VLAN: 5, Device: "vlan5"}},
			[]Port{
				{ID: one, Network: netA, MAC: mac(1), VNIC: VNICMacvtap, VIF: VIFMacvtap},
				{ID: two, Network: netB, MAC: mac(2), VNIC: VNICMacvtap, VIF: VIFMacvtap, Mode: "passthru"},
			},
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := newHost(t)
			before := host.state.String()
			var out strings.Builder
			for i, s := range c.steps {
				fmt.Fprintf(&out, "-- changes %d --\n%s-- host %d --\n%s", i+1, applied(t, host, mustWant(t, s.networks, s.ports)), i+1, host.state)
			}
			fmt.Fprintf(&out, "-- taken away --\n%s", applied(t, host, State{}))
			golden.Assert(t, "testdata/apply/"+strings.ReplaceAll(c.name, " ", "-")+".txt", out.String())
			if after := host.state.String(); strings.Contains(after, "compute-agent") || withoutTap(after) != withoutTap(before) {
				t.Errorf("before:\n%safterwards:\n%s", before, after)
			}
		})
	}
}

func limited(p Port, q QoS) Port {
	p.QoS = q
	return p
}

// withoutTap leaves out the tap of a guest, which goes with its bridge and comes back with nothing.
func withoutTap(text string) string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "tapguest") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// applied makes the host so, checks that to do it again is nothing, and returns the changes.
func applied(t testing.TB, host OS, want State) string {
	t.Helper()
	made, err := apply(t.Context(), host, want)
	if err != nil {
		t.Fatal(err)
	}
	again, err := apply(t.Context(), host, want)
	if err != nil || len(again) > 0 {
		t.Fatalf("applying twice: %v, %v", again, err)
	}
	var out strings.Builder
	for _, c := range made {
		out.WriteString(c.String() + "\n")
	}
	return out.String()
}

// TestApplyWhatCannotBe: what cannot be is told, all else is made, and the next Apply makes the rest once it can be.
func TestApplyWhatCannotBe(t *testing.T) {
	good := Network{ID: netD, Type: Local}
	bridge := BridgeName(netA)
	for _, c := range []struct {
		name  string
		spoil func(*fakeOS)
		wrong Network
		kind  error
		says  string
		mend  func(*fakeOS)
	}{
		{
			"bridge's name is taken", func(f *fakeOS) { f.state.Links[bridge] = Link{Name: bridge, MTU: 1500} },
			Network{ID: netA, Type: Flat, Physical: "eth0"}, ErrTaken, bridge + ": name is taken: it is an interface, and not the agent's",
			func(f *fakeOS) { delete(f.state.Links, bridge) },
		},
		{
			"no physical interface", func(*fakeOS) {},
			Network{ID: netA, Type: VLAN, Physical: "eth7", VLAN: 9}, ErrMissing, "eth7.9: it needs eth7",
			func(f *fakeOS) { f.state.Links["eth7"] = Link{Name: "eth7", MTU: 1500} },
		},
		{
			"physical interface in another's bridge", func(f *fakeOS) { f.master("eth1", "br-other") },
			Network{ID: netA, Type: Flat, Physical: "eth1"}, ErrTaken, "eth1: name is taken: it is in br-other already",
			func(f *fakeOS) { f.master("eth1", "") },
		},
		{
			"mtu of a flat network", func(*fakeOS) {},
			Network{ID: netA, Type: Flat, Physical: "eth1", MTU: 2000}, ErrMTU, bridge + ": mtu is too large: 2000, and eth1 has 1600, of which 1600 can be had",
			func(f *fakeOS) { f.mtu("eth1", 2000) },
		},
		{
			"mtu of a vxlan", func(*fakeOS) {},
			Network{ID: netA, Type: VXLAN, VNI: 3, Physical: "eth1", MTU: 1551}, ErrMTU, "vxlan-3: mtu is too large: 1551, and eth1 has 1600, of which 1550 can be had",
			func(f *fakeOS) { f.mtu("eth1", 1601) },
		},
		{
			"address of the agent is the interface's", func(*fakeOS) {},
			Network{ID: netA, Type: Flat, Physical: "eth0", Addresses: prefixes("192.0.2.6/25")}, ErrConflict, "address 192.0.2.6/25, which is to be the agent's, is eth0's",
			func(f *fakeOS) { f.drop("eth0", "192.0.2.6/24"); f.precious = nil },
		},
		{
			"route with two next hops", func(f *fakeOS) { f.routes("eth0", true) },
			Network{ID: netA, Type: Flat, Physical: "eth0"}, ErrConflict, "route default via 192.0.2.1 and other next hops of eth0",
			func(f *fakeOS) { f.routes("eth0", false) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := newHost(t)
			c.spoil(host)
			want := mustWant(t, []Network{c.wrong, good}, nil)
			err := Apply(t.Context(), host, want)
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %v; want %v: %s", err, c.kind, c.says)
			}
			if l := host.state.Links[BridgeName(netD)]; !l.owned() || !l.Up {
				t.Errorf("the other network is not there:\n%s", host.state)
			}
			c.mend(host)
			applied(t, host, want)
			if missing := lacks(host.state, want); missing != "" {
				t.Error(missing)
			}
		})
	}
}

func (f *fakeOS) edit(name string, do func(*Link)) {
	l := f.state.Links[name]
	do(&l)
	f.state.Links[name] = l
}

func (f *fakeOS) master(name, to string)  { f.edit(name, func(l *Link) { l.Master = to }) }
func (f *fakeOS) mtu(name string, to int) { f.edit(name, func(l *Link) { l.MTU = to }) }
func (f *fakeOS) drop(name, address string) {
	f.edit(name, func(l *Link) { l.Addresses = without(l.Addresses, netip.MustParsePrefix(address)) })
}

func (f *fakeOS) routes(name string, multi bool) {
	f.edit(name, func(l *Link) { l.Routes[0].Multi = multi })
}

// TestApplyGoesOnAround: what fails while it is done takes with it only what needs it, and no address.
func TestApplyGoesOnAround(t *testing.T) {
	cause := errors.New("no")
	for _, op := range []Op{OpMaster, OpCopyAddress, OpMoveRoute, OpDropAddress, OpMark, OpUp, OpAdd, OpRemove} {
		t.Run(string(op), func(t *testing.T) {
			host := newHost(t)
			flat := []Network{{ID: netA, Type: Flat, Physical: "eth0", Addresses: prefixes("10.0.0.1/24")}, {ID: netD, Type: Local}}
			want := mustWant(t, flat, []Port{{ID: one, Network: netD, MAC: mac(1), VIF: VIFTap}})
			host.broken = map[Op]error{op: cause}
			toWant := Apply(t.Context(), host, want)
			host.broken = nil
			applied(t, host, want)
			host.broken = map[Op]error{op: cause}
			toNothing := Apply(t.Context(), host, State{})
			if op != OpMark && !errors.Is(errors.Join(toWant, toNothing), cause) {
				t.Errorf("nobody is told: %v, %v", toWant, toNothing)
			}
			host.broken = nil
			applied(t, host, State{})
			if got, initial := host.state.String(), newHost(t).state.String(); got != initial {
				t.Errorf("afterwards:\n%s\nbefore:\n%s", got, initial)
			}
		})
	}
}

// lacks says what of the wanted links is not so.
func lacks(have, want State) string {
	for pci, w := range want.Functions {
		if got := have.Functions[pci]; !got.Owned || got.FunctionSettings != w.FunctionSettings {
			return fmt.Sprintf("function is %s, not %s", got, w)
		}
	}
	for name, w := range want.Switched {
		if got := have.Switched[name]; got != w {
			return fmt.Sprintf("switched is %s, not %s", got, w)
		}
	}
	for _, name := range want.names() {
		w, l := want.Links[name], have.Links[name]
		if w.Guest && l.Name == "" {
			continue
		}
		switch {
		case l.Name == "":
			return name + " is not there"
		case w.owned() && (l.Shape != w.Shape || l.Mark.String() != w.Mark.String() || l.IPv6Off != w.IPv6Off || l.ARPFilter != w.ARPFilter || w.Hub && !l.Hub):
			return fmt.Sprintf("%s should be\n%s", l, w)
		case w.Up && !l.Up, w.MTU != 0 && w.MTU != l.MTU, w.MAC != "" && w.MAC != l.MAC, (w.owned() || w.Master != "") && w.Master != l.Master:
			return fmt.Sprintf("%s should be\n%s", l, w)
		case w.Filtering != l.Filtering, l.Native != w.Native, fmt.Sprint(l.Tagged) != fmt.Sprint(w.Tagged):
			return fmt.Sprintf("%s should be\n%s", l, w)
		case (w.owned() || w.Guest) && (!w.QoS.ToGuest.is(l.QoS.ToGuest) || !w.QoS.FromGuest.is(l.QoS.FromGuest) ||
			w.QoS.DSCP != l.QoS.DSCP || w.QoS.SetDSCP != l.QoS.SetDSCP):
			return fmt.Sprintf("%s should be\n%s", l, w)
		case len(w.Peers) != len(l.Peers):
			return fmt.Sprintf("%s has peers %v, not %v", name, l.Peers, w.Peers)
		}
		for _, a := range w.Addresses {
			if !strings.Contains(fmt.Sprint(l.Addresses), a.String()) {
				return fmt.Sprintf("%s has addresses %v, not %v", name, l.Addresses, w.Addresses)
			}
		}
		if up := have.Links[w.Mark.Uplink]; w.Mark.Uplink != "" && len(up.foreign()) > 0 {
			return fmt.Sprintf("%s has addresses %v still", up.Name, up.foreign())
		}
	}
	return lacksSpace(have, want)
}

// lacksSpace says what of the wanted namespaces is not as it should be.
func lacksSpace(have, want State) string {
	for name, w := range want.Spaces {
		is := have.Spaces[name]
		if is.Name == "" || is.Half || is.Taken || !is.Tuned || is.Forwarding != w.Forwarding || len(is.Links) != len(w.Links) {
			return fmt.Sprintf("%s should be\n%s", is, w)
		}
		for _, d := range w.Links {
			has := is.Links[d.Name]
			byText := func(a, b Route) int { return strings.Compare(a.String(), b.String()) }
			slices.SortFunc(has.Addresses, netip.Prefix.Compare)
			slices.SortFunc(d.Addresses, netip.Prefix.Compare)
			slices.SortFunc(has.Routes, byText)
			slices.SortFunc(d.Routes, byText)
			var a, b strings.Builder
			has.text(&a, "")
			d.text(&b, "")
			if a.String() != b.String() {
				return fmt.Sprintf("%s: it is\n%sand not\n%s", name, a.String(), b.String())
			}
		}
	}
	return ""
}
