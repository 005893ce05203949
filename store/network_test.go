package store_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"

	"compute-agent/compute"
	"compute-agent/neutron"
)

func fullNetwork(id string) neutron.Network {
	return neutron.Network{ID: id, ProjectID: "p", Name: "net ü", Description: "d", AdminUp: true, Shared: true, External: true, PortSecurity: true,
		MTU: 1450, Type: "vxlan", Physical: "physnet1", Segment: 7, DNSDomain: "example.org.", Default: true, Zone: 65535,
		Tags: []string{"a"}, Revision: 2, Created: noon, Updated: noon.Add(1)}
}

func fullSubnet(id, network string) neutron.Subnet {
	return neutron.Subnet{ID: id, NetworkID: network, ProjectID: "p", Name: "sub", Description: "d", CIDR: netip.MustParsePrefix("2001:db8::/64"),
		Gateway: netip.MustParseAddr("2001:db8::1"), Pools: []neutron.Range{{First: netip.MustParseAddr("2001:db8::2"), Last: netip.MustParseAddr("2001:db8::ff")}},
		DNS:    []netip.Addr{netip.MustParseAddr("2001:db8::53")},
		Routes: []neutron.Route{{To: netip.MustParsePrefix("2001:db8:1::/48"), Via: netip.MustParseAddr("2001:db8::9")}}, DHCP: true,
		AddressMode: neutron.SLAAC, RAMode: neutron.Stateless, ServiceTypes: []string{"compute:nova"}, Tags: []string{"a"}, Revision: 2,
		Created: noon, Updated: noon.Add(1)}
}

func fullPort(id, network, subnet, group string) neutron.Port {
	return neutron.Port{ID: id, NetworkID: network, ProjectID: "p", Name: "port", Description: "d", AdminUp: true, MAC: "fa:16:3e:00:00:01",
		FixedIPs:     []neutron.FixedIP{{SubnetID: subnet, Address: netip.MustParseAddr("2001:db8::5")}},
		AddressPairs: []neutron.AddressPair{{Prefix: netip.MustParsePrefix("10.0.0.0/24"), MAC: "fa:16:3e:00:00:02"}},
		PortSecurity: true, SecurityGroups: []string{group}, DeviceID: "device", DeviceOwner: neutron.OwnerCompute, VNICType: "normal", VIFType: "tap",
		DNSName: "web", ExtraDHCP: []neutron.DHCPOption{{Name: "tftp-server", Value: "10.0.0.1", IPv6: true}}, Made: true, Tag: "nic1", Index: 1, Queues: 2,
		Status: neutron.StatusBuild, Tags: []string{"a"}, Revision: 2, Created: noon, Updated: noon.Add(1)}
}

func fullGroup(id, name string) neutron.SecurityGroup {
	return neutron.SecurityGroup{ID: id, ProjectID: "p", Name: name, Description: "d", Stateless: true, Tags: []string{"a"}, Revision: 2,
		Rules: []neutron.Rule{{ID: "r", Description: "d", Direction: "ingress", Ethertype: "IPv4", Protocol: "icmp", PortMin: new(int), PortMax: new(int),
			Remote: netip.MustParsePrefix("10.0.0.0/8"), RemoteGroup: "other", Revision: 1, Created: noon, Updated: noon.Add(1)}},
		Created: noon, Updated: noon.Add(1)}
}

func fullRouter(id, network, port string) neutron.Router {
	return neutron.Router{ID: id, ProjectID: "p", Name: "router", Description: "d", AdminUp: true, Gateway: network, GatewayPort: port, SNAT: true,
		Routes: []neutron.Route{{To: netip.MustParsePrefix("10.1.0.0/16"), Via: netip.MustParseAddr("10.0.0.7")}}, Tags: []string{"a"}, Revision: 2,
		Created: noon, Updated: noon.Add(1)}
}

func fullFloatingIP(id, network, own, port, router string) neutron.FloatingIP {
	return neutron.FloatingIP{ID: id, ProjectID: "p", Description: "d", NetworkID: network, Address: netip.MustParseAddr("192.0.2.7"), OwnPort: own,
		PortID: port, Fixed: netip.MustParseAddr("10.0.0.5"), RouterID: router, Tags: []string{"a"}, Revision: 2, Created: noon, Updated: noon.Add(1)}
}

// otherPort is a port whose MAC and address are not fullPort's.
func otherPort(id, network, subnet string, n int) neutron.Port {
	p := neutron.Port{ID: id, NetworkID: network, ProjectID: "p", MAC: fmt.Sprintf("fa:16:3e:01:%02x:%02x", n>>8, n&255)}
	if subnet != "" {
		p.FixedIPs = []neutron.FixedIP{{SubnetID: subnet, Address: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})}}
	}
	return p
}

// putNetworks writes one of each record of the network service.
func putNetworks(w compute.Writer) error {
	return errors.Join(
		w.PutNetwork(fullNetwork("n")), w.PutSubnet(fullSubnet("s", "n")),
		w.PutSecurityGroup(fullGroup("g", neutron.DefaultGroup)),
		w.PutPort(fullPort("p", "n", "s", "g")), w.PutPort(otherPort("own", "n", "s", 1)), w.PutPort(otherPort("gw", "n", "s", 2)),
		w.PutRouter(fullRouter("r", "n", "gw")), w.PutFloatingIP(fullFloatingIP("f", "n", "own", "p", "r")))
}

func checkNetworks(t *testing.T, r compute.Reader) {
	t.Helper()
	network, err := r.Network("n")
	want(t, network, err, fullNetwork("n"))
	networks, err := r.Networks()
	want(t, networks, err, []neutron.Network{fullNetwork("n")})
	subnet, err := r.Subnet("s")
	want(t, subnet, err, fullSubnet("s", "n"))
	for _, subnets := range []func() ([]neutron.Subnet, error){r.Subnets, func() ([]neutron.Subnet, error) { return r.SubnetsOf("n") }} {
		all, err := subnets()
		want(t, all, err, []neutron.Subnet{fullSubnet("s", "n")})
	}
	port, err := r.Port("p")
	want(t, port, err, fullPort("p", "n", "s", "g"))
	group, err := r.SecurityGroup("g")
	want(t, group, err, fullGroup("g", neutron.DefaultGroup))
	for _, groups := range []func() ([]neutron.SecurityGroup, error){r.SecurityGroups, func() ([]neutron.SecurityGroup, error) { return r.SecurityGroupsOf("p") }} {
		all, err := groups()
		want(t, all, err, []neutron.SecurityGroup{fullGroup("g", neutron.DefaultGroup)})
	}
	router, err := r.Router("r")
	want(t, router, err, fullRouter("r", "n", "gw"))
	routers, err := r.Routers()
	want(t, routers, err, []neutron.Router{fullRouter("r", "n", "gw")})
	floating, err := r.FloatingIP("f")
	want(t, floating, err, fullFloatingIP("f", "n", "own", "p", "r"))
	for _, floatings := range []func() ([]neutron.FloatingIP, error){r.FloatingIPs, func() ([]neutron.FloatingIP, error) { return r.FloatingIPsOf("p") }} {
		all, err := floatings()
		want(t, all, err, []neutron.FloatingIP{fullFloatingIP("f", "n", "own", "p", "r")})
	}
}

func TestNetworkRecords(t *testing.T) {
	s := open(t)
	update(t, s, putNetworks)
	view(t, s, func(r compute.Reader) error {
		checkNetworks(t, r)
		for what, ask := range map[string]func(string) error{
			"network":        func(id string) error { _, err := r.Network(id); return err },
			"subnet":         func(id string) error { _, err := r.Subnet(id); return err },
			"port":           func(id string) error { _, err := r.Port(id); return err },
			"security group": func(id string) error { _, err := r.SecurityGroup(id); return err },
			"router":         func(id string) error { _, err := r.Router(id); return err },
			"floating IP":    func(id string) error { _, err := r.FloatingIP(id); return err },
		} {
			wantError(t, what, ask("none"), compute.ErrNotFound)
		}
		return nil
	})
}

// Whatever the records get in time is kept, and what says nothing comes back as nothing.
func TestNetworkRecordsKeepEveryField(t *testing.T) {
	for _, set := range []bool{true, false} {
		s := open(t)
		var n neutron.Network
		var g neutron.SecurityGroup
		if set {
			fillRecord(t, &n)
			fillRecord(t, &g)
		}
		n.ID, g.ID = "n", "g"
		update(t, s, func(w compute.Writer) error { return errors.Join(w.PutNetwork(n), w.PutSecurityGroup(g)) })
		view(t, s, func(r compute.Reader) error {
			gotN, err := r.Network("n")
			want(t, gotN, err, n)
			gotG, err := r.SecurityGroup("g")
			want(t, gotG, err, g)
			return nil
		})
	}
}

func fillRecord(t *testing.T, record any) {
	t.Helper()
	v := reflect.ValueOf(record).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() != reflect.Uint16 && f.Type() != reflect.TypeFor[[]neutron.Rule]() {
			fillIn(t, f)
		}
	}
}

func TestPutReplacesNetworkRecords(t *testing.T) {
	s := open(t)
	update(t, s, putNetworks)
	update(t, s, func(w compute.Writer) error {
		return errors.Join(
			w.PutNetwork(neutron.Network{ID: "n", ProjectID: "q"}),
			w.PutPort(neutron.Port{ID: "p", NetworkID: "n", ProjectID: "q", MAC: "fa:16:3e:00:00:09", DeviceID: "other"}),
			w.PutSecurityGroup(neutron.SecurityGroup{ID: "g", ProjectID: "q", Name: "renamed"}),
			w.PutRouter(neutron.Router{ID: "r", ProjectID: "q"}),
			w.PutFloatingIP(neutron.FloatingIP{ID: "f", ProjectID: "q", NetworkID: "n", OwnPort: "own"}))
	})
	update(t, s, func(w compute.Writer) error {
		network, err := w.Network("n")
		want(t, network, err, neutron.Network{ID: "n", ProjectID: "q"})
		ports, err := w.PortsOf("other")
		want(t, ports, err, []neutron.Port{{ID: "p", NetworkID: "n", ProjectID: "q", MAC: "fa:16:3e:00:00:09", DeviceID: "other"}})
		left, err := w.PortsOf("device")
		want(t, left, err, nil)
		group, err := w.SecurityGroup("g")
		want(t, group, err, neutron.SecurityGroup{ID: "g", ProjectID: "q", Name: "renamed"})
		router, err := w.Router("r")
		want(t, router, err, neutron.Router{ID: "r", ProjectID: "q"})
		used, err := w.AddressesUsed("n", neutron.Range{First: netip.MustParseAddr("::"), Last: netip.MustParseAddr("ffff::")})
		want(t, used, err, 2) // the other two ports'
		// Nothing refers to them any more.
		return errors.Join(w.DeleteSecurityGroup("g"), w.DeletePort("gw"), w.DeletePort("p"))
	})
}

func TestNothingInUseIsDeleted(t *testing.T) {
	s := open(t)
	update(t, s, putNetworks)
	tries := []struct {
		what   string
		delete func(compute.Writer) error
	}{
		{"a network with subnets and ports", func(w compute.Writer) error { return w.DeleteNetwork("n") }},
		{"a subnet that a port has an address of", func(w compute.Writer) error { return w.DeleteSubnet("s") }},
		{"a group that a port is in", func(w compute.Writer) error { return w.DeleteSecurityGroup("g") }},
		{"a port that a floating IP leads to", func(w compute.Writer) error { return w.DeletePort("p") }},
		{"a floating IP's own port", func(w compute.Writer) error { return w.DeletePort("own") }},
		{"a router's gateway port", func(w compute.Writer) error { return w.DeletePort("gw") }},
		{"a router of a floating IP", func(w compute.Writer) error { return w.DeleteRouter("r") }},
	}
	for _, try := range tries {
		wantError(t, try.what, s.Update(t.Context(), try.delete), compute.ErrConflict)
	}
	view(t, s, func(r compute.Reader) error { checkNetworks(t, r); return nil })
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.DeleteFloatingIP("f"), w.DeleteRouter("r"), w.DeletePort("p"), w.DeletePort("own"), w.DeletePort("gw"),
			w.DeleteSecurityGroup("g"), w.DeleteSubnet("s"), w.DeleteNetwork("n"), w.DeleteNetwork("n"))
	})
}

func TestWhatIsNotThereCannotBeReferredTo(t *testing.T) {
	s := open(t)
	update(t, s, putNetworks)
	for what, put := range map[string]func(compute.Writer) error{
		"a subnet of no network": func(w compute.Writer) error { return w.PutSubnet(fullSubnet("x", "none")) },
		"a port on no network":   func(w compute.Writer) error { return w.PutPort(otherPort("x", "none", "", 9)) },
		"a port of no subnet":    func(w compute.Writer) error { return w.PutPort(otherPort("x", "n", "none", 9)) },
		"a port in no group": func(w compute.Writer) error {
			p := otherPort("x", "n", "s", 9)
			p.SecurityGroups = []string{"none"}
			return w.PutPort(p)
		},
		"a router with no gateway port": func(w compute.Writer) error { return w.PutRouter(fullRouter("x", "n", "none")) },
		"a floating IP of no port":      func(w compute.Writer) error { return w.PutFloatingIP(fullFloatingIP("x", "n", "gw", "none", "r")) },
	} {
		wantError(t, what, s.Update(t.Context(), put), compute.ErrNotFound)
	}
}

func TestWhatOnlyOneCanHave(t *testing.T) {
	s := open(t)
	update(t, s, putNetworks)
	second := fullPort("x", "n", "s", "g")
	second.FixedIPs = nil
	taken := fullPort("x", "n", "s", "g")
	taken.MAC = "fa:16:3e:00:00:09"
	for field, put := range map[string]func(compute.Writer) error{
		"mac_address": func(w compute.Writer) error { return w.PutPort(second) },
		"fixed_ips":   func(w compute.Writer) error { return w.PutPort(taken) },
		"name":        func(w compute.Writer) error { return w.PutSecurityGroup(fullGroup("x", neutron.DefaultGroup)) },
		"":            func(w compute.Writer) error { return w.PutFloatingIP(fullFloatingIP("x", "n", "own", "p", "r")) },
	} {
		err := s.Update(t.Context(), put)
		var failure *compute.Failure
		if !errors.As(err, &failure) || !errors.Is(err, compute.ErrExists) || failure.Field != field {
			t.Errorf("%q: %v", field, err)
		}
	}
	// Another network may have the same, and another project a default group.
	elsewhere := fullPort("x", "m", "t", "h")
	update(t, s, func(w compute.Writer) error {
		h := fullGroup("h", neutron.DefaultGroup)
		h.ProjectID = "q"
		return errors.Join(w.PutNetwork(fullNetwork("m")), w.PutSubnet(fullSubnet("t", "m")), w.PutSecurityGroup(h), w.PutPort(elsewhere))
	})
}

func TestPortsAreFound(t *testing.T) {
	s := open(t)
	update(t, s, func(w compute.Writer) error {
		err := errors.Join(w.PutNetwork(fullNetwork("n")), w.PutNetwork(fullNetwork("m")), w.PutSubnet(fullSubnet("s", "n")), w.PutSecurityGroup(fullGroup("g", "web")))
		for i, id := range []string{"a", "b", "c", "d"} {
			p := otherPort(id, "n", "s", i+1)
			p.DeviceID, p.Index, p.ProjectID = "server", 9-i, "q"
			if id != "b" {
				p.VIFType = "macvtap"
			}
			if id == "c" {
				p.NetworkID, p.FixedIPs, p.DeviceID = "m", nil, ""
			} else if id != "a" {
				p.SecurityGroups = []string{"g"}
			}
			err = errors.Join(err, w.PutPort(p))
		}
		return err
	})
	ids := func(ports []neutron.Port, err error) string {
		if err != nil {
			t.Error(err)
		}
		var out string
		for _, p := range ports {
			out += p.ID
		}
		return out
	}
	view(t, s, func(r compute.Reader) error {
		for want, got := range map[string]string{
			"abcd": ids(r.Ports()), "dba": ids(r.PortsOf("server")), "abd": ids(r.PortsOn("n")), "c": ids(r.PortsOn("m")), "bd": ids(r.PortsIn("g")), "": ids(r.PortsOf("x")),
			"da": ids(reversed(r.PortsPlugged("n", "macvtap"))),
		} {
			if got != want {
				t.Errorf("ports %q, want %q", got, want)
			}
		}
		for what, count := range map[compute.NetworkResource]int{compute.ResourcePort: 4, compute.ResourceNetwork: 0, compute.ResourceRouter: 0} {
			n, err := r.Owned(what, "q")
			want(t, n, err, count)
		}
		for within, count := range map[string]int{"10.0.0.0 10.0.0.255": 3, "10.0.0.2 10.0.0.4": 2, "10.0.0.3 10.0.0.3": 0, "10.0.1.0 10.0.1.9": 0} {
			var first, last string
			if _, err := fmt.Sscan(within, &first, &last); err != nil {
				t.Fatal(err)
			}
			n, err := r.AddressesUsed("n", neutron.Range{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)})
			want(t, n, err, count)
		}
		return nil
	})
}

// reversed tells a list from that of another question.
func reversed(ports []neutron.Port, err error) ([]neutron.Port, error) {
	slices.Reverse(ports)
	return ports, err
}

// A thousand servers with a port each, as a list of servers with their addresses needs them.
func BenchmarkListPorts1000(b *testing.B) {
	s, _ := openWithMany(b)
	servers := listServers(b, s)
	err := s.Update(b.Context(), func(w compute.Writer) error {
		err := errors.Join(w.PutNetwork(fullNetwork("n")), w.PutSubnet(fullSubnet("s", "n")), w.PutSecurityGroup(fullGroup("g", "web")))
		for i, server := range servers {
			p := otherPort(uuid.NewString(), "n", "s", i)
			p.DeviceID, p.DeviceOwner, p.SecurityGroups, p.Created, p.VIFType = server.ID, neutron.OwnerCompute, []string{"g"}, noon, "tap"
			err = errors.Join(err, w.PutPort(p))
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		err := s.View(b.Context(), func(r compute.Reader) error {
			ports, err := r.Ports()
			if len(ports) != many {
				b.Errorf("%d ports", len(ports))
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
