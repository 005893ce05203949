package api

import (
	"errors"
	"net/http"

	"github.com/google/uuid"

	"compute-agent/compute"
)

func (a *api) serverRoutes() []route {
	return []route{
		{pattern: "GET /servers", do: a.listServers},
		{pattern: "GET /servers/detail", do: a.listServersDetail},
		{pattern: "POST /servers", do: a.createServer, schema: "server_create"},
		{pattern: "GET /servers/{id}", do: a.showServer},
		{pattern: "PUT /servers/{id}", do: a.updateServer, schema: "server_update"},
		{pattern: "DELETE /servers/{id}", do: a.deleteServer},
		{pattern: "POST /servers/{id}/action", do: a.serverAction, schema: "server_action"},
		{pattern: "GET /servers/{id}/metadata", do: a.showMetadata},
		{pattern: "POST /servers/{id}/metadata", do: a.addMetadata, schema: "metadata"},
		{pattern: "PUT /servers/{id}/metadata", do: a.replaceMetadata, schema: "metadata"},
		{pattern: "GET /servers/{id}/metadata/{key}", do: a.showMetadataItem},
		{pattern: "PUT /servers/{id}/metadata/{key}", do: a.setMetadataItem, schema: "metadata_item"},
		{pattern: "DELETE /servers/{id}/metadata/{key}", do: a.deleteMetadataItem},
		{pattern: "GET /servers/{id}/tags", do: a.listTags, since: 26},
		{pattern: "GET /servers/{id}/os-security-groups", do: a.listServerGroups},
		{pattern: "GET /servers/{id}/os-instance-actions", do: a.emptyOfServer("instanceActions")},
		{pattern: "GET /servers/{id}/ips", do: a.listAddresses},
		{pattern: "GET /servers/{id}/ips/{network}", do: a.showAddresses},
	}
}

// server finds the server that the path names, if it is the caller's.
func (a *api) server(c *call) (compute.Server, error) {
	id := c.PathValue("id")
	missing := notFound("Instance %s could not be found.", shorten(id))
	if uuid.Validate(id) != nil {
		return compute.Server{}, missing
	}
	s, err := a.Backend.Server(c.Context(), id)
	if errors.Is(err, compute.ErrNotFound) || (err == nil && (!c.caller.mine(s.ProjectID) || s.VM == compute.Deleted)) {
		return compute.Server{}, missing
	}
	return s, err
}

func (a *api) listServers(c *call) (*answer, error) {
	servers, more, err := a.servers(c)
	if err != nil {
		return nil, err
	}
	return serverList(c, servers, more, func(s compute.Server) map[string]any { return serverSummary(c, s) })
}

func (a *api) listServersDetail(c *call) (*answer, error) {
	servers, more, err := a.servers(c)
	if err != nil {
		return nil, err
	}
	has, err := a.belongings(c)
	if err != nil {
		return nil, err
	}
	return serverList(c, servers, more, func(s compute.Server) map[string]any { return a.serverDetail(c, s, has) })
}

func serverList(c *call, servers []compute.Server, more bool, view func(compute.Server) map[string]any) (*answer, error) {
	views := make([]any, 0, len(servers))
	for _, s := range servers {
		views = append(views, view(s))
	}
	body := map[string]any{"servers": views}
	if more && len(servers) > 0 {
		body["servers_links"] = nextLinks(c, servers[len(servers)-1].ID)
	}
	return ok(body)
}

func (a *api) showServer(c *call) (*answer, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	has, err := a.belongings(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"server": a.oneServer(c, s, has)})
}

// oneServer is the view of a single server, which from 2.71 on names its groups.
func (a *api) oneServer(c *call, s compute.Server, has *belongings) map[string]any {
	view := a.serverDetail(c, s, has)
	if c.since(71) {
		view["server_groups"] = []any{}
	}
	return view
}

func (a *api) updateServer(c *call) (*answer, error) {
	var req struct {
		Server struct {
			Name        *string
			Description *string
			accessAddresses
		}
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	v4, v6, err := req.Server.read()
	if err != nil {
		return nil, err
	}
	if _, err := a.server(c); err != nil {
		return nil, err
	}
	change := compute.ServerChange{Name: req.Server.Name, Description: req.Server.Description, AccessIPv4: v4, AccessIPv6: v6}
	if change.Description == nil && mentions(c.value, "server", "description") {
		change.Description = new(string) // null means none
	}
	s, err := a.Backend.UpdateServer(c.Context(), c.PathValue("id"), change)
	if err != nil {
		return nil, err
	}
	has, err := a.belongings(c)
	if err != nil {
		return nil, err
	}
	if !c.since(75) {
		view := a.serverCore(c, s, has)
		if c.since(71) {
			view["server_groups"] = []any{}
		}
		return ok(map[string]any{"server": view})
	}
	return ok(map[string]any{"server": a.oneServer(c, s, has)})
}

// mentions tells whether a body has a key, be it null.
func mentions(value any, path ...string) bool {
	for _, key := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return false
		}
		if value, ok = object[key]; !ok {
			return false
		}
	}
	return true
}

func (a *api) deleteServer(c *call) (*answer, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	if err := a.Backend.DeleteServer(c.Context(), s.ID); err != nil {
		return nil, err
	}
	return status(http.StatusNoContent)
}

func (a *api) listTags(c *call) (*answer, error) {
	if _, err := a.server(c); err != nil {
		return nil, err
	}
	return ok(map[string]any{"tags": []string{}})
}

// emptyOfServer lists what servers here have none of, for clients that look before they act.
func (a *api) emptyOfServer(key string) func(*call) (*answer, error) {
	return func(c *call) (*answer, error) {
		if _, err := a.server(c); err != nil {
			return nil, err
		}
		return ok(map[string]any{key: []any{}})
	}
}
