package compute_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/compute"
	"compute-agent/neutron"
	"compute-agent/store"
)

// networks is a network service with its store.
type networks struct {
	*compute.NetworkService
	t       *testing.T
	store   *store.Store
	changes int // how often the host was to be changed
	now     time.Time
}

func newNetworks(t *testing.T, quotas ...neutron.Quotas) *networks {
	t.Helper()
	st, err := store.Open(filepath.Join(scratch(t), "agent.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &networks{t: t, store: st, now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	opt := compute.NetworkOptions{Store: st, Changed: func() { n.changes++ }, Clock: func() time.Time { return n.now }, Random: sameDice()}
	if len(quotas) > 0 {
		opt.Quotas = &quotas[0]
	}
	n.NetworkService = compute.NewNetworkService(opt)
	return n
}

// sameDice chooses alike in each run, or at times it would choose an address that a test wants to ask for.
func sameDice() func(uint64) uint64 { return rand.New(rand.NewPCG(1, 2)).Uint64N }

func (n *networks) update(fn func(compute.Writer) error) {
	n.t.Helper()
	if err := n.store.Update(context.Background(), fn); err != nil {
		n.t.Fatal(err)
	}
}

// seed puts a network with a subnet into the store: "n" of project "p", with 10.0.0.0/24.
func (n *networks) seed(change ...func(*neutron.Network)) {
	n.t.Helper()
	network := neutron.Network{ID: "n", ProjectID: "p", AdminUp: true, PortSecurity: true, MTU: 1450, Type: "vxlan", Segment: 1, Zone: 1}
	for _, c := range change {
		c(&network)
	}
	n.update(func(tx compute.Writer) error {
		return errors.Join(tx.PutNetwork(network), tx.PutSubnet(neutron.Subnet{ID: "s-" + network.ID, NetworkID: network.ID, ProjectID: network.ProjectID,
			CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"), DHCP: true,
			Pools: []neutron.Range{{First: netip.MustParseAddr("10.0.0.2"), Last: netip.MustParseAddr("10.0.0.254")}}}))
	})
}

// allocate gives server "vm" of project "p" what is wanted.
func (n *networks) allocate(want compute.PortFor) (p neutron.Port, err error) {
	want.ServerID, want.ProjectID = "vm", "p"
	err = n.store.Update(context.Background(), func(tx compute.Writer) error {
		p, err = n.Allocate(tx, want)
		return err
	})
	return p, err
}

func on(network string) compute.PortFor {
	return compute.PortFor{RequestedNetwork: compute.RequestedNetwork{NetworkID: network}}
}

func taking(port string) compute.PortFor {
	return compute.PortFor{RequestedNetwork: compute.RequestedNetwork{PortID: port}}
}

func (n *networks) portsOf(device string) (ports []neutron.Port) {
	n.t.Helper()
	if err := n.store.View(context.Background(), func(r compute.Reader) (err error) { ports, err = r.PortsOf(device); return err }); err != nil {
		n.t.Fatal(err)
	}
	return ports
}

func TestAllocateMakesAPort(t *testing.T) {
	n := newNetworks(t)
	n.seed()
	want := on("n")
	want.Tag, want.Index, want.HostName, want.FixedIP = "nic1", 2, "web-1", netip.MustParseAddr("10.0.0.77")
	p, err := n.allocate(want)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(p.MAC, "fa:16:3e:") || p.FixedIPs[0] != (neutron.FixedIP{SubnetID: "s-n", Address: want.FixedIP}) || len(p.SecurityGroups) != 1 ||
		!p.Made || !p.PortSecurity || p.DeviceID != "vm" || p.DeviceOwner != "compute:nova" || p.VIFType != "tap" || p.Tag != "nic1" || p.Index != 2 ||
		p.DNSName != "web-1" || p.Status != neutron.StatusBuild || p.Revision != 1 || !p.Created.Equal(n.now) || p.ProjectID != "p" {
		t.Errorf("%+v", p)
	}
	n.update(func(tx compute.Writer) error {
		g, err := tx.SecurityGroup(p.SecurityGroups[0])
		if g.Name != "default" || g.ProjectID != "p" || len(g.Rules) != 4 {
			t.Errorf("%+v", g)
		}
		return err
	})
	if got := n.portsOf("vm"); len(got) != 1 || got[0].ID != p.ID {
		t.Errorf("%+v", got)
	}
	n.update(func(tx compute.Writer) error { return n.Release(tx, "vm") })
	if got := n.portsOf("vm"); len(got) != 0 {
		t.Errorf("after the release: %+v", got)
	}
}

func TestAllocateTakesAPort(t *testing.T) {
	n := newNetworks(t)
	n.seed()
	before := neutron.Port{ID: "port", NetworkID: "n", ProjectID: "p", MAC: "fa:16:3e:00:00:01", AdminUp: true, Revision: 4, Status: neutron.StatusDown,
		FixedIPs: []neutron.FixedIP{{SubnetID: "s-n", Address: netip.MustParseAddr("10.0.0.9")}}}
	n.update(func(tx compute.Writer) error { return tx.PutPort(before) })
	want := taking("port")
	want.Tag, want.HostName = "nic", "not a label"
	p, err := n.allocate(want)
	if err != nil {
		t.Fatal(err)
	}
	if p.DeviceID != "vm" || p.Made || p.MAC != before.MAC || !slices.Equal(p.FixedIPs, before.FixedIPs) || p.SecurityGroups != nil || p.Revision != 5 ||
		p.DNSName != "" || p.Tag != "nic" || p.VIFType != "tap" {
		t.Errorf("%+v", p)
	}
	if _, err := n.allocate(taking("port")); !errors.Is(err, compute.ErrConflict) {
		t.Errorf("taken again: %v", err)
	}
	n.update(func(tx compute.Writer) error { return n.Release(tx, "vm") })
	n.update(func(tx compute.Writer) error {
		p, err := tx.Port("port")
		if p.DeviceID != "" || p.DeviceOwner != "" || p.VIFType != "" || p.Tag != "" || p.Status != neutron.StatusDown || p.Revision != 6 {
			t.Errorf("after the release: %+v", p)
		}
		return err
	})
}

// A floating IP leads nowhere when the port that it led to goes with its server.
func TestReleaseDisassociatesFloatingIPs(t *testing.T) {
	n := newNetworks(t)
	n.seed()
	n.seed(func(net *neutron.Network) { net.ID, net.Zone, net.External = "ext", 2, true })
	p, err := n.allocate(on("n"))
	if err != nil {
		t.Fatal(err)
	}
	n.update(func(tx compute.Writer) error {
		return errors.Join(
			tx.PutRouter(neutron.Router{ID: "r", ProjectID: "p"}),
			tx.PutPort(neutron.Port{ID: "own", NetworkID: "ext", MAC: "fa:16:3e:00:00:01"}),
			tx.PutFloatingIP(neutron.FloatingIP{ID: "f", ProjectID: "p", NetworkID: "ext", OwnPort: "own", PortID: p.ID, RouterID: "r",
				Fixed: p.FixedIPs[0].Address, Revision: 1}))
	})
	n.update(func(tx compute.Writer) error { return n.Release(tx, "vm") })
	n.update(func(tx compute.Writer) error {
		f, err := tx.FloatingIP("f")
		if f.PortID != "" || f.RouterID != "" || f.Fixed.IsValid() || f.Revision != 2 {
			t.Errorf("%+v", f)
		}
		return err
	})
}

func TestAllocateRefuses(t *testing.T) {
	n := newNetworks(t, neutron.Quotas{Ports: 2, SecurityGroups: -1})
	n.seed()
	n.seed(func(net *neutron.Network) { net.ID, net.ProjectID, net.Zone = "others", "q", 2 })
	n.seed(func(net *neutron.Network) { net.ID, net.ProjectID, net.Zone, net.External = "outside", "q", 3, true })
	n.seed(func(net *neutron.Network) { net.ID, net.ProjectID, net.Zone, net.Shared = "shared", "q", 4, true })
	n.update(func(tx compute.Writer) error {
		put := func(id string, change func(*neutron.Port)) error {
			p := neutron.Port{ID: id, NetworkID: "n", ProjectID: "q", MAC: fmt.Sprintf("fa:16:3e:00:00:%02x", len(id))}
			change(&p)
			return tx.PutPort(p)
		}
		return errors.Join(
			put("of-another", func(*neutron.Port) {}),
			put("of-a-router", func(p *neutron.Port) { p.DeviceOwner, p.MAC = neutron.OwnerInterface, "fa:16:3e:01:00:01" }),
			put("direct", func(p *neutron.Port) { p.VNICType, p.ProjectID = "direct", "p" }))
	})
	fixed := func(ip string) compute.PortFor { w := on("n"); w.FixedIP = netip.MustParseAddr(ip); return w }
	for what, try := range map[string]struct {
		want  compute.PortFor
		kind  error
		words string
	}{
		"no network":     {on("none"), compute.ErrInvalid, "networks: network none could not be found"},
		"another's":      {on("others"), compute.ErrInvalid, "network others could not be found"},
		"outside":        {on("outside"), compute.ErrForbidden, "external network outside"},
		"no port":        {taking("none"), compute.ErrInvalid, "port none could not be found"},
		"another's port": {taking("of-another"), compute.ErrInvalid, "port of-another could not be found"},
		"no such VNIC":   {taking("direct"), compute.ErrConflict, `binding:vnic_type="direct"`},
		"elsewhere":      {fixed("10.0.1.1"), compute.ErrInvalid, `fixed_ips="10.0.1.1": it is in no subnet`},
		"the gateway":    {fixed("10.0.0.1"), compute.ErrInvalid, "it is the gateway"},
		"the broadcast":  {fixed("10.0.0.255"), compute.ErrInvalid, "it is the broadcast address"},
		"the first":      {fixed("10.0.0.0"), compute.ErrInvalid, "it is the network's address"},
	} {
		if _, err := n.allocate(try.want); !errors.Is(err, try.kind) || !strings.Contains(fmt.Sprint(err), try.words) {
			t.Errorf("%s: %v, want %q", what, err, try.words)
		}
	}
	if _, err := n.allocate(on("shared")); err != nil {
		t.Error("on a shared network:", err)
	}
	if _, err := n.allocate(on("n")); !errors.Is(err, compute.ErrForbidden) || !strings.Contains(fmt.Sprint(err), "quota exceeded for resources: ['port']: the project has 2 of 2") {
		t.Error("above the quota:", err)
	}
}

func TestAllocateUntilTheSubnetIsFull(t *testing.T) {
	n := newNetworks(t)
	n.seed()
	seen := map[netip.Addr]bool{}
	for i := range 253 {
		p, err := n.allocate(on("n"))
		if err != nil {
			t.Fatal(i, err)
		}
		seen[p.FixedIPs[0].Address] = true
	}
	if len(seen) != 253 || seen[netip.MustParseAddr("10.0.0.1")] {
		t.Errorf("%d addresses", len(seen))
	}
	_, err := n.allocate(on("n"))
	var why *neutron.Error
	if !errors.Is(err, compute.ErrConflict) || !errors.As(err, &why) || why.Class != "IpAddressGenerationFailure" {
		t.Error(err)
	}
}

func TestServerNetworks(t *testing.T) {
	n := newNetworks(t)
	ask := func(how compute.Networking, listed ...compute.RequestedNetwork) (all []compute.RequestedNetwork, err error) {
		err = n.store.View(context.Background(), func(r compute.Reader) error {
			all, err = compute.ServerNetworks(r, "p", how, listed)
			return err
		})
		return all, err
	}
	one := compute.RequestedNetwork{NetworkID: "n"}
	if all, err := ask(compute.NetworksAuto); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
	n.seed()
	n.seed(func(net *neutron.Network) { net.ID, net.ProjectID, net.Zone = "others", "q", 2 })
	n.seed(func(net *neutron.Network) { net.ID, net.External, net.Zone = "outside", true, 3 })
	n.seed(func(net *neutron.Network) { net.ID, net.AdminUp, net.Zone = "down", false, 4 })
	if all, err := ask(compute.NetworksAuto); err != nil || !slices.Equal(all, []compute.RequestedNetwork{one}) {
		t.Error(all, err)
	}
	n.seed(func(net *neutron.Network) { net.ID, net.ProjectID, net.Shared, net.Zone = "shared", "q", true, 5 })
	if _, err := ask(compute.NetworksAuto); !errors.Is(err, compute.ErrConflict) {
		t.Error(err)
	}
	if all, err := ask(compute.NetworksListed, one, one); err != nil || len(all) != 2 {
		t.Error(all, err)
	}
	if all, err := ask(compute.NetworksNone); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
}

func TestServerGroups(t *testing.T) {
	n := newNetworks(t)
	n.update(func(tx compute.Writer) error {
		put := func(id, project, name string) error {
			return tx.PutSecurityGroup(neutron.SecurityGroup{ID: id, ProjectID: project, Name: name})
		}
		return errors.Join(put("1", "p", "web"), put("2", "p", "twice"), put("3", "p", "twice"), put("4", "q", "others"))
	})
	ask := func(names ...string) (ids []string, err error) {
		err = n.store.Update(context.Background(), func(tx compute.Writer) error {
			ids, err = n.ServerGroups(tx, "p", names)
			return err
		})
		return ids, err
	}
	if ids, err := ask(); err != nil || ids != nil {
		t.Error(ids, err)
	}
	if ids, err := ask("web", "3", "1"); err != nil || !slices.Equal(ids, []string{"1", "3"}) {
		t.Error(ids, err)
	}
	if ids, err := ask("default"); err != nil || len(ids) != 1 {
		t.Error(ids, err)
	}
	if _, err := ask("twice"); !errors.Is(err, compute.ErrConflict) {
		t.Error(err)
	}
	for _, name := range []string{"others", "4", "none"} {
		if _, err := ask(name); !errors.Is(err, compute.ErrInvalid) || !strings.Contains(err.Error(), "security_groups") {
			t.Error(name, err)
		}
	}
}

// A macvtap has no filter and no bridge: its port has port security off, and its network no ports that need one.
func TestMacvtaps(t *testing.T) {
	n := newNetworks(t)
	n.seed(func(net *neutron.Network) { net.Type, net.Physical = "flat", "physnet1" })
	n.seed(func(net *neutron.Network) { net.ID, net.Type, net.Zone = "tunnel", "vxlan", 2 })
	put := func(id, network string, change func(*neutron.Port)) {
		p := neutron.Port{ID: id, NetworkID: network, ProjectID: "p", MAC: "fa:16:3e:00:00:" + id, VNICType: "macvtap"}
		change(&p)
		n.update(func(tx compute.Writer) error { return tx.PutPort(p) })
	}
	put("01", "n", func(*neutron.Port) {})
	put("02", "n", func(p *neutron.Port) { p.PortSecurity = true })
	put("03", "tunnel", func(*neutron.Port) {})
	put("04", "n", func(*neutron.Port) {})
	for port, words := range map[string]string{"02": "port security must be off", "03": "needs a flat or vlan network"} {
		_, err := n.allocate(taking(port))
		n.refuses(port, err, compute.ErrConflict, "PortBindingError", words)
	}
	p, err := n.allocate(taking("01"))
	if err != nil || p.VIFType != "macvtap" {
		t.Fatalf("%+v, %v", p, err)
	}
	_, err = n.allocate(on("n"))
	n.refuses("a tap besides", err, compute.ErrConflict, "PortBindingError", "port 01 of network n is a macvtap")
	_, err = n.UpdatePort(t.Context(), "01", func(p *neutron.Port) error { p.PortSecurity = true; return nil })
	n.refuses("with a filter", err, compute.ErrConflict, "PortBound", "cannot be filtered")
	n.update(func(tx compute.Writer) error { return n.Release(tx, "vm") })
	if _, err = n.allocate(on("n")); err != nil {
		t.Fatal(err)
	}
	_, err = n.allocate(taking("04"))
	n.refuses("besides a tap", err, compute.ErrConflict, "PortBindingError", "macvtaps and a bridge cannot share an interface")
}

// The interface of one more server, with its address, on a network that has 1,000, and given back: two transactions.
func BenchmarkInterfaceOf1000(b *testing.B) {
	st, err := store.Open(filepath.Join(b.TempDir(), "agent.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	n := compute.NewNetworkService(compute.NetworkOptions{Store: st, Quotas: &neutron.Quotas{Ports: -1}})
	allocate := func(server string) {
		err := st.Update(context.Background(), func(tx compute.Writer) error {
			_, err := n.Allocate(tx, compute.PortFor{ServerID: server, ProjectID: "p", RequestedNetwork: compute.RequestedNetwork{NetworkID: "n"}})
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	err = st.Update(context.Background(), func(tx compute.Writer) error {
		return errors.Join(tx.PutNetwork(neutron.Network{ID: "n", ProjectID: "p", AdminUp: true, PortSecurity: true, Type: "vlan", Zone: 1}),
			tx.PutSubnet(neutron.Subnet{ID: "s", NetworkID: "n", CIDR: netip.MustParsePrefix("10.0.0.0/16"),
				Pools: []neutron.Range{{First: netip.MustParseAddr("10.0.0.2"), Last: netip.MustParseAddr("10.0.255.254")}}}))
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		allocate(fmt.Sprint("vm", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		allocate("more")
		if err := st.Update(context.Background(), func(tx compute.Writer) error { return n.Release(tx, "more") }); err != nil {
			b.Fatal(err)
		}
	}
}
