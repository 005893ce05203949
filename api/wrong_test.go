package api_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"compute-agent/internal/golden"
)

// wrong is a request that must be refused; its answer is in testdata/wrong.golden.
type wrong struct {
	about string
	request
}

func post(path, body string) request { return request{method: "POST", path: path, body: body} }

// serverWith is a request for a server with one more field, or another value for one.
func serverWith(version, fields string) request {
	r := post("/compute/v2.1/servers", `{"server": {"name": "x", "imageRef": "IMAGE", "flavorRef": "1"`+fields+`}}`)
	r.version = version
	return r
}

func flavorWith(fields string) request {
	return post("/compute/v2.1/flavors", `{"flavor": {"name": "f", "ram": 1, "vcpus": 1, "disk": 1`+fields+`}}`)
}

func patch(body string) request {
	return request{method: "PATCH", path: "/image/v2/images/IMAGE", body: body,
		header: http.Header{"Content-Type": {"application/openstack-images-v2.1-json-patch"}}}
}

var wrongRequests = []wrong{
	// JSON
	{"no JSON", post("/compute/v2.1/servers", `nonsense`)},
	{"empty body", post("/compute/v2.1/servers", ` `)},
	{"cut off", post("/compute/v2.1/servers", `{"server": {"name": "x"`)},
	{"text behind", post("/compute/v2.1/servers", `{"server": {}} {}`)},
	{"a key twice", post("/compute/v2.1/servers", `{"server": {"name": "a", "name": "b"}}`)},
	{"too deep", post("/compute/v2.1/servers", strings.Repeat("[", 100)+strings.Repeat("]", 100))},
	{"a number that takes long to compare", flavorWith(`, "swap": 1e999999`)},
	{"a number of many digits", flavorWith(`, "swap": 1` + strings.Repeat("0", 64))},
	{"not UTF-8", post("/compute/v2.1/servers", "{\"server\": {\"name\": \"\xff\"}}")},
	{"too large", post("/compute/v2.1/servers", `{"server": "`+strings.Repeat("x", 1<<20)+`"}`)},
	{"not JSON's media type", request{method: "POST", path: "/compute/v2.1/servers", body: `{}`, header: http.Header{"Content-Type": {"text/plain"}}}},
	// Servers
	{"no server", post("/compute/v2.1/servers", `{}`)},
	{"no name", post("/compute/v2.1/servers", `{"server": {"imageRef": "IMAGE", "flavorRef": "1"}}`)},
	{"unknown field", serverWith("", `, "colour": "red"`)},
	{"unknown field outside", post("/compute/v2.1/servers", `{"server": {"name": "x", "flavorRef": "1"}, "colour": "red"}`)},
	{"name of the wrong type", post("/compute/v2.1/servers", `{"server": {"name": 1, "imageRef": "IMAGE", "flavorRef": "1"}}`)},
	{"name empty", post("/compute/v2.1/servers", `{"server": {"name": "", "imageRef": "IMAGE", "flavorRef": "1"}}`)},
	{"name with control characters", post("/compute/v2.1/servers", `{"server": {"name": "a\u0007<b>\u001b[31m", "imageRef": "IMAGE", "flavorRef": "1"}}`)},
	{"name with a space in front", post("/compute/v2.1/servers", `{"server": {"name": " x", "imageRef": "IMAGE", "flavorRef": "1"}}`)},
	{"name too long", post("/compute/v2.1/servers", `{"server": {"name": "`+strings.Repeat("x", 256)+`", "imageRef": "IMAGE", "flavorRef": "1"}}`)},
	{"image is no UUID", post("/compute/v2.1/servers", `{"server": {"name": "x", "imageRef": "../../etc/passwd", "flavorRef": "1"}}`)},
	{"unknown image", post("/compute/v2.1/servers", `{"server": {"name": "x", "imageRef": "00000000-0000-4000-8000-000000000000", "flavorRef": "1"}}`)},
	{"no image", post("/compute/v2.1/servers", `{"server": {"name": "x", "imageRef": "", "flavorRef": "1"}}`)},
	{"unknown flavor", post("/compute/v2.1/servers", `{"server": {"name": "x", "imageRef": "IMAGE", "flavorRef": "nope"}}`)},
	{"flavor too big for the host", post("/compute/v2.1/servers", `{"server": {"name": "x", "imageRef": "IMAGE", "flavorRef": "huge"}}`)},
	{"image without data", post("/compute/v2.1/servers", `{"server": {"name": "x", "imageRef": "QUEUED", "flavorRef": "1"}}`)},
	{"unknown key", serverWith("", `, "key_name": "nope"`)},
	{"user data not base64", serverWith("", `, "user_data": "***"`)},
	{"user data too long", serverWith("", `, "user_data": "`+strings.Repeat("QUJD", 16384)+`"`)},
	{"password too long", serverWith("", `, "adminPass": "`+strings.Repeat("secret", 64)+`"`)},
	{"metadata of the wrong type", serverWith("", `, "metadata": {"a": 1}`)},
	{"metadata key with markup", serverWith("", `, "metadata": {"<a>": "1"}`)},
	{"config drive no boolean", serverWith("", `, "config_drive": "maybe"`)},
	{"two servers at once", serverWith("", `, "min_count": 2`)},
	{"a volume", serverWith("", `, "block_device_mapping_v2": [{"source_type": "volume", "destination_type": "volume", "uuid": "v", "boot_index": 0}]`)},
	{"another image as disk", serverWith("", `, "block_device_mapping_v2": [{"source_type": "image", "destination_type": "local", "uuid": "x", "boot_index": 0}]`)},
	{"no networks in 2.37", serverWith("2.37", ``)},
	{"automatic networks", serverWith("2.37", `, "networks": "auto"`)},
	{"none as networks before 2.37", serverWith("2.36", `, "networks": "none"`)},
	{"an unknown network", serverWith("", `, "networks": [{"uuid": "00000000-0000-4000-8000-000000000000"}]`)},
	{"a network that is no UUID", serverWith("", `, "networks": [{"uuid": "../x"}]`)},
	{"an unknown port", serverWith("", `, "networks": [{"port": "00000000-0000-4000-8000-000000000000"}]`)},
	{"neither network nor port", serverWith("", `, "networks": [{"fixed_ip": "10.0.0.1"}]`)},
	{"port and address", serverWith("", `, "networks": [{"port": "00000000-0000-4000-8000-000000000000", "fixed_ip": "10.0.0.1"}]`)},
	{"bad fixed address", serverWith("", `, "networks": [{"uuid": "00000000-0000-4000-8000-000000000000", "fixed_ip": "10.0.0"}]`)},
	{"tag of a network in 2.37", serverWith("2.37", `, "networks": [{"uuid": "00000000-0000-4000-8000-000000000000", "tag": "x"}]`)},
	{"unknown security group", serverWith("", `, "security_groups": [{"name": "nope"}]`)},
	{"access address of the wrong kind", serverWith("", `, "accessIPv4": "fd00::1"`)},
	{"description before 2.19", serverWith("2.18", `, "description": "x"`)},
	{"tags", serverWith("2.52", `, "tags": ["a"], "networks": "none"`)},
	{"personality after 2.56", serverWith("2.57", `, "personality": [], "networks": "none"`)},
	{"another host", serverWith("2.74", `, "host": "elsewhere", "networks": "none"`)},
	{"another zone", serverWith("", `, "availability_zone": "mars"`)},
	{"scheduler hints", post("/compute/v2.1/servers", `{"server": {"name": "x", "imageRef": "IMAGE", "flavorRef": "1"}, "os:scheduler_hints": {"group": "g"}}`)},
	{"server ID is no UUID", request{path: "/compute/v2.1/servers/%2e%2e%2fetc"}},
	{"unknown server", request{path: "/compute/v2.1/servers/00000000-0000-4000-8000-000000000000"}},
	{"update with nothing", request{method: "PUT", path: "/compute/v2.1/servers/SERVER", body: `{"server": {}}`}},
	{"no such action", post("/compute/v2.1/servers/SERVER/action", `{"explode": null}`)},
	{"two actions", post("/compute/v2.1/servers/SERVER/action", `{"pause": null, "os-stop": null}`)},
	{"reboot how", post("/compute/v2.1/servers/SERVER/action", `{"reboot": {"type": "GENTLE"}}`)},
	{"hardware changes accepted by a word", post("/compute/v2.1/servers/SERVER/action", `{"reboot": {"type": "HARD", "accept_hardware_changes": "yes"}}`)},
	{"security group added to a server without ports", post("/compute/v2.1/servers/SERVER/action", `{"addSecurityGroup": {"name": "default"}}`)},
	{"unknown security group removed", post("/compute/v2.1/servers/SERVER/action", `{"removeSecurityGroup": {"name": "nope"}}`)},
	{"unknown floating IP added", post("/compute/v2.1/servers/SERVER/action", `{"addFloatingIp": {"address": "203.0.113.9"}}`)},
	{"floating IP that is no address", post("/compute/v2.1/servers/SERVER/action", `{"addFloatingIp": {"address": "many"}}`)},
	{"floating IP since 2.44", request{method: "POST", path: "/compute/v2.1/servers/SERVER/action", version: "2.44", body: `{"removeFloatingIp": {"address": "203.0.113.9"}}`}},
	{"addresses of an unknown network", request{path: "/compute/v2.1/servers/SERVER/ips/nope"}},
	{"console length", post("/compute/v2.1/servers/SERVER/action", `{"os-getConsoleOutput": {"length": "many"}}`)},
	{"action in the wrong state", post("/compute/v2.1/servers/SERVER/action", `{"unpause": null}`)},
	// Queries
	{"limit no number", request{path: "/compute/v2.1/servers?limit=many"}},
	{"limit negative", request{path: "/compute/v2.1/servers?limit=-1"}},
	{"unknown marker", request{path: "/compute/v2.1/servers?marker=nope"}},
	{"bad expression", request{path: "/compute/v2.1/servers?name=%5B"}},
	{"expression too long", request{path: "/compute/v2.1/servers?name=" + strings.Repeat("a", 256)}},
	{"expression that repeats", request{path: "/compute/v2.1/servers?name=" + strings.Repeat(".%7B0,1000%7D", 9)}},
	{"bad time", request{path: "/compute/v2.1/servers?changes-since=yesterday"}},
	{"bad sort key", request{path: "/compute/v2.1/servers?sort_key=colour"}},
	{"bad sort direction", request{path: "/compute/v2.1/servers?sort_key=uuid&sort_dir=left"}},
	{"bad status since 2.38", request{path: "/compute/v2.1/servers?status=NONSENSE", version: "2.38"}},
	{"unknown parameter since 2.75", request{path: "/compute/v2.1/servers?colour=red", version: "2.75"}},
	{"malformed query", request{path: "/compute/v2.1/servers?a=%zz"}},
	// Flavors
	{"flavor without memory", post("/compute/v2.1/flavors", `{"flavor": {"name": "f", "vcpus": 1, "disk": 1}}`)},
	{"flavor with no CPU", post("/compute/v2.1/flavors", `{"flavor": {"name": "f", "ram": 1, "vcpus": 0, "disk": 1}}`)},
	{"flavor with text for memory", post("/compute/v2.1/flavors", `{"flavor": {"name": "f", "ram": "much", "vcpus": 1, "disk": 1}}`)},
	{"flavor with a fraction", post("/compute/v2.1/flavors", `{"flavor": {"name": "f", "ram": 1.5, "vcpus": 1, "disk": 1}}`)},
	{"flavor beyond all numbers", post("/compute/v2.1/flavors", `{"flavor": {"name": "f", "ram": 99999999999999999999, "vcpus": 1, "disk": 1}}`)},
	{"flavor ID with markup", flavorWith(`, "id": "<x>"`)},
	{"flavor ID taken", flavorWith(`, "id": "1"`)},
	{"flavor description before 2.55", flavorWith(`, "description": "x"`)},
	{"unknown flavor shown", request{path: "/compute/v2.1/flavors/nope"}},
	{"flavor update before 2.55", request{method: "PUT", path: "/compute/v2.1/flavors/1", body: `{"flavor": {"description": "x"}}`}},
	{"extra specs empty", post("/compute/v2.1/flavors/1/os-extra_specs", `{"extra_specs": {}}`)},
	{"extra spec key with markup", post("/compute/v2.1/flavors/1/os-extra_specs", `{"extra_specs": {"<x>": "1"}}`)},
	{"extra spec unknown since 2.86", request{method: "POST", path: "/compute/v2.1/flavors/1/os-extra_specs", version: "2.86", body: `{"extra_specs": {"hw:colour": "1"}}`}},
	{"extra spec value since 2.86", request{method: "POST", path: "/compute/v2.1/flavors/1/os-extra_specs", version: "2.86", body: `{"extra_specs": {"hw:numa_nodes": "two"}}`}},
	{"extra spec absent", request{method: "DELETE", path: "/compute/v2.1/flavors/1/os-extra_specs/hw:none"}},
	// Keypairs
	{"keypair name with markup", post("/compute/v2.1/os-keypairs", `{"keypair": {"name": "<x>"}}`)},
	{"keypair with no key in it", post("/compute/v2.1/os-keypairs", `{"keypair": {"name": "x", "public_key": "ssh-rsa nonsense"}}`)},
	{"unknown keypair", request{path: "/compute/v2.1/os-keypairs/nope"}},
	// Hypervisors
	{"unknown hypervisor", request{path: "/compute/v2.1/os-hypervisors/7"}},
	{"old number since 2.53", request{path: "/compute/v2.1/os-hypervisors/1", version: "2.53"}},
	{"statistics since 2.88", request{path: "/compute/v2.1/os-hypervisors/statistics", version: "2.88"}},
	{"uptime", request{path: "/compute/v2.1/os-hypervisors/1/uptime"}},
	// Routes and versions
	{"unknown path", request{path: "/compute/v2.1/nonsense"}},
	{"unknown path of the image service", request{path: "/image/v2/nonsense"}},
	{"unknown path of the identity service", request{path: "/identity/v3/nonsense"}},
	{"unknown service", request{path: "/object-store/v1"}},
	{"unknown method", request{method: "DELETE", path: "/compute/v2.1/flavors"}},
	{"unknown method of the image service", request{method: "DELETE", path: "/image/v2/images"}},
	{"version too high", request{path: "/compute/v2.1/servers", version: "2.999"}},
	{"version too low", request{path: "/compute/v2.1/servers", version: "2.0"}},
	{"version 3", request{path: "/compute/v2.1/servers", version: "3.1"}},
	{"version malformed", request{path: "/compute/v2.1/servers", version: "two"}},
	// Images
	{"image with a wrong type", post("/image/v2/images", `{"name": 1}`)},
	{"image in an unknown format", post("/image/v2/images", `{"name": "x", "disk_format": "vmdk", "container_format": "bare"}`)},
	{"image with a status", post("/image/v2/images", `{"name": "x", "status": "active"}`)},
	{"image with a property that is no text", post("/image/v2/images", `{"name": "x", "os_type": 1}`)},
	{"image ID taken", post("/image/v2/images", `{"id": "IMAGE"}`)},
	{"image ID no UUID", post("/image/v2/images", `{"id": "../x"}`)},
	{"unknown image shown", request{path: "/image/v2/images/nope"}},
	{"upload of the wrong media type", request{method: "PUT", path: "/image/v2/images/QUEUED/file", body: `x`}},
	{"upload twice", request{method: "PUT", path: "/image/v2/images/IMAGE/file", body: `x`, header: http.Header{"Content-Type": {"application/octet-stream"}}}},
	{"upload of what it is not", request{method: "PUT", path: "/image/v2/images/QUEUED/file", body: `no qcow2`, header: http.Header{"Content-Type": {"application/octet-stream"}}}},
	{"upload too large", request{method: "PUT", path: "/image/v2/images/QUEUED/file", body: strings.Repeat("x", 2<<20), header: http.Header{"Content-Type": {"application/octet-stream"}}}},
	{"patch of the wrong media type", request{method: "PATCH", path: "/image/v2/images/IMAGE", body: `[]`}},
	{"patch of a text with a number", patch(`[{"op": "replace", "path": "/name", "value": 5}]`)},
	{"patch of a number with a text", patch(`[{"op": "replace", "path": "/min_ram", "value": "5"}]`)},
	{"patch that is no list", patch(`{}`)},
	{"patch with an unknown operation", patch(`[{"op": "copy", "path": "/name", "value": "x"}]`)},
	{"patch without a value", patch(`[{"op": "add", "path": "/name"}]`)},
	{"patch of a bad path", patch(`[{"op": "add", "path": "name", "value": "x"}]`)},
	{"patch of a deep path", patch(`[{"op": "add", "path": "/a/b", "value": "x"}]`)},
	{"patch of what is read-only", patch(`[{"op": "replace", "path": "/status", "value": "x"}]`)},
	{"patch of what is not there", patch(`[{"op": "replace", "path": "/colour", "value": "x"}]`)},
	{"removal of a field", patch(`[{"op": "remove", "path": "/name"}]`)},
	{"patch of the format of an active image", patch(`[{"op": "replace", "path": "/disk_format", "value": "qcow2"}]`)},
	{"bad visibility", request{path: "/image/v2/images?visibility=secret"}},
	{"both ways to sort", request{path: "/image/v2/images?sort=name&sort_key=name"}},
	// Logins
	{"login without methods", post("/identity/v3/auth/tokens", `{"auth": {"identity": {}}}`)},
	{"login with a token in the wrong place", post("/identity/v3/auth/tokens", `{"auth": {"identity": {"methods": ["token"], "token": "secretsecret"}}}`)},
	{"login with a wrong password", post("/identity/v3/auth/tokens", loginBody("admin", "wrong"))},
	{"login of nobody", post("/identity/v3/auth/tokens", loginBody("nobody", "wrong"))},
	{"login by another method", post("/identity/v3/auth/tokens", `{"auth": {"identity": {"methods": ["totp"]}}}`)},
	{"login for another project", post("/identity/v3/auth/tokens", `{"auth": {"identity": {"methods": ["password"], "password": {"user":
		{"name": "bob", "domain": {"name": "Default"}, "password": "bob"}}}, "scope": {"project": {"id": "admin-id"}}}}`)},
	{"login for the system", post("/identity/v3/auth/tokens", `{"auth": {"identity": {"methods": ["password"], "password": {"user":
		{"name": "bob", "domain": {"name": "Default"}, "password": "bob"}}}, "scope": {"system": {"all": true}}}}`)},
	{"unknown token validated", request{path: "/identity/v3/auth/tokens", header: http.Header{"X-Subject-Token": {"nope"}}}},
	{"another's project", request{path: "/identity/v3/projects/builders-id"}},
	{"another user", request{path: "/identity/v3/users/bob-id"}},
}

// Every wrong request is refused with a message in its service's shape that says what is wrong, and
// leaves nothing behind.
func TestWrongRequests(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	s.want(200, request{as: admin, method: "POST", path: "/compute/v2.1/flavors", body: `{"flavor": {"id": "huge", "name": "huge", "ram": 99999999, "vcpus": 1, "disk": 1}}`})
	img := s.addImage(admin, "tiny", "public")
	queued := text(t, s.want(201, request{as: admin, method: "POST", path: "/image/v2/images",
		body: `{"name": "queued", "disk_format": "qcow2", "container_format": "bare"}`}), "id")
	server := s.addServer(admin, "web", img, "1")
	known := strings.NewReplacer("IMAGE", img, "QUEUED", queued, "SERVER", server)
	unknown := strings.NewReplacer(img, "IMAGE", queued, "QUEUED", server, "SERVER", s.url, "http://node")
	before := s.belongings()

	var out strings.Builder
	for _, c := range wrongRequests {
		r := c.request
		r.as, r.path, r.body = admin, known.Replace(r.path), known.Replace(r.body)
		res := s.send(r)
		if res.status < 400 {
			t.Errorf("%s: answered with %d %s", c.about, res.status, res.body)
		}
		if strings.Contains(res.body, "secretsecret") || strings.Contains(res.body, s.images) {
			t.Errorf("%s: the answer tells too much: %s", c.about, res.body)
		}
		fmt.Fprintf(&out, "%s: %d\n  %s\n", c.about, res.status, changing.ReplaceAllString(unknown.Replace(res.body), "*"))
	}
	golden.Assert(t, "testdata/wrong.golden", out.String())
	if after := s.belongings(); after != before {
		t.Errorf("the wrong requests left something:\nbefore %s\nafter  %s", before, after)
	}
}

// belongings is all that the agent has, in a form to compare.
func (s *site) belongings() string {
	s.t.Helper()
	servers, err := s.core.Servers(s.t.Context())
	s.must(err)
	images, err := s.core.Images(s.t.Context())
	s.must(err)
	flavors, err := s.core.Flavors(s.t.Context())
	s.must(err)
	keys, err := s.core.Keypairs(s.t.Context(), "admin-id")
	s.must(err)
	node, err := s.core.Node(s.t.Context())
	s.must(err)
	return fmt.Sprintf("%d servers %d images %d flavors %d keypairs, claimed %d CPUs %d MiB %d GiB, files %d %d",
		len(servers), len(images), len(flavors), len(keys), node.CPUsUsed, node.MemoryMiBUsed, node.DiskGiBUsed,
		s.files(s.images), s.files(s.servers))
}

func (s *site) files(dir string) int {
	s.t.Helper()
	entries, err := os.ReadDir(dir)
	s.must(err)
	return len(entries)
}
