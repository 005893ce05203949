package api

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"compute-agent/compute"
)

// There is one hypervisor: the host. Routes and fields that later microversions dropped are
// answered to those who ask in an older one.
func (a *api) hypervisorRoutes() []route {
	return []route{
		{pattern: "GET /os-hypervisors", do: a.listHypervisors, access: forAdmin},
		{pattern: "GET /os-hypervisors/detail", do: a.listHypervisorsDetail, access: forAdmin},
		{pattern: "GET /os-hypervisors/statistics", do: a.showStatistics, access: forAdmin, until: 87},
		{pattern: "GET /os-hypervisors/{id}", do: a.showHypervisor, access: forAdmin},
		{pattern: "GET /os-hypervisors/{id}/uptime", do: a.showUptime, access: forAdmin, until: 87},
		{pattern: "GET /os-hypervisors/{id}/search", do: a.searchHypervisors, access: forAdmin, until: 52},
		{pattern: "GET /os-hypervisors/{id}/servers", do: a.hypervisorServers, access: forAdmin, until: 52},
	}
}

var hypervisorQuery = []string{"limit", "marker", "hypervisor_hostname_pattern", "with_servers"}

// hypervisorID is a number before 2.53 and the node's UUID from then on.
func hypervisorID(c *call, n compute.Node) any {
	if c.since(53) {
		return n.ID
	}
	return 1
}

// serviceID is as hypervisorID, and differs from it.
func serviceID(c *call, n compute.Node) any {
	if c.since(53) {
		return uuid.NewSHA1(uuid.Nil, []byte("nova-compute "+n.ID)).String()
	}
	return 1
}

func nodeState(n compute.Node) string {
	if n.Up {
		return "up"
	}
	return "down"
}

func (a *api) hypervisorSummary(c *call, n compute.Node) map[string]any {
	return map[string]any{
		"id": hypervisorID(c, n), "hypervisor_hostname": a.Hostname, "state": nodeState(n), "status": "enabled",
	}
}

func (a *api) hypervisorDetail(c *call, n compute.Node) (map[string]any, error) {
	view := a.hypervisorSummary(c, n)
	view["hypervisor_type"] = n.Host.Hypervisor
	view["hypervisor_version"] = n.Host.HypervisorVersion
	view["host_ip"] = listenAddress(c.Request)
	view["service"] = map[string]any{"id": serviceID(c, n), "host": a.Hostname, "disabled_reason": nil}
	if c.since(88) {
		view["uptime"] = nil
		return view, nil
	}
	cpu, err := cpuInfo(c, n)
	if err != nil {
		return nil, err
	}
	view["cpu_info"] = cpu
	busy, err := a.busyServers(c)
	if err != nil {
		return nil, err
	}
	addUsage(view, n, busy)
	return view, nil
}

// addUsage adds what the host has and what of it is used.
func addUsage(view map[string]any, n compute.Node, busy int) {
	view["vcpus"], view["vcpus_used"] = n.CPUs, n.CPUsUsed
	view["memory_mb"], view["memory_mb_used"] = n.MemoryMiB, n.MemoryMiBUsed
	view["free_ram_mb"] = n.MemoryMiB - n.MemoryMiBUsed
	view["local_gb"], view["local_gb_used"] = n.DiskGiB, n.DiskGiBUsed
	view["free_disk_gb"] = n.DiskGiB - n.DiskGiBUsed
	view["disk_available_least"] = n.DiskGiBFree
	view["running_vms"] = n.RunningServers
	view["current_workload"] = busy
}

// busyServers counts the servers with which something is being done.
func (a *api) busyServers(c *call) (int, error) {
	servers, err := a.Backend.Servers(c.Context())
	if err != nil {
		return 0, err
	}
	busy := 0
	for _, s := range servers {
		if s.Task != compute.TaskNone {
			busy++
		}
	}
	return busy, nil
}

// cpuInfo was JSON in a string before 2.28.
func cpuInfo(c *call, n compute.Node) (any, error) {
	info := compute.CPUInfoOf(n.Host)
	if c.since(28) {
		return info, nil
	}
	data, err := json.Marshal(info)
	return string(data), err
}

// listenAddress is the address of this host that the client reached.
func listenAddress(r *http.Request) string {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return ""
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}

func (a *api) listHypervisors(c *call) (*answer, error) {
	return a.hypervisorList(c, func(n compute.Node) (map[string]any, error) { return a.hypervisorSummary(c, n), nil })
}

func (a *api) listHypervisorsDetail(c *call) (*answer, error) {
	return a.hypervisorList(c, func(n compute.Node) (map[string]any, error) { return a.hypervisorDetail(c, n) })
}

func (a *api) hypervisorList(c *call, render func(compute.Node) (map[string]any, error)) (*answer, error) {
	q := newQuery(c, c.since(75), hypervisorQuery)
	p := q.page()
	if q.err != nil {
		return nil, q.err
	}
	n, err := a.Backend.Node(c.Context())
	if err != nil {
		return nil, err
	}
	pattern := q.text("hypervisor_hostname_pattern")
	if c.since(53) && pattern != "" && !strings.Contains(a.Hostname, pattern) {
		return nil, notFound("No hypervisor matching '%s' could be found.", shorten(pattern))
	}
	view, err := render(n)
	if err != nil {
		return nil, err
	}
	if err := a.addServers(c, q, view); err != nil {
		return nil, err
	}
	part := []any{}
	switch {
	case p.marker != "" && c.since(33):
		if p.marker != idText(hypervisorID(c, n)) {
			return nil, badRequest("marker [%s] not found", shorten(p.marker))
		}
	case p.limit > 0 || !c.since(33):
		part = append(part, view)
	}
	return ok(map[string]any{"hypervisors": part})
}

// addServers adds the host's servers to those who ask for them, since 2.53.
func (a *api) addServers(c *call, q *query, view map[string]any) error {
	if !c.since(53) || !q.boolean("with_servers", false) {
		return nil
	}
	servers, err := a.serverNames(c)
	if err != nil {
		return err
	}
	if len(servers) > 0 || c.since(75) {
		view["servers"] = servers
	}
	return nil
}

func (a *api) serverNames(c *call) ([]any, error) {
	servers, err := a.Backend.Servers(c.Context())
	if err != nil {
		return nil, err
	}
	names := []any{}
	for _, s := range servers {
		names = append(names, map[string]string{"uuid": s.ID, "name": s.GuestName()})
	}
	return names, nil
}

func idText(id any) string {
	if s, ok := id.(string); ok {
		return s
	}
	return "1"
}

// hypervisor finds the one that the path names.
func (a *api) hypervisor(c *call) (compute.Node, error) {
	n, err := a.Backend.Node(c.Context())
	if err != nil {
		return n, err
	}
	if id := c.PathValue("id"); id != idText(hypervisorID(c, n)) {
		return n, notFound("Hypervisor with ID '%s' could not be found.", shorten(id))
	}
	return n, nil
}

func (a *api) showHypervisor(c *call) (*answer, error) {
	n, err := a.hypervisor(c)
	if err != nil {
		return nil, err
	}
	view, err := a.hypervisorDetail(c, n)
	if err != nil {
		return nil, err
	}
	q := newQuery(c, c.since(75), []string{"with_servers"})
	if err := cmp.Or(q.err, a.addServers(c, q, view)); err != nil {
		return nil, err
	}
	return ok(map[string]any{"hypervisor": view})
}

// showUptime: the agent does not keep the host's uptime, and clients know that some do not.
func (a *api) showUptime(c *call) (*answer, error) {
	if _, err := a.hypervisor(c); err != nil {
		return nil, err
	}
	return nil, faultf(http.StatusNotImplemented, "The uptime of the host is not reported.")
}

// byPattern is the old search: the path holds a part of the host's name.
func (a *api) byPattern(c *call) (compute.Node, error) {
	n, err := a.Backend.Node(c.Context())
	if err != nil {
		return n, err
	}
	if pattern := c.PathValue("id"); !strings.Contains(a.Hostname, pattern) {
		return n, notFound("No hypervisor matching '%s' could be found.", shorten(pattern))
	}
	return n, nil
}

func (a *api) searchHypervisors(c *call) (*answer, error) {
	n, err := a.byPattern(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"hypervisors": []any{a.hypervisorSummary(c, n)}})
}

func (a *api) hypervisorServers(c *call) (*answer, error) {
	n, err := a.byPattern(c)
	if err != nil {
		return nil, err
	}
	view := a.hypervisorSummary(c, n)
	servers, err := a.serverNames(c)
	if err != nil {
		return nil, err
	}
	if len(servers) > 0 {
		view["servers"] = servers
	}
	return ok(map[string]any{"hypervisors": []any{view}})
}

func (a *api) showStatistics(c *call) (*answer, error) {
	n, err := a.Backend.Node(c.Context())
	if err != nil {
		return nil, err
	}
	busy, err := a.busyServers(c)
	if err != nil {
		return nil, err
	}
	view := map[string]any{"count": 1}
	addUsage(view, n, busy)
	return ok(map[string]any{"hypervisor_statistics": view})
}
