package router_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"compute-agent/internal/command"
	"compute-agent/network/firewall"
	"compute-agent/network/router"

	"github.com/vishvananda/netlink"
)

// TestWalk goes from one wanted state to another at random, now and then with an agent that is killed half way, and looks at what the
// kernel has after each Apply that was not.
func TestWalk(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		const steps = 25
		c := newCloud(t)
		random := rand.New(rand.NewPCG(1, 2))
		rs, killed := routers(t, command.Exec{}, v), 0
		for step := range steps {
			r := c.somewhere(random)
			if random.IntN(3) == 0 {
				other := c.somewhere(random)
				err := routers(t, &recorder{left: random.IntN(4)}, v).Apply(context.Background(), []router.Router{other})
				if err != nil && !errors.Is(err, errCrash) {
					t.Fatalf("step %d: %v", step, err)
				}
				killed++
				rs = routers(t, command.Exec{}, v)
			}
			if random.IntN(4) == 0 {
				c.ns.do(func() { // somebody else does it wrong
					_, err := command.Exec{}.Run(context.Background(), command.Cmd{Name: v.Program("iptables", "restore"), Args: []string{"--noflush"},
						Stdin: strings.NewReader("*filter\n:cagent-forward - [0:0]\n-A cagent-forward -j ACCEPT\n-I FORWARD -j ACCEPT\n-D FORWARD -j ACCEPT\nCOMMIT\n")})
					c.must(err)
				})
				rs.Resync()
			}
			apply(t, rs, r)
			if got, want := c.ns.held(v), textOf(t, r); got != want {
				t.Fatalf("step %d: loaded:\n%swanted:\n%s", step, got, want)
			}
			want := []string{gatewayIP + "/24"}
			for _, f := range r.FloatingIPs {
				want = append(want, f.Address.String()+"/32")
			}
			have := c.ns.addresses(qg, netlink.FAMILY_V4)
			slices.Sort(have)
			slices.Sort(want)
			if !slices.Equal(have, want) {
				t.Fatalf("step %d: addresses %v, want %v", step, have, want)
			}
		}
		t.Logf("%d steps, %d times killed", steps, killed)
	})
}

// somewhere is a state that may be wanted of the router.
func (c *cloud) somewhere(random *rand.Rand) router.Router {
	r := wanted(c.ns)
	r.Inside = r.Inside[:random.IntN(3)]
	if random.IntN(3) == 0 {
		r.SNAT = netip.Addr{}
	}
	for n := range random.IntN(4) {
		fixed := fmt.Sprintf("10.0.%d.%d", random.IntN(2), 5+random.IntN(2))
		r.FloatingIPs = append(r.FloatingIPs, floating(fmt.Sprintf("203.0.113.%d", 10+2*n+random.IntN(2)), fixed))
	}
	return r
}
