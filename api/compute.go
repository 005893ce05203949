package api

import (
	"net/http"
	"slices"
)

const computePath = "/compute/v2.1"

// computeService is Nova's v2.1 API.
func (a *api) computeService() service {
	return service{name: "compute", shape: computeFault, versions: computeMicroversions, routes: append([]route{
		{pattern: "GET /compute", do: a.computeVersions, access: forAll},
		{pattern: "GET /compute/{$}", do: a.computeVersions, access: forAll},
	}, under(computePath, slices.Concat(
		[]route{
			{pattern: "GET ", do: a.computeVersion, access: forAll},
			{pattern: "GET /{$}", do: a.computeVersion, access: forAll},
			{pattern: "GET /extensions", do: a.listExtensions},
			{pattern: "GET /limits", do: a.showLimits},
			{pattern: "GET /os-quota-sets/{id}", do: a.showQuotas},
			{pattern: "GET /os-quota-sets/{id}/defaults", do: a.showQuotas},
			{pattern: "GET /os-availability-zone", do: a.listZones},
			{pattern: "GET /os-availability-zone/detail", do: a.listZonesDetail, access: forAdmin},
			{pattern: "GET /os-aggregates", do: a.listAggregates, access: forAdmin},
			{pattern: "GET /os-services", do: a.listServices, access: forAdmin},
		},
		a.flavorRoutes(),
		a.serverRoutes(),
		a.attachmentRoutes(),
		a.serverVolumeRoutes(),
		a.consoleRoutes(),
		a.diagnosticsRoutes(),
		a.keypairRoutes(),
		a.hypervisorRoutes(),
		a.groupProxyRoutes(),
	))...)}
}

// novaVersion describes v2.1 as Nova does.
func novaVersion(base string) map[string]any {
	return map[string]any{
		"id":          "v2.1",
		"status":      "CURRENT",
		"version":     computeMicroversions.text(computeMicroversions.max),
		"min_version": computeMicroversions.text(computeMicroversions.min),
		"updated":     "2013-07-23T11:33:21Z",
		"links":       []link{{Rel: "self", Href: base + computePath + "/"}},
	}
}

func (a *api) computeVersions(c *call) (*answer, error) {
	return ok(map[string]any{"versions": []any{novaVersion(c.base)}})
}

func (a *api) computeVersion(c *call) (*answer, error) {
	v := novaVersion(c.base)
	v["media-types"] = []map[string]string{{
		"base": "application/json",
		"type": "application/vnd.openstack.compute+json;version=2.1",
	}}
	return ok(map[string]any{"version": v})
}

// indexService answers at the root, for people and for clients that are given only the address.
func (a *api) indexService() service {
	return service{name: "", shape: computeFault, routes: []route{
		{pattern: "GET /{$}", access: forAll, do: func(c *call) (*answer, error) {
			return &answer{status: http.StatusMultipleChoices, body: map[string]any{
				"versions": map[string]any{"values": []any{keystoneVersion(c.base)}},
				"services": catalog(c.base),
			}}, nil
		}},
	}}
}

// listExtensions is empty: extensions were Nova's way to vary before microversions.
func (a *api) listExtensions(*call) (*answer, error) {
	return ok(map[string]any{"extensions": []any{}})
}

// bookmark is a link to a thing without the version, as Nova adds one to each view.
func bookmark(c *call, path string) link {
	return link{Rel: "bookmark", Href: c.base + "/compute" + path}
}

func selfAndBookmark(c *call, path string) []link {
	return []link{{Rel: "self", Href: c.base + computePath + path}, bookmark(c, path)}
}

// reference is a thing by its ID.
func reference(c *call, id, path string) map[string]any {
	return map[string]any{"id": id, "links": []link{bookmark(c, path+id)}}
}
