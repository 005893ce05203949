package network

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"compute-agent/internal/golden"
)

// TestWanted has every kind of network and port.
func TestWanted(t *testing.T) {
	networks := []Network{
		{ID: netA, Type: Flat, Physical: "eth0", MTU: 9000},
		{ID: netB, Type: VLAN, Physical: "eth0", VLAN: 100, Addresses: prefixes("10.1.0.1/24", "2001:db8::1/64")},
		{ID: netC, Type: VXLAN, VNI: 70000, Local: netip.MustParseAddr("192.0.2.1"), Peers: addrs("192.0.2.9", "192.0.2.3", "192.0.2.9")},
		{ID: netD, Type: Local, Bridge: "br100", Addresses: prefixes("169.254.169.254/32")},
		{ID: "e", Type: VXLAN, VNI: 5, Physical: "eth1", Group: netip.MustParseAddr("ff05::100"), UDPPort: 8472},
		{ID: "f", Type: VLAN, Physical: "a-long-name", VLAN: 4094},
		{ID: "g", Type: VLAN, Physical: "eth2", VLAN: 7, Device: "vlan7"},
		{ID: "h", Type: VLAN, Physical: "eth3", VLAN: 20, Filtering: true}, {ID: "i", Type: VLAN, Physical: "eth3", VLAN: 10, Filtering: true},
		{ID: "j", Type: Flat, Physical: "eth3", Filtering: true, MTU: 1400}, {ID: "k", Type: VLAN, Physical: "eth3", VLAN: 30},
		{ID: "l", Type: Flat, Physical: "a-long-name", Filtering: true},
	}
	ports := []Port{
		{ID: one, Network: netA, MAC: mac(1), VNIC: VNICNormal, VIF: VIFTap, Queues: 4, MTU: 1500},
		{ID: two, Network: netB, MAC: mac(2), VIF: VIFBridge},
		{ID: tri, MAC: mac(3), VIF: VIFTap},
		{ID: "x", Network: "g", MAC: mac(4), VNIC: VNICMacvtap, VIF: VIFMacvtap, Mode: "private"},
		{ID: "ovs", MAC: mac(7), VIF: VIFOVS, Server: "server", Queues: 2}, {ID: "hybrid", MAC: mac(8), VIF: VIFOVS, Hybrid: true, Bridge: "br-ex", MTU: 1450},
		{ID: "vf", MAC: mac(10), VIF: VIFHardware, VNIC: VNICDirect, PCI: "0000:81:00.1", VLAN: 5, Trusted: true, NoSpoofCheck: true},
		{ID: "pf", MAC: mac(11), VIF: VIFPhysical, VNIC: VNICPhysical, PCI: "0000:81:01.0"},
		{ID: "vhost", MAC: mac(9), VIF: VIFVHostUser, Socket: "/run/vhost/9", MTU: 9000},
		{ID: "tagged", Network: "h", MAC: mac(5), VIF: VIFTap, QoS: QoS{
			ToGuest: Rate{Kbit: 1000}, FromGuest: Rate{Kbit: 20, BurstKbit: 5}, SetDSCP: true,
		}}, {ID: "untagged", Network: "j", MAC: mac(6), VIF: VIFBridge},
	}
	want := mustWant(t, networks, ports)
	golden.Assert(t, "testdata/wanted.txt", want.String())
	slices.Reverse(networks)
	slices.Reverse(ports)
	if other := mustWant(t, networks, ports).String(); other != want.String() {
		t.Errorf("another order of the same makes another state:\n%s", other)
	}
}

func TestWantedRefuses(t *testing.T) {
	flat := Network{ID: netA, Type: Flat, Physical: "eth0"}
	tagged := Network{ID: netB, Type: VLAN, Physical: "eth0", VLAN: 5, Filtering: true}
	vxlan := Network{ID: netC, Type: VXLAN, VNI: 7}
	tap := Port{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap}
	with := func(n Network, change func(*Network)) []Network { change(&n); return []Network{n} }
	port := func(change func(*Port)) []Port { p := tap; change(&p); return []Port{p} }
	vf := func(change func(*Port)) []Port {
		p := Port{ID: one, MAC: mac(1), VIF: VIFHardware, VNIC: VNICDirect, PCI: "0000:81:00.1"}
		change(&p)
		return []Port{p}
	}
	flats := []Network{flat}
	for _, c := range []struct {
		networks []Network
		ports    []Port
		says     string
	}{
		{with(flat, func(n *Network) { n.ID = "a/b" }), nil, `network "a/b": id: letters, digits`},
		{with(flat, func(n *Network) { n.ID = "" }), nil, `network "": id:`},
		{with(flat, func(n *Network) { n.Type = "gre" }), nil, `type: "gre" is not flat, vlan, vxlan or local`},
		{with(flat, func(n *Network) { n.Physical = "" }), nil, `physical: "" is no name`},
		{with(flat, func(n *Network) { n.Physical = "eth0/../lo" }), nil, `physical: "eth0/../lo" is no name`},
		{with(flat, func(n *Network) { n.Physical = ".." }), nil, `physical: ".." is no name`},
		{with(flat, func(n *Network) { n.Physical = "sixteen-letters0" }), nil, `physical: "sixteen-letters0" is no name`},
		{with(flat, func(n *Network) { n.Bridge = halfMade }), nil, `bridge: "cagent-new" is no name`},
		{with(flat, func(n *Network) { n.Bridge = "eth0" }), nil, `bridge, device, physical: two of them are eth0`},
		{with(flat, func(n *Network) { n.Device = "vlan1" }), nil, `device: "vlan1" is no name of a VLAN's interface`},
		{with(flat, func(n *Network) { n.VLAN = 5 }), nil, `vlan: a flat network has none`},
		{with(flat, func(n *Network) { n.VNI = 5 }), nil, `vni, local, peers, group, udp port: a flat network has none`},
		{with(flat, func(n *Network) { n.MTU = 67 }), nil, `mtu: 67 is not from 68 to 65521`},
		{with(flat, func(n *Network) { n.MTU = -1 }), nil, `mtu: -1 is not from`},
		{with(flat, func(n *Network) { n.Addresses = prefixes("224.0.0.1/24") }), nil, `addresses: 224.0.0.1/24 is no host's address`},
		{with(flat, func(n *Network) { n.Addresses = []netip.Prefix{{}} }), nil, `addresses: invalid Prefix is no host's address`},
		{with(flat, func(n *Network) { n.Addresses = prefixes("10.0.0.1/24", "10.0.0.1/16") }), nil, `addresses: 10.0.0.1 is there twice`},
		{with(flat, func(n *Network) { n.MTU, n.Addresses = 1000, prefixes("2001:db8::1/64") }), nil, `addresses: 2001:db8::1/64 needs an mtu of 1280`},
		{with(flat, func(n *Network) { n.Addresses = manyPrefixes(20) }), nil, `addresses: 20 are more than the alias of a link can hold`},
		{with(flat, func(n *Network) { n.Type, n.VLAN = VLAN, 4095 }), nil, `vlan: 4095 is not from 1 to 4094`},
		{with(flat, func(n *Network) { n.Type = Local }), nil, `physical: a local network has none`},
		{with(vxlan, func(n *Network) { n.VNI = 1 << 24 }), nil, `vni: 16777216 is not from 1 to 16777215`},
		{with(vxlan, func(n *Network) { n.UDPPort = 65536 }), nil, `udp port: 65536 is not from 1 to 65535`},
		{with(vxlan, func(n *Network) { n.Group, n.Peers = addrs("239.1.1.1")[0], addrs("192.0.2.1") }), nil, `group, peers: one or the other`},
		{with(vxlan, func(n *Network) { n.Group, n.Physical = addrs("192.0.2.1")[0], "eth0" }), nil, `group: 192.0.2.1 is not multicast`},
		{with(vxlan, func(n *Network) { n.Group = addrs("239.1.1.1")[0] }), nil, `group: it needs a physical interface`},
		{with(vxlan, func(n *Network) { n.Local = addrs("127.0.0.1")[0] }), nil, `local: 127.0.0.1 is no host's address`},
		{with(vxlan, func(n *Network) { n.Peers = addrs("0.0.0.0") }), nil, `peers: 0.0.0.0 is no host's address`},
		{with(vxlan, func(n *Network) { n.Peers = addrs("192.0.2.1", "2001:db8::1") }), nil, `is of another family than the rest`},
		{[]Network{flat, flat}, nil, `id: it is there twice`},
		{append(with(flat, func(n *Network) { n.ID = netB }), flat), nil, `physical: eth0 is that of the flat network ` + netA},
		{append(with(flat, func(n *Network) { n.ID, n.Physical = netA+"2", "eth1" }), flat), nil, `name: brqaaaaaaaa-aa is that of network ` + netA},
		{append(with(vxlan, func(n *Network) { n.ID = netB }), vxlan), nil, `name: vxlan-7 is that of network ` + netB},
		{[]Network{
			{ID: netA, Type: VLAN, Physical: "eth0", VLAN: 7}, {ID: netB, Type: VLAN, Physical: "eth0", VLAN: 7, Device: "vlan7"},
		}, nil, `vlan: 7 on eth0 is that of network ` + netA},
		{with(vxlan, func(n *Network) { n.Filtering = true }), nil, `filtering: a vxlan network has no VLAN-filtering bridge`},
		{with(tagged, func(n *Network) { n.VLAN = 1 }), nil, `vlan: 1 is, in a VLAN-filtering bridge, what has no tag`},
		{with(tagged, func(n *Network) { n.Device = "vlan5" }), nil, `device: a VLAN-filtering bridge needs none`},
		{with(tagged, func(n *Network) { n.Addresses = prefixes("10.0.0.1/24") }), nil, `addresses: a VLAN-filtering bridge has none`},
		{append(with(tagged, func(n *Network) { n.ID = netC }), tagged), nil, `vlan: 5 on eth0 is that of network ` + netB},
		{append(with(tagged, func(n *Network) { n.ID, n.Filtering = netC, false }), tagged), nil, `vlan: 5 on eth0 is that of network ` + netB},
		{append(with(tagged, func(n *Network) { n.ID, n.VLAN, n.Bridge = netC, 6, "other" }), tagged), nil,
			`bridge: eth0 is in brv-eth0, that of network ` + netB},
		{[]Network{tagged, flat}, nil, `physical: eth0 is that of the flat network ` + netA + `, which is not filtering`},
		{append(with(flat, func(n *Network) { n.ID = netC }), tagged), nil, `physical: eth0 is in the VLAN-filtering bridge of network ` + netB},
		{append(with(flat, func(n *Network) { n.Filtering = true }), Network{ID: netC, Type: Flat, Physical: "eth0"}), nil,
			`physical: eth0 is that of the flat network ` + netA},
		{[]Network{tagged}, port(func(p *Port) { p.Network, p.VIF, p.VNIC = netB, VIFMacvtap, VNICMacvtap }), `filtering: macvtap ports are in no bridge`},
		{flats, port(func(p *Port) { p.ID = "a b" }), `port "a b": id: letters, digits`},
		{flats, port(func(p *Port) { p.MAC = nil }), `port ` + one + `: mac: "" is no interface's address`},
		{flats, port(func(p *Port) { p.MAC = net.HardwareAddr{1, 0, 0, 0, 0, 0} }), `mac: "01:00:00:00:00:00" is no interface's address`},
		{flats, port(func(p *Port) { p.Network = netB }), `network: "` + netB + `" is none of the host's`},
		{flats, port(func(p *Port) { p.VIF, p.Network = VIFBridge, "" }), `network: "" is none of the host's`},
		{flats, port(func(p *Port) { p.VIF = VIFUnbound }), `vif type: unbound: Neutron has not bound the port`},
		{flats, port(func(p *Port) { p.VIF = VIFBindingFailed }), `vif type: binding_failed: Neutron has not bound the port`},
		{flats, port(func(p *Port) { p.VIF = "ivs" }), `vif type: "ivs" is not bridge, tap, macvtap, ovs, vhostuser, hw_veb or hostdev_physical`},
		{flats, port(func(p *Port) { p.VIF = VIFOVS }), `network: vif type ovs is in Open vSwitch's`},
		{flats, port(func(p *Port) { p.VLAN = 5 }), `pci, vlan, trusted, spoof check: vif type tap has none`},
		{nil, vf(func(p *Port) { p.PCI = "0000:81:00" }), `pci: "0000:81:00" is no address like 0000:81:00.1`},
		{nil, vf(func(p *Port) { p.PCI = "0000:81:00.1/../x" }), `is no address like`},
		{nil, vf(func(p *Port) { p.VLAN = 4095 }), `vlan: 4095 is not from 0 to 4094`},
		{nil, vf(func(p *Port) { p.VNIC = VNICNormal }), `vnic type: "normal": vif type hw_veb needs direct`},
		{nil, vf(func(p *Port) { p.Network = netA }), `network: vif type hw_veb is on its interface's`},
		{nil, vf(func(p *Port) { p.QoS.SetDSCP = true }), `qos: vif type hw_veb has none`},
		{nil, vf(func(p *Port) { p.VIF, p.VNIC, p.VLAN = VIFPhysical, VNICPhysical, 5 }), `nobody can say them of a whole interface`},
		{nil, append(vf(func(p *Port) { p.ID = two }), vf(func(*Port) {})...), `pci: 0000:81:00.1 is that of port ` + one},
		{flats, port(func(p *Port) { p.Hybrid = true }), `hybrid, bridge, server: vif type tap has none`},
		{flats, port(func(p *Port) { p.Socket = "/x" }), `socket: vif type tap has none`},
		{nil, port(func(p *Port) { p.VIF, p.Network, p.Bridge = VIFOVS, "", "--br"+"0123456789abc" }), `bridge: "--br0123456789abc" is no name`},
		{nil, port(func(p *Port) { p.VIF, p.Network, p.Server = VIFOVS, "", `x"y` }), `server: letters, digits, dashes`},
		{nil, port(func(p *Port) { p.VIF, p.Network, p.Socket = VIFVHostUser, "", "run/x" }), `socket: "run/x" is no absolute path`},
		{nil, port(func(p *Port) { p.VIF, p.Network, p.Socket = VIFVHostUser, "", `/x",y="z` }), `is no absolute path of letters`},
		{nil, port(func(p *Port) { p.VIF, p.Network, p.Socket, p.Hybrid = VIFVHostUser, "", "/x", true }), `hybrid: vif type vhostuser is not`},
		{nil, port(func(p *Port) { p.VIF, p.Network, p.Socket, p.QoS.SetDSCP = VIFVHostUser, "", "/x", true }), `qos: vif type vhostuser has none`},
		{nil, append(port(func(p *Port) { p.VIF, p.Network, p.ID = VIFOVS, "", one+"2" }), Port{ID: one, MAC: mac(1), VIF: VIFTap}),
			`name: tap11111111-11 is that of port ` + one},
		{nil, append(port(func(p *Port) { p.VIF, p.Network, p.Socket, p.ID = VIFVHostUser, "", "/x", one+"2" }),
			Port{ID: one, MAC: mac(1), VIF: VIFVHostUser, Socket: "/y"}), `name: vhu11111111-11 is that of port ` + one},
		{flats, port(func(p *Port) { p.VNIC = "direct" }), `vnic type: "direct": vif type tap needs normal`},
		{flats, port(func(p *Port) { p.VIF = VIFMacvtap }), `vnic type: "": vif type macvtap needs macvtap`},
		{flats, port(func(p *Port) { p.MTU = 1501 }), `mtu: 1501 is more than its network's 1500`},
		{flats, port(func(p *Port) { p.MTU = 10 }), `mtu: 10 is not from`},
		{flats, port(func(p *Port) { p.QoS.ToGuest.Kbit = 9 }), `qos: to guest: 9 kbit/s is not from 10 to 34000000`},
		{flats, port(func(p *Port) { p.QoS.FromGuest.BurstKbit = 9 }), `qos: from guest: a burst of 9 kbit without a rate`},
		{flats, port(func(p *Port) { p.QoS.FromGuest = Rate{10, 1001} }), `qos: from guest: a burst of 1001 kbit is not from 0 to 1000`},
		{flats, port(func(p *Port) { p.QoS.SetDSCP, p.QoS.DSCP = true, 64 }), `qos: dscp: it is from 0 to 63`},
		{flats, port(func(p *Port) { p.QoS.DSCP = 1 }), `qos: dscp: it is from 0 to 63, and none unless it is set`},
		{flats, port(func(p *Port) { p.VIF, p.VNIC, p.QoS.SetDSCP = VIFMacvtap, VNICMacvtap, true }), `qos: vif type macvtap has none`},
		{flats, port(func(p *Port) { p.Queues = 257 }), `queues: 257 is not from 0 to 256`},
		{flats, port(func(p *Port) { p.Mode = "bridge" }), `mode: a tap has none`},
		{flats, port(func(p *Port) { p.Mode = "source" }), `mode: "source" is not bridge, private, vepa or passthru`},
		{flats, []Port{tap, tap}, `id: it is there twice`},
		{flats, append(port(func(p *Port) { p.ID = one + "2" }), tap), `name: tap11111111-11 is that of port ` + one},
		{flats, append(port(func(p *Port) { p.ID, p.VIF, p.VNIC = two, VIFMacvtap, VNICMacvtap }), tap), `vif type: tap needs a bridge, and network ` + netA},
		{with(flat, func(n *Network) { n.Addresses = prefixes("10.0.0.1/24") }), port(func(p *Port) { p.VIF, p.VNIC = VIFMacvtap, VNICMacvtap }),
			`addresses: a network with macvtap ports has no bridge for them`},
		{with(vxlan, func(n *Network) { n.ID = netA }), port(func(p *Port) { p.VIF, p.VNIC = VIFMacvtap, VNICMacvtap }),
			`type: macvtap ports need a flat or vlan network, not vxlan`},
	} {
		_, err := Wanted(c.networks, c.ports)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("it says %v\nwant %s", err, c.says)
		}
	}
}

func manyPrefixes(n int) []netip.Prefix {
	var out []netip.Prefix
	for i := range n {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 24))
	}
	return out
}

// TestWantedOfTheRest: what is wrong is left out, and all of it is told.
func TestWantedOfTheRest(t *testing.T) {
	want, err := Wanted([]Network{{ID: netA, Type: Local}, {ID: netB, Type: "gre"}}, []Port{
		{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap}, {ID: two, Network: netB, MAC: mac(2), VIF: VIFTap}, {ID: tri, Network: netA, VIF: VIFTap},
	})
	if err == nil || strings.Count(err.Error(), ErrInvalid.Error()) != 3 {
		t.Errorf("it says %v", err)
	}
	if got := strings.Join(want.names(), " "); got != "brqaaaaaaaa-aa tap11111111-11" {
		t.Errorf("it wants %s", got)
	}
}

// The names that Neutron's Linux bridge agent gives.
func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{TapName("12345678-1234-5678-1234-567812345678"), "tap12345678-12"},
		{BridgeName("12345678-1234-5678-1234-567812345678"), "brq12345678-12"},
		{TapName("short"), "tapshort"},
		{VXLANName(16777215), "vxlan-16777215"},
		{FilteringName("eth0"), "brv-eth0"},
		{FilteringName("enp130s0f1np0"), "brv-enp138d0253"},
		{VLANName("eth0", 1), "eth0.1"},
		{VLANName("eth0", 1111), "eth0.1111"},
		{VLANName("long_interface", 1), "long240ea3.1"},
		{VLANName("long_interface", 1111), "long240ea3.1111"},
		{VLANName("mix_interface", 1), "mix_interface.1"},
		{VLANName("mix_interface", 1111), "mix_e8ea3e.1111"},
	} {
		if c.got != c.want || len(c.got) > maxName {
			t.Errorf("%s, not %s", c.got, c.want)
		}
	}
}

func TestMark(t *testing.T) {
	for _, m := range []Mark{{}, {ID: one}, {ID: netA, Uplink: "eth0"}, {ID: netA, Addresses: prefixes("10.0.0.1/24", "2001:db8::1/64")}} {
		if got := parseMark(m.String()); got.String() != m.String() || got.ID != m.ID {
			t.Errorf("%v is read as %v", m, got)
		}
	}
	for _, alias := range []string{"", "uplink", "compute-agent", "compute-agent:", "compute-agent: x", "compute-agent:a/b", "my compute-agent:x"} {
		if m := parseMark(alias); m.ID != "" {
			t.Errorf("%q is taken for a mark: %v", alias, m)
		}
	}
}
