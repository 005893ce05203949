package network

import (
	"fmt"
	"net"
	"slices"
	"testing"
)

// large are so many networks, VLANs, VXLANs and local ones, and so many ports, that are spread over them.
func large(networks, ports int) ([]Network, []Port) {
	var ns []Network
	var ps []Port
	for i := range networks {
		n := Network{ID: fmt.Sprintf("%08d-aaaa-4aaa-8aaa-aaaaaaaaaaaa", i), Type: []Type{VLAN, VXLAN, Local}[i%3]}
		switch n.Type {
		case VLAN:
			n.Physical, n.VLAN = "up0", i+1
		case VXLAN:
			n.VNI, n.Peers = i+1, addrs("192.0.2.21", "192.0.2.22", "192.0.2.23")
		}
		ns = append(ns, n)
	}
	for i := range ports {
		ps = append(ps, Port{
			ID: fmt.Sprintf("%08d-bbbb-4bbb-8bbb-bbbbbbbbbbbb", i), Network: ns[i%networks].ID,
			MAC: net.HardwareAddr{0xfa, 0x16, 0x3e, 0, byte(i >> 8), byte(i)}, VIF: VIFTap,
		})
	}
	return ns, ps
}

// BenchmarkDiff is what it takes to know that there is nothing to do, or one port to add, on a host of 100 networks with 1,000 ports.
func BenchmarkDiff(b *testing.B) {
	networks, ports := large(100, 1000)
	host := walkHost(b)
	if err := Apply(b.Context(), host, mustWant(b, networks, ports[:999])); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{999, 1000} {
		b.Run(fmt.Sprintf("missing=%d", n-999), func(b *testing.B) {
			for b.Loop() {
				want := mustWant(b, networks, ports[:n])
				if changes, err := Diff(host.state, want); err != nil || len(changes) > 10 {
					b.Fatal(changes, err)
				}
			}
		})
	}
	b.Run("all missing", func(b *testing.B) {
		empty := walkHost(b)
		for b.Loop() {
			if changes, err := Diff(empty.state, mustWant(b, networks, ports)); err != nil || len(changes) < 1000 {
				b.Fatal(len(changes), err)
			}
		}
	})
}

// BenchmarkApply makes 50 taps in one bridge of a real namespace, and takes them away.
func BenchmarkApply(b *testing.B) {
	inNamespace(b)
	networks, ports := large(3, 150)
	networks = networks[2:]
	ports = slices.DeleteFunc(ports, func(p Port) bool { return p.Network != networks[0].ID })
	bridge, full := mustWant(b, networks, nil), mustWant(b, networks, ports)
	if err := Apply(b.Context(), testHost, bridge); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := Apply(b.Context(), testHost, full); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := Apply(b.Context(), testHost, bridge); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
