package api

import (
	"net/http"
	"strings"
	"time"

	"compute-agent/identity"
)

const (
	identityPath = "/identity/v3"
	tokensPath   = identityPath + "/auth/tokens"
)

// identityService is keystone's v3 API as far as clients need it to log in and to find themselves.
func (a *api) identityService() service {
	return service{name: "identity", shape: identityFault, routes: append([]route{
		{pattern: "GET /identity", do: a.identityVersions, access: forAll},
		{pattern: "GET /identity/{$}", do: a.identityVersions, access: forAll},
	}, under(identityPath, []route{
		{pattern: "GET ", do: a.identityVersion, access: forAll},
		{pattern: "GET /{$}", do: a.identityVersion, access: forAll},
		{pattern: "POST /auth/tokens", do: a.issueToken, access: forAll, schema: "auth"},
		{pattern: "GET /auth/tokens", do: a.showToken},
		{pattern: "DELETE /auth/tokens", do: a.revokeToken},
		{pattern: "GET /auth/projects", do: a.listProjects},
		{pattern: "GET /auth/catalog", do: a.showCatalog},
		{pattern: "GET /projects", do: a.listProjects},
		{pattern: "GET /projects/{id}", do: a.showProject},
		{pattern: "GET /users", do: a.listUsers},
		{pattern: "GET /users/{id}", do: a.showUser},
		{pattern: "GET /users/{id}/projects", do: a.listUserProjects},
		{pattern: "GET /domains", do: a.listDomains},
		{pattern: "GET /domains/{id}", do: a.showDomain},
		{pattern: "GET /roles", do: a.listRoles},
		{pattern: "GET /regions", do: a.listRegions},
		{pattern: "GET /services", do: a.listCatalogServices},
		{pattern: "GET /endpoints", do: a.listEndpoints},
	})...)}
}

// under prefixes the paths of routes.
func under(prefix string, routes []route) []route {
	for i, rt := range routes {
		method, path, _ := strings.Cut(rt.pattern, " ")
		routes[i].pattern = method + " " + prefix + path
	}
	return routes
}

// keystoneVersion describes v3 as Keystone does; 3.14 is its current minor version.
func keystoneVersion(base string) map[string]any {
	return map[string]any{
		"id":      "v3.14",
		"status":  "stable",
		"updated": "2020-04-07T00:00:00Z",
		"links":   []link{{Rel: "self", Href: base + identityPath + "/"}},
		"media-types": []map[string]string{{
			"base": "application/json",
			"type": "application/vnd.openstack.identity-v3+json",
		}},
	}
}

func (a *api) identityVersions(c *call) (*answer, error) {
	return &answer{status: http.StatusMultipleChoices, body: map[string]any{
		"versions": map[string]any{"values": []any{keystoneVersion(c.base)}},
	}}, nil
}

func (a *api) identityVersion(c *call) (*answer, error) {
	return ok(map[string]any{"version": keystoneVersion(c.base)})
}

// named is how keystone refers to a thing.
type named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type namedInDomain struct {
	named
	Domain named `json:"domain"`
}

var defaultDomain = named{ID: identity.DomainID, Name: identity.DomainName}

// keystoneTime is microseconds and a Z.
func keystoneTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func selfLinks(c *call, path string) map[string]any {
	return map[string]any{"self": c.base + identityPath + path, "previous": nil, "next": nil}
}

func projectView(c *call, u identity.User) map[string]any {
	return map[string]any{
		"id": u.ProjectID, "name": u.ProjectName, "domain_id": u.DomainID, "parent_id": u.DomainID,
		"description": "", "enabled": true, "is_domain": false, "tags": []string{}, "options": map[string]any{},
		"links": map[string]string{"self": c.base + identityPath + "/projects/" + u.ProjectID},
	}
}

func userView(c *call, u identity.User) map[string]any {
	return map[string]any{
		"id": u.ID, "name": u.Name, "domain_id": u.DomainID, "enabled": true,
		"default_project_id": u.ProjectID, "password_expires_at": nil, "options": map[string]any{},
		"links": map[string]string{"self": c.base + identityPath + "/users/" + u.ID},
	}
}

func domainView(c *call) map[string]any {
	return map[string]any{
		"id": identity.DomainID, "name": identity.DomainName, "description": "The default domain",
		"enabled": true, "tags": []string{}, "options": map[string]any{},
		"links": map[string]string{"self": c.base + identityPath + "/domains/" + identity.DomainID},
	}
}

// matches tells whether a thing passes the filters name and domain_id of a list request.
func matches(c *call, name, domainID string) bool {
	q := c.URL.Query()
	return (!q.Has("name") || q.Get("name") == name) && (!q.Has("domain_id") || q.Get("domain_id") == domainID)
}

// list answers with at most one thing, which is all that a caller may see.
func list(c *call, key, path string, visible bool, view map[string]any) (*answer, error) {
	things := []any{}
	if visible {
		things = append(things, view)
	}
	return ok(map[string]any{key: things, "links": selfLinks(c, path)})
}

func (a *api) listProjects(c *call) (*answer, error) {
	u := c.caller.user
	return list(c, "projects", "/projects", matches(c, u.ProjectName, u.DomainID), projectView(c, u))
}

func (a *api) showProject(c *call) (*answer, error) {
	if id := c.PathValue("id"); id != c.caller.user.ProjectID {
		return nil, notFound("Could not find project: %s.", shorten(id))
	}
	return ok(map[string]any{"project": projectView(c, c.caller.user)})
}

func (a *api) listUsers(c *call) (*answer, error) {
	u := c.caller.user
	return list(c, "users", "/users", matches(c, u.Name, u.DomainID), userView(c, u))
}

func (a *api) showUser(c *call) (*answer, error) {
	if err := ownUser(c); err != nil {
		return nil, err
	}
	return ok(map[string]any{"user": userView(c, c.caller.user)})
}

func (a *api) listUserProjects(c *call) (*answer, error) {
	if err := ownUser(c); err != nil {
		return nil, err
	}
	return a.listProjects(c)
}

func ownUser(c *call) error {
	if id := c.PathValue("id"); id != c.caller.user.ID {
		return notFound("Could not find user: %s.", shorten(id))
	}
	return nil
}

func (a *api) listDomains(c *call) (*answer, error) {
	return list(c, "domains", "/domains", matches(c, identity.DomainName, identity.DomainID), domainView(c))
}

func (a *api) showDomain(c *call) (*answer, error) {
	if id := c.PathValue("id"); id != identity.DomainID {
		return nil, notFound("Could not find domain: %s.", shorten(id))
	}
	return ok(map[string]any{"domain": domainView(c)})
}

func (a *api) listRoles(c *call) (*answer, error) {
	roles := []any{}
	for _, r := range rolesOf(c.caller.user) {
		if matches(c, r.Name, "") {
			roles = append(roles, r)
		}
	}
	return ok(map[string]any{"roles": roles, "links": selfLinks(c, "/roles")})
}

func (a *api) listRegions(c *call) (*answer, error) {
	return ok(map[string]any{
		"regions": []any{map[string]any{"id": Region, "description": "", "parent_region_id": nil,
			"links": map[string]string{"self": c.base + identityPath + "/regions/" + Region}}},
		"links": selfLinks(c, "/regions"),
	})
}

func rolesOf(u identity.User) []named {
	roles := []named{}
	for _, name := range u.Roles {
		roles = append(roles, named{ID: identity.RoleID(name), Name: name})
	}
	return roles
}

// listCatalogServices and listEndpoints take the catalog apart, as keystone's admins see it.
func (a *api) listCatalogServices(c *call) (*answer, error) {
	services := []any{}
	for _, s := range catalog(c.base) {
		if want := c.URL.Query().Get("type"); want == "" || want == s.Type {
			services = append(services, map[string]any{"id": s.ID, "type": s.Type, "name": s.Name, "enabled": true,
				"links": map[string]string{"self": c.base + identityPath + "/services/" + s.ID}})
		}
	}
	return ok(map[string]any{"services": services, "links": selfLinks(c, "/services")})
}

func (a *api) listEndpoints(c *call) (*answer, error) {
	endpoints := []any{}
	for _, s := range catalog(c.base) {
		for _, e := range s.Endpoints {
			endpoints = append(endpoints, map[string]any{"id": e.ID, "interface": e.Interface, "region": e.Region, "region_id": e.RegionID,
				"service_id": s.ID, "url": e.URL, "enabled": true,
				"links": map[string]string{"self": c.base + identityPath + "/endpoints/" + e.ID}})
		}
	}
	return ok(map[string]any{"endpoints": endpoints, "links": selfLinks(c, "/endpoints")})
}
