package compute_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/network/fabric"
	"compute-agent/neutron"
	"compute-agent/virt/fake"
)

// wires are the networks of a host that outlives its agents: what was applied last.
type wires struct {
	mu    sync.Mutex
	ports map[string]bool
}

func (w *wires) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.ports))
}

// mortalFabric is a Fabric that remembers what it applied. One that fails has done nothing for any port.
type mortalFabric struct {
	*wires
	fate *fate
}

func (f *mortalFabric) Resync() {}

func (f *mortalFabric) Apply(_ context.Context, want fabric.State) error {
	err := f.fate.around("applying the networks", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ports = map[string]bool{}
		for _, p := range want.Ports {
			f.ports[p.ID] = true
		}
		return nil
	})
	if err == nil {
		return nil
	}
	errs := []error{err}
	for _, p := range want.Ports {
		errs = append(errs, &fabric.PortError{Port: p.ID, Err: err})
	}
	return errors.Join(errs...)
}

// The network that servers of worlds with networks can be on, and a port that is there before them.
const (
	networkID = "11111111-1111-4111-8111-111111111111"
	subnetID  = "22222222-2222-4222-8222-222222222222"
	portID    = "33333333-3333-4333-8333-333333333333"
)

// connect gives an agent networks.
func (w *world) connect(opt *compute.Options, f *fate) {
	var fabric compute.Fabric = &mortalFabric{&w.wires, f}
	if w.fabric != nil {
		fabric = w.fabric
	}
	w.hostNetwork = compute.NewHostNetwork(opt.Store, fabric, neutron.Site{}, nil)
	opt.HostNetwork = w.hostNetwork
	opt.Networks = compute.NewNetworkService(compute.NetworkOptions{Store: opt.Store, Changed: w.hostNetwork.SyncSoon})
	w.networks = opt.Networks
}

// lay makes the network and the port, once.
func (w *world) lay() {
	w.t.Helper()
	w.must(w.agent.store.Update(context.Background(), func(tx compute.Writer) error {
		if _, err := tx.Network(networkID); !errors.Is(err, compute.ErrNotFound) {
			return err
		}
		return errors.Join(
			tx.PutNetwork(neutron.Network{ID: networkID, ProjectID: "project", Name: "net", AdminUp: true, PortSecurity: true, MTU: 1500, Type: "local"}),
			tx.PutSubnet(neutron.Subnet{ID: subnetID, NetworkID: networkID, ProjectID: "project", CIDR: netip.MustParsePrefix("10.0.0.0/24"),
				Pools: []neutron.Range{{First: netip.MustParseAddr("10.0.0.10"), Last: netip.MustParseAddr("10.0.0.19")}}}),
			tx.PutPort(neutron.Port{ID: portID, NetworkID: networkID, ProjectID: "project", AdminUp: true, MAC: "fa:16:3e:00:00:01", Status: neutron.StatusDown,
				FixedIPs: []neutron.FixedIP{{SubnetID: subnetID, Address: netip.MustParseAddr("10.0.0.5")}}}),
		)
	}))
}

// connected asks for a server with an interface that is made for it, and the port.
func connected() compute.CreateRequest {
	r := request()
	r.Networks = []compute.RequestedNetwork{{NetworkID: networkID}, {PortID: portID}}
	return r
}

// ports reads the store past the agent's fate.
func (w *world) ports() (all []neutron.Port) {
	w.t.Helper()
	w.must(w.agent.store.View(context.Background(), func(tx compute.Reader) (err error) {
		all, err = tx.Ports()
		return err
	}))
	return all
}

// auditPorts compares the records of ports with servers and host: the port that was there is still there, nobody has a port of a server
// that is not there, and the host is ready for those that servers have and for no others.
func (w *world) auditPorts() {
	w.t.Helper()
	if !w.connects {
		return
	}
	w.must(w.hostNetwork.Sync(context.Background()))
	owners := map[string]bool{}
	for _, s := range w.servers() {
		owners[s.ID] = !s.Launched.IsZero()
	}
	var bound []string
	kept := false
	for _, p := range w.ports() {
		kept = kept || p.ID == portID
		if p.DeviceID == "" {
			if p.ID != portID || p.Status != neutron.StatusDown || p.VIFType != "" {
				w.t.Errorf("nobody has port %+v", p)
			}
			continue
		}
		if !owners[p.DeviceID] || p.Status != neutron.StatusActive {
			w.t.Errorf("the server of port %+v is gone, or was never built", p)
		}
		bound = append(bound, p.ID)
	}
	if !kept {
		w.t.Error("the port that was there before the server is gone")
	}
	slices.Sort(bound)
	if diff := cmp.Diff(bound, w.wires.list()); diff != "" {
		w.t.Errorf("the host is not ready for the ports of servers (-records +host)\n%s", diff)
	}
	for id, built := range owners {
		if built {
			w.auditNICs(id)
		}
	}
}

// auditNICs compares a guest's interfaces with its server's ports.
func (w *world) auditNICs(serverID string) {
	w.t.Helper()
	spec, err := w.hv.Spec(serverID)
	if err != nil {
		return // there is no guest now
	}
	var has, wants []string
	for _, n := range spec.NICs {
		has = append(has, n.MAC)
	}
	for _, p := range w.ports() {
		if p.DeviceID == serverID {
			wants = append(wants, p.MAC)
		}
	}
	slices.Sort(has)
	slices.Sort(wants)
	if diff := cmp.Diff(wants, has); diff != "" {
		w.t.Errorf("the guest's interfaces are not the server's ports (-ports +guest)\n%s", diff)
	}
}

func withNetworks(t *testing.T) *world {
	w := newWorld(t)
	w.connects = true
	w.boot(nil)
	return w
}

func TestServerGetsItsPortsAndGivesThemBack(t *testing.T) {
	w := withNetworks(t)
	s, err := w.CreateServer(t.Context(), connected())
	w.must(err)
	if s = w.await(s.ID); s.VM != compute.Active {
		t.Fatalf("server %+v", s)
	}
	w.audit()
	spec, err := w.hv.Spec(s.ID)
	w.must(err)
	if len(spec.NICs) != 2 || spec.NICs[1].MAC != "fa:16:3e:00:00:01" || spec.NICs[1].Target != "tap33333333-33" || !spec.NICs[1].Attach.Existing {
		t.Errorf("NICs %+v", spec.NICs)
	}
	w.must(w.DeleteServer(t.Context(), s.ID))
	w.waitAll()
	w.audit()
	if ports := w.ports(); len(ports) != 1 || len(w.wires.list()) > 0 {
		t.Errorf("left are the ports %+v and on the host %q", ports, w.wires.list())
	}
}

// The taps of a guest whose NICs have several queues have as many.
func TestQueues(t *testing.T) {
	w := newWorld(t)
	w.connects, w.host = true, fake.Options{VirtType: "kvm"}
	w.extra = map[string]string{"hw:vif_multiqueue_enabled": "true"}
	w.vcpus = 4
	w.boot(nil)
	s, err := w.CreateServer(t.Context(), connected())
	w.must(err)
	w.await(s.ID)
	w.must(w.hostNetwork.Sync(t.Context()))
	spec, err := w.hv.Spec(s.ID)
	w.must(err)
	if len(spec.NICs) != 2 || spec.NICs[0].Queues != 4 {
		t.Fatalf("NICs %+v", spec.NICs)
	}
	for _, p := range w.ports() {
		if p.Queues != 4 {
			t.Errorf("port %+v has not the queues of its NIC", p)
		}
	}
	w.must(w.DeleteServer(t.Context(), s.ID))
	w.waitAll()
	if p := w.ports()[0]; p.Queues != 0 {
		t.Errorf("port %+v of nobody has queues", p)
	}
}

func TestServerWithPortsThatCannotBe(t *testing.T) {
	w := withNetworks(t)
	for name, c := range map[string]struct {
		networks []compute.RequestedNetwork
		groups   []string
		kind     error
	}{
		"no such network":       {networks: []compute.RequestedNetwork{{NetworkID: subnetID}}, kind: compute.ErrInvalid},
		"no such port":          {networks: []compute.RequestedNetwork{{PortID: subnetID}}, kind: compute.ErrInvalid},
		"a port twice":          {networks: []compute.RequestedNetwork{{PortID: portID}, {PortID: portID}}, kind: compute.ErrConflict},
		"no such group":         {networks: []compute.RequestedNetwork{{NetworkID: networkID}}, groups: []string{"nobody"}, kind: compute.ErrInvalid},
		"an address of another": {networks: []compute.RequestedNetwork{{NetworkID: networkID, FixedIP: netip.MustParseAddr("10.0.0.5")}}, kind: compute.ErrConflict},
		"an address elsewhere":  {networks: []compute.RequestedNetwork{{NetworkID: networkID, FixedIP: netip.MustParseAddr("10.0.1.5")}}, kind: compute.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			r := request()
			r.Networks, r.SecurityGroups = c.networks, c.groups
			if _, err := w.CreateServer(t.Context(), r); !errors.Is(err, c.kind) {
				t.Errorf("error %v, want %v", err, c.kind)
			}
			if len(w.servers()) > 0 || len(w.ports()) != 1 || len(w.claims()) > 0 {
				t.Errorf("something was stored: servers %v, ports %+v", w.servers(), w.ports())
			}
		})
	}
}

func TestPortThatDoesNotWorkFailsTheServer(t *testing.T) {
	w := newWorld(t)
	w.connects = true
	w.fabric = &brokenFabric{}
	w.boot(nil)
	s, err := w.CreateServer(t.Context(), connected())
	w.must(err)
	if s = w.await(s.ID); s.VM != compute.Error || s.Fault == nil {
		t.Fatalf("server %+v; want an error", s)
	}
	if ports := w.ports(); len(ports) != 1 || ports[0].DeviceID != "" {
		t.Errorf("ports are left: %+v", ports)
	}
}

// brokenFabric can load no filter.
type brokenFabric struct{}

func (*brokenFabric) Resync() {}

func (*brokenFabric) Apply(_ context.Context, want fabric.State) error {
	var errs []error
	for _, p := range want.Ports {
		errs = append(errs, &fabric.PortError{Port: p.ID, Err: errBroken})
	}
	return errors.Join(errs...)
}
