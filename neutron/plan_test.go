package neutron_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"compute-agent/internal/golden"
	"compute-agent/network"
	"compute-agent/network/dhcp"
	"compute-agent/network/fabric"
	"compute-agent/network/firewall"
	"compute-agent/network/router"
	"compute-agent/neutron"
)

// The IDs of the tests' records, of which names are made.
const (
	idWeb      = "11110001-1111-4111-8111-000000000001"
	idVLAN     = "11110002-1111-4111-8111-000000000002"
	idPublic   = "11110003-1111-4111-8111-000000000003"
	idEmpty    = "11110004-1111-4111-8111-000000000004"
	idGuest    = "22220001-2201-4222-8222-000000000001"
	idOpen     = "22220002-2202-4222-8222-000000000002"
	idDown     = "22220003-2203-4222-8222-000000000003"
	idUnbound  = "22220004-2204-4222-8222-000000000004"
	idMacvtap  = "22220005-2205-4222-8222-000000000005"
	idTagged   = "22220006-2206-4222-8222-000000000006"
	idDHCP     = "33330001-3301-4333-8333-000000000001"
	idInside   = "33330002-3302-4333-8333-000000000002"
	idInside6  = "33330003-3303-4333-8333-000000000003"
	idOutside  = "33330004-3304-4333-8333-000000000004"
	idFloating = "33330005-3305-4333-8333-000000000005"
	idRouter   = "44440001-4444-4444-8444-000000000001"
)

func pointer[T any](v T) *T { return &v }

// cloud has one of each.
func cloud() neutron.Records {
	return neutron.Records{
		Networks: []neutron.Network{
			{ID: idWeb, AdminUp: true, Type: network.VXLAN, Segment: 7, MTU: 1450, Zone: 1, DNSDomain: "web.example."},
			{ID: idVLAN, AdminUp: true, Type: network.VLAN, Physical: "physnet1", Segment: 100, MTU: 1500, Zone: 2},
			{ID: idPublic, AdminUp: true, External: true, Type: network.Flat, Physical: "physnet2", MTU: 1500, Zone: 3},
			{ID: idEmpty, AdminUp: true, Type: network.Local, MTU: 1500, Zone: 4},
		},
		Subnets: []neutron.Subnet{
			{ID: "web4", NetworkID: idWeb, CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), DHCP: true, DNS: []netip.Addr{addr("9.9.9.9")},
				Routes: []neutron.Route{{To: prefix("10.9.0.0/16"), Via: addr("10.0.0.9")}}},
			{ID: "web6", NetworkID: idWeb, CIDR: prefix("2001:db8:1::/64"), Gateway: addr("2001:db8:1::1"), DHCP: true, AddressMode: neutron.SLAAC, RAMode: neutron.SLAAC},
			{ID: "alone", NetworkID: idWeb, CIDR: prefix("2001:db8:2::/64"), Gateway: addr("2001:db8:2::1"), DHCP: true, AddressMode: neutron.Stateful, RAMode: neutron.Stateful},
			{ID: "vlan4", NetworkID: idVLAN, CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1")},
			{ID: "public4", NetworkID: idPublic, CIDR: prefix("192.0.2.0/24"), Gateway: addr("192.0.2.1")},
			{ID: "public6", NetworkID: idPublic, CIDR: prefix("2001:db8:f::/64"), Gateway: addr("fe80::1")},
			{ID: "more4", NetworkID: idPublic, CIDR: prefix("198.51.100.0/24"), Gateway: addr("198.51.100.1")},
		},
		Ports: []neutron.Port{
			{ID: idGuest, NetworkID: idWeb, AdminUp: true, MAC: "fa:16:3e:00:00:01", PortSecurity: true, SecurityGroups: []string{"default", "web"},
				FixedIPs:     []neutron.FixedIP{{"web4", addr("10.0.0.5")}, {"web6", addr("2001:db8:1:0:f816:3eff:fe00:1")}, {"alone", addr("2001:db8:2::5")}},
				AddressPairs: []neutron.AddressPair{{Prefix: prefix("10.0.0.200/32")}, {Prefix: prefix("10.1.0.0/16"), MAC: "00:00:5e:00:01:01"}},
				DeviceID:     "vm1", DeviceOwner: "compute:nova", VNICType: "normal", VIFType: "tap", DNSName: "Web-1",
				ExtraDHCP: []neutron.DHCPOption{{Name: "tftp-server", Value: "10.0.0.3"}}},
			{ID: idOpen, NetworkID: idWeb, AdminUp: true, MAC: "fa:16:3e:00:00:02", FixedIPs: []neutron.FixedIP{{"web4", addr("10.0.0.6")}}, DeviceID: "vm2",
				DeviceOwner: "compute:nova", VIFType: "tap", DNSName: "web-1"},
			{ID: idDown, NetworkID: idWeb, MAC: "fa:16:3e:00:00:03", PortSecurity: true, SecurityGroups: []string{"web"}, FixedIPs: []neutron.FixedIP{{"web4", addr("10.0.0.7")}},
				DeviceID: "vm2", DeviceOwner: "compute:nova", VIFType: "tap"},
			{ID: idUnbound, NetworkID: idWeb, AdminUp: true, MAC: "fa:16:3e:00:00:04", PortSecurity: true, SecurityGroups: []string{"default"},
				FixedIPs: []neutron.FixedIP{{"web4", addr("10.0.0.8")}}},
			{ID: idTagged, NetworkID: idVLAN, AdminUp: true, MAC: "fa:16:3e:00:00:06", PortSecurity: true, FixedIPs: []neutron.FixedIP{{"vlan4", addr("10.0.0.5")}},
				DeviceID: "vm1", DeviceOwner: "compute:nova", VIFType: "tap"},
			{ID: idDHCP, NetworkID: idWeb, AdminUp: true, MAC: "fa:16:3e:01:00:01", DeviceID: "dhcp-" + idWeb, DeviceOwner: neutron.OwnerDHCP,
				FixedIPs: []neutron.FixedIP{{"web4", addr("10.0.0.2")}, {"alone", addr("2001:db8:2::2")}, {"web6", addr("2001:db8:1:0:f816:3eff:fe01:1")}}},
			{ID: idInside, NetworkID: idWeb, AdminUp: true, MAC: "fa:16:3e:01:00:02", DeviceID: idRouter, DeviceOwner: neutron.OwnerInterface,
				FixedIPs: []neutron.FixedIP{{"web4", addr("10.0.0.1")}}},
			{ID: idInside6, NetworkID: idWeb, AdminUp: true, MAC: "fa:16:3e:01:00:03", DeviceID: idRouter, DeviceOwner: neutron.OwnerInterface,
				FixedIPs: []neutron.FixedIP{{"web6", addr("2001:db8:1::1")}}},
			{ID: idOutside, NetworkID: idPublic, AdminUp: true, MAC: "fa:16:3e:01:00:04", DeviceID: idRouter, DeviceOwner: neutron.OwnerGateway,
				FixedIPs: []neutron.FixedIP{{"public4", addr("192.0.2.9")}, {"public6", addr("2001:db8:f::9")}}},
			{ID: idFloating, NetworkID: idPublic, MAC: "fa:16:3e:01:00:05", DeviceID: "floating", DeviceOwner: neutron.OwnerFloatingIP,
				FixedIPs: []neutron.FixedIP{{"public4", addr("192.0.2.77")}}},
		},
		Groups: []neutron.SecurityGroup{
			{ID: "default", Rules: []neutron.Rule{{ID: "d1", Direction: firewall.Egress, Ethertype: firewall.IPv4}, {ID: "d2", Direction: firewall.Ingress, Ethertype: firewall.IPv4, RemoteGroup: "default"}}},
			{ID: "web", Rules: []neutron.Rule{
				{ID: "w1", Direction: firewall.Ingress, Ethertype: firewall.IPv4, Protocol: "tcp", PortMin: pointer(80), PortMax: pointer(81), Remote: prefix("192.0.2.0/24")},
				{ID: "w2", Direction: firewall.Ingress, Ethertype: firewall.IPv6, Protocol: "ipv6-icmp", PortMin: pointer(128), PortMax: pointer(0)},
				{ID: "w3", Direction: firewall.Ingress, Ethertype: firewall.IPv4, Protocol: "icmp", PortMin: pointer(8)},
				{ID: "w4", Direction: firewall.Ingress, Ethertype: firewall.IPv4, Protocol: "udp", RemoteGroup: "far"},
			}},
			{ID: "far", Rules: []neutron.Rule{{ID: "f1", Direction: firewall.Ingress, Ethertype: firewall.IPv4}}},
			{ID: "unused"},
		},
		Routers: []neutron.Router{
			{ID: idRouter, AdminUp: true, Gateway: idPublic, GatewayPort: idOutside, SNAT: true, Routes: []neutron.Route{{To: prefix("10.8.0.0/16"), Via: addr("10.0.0.9")}}},
			{ID: "44440002-4444-4444-8444-000000000002"}, // down
		},
		FloatingIPs: []neutron.FloatingIP{
			{ID: "floating", NetworkID: idPublic, Address: addr("192.0.2.77"), OwnPort: idFloating, PortID: idGuest, Fixed: addr("10.0.0.5"), RouterID: idRouter},
			{ID: "idle", NetworkID: idPublic, Address: addr("192.0.2.78")},
		},
	}
}

var host = neutron.Site{
	Interfaces: map[string]string{"physnet1": "eth1", "physnet2": "eth2"},
	VXLAN:      neutron.VXLAN{Local: netip.MustParseAddr("172.16.0.1"), Peers: []netip.Addr{netip.MustParseAddr("172.16.0.2")}}, Domain: "openstacklocal",
}

func TestPlan(t *testing.T) {
	filtering := host
	filtering.Filtering = true
	elsewhere := host
	elsewhere.Elsewhere = true
	for name, at := range map[string]neutron.Site{"one-host": host, "filtering": filtering, "elsewhere": elsewhere} {
		t.Run(name, func(t *testing.T) {
			got, err := neutron.Plan(cloud(), at)
			if err != nil {
				t.Error(err)
			}
			golden.Assert(t, "testdata/plan-"+name+".txt", text(reflect.ValueOf(got), ""))
			takenByTheLeaves(t, got)
		})
	}
	if got, err := neutron.Plan(neutron.Records{}, host); err != nil || !reflect.ValueOf(got).IsZero() {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
}

// takenByTheLeaves has what makes links, filters, DHCP servers and routers look at a plan.
func takenByTheLeaves(t *testing.T, s fabric.State) {
	t.Helper()
	if _, err := network.Wanted(s.Networks, s.Ports, s.Namespaces...); err != nil {
		t.Error(err)
	}
	if err := s.Firewall.Validate(); err != nil {
		t.Error(err)
	}
	for _, r := range s.Routers {
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, d := range s.DHCP {
		if _, err := dhcp.Render(dhcp.Place{Dir: "/d", User: "nobody"}, d); err != nil {
			t.Error(err)
		}
	}
}

// text is a value without what is not set in it.
func text(v reflect.Value, indent string) string {
	if s, is := v.Interface().(fmt.Stringer); is {
		return s.String()
	}
	switch v.Kind() {
	case reflect.Pointer:
		return text(v.Elem(), indent)
	case reflect.Slice:
		var items []string
		for i := range v.Len() {
			items = append(items, text(v.Index(i), indent+"  "))
		}
		if v.Type().Elem().Kind() == reflect.Struct && !strings.HasPrefix(v.Type().Elem().PkgPath(), "net/netip") {
			return "\n" + indent + "- " + strings.Join(items, "\n"+indent+"- ")
		}
		return strings.Join(items, " ")
	case reflect.Struct:
		var fields []string
		for i := range v.NumField() {
			if f := v.Field(i); v.Type().Field(i).IsExported() && !f.IsZero() {
				fields = append(fields, strings.TrimSuffix(v.Type().Field(i).Name+": "+text(f, indent), " "))
			}
		}
		return strings.Join(fields, "\n"+indent)
	}
	return fmt.Sprint(v.Interface())
}

var comparable = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreUnexported(firewall.State{}), cmpopts.EquateEmpty()}

// A record that makes no sense costs what is made of it, is in the error, and takes nothing else with it.
func TestPlanOfBadRecords(t *testing.T) {
	whole, err := neutron.Plan(cloud(), host)
	if err != nil {
		t.Fatal(err)
	}
	without := func(s fabric.State, port string) fabric.State {
		gone := func(id string) bool { return id == port }
		s.Ports = slices.DeleteFunc(slices.Clone(s.Ports), func(p network.Port) bool { return gone(p.ID) })
		s.Firewall.Ports = slices.DeleteFunc(slices.Clone(s.Firewall.Ports), func(p firewall.Port) bool { return gone(p.ID) })
		return s
	}
	for name, c := range map[string]struct {
		change func(*neutron.Records)
		want   fabric.State
		port   string // that is lost
		words  string
	}{
		"no such group":     {func(r *neutron.Records) { r.Ports[1].PortSecurity, r.Ports[1].SecurityGroups = true, []string{"none"} }, without(whole, idOpen), idOpen, "security group none is not known"},
		"macvtap, filtered": {func(r *neutron.Records) { r.Ports[1].PortSecurity, r.Ports[1].VIFType = true, "macvtap" }, without(whole, idOpen), idOpen, "cannot be filtered"},
		"bad pair": {func(r *neutron.Records) {
			r.Ports[1].PortSecurity, r.Ports[1].AddressPairs = true, []neutron.AddressPair{{Prefix: prefix("10.0.0.1/32"), MAC: "x"}}
		}, without(whole, idOpen), idOpen, "allowed address pair"},
		"no such nexthop": {func(r *neutron.Records) {
			r.Routers[0].Routes = append(r.Routers[0].Routes, neutron.Route{To: prefix("10.7.0.0/16"), Via: addr("10.77.0.1")})
		}, whole, "", "nexthop 10.77.0.1 is not connected"},
		"no such network": {func(r *neutron.Records) {
			r.Ports = append(r.Ports, neutron.Port{ID: "x", NetworkID: "none", VIFType: "tap"})
		}, whole, "x", "network none is not known"},
		"no such router": {func(r *neutron.Records) {
			r.Ports = append(r.Ports, neutron.Port{ID: "x", NetworkID: idEmpty, DeviceID: "none", DeviceOwner: neutron.OwnerInterface})
		}, whole, "", ""},
		"a rule of no group": {func(r *neutron.Records) {
			r.Groups[1].Rules = append(r.Groups[1].Rules, neutron.Rule{ID: "x", Direction: firewall.Ingress, Ethertype: firewall.IPv4, RemoteGroup: "none"})
		}, whole, "", ""},
	} {
		r := cloud()
		c.change(&r)
		got, err := neutron.Plan(r, host)
		if diff := cmp.Diff(c.want, got, comparable); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		var lost *fabric.PortError
		if c.words == "" && err != nil || c.words != "" && !strings.Contains(fmt.Sprint(err), c.words) || errors.As(err, &lost) != (c.port != "") || c.port != "" && lost.Port != c.port {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := cloud()
	r.Networks[1].Physical = "physnet9"
	got, err := neutron.Plan(r, host)
	if !strings.Contains(fmt.Sprint(err), `no interface for physical network "physnet9"`) || len(got.Networks) != 2 || len(got.Ports) != len(whole.Ports)-1 {
		t.Errorf("%v, %d networks", err, len(got.Networks))
	}
	r = cloud()
	r.Ports[0].MAC = "x"
	if got, err = neutron.Plan(r, host); err == nil || len(got.DHCP[0].Hosts) != len(whole.DHCP[0].Hosts)-1 || len(got.Metadata[0].Ports) != len(whole.Metadata[0].Ports)-1 {
		t.Errorf("%v", err)
	}
	r = cloud()
	r.Subnets[1].ID = "other"
	if got, err = neutron.Plan(r, host); err == nil || len(got.DHCP) != 0 || len(got.Ports) != len(whole.Ports) || len(got.Routers) != 1 {
		t.Errorf("%v", err)
	}
}

// Whatever records are left out, what is made of the rest is what the leaves can make, or the error says what cannot be.
func TestPlanOfAnyRecords(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := cloud()
		keep := func(string) bool { return rapid.IntRange(0, 5).Draw(rt, "keep") > 0 }
		r.Networks = slices.DeleteFunc(r.Networks, func(n neutron.Network) bool { return !keep(n.ID) })
		r.Subnets = slices.DeleteFunc(r.Subnets, func(s neutron.Subnet) bool { return !keep(s.ID) })
		r.Ports = slices.DeleteFunc(r.Ports, func(p neutron.Port) bool { return !keep(p.ID) })
		r.Groups = slices.DeleteFunc(r.Groups, func(g neutron.SecurityGroup) bool { return !keep(g.ID) })
		r.Routers = slices.DeleteFunc(r.Routers, func(q neutron.Router) bool { return !keep(q.ID) })
		got, _ := neutron.Plan(r, host)
		again, _ := neutron.Plan(r, host)
		if diff := cmp.Diff(got, again, comparable); diff != "" {
			rt.Fatalf("not the same twice:\n%s", diff)
		}
		if _, err := network.Wanted(got.Networks, got.Ports, got.Namespaces...); err != nil {
			rt.Fatal(err)
		}
		if err := got.Firewall.Validate(); err != nil {
			rt.Fatal(err)
		}
		for _, q := range got.Routers {
			if _, err := router.Generate(q); err != nil {
				rt.Fatal(err)
			}
		}
		for _, p := range got.Ports { // none is plugged in that has no filter
			if p.VIF != network.VIFMacvtap && !slices.ContainsFunc(got.Firewall.Ports, func(f firewall.Port) bool { return f.ID == p.ID && f.Device == network.TapName(p.ID) }) {
				rt.Fatalf("port %s has no filter", p.ID)
			}
		}
	})
}

// 1,000 servers with a port each, all in one group whose members may reach each other, on ten networks with DHCP and a router.
func BenchmarkPlan1000(b *testing.B) {
	var r neutron.Records
	r.Groups = cloud().Groups
	for n := range 10 {
		net := fmt.Sprintf("%08d-1111-4111-8111-000000000001", n)
		sub := fmt.Sprintf("sub%d", n)
		base := netip.AddrFrom4([4]byte{10, byte(n), 0, 0})
		r.Networks = append(r.Networks, neutron.Network{ID: net, AdminUp: true, Type: network.VXLAN, Segment: n + 1, MTU: 1450, Zone: uint16(n + 1)})
		r.Subnets = append(r.Subnets, neutron.Subnet{ID: sub, NetworkID: net, CIDR: netip.PrefixFrom(base, 16), Gateway: base.Next(), DHCP: true})
		r.Ports = append(r.Ports, neutron.Port{ID: fmt.Sprintf("%08d-0002-4222-8222-000000000001", n), NetworkID: net, AdminUp: true, MAC: fmt.Sprintf("fa:16:3e:ff:ff:%02x", n),
			DeviceID: "dhcp-" + net, DeviceOwner: neutron.OwnerDHCP, FixedIPs: []neutron.FixedIP{{sub, base.Next().Next()}}})
		for i := range 100 {
			ip := netip.AddrFrom4([4]byte{10, byte(n), 1, byte(i + 1)})
			r.Ports = append(r.Ports, neutron.Port{ID: fmt.Sprintf("%08d-%04d-4222-8222-000000000001", n, i+1000), NetworkID: net, AdminUp: true,
				MAC: fmt.Sprintf("fa:16:3e:00:%02x:%02x", n, i), PortSecurity: true, SecurityGroups: []string{"default", "web"}, FixedIPs: []neutron.FixedIP{{sub, ip}},
				DeviceID: fmt.Sprintf("vm-%d-%d", n, i), DeviceOwner: "compute:nova", VIFType: "tap", DNSName: fmt.Sprintf("vm-%d-%d", n, i)})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		got, err := neutron.Plan(r, host)
		if err != nil || len(got.Ports) != 1000 {
			b.Fatal(len(got.Ports), err)
		}
	}
}
