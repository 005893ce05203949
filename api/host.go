package api

import (
	"time"

	"compute-agent/compute"
)

// binary is the name of the one service, by which clients know compute hosts.
const binary = "nova-compute"

func (a *api) listServices(c *call) (*answer, error) {
	q := newQuery(c, c.since(75), []string{"host", "binary"})
	if q.err != nil {
		return nil, q.err
	}
	n, err := a.Backend.Node(c.Context())
	if err != nil {
		return nil, err
	}
	services := []any{}
	if (!q.has("host") || q.text("host") == a.Hostname) && (!q.has("binary") || q.text("binary") == binary) {
		services = append(services, a.serviceView(c, n))
	}
	return ok(map[string]any{"services": services})
}

func (a *api) serviceView(c *call, n compute.Node) map[string]any {
	view := map[string]any{
		"id": serviceID(c, n), "binary": binary, "host": a.Hostname, "zone": availabilityZone, "status": "enabled",
		"state": nodeState(n), "updated_at": usageTime(a.Now()), "disabled_reason": nil,
	}
	if c.since(11) {
		view["forced_down"] = false
	}
	return view
}

func (a *api) zone(hosts any, up bool) any {
	return map[string]any{"availabilityZoneInfo": []any{map[string]any{
		"zoneName": availabilityZone, "zoneState": map[string]bool{"available": up}, "hosts": hosts,
	}}}
}

func (a *api) listZones(c *call) (*answer, error) {
	n, err := a.Backend.Node(c.Context())
	if err != nil {
		return nil, err
	}
	return ok(a.zone(nil, n.Up))
}

func (a *api) listZonesDetail(c *call) (*answer, error) {
	n, err := a.Backend.Node(c.Context())
	if err != nil {
		return nil, err
	}
	return ok(a.zone(map[string]any{a.Hostname: map[string]any{binary: map[string]any{
		"active": true, "available": n.Up, "updated_at": a.Now().UTC().Format(time.RFC3339),
	}}}, n.Up))
}

// listAggregates is empty: one host has nothing to be grouped with.
func (a *api) listAggregates(*call) (*answer, error) {
	return ok(map[string]any{"aggregates": []any{}})
}
