//go:build lab

package network

import (
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"compute-agent/internal/command"
	"compute-agent/network"
	"compute-agent/network/firewall"
)

// datagram is a UDP packet of 10.0.0.FROM to 10.0.0.TO, broadcast in its network, in a frame of the sender's MAC.
func datagram(from, to byte, port uint16) []byte {
	return ip(mac(from), from, to, port)
}

func ip(source net.HardwareAddr, from, to byte, port uint16) []byte {
	numbered++
	udp := binary.BigEndian.AppendUint16(nil, 5000)
	udp = binary.BigEndian.AppendUint16(udp, port)
	udp = append(udp, 0, 16, 0, 0) // without a checksum
	udp = binary.BigEndian.AppendUint64(udp, numbered)
	header := []byte{0x45, 0, 0, byte(20 + len(udp)), 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to}
	sum := uint32(0)
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum>>16+sum&0xffff))
	return slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, source, []byte{0x08, 0x00}, header, udp)
}

// TestFirewall filters in a filtering bridge what comes from the wire with a tag, and what a guest sends. Both VLANs have the same
// addresses: their connections are in different zones.
func TestFirewall(t *testing.T) {
	for _, filtering := range []bool{true, false} {
		left, right := twoHosts(t)
		left.apply(networksOf(false), portsOf())
		right.enter()
		for _, setting := range []string{"bridge-nf-call-iptables=1", "bridge-nf-call-ip6tables=1"} {
			run(t, "sysctl", "-qw", "net.bridge."+setting)
		}
		wall := firewall.New(command.Exec{}, firewall.VariantDefault, nil)
		if err := wall.Apply(t.Context(), rules(filtering)); err != nil {
			t.Fatal(err)
		}
		right.apply(networksOf(filtering), portsOf())
		if err := wall.Apply(t.Context(), rules(filtering)); err != nil {
			t.Fatal(err)
		}
		from := map[int]*guest{100: left.guest(portA), 200: left.guest(portB)}
		to := map[int]*guest{100: right.guest(portA), 200: right.guest(portB)}
		for vlan := range from {
			mark := frame(9)
			allowed, denied := datagram(9, 1, 4000), datagram(9, 1, 4001)
			from[vlan].send(denied)
			from[vlan].send(mark)
			if to[vlan].got(denied, mark) {
				t.Errorf("filtering %v: VLAN %d: what no rule allows comes from the wire", filtering, vlan)
			}
			from[vlan].send(allowed)
			from[vlan].send(mark)
			if !to[vlan].got(allowed, mark) {
				t.Errorf("filtering %v: VLAN %d: what a rule allows does not come from the wire", filtering, vlan)
			}
		}
		testSender(t, filtering, to[100], from[100])
		right.enter()
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		zones := map[uint16]bool{}
		for _, f := range flows {
			if f.Forward.DstPort == 4000 {
				zones[f.Zone] = true
			}
		}
		if got := slices.Sorted(maps.Keys(zones)); !slices.Equal(got, []uint16{7, 8}) {
			t.Errorf("filtering %v: the zones are %v", filtering, got)
		}
		if err := wall.Apply(t.Context(), firewall.State{}); err != nil {
			t.Fatal(err)
		}
		right.apply(nil, nil)
		left.apply(nil, nil)
	}
}

// TestService asks a service in a namespace that is in a VLAN of a filtering bridge, through the asker's filter: the answer is let in, as that of
// a connection, only if both ways are in one zone.
func TestService(t *testing.T) {
	_, right := twoHosts(t)
	const port, space, device = "33333333-3333-4333-8333-333333333333", "qdhcp-lab", "ns-33333333-33"
	s := rules(true)
	s.Devices = []firewall.Device{{Name: network.TapName(port), VLAN: 100}}
	right.enter()
	wall := firewall.New(command.Exec{}, firewall.VariantDefault, nil)
	if err := wall.Apply(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	service := network.Device{Port: port, Network: netA, Name: device, MAC: mac(3), Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.3/24")}}
	right.apply(networksOf(true), portsOf(), network.Namespace{Name: space, Devices: []network.Device{service}})
	asker := right.guest(portA)
	answer := make(chan error, 1)
	var listener *net.UDPConn
	if err := right.InNamespace(space, func() (err error) {
		run(t, "ip", "neigh", "replace", "10.0.0.1", "lladdr", mac(1).String(), "dev", device)
		listener, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 53})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		_, from, err := listener.ReadFromUDP(make([]byte, 100))
		if err == nil {
			_, err = listener.WriteToUDP([]byte("answer"), from)
		}
		answer <- err
	}()
	asker.send(ip(mac(1), 1, 3, 53))
	select {
	case err := <-answer:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the question does not come to the service")
	}
	if !asker.gets([]byte("answer")) {
		t.Error("the answer does not come")
	}
	if err := wall.Apply(t.Context(), firewall.State{}); err != nil {
		t.Fatal(err)
	}
	right.apply(nil, nil)
}

// testSender sends what a guest may and what it may not.
func testSender(t *testing.T, filtering bool, from, to *guest) {
	t.Helper()
	mark := ip(mac(1), 1, 9, 53) // what it may
	tagged := func(vlan byte) []byte {
		plain := ip(mac(1), 1, 9, 53)
		return slices.Concat(plain[:12], []byte{0x81, 0, 0, vlan}, plain[12:])
	}
	for name, f := range map[string][]byte{
		"another's MAC": ip(mac(2), 1, 9, 53), "another's address": ip(mac(1), 2, 9, 53), "a tag of its own VLAN": tagged(100),
		"a tag of another": tagged(200), "a tag that says none": tagged(0),
	} {
		from.send(f)
		from.send(mark)
		seen := f
		if f[12] == 0x81 {
			seen = slices.Concat(f[:12], f[16:]) // as it would come
		}
		if to.got(seen, mark) {
			t.Errorf("filtering %v: a frame with %s passes", filtering, name)
		}
	}
}

// rules are those of two ports with the same address in two VLANs.
func rules(filtering bool) firewall.State {
	s := firewall.State{Groups: []firewall.Group{{ID: "group", Rules: []firewall.Rule{
		{ID: "in", Direction: firewall.Ingress, Ethertype: firewall.IPv4, Protocol: "udp", Ports: &firewall.PortRange{Min: 4000, Max: 4000}},
		{ID: "out", Direction: firewall.Egress, Ethertype: firewall.IPv4, Protocol: "udp", Ports: &firewall.PortRange{Min: 53, Max: 53}},
	}}}}
	for i, id := range []string{portA, portB} {
		p := firewall.Port{
			ID: id, Device: network.TapName(id), Bridge: network.BridgeName([]string{netA, netB}[i]), Zone: uint16(7 + i),
			MAC: portsOf()[i].MAC, FixedIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, 1})}, Groups: []string{"group"},
		}
		if filtering {
			p.Bridge, p.VLAN = network.FilteringName(uplink), uint16(100*(i+1))
		}
		s.Ports = append(s.Ports, p)
	}
	return s
}
