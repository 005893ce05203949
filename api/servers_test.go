package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"compute-agent/compute"
	"compute-agent/internal/golden"
)

// A server's whole life through the API, by a user who is no admin.
func TestServerLife(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	img := s.addImage(admin, "tiny", "public")
	id := s.addServer(bob, "web", img, "1")
	for _, step := range []struct{ action, status string }{
		{"", "ACTIVE"},
		{`{"pause": null}`, "PAUSED"},
		{`{"unpause": null}`, "ACTIVE"},
		{`{"os-stop": null}`, "SHUTOFF"},
		{`{"os-start": null}`, "ACTIVE"},
		{`{"reboot": {"type": "HARD"}}`, "ACTIVE"},
		{`{"reboot": {"type": "soft"}}`, "ACTIVE"},
	} {
		if step.action != "" {
			s.act(bob, id, step.action)
		}
		if got := s.show(bob, id, "")["status"]; got != step.status {
			t.Fatalf("status after %s is %v, want %s", step.action, got, step.status)
		}
	}
	output := s.want(200, request{as: bob, method: "POST", path: "/compute/v2.1/servers/" + id + "/action",
		body: `{"os-getConsoleOutput": {"length": "1"}}`})
	if !strings.Contains(text(t, output, "output"), "started") {
		t.Errorf("console output %v", output)
	}
	s.want(204, request{as: bob, method: "DELETE", path: "/compute/v2.1/servers/" + id})
	s.settle(id)
	s.want(404, request{as: bob, path: "/compute/v2.1/servers/" + id})
}

// An action that the state does not allow is a conflict that says so.
func TestActionInWrongState(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	id := s.addServer(bob, "web", s.addImage(admin, "tiny", "public"), "1")
	answer := s.want(409, request{as: bob, method: "POST", path: "/compute/v2.1/servers/" + id + "/action", body: `{"unpause": null}`})
	if message := text(t, answer, "conflictingRequest", "message"); !strings.Contains(message, "active") {
		t.Errorf("message %q does not name the state", message)
	}
}

// A hard reboot that would change what the guest sees is a conflict that says what, until the request says that it may.
func TestHardRebootWithOtherHardware(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	id := s.addServer(bob, "web", s.addImage(admin, "tiny", "public"), "1")
	s.must(s.store.Update(t.Context(), func(tx compute.Writer) error {
		made, err := tx.Definition(id)
		if err != nil {
			return err
		}
		made.Machine = "pc-i440fx-2.0" // as if an agent had made it that did not settle the machine
		return tx.PutDefinition(id, made)
	}))
	reboot := func(status int, how string) map[string]any {
		t.Helper()
		return s.want(status, request{as: bob, method: "POST", path: "/compute/v2.1/servers/" + id + "/action", body: `{"reboot": {` + how + `}}`})
	}
	message := text(t, reboot(409, `"type": "HARD"`), "conflictingRequest", "message")
	for _, want := range []string{id, "machine: type pc-i440fx-2.0 -> pc-i440fx-7.2", `"accept_hardware_changes": true`} {
		if !strings.Contains(message, want) {
			t.Errorf("message %q does not say %q", message, want)
		}
	}
	reboot(409, `"type": "Hard", "accept_hardware_changes": false`)
	if message := text(t, reboot(400, `"type": "SOFT", "accept_hardware_changes": true`), "badRequest", "message"); !strings.Contains(message, "HARD") {
		t.Errorf("message %q does not say what it goes with", message)
	}
	s.act(bob, id, `{"reboot": {"type": "HARD", "accept_hardware_changes": true}}`)
	s.act(bob, id, `{"reboot": {"type": "HARD"}}`)
	if got := s.show(bob, id, "")["status"]; got != "ACTIVE" {
		t.Errorf("status %v", got)
	}
}

// What changes from run to run.
var changing = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{56}|r-[0-9a-f]{8}|\d{4}-\d\d-\d\d[T ][0-9:.]+Z?|127\.0\.0\.1:\d+`)

// The view of a server in the versions in which it differs, for an admin and for its owner.
func TestServerViews(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	img := s.addImage(admin, "tiny", "public")
	body := fmt.Sprintf(`{"server": {"name": "Web_1", "imageRef": %q, "flavorRef": "1", "user_data": "aGk=", "config_drive": true,
		"metadata": {"role": "web"}, "description": "front", "networks": []}}`, img)
	id := text(t, s.want(202, request{as: bob, method: "POST", path: "/compute/v2.1/servers", version: "2.19", body: body}), "server", "id")
	s.settle(id)
	var out strings.Builder
	for _, as := range []string{bob, admin} {
		before := map[string]any{}
		for _, version := range []string{"2.1", "2.3", "2.9", "2.16", "2.19", "2.26", "2.47", "2.63", "2.71", "2.73", "2.88"} {
			view := s.show(as, id, version)
			fmt.Fprintf(&out, "== %s %s: what is new\n", as, version)
			for _, key := range slices.Sorted(maps.Keys(view)) {
				value, err := json.Marshal(view[key])
				s.must(err)
				if old, there := before[key]; !there || !reflect.DeepEqual(old, view[key]) {
					fmt.Fprintf(&out, "%s: %s\n", key, changing.ReplaceAll(value, []byte("*")))
				}
			}
			before = view
		}
	}
	golden.Assert(t, "testdata/server_views.golden", out.String())
}

func names(t testing.TB, answer map[string]any, key string) []string {
	t.Helper()
	var list []string
	for i := range answer[key].([]any) {
		list = append(list, text(t, answer, key, i, "name"))
	}
	return list
}

// Filters, order and pages of the list.
func TestServerList(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	s.addFlavor("2")
	img := s.addImage(admin, "tiny", "public")
	for i, name := range []string{"web-1", "web-2", "db-1"} {
		s.addServer(bob, name, img, fmt.Sprint(1+i%2))
	}
	stopped := s.addServer(bob, "db-2", img, "1")
	s.act(bob, stopped, `{"os-stop": null}`)
	s.addServer(eve, "hers", img, "1")
	for _, c := range []struct {
		as, query, version string
		want               string
	}{
		{bob, "", "", "db-2 db-1 web-2 web-1"}, // newest first
		{eve, "", "", "hers"},
		{admin, "", "", ""},
		{admin, "all_tenants=1", "", "hers db-2 db-1 web-2 web-1"},
		{admin, "all_tenants", "", "hers db-2 db-1 web-2 web-1"},
		{admin, "all_tenants=True&project_id=elsewhere-id", "", "hers"},
		{bob, "name=web", "", "web-2 web-1"},
		{bob, "name=WEB-%5B12%5D%24", "", "web-2 web-1"},
		{bob, "name=%5Edb-1%24", "", "db-1"},
		{bob, "status=shutoff", "", "db-2"},
		{bob, "status=SHUTOFF&status=ACTIVE", "", "db-2 db-1 web-2 web-1"},
		{bob, "status=NONSENSE", "2.37", ""},
		{bob, "flavor=2", "", "web-2"},
		{bob, "image=" + img, "", "db-2 db-1 web-2 web-1"},
		{bob, "image=none", "", ""},
		{bob, "ip=10.", "", ""},
		{bob, "sort_key=display_name&sort_dir=asc", "", "db-1 db-2 web-1 web-2"},
		{bob, "sort_key=display_name&sort_dir=asc&limit=2", "", "db-1 db-2"},
		{bob, "host=elsewhere", "", "db-2 db-1 web-2 web-1"}, // not for users: ignored
		{admin, "all_tenants=1&host=elsewhere", "", ""},
		{admin, "all_tenants=1&host=node-1&limit=1", "", "hers"},
		{bob, "vm_state=stopped", "2.83", "db-2"},
		{bob, "deleted=True", "", "db-2 db-1 web-2 web-1"},
		{admin, "deleted=True&all_tenants=1", "", ""},
		{bob, "changes-since=2100-01-01T00:00:00Z", "", ""},
		{bob, "changes-since=2000-01-01T00:00:00Z&limit=1", "", "db-2"},
		{bob, "changes-before=2000-01-01T00:00:00Z", "2.66", ""},
		{bob, "tags=a", "2.26", ""},
		{bob, "locked=True", "2.73", ""},
	} {
		answer := s.want(200, request{as: c.as, path: "/compute/v2.1/servers?" + c.query, version: c.version})
		if got := strings.Join(names(t, answer, "servers"), " "); got != c.want {
			t.Errorf("%s ?%s %s: %q, want %q", c.as, c.query, c.version, got, c.want)
		}
	}
}

// Following the links gives each server once.
func TestServerPages(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	img := s.addImage(admin, "tiny", "public")
	want := []string{}
	for i := range 5 {
		want = append(want, fmt.Sprintf("s%d", i))
		s.addServer(bob, want[i], img, "1")
	}
	var got []string
	next := s.url + "/compute/v2.1/servers/detail?limit=2&sort_key=display_name&sort_dir=asc"
	for pages := 0; next != ""; pages++ {
		if pages > 3 {
			t.Fatal("the pages do not end")
		}
		answer := s.want(200, request{as: bob, path: strings.TrimPrefix(next, s.url)})
		got, next = append(got, names(t, answer, "servers")...), ""
		if _, more := answer["servers_links"]; more {
			next = text(t, answer, "servers_links", 0, "href")
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages have %v, want %v", got, want)
	}
}

// Nobody sees, changes or deletes another project's server, and cannot tell it from one that is not.
func TestProjectsAreApart(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	id := s.addServer(bob, "web", s.addImage(admin, "tiny", "public"), "1")
	path := "/compute/v2.1/servers/"
	const absent = "00000000-0000-4000-8000-000000000000"
	for _, r := range []request{
		{method: "GET"},
		{method: "DELETE"},
		{method: "PUT", body: `{"server": {"name": "mine"}}`},
		{method: "POST", path: "/action", body: `{"os-stop": null}`},
		{method: "POST", path: "/action", body: `{"os-getConsoleOutput": {}}`},
		{method: "GET", path: "/metadata"},
		{method: "POST", path: "/metadata", body: `{"metadata": {"a": "b"}}`},
		{method: "GET", path: "/os-interface"},
		{method: "GET", path: "/os-security-groups"},
		{method: "GET", path: "/ips"},
		{method: "GET", path: "/ips/x"},
		{method: "POST", path: "/action", body: `{"addSecurityGroup": {"name": "default"}}`},
		{method: "POST", path: "/action", body: `{"removeFloatingIp": {"address": "203.0.113.9"}}`},
		{method: "GET", path: "/os-interface/" + absent},
		{method: "POST", path: "/os-interface", body: `{}`},
		{method: "DELETE", path: "/os-interface/" + absent},
	} {
		r.as = eve
		suffix := r.path
		r.path = path + id + suffix
		theirs := s.send(r)
		r.path = path + absent + suffix
		none := s.send(r)
		if theirs.status != http.StatusNotFound || strings.ReplaceAll(theirs.body, id, absent) != none.body {
			t.Errorf("%s %s: %d %s, and for none %d %s", r.method, suffix, theirs.status, theirs.body, none.status, none.body)
		}
	}
	if got := s.show(bob, id, ""); got["name"] != "web" || got["status"] != "ACTIVE" {
		t.Errorf("the server has become %v", got)
	}
	s.want(200, request{as: admin, path: path + id})
}

func TestServerUpdate(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	id := s.addServer(bob, "web", s.addImage(admin, "tiny", "public"), "1")
	path := "/compute/v2.1/servers/" + id
	answer := s.want(200, request{as: bob, method: "PUT", path: path, version: "2.19", body: `{"server": {"name": "db", "description": "x"}}`})
	if text(t, answer, "server", "name") != "db" || text(t, answer, "server", "description") != "x" {
		t.Errorf("updated: %v", answer)
	}
	answer = s.want(200, request{as: bob, method: "PUT", path: path, version: "2.75", body: `{"server": {"description": null}}`})
	if got := dig(t, answer, "server", "description"); got != nil {
		t.Errorf("description %v, want none", got)
	}
	if got := text(t, answer, "server", "OS-EXT-STS:vm_state"); got != "active" {
		t.Errorf("from 2.75 on an update answers with the whole server; vm_state is %q", got)
	}
}

func TestServerMetadata(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	id := s.addServer(bob, "web", s.addImage(admin, "tiny", "public"), "1")
	path := "/compute/v2.1/servers/" + id + "/metadata"
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "", `{"metadata": {"a": "1", "b": "2"}}`, 200, `{"metadata":{"a":"1","b":"2"}}`},
		{"PUT", "/c", `{"meta": {"c": "3"}}`, 200, `{"meta":{"c":"3"}}`},
		{"PUT", "/c", `{"meta": {"d": "3"}}`, 400, `{"badRequest":{"code":400,"message":"Request body and URI mismatch"}}`},
		{"GET", "/c", "", 200, `{"meta":{"c":"3"}}`},
		{"DELETE", "/a", "", 204, ""},
		{"DELETE", "/a", "", 404, `{"itemNotFound":{"code":404,"message":"Metadata item was not found"}}`},
		{"GET", "", "", 200, `{"metadata":{"b":"2","c":"3"}}`},
		{"PUT", "", `{"metadata": {"x": "y"}}`, 200, `{"metadata":{"x":"y"}}`},
		{"GET", "", "", 200, `{"metadata":{"x":"y"}}`},
	} {
		res := s.send(request{as: bob, method: c.method, path: path + c.path, body: c.body})
		if res.status != c.status || res.body != c.want {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.path, c.body, res.status, res.body, c.status, c.want)
		}
	}
}
