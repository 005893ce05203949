package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const volumePath = "/volume/v3"

// volumeService is Cinder's v3 API.
func (a *api) volumeService() service {
	routes := slices.Concat(
		[]route{
			{pattern: "GET ", do: a.volumeVersion, access: forAll},
			{pattern: "GET /{$}", do: a.volumeVersion, access: forAll},
			{pattern: "GET /extensions", do: a.listVolumeExtensions},
			{pattern: "GET /limits", do: a.showVolumeLimits},
			{pattern: "GET /os-quota-sets/{project}", do: a.showVolumeQuotas},
			{pattern: "GET /os-quota-sets/{project}/defaults", do: a.showDefaultVolumeQuotas},
			{pattern: "GET /os-quota-class-sets/{class}", do: a.showVolumeQuotaClass, access: forAdmin},
			{pattern: "GET /os-availability-zone", do: a.listVolumeZones},
			{pattern: "GET /os-services", do: a.listVolumeServices, access: forAdmin},
			{pattern: "GET /scheduler-stats/get_pools", do: a.listPools, access: forAdmin},
			{pattern: "GET /capabilities/{host}", do: a.showCapabilities, access: forAdmin},
			{pattern: "GET /resource_filters", do: a.listResourceFilters, since: 33},
			{pattern: "GET /used-luns", do: a.listUsedLUNs, access: forAdmin},
			{pattern: "DELETE /used-luns", do: a.cleanLUN, access: forAdmin},
		},
		a.volumeRoutes(),
		a.snapshotRoutes(),
		a.volumeTypeRoutes(),
		a.qosRoutes(),
		a.volumeAttachmentRoutes(),
		absentVolumeRoutes(),
	)
	return service{name: "volume", shape: computeFault, versions: volumeMicroversions, projects: volumePath, routes: append([]route{
		{pattern: "GET /volume", do: a.volumeVersions, access: forAll},
		{pattern: "GET /volume/{$}", do: a.volumeVersions, access: forAll},
	}, under(volumePath, routes)...)}
}

// absentVolumeRoutes list what there is none of, for clients that look through all that a project has.
func absentVolumeRoutes() []route {
	var routes []route
	for _, kind := range []struct {
		path, key string
		since     microversion
	}{
		{"/backups", "backups", 0}, {"/consistencygroups", "consistencygroups", 0}, {"/cgsnapshots", "cgsnapshots", 0},
		{"/os-volume-transfer", "transfers", 0}, {"/volume-transfers", "transfers", 55}, {"/groups", "groups", 13}, {"/group_snapshots", "group_snapshots", 14},
	} {
		routes = append(routes,
			route{pattern: "GET " + kind.path, do: noneOf(kind.key), since: kind.since},
			route{pattern: "GET " + kind.path + "/detail", do: noneOf(kind.key), since: kind.since})
	}
	return append(routes,
		route{pattern: "GET /messages", do: noneOf("messages"), since: 3},
		route{pattern: "GET /group_types", do: noneOf("group_types"), since: 11},
		route{pattern: "GET /clusters", do: noneOf("clusters"), access: forAdmin, since: 7},
		route{pattern: "GET /clusters/detail", do: noneOf("clusters"), access: forAdmin, since: 7},
		route{pattern: "GET /default-types", do: noneOf("default_types"), access: forAdmin, since: 62},
	)
}

// cinderVersion describes v3 as Cinder does.
func cinderVersion(base string) map[string]any {
	return map[string]any{
		"id": "v3.0", "status": "CURRENT", "updated": "2022-08-31T00:00:00Z",
		"version":     volumeMicroversions.text(volumeMicroversions.max),
		"min_version": volumeMicroversions.text(volumeMicroversions.min),
		"links":       []link{{Rel: "self", Href: base + volumePath + "/"}},
		"media-types": []map[string]string{{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}},
	}
}

func (a *api) volumeVersions(c *call) (*answer, error) {
	return &answer{status: http.StatusMultipleChoices, body: map[string]any{"versions": []any{cinderVersion(c.base)}}}, nil
}

func (a *api) volumeVersion(c *call) (*answer, error) {
	return ok(map[string]any{"versions": []any{cinderVersion(c.base)}})
}

// pathProject is the key of the project that a path named.
type pathProject struct{}

// takeProject takes the caller's project out of the paths of a service: /volume/v3/PROJECT/volumes is /volume/v3/volumes. Cinder has had both
// since 3.67, in all microversions.
func takeProject(s service, next http.Handler) http.Handler {
	resources := firstElements(s)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, below := strings.CutPrefix(r.URL.EscapedPath(), s.projects+"/")
		first, rest, _ := strings.Cut(rest, "/")
		if !below || first == "" || resources[first] {
			next.ServeHTTP(w, r)
			return
		}
		project, err := url.PathUnescape(first)
		path, err2 := url.PathUnescape(rest)
		if err != nil || err2 != nil { // net/url has checked it
			http.NotFound(w, r)
			return
		}
		short := r.Clone(context.WithValue(r.Context(), pathProject{}, project))
		short.URL.Path, short.URL.RawPath = s.projects+"/"+path, s.projects+"/"+rest
		next.ServeHTTP(w, short)
	})
}

// firstElements are the words that paths of a service begin with, where a project may be.
func firstElements(s service) map[string]bool {
	words := map[string]bool{}
	for _, rt := range s.routes {
		_, path, _ := strings.Cut(rt.pattern, " ")
		if rest, below := strings.CutPrefix(path, s.projects+"/"); below {
			first, _, _ := strings.Cut(rest, "/")
			words[first] = true
		}
	}
	return words
}

// volumeLink is where a client reaches a thing of the block storage API: by the way by which it came.
func volumeLink(c *call, path string) string {
	if c.project != "" {
		path = "/" + url.PathEscape(c.project) + path
	}
	return c.base + volumePath + path
}

func volumeLinks(c *call, path string) []link {
	self := volumeLink(c, path)
	return []link{{Rel: "self", Href: self}, {Rel: "bookmark", Href: strings.Replace(self, volumePath, "/volume", 1)}}
}
