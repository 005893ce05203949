package compute_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"compute-agent/compute"
	"compute-agent/network"
	"compute-agent/network/dhcp"
	"compute-agent/network/router"
	"compute-agent/neutron"
	"compute-agent/store"
)

// walker does to a network service whatever users may do, in any order.
type walker struct {
	*testing.T
	dice  *rand.Rand
	n     *compute.NetworkService
	store *store.Store
	done  map[string]int // commands that succeeded, by name
}

// records are all that there is.
func (w *walker) records() (r neutron.Records) {
	err := w.store.View(context.Background(), func(tx compute.Reader) error {
		var errs [6]error
		r.Networks, errs[0] = tx.Networks()
		r.Subnets, errs[1] = tx.Subnets()
		r.Ports, errs[2] = tx.Ports()
		r.Groups, errs[3] = tx.SecurityGroups()
		r.Routers, errs[4] = tx.Routers()
		r.FloatingIPs, errs[5] = tx.FloatingIPs()
		return errors.Join(errs[:]...)
	})
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// pick chooses a record's ID; sometimes one of nothing.
func pick[T any](w *walker, list []T, id func(T) string) string {
	if len(list) == 0 || w.dice.IntN(20) == 0 {
		return "none"
	}
	return id(list[w.dice.IntN(len(list))])
}

func (w *walker) network(r neutron.Records) string {
	return pick(w, r.Networks, func(n neutron.Network) string { return n.ID })
}
func (w *walker) subnet(r neutron.Records) string {
	return pick(w, r.Subnets, func(n neutron.Subnet) string { return n.ID })
}
func (w *walker) port(r neutron.Records) string {
	return pick(w, r.Ports, func(n neutron.Port) string { return n.ID })
}
func (w *walker) group(r neutron.Records) string {
	return pick(w, r.Groups, func(n neutron.SecurityGroup) string { return n.ID })
}
func (w *walker) router(r neutron.Records) string {
	return pick(w, r.Routers, func(n neutron.Router) string { return n.ID })
}
func (w *walker) floating(r neutron.Records) string {
	return pick(w, r.FloatingIPs, func(n neutron.FloatingIP) string { return n.ID })
}
func (w *walker) flip() bool           { return w.dice.IntN(2) == 0 }
func one[T any](w *walker, list []T) T { return list[w.dice.IntN(len(list))] }

// step does one thing, which may be refused in a way that a front door knows.
func (w *walker) step() {
	step := one(w, w.steps(w.records()))
	err := step.do()
	var why *neutron.Error
	var failure *compute.Failure
	switch {
	case err == nil:
		w.done[step.name]++
	case !errors.As(err, &failure) || !errors.As(err, &why) && !errors.Is(err, compute.ErrForbidden) && failure.Field == "":
		w.Fatalf("%s is refused with %v, which says no class", step.name, err)
	}
}

// userCommand is one that a user may give.
type userCommand struct {
	name string
	do   func() error
}

func (w *walker) steps(r neutron.Records) []userCommand {
	ctx := context.Background()
	return []userCommand{
		{"create network", func() error {
			_, err := w.n.CreateNetwork(ctx, neutron.Network{ProjectID: "p", AdminUp: w.flip(), Shared: w.flip(), External: w.flip(), PortSecurity: w.flip(),
				Type: one(w, []network.Type{"", "flat", "vlan", "vxlan", "local"}), Physical: one(w, []string{"", "physnet1"}),
				Segment: w.dice.IntN(4)})
			return err
		}},
		{"create subnet", func() error {
			q := neutron.SubnetRequest{Subnet: neutron.Subnet{ProjectID: "p", NetworkID: w.network(r), DHCP: w.flip(),
				CIDR: netip.MustParsePrefix(one(w, []string{"10.0.0.0/24", "10.0.1.0/29", "10.0.0.0/16", "2001:db8::/64", "2001:db8:1::/64", "192.0.2.0/28"}))}}
			q.NoGateway = w.flip()
			if q.CIDR.Addr().Is6() && q.DHCP {
				q.RAMode = one(w, []neutron.IPv6Mode{"", neutron.SLAAC, neutron.Stateful, neutron.Stateless})
				q.AddressMode = q.RAMode
			}
			_, err := w.n.CreateSubnet(ctx, q)
			return err
		}},
		{"create port", func() error {
			q := neutron.PortRequest{Port: neutron.Port{ProjectID: "p", NetworkID: w.network(r), AdminUp: w.flip(), VNICType: one(w, []string{"", "macvtap"})}}
			if w.flip() {
				q.SecurityGroups = []string{w.group(r)}
			}
			_, err := w.n.CreatePort(ctx, q)
			return err
		}},
		{"attach", func() error {
			return w.store.Update(ctx, func(tx compute.Writer) error {
				want := compute.PortFor{ServerID: fmt.Sprint("vm", w.dice.IntN(4)), ProjectID: "p", HostName: "web"}
				if w.flip() {
					want.PortID = w.port(r)
				} else {
					want.NetworkID = w.network(r)
				}
				_, err := w.n.Allocate(tx, want)
				return err
			})
		}},
		{"detach", func() error {
			return w.store.Update(ctx, func(tx compute.Writer) error {
				return w.n.Release(tx, fmt.Sprint("vm", w.dice.IntN(4)))
			})
		}},
		{"create router", func() error {
			q := neutron.RouterRequest{Router: neutron.Router{ProjectID: "p", AdminUp: w.flip()}}
			if w.flip() {
				q.Gateway = w.network(r)
			}
			_, err := w.n.CreateRouter(ctx, q)
			return err
		}},
		{"update router", func() error {
			_, err := w.n.UpdateRouter(ctx, w.router(r), func(q *neutron.RouterRequest) error {
				q.Gateway = one(w, []string{"", w.network(r)})
				q.Routes = nil
				if w.flip() {
					q.Routes = []neutron.Route{{To: netip.MustParsePrefix("10.9.0.0/16"), Via: netip.MustParseAddr("10.0.0.9")}}
				}
				return nil
			})
			return err
		}},
		{"add interface", func() error {
			_, err := w.n.AddInterface(ctx, w.router(r), w.subnet(r), "")
			return err
		}},
		{"add port", func() error {
			_, err := w.n.AddInterface(ctx, w.router(r), "", w.port(r))
			return err
		}},
		{"remove interface", func() error {
			_, err := w.n.RemoveInterface(ctx, w.router(r), w.subnet(r), "")
			return err
		}},
		{"create floating IP", func() error {
			q := neutron.FloatingIPRequest{FloatingIP: neutron.FloatingIP{ProjectID: "p", NetworkID: w.network(r)}}
			if w.flip() {
				q.PortID = w.port(r)
			}
			_, err := w.n.CreateFloatingIP(ctx, q)
			return err
		}},
		{"update floating IP", func() error {
			_, err := w.n.UpdateFloatingIP(ctx, w.floating(r), func(f *neutron.FloatingIP) error {
				f.PortID = one(w, []string{"", w.port(r)})
				return nil
			})
			return err
		}},
		{"create group", func() error {
			_, err := w.n.CreateSecurityGroup(ctx, neutron.SecurityGroup{ProjectID: "p", Name: "web", Stateless: w.flip()})
			return err
		}},
		{"add rule", func() error {
			q := neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: one(w, []string{"tcp", "udp", "icmp"})}
			if w.flip() {
				q.RemoteGroup = w.group(r)
			}
			_, err := w.n.AddRule(ctx, w.group(r), q)
			return err
		}},
		{"update network", func() error {
			_, err := w.n.UpdateNetwork(ctx, w.network(r), func(n *neutron.Network) error {
				n.AdminUp, n.External, n.MTU = w.flip(), w.flip(), 1270+w.dice.IntN(181)
				return nil
			})
			return err
		}},
		{"update subnet", func() error {
			_, err := w.n.UpdateSubnet(ctx, w.subnet(r), func(s *neutron.Subnet) error {
				s.DHCP = w.flip()
				if w.flip() {
					s.Gateway = netip.Addr{}
				}
				return nil
			})
			return err
		}},
		{"update port", func() error {
			_, err := w.n.UpdatePort(ctx, w.port(r), func(p *neutron.Port) error {
				p.AdminUp, p.PortSecurity = w.flip(), w.flip()
				if w.flip() {
					p.SecurityGroups = []string{w.group(r)}
				}
				if w.flip() {
					p.FixedIPs = []neutron.FixedIP{{SubnetID: w.subnet(r)}}
				}
				if w.flip() {
					p.MAC = fmt.Sprintf("fa:16:3e:00:00:%02x", w.dice.IntN(4))
				}
				return nil
			})
			return err
		}},
		{"delete network", func() error { return w.n.DeleteNetwork(ctx, w.network(r)) }},
		{"delete subnet", func() error { return w.n.DeleteSubnet(ctx, w.subnet(r)) }},
		{"delete port", func() error { return w.n.DeletePort(ctx, w.port(r)) }},
		{"delete group", func() error { return w.n.DeleteSecurityGroup(ctx, w.group(r)) }},
		{"delete router", func() error { return w.n.DeleteRouter(ctx, w.router(r)) }},
		{"delete floating IP", func() error { return w.n.DeleteFloatingIP(ctx, w.floating(r)) }},
	}
}

// audit checks that of what is recorded everything can be had.
func (w *walker) audit() {
	r := w.records()
	want, err := neutron.Plan(r, neutron.Site{Interfaces: map[string]string{"physnet1": "eth1"}})
	if err != nil {
		w.Fatalf("plan: %v", err)
	}
	if _, err := network.Wanted(want.Networks, want.Ports, want.Namespaces...); err != nil {
		w.Fatalf("links: %v", err)
	}
	if err := want.Firewall.Validate(); err != nil {
		w.Fatalf("filters: %v", err)
	}
	for _, q := range want.Routers {
		if _, err := router.Generate(q); err != nil {
			w.Fatalf("router: %v", err)
		}
	}
	for _, s := range want.DHCP {
		if _, err := dhcp.Render(dhcp.Place{Dir: "/d", User: "nobody"}, s); err != nil {
			w.Fatalf("DHCP: %v", err)
		}
	}
	w.auditAddresses(r)
}

// auditAddresses checks that each address is one port's alone, and in its subnet.
func (w *walker) auditAddresses(r neutron.Records) {
	cidrs := map[string]netip.Prefix{}
	for _, s := range r.Subnets {
		cidrs[s.ID] = s.CIDR
	}
	seen := map[string]string{}
	for _, p := range r.Ports {
		for _, ip := range p.FixedIPs {
			key := p.NetworkID + " " + ip.Address.String()
			if seen[key] != "" || !cidrs[ip.SubnetID].Contains(ip.Address) {
				w.Fatalf("%s is that of %s and %s, in %s", ip.Address, seen[key], p.ID, cidrs[ip.SubnetID])
			}
			seen[key] = p.ID
		}
	}
}

// TestNetworkServiceWalk does whatever users may do, in any order: each command succeeds or is refused with a reason that has a class, and
// after each the host can have all that is recorded.
func TestNetworkServiceWalk(t *testing.T) {
	const walks, steps = 60, 80
	done := map[string]int{}
	for seed := range uint64(walks) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			n := newNetworks(t)
			w := &walker{T: t, dice: rand.New(rand.NewPCG(seed, 1)), store: n.store, done: done}
			w.n = compute.NewNetworkService(compute.NetworkOptions{Store: n.store, Random: w.dice.Uint64N, Provider: neutron.Provider{
				Default: network.VXLAN, Physical: map[string]int{"physnet1": 0}, VNIs: neutron.Numbers{First: 1, Last: 9},
				VLANs: map[string]neutron.Numbers{"physnet1": {First: 1, Last: 9}},
			}})
			n.NetworkService = w.n
			w.begin(n)
			for range steps {
				w.step()
				w.audit()
			}
		})
	}
	t.Logf("%d walks of %d steps; commands that were carried out: %v", walks, steps, done)
	for _, step := range (&walker{}).steps(neutron.Records{}) {
		if done[step.name] == 0 {
			t.Errorf("%s never succeeded", step.name)
		}
	}
}

// begin makes a router between the inside and the outside, so that there is something to change.
func (w *walker) begin(n *networks) {
	r := n.router(n.outside().ID)
	inside, s := n.network("inside", "10.0.0.0/24", "2001:db8::/64")
	_, err := n.AddInterface(w.Context(), r.ID, s[0].ID, "")
	n.must(err)
	n.port(neutron.Port{NetworkID: inside.ID, AdminUp: true})
}
