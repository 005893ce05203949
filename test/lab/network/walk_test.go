//go:build lab

package network

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"compute-agent/network"
)

// mortal dies after so many changes.
type mortal struct {
	network.OS
	left int
}

func (m *mortal) Do(ctx context.Context, c network.Change) error {
	if m.left--; m.left < 0 {
		return errors.New("killed")
	}
	return m.OS.Do(ctx, c)
}

// draw draws VLANs with bridges of their own and in a filtering one, a flat network that may be in there too, and limited ports.
func draw(t *rapid.T) ([]network.Network, []network.Port) {
	var networks []network.Network
	var ports []network.Port
	filtering := rapid.Bool().Draw(t, "filtering")
	for i := range 4 {
		n := network.Network{
			ID: fmt.Sprintf("%d-network-of-walk", i), Type: network.VLAN, Physical: uplink, VLAN: 10*i + rapid.IntRange(2, 3).Draw(t, "vlan"),
			MTU: rapid.SampledFrom([]int{0, 1400}).Draw(t, "mtu"), Filtering: filtering && rapid.Bool().Draw(t, "in it"),
		}
		if i == 0 {
			n.Type, n.VLAN, n.Filtering = network.Flat, 0, filtering
		}
		if rapid.IntRange(0, 2).Draw(t, "left out") == 0 {
			continue
		}
		networks = append(networks, n)
		for j := range rapid.IntRange(0, 2).Draw(t, "ports") {
			limit := func(what string) network.Rate {
				return network.Rate{Kbit: rapid.SampledFrom([]int{0, 1000, 2_000_000, 30_000_000}).Draw(t, what)}
			}
			ports = append(ports, network.Port{
				ID: fmt.Sprintf("%d-port-of-guest", j), Network: n.ID, MAC: mac(byte(10*i + j)), VIF: network.VIFTap,
				QoS: network.QoS{ToGuest: limit("to guest"), FromGuest: limit("from guest"), SetDSCP: rapid.Bool().Draw(t, "marked")},
			})
			p := &ports[len(ports)-1]
			p.ID = fmt.Sprint(i) + p.ID
		}
	}
	return networks, ports
}

// TestWalk goes at random from one wanted state to another, is killed on the way at times, and looks each time whether all is there
// and nothing else.
func TestWalk(t *testing.T) {
	h, _ := twoHosts(t)
	h.enter()
	run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", uplink)
	const addressed = "192.0.2.1/24"
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("15"); err != nil {
			t.Fatal(err)
		}
	}
	steps := 0
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 3).Draw(rt, "steps") {
			want, err := network.Wanted(draw(rt))
			if err != nil {
				rt.Fatal(err)
			}
			if rapid.Bool().Draw(rt, "killed") {
				_ = network.Apply(t.Context(), &mortal{h.Host, rapid.IntRange(0, 40).Draw(rt, "after")}, want)
			}
			if err := network.Apply(t.Context(), h.Host, want); err != nil {
				rt.Fatalf("%v\nwanted:\n%s", err, want)
			}
			have, err := network.Read(t.Context(), h.Host, want)
			if err != nil {
				rt.Fatal(err)
			}
			if changes, err := network.Diff(have, want); err != nil || len(changes) > 0 {
				rt.Fatalf("it would change %v, %v\nwanted:\n%s\nthere:\n%s", changes, err, want, have)
			}
			steps++
		}
		if err := network.Apply(t.Context(), h.Host, network.State{}); err != nil {
			rt.Fatal(err)
		}
		if left := h.names(); len(strings.Fields(left)) != 2 || !strings.Contains(run(t, "ip", "addr", "show", "dev", uplink), addressed) {
			rt.Fatalf("left are %s\n%s", left, run(t, "ip", "addr"))
		}
	})
	t.Logf("%d steps", steps)
}
