package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// serverOn creates a server with networks and waits until it is built.
func (c *conversation) serverOn(as, name, version, fields string) (id string) {
	c.t.Helper()
	body := c.fill(fmt.Sprintf(`{"server": {"name": %q, "imageRef": "{image}", "flavorRef": "1"%s}}`, name, fields))
	id = text(c.t, c.want(202, request{as: as, method: "POST", path: "/compute/v2.1/servers", version: version, body: body}), "server", "id")
	c.settle(id)
	c.ids[name] = id
	return id
}

// serverSite is networkSite with what servers are made of, and a router from bob's network to the external one.
func serverSite(t *testing.T) *conversation {
	c := networkSite(t)
	c.addFlavor("1")
	c.ids["image"] = c.addImage(admin, "tiny", "public")
	c.say(
		step{bob, "PUT", "/routers/{router}", `{"router": {"external_gateway_info": {"network_id": "{public}"}}}`, ""},
		step{bob, "PUT", "/routers/{router}/add_router_interface", `{"subnet_id": "{bobs4}"}`, ""},
	)
	return c
}

func (c *conversation) part(id, version, key string) string {
	c.t.Helper()
	value, err := json.Marshal(c.show(bob, id, version)[key])
	c.must(err)
	return c.told(string(value))
}

// A server's addresses, groups and floating IPs, as they come and go.
func TestServerNetworks(t *testing.T) {
	c := serverSite(t)
	id := c.serverOn(bob, "web", "2.42", `, "security_groups": [{"name": "bobs-group"}], "networks": [{"uuid": "{bobs}", "fixed_ip": "10.3.0.77", "tag": "front"},
		{"uuid": "{shared}"}]`)
	path := "/compute/v2.1/servers/" + id
	expect := func(about, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", about, got, want)
		}
	}
	shared := text(t, c.show(bob, id, ""), "addresses", "shared", 0, "addr")
	if !strings.HasPrefix(shared, "10.2.0.") {
		t.Errorf("address %s", shared)
	}
	const mac = `"OS-EXT-IPS-MAC:mac_addr":"fa:16:3e:*"`
	expect("addresses", c.part(id, "", "addresses"), `{"bobs":[{`+mac+`,"OS-EXT-IPS:type":"fixed","addr":"10.3.0.77","version":4}],`+
		`"shared":[{`+mac+`,"OS-EXT-IPS:type":"fixed","addr":"`+shared+`","version":4}]}`)
	expect("groups", c.part(id, "", "security_groups"), `[{"name":"bobs-group"}]`)

	c.act(bob, id, `{"addFloatingIp": {"address": "`+c.floatingAddress()+`"}}`)
	c.act(bob, id, `{"addSecurityGroup": {"name": "default"}}`)
	expect("groups", c.part(id, "", "security_groups"), `[{"name":"bobs-group"},{"name":"default"}]`)
	expect("ips", c.told(c.send(request{as: bob, path: path + "/ips/bobs"}).body),
		`{"bobs":[{"version":4,"addr":"10.3.0.77"},{"version":4,"addr":"`+c.floatingAddress()+`"}]}`)
	c.act(bob, id, `{"removeSecurityGroup": {"name": "`+c.ids["group"]+`"}}`)
	expect("groups", c.part(id, "", "security_groups"), `[{"name":"default"}]`)
	groups := c.want(200, request{as: bob, path: path + "/os-security-groups"})
	expect("rules", fmt.Sprintf("%s %d", text(t, groups, "security_groups", 0, "name"), len(dig(t, groups, "security_groups", 0, "rules").([]any))), "default 2")
	c.act(bob, id, `{"removeFloatingIp": {"address": "`+c.floatingAddress()+`"}}`)
	expect("ips", c.told(c.send(request{as: bob, path: path + "/ips"}).body),
		`{"addresses":{"bobs":[{"version":4,"addr":"10.3.0.77"}],"shared":[{"version":4,"addr":"`+shared+`"}]}}`)

	for query, want := range map[string]string{
		"ip=10.3.0": "web", "ip=%5E10%5C.3%5C.0%5C.77$": "web", "ip=192": "", "ip6=fd00": "", "ip=10.2&ip6=fd00": "",
	} {
		got := names(t, c.want(200, request{as: bob, version: "2.5", path: "/compute/v2.1/servers?" + query}), "servers")
		expect("?"+query, strings.Join(got, " "), want)
	}
	c.want(204, request{as: bob, method: "DELETE", path: path})
	c.settle(id)
	left := names(t, c.want(200, request{as: bob, path: "/network/v2.0/ports?device_id=" + id}), "ports")
	expect("ports of the deleted server", fmt.Sprint(left), "[]")
}

func (c *conversation) floatingAddress() string {
	c.t.Helper()
	return text(c.t, c.want(200, request{as: bob, path: "/network/v2.0/floatingips/" + c.ids["floating"]}), "floatingip", "floating_ip_address")
}

// Which networks a server gets by the ways to ask for them.
func TestServerNetworkChoice(t *testing.T) {
	c := serverSite(t)
	for _, s := range []struct{ as, name, version, fields, want string }{
		{bob, "none", "2.37", `, "networks": "none"`, ""},
		{bob, "plugged", "2.1", `, "networks": [{"port": "{port}"}]`, "bobs"},
		{eve, "only", "2.1", ``, "shared"},
		{eve, "auto", "2.37", `, "networks": "auto"`, "shared"},
		{eve, "empty", "2.1", `, "networks": []`, "shared"},
	} {
		id := c.serverOn(s.as, s.name, s.version, s.fields)
		var got []string
		for name := range c.show(s.as, id, "")["addresses"].(map[string]any) {
			got = append(got, name)
		}
		if strings.Join(got, " ") != s.want {
			t.Errorf("%s: on %v, want %q", s.name, got, s.want)
		}
	}
	for _, s := range []struct {
		fields, want string
		status       int
	}{
		{``, "networks", 409}, // bob can use two
		{`, "networks": [{"port": "{port}"}]`, "in use", 409},
		{`, "networks": [{"uuid": "{public}"}]`, "external network", 403},
		{`, "networks": [{"uuid": "{bobs}", "fixed_ip": "10.9.0.1"}]`, "10.9.0.1", 400},
		{`, "networks": [{"uuid": "{bobs}"}], "security_groups": [{"name": "nope"}]`, "nope", 400},
	} {
		body := c.fill(`{"server": {"name": "x", "imageRef": "{image}", "flavorRef": "1"` + s.fields + `}}`)
		res := c.send(request{as: bob, method: "POST", path: "/compute/v2.1/servers", body: body})
		if res.status != s.status || !strings.Contains(res.body, s.want) {
			t.Errorf("%s: %d %s, want %d with %q", s.fields, res.status, res.body, s.status, s.want)
		}
	}
}

// A port that only says that it is a server's is not shown as the server's.
func TestPortThatClaimsAServer(t *testing.T) {
	c := serverSite(t)
	id := c.serverOn(bob, "web", "2.37", `, "networks": "none"`)
	body := c.fill(`{"port": {"network_id": "{shared}", "device_id": "` + id + `", "device_owner": "compute:nova"}}`)
	res := c.send(request{as: eve, method: "POST", path: "/network/v2.0/ports", body: body})
	if res.status != 409 || !strings.Contains(res.body, "DeviceIDNotOwnedByTenant") {
		t.Errorf("%d %s", res.status, res.body)
	}
}
