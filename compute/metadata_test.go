package compute_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"compute-agent/compute"
	"compute-agent/network/metadata"
	"compute-agent/neutron"
	"compute-agent/virt"
)

// attach gives a server an interface on the network of networks.seed, with a floating IP.
func (w *world) attach(serverID string) neutron.Port {
	w.t.Helper()
	n := &networks{t: w.t, store: w.agent.store, NetworkService: compute.NewNetworkService(compute.NetworkOptions{Store: w.agent.store, Random: sameDice()})}
	n.seed()
	var p neutron.Port
	n.update(func(tx compute.Writer) (err error) {
		want := on("n")
		want.ServerID, want.ProjectID, want.Tag, want.FixedIP = serverID, "p", "inside", netip.MustParseAddr("10.0.0.7")
		if p, err = n.Allocate(tx, want); err != nil {
			return err
		}
		return errors.Join(
			tx.PutNetwork(neutron.Network{ID: "outside", External: true, AdminUp: true, Zone: 2}),
			tx.PutPort(neutron.Port{ID: "floating", NetworkID: "outside", MAC: "fa:16:3e:00:00:09", DeviceOwner: neutron.OwnerFloatingIP}),
			tx.PutFloatingIP(neutron.FloatingIP{ID: "f", NetworkID: "outside", OwnPort: "floating", PortID: p.ID,
				Address: netip.MustParseAddr("203.0.113.9"), Fixed: want.FixedIP}))
	})
	return p
}

// told is what a guest reads of one of its documents.
func (w *world) told(who metadata.Asker, file string, into any) metadata.Documents {
	w.t.Helper()
	docs, err := w.Documents(w.t.Context(), who)
	w.must(err)
	w.must(json.Unmarshal(docs.Files[file], into))
	return docs
}

func TestGuestIsTold(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	later := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	w := started(t, func(o *compute.Options) {
		o.Clock = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	req := request()
	req.AdminPassword, req.Metadata = "correct-horse-battery", map[string]string{"role": "web"}
	s, err := w.CreateServer(t.Context(), req)
	w.must(err)
	w.await(s.ID)
	port := w.attach(s.ID)
	who := metadata.Asker{Namespace: "qdhcp-n", Addr: port.FixedIPs[0].Address, Port: port.ID}

	var ec2 struct {
		Local  string   `json:"local-ipv4"`
		Public string   `json:"public-ipv4"`
		Groups []string `json:"security-groups"`
	}
	w.told(who, "ec2/latest/meta-data.json", &ec2)
	if ec2.Local != "10.0.0.7" || ec2.Public != "203.0.113.9" || !slices.Equal(ec2.Groups, []string{"default"}) {
		t.Errorf("EC2's: %+v", ec2)
	}
	var net struct {
		Links    []map[string]any `json:"links"`
		Networks []map[string]any `json:"networks"`
	}
	w.told(who, "openstack/latest/network_data.json", &net)
	if len(net.Links) != 1 || net.Links[0]["id"] != "tap"+port.ID[:11] || net.Links[0]["type"] != "tap" || net.Links[0]["ethernet_mac_address"] != port.MAC ||
		len(net.Networks) != 1 || net.Networks[0]["type"] != "ipv4_dhcp" {
		t.Errorf("networks: %+v", net)
	}

	type document struct {
		UUID    string            `json:"uuid"`
		Pass    string            `json:"admin_pass"`
		Meta    map[string]string `json:"meta"`
		Seed    []byte            `json:"random_seed"`
		Devices []struct {
			Tags []string `json:"tags"`
			Bus  string   `json:"bus"`
		} `json:"devices"`
	}
	read := func() (d document) {
		t.Helper()
		w.told(who, "openstack/latest/meta_data.json", &d)
		return d
	}
	first := read()
	if first.UUID != s.ID || first.Pass != "" || first.Meta["role"] != "web" || len(first.Seed) != 512 ||
		len(first.Devices) != 1 || first.Devices[0].Tags[0] != "inside" || first.Devices[0].Bus != "pci" {
		t.Errorf("told %+v", first)
	}
	if again := read(); string(again.Seed) != string(first.Seed) {
		t.Error("the documents were made again at once")
	}
	later(time.Second)
	_, err = w.UpdateServer(t.Context(), s.ID, compute.ServerChange{Metadata: func(m map[string]string) error { m["role"] = "db"; return nil }})
	w.must(err)
	changed := read()
	if changed.Meta["role"] != "db" {
		t.Error("a change of the server does not show")
	}
	later(15 * time.Second)
	if old := read(); string(old.Seed) == string(changed.Seed) {
		t.Error("a seed is given for ever")
	}
}

func TestGuestPassword(t *testing.T) {
	w := started(t, nil)
	s, err := w.CreateServer(t.Context(), request())
	w.must(err)
	w.await(s.ID)
	who := metadata.Asker{Port: w.attach(s.ID).ID}
	var none any
	if docs := w.told(who, "openstack/latest/meta_data.json", &none); docs.Password != "" {
		t.Errorf("a password before there is one: %q", docs.Password)
	}
	w.must(w.KeepPassword(t.Context(), who, "encrypted"))
	if err := w.KeepPassword(t.Context(), who, "another"); !errors.Is(err, metadata.ErrPasswordSet) {
		t.Errorf("a second password: %v", err)
	}
	if docs := w.told(who, "openstack/latest/meta_data.json", &none); docs.Password != "encrypted" {
		t.Errorf("kept %q", docs.Password)
	}
	if s, err = w.Server(t.Context(), s.ID); s.GuestPassword != "encrypted" {
		t.Errorf("stored %q, %v", s.GuestPassword, err)
	}
	for _, port := range []string{"nothing", "floating"} {
		who := metadata.Asker{Port: port}
		if _, err := w.Documents(t.Context(), who); !errors.Is(err, metadata.ErrNotFound) {
			t.Errorf("documents of port %s: %v", port, err)
		}
		if err := w.KeepPassword(t.Context(), who, "x"); !errors.Is(err, metadata.ErrNotFound) {
			t.Errorf("a password by port %s: %v", port, err)
		}
	}
}

// TestFilesAreMadeWithInterfaces has a server get a port while its files are made: the next attempt has it.
func TestFilesAreMadeWithInterfaces(t *testing.T) {
	w := newWorld(t)
	disks := &lateDisks{}
	w.options = func(o *compute.Options) { disks.Disks, o.Disks = o.Disks, disks }
	var port neutron.Port
	disks.first = func(s compute.Server) { port = w.attach(s.ID) }
	w.boot(nil)
	if s := w.create(); s.VM != compute.Active {
		t.Fatalf("%s", s.VM)
	}
	if len(disks.told) != 2 || len(disks.told[0].Interfaces) != 0 || len(disks.told[1].Interfaces) != 1 {
		t.Fatalf("%+v", disks.told)
	}
	nic := disks.told[1].Interfaces[0]
	if nic.ID != port.ID || nic.MTU != 1450 || !slices.Equal(nic.Subnets[0].Addresses, []netip.Addr{port.FixedIPs[0].Address}) {
		t.Errorf("%+v", nic)
	}
}

// lateDisks are busy the first time.
type lateDisks struct {
	compute.Disks
	first func(compute.Server)
	told  []compute.Attached
}

func (d *lateDisks) Make(ctx context.Context, s compute.Server, on compute.Attached, secret compute.Secrets) error {
	if d.told = append(d.told, on); len(d.told) == 1 {
		d.first(s)
		return virt.ErrBusy
	}
	return d.Disks.Make(ctx, s, on, secret)
}
