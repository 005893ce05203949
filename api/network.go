package api

import (
	"net/http"
	"slices"

	"compute-agent/compute"
	"compute-agent/neutron"
)

const networkPath = "/network/v2.0"

// kinds are the records that the network API has.
var networkResources = []*resource{networkResource, subnetResource, portResource, groupResource, ruleResource, routerResource, floatingIPResource}

// networkService is Neutron's v2.0 API.
func (a *api) networkService() service {
	routes := []route{
		{pattern: "GET ", do: a.networkVersion, access: forAll},
		{pattern: "GET /{$}", do: a.networkVersion, access: forAll},
		{pattern: "GET /extensions", do: a.listNetworkExtensions},
		{pattern: "GET /extensions/{alias}", do: a.showNetworkExtension},
		{pattern: "GET /agents", do: a.listAgents, access: forAdmin},
		{pattern: "GET /agents/{id}", do: a.showAgent, access: forAdmin},
		{pattern: "GET /availability_zones", do: a.listNetworkZones},
		{pattern: "GET /subnetpools", do: noneOf("subnetpools")},
		{pattern: "GET /address-scopes", do: noneOf("address_scopes")},
		{pattern: "GET /rbac-policies", do: noneOf("rbac_policies")},
		{pattern: "GET /quotas", do: a.listNetworkQuotas, access: forAdmin},
		{pattern: "GET /quotas/{project}", do: a.showNetworkQuotas},
		{pattern: "GET /quotas/{project}/default", do: a.showNetworkQuotas},
		{pattern: "GET /quotas/{project}/details", do: a.showNetworkQuotaDetails},
	}
	for _, k := range networkResources {
		routes = append(routes, a.recordRoutes(k)...)
	}
	routes = slices.Concat(routes, a.routerActionRoutes(), a.availabilityRoutes())
	return service{name: "network", shape: networkFault, routes: append([]route{
		{pattern: "GET /network", do: a.networkVersions, access: forAll},
		{pattern: "GET /network/{$}", do: a.networkVersions, access: forAll},
	}, under(networkPath, routes)...)}
}

func neutronVersion(base string) map[string]any {
	return map[string]any{"id": "v2.0", "status": "CURRENT", "links": []link{{Rel: "self", Href: base + networkPath + "/"}}}
}

func (a *api) networkVersions(c *call) (*answer, error) {
	return ok(map[string]any{"versions": []any{neutronVersion(c.base)}})
}

// networkVersion lists the resources, as Neutron does under its version.
func (a *api) networkVersion(c *call) (*answer, error) {
	resources := listOf(networkResources, func(k *resource) map[string]any {
		return map[string]any{
			"name": k.name, "collection": k.plural, "links": []link{{Rel: "self", Href: c.base + networkPath + "/" + k.path}},
		}
	})
	return ok(map[string]any{"resources": resources})
}

// networkExtensions are the extensions of Neutron's API that are here, by alias with their names.
var networkExtensions = []struct{ alias, name string }{
	{"agent", "agent"},
	{"allowed-address-pairs", "Allowed Address Pairs"},
	{"availability_zone", "Availability Zone"},
	{"binding", "Port Binding"},
	{"empty-string-filtering", "Empty String Filtering Extension"},
	{"external-net", "Neutron external network"},
	{"ext-gw-mode", "Neutron L3 Configurable external gateway mode"},
	{"extra_dhcp_opt", "Neutron Extra DHCP options"},
	{"extraroute", "Neutron Extra Route"},
	{"extraroute-atomic", "Atomically add/remove extra routes"},
	{"filter-validation", "Filter parameters validation"},
	{"fip-port-details", "Floating IP Port Details Extension"},
	{"ip-substring-filtering", "IP address substring filtering"},
	{"net-mtu", "Network MTU"},
	{"net-mtu-writable", "Network MTU (writable)"},
	{"network-ip-availability", "Network IP Availability"},
	{"network_availability_zone", "Network Availability Zone"},
	{"pagination", "Pagination support"},
	{"port-security", "Port Security"},
	{"project-id", "project_id field enabled"},
	{"provider", "Provider Network"},
	{"quota_details", "Quota details management support"},
	{"quotas", "Quota management support"},
	{"router", "Neutron L3 Router"},
	{"router_availability_zone", "Router Availability Zone"},
	{"security-group", "security-group"},
	{"security-groups-normalized-cidr", "Normalized CIDR field for security group rules"},
	{"sorting", "Sorting support"},
	{"standard-attr-description", "standard-attr-description"},
	{"standard-attr-revisions", "Resource revision numbers"},
	{"standard-attr-tag", "Tag support for resources with standard attribute"},
	{"standard-attr-timestamp", "Resource timestamps"},
	{"stateful-security-group", "Stateful security group"},
	{"subnet-service-types", "Subnet service types"},
	{"tag-ports-during-bulk-creation", "Tag Ports During Bulk Creation"},
}

func extensionView(alias, name string) map[string]any {
	return map[string]any{"alias": alias, "name": name, "description": name, "updated": "2018-01-01T00:00:00-00:00", "links": []any{}}
}

func (a *api) listNetworkExtensions(*call) (*answer, error) {
	views := []any{}
	for _, e := range networkExtensions {
		views = append(views, extensionView(e.alias, e.name))
	}
	return ok(map[string]any{"extensions": views})
}

func (a *api) showNetworkExtension(c *call) (*answer, error) {
	for _, e := range networkExtensions {
		if e.alias == c.PathValue("alias") {
			return ok(map[string]any{"extension": extensionView(e.alias, e.name)})
		}
	}
	return nil, notFound("Extension with alias %s does not exist", shorten(c.PathValue("alias")))
}

// agentView is the one agent: this one. It is alive if it answers.
func (a *api) agentView(n compute.Node) map[string]any {
	now := a.Now().UTC().Format("2006-01-02 15:04:05")
	started := n.Started.UTC().Format("2006-01-02 15:04:05")
	return map[string]any{
		"id": n.ID, "binary": "compute-agent", "agent_type": "Linux bridge agent", "host": a.Hostname, "topic": "N/A",
		"availability_zone": availabilityZone, "admin_state_up": true, "alive": true, "description": nil, "configurations": map[string]any{},
		"created_at": started, "started_at": started, "heartbeat_timestamp": now, "resources_synced": nil,
	}
}

func (a *api) listAgents(c *call) (*answer, error) {
	n, err := a.Backend.Node(c.Context())
	if err != nil {
		return nil, err
	}
	views := []any{}
	if v := a.agentView(n); passesQuery(c, v) {
		views = append(views, v)
	}
	return ok(map[string]any{"agents": views})
}

// passesQuery tells whether a view is what a list's parameters ask for.
func passesQuery(c *call, v view) bool {
	for name, values := range c.URL.Query() {
		if !slices.Contains(notFilters, name) && !matchesAny(v[name], values) {
			return false
		}
	}
	return true
}

func (a *api) showAgent(c *call) (*answer, error) {
	n, err := a.Backend.Node(c.Context())
	if err != nil {
		return nil, err
	}
	if id := c.PathValue("id"); id != n.ID {
		f := notFound("Agent %s could not be found.", shorten(id))
		f.class = "AgentNotFound"
		return nil, f
	}
	return ok(map[string]any{"agent": a.agentView(n)})
}

func (a *api) listNetworkZones(c *call) (*answer, error) {
	views := []any{}
	for _, what := range []string{"network", "router"} {
		if v := (view{"name": availabilityZone, "resource": what, "state": "available"}); passesQuery(c, v) {
			views = append(views, v)
		}
	}
	return ok(map[string]any{"availability_zones": views})
}

// noneOf lists what there is none of, for clients that look through all that a project has.
func noneOf(key string) func(*call) (*answer, error) {
	return func(*call) (*answer, error) { return ok(map[string]any{key: []any{}}) }
}

// quotaLimits are the limits by Neutron's names.
func quotaLimits(q neutron.Quotas) map[string]int {
	return map[string]int{
		"network": q.Networks, "subnet": q.Subnets, "port": q.Ports, "router": q.Routers, "floatingip": q.FloatingIPs,
		"security_group": q.SecurityGroups, "security_group_rule": q.Rules,
	}
}

// listNetworkQuotas lists the projects that have limits of their own: none.
func (a *api) listNetworkQuotas(*call) (*answer, error) {
	return ok(map[string]any{"quotas": []any{}})
}

func quotaProject(c *call) (string, error) {
	project := c.PathValue("project")
	if !c.caller.mine(project) {
		f := faultf(http.StatusForbidden, "User does not have admin privileges: Only admin is authorized to access quotas for another project.")
		f.class = "AdminRequired"
		return "", f
	}
	return project, nil
}

func (a *api) showNetworkQuotas(c *call) (*answer, error) {
	project, err := quotaProject(c)
	if err != nil {
		return nil, err
	}
	quota := map[string]any{"project_id": project, "tenant_id": project}
	for name, limit := range quotaLimits(a.Backend.Quotas()) {
		quota[name] = limit
	}
	return ok(map[string]any{"quota": quota})
}

func (a *api) showNetworkQuotaDetails(c *call) (*answer, error) {
	project, err := quotaProject(c)
	if err != nil {
		return nil, err
	}
	quota := map[string]any{"project_id": project, "tenant_id": project}
	r := a.records(c)
	for name, limit := range quotaLimits(a.Backend.Quotas()) {
		used, err := r.used(name, project)
		if err != nil {
			return nil, err
		}
		quota[name] = map[string]int{"limit": limit, "used": used, "reserved": 0}
	}
	return ok(map[string]any{"quota": quota})
}

// used counts what a project has of a kind.
func (r *records) used(name, project string) (int, error) {
	for _, k := range networkResources {
		if k.name != name {
			continue
		}
		all, err := k.list(r)
		count := 0
		for _, v := range all {
			if v["project_id"] == project {
				count++
			}
		}
		return count, err
	}
	return 0, nil
}
