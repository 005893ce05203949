package api_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"compute-agent/internal/golden"
)

// step is a request of a conversation. {name} in its path and body is the ID of what an earlier step made under that name.
type step struct {
	as, method, path, body string
	name                   string // of what it makes
}

// conversation sends steps and writes down what is said, with names for IDs.
type conversation struct {
	*site
	base    string // of its paths
	version string // in which it is held
	ids     map[string]string
	out     strings.Builder
}

func (s *site) conversation() *conversation {
	return &conversation{site: s, base: "/network/v2.0", ids: map[string]string{}}
}

var randomMAC = regexp.MustCompile(`fa:16:3e:[0-9a-f:]{8}`)

func (c *conversation) fill(text string) string {
	for name, id := range c.ids {
		text = strings.ReplaceAll(text, "{"+name+"}", id)
	}
	return text
}

// told is an answer in which nothing differs from run to run.
func (c *conversation) told(text string) string {
	for _, name := range slices.Sorted(maps.Keys(c.ids)) {
		text = strings.ReplaceAll(text, c.ids[name], "{"+name+"}")
	}
	text = randomMAC.ReplaceAllString(strings.ReplaceAll(text, c.url, "http://node"), "fa:16:3e:*")
	return changing.ReplaceAllString(text, "*")
}

func (c *conversation) say(steps ...step) {
	c.t.Helper()
	for _, st := range steps {
		res := c.send(request{as: st.as, method: st.method, path: c.base + c.fill(st.path), version: c.version, body: c.fill(st.body)})
		if st.name != "" {
			for _, value := range decoded(c.t, res) {
				record, _ := value.(map[string]any)
				if id, made := record["id"].(string); made {
					c.ids[st.name] = id
				}
			}
		}
		fmt.Fprintf(&c.out, "%s: %s %s %s\n%d %s\n", st.as, st.method, st.path, st.body, res.status, c.told(res.body))
	}
}

// Each kind of record through its life, in the shapes of Neutron.
func TestNetworkRecords(t *testing.T) {
	c := newSite(t).conversation()
	c.say(
		step{admin, "POST", "/networks", `{"network": {"name": "public", "router:external": true, "is_default": true, "port_security_enabled": false}}`, "public"},
		step{admin, "POST", "/subnets", `{"subnet": {"network_id": "{public}", "ip_version": 4, "cidr": "203.0.113.0/24", "enable_dhcp": false,
			"allocation_pools": [{"start": "203.0.113.10", "end": "203.0.113.20"}]}}`, "public4"},
		step{bob, "POST", "/networks", `{"network": {"name": "web", "description": "front", "mtu": 1400}}`, "web"},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{web}", "name": "web4", "ip_version": 4, "cidr": "10.1.0.0/24", "dns_nameservers": ["192.0.2.53"],
			"host_routes": [{"destination": "198.51.100.0/24", "nexthop": "10.1.0.9"}]}}`, "web4"},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{web}", "ip_version": 6, "cidr": "fd00:1::/64", "ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac"}}`, "web6"},
		step{bob, "GET", "/networks/{web}", "", ""},
		step{bob, "PUT", "/networks/{web}", `{"network": {"name": "site", "admin_state_up": false}}`, ""},
		step{admin, "GET", "/networks/{web}", "", ""},
		step{bob, "PUT", "/subnets/{web4}", `{"subnet": {"gateway_ip": null, "dns_nameservers": null, "host_routes": [], "enable_dhcp": "False"}}`, ""},
		step{bob, "PUT", "/subnets/{web4}", `{"subnet": {"gateway_ip": "10.1.0.1"}}`, ""},
		step{bob, "POST", "/security-groups", `{"security_group": {"name": "ssh", "description": "from anywhere"}}`, "ssh"},
		step{bob, "POST", "/security-group-rules", `{"security_group_rule": {"security_group_id": "{ssh}", "direction": "ingress", "protocol": "TCP",
			"port_range_min": 22, "port_range_max": "22", "remote_ip_prefix": "192.0.2.7/24", "ethertype": "ipv4"}}`, "rule"},
		step{bob, "POST", "/security-group-rules", `{"security_group_rule": {"security_group_id": "{ssh}", "direction": "ingress", "ethertype": "IPv6",
			"protocol": "any", "remote_group_id": "{ssh}"}}`, "rule6"},
		step{bob, "GET", "/security-group-rules/{rule}", "", ""},
		step{bob, "PUT", "/security-groups/{ssh}", `{"security_group": {"description": ""}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{web}", "name": "p", "fixed_ips": [{"ip_address": "10.1.0.5"}], "mac_address": "FA-16-3E-00-11-22",
			"security_groups": ["{ssh}"], "allowed_address_pairs": [{"ip_address": "10.1.0.64/26"}, {"ip_address": "10.1.0.7", "mac_address": "02:00:00:00:00:01"}],
			"extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1300"}], "tags": ["front"]}}`, "port"},
		step{admin, "GET", "/ports/{port}", "", ""},
		step{bob, "PUT", "/ports/{port}", `{"port": {"name": "q", "fixed_ips": [{"subnet_id": "{web4}", "ip_address": "10.1.0.6"}],
			"extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": null}], "allowed_address_pairs": []}}`, ""},
		step{bob, "PUT", "/ports/{port}", `{"port": {"security_groups": [], "port_security_enabled": false}}`, ""},
		step{bob, "POST", "/routers", `{"router": {"name": "r", "external_gateway_info": {"network_id": "{public}"}}}`, "router"},
		step{bob, "PUT", "/routers/{router}/add_router_interface", `{"subnet_id": "{web4}"}`, "interface"},
		step{bob, "PUT", "/routers/{router}", `{"router": {"routes": [{"destination": "198.51.100.0/24", "nexthop": "10.1.0.9"}]}}`, ""},
		step{bob, "PUT", "/routers/{router}/add_extraroutes", `{"router": {"routes": [{"destination": "192.0.2.0/25", "nexthop": "10.1.0.9"}]}}`, ""},
		step{bob, "PUT", "/routers/{router}/remove_extraroutes", `{"router": {"routes": [{"destination": "198.51.100.0/24", "nexthop": "10.1.0.9"}]}}`, ""},
		step{bob, "PUT", "/routers/{router}", `{"router": {"routes": null, "name": "edge"}}`, ""},
		step{bob, "POST", "/floatingips", `{"floatingip": {"floating_network_id": "{public}", "description": "x"}}`, "floating"},
		step{bob, "PUT", "/floatingips/{floating}", `{"floatingip": {"port_id": "{port}"}}`, ""},
		step{bob, "GET", "/floatingips/{floating}", "", ""},
		step{bob, "PUT", "/floatingips/{floating}", `{"floatingip": {"port_id": null}}`, ""},
		step{admin, "GET", "/network-ip-availabilities?network_name=site", "", ""},
		step{admin, "GET", "/network-ip-availabilities/{public}", "", ""},
		step{bob, "GET", "/quotas/builders-id", "", ""},
		step{bob, "GET", "/quotas/builders-id/details", "", ""},
		step{bob, "DELETE", "/floatingips/{floating}", "", ""},
		step{bob, "PUT", "/routers/{router}/remove_router_interface", `{"subnet_id": "{web4}"}`, ""},
		step{bob, "PUT", "/routers/{router}", `{"router": {"external_gateway_info": {}}}`, ""},
		step{bob, "DELETE", "/routers/{router}", "", ""},
		step{bob, "DELETE", "/ports/{port}", "", ""},
		step{bob, "DELETE", "/security-group-rules/{rule}", "", ""},
		step{bob, "DELETE", "/security-groups/{ssh}", "", ""},
		step{bob, "DELETE", "/subnets/{web4}", "", ""},
		step{bob, "DELETE", "/networks/{web}", "", ""},
		step{bob, "GET", "/networks/{web}", "", ""},
	)
	golden.Assert(t, "testdata/network_records.golden", c.out.String())
}

// What there is once: versions, extensions, the agent, zones, quotas.
func TestNetworkService(t *testing.T) {
	c := newSite(t).conversation()
	c.say(
		step{bob, "GET", "/extensions/router", "", ""},
		step{bob, "GET", "/extensions/nonsense", "", ""},
		step{admin, "GET", "/agents", "", "agent"},
		step{admin, "GET", "/agents?host=elsewhere", "", ""},
		step{admin, "GET", "/agents/00000000-0000-4000-8000-000000000000", "", ""},
		step{bob, "GET", "/agents", "", ""},
		step{bob, "GET", "/availability_zones", "", ""},
		step{bob, "GET", "/subnetpools", "", ""},
		step{bob, "GET", "/address-scopes?name=x", "", ""},
		step{bob, "GET", "/rbac-policies", "", ""},
		step{bob, "GET", "/quotas/builders-id/default", "", ""},
		step{admin, "GET", "/quotas", "", ""},
		step{bob, "GET", "/quotas/elsewhere-id", "", ""},
	)
	for _, path := range []string{"/network", "/network/", "/network/v2.0", "/network/v2.0/"} {
		fmt.Fprintf(&c.out, "%s %s\n", path, c.told(c.send(request{path: path}).body))
	}
	golden.Assert(t, "testdata/network_service.golden", c.out.String())
	aliases := c.want(200, request{as: bob, path: "/network/v2.0/extensions"})["extensions"].([]any)
	if len(aliases) < 30 {
		t.Errorf("%d extensions", len(aliases))
	}
}

// networkSite is a site with a network of each kind: bob's own, an admin's shared one and an external one.
func networkSite(t *testing.T) *conversation {
	c := newSite(t).conversation()
	c.say(
		step{admin, "POST", "/networks", `{"network": {"name": "shared", "shared": true}}`, "shared"},
		step{admin, "POST", "/subnets", `{"subnet": {"network_id": "{shared}", "name": "shared4", "ip_version": 4, "cidr": "10.2.0.0/24"}}`, "shared4"},
		step{admin, "POST", "/networks", `{"network": {"name": "public", "router:external": true}}`, "public"},
		step{admin, "POST", "/subnets", `{"subnet": {"network_id": "{public}", "name": "public4", "ip_version": 4, "cidr": "203.0.113.0/24"}}`, "public4"},
		step{bob, "POST", "/networks", `{"network": {"name": "bobs"}}`, "bobs"},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "name": "bobs4", "ip_version": 4, "cidr": "10.3.0.0/24"}}`, "bobs4"},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{bobs}", "name": "bobs-port", "fixed_ips": [{"ip_address": "10.3.0.5"}]}}`, "port"},
		step{bob, "POST", "/security-groups", `{"security_group": {"name": "bobs-group"}}`, "group"},
		step{bob, "POST", "/security-group-rules", `{"security_group_rule": {"security_group_id": "{group}", "direction": "ingress"}}`, "rule"},
		step{bob, "POST", "/routers", `{"router": {"name": "bobs-router"}}`, "router"},
		step{bob, "POST", "/floatingips", `{"floatingip": {"floating_network_id": "{public}"}}`, "floating"},
	)
	for _, name := range []string{"shared4", "public4", "bobs4", "port", "group", "rule", "router", "floating"} {
		if c.ids[name] == "" {
			t.Fatalf("no %s:\n%s", name, c.out.String())
		}
	}
	c.out.Reset()
	return c
}

// What a request must not have, and what a caller may not do, is refused with the fault that Neutron has for it.
func TestNetworkFaults(t *testing.T) {
	c := networkSite(t)
	const absent = "00000000-0000-4000-8000-000000000000"
	c.say(
		// Bodies
		step{bob, "POST", "/networks", `nonsense`, ""},
		step{bob, "POST", "/networks", `[]`, ""},
		step{bob, "POST", "/networks", `{}`, ""},
		step{bob, "POST", "/networks", `{"networks": []}`, ""},
		step{bob, "POST", "/networks", `{"network": 5}`, ""},
		step{bob, "POST", "/networks", `{"network": {"colour": "red", "size": 1}}`, ""},
		step{bob, "POST", "/networks", `{"network": {"id": "x"}}`, ""},
		step{bob, "POST", "/networks", `{"network": {"name": 5}}`, ""},
		step{bob, "POST", "/networks", `{"network": {"name": "` + strings.Repeat("x", 256) + `"}}`, ""},
		step{bob, "POST", "/networks", `{"network": {"admin_state_up": "maybe"}}`, ""},
		step{bob, "POST", "/networks", `{"network": {"project_id": "elsewhere-id"}}`, ""},
		step{bob, "POST", "/networks", `{"network": {"project_id": "builders-id", "tenant_id": "elsewhere-id"}}`, ""},
		step{bob, "PUT", "/networks/{bobs}", `{"network": {"status": "DOWN"}}`, ""},
		step{bob, "PUT", "/networks/{bobs}", `{"networks": [{"name": "x"}]}`, ""},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "cidr": "10.9.0.0/24"}}`, ""},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "ip_version": 4, "cidr": "10.9.0.1/24"}}`, ""},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "ip_version": 6, "cidr": "10.9.0.0/24"}}`, ""},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "ip_version": 5, "cidr": "10.9.0.0/24"}}`, ""},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "ip_version": 4, "cidr": "10.9.0.0/24", "allocation_pools": [{"start": "10.9.0.1"}]}}`, ""},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "ip_version": 4, "cidr": "10.9.0.0/24", "gateway_ip": "fe80::1%eth0"}}`, ""},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "ip_version": 4, "cidr": "10.3.0.0/25"}}`, ""},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "ip_version": 6, "cidr": "::ffff:10.0.0.0/120"}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{bobs}", "allowed_address_pairs": [{"ip_address": "::ffff:10.0.0.1"}]}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{bobs}", "mac_address": "nonsense"}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "../etc"}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{bobs}", "binding:vnic_type": "fast"}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{bobs}", "fixed_ips": [{"ip_address": "10.3.0.5"}]}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{bobs}", "fixed_ips": [{"ip_address": "192.0.2.1"}]}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{bobs}", "fixed_ips": [{"subnet_id": "{bobs4}", "ip_address": "10.3.0.9", "x": 1}]}}`, ""},
		step{bob, "POST", "/security-groups", `{"security_group": {"name": "default"}}`, ""},
		step{bob, "POST", "/security-group-rules", `{"security_group_rule": {"security_group_id": "{group}", "direction": "sideways"}}`, ""},
		step{bob, "POST", "/security-group-rules", `{"security_group_rule": {"security_group_id": "{group}", "direction": "ingress", "protocol": "warp"}}`, ""},
		step{bob, "POST", "/security-group-rules", `{"security_group_rule": {"security_group_id": "{group}", "direction": "ingress", "remote_ip_prefix": "anywhere"}}`, ""},
		step{bob, "POST", "/security-group-rules", `{"security_group_rule": {"security_group_id": "{group}", "direction": "ingress"}}`, ""},
		step{bob, "PUT", "/security-group-rules/{rule}", `{"security_group_rule": {"description": "x"}}`, ""},
		step{bob, "PUT", "/routers/{router}/add_router_interface", `{}`, ""},
		step{bob, "PUT", "/routers/{router}", `{"router": {"external_gateway_info": {"network_id": "{bobs}"}}}`, ""},
		step{bob, "POST", "/floatingips", `{"floatingip": {"floating_network_id": "{bobs}"}}`, ""},
		step{bob, "POST", "/floatingips", `{"floatingip": {}}`, ""},
		step{bob, "PUT", "/networks/{bobs}/tags", `{"tags": "red"}`, ""},
		// Lists
		step{bob, "GET", "/networks?colour=red&size=1", "", ""},
		step{bob, "GET", "/networks?provider:network_type=vlan", "", ""},
		step{bob, "GET", "/ports?allowed_address_pairs=x", "", ""},
		step{bob, "GET", "/ports?fixed_ips=colour=red", "", ""},
		step{bob, "GET", "/networks?sort_key=name", "", ""},
		step{bob, "GET", "/networks?sort_key=colour&sort_dir=asc", "", ""},
		step{bob, "GET", "/networks?sort_key=name&sort_dir=up", "", ""},
		step{bob, "GET", "/networks?limit=-1", "", ""},
		step{bob, "GET", "/networks?limit=1&marker=" + absent, "", ""},
		// Policy
		step{bob, "POST", "/networks", `{"network": {"shared": true, "provider:network_type": "vxlan"}}`, ""},
		step{bob, "PUT", "/networks/{bobs}", `{"network": {"router:external": false}}`, ""},
		step{bob, "PUT", "/networks/{shared}", `{"network": {"name": "mine"}}`, ""},
		step{bob, "DELETE", "/networks/{public}", "", ""},
		step{bob, "POST", "/subnets", `{"subnet": {"network_id": "{shared}", "ip_version": 4, "cidr": "10.9.0.0/24"}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{public}"}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{shared}", "mac_address": "fa:16:3e:00:00:01"}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{shared}", "fixed_ips": [{"ip_address": "10.2.0.7"}]}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{shared}", "port_security_enabled": false, "device_owner": "network:dhcp"}}`, ""},
		step{bob, "POST", "/ports", `{"port": {"network_id": "{bobs}", "binding:host_id": "node-1"}}`, ""},
		step{bob, "PUT", "/ports/{port}", `{"port": {"mac_address": "fa:16:3e:00:00:01"}}`, ""},
		step{admin, "PUT", "/ports/{port}", `{"port": {"binding:host_id": "elsewhere"}}`, ""},
		step{bob, "POST", "/routers", `{"router": {"external_gateway_info": {"network_id": "{public}", "enable_snat": false}}}`, ""},
		step{bob, "POST", "/floatingips", `{"floatingip": {"floating_network_id": "{public}", "floating_ip_address": "203.0.113.77"}}`, ""},
		step{bob, "GET", "/agents", "", ""},
		step{eve, "POST", "/ports", `{"port": {"network_id": "{shared}", "device_id": "{router}"}}`, ""},
		// Routes
		step{bob, "GET", "/nonsense", "", ""},
		step{bob, "DELETE", "/networks", "", ""},
		step{"", "GET", "/networks", "", ""},
	)
	golden.Assert(t, "testdata/network_faults.golden", c.out.String())
}

// Another project's records are as good as none, whatever is tried on them or with them.
func TestNetworkProjectsAreApart(t *testing.T) {
	c := networkSite(t)
	const absent = "00000000-0000-4000-8000-000000000000"
	for path, body := range map[string]string{
		"/networks/{bobs}": `{"network": {"name": "x"}}`, "/subnets/{bobs4}": `{"subnet": {"name": "x"}}`, "/ports/{port}": `{"port": {"name": "x"}}`,
		"/security-groups/{group}": `{"security_group": {"name": "x"}}`, "/security-group-rules/{rule}": "", "/routers/{router}": `{"router": {"name": "x"}}`,
		"/floatingips/{floating}":                `{"floatingip": {"description": "x"}}`,
		"/routers/{router}/add_router_interface": `{"subnet_id": "{bobs4}"}`, "/routers/{router}/add_extraroutes": `{"router": {"routes": []}}`,
		"/networks/{bobs}/tags": `{"tags": []}`, "/networks/{bobs}/tags/red": "",
	} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			r := request{as: eve, method: method, path: "/network/v2.0" + c.fill(path)}
			if method == "PUT" {
				r.body = c.fill(body)
			}
			theirs := c.send(r)
			for name := range c.ids {
				r.path = strings.ReplaceAll(r.path, c.ids[name], absent)
			}
			none := c.send(r)
			for _, id := range c.ids {
				theirs.body = strings.ReplaceAll(theirs.body, id, absent)
			}
			if theirs.status < 400 || theirs.status != none.status || theirs.body != none.body {
				t.Errorf("%s %s: %d %s, and for none %d %s", method, path, theirs.status, theirs.body, none.status, none.body)
			}
		}
	}
	c.say(
		step{eve, "POST", "/subnets", `{"subnet": {"network_id": "{bobs}", "ip_version": 4, "cidr": "10.9.0.0/24"}}`, ""},
		step{eve, "POST", "/ports", `{"port": {"network_id": "{bobs}"}}`, ""},
		step{eve, "POST", "/ports", `{"port": {"network_id": "{shared}", "security_groups": ["{group}"]}}`, ""},
		step{eve, "POST", "/security-group-rules", `{"security_group_rule": {"security_group_id": "{group}", "direction": "ingress"}}`, ""},
		step{eve, "POST", "/floatingips", `{"floatingip": {"floating_network_id": "{public}", "port_id": "{port}"}}`, ""},
		step{eve, "POST", "/routers", `{"router": {"external_gateway_info": {"network_id": "{bobs}"}}}`, ""},
		step{eve, "POST", "/routers", `{"router": {"name": "eves"}}`, "eves"},
		step{eve, "PUT", "/routers/{eves}/add_router_interface", `{"subnet_id": "{bobs4}"}`, ""},
		step{eve, "PUT", "/routers/{eves}/add_router_interface", `{"subnet_id": "{public4}"}`, ""},
		step{eve, "PUT", "/routers/{eves}/add_router_interface", `{"subnet_id": "{shared4}"}`, ""},
		step{eve, "PUT", "/routers/{eves}/add_router_interface", `{"port_id": "{port}"}`, ""},
		// Who has a network sees the ports that others have on it, and gives them to nobody.
		step{admin, "PUT", "/networks/{bobs}", `{"network": {"shared": true}}`, ""},
		step{eve, "POST", "/ports", `{"port": {"network_id": "{bobs}"}}`, "eves-port"},
		step{bob, "GET", "/ports/{eves-port}?fields=project_id", "", ""},
		step{bob, "PUT", "/routers/{router}/add_router_interface", `{"port_id": "{eves-port}"}`, ""},
		step{bob, "PUT", "/floatingips/{floating}", `{"floatingip": {"port_id": "{eves-port}"}}`, ""},
	)
	golden.Assert(t, "testdata/network_apart.golden", c.out.String())
}

// Filters, order and choice of attributes of lists.
func TestNetworkLists(t *testing.T) {
	c := networkSite(t)
	c.say(
		step{bob, "PUT", "/networks/{bobs}/tags", `{"tags": ["red", "blue"]}`, ""},
		step{bob, "PUT", "/ports/{port}/tags/red", "", ""},
	)
	for _, l := range []struct{ as, list, query, want string }{
		{bob, "networks", "", "shared public bobs"},
		{eve, "networks", "", "shared public"},
		{admin, "networks", "", "shared public bobs"},
		{bob, "networks", "name=bobs", "bobs"},
		{bob, "networks", "name=bobs&name=public", "public bobs"},
		{bob, "networks", "id={bobs}&name=public", ""},
		{bob, "networks", "router:external=True", "public"},
		{bob, "networks", "router:external=0&shared=no", "bobs"},
		{bob, "networks", "tenant_id=builders-id&project_id=builders-id", "bobs"},
		{bob, "networks", "tags=red,blue", "bobs"},
		{bob, "networks", "tags=red,green", ""},
		{bob, "networks", "tags-any=red,green", "bobs"},
		{bob, "networks", "not-tags=red,green", "shared public bobs"},
		{bob, "networks", "not-tags-any=red,green", "shared public"},
		{bob, "networks", "sort_key=name&sort_dir=desc", "shared public bobs"},
		{bob, "networks", "sort_key=name&sort_dir=asc", "bobs public shared"},
		{bob, "networks", "sort_key=shared&sort_dir=asc&sort_key=name&sort_dir=desc", "public bobs shared"},
		{bob, "networks", "admin_state_up=true&status=ACTIVE&mtu=77", ""},
		{admin, "networks", "provider:network_type=nonsense", ""},
		{bob, "subnets", "", "shared4 public4 bobs4"},
		{eve, "subnets", "network_id={public}", "public4"},
		{bob, "subnets", "ip_version=4&cidr=10.3.0.0/24", "bobs4"},
		{bob, "subnets", "shared=true", "shared4"},
		{bob, "subnets", "gateway_ip=10.3.0.1", "bobs4"},
		{bob, "ports", "name=bobs-port", "bobs-port"},
		{bob, "ports", "fixed_ips=ip_address%3D10.3.0.5", "bobs-port"},
		{bob, "ports", "fixed_ips=ip_address%3D10.3.0.5&fixed_ips=subnet_id%3D{public4}", ""},
		{bob, "ports", "fixed_ips=ip_address_substr%3D10.3.0&name=bobs-port", "bobs-port"},
		{bob, "ports", "network_id={bobs}&device_owner=&tags=red", "bobs-port"},
		{eve, "ports", "", ""},
		{bob, "security-groups", "name=bobs-group", "bobs-group"},
		{bob, "security-groups", "", "default bobs-group"},
		{bob, "routers", "", "bobs-router"},
		{eve, "routers", "", ""},
	} {
		answer := c.want(200, request{as: l.as, path: "/network/v2.0/" + l.list + "?" + c.fill(l.query)})
		if got := strings.Join(names(t, answer, strings.ReplaceAll(l.list, "-", "_")), " "); got != l.want {
			t.Errorf("%s %s ?%s: %q, want %q", l.as, l.list, l.query, got, l.want)
		}
	}
	for query, want := range map[string]string{
		"name=bobs&fields=name&fields=shared":                `{"networks":[{"name":"bobs","shared":false}]}`,
		"name=bobs&fields=name&fields=provider:network_type": `{"networks":[{"name":"bobs"}]}`,
	} {
		if got := c.send(request{as: bob, path: "/network/v2.0/networks?" + query}).body; got != want {
			t.Errorf("?%s: %s, want %s", query, got, want)
		}
	}
}

// Following the links gives each record once, forward and back.
func TestNetworkPages(t *testing.T) {
	s := newSite(t)
	s.want(201, request{as: bob, method: "POST", path: "/network/v2.0/networks",
		body: `{"networks": [{"name": "n0"}, {"name": "n1"}, {"name": "n2"}, {"name": "n3"}, {"name": "n4"}]}`})
	follow := func(start, rel string) []string {
		var got []string
		for next, pages := s.url+start, 0; next != ""; pages++ {
			if pages > 4 {
				t.Fatal("the pages do not end")
			}
			answer := s.want(200, request{as: bob, path: strings.TrimPrefix(next, s.url)})
			got, next = append(got, names(t, answer, "networks")...), ""
			for i := range answer["networks_links"].([]any) {
				if text(t, answer, "networks_links", i, "rel") == rel {
					next = text(t, answer, "networks_links", i, "href")
				}
			}
		}
		return got
	}
	if got := follow("/network/v2.0/networks?limit=2&sort_key=name&sort_dir=asc", "next"); strings.Join(got, " ") != "n0 n1 n2 n3 n4" {
		t.Errorf("forward %v", got)
	}
	if got := follow("/network/v2.0/networks?limit=2&sort_key=name&sort_dir=asc&page_reverse=True", "previous"); strings.Join(got, " ") != "n3 n4 n1 n2 n0" {
		t.Errorf("back %v", got)
	}
}

// A list of new records is made as a whole or not at all.
func TestNetworkBulk(t *testing.T) {
	c := networkSite(t)
	body := c.fill(`{"ports": [{"network_id": "{bobs}", "name": "a"}, {"network_id": "{bobs}", "name": "b", "fixed_ips": [{"ip_address": "10.3.0.5"}]}]}`)
	c.want(409, request{as: bob, method: "POST", path: "/network/v2.0/ports", body: body})
	if left := names(t, c.want(200, request{as: bob, path: "/network/v2.0/ports?name=a"}), "ports"); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	made := c.want(201, request{as: bob, method: "POST", path: "/network/v2.0/ports", body: strings.Replace(body, "10.3.0.5", "10.3.0.6", 1)})
	if got := names(t, made, "ports"); strings.Join(got, " ") != "a b" {
		t.Errorf("made %v", got)
	}
}

// Tags are added, replaced and taken away.
func TestNetworkTags(t *testing.T) {
	c := networkSite(t)
	for _, path := range []string{"/networks/{bobs}", "/subnets/{bobs4}", "/ports/{port}", "/security-groups/{group}", "/routers/{router}", "/floatingips/{floating}"} {
		path = "/network/v2.0" + c.fill(path) + "/tags"
		for _, st := range []struct {
			method, path, body string
			status             int
			want               string
		}{
			{"PUT", "/red", "", 201, ""},
			{"PUT", "/red", "", 201, ""},
			{"GET", "/red", "", 204, ""},
			{"GET", "/blue", "", 404, `{"NeutronError":{"detail":"","message":"Tag blue could not be found.","type":"TagNotFound"}}`},
			{"POST", "", `{"tags": ["blue", "red"]}`, 200, `{"tags":["blue","red"]}`},
			{"DELETE", "/red", "", 204, ""},
			{"DELETE", "/red", "", 404, `{"NeutronError":{"detail":"","message":"Tag red could not be found.","type":"TagNotFound"}}`},
			{"GET", "", "", 200, `{"tags":["blue"]}`},
			{"PUT", "", `{"tags": ["a", "b"]}`, 200, `{"tags":["a","b"]}`},
			{"DELETE", "", "", 204, ""},
			{"GET", "", "", 200, `{"tags":[]}`},
		} {
			res := c.send(request{as: bob, method: st.method, path: path + st.path, body: st.body})
			if res.status != st.status || res.body != st.want {
				t.Errorf("%s %s%s %s: %d %s, want %d %s", st.method, path, st.path, st.body, res.status, res.body, st.status, st.want)
			}
		}
	}
	many := make([]string, 50)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprint(i))
	}
	path := "/network/v2.0/networks/" + c.ids["bobs"] + "/tags"
	c.want(200, request{as: bob, method: "PUT", path: path, body: `{"tags": [` + strings.Join(many, ",") + `]}`})
	c.want(400, request{as: bob, method: "PUT", path: path + "/more"})
}
