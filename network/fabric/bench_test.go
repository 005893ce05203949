package fabric

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"compute-agent/network"
	"compute-agent/network/dhcp"
	"compute-agent/network/firewall"
	"compute-agent/network/metadata"
)

// many is so many networks with so many ports each, all in one group.
func many(networks, ports int) State {
	out := State{Firewall: one().Firewall}
	out.Firewall.Ports = nil
	for n := range networks {
		id := fmt.Sprintf("%08d-aaaa-4aaa-8aaa-aaaaaaaaaaaa", n)
		ip := func(host int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n), byte(host >> 8), byte(host)}) }
		own := network.Device{Port: fmt.Sprintf("%08d-dddd-4ddd-8ddd-dddddddddddd", n), Network: id, Name: fmt.Sprintf("ns-%08d-dd", n),
			MAC:       net.HardwareAddr{0xfa, 0x16, 0x3e, 1, 0, byte(n)},
			Addresses: []netip.Prefix{netip.PrefixFrom(ip(2), 16), netip.PrefixFrom(metadata.Address4, 32)}}
		server := dhcp.Server{Network: id, Namespace: "qdhcp-" + id, Device: own.Name,
			Subnets: []dhcp.Subnet{{ID: "s", CIDR: netip.PrefixFrom(ip(0), 16), Server: ip(2), Addresses: true}}}
		place := metadata.Place{Namespace: server.Namespace, Devices: []string{own.Name}}
		for i := range ports {
			port, mac := fmt.Sprintf("%04d%04d-bbbb-4bbb-8bbb-bbbbbbbbbbbb", n, i), net.HardwareAddr{0xfa, 0x16, 0x3e, 0, byte(n), byte(i)}
			addresses := []netip.Addr{ip(i + 256)}
			out.Ports = append(out.Ports, network.Port{ID: port, Network: id, MAC: mac, VIF: network.VIFTap})
			out.Firewall.Ports = append(out.Firewall.Ports, firewall.Port{ID: port, Device: network.TapName(port), Bridge: network.BridgeName(id),
				Zone: uint16(4097 + n), MAC: mac, FixedIPs: addresses, Groups: []string{"g"}, DHCPServers: []netip.Addr{ip(2)}})
			server.Hosts = append(server.Hosts, dhcp.Host{Port: port, MAC: mac, Addresses: addresses})
			place.Ports = append(place.Ports, metadata.Port{ID: port, MAC: mac, Addresses: addresses})
		}
		out.Networks = append(out.Networks, network.Network{ID: id, Type: network.Local})
		out.Namespaces = append(out.Namespaces, network.Namespace{Name: server.Namespace, Devices: []network.Device{own}})
		out.DHCP, out.Metadata = append(out.DHCP, server), append(out.Metadata, place)
	}
	return out
}

// BenchmarkApply is a round on a host of 10 networks with 200 ports: with nothing to do, and with a port that comes or goes.
func BenchmarkApply(b *testing.B) {
	s := open(b)
	whole := many(10, 20)
	fewer := whole
	last := len(whole.Ports) - 1
	fewer.Ports, fewer.Firewall.Ports = whole.Ports[:last], whole.Firewall.Ports[:last]
	s.must(s.Apply(b.Context(), whole))
	b.Run("the same", func(b *testing.B) {
		for b.Loop() {
			s.must(s.Apply(b.Context(), whole))
		}
	})
	b.Run("a port less or more", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			s.must(s.Apply(b.Context(), []State{fewer, whole}[n%2]))
		}
	})
}
