package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawWanted draws networks and ports of a host with the interfaces up0 and up1, which has the addresses 192.0.2.5 and .6. Two
// draws have much in common, so that a walk from one to the other changes things and does not only make them anew.
func drawWanted(t *rapid.T, types []Type) ([]Network, []Port) {
	var networks []Network
	flat := map[string]bool{}
	filtering := map[string]bool{}
	for _, physical := range []string{"up0", "up1"} {
		filtering[physical] = slices.Contains(types, VLAN) && rapid.Bool().Draw(t, "filtering "+physical)
	}
	for i, id := range []string{netA, netB, netC, netD} {
		n := Network{ID: id, Type: rapid.SampledFrom(types).Draw(t, "type"), MTU: rapid.SampledFrom([]int{0, 1400}).Draw(t, "mtu")}
		switch n.Type {
		case Flat:
			n.Physical = rapid.SampledFrom([]string{"up0", "up1"}).Draw(t, "physical")
			if flat[n.Physical] {
				continue
			}
			flat[n.Physical] = true
		case VLAN:
			n.Physical, n.VLAN = rapid.SampledFrom([]string{"up0", "up1"}).Draw(t, "physical"), 10*i+rapid.IntRange(2, 3).Draw(t, "vlan")
		case VXLAN:
			n.VNI = 10*i + rapid.IntRange(1, 2).Draw(t, "vni")
			drawTunnel(t, &n)
		case "":
			continue
		}
		if n.Filtering = filtering[n.Physical] && (n.Type == Flat || n.Type == VLAN && rapid.Bool().Draw(t, "filtering")); n.Filtering {
			networks = append(networks, n)
			continue
		}
		if rapid.Bool().Draw(t, "addressed") {
			n.Addresses = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)}), 24)}
			if rapid.Bool().Draw(t, "six") {
				n.Addresses = append(n.Addresses, netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::1/64", i+1)))
			}
		}
		networks = append(networks, n)
	}
	networks, ports := drawPorts(t, networks)
	ports = append(ports, drawSwitched(t)...)
	if slices.Contains(types, VLAN) {
		ports = append(ports, drawFunctions(t)...)
	}
	drawQoS(t, ports, slices.Contains(types, VLAN))
	return networks, ports
}

func drawTunnel(t *rapid.T, n *Network) {
	if rapid.Bool().Draw(t, "multicast") {
		n.Physical, n.Group = "up1", netip.MustParseAddr("239.1.1.1")
		return
	}
	n.Local = netip.MustParseAddr("192.0.2.5")
	for _, p := range []string{"192.0.2.21", "192.0.2.22", "192.0.2.23"} {
		if rapid.Bool().Draw(t, p) {
			n.Peers = append(n.Peers, netip.MustParseAddr(p))
		}
	}
}

// drawPorts gives some networks ports; those of a flat network or VLAN may be macvtaps, without addresses of the agent.
func drawPorts(t *rapid.T, networks []Network) ([]Network, []Port) {
	var ports []Port
	vif := map[string]VIF{}
	for i := range networks {
		n := &networks[i]
		vif[n.ID] = VIFTap
		if (n.Type == Flat && n.Physical == "up1" || n.Type == VLAN) && !n.Filtering && rapid.Bool().Draw(t, "macvtap") {
			vif[n.ID], n.Addresses = VIFMacvtap, nil
		}
	}
	for i := range 4 {
		if len(networks) == 0 {
			break
		}
		n := rapid.SampledFrom(networks).Draw(t, "network")
		p := Port{ID: fmt.Sprintf("%d-port-of-a-guest", i), Network: n.ID, MAC: mac(byte(i)), VIF: vif[n.ID], VNIC: VNICNormal}
		switch {
		case p.VIF == VIFMacvtap:
			p.VNIC, p.Mode = VNICMacvtap, rapid.SampledFrom([]string{"", "vepa"}).Draw(t, "mode")
		case rapid.IntRange(0, 4).Draw(t, "guest's") == 0:
			p.VIF = VIFBridge
		default:
			p.Queues = rapid.IntRange(1, 2).Draw(t, "queues")
		}
		ports = append(ports, p)
	}
	return networks, ports
}

// drawSpaces draws namespaces with devices in some of the networks that have a bridge.
func drawSpaces(t *rapid.T, networks []Network, ports []Port) []Namespace {
	var out []Namespace
	noBridge := map[string]bool{}
	for _, p := range ports {
		noBridge[p.Network] = noBridge[p.Network] || p.VIF == VIFMacvtap
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "namespaces") {
		ns := Namespace{Name: fmt.Sprintf("qwalk-%d", i), Forwarding: rapid.Bool().Draw(t, "forwarding")}
		for j, n := range networks {
			if noBridge[n.ID] || rapid.Bool().Draw(t, "no device") {
				continue
			}
			base := netip.AddrFrom4([4]byte{10, byte(j), 0, byte(rapid.IntRange(2, 3).Draw(t, "address"))})
			d := Device{
				Port: fmt.Sprintf("%d%d-port-of-space", i, j), Network: n.ID, Name: fmt.Sprintf("ns-%d", rapid.IntRange(0, 1).Draw(t, "name")*10+j),
				MAC: mac(byte(rapid.IntRange(50, 51).Draw(t, "mac"))), Addresses: []netip.Prefix{netip.PrefixFrom(base, 24)},
			}
			if rapid.Bool().Draw(t, "six") {
				d.Addresses = append(d.Addresses, netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::2/64", j)))
			}
			if via := rapid.IntRange(0, 2).Draw(t, "via"); via > 0 {
				gateway := netip.AddrFrom4([4]byte{10, byte(j), 0, byte(via)})
				if via == 2 {
					gateway = netip.AddrFrom4([4]byte{10, byte(j), 0, 200})
				}
				to := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(j), 0}), 24)
				d.Routes = append(d.Routes, Route{To: to, Via: gateway})
			}
			ns.Devices = append(ns.Devices, d)
		}
		out = append(out, ns)
	}
	return out
}

// drawSwitched draws ports in Open vSwitch.
func drawSwitched(t *rapid.T) []Port {
	var ports []Port
	for i := range rapid.IntRange(0, 2).Draw(t, "switched") {
		p := Port{
			ID: fmt.Sprintf("%d-port-in-switch", i), MAC: mac(byte(rapid.IntRange(80, 81).Draw(t, "mac"))), VIF: VIFOVS,
			Bridge: rapid.SampledFrom([]string{"", "br-ex"}).Draw(t, "bridge"), Server: rapid.SampledFrom([]string{"", "server"}).Draw(t, "server"),
			MTU: rapid.SampledFrom([]int{0, 1400}).Draw(t, "mtu"),
		}
		switch rapid.IntRange(0, 2).Draw(t, "way") {
		case 0:
			p.Hybrid = true
		case 1:
			p.VIF, p.Socket = VIFVHostUser, "/run/vhost/"+p.ID
		}
		ports = append(ports, p)
	}
	return ports
}

// drawFunctions draws ports that are virtual functions.
func drawFunctions(t *rapid.T) []Port {
	var ports []Port
	for i := range rapid.IntRange(0, 2).Draw(t, "functions") {
		ports = append(ports, Port{
			ID: fmt.Sprintf("%d-port-in-hardware", i), MAC: mac(byte(rapid.IntRange(90, 91).Draw(t, "mac"))), VIF: VIFHardware, VNIC: VNICDirect,
			PCI: fmt.Sprintf("0000:81:00.%d", i+1), VLAN: rapid.IntRange(0, 2).Draw(t, "vlan"), Trusted: rapid.Bool().Draw(t, "trusted"),
			NoSpoofCheck: rapid.Bool().Draw(t, "no spoof check"),
		})
	}
	return ports
}

// drawQoS limits some ports. Not every kernel that has no VLANs has policing.
func drawQoS(t *rapid.T, ports []Port, police bool) {
	for i := range ports {
		p := &ports[i]
		if p.VIF == VIFMacvtap || p.VIF == VIFVHostUser || p.VIF == VIFHardware || rapid.Bool().Draw(t, "unlimited") {
			continue
		}
		p.QoS.ToGuest = Rate{Kbit: rapid.SampledFrom([]int{0, 100, 20_000_000}).Draw(t, "to guest")}
		if police {
			p.QoS.FromGuest = Rate{Kbit: rapid.SampledFrom([]int{0, 100, 2000}).Draw(t, "from guest")}
		}
		if p.QoS.SetDSCP = rapid.Bool().Draw(t, "marked"); p.QoS.SetDSCP {
			p.QoS.DSCP = uint8(rapid.SampledFrom([]int{0, 46, 63}).Draw(t, "dscp"))
		}
	}
}

// mortal dies after so many changes.
type mortal struct {
	OS
	left int
}

func (m *mortal) Do(ctx context.Context, c Change) error {
	if m.left--; m.left < 0 {
		return errDead
	}
	return m.OS.Do(ctx, c)
}

// walk goes from one wanted state to another, is killed at times on the way, and compares.
func walk(t *rapid.T, host OS, kill func(after int) OS, types []Type) (steps, changes int) {
	for range rapid.IntRange(1, 4).Draw(t, "steps") {
		networks, ports := drawWanted(t, types)
		want, err := Wanted(networks, ports, drawSpaces(t, networks, ports)...)
		if err != nil {
			t.Fatalf("%v\n%+v\n%+v", err, networks, ports)
		}
		for rapid.IntRange(0, 2).Draw(t, "killed") == 0 {
			_ = Apply(t.Context(), kill(rapid.IntRange(0, 40).Draw(t, "after")), want)
		}
		kill(-1)
		made, err := apply(t.Context(), host, want)
		if err != nil {
			t.Fatalf("%v\nwanted:\n%s", err, want)
		}
		steps, changes = steps+1, changes+len(made)
		all, err := host.Links(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if missing := lacks(all, want); missing != "" {
			t.Fatalf("%s\nwanted:\n%s\nthere:\n%s", missing, want, all)
		}
		for name, l := range all.Links {
			if _, wanted := want.Links[name]; l.owned() && !wanted || name == halfMade {
				t.Fatalf("%s is left", l)
			}
		}
		for name, space := range all.Spaces {
			if _, wanted := want.Spaces[name]; !wanted {
				t.Fatalf("%s is left", space)
			}
		}
		for name, p := range all.Switched {
			if _, wanted := want.Switched[name]; p.Owned && !wanted {
				t.Fatalf("%s is left", p)
			}
		}
		for pci, f := range all.Functions {
			if _, wanted := want.Functions[pci]; f.Owned && !wanted {
				t.Fatalf("%s is left", f)
			}
		}
		if again, err := apply(t.Context(), host, want); err != nil || len(again) > 0 {
			t.Fatalf("applying twice: %v, %v\nwanted:\n%s\nthere:\n%s", again, err, want, all)
		}
	}
	for rapid.IntRange(0, 2).Draw(t, "killed at the end") == 0 {
		_ = Apply(t.Context(), kill(rapid.IntRange(0, 20).Draw(t, "after")), State{})
	}
	kill(-1)
	if err := Apply(t.Context(), host, State{}); err != nil {
		t.Fatal(err)
	}
	return steps, changes
}

func walkHost(t testing.TB) *fakeOS {
	f := newHost(t)
	rename := func(from, to string) {
		l := f.state.Links[from]
		l.Name = to
		delete(f.state.Links, from)
		f.state.Links[to] = l
	}
	rename("eth0", "up0")
	rename("eth1", "up1")
	return f
}

// TestWalk goes at random from one wanted state to another on the fake host, dying on the way: the next Apply always completes
// it, no address of the host is ever lost, and in the end the host is what it was.
func TestWalk(t *testing.T) {
	steps, changes := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		host := walkHost(t)
		s, c := walk(rt, host, func(after int) OS {
			host.steps = after
			return host
		}, []Type{Flat, VLAN, VXLAN, Local, ""})
		steps, changes = steps+s, changes+c
		if got, initial := host.state.String(), walkHost(t).state.String(); got != initial {
			rt.Fatalf("afterwards:\n%s\nbefore:\n%s", got, initial)
		}
	})
	t.Logf("%d steps, %d changes", steps, changes)
}
