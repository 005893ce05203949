package api_test

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

var octets = http.Header{"Content-Type": {"application/octet-stream"}}

func TestImageLife(t *testing.T) {
	s := newSite(t)
	created := s.want(201, request{as: bob, method: "POST", path: "/image/v2/images",
		body: `{"name": "tiny", "disk_format": "raw", "container_format": "bare", "min_disk": 1, "os_distro": "none", "tags": ["b", "a"]}`})
	path := "/image/v2" + strings.TrimPrefix(text(t, created, "self"), "/v2")
	if created["status"] != "queued" || created["os_distro"] != "none" || created["size"] != nil || created["visibility"] != "shared" {
		t.Errorf("created %v", created)
	}
	if res := s.send(request{as: bob, path: path + "/file"}); res.status != http.StatusNoContent {
		t.Errorf("download before the upload: %d", res.status)
	}
	data := strings.Repeat("image...", 64)
	s.want(204, request{as: bob, method: "PUT", path: path + "/file", body: data, header: octets})
	sum := md5.Sum([]byte(data))
	img := s.want(200, request{as: bob, path: path})
	if img["status"] != "active" || img["size"] != 512.0 || img["checksum"] != hex.EncodeToString(sum[:]) || img["os_hash_algo"] != "sha512" {
		t.Errorf("uploaded %v", img)
	}
	res := s.send(request{as: bob, path: path + "/file"})
	if res.body != data || res.header.Get("Content-Md5") != img["checksum"] || res.header.Get("Content-Length") != "512" {
		t.Errorf("downloaded %d bytes with %v", len(res.body), res.header)
	}
	if res := s.send(request{as: bob, method: "HEAD", path: path + "/file"}); res.body != "" || res.header.Get("Content-Length") != "512" {
		t.Errorf("HEAD: %q %v", res.body, res.header)
	}
	s.want(204, request{as: bob, method: "DELETE", path: path})
	s.want(404, request{as: bob, path: path})
	if n := s.files(s.images); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

func TestImagePatch(t *testing.T) {
	s := newSite(t)
	id := s.addImage(bob, "tiny", "private")
	for _, c := range []struct{ patch, field, want string }{
		{`[{"op": "replace", "path": "/name", "value": "small"}]`, "name", "small"},
		{`[{"op": "add", "path": "/os_distro", "value": "debian"}]`, "os_distro", "debian"},
		{`[{"op": "replace", "path": "/os_distro", "value": "alpine"}]`, "os_distro", "alpine"},
		{`[{"op": "add", "path": "/a~1b~0c", "value": "x"}]`, "a/b~c", "x"},
		{`[{"op": "remove", "path": "/os_distro"}]`, "os_distro", "<nil>"},
		{`[{"op": "replace", "path": "/tags", "value": ["x", "y"]}]`, "tags", "[x y]"},
		{`[{"op": "add", "path": "/tags/-", "value": "z"}, {"op": "remove", "path": "/tags/0"}]`, "tags", "[y z]"},
		{`[{"op": "replace", "path": "/min_ram", "value": 64}]`, "min_ram", "64"},
		{`[{"op": "replace", "path": "/visibility", "value": "shared"}]`, "visibility", "shared"},
		{`[{"op": "replace", "path": "/protected", "value": true}]`, "protected", "true"},
	} {
		r := patch(c.patch)
		r.as, r.path = bob, "/image/v2/images/"+id
		img := s.want(200, r)
		if got := fmt.Sprint(img[c.field]); got != c.want {
			t.Errorf("%s: %s is %s, want %s", c.patch, c.field, got, c.want)
		}
	}
	s.want(403, request{as: bob, method: "DELETE", path: "/image/v2/images/" + id}) // protected
	s.want(204, request{as: bob, method: "PUT", path: "/image/v2/images/" + id + "/tags/new"})
	s.want(204, request{as: bob, method: "DELETE", path: "/image/v2/images/" + id + "/tags/y"})
	img := s.want(200, request{as: bob, path: "/image/v2/images/" + id})
	if got := fmt.Sprint(img["tags"]); got != "[new z]" {
		t.Errorf("tags %s", got)
	}
	// One wrong operation undoes the right ones before it.
	r := patch(`[{"op": "replace", "path": "/name", "value": "lost"}, {"op": "remove", "path": "/nope"}]`)
	r.as, r.path = bob, "/image/v2/images/"+id
	s.want(409, r)
	if img := s.want(200, request{as: bob, path: "/image/v2/images/" + id}); img["name"] != "small" {
		t.Errorf("name %v", img["name"])
	}
}

// Who sees and changes whose images.
func TestImageVisibility(t *testing.T) {
	s := newSite(t)
	private, community := s.addImage(bob, "private", "private"), s.addImage(bob, "community", "community")
	public := s.addImage(admin, "public", "public")
	for _, c := range []struct {
		as, query, want string
	}{
		{bob, "", "public community private"},
		{eve, "", "public"},
		{admin, "", "public private"},
		{eve, "visibility=community", "community"},
		{eve, "visibility=all", "public community"},
		{eve, "visibility=private", ""},
	} {
		answer := s.want(200, request{as: c.as, path: "/image/v2/images?" + c.query})
		if got := strings.Join(names(t, answer, "images"), " "); got != c.want {
			t.Errorf("%s ?%s: %q, want %q", c.as, c.query, got, c.want)
		}
	}
	s.want(404, request{as: eve, path: "/image/v2/images/" + private})
	s.want(404, request{as: eve, path: "/image/v2/images/" + private + "/file"})
	s.want(404, request{as: eve, method: "DELETE", path: "/image/v2/images/" + private})
	s.want(200, request{as: eve, path: "/image/v2/images/" + community})
	s.want(403, request{as: eve, method: "DELETE", path: "/image/v2/images/" + public})
	s.want(403, request{as: bob, method: "POST", path: "/image/v2/images", body: `{"visibility": "public"}`})
	s.want(403, request{as: bob, method: "POST", path: "/image/v2/images", body: `{"owner": "admin-id"}`})
	s.addFlavor("1")
	s.want(400, request{as: eve, method: "POST", path: "/compute/v2.1/servers",
		body: fmt.Sprintf(`{"server": {"name": "x", "imageRef": %q, "flavorRef": "1"}}`, private)})
}

func TestImageList(t *testing.T) {
	s := newSite(t)
	var ids []string
	for _, name := range []string{"a", "b", "c"} {
		ids = append(ids, s.addImage(bob, name, "private"))
	}
	s.want(201, request{as: bob, method: "POST", path: "/image/v2/images", body: `{"name": "d", "os_distro": "debian", "tags": ["x"], "min_ram": 512}`})
	for _, c := range []struct{ query, want string }{
		{"", "d c b a"},
		{"sort=name:asc", "a b c d"},
		{"sort=status:asc,name:desc", "c b a d"},
		{"sort_key=name&sort_dir=asc&limit=2", "a b"},
		{"sort_key=name&sort_dir=asc&limit=2&marker=" + ids[1], "c d"},
		{"name=b", "b"},
		{"name=in:a,c", "c a"},
		{"status=queued", "d"},
		{"os_distro=debian", "d"},
		{"tag=x", "d"},
		{"tag=x&tag=y", ""},
		{"min_ram=100", "d"},
		{"size_min=512", "c b a"},
		{"size_max=0", "d"},
		{"protected=true", ""},
		{"os_hidden=true", ""},
		{"created_at=lt:2000-01-01T00:00:00Z", ""},
		{"updated_at=gte:2000-01-01T00:00:00Z", "d c b a"},
		{"owner=elsewhere-id", ""},
		{"id=" + ids[0], "a"},
	} {
		answer := s.want(200, request{as: bob, path: "/image/v2/images?" + c.query})
		if got := strings.Join(names(t, answer, "images"), " "); got != c.want {
			t.Errorf("?%s: %q, want %q", c.query, got, c.want)
		}
	}
	var got []string
	for next := "/v2/images?limit=3&sort=name:asc"; next != ""; {
		answer := s.want(200, request{as: bob, path: "/image" + next})
		got = append(got, names(t, answer, "images")...)
		next, _ = answer["next"].(string)
	}
	if !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("pages have %v", got)
	}
}

// Glance's own client reads the reason of a failure from a page.
func TestImageFaultPage(t *testing.T) {
	s := newSite(t)
	res := s.send(request{as: bob, path: "/image/v2/images/%3Cscript%3E", header: http.Header{"Accept": {"*/*"}}})
	if res.status != 404 || !strings.HasPrefix(res.header.Get("Content-Type"), "text/html") ||
		!strings.Contains(res.body, "No image found with ID &lt;script&gt;") {
		t.Errorf("%d %v %s", res.status, res.header, res.body)
	}
}
