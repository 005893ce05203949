package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"compute-agent/internal/golden"
)

// volumeTalk is a conversation with the block storage API in which what takes time has been done before the next step.
type volumeTalk struct{ *conversation }

func (s *site) volumeTalk(version string) volumeTalk {
	c := s.conversation()
	c.base, c.version = "/volume/v3", version
	return volumeTalk{c}
}

func (c volumeTalk) say(steps ...step) {
	c.t.Helper()
	for _, st := range steps {
		c.conversation.say(st)
		c.must(c.core.Idle(c.t.Context()))
	}
}

// Each kind of record through its life, in the shapes of Cinder.
func TestVolumeRecords(t *testing.T) {
	c := newSite(t).volumeTalk("3.67")
	c.ids["image"] = c.addImage(admin, "tiny", "public")
	c.say(
		step{bob, "POST", "/volumes", `{"volume": {"name": " data ", "description": "of the web", "size": "2", "metadata": {"tier": "gold"}, "availability_zone": "nova"}}`, "data"},
		step{bob, "GET", "/volumes/{data}", "", ""},
		step{admin, "GET", "/volumes/{data}", "", ""},
		step{bob, "PUT", "/volumes/{data}", `{"volume": {"name": "files", "description": null}}`, ""},
		step{bob, "POST", "/volumes/{data}/action", `{"os-extend": {"new_size": 3}}`, ""},
		step{bob, "POST", "/volumes/{data}/action", `{"os-set_bootable": {"bootable": "True"}}`, ""},
		step{bob, "POST", "/volumes/{data}/action", `{"os-update_readonly_flag": {"readonly": true}}`, ""},
		step{bob, "POST", "/volumes/{data}/action", `{"os-set_image_metadata": {"metadata": {"hw_disk_bus": "scsi"}}}`, ""},
		step{bob, "POST", "/volumes/{data}/action", `{"os-show_image_metadata": null}`, ""},
		step{bob, "GET", "/volumes/detail", "", ""},
		step{bob, "POST", "/volumes/{data}/action", `{"os-unset_image_metadata": {"key": "hw_disk_bus"}}`, ""},
		step{bob, "POST", "/volumes/{data}/action", `{"os-update_readonly_flag": {"readonly": false}}`, ""},
		step{bob, "POST", "/volumes/{data}/metadata", `{"metadata": {"a": "1", "b": "2"}}`, ""},
		step{bob, "PUT", "/volumes/{data}/metadata/a", `{"meta": {"a": "3"}}`, ""},
		step{bob, "GET", "/volumes/{data}/metadata/a", "", ""},
		step{bob, "DELETE", "/volumes/{data}/metadata/b", "", ""},
		step{bob, "PUT", "/volumes/{data}/metadata", `{"metadata": {"tier": "iron"}}`, ""},
		step{bob, "GET", "/volumes/{data}/metadata", "", ""},
		step{bob, "POST", "/volumes", `{"volume": {"imageRef": "tiny", "size": 1}}`, "root"},
		step{bob, "GET", "/volumes/{root}", "", ""},
		step{bob, "POST", "/snapshots", `{"snapshot": {"volume_id": "{data}", "name": "s", "description": "before", "metadata": {"why": "test"}}}`, "snap"},
		step{bob, "GET", "/snapshots/{snap}", "", ""},
		step{bob, "PUT", "/snapshots/{snap}", `{"snapshot": {"name": "t"}}`, ""},
		step{bob, "GET", "/snapshots/detail?volume_id={data}", "", ""},
		step{bob, "GET", "/snapshots", "", ""},
		step{bob, "PUT", "/snapshots/{snap}/metadata/why", `{"meta": {"why": "fun"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"snapshot_id": "{snap}", "name": "again"}}`, "again"},
		step{bob, "POST", "/volumes", `{"volume": {"source_volid": "{data}", "name": "twin", "size": 4}}`, "twin"},
		step{bob, "GET", "/volumes/summary", "", ""},
		step{bob, "GET", "/limits", "", ""},
		step{bob, "GET", "/os-quota-sets/builders-id?usage=True", "", ""},
		step{bob, "DELETE", "/volumes/{data}", "", ""},
		step{bob, "DELETE", "/volumes/{data}?cascade=True", "", ""},
		step{bob, "DELETE", "/snapshots/{snap}", "", ""},
		step{bob, "DELETE", "/volumes/{data}?cascade=True", "", ""},
		step{bob, "GET", "/volumes/{data}", "", ""},
		step{admin, "POST", "/volumes/{twin}/action", `{"os-reset_status": {"status": "error"}}`, ""},
		step{admin, "POST", "/volumes/{twin}/action", `{"os-force_delete": {}}`, ""},
		step{admin, "POST", "/volumes/{again}/action", `{"os-reserve": {}}`, ""},
		step{admin, "POST", "/volumes/{again}/action", `{"os-unreserve": {}}`, ""},
		step{admin, "DELETE", "/volumes/{again}?force=True", "", ""},
		step{bob, "GET", "/volumes", "", ""},
	)
	golden.Assert(t, "testdata/volume_records.golden", c.out.String())
}

// Volume types and QoS specs through their life.
func TestVolumeTypeRecords(t *testing.T) {
	c := newSite(t).volumeTalk("3.67")
	c.say(
		step{bob, "GET", "/types", "", ""},
		step{bob, "GET", "/types/default", "", ""},
		step{admin, "POST", "/types", `{"volume_type": {"name": "fast", "description": "SSD", "extra_specs": {"volume_backend_name": "local", "multiattach": "<is> True"}}}`, "fast"},
		step{bob, "GET", "/types/{fast}", "", ""},
		step{admin, "PUT", "/types/{fast}", `{"volume_type": {"description": "NVMe", "is_public": false}}`, ""},
		step{bob, "GET", "/types/{fast}", "", ""},
		step{admin, "GET", "/types/{fast}/os-volume-type-access", "", ""},
		step{admin, "POST", "/types/{fast}/action", `{"addProjectAccess": {"project": "builders-id"}}`, ""},
		step{admin, "POST", "/types/{fast}/action", `{"addProjectAccess": {"project": "builders-id"}}`, ""},
		step{admin, "GET", "/types/{fast}/os-volume-type-access", "", ""},
		step{bob, "GET", "/types/{fast}", "", ""},
		step{admin, "POST", "/types/{fast}/action", `{"removeProjectAccess": {"project": "builders-id"}}`, ""},
		step{admin, "POST", "/types/{fast}/action", `{"removeProjectAccess": {"project": "builders-id"}}`, ""},
		step{admin, "POST", "/types/{fast}/extra_specs", `{"extra_specs": {"a": "1"}}`, ""},
		step{admin, "PUT", "/types/{fast}/extra_specs/a", `{"a": "2"}`, ""},
		step{admin, "GET", "/types/{fast}/extra_specs/a", "", ""},
		step{admin, "DELETE", "/types/{fast}/extra_specs/a", "", ""},
		step{admin, "GET", "/types/{fast}/extra_specs", "", ""},
		step{admin, "GET", "/types?is_public=None&sort=name:asc", "", ""},
		step{admin, "GET", "/types?is_public=False", "", ""},
		step{admin, "GET", "/types?extra_specs=%7B%27multiattach%27%3A+%27%3Cis%3E+True%27%7D", "", ""},
		step{admin, "POST", "/types", `{"volume_type": {"name": "secret"}}`, "secret"},
		step{admin, "GET", "/types/{secret}/encryption", "", ""},
		step{admin, "POST", "/types/{secret}/encryption", `{"encryption": {"provider": "luks", "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": "256"}}`, ""},
		step{admin, "PUT", "/types/{secret}/encryption/provider", `{"encryption": {"key_size": 512}}`, ""},
		step{admin, "GET", "/types/{secret}/encryption", "", ""},
		step{admin, "GET", "/types/{secret}/encryption/key_size", "", ""},
		step{bob, "POST", "/volumes", `{"volume": {"name": "locked", "size": 1, "volume_type": "secret"}}`, "locked"},
		step{bob, "GET", "/volumes/{locked}", "", ""},
		step{bob, "GET", "/volumes/{locked}/encryption", "", ""},
		step{bob, "GET", "/volumes/{locked}/encryption/cipher", "", ""},
		step{admin, "DELETE", "/types/{secret}/encryption/provider", "", ""},
		step{bob, "DELETE", "/volumes/{locked}", "", ""},
		step{admin, "DELETE", "/types/{secret}/encryption/provider", "", ""},
		step{admin, "POST", "/qos-specs", `{"qos_specs": {"name": "slow", "consumer": "front-end", "total_iops_sec": "100"}}`, "slow"},
		step{admin, "PUT", "/qos-specs/{slow}", `{"qos_specs": {"total_bytes_sec": "1048576"}}`, ""},
		step{admin, "GET", "/qos-specs", "", ""},
		step{admin, "GET", "/qos-specs/{slow}/associate?vol_type_id={fast}", "", ""},
		step{admin, "GET", "/qos-specs/{slow}/associations", "", ""},
		step{admin, "GET", "/types/{fast}", "", ""},
		step{admin, "PUT", "/qos-specs/{slow}/delete_keys", `{"keys": ["total_bytes_sec"]}`, ""},
		step{admin, "GET", "/qos-specs/{slow}", "", ""},
		step{admin, "DELETE", "/qos-specs/{slow}", "", ""},
		step{admin, "GET", "/qos-specs/{slow}/disassociate?vol_type_id={fast}", "", ""},
		step{admin, "GET", "/qos-specs/{slow}/associate?vol_type_id={fast}", "", ""},
		step{admin, "GET", "/qos-specs/{slow}/disassociate_all", "", ""},
		step{admin, "DELETE", "/qos-specs/{slow}", "", ""},
		step{admin, "DELETE", "/types/{fast}", "", ""},
		step{admin, "GET", "/types/{fast}", "", ""},
	)
	golden.Assert(t, "testdata/volume_types.golden", c.out.String())
}

// Attachments that an administrator makes and ends.
func TestVolumeAttachments(t *testing.T) {
	c := newSite(t).volumeTalk("3.67")
	c.addFlavor("1")
	c.ids["server"] = c.addServer(admin, "web", c.addImage(admin, "tiny", "public"), "1")
	c.say(
		step{admin, "POST", "/volumes", `{"volume": {"name": "v", "size": 1}}`, "v"},
		step{admin, "POST", "/attachments", `{"attachment": {"volume_uuid": "{v}", "instance_uuid": "11111111-1111-4111-8111-111111111111"}}`, ""},
		step{admin, "POST", "/attachments", `{"attachment": {"volume_uuid": "{v}"}}`, ""},
		step{admin, "POST", "/attachments", `{"attachment": {"volume_uuid": "{v}", "instance_uuid": "{server}", "mode": "rw"}}`, "at"},
		step{admin, "GET", "/volumes/{v}", "", ""},
		step{admin, "PUT", "/attachments/{at}", `{"attachment": {"connector": {"host": "other", "ip": "192.0.2.9", "initiator": "iqn.2025-01.org.example:other", "mountpoint": "/dev/vdb"}}}`, ""},
		step{admin, "POST", "/attachments/{at}/action", `{"os-complete": {}}`, ""},
		step{admin, "GET", "/attachments/{at}", "", ""},
		step{admin, "GET", "/attachments?volume_id={v}", "", ""},
		step{admin, "GET", "/attachments/detail?status=reserved", "", ""},
		step{admin, "GET", "/volumes/{v}", "", ""},
		step{admin, "DELETE", "/volumes/{v}", "", ""},
		step{eve, "GET", "/attachments/{at}", "", ""},
		step{eve, "GET", "/attachments", "", ""},
		step{admin, "DELETE", "/attachments/{at}", "", ""},
		step{admin, "GET", "/attachments/{at}", "", ""},
		step{admin, "GET", "/volumes/{v}", "", ""},
	)
	golden.Assert(t, "testdata/volume_attachments.golden", c.out.String())
}

// What there is once: versions, zones, services, pools, quotas.
func TestVolumeService(t *testing.T) {
	c := newSite(t).volumeTalk("3.67")
	c.say(
		step{bob, "GET", "/os-availability-zone", "", ""},
		step{admin, "GET", "/os-services", "", ""},
		step{admin, "GET", "/os-services?binary=cinder-volume&host=node-1", "", ""},
		step{admin, "GET", "/scheduler-stats/get_pools", "", ""},
		step{admin, "GET", "/scheduler-stats/get_pools?detail=True", "", ""},
		step{admin, "GET", "/capabilities/node-1@local", "", ""},
		step{admin, "GET", "/capabilities/elsewhere", "", ""},
		step{bob, "GET", "/os-quota-sets/builders-id", "", ""},
		step{bob, "GET", "/os-quota-sets/builders-id/defaults", "", ""},
		step{bob, "GET", "/os-quota-sets/elsewhere-id", "", ""},
		step{admin, "GET", "/os-quota-class-sets/default", "", ""},
		step{admin, "GET", "/limits?project_id=builders-id", "", ""},
		step{bob, "GET", "/resource_filters?resource=volume", "", ""},
		step{bob, "GET", "/backups/detail", "", ""},
		step{bob, "GET", "/os-services", "", ""},
		step{bob, "GET", "/qos-specs", "", ""},
		step{bob, "GET", "/scheduler-stats/get_pools", "", ""},
	)
	for _, path := range []string{"/volume", "/volume/", "/volume/v3", "/volume/v3/", "/volume/v3/builders-id/"} {
		res := c.send(request{path: path})
		fmt.Fprintf(&c.out, "%s %d %s\n", path, res.status, c.told(res.body))
	}
	golden.Assert(t, "testdata/volume_service.golden", c.out.String())
}

// A volume's view has in each microversion what Cinder has in it.
func TestVolumeMicroversions(t *testing.T) {
	s := newSite(t)
	c := s.volumeTalk("3.67")
	c.say(step{bob, "POST", "/volumes", `{"volume": {"name": "v", "size": 1}}`, "v"})
	keys := func(as, version string) []string {
		v := s.want(200, request{as: as, path: "/volume/v3/volumes/" + c.ids["v"], version: version})["volume"].(map[string]any)
		return slices.Sorted(maps.Keys(v))
	}
	before := map[string][]string{}
	var out strings.Builder
	for _, version := range []string{"3.0", "3.12", "3.13", "3.20", "3.21", "3.47", "3.48", "3.60", "3.61", "3.62", "3.63", "3.64", "3.65", "3.67"} {
		for _, as := range []string{bob, admin} {
			has := keys(as, version)
			fmt.Fprintf(&out, "%s %s: %s\n", version, as, slices.DeleteFunc(slices.Clone(has), func(k string) bool { return slices.Contains(before[as], k) }))
			before[as] = has
		}
	}
	golden.Assert(t, "testdata/volume_versions.golden", out.String())

	for _, r := range []struct {
		path, below, from string
		status            int
	}{
		{"/volumes/summary", "3.11", "3.12", 200},
		{"/attachments", "3.26", "3.27", 200},
		{"/resource_filters", "3.32", "3.33", 200},
		{"/messages", "3.2", "3.3", 200},
	} {
		s.want(404, request{as: bob, path: "/volume/v3" + r.path, version: r.below})
		s.want(r.status, request{as: bob, path: "/volume/v3" + r.path, version: r.from})
	}
	s.want(300, request{path: "/volume/", version: "3.999"}) // Cinder's own client asks so
	for version, status := range map[string]int{"": 200, "3.0": 200, "latest": 200, "3.68": 406, "2.0": 406, "3": 400, "three": 400} {
		res := s.send(request{as: bob, path: "/volume/v3/volumes", version: version})
		if res.status != status {
			t.Errorf("version %q: %d %s, want %d", version, res.status, res.body, status)
		}
		if want := strings.Replace(version, "latest", "3.67", 1); status == 200 && want != "" && res.header.Get("OpenStack-API-Version") != "volume "+want {
			t.Errorf("version %q is announced as %q", version, res.header.Get("OpenStack-API-Version"))
		}
	}
}

// Paths with the caller's project, as they had to be before 3.67, mean the same; its links are of the same form. Another's project does not.
func TestVolumePathsWithProject(t *testing.T) {
	s := newSite(t)
	c := s.volumeTalk("3.0")
	c.say(step{bob, "POST", "/builders-id/volumes", `{"volume": {"name": "v", "size": 1}}`, "v"})
	for _, prefix := range []string{"", "/builders-id"} {
		one := s.want(200, request{as: bob, path: "/volume/v3" + prefix + "/volumes/" + c.ids["v"]})
		if want := s.url + "/volume/v3" + prefix + "/volumes/" + c.ids["v"]; text(t, one, "volume", "links", 0, "href") != want {
			t.Errorf("links %v, want %s", dig(t, one, "volume", "links"), want)
		}
	}
	if answer := s.want(400, request{as: eve, path: "/volume/v3/builders-id/volumes"}); text(t, answer, "badRequest", "message") != "Malformed request url" {
		t.Errorf("%v", answer)
	}
	s.want(400, request{as: admin, path: "/volume/v3/builders-id/volumes"})
	s.want(404, request{as: bob, path: "/volume/v3/builders-id/nonsense"})
	s.want(404, request{as: bob, path: "/volume/v3/%2e%2e/builders-id"})
	s.want(405, request{as: bob, method: "PUT", path: "/volume/v3/builders-id/volumes"})
}

// Nobody sees, changes or deletes another project's volumes and snapshots, and cannot tell them from such as are not.
func TestVolumesAreApart(t *testing.T) {
	s := newSite(t)
	c := s.volumeTalk("3.67")
	c.say(
		step{bob, "POST", "/volumes", `{"volume": {"name": "v", "size": 1}}`, "v"},
		step{bob, "POST", "/snapshots", `{"snapshot": {"volume_id": "{v}", "name": "s"}}`, "s"},
	)
	const absent = "00000000-0000-4000-8000-000000000000"
	var tried int
	for _, kind := range []struct{ path, name, id string }{{"volumes", "volume", c.ids["v"]}, {"snapshots", "snapshot", c.ids["s"]}} {
		for _, r := range []request{
			{method: "GET"}, {method: "DELETE"}, {method: "PUT", body: `{"` + kind.name + `": {"name": "mine"}}`},
			{method: "GET", path: "/metadata"}, {method: "POST", path: "/metadata", body: `{"metadata": {"a": "b"}}`},
			{method: "DELETE", path: "/metadata/a"}, {method: "PUT", path: "/metadata/a", body: `{"meta": {"a": "b"}}`},
			{method: "POST", path: "/action", body: `{"os-force_delete": {}}`},
		} {
			suffix := r.path
			r.as, r.version, r.path = eve, "3.67", "/volume/v3/"+kind.path+"/"+kind.id+suffix
			theirs := s.send(r)
			r.path = "/volume/v3/" + kind.path + "/" + absent + suffix
			none := s.send(r)
			tried++
			if theirs.status != http.StatusNotFound || strings.ReplaceAll(theirs.body, kind.id, absent) != none.body {
				t.Errorf("%s %s%s: %d %s, and for none %d %s", r.method, kind.path, suffix, theirs.status, theirs.body, none.status, none.body)
			}
		}
	}
	for _, body := range []string{`"size": 1, "source_volid": "{v}"`, `"size": 1, "snapshot_id": "{s}"`} {
		s.want(404, request{as: eve, method: "POST", path: "/volume/v3/volumes", body: c.fill(`{"volume": {` + body + `}}`)})
	}
	s.want(404, request{as: eve, method: "POST", path: "/volume/v3/snapshots", body: c.fill(`{"snapshot": {"volume_id": "{v}"}}`)})
	for _, as := range []string{eve, admin} {
		for _, list := range []string{"volumes", "snapshots"} {
			if answer := s.want(200, request{as: as, path: "/volume/v3/" + list}); len(answer[list].([]any)) != 0 {
				t.Errorf("%s sees %v", as, answer)
			}
		}
	}
	s.want(200, request{as: admin, path: "/volume/v3/volumes/" + c.ids["v"]})
	if answer := s.want(200, request{as: admin, path: "/volume/v3/volumes?all_tenants=1"}); len(answer["volumes"].([]any)) != 1 {
		t.Errorf("the administrator sees %v", answer)
	}
	if answer := s.want(200, request{as: eve, path: "/volume/v3/volumes?all_tenants=1"}); len(answer["volumes"].([]any)) != 0 {
		t.Errorf("eve sees %v", answer)
	}
	if tried != 16 {
		t.Errorf("%d requests", tried)
	}
}

// Filters, order and pages.
func TestVolumeList(t *testing.T) {
	s := newSite(t)
	c := s.volumeTalk("3.67")
	for i, v := range []string{
		`"name": "web-1", "size": 1, "metadata": {"tier": "gold", "x": "y"}`, `"name": "web-2", "size": 3, "metadata": {"tier": "iron"}`,
		`"name": "db-1", "size": 2`, `"name": "db-2", "size": 2`,
	} {
		c.say(step{bob, "POST", "/volumes", `{"volume": {` + v + `}}`, fmt.Sprintf("v%d", i)})
	}
	c.say(
		step{eve, "POST", "/volumes", `{"volume": {"name": "hers", "size": 1}}`, "hers"},
		step{bob, "POST", "/volumes/{v3}/action", `{"os-set_bootable": {"bootable": true}}`, ""},
		step{admin, "POST", "/volumes/{v2}/action", `{"os-reset_status": {"status": "error"}}`, ""},
	)
	for _, l := range []struct{ as, version, query, want string }{
		{bob, "3.67", "", "db-2 db-1 web-2 web-1"},
		{bob, "3.0", "sort=name:asc", "db-1 db-2 web-1 web-2"},
		{bob, "3.0", "sort=size:desc,name:asc", "web-2 db-1 db-2 web-1"},
		{bob, "3.0", "sort_key=size&sort_dir=asc", "web-1 db-1 db-2 web-2"},
		{bob, "3.0", "sort_key=size", "web-2 db-1 db-2 web-1"},
		{bob, "3.0", "name=db-1", "db-1"},
		{bob, "3.0", "name~=b-1", "db-2 db-1 web-2 web-1"},
		{bob, "3.34", "name~=b-1", "db-1 web-1"},
		{bob, "3.0", "status=error", "db-1"},
		{bob, "3.0", "bootable=True", "db-2"},
		{bob, "3.0", "bootable=false&sort=name:asc", "db-1 web-1 web-2"},
		{bob, "3.0", "size=2&limit=1", "db-2"},
		{bob, "3.0", "limit=0", ""},
		{bob, "3.0", "offset=1&limit=2", "db-1 web-2"},
		{bob, "3.0", "marker={v2}", "web-2 web-1"},
		{bob, "3.0", "metadata=" + url.QueryEscape(`{'tier': 'gold', "x": u'y'}`), "web-1"},
		{bob, "3.0", "metadata=" + url.QueryEscape(`{"tier": "gold", "x": "z"}`), ""},
		{bob, "3.0", "metadata=" + url.QueryEscape(`{}`), "db-2 db-1 web-2 web-1"},
		{bob, "3.0", "nonsense=1", "db-2 db-1 web-2 web-1"},
		{bob, "3.0", "project_id=elsewhere-id", "db-2 db-1 web-2 web-1"}, // not for users: ignored
		{bob, "3.60", "created_at=gt:2000-01-01T00:00:00,lte:2100-01-01T00:00:00&limit=1", "db-2"},
		{bob, "3.60", "updated_at=lt:2000-01-01", ""},
		{bob, "3.30", "created_at=lt:2000-01-01&limit=1", "db-2"}, // not yet a filter: ignored
		{admin, "3.67", "all_tenants=1&project_id=elsewhere-id", "hers"},
		{admin, "3.67", "all_tenants=1&user_id=bob-id&limit=1", "db-2"},
		{admin, "3.67", "", ""},
		{bob, "3.65", "consumes_quota=true&limit=1", "db-2"},
		{bob, "3.65", "consumes_quota=false", ""},
	} {
		answer := s.want(200, request{as: l.as, path: "/volume/v3/volumes?" + c.fill(l.query), version: l.version})
		if got := strings.Join(names(t, answer, "volumes"), " "); got != l.want {
			t.Errorf("%s %s ?%s: %q, want %q", l.as, l.version, l.query, got, l.want)
		}
	}
	if answer := s.want(200, request{as: bob, path: "/volume/v3/volumes/detail?with_count=true&limit=1", version: "3.45"}); dig(t, answer, "count") != 4.0 {
		t.Errorf("%v", answer)
	}
	var got []string
	next := "/volume/v3/builders-id/volumes/detail?limit=3&sort=name:asc"
	for pages := 0; next != ""; pages++ {
		if pages > 2 {
			t.Fatal("the pages do not end")
		}
		answer := s.want(200, request{as: bob, path: next})
		got, next = append(got, names(t, answer, "volumes")...), ""
		if _, more := answer["volumes_links"]; more {
			next = strings.TrimPrefix(text(t, answer, "volumes_links", 0, "href"), s.url)
		}
	}
	if strings.Join(got, " ") != "db-1 db-2 web-1 web-2" {
		t.Errorf("pages have %v", got)
	}
}

// A change of metadata by who has read it before another changed it is refused.
func TestVolumeMetadataTag(t *testing.T) {
	s := newSite(t)
	c := s.volumeTalk("3.15")
	c.say(step{bob, "POST", "/volumes", `{"volume": {"name": "v", "size": 1, "metadata": {"a": "1"}}}`, "v"})
	path := "/volume/v3/volumes/" + c.ids["v"] + "/metadata"
	tag := s.send(request{as: bob, path: path, version: "3.15"}).header.Get("Etag")
	put := request{as: bob, method: "PUT", path: path, version: "3.15", body: `{"metadata": {"b": "2"}}`,
		header: http.Header{"If-Match": {tag}}}
	s.want(200, put)
	s.want(412, put)
	if tag := s.send(request{as: bob, path: path, version: "3.14"}).header.Get("Etag"); tag != "" {
		t.Errorf("3.14 has the tag %q", tag)
	}
}

// What a request must not have, and what a caller may not do, is refused with the fault that Cinder has for it.
func TestVolumeFaults(t *testing.T) {
	c := newSite(t).volumeTalk("3.67")
	const absent = "00000000-0000-4000-8000-000000000000"
	long := strings.Repeat("x", 256)
	c.say(
		step{bob, "POST", "/volumes", `{"volume": {"name": "v", "size": 1}}`, "v"},
		step{bob, "POST", "/snapshots", `{"snapshot": {"volume_id": "{v}"}}`, "s"},
		step{admin, "POST", "/types", `{"volume_type": {"name": "private", "os-volume-type-access:is_public": false}}`, "private"},
		step{admin, "POST", "/qos-specs", `{"qos_specs": {"name": "q"}}`, "q"},
	)
	c.out.Reset()
	c.say(
		// Volumes
		step{bob, "POST", "/volumes", `nonsense`, ""},
		step{bob, "POST", "/volumes", `{}`, ""},
		step{bob, "POST", "/volumes", `{"volume": 5}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"colour": "red", "size": 1}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 0}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": -1}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": "big"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1.5}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"name": "x"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "name": "` + long + `"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "name": "a\u0007"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "metadata": {"a": 1}}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "metadata": {"<a>": "1"}}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "volume_type": "gold"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "volume_type": "private"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "availability_zone": "mars"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "multiattach": true}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "imageRef": "` + absent + `"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "snapshot_id": "../x"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "snapshot_id": "` + absent + `"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "source_volid": "` + absent + `"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "source_volid": "{v}", "snapshot_id": "{s}"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "backup_id": "` + absent + `"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "group_id": "g"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1, "consistencygroup_id": "` + absent + `"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": {"a": "b"}}`, ""},
		step{bob, "POST", "/volumes", `{"volume": {"size": 2000}}`, ""},
		step{bob, "PUT", "/volumes/{v}", `{"volume": {}}`, ""},
		step{bob, "PUT", "/volumes/{v}", `{"volume": {"size": 5}}`, ""},
		step{bob, "GET", "/volumes/nonsense", "", ""},
		step{bob, "GET", "/volumes?limit=many", "", ""},
		step{bob, "GET", "/volumes?limit=-1", "", ""},
		step{bob, "GET", "/volumes?offset=-1", "", ""},
		step{bob, "GET", "/volumes?marker=" + absent, "", ""},
		step{bob, "GET", "/volumes?sort=colour", "", ""},
		step{bob, "GET", "/volumes?sort=name:up", "", ""},
		step{bob, "GET", "/volumes?sort=name&sort_key=name", "", ""},
		step{bob, "GET", "/volumes?colour=red", "", ""},
		step{bob, "GET", "/volumes?project_id=elsewhere-id", "", ""},
		step{bob, "GET", "/volumes?metadata=tier", "", ""},
		step{bob, "GET", "/volumes?created_at=about:2025", "", ""},
		step{bob, "GET", "/volumes?created_at=gt:soon", "", ""},
		step{bob, "GET", "/volumes/{v}/metadata/none", "", ""},
		step{bob, "DELETE", "/volumes/{v}/metadata/none", "", ""},
		step{bob, "PUT", "/volumes/{v}/metadata/a", `{"meta": {"b": "1"}}`, ""},
		step{bob, "PUT", "/volumes/{v}/metadata/a", `{"meta": {"a": "1", "b": "1"}}`, ""},
		step{bob, "POST", "/volumes/{v}/metadata", `{"metadata": {"a": null}}`, ""},
		step{bob, "DELETE", "/volumes/{v}?force=true", "", ""},
		step{bob, "GET", "/volumes/{v}/encryption/colour", "", ""},
		// Actions
		step{bob, "POST", "/volumes/{v}/action", `{"os-dance": {}}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-extend": {"new_size": 1}}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-extend": {"new_size": "large"}}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-extend": {}}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-set_bootable": {"bootable": "maybe"}}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-reset_status": {"status": "error"}}`, ""},
		step{admin, "POST", "/volumes/{v}/action", `{"os-reset_status": {"status": "deleting"}}`, ""},
		step{admin, "POST", "/volumes/{v}/action", `{"os-reset_status": {"status": "happy"}}`, ""},
		step{admin, "POST", "/volumes/{v}/action", `{"os-reset_status": {"attach_status": "detached"}}`, ""},
		step{admin, "POST", "/volumes/{v}/action", `{"os-reset_status": {"migration_status": "starting"}}`, ""},
		step{admin, "POST", "/volumes/{v}/action", `{"os-reset_status": {}}`, ""},
		step{admin, "POST", "/volumes/{v}/action", `{"os-unreserve": null}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-reserve": null}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-retype": {"new_type": "x"}}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-volume_upload_image": {"image_name": "x"}}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-attach": {"mountpoint": "/dev/vdb"}}`, ""},
		step{admin, "POST", "/volumes/{v}/action", `{"os-migrate_volume": {"host": "x"}}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"revert": {"snapshot_id": "{s}"}}`, ""},
		step{bob, "POST", "/volumes/{v}/action", `{"os-unset_image_metadata": {"key": "none"}}`, ""},
		// Snapshots
		step{bob, "POST", "/snapshots", `{"snapshot": {}}`, ""},
		step{bob, "POST", "/snapshots", `{"snapshot": {"volume_id": null}}`, ""},
		step{bob, "POST", "/snapshots", `{"snapshot": {"volume_id": "` + absent + `"}}`, ""},
		step{bob, "POST", "/snapshots", `{"snapshot": {"volume_id": "{v}", "force": false}}`, ""},
		step{bob, "POST", "/snapshots", `{"snapshot": {"volume_id": "{v}", "size": 1}}`, ""},
		step{bob, "PUT", "/snapshots/{s}", `{"snapshot": {}}`, ""},
		step{bob, "GET", "/snapshots/{s}/metadata/none", "", ""},
		step{bob, "POST", "/snapshots/{s}/action", `{"os-reset_status": {"status": "error"}}`, ""},
		step{admin, "POST", "/snapshots/{s}/action", `{"os-reset_status": {"status": "creating"}}`, ""},
		// Types and QoS specs
		step{bob, "POST", "/types", `{"volume_type": {"name": "mine"}}`, ""},
		step{admin, "POST", "/types", `{"volume_type": {}}`, ""},
		step{admin, "POST", "/types", `{"volume_type": {"name": "private"}}`, ""},
		step{admin, "POST", "/types", `{"volume_type": {"name": "x", "extra_specs": {"volume_backend_name": "nowhere"}}}`, ""},
		step{admin, "POST", "/types", `{"volume_type": {"name": "x", "extra_specs": {"a b": "c"}}}`, ""},
		step{admin, "PUT", "/types/{private}", `{"volume_type": {}}`, ""},
		step{admin, "PUT", "/types/{private}", `{"volume_type": {"name": "  "}}`, ""},
		step{admin, "DELETE", "/types/default", "", ""},
		step{bob, "GET", "/types/{private}", "", ""},
		step{bob, "GET", "/types/{private}/encryption", "", ""},
		step{admin, "GET", "/types/{private}/extra_specs/none", "", ""},
		step{admin, "PUT", "/types/{private}/extra_specs/a", `{"b": "c"}`, ""},
		step{admin, "GET", "/types/default/os-volume-type-access", "", ""},
		step{admin, "POST", "/types/default/action", `{"addProjectAccess": {"project": "x"}}`, ""},
		step{admin, "POST", "/types/{private}/encryption", `{"encryption": {"provider": "rot13", "control_location": "front-end"}}`, ""},
		step{admin, "POST", "/types/{private}/encryption", `{"encryption": {"provider": "luks", "control_location": "moon"}}`, ""},
		step{admin, "POST", "/types/{private}/encryption", `{"encryption": {"provider": "luks", "control_location": "front-end", "key_size": 100}}`, ""},
		step{admin, "PUT", "/types/{private}/encryption/x", `{"encryption": {"key_size": 256}}`, ""},
		step{admin, "DELETE", "/types/{private}/encryption/x", "", ""},
		step{admin, "POST", "/qos-specs", `{"qos_specs": {"name": "q"}}`, ""},
		step{admin, "POST", "/qos-specs", `{"qos_specs": {"name": "r", "consumer": "nobody"}}`, ""},
		step{admin, "POST", "/qos-specs", `{"qos_specs": {"name": "r", "consumer": "front-end", "speed": "9"}}`, ""},
		step{admin, "POST", "/qos-specs", `{"qos_specs": {}}`, ""},
		step{admin, "GET", "/qos-specs/" + absent, "", ""},
		step{admin, "GET", "/qos-specs/{q}/associate", "", ""},
		step{admin, "GET", "/qos-specs/{q}/associate?vol_type_id=" + absent, "", ""},
		step{admin, "PUT", "/qos-specs/{q}/delete_keys", `{"keys": ["none"]}`, ""},
		// Attachments
		step{bob, "POST", "/attachments", `{"attachment": {"volume_uuid": "{v}"}}`, ""},
		step{admin, "POST", "/attachments", `{"attachment": {}}`, ""},
		step{admin, "GET", "/attachments/" + absent, "", ""},
		step{admin, "PUT", "/attachments/" + absent, `{"attachment": {"connector": {}}}`, ""},
		step{admin, "PUT", "/attachments/" + absent, `{"attachment": {"connector": {"host": 5}}}`, ""},
	)
	golden.Assert(t, "testdata/volume_faults.golden", c.out.String())
	if answer := c.want(200, request{as: bob, path: "/volume/v3/volumes"}); len(answer["volumes"].([]any)) != 1 {
		t.Errorf("the wrong requests left %v", answer)
	}
}

// Before 3.53 what a volume does not have is ignored, as older clients need it; before 3.42 a volume does not grow while a server has it.
func TestOldVolumeRequests(t *testing.T) {
	s := newSite(t)
	s.addFlavor("1")
	c := s.volumeTalk("3.52")
	c.ids["server"] = s.addServer(bob, "web", s.addImage(admin, "tiny", "public"), "1")
	c.say(step{bob, "POST", "/volumes", `{"volume": {"name": "v", "size": 1, "user_id": null, "status": "creating", "colour": "red"}}`, "v"},
		step{bob, "PUT", "/volumes/{v}", `{"volume": {}}`, ""})
	s.want(200, request{as: bob, method: "POST", path: c.fill("/compute/v2.1/servers/{server}/os-volume_attachments"),
		body: c.fill(`{"volumeAttachment": {"volumeId": "{v}"}}`)})
	s.settle(c.ids["server"])
	extend := request{as: bob, method: "POST", path: c.fill("/volume/v3/volumes/{v}/action"), body: `{"os-extend": {"new_size": 2}}`}
	extend.version = "3.41"
	if refused := s.want(400, extend); !strings.Contains(text(t, refused, "badRequest", "message"), "in-use") {
		t.Errorf("%v", refused)
	}
	at := text(t, s.want(200, request{as: admin, path: "/volume/v3/attachments?all_tenants=1", version: "3.27"}), "attachments", 0, "id")
	s.want(409, request{as: admin, method: "PUT", path: "/volume/v3/attachments/" + at, version: "3.27",
		body: `{"attachment": {"connector": {"host": "other", "ip": "192.0.2.9"}}}`})
	refused := s.want(409, request{as: admin, method: "DELETE", path: "/volume/v3/attachments/" + at, version: "3.27"})
	if !strings.Contains(text(t, refused, "conflictingRequest", "message"), "using the Compute API") {
		t.Errorf("%v", refused)
	}
	extend.version = "3.42"
	s.want(202, extend)
	s.must(s.core.Idle(t.Context()))
	s.settle(c.ids["server"])
	v := s.want(200, request{as: bob, path: c.fill("/volume/v3/volumes/{v}")})["volume"].(map[string]any)
	if v["size"] != 2.0 || v["status"] != "in-use" {
		t.Errorf("%v GiB, %v", v["size"], v["status"])
	}
}
