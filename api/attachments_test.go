package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"compute-agent/compute"
	"compute-agent/neutron"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// Networks of bob's project, and a port of it that is nobody's.
const (
	bobNet    = "11111111-1111-4111-8111-111111111111"
	bobSubnet = "22222222-2222-4222-8222-222222222222"
	bobPort   = "33333333-3333-4333-8333-333333333333"
	smallNet  = "44444444-4444-4444-8444-444444444444" // without an address left
	evesNet   = "55555555-5555-4555-8555-555555555555"
)

func (s *site) layNetworks() {
	s.t.Helper()
	network := func(id, project string) neutron.Network {
		return neutron.Network{ID: id, ProjectID: project, Name: "net-" + id[:1], AdminUp: true, PortSecurity: true, MTU: 1500, Type: "local"}
	}
	subnet := func(id, of, cidr, first, last string) neutron.Subnet {
		return neutron.Subnet{ID: id, NetworkID: of, ProjectID: "builders-id", CIDR: netip.MustParsePrefix(cidr),
			Pools: []neutron.Range{{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}}}
	}
	s.must(s.store.Update(s.t.Context(), func(tx compute.Writer) error {
		return errors.Join(
			tx.PutNetwork(network(bobNet, "builders-id")), tx.PutNetwork(network(smallNet, "builders-id")), tx.PutNetwork(network(evesNet, "elsewhere-id")),
			tx.PutSubnet(subnet(bobSubnet, bobNet, "10.0.0.0/24", "10.0.0.10", "10.0.0.99")),
			tx.PutSubnet(subnet("66666666-6666-4666-8666-666666666666", smallNet, "10.1.0.0/24", "10.1.0.10", "10.1.0.10")),
			tx.PutPort(neutron.Port{ID: bobPort, NetworkID: bobNet, ProjectID: "builders-id", AdminUp: true, MAC: "fa:16:3e:00:00:01", Status: neutron.StatusDown,
				FixedIPs: []neutron.FixedIP{{SubnetID: bobSubnet, Address: netip.MustParseAddr("10.0.0.5")}}}),
			tx.PutPort(neutron.Port{ID: "77777777-7777-4777-8777-777777777777", NetworkID: smallNet, ProjectID: "builders-id", AdminUp: true, MAC: "fa:16:3e:00:00:02",
				FixedIPs: []neutron.FixedIP{{SubnetID: "66666666-6666-4666-8666-666666666666", Address: netip.MustParseAddr("10.1.0.10")}}}),
		)
	}))
}

// bare makes a server without interfaces.
func (s *site) bare() (path string) {
	s.t.Helper()
	s.addFlavor("1")
	id := s.addServer(bob, "web", s.addImage(admin, "tiny", "public"), "1")
	return "/compute/v2.1/servers/" + id + "/os-interface"
}

func TestInterfaceAttachments(t *testing.T) {
	s := newSite(t)
	path := s.bare()
	s.layNetworks()
	attach := func(version, body string) map[string]any {
		t.Helper()
		answer := s.want(200, request{as: bob, method: "POST", path: path, version: version, body: `{"interfaceAttachment": {` + body + `}}`})
		return answer["interfaceAttachment"].(map[string]any)
	}
	made := attach("2.70", `"net_id": "`+bobNet+`", "fixed_ips": [{"ip_address": "10.0.0.77"}], "tag": "blue"`)
	taken := attach("2.1", `"port_id": "`+bobPort+`"`)
	want := map[string]any{
		"net_id": bobNet, "port_id": bobPort, "mac_addr": "fa:16:3e:00:00:01", "port_state": "ACTIVE",
		"fixed_ips": []any{map[string]any{"subnet_id": bobSubnet, "ip_address": "10.0.0.5"}},
	}
	if fmt.Sprint(taken) != fmt.Sprint(want) {
		t.Errorf("attached %v, want %v", taken, want)
	}
	if made["tag"] != "blue" || text(t, made, "fixed_ips", 0, "ip_address") != "10.0.0.77" {
		t.Errorf("attached %v", made)
	}
	list := s.want(200, request{as: bob, path: path, version: "2.70"})
	if text(t, list, "interfaceAttachments", 0, "tag") != "blue" || text(t, list, "interfaceAttachments", 1, "port_id") != bobPort {
		t.Errorf("list %v", list)
	}
	one := s.want(200, request{as: bob, path: path + "/" + bobPort, version: "2.70"})["interfaceAttachment"].(map[string]any)
	if tag, there := one["tag"]; !there || tag != nil {
		t.Errorf("shown %v", one)
	}
	s.want(404, request{as: bob, path: path + "/" + bobNet})

	for _, port := range []string{text(t, made, "port_id"), bobPort} {
		res := s.send(request{as: bob, method: "DELETE", path: path + "/" + port})
		if res.status != http.StatusAccepted || res.body != "" {
			t.Errorf("%d %s", res.status, res.body)
		}
		s.settle(strings.Split(path, "/")[4])
		s.want(404, request{as: bob, method: "DELETE", path: path + "/" + port})
	}
	if list := s.want(200, request{as: bob, path: path}); len(list["interfaceAttachments"].([]any)) > 0 {
		t.Errorf("list %v", list)
	}
}

// What Nova refuses is refused with Nova's status.
func TestInterfaceAttachmentsRefused(t *testing.T) {
	s := newSite(t)
	path := s.bare()
	s.layNetworks()
	s.want(200, request{as: bob, method: "POST", path: path, body: `{"interfaceAttachment": {"port_id": "` + bobPort + `"}}`})
	for _, c := range []struct {
		name, version, body string
		status              int
		says                string
	}{
		{"both", "2.1", `{"interfaceAttachment": {"net_id": "` + bobNet + `", "port_id": "` + bobPort + `"}}`, 400, "Must not input both network_id and port_id"},
		{"an address alone", "2.1", `{"interfaceAttachment": {"fixed_ips": [{"ip_address": "10.0.0.7"}]}}`, 400, "Must input network_id when request IP address"},
		{"no address", "2.1", `{"interfaceAttachment": {"net_id": "` + bobNet + `", "fixed_ips": [{"ip_address": "10.0.0"}]}}`, 400, "ip_address"},
		{"two addresses", "2.1", `{"interfaceAttachment": {"net_id": "` + bobNet + `", "fixed_ips": [{"ip_address": "10.0.0.7"}, {"ip_address": "10.0.0.8"}]}}`, 400, "fixed_ips"},
		{"one of several networks", "2.1", `{}`, 400, "2 networks"},
		{"a tag before there were any", "2.48", `{"interfaceAttachment": {"net_id": "` + bobNet + `", "tag": "a"}}`, 400, "tag"},
		{"a bad tag", "2.49", `{"interfaceAttachment": {"net_id": "` + bobNet + `", "tag": "a/b"}}`, 400, "tag"},
		{"no such network", "2.1", `{"interfaceAttachment": {"net_id": "` + bobPort + `"}}`, 404, bobPort},
		{"another's network", "2.1", `{"interfaceAttachment": {"net_id": "` + evesNet + `"}}`, 404, evesNet},
		{"no such port", "2.1", `{"interfaceAttachment": {"port_id": "` + bobNet + `"}}`, 404, bobNet},
		{"a port in use", "2.1", `{"interfaceAttachment": {"port_id": "` + bobPort + `"}}`, 409, "in use"},
		{"an address in use", "2.1", `{"interfaceAttachment": {"net_id": "` + bobNet + `", "fixed_ips": [{"ip_address": "10.0.0.5"}]}}`, 409, "10.0.0.5"},
		{"no address left", "2.1", `{"interfaceAttachment": {"net_id": "` + smallNet + `"}}`, 400, "no more IP addresses"},
		{"not a UUID", "2.1", `{"interfaceAttachment": {"net_id": "../x"}}`, 400, "net_id"},
		{"something else", "2.1", `{"interfaceAttachment": {"net_id": "` + bobNet + `", "host": "x"}}`, 400, "host"},
	} {
		res := s.send(request{as: bob, method: "POST", path: path, version: c.version, body: c.body})
		if res.status != c.status || !strings.Contains(res.body, c.says) {
			t.Errorf("%s: %d %s, want %d that says %q", c.name, res.status, res.body, c.status, c.says)
		}
	}
	if list := s.want(200, request{as: bob, path: path}); len(list["interfaceAttachments"].([]any)) != 1 {
		t.Errorf("list %v", list)
	}
}

// The guest that does not take an interface: InterfaceAttachFailed, and nothing is left.
func TestInterfaceAttachmentFails(t *testing.T) {
	s := newSite(t)
	path := s.bare()
	s.layNetworks()
	s.hv.Inject(fake.Fault{Method: "PlugNIC", Do: fake.Fail(virt.ErrNoCapacity)})
	res := s.send(request{as: bob, method: "POST", path: path, body: `{"interfaceAttachment": {"net_id": "` + bobNet + `"}}`})
	if res.status != http.StatusInternalServerError || !strings.Contains(res.body, "Failed to attach network adapter device") {
		t.Errorf("%d %s", res.status, res.body)
	}
	if list := s.want(200, request{as: bob, path: path}); len(list["interfaceAttachments"].([]any)) > 0 {
		t.Errorf("list %v", list)
	}
}
