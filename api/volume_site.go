package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"compute-agent/cinder"
)

// listVolumeExtensions lists what Cinder had as extensions before it had microversions, of which clients ask for some.
func (a *api) listVolumeExtensions(*call) (*answer, error) {
	views := []any{}
	for _, alias := range []string{
		"OS-SCH-HNT", "encryption", "os-admin-actions", "os-availability-zone", "os-extended-snapshot-attributes", "os-quota-sets", "os-services",
		"os-types-extra-specs", "os-types-manage", "os-used-limits", "os-vol-host-attr", "os-vol-image-meta", "os-vol-tenant-attr",
		"os-volume-actions", "os-volume-encryption-metadata", "os-volume-type-access", "qos-specs", "scheduler-stats",
	} {
		views = append(views, extensionView(alias, alias))
	}
	return ok(map[string]any{"extensions": views})
}

func (a *api) listVolumeZones(*call) (*answer, error) {
	return ok(map[string]any{"availabilityZoneInfo": []any{
		map[string]any{"zoneName": availabilityZone, "zoneState": map[string]bool{"available": true}},
	}})
}

// volumeQuotaLimits are the limits by Cinder's names. What there is none of has a limit of none.
func volumeQuotaLimits(q cinder.Quotas) map[string]int {
	return map[string]int{
		"volumes": q.Volumes, "snapshots": q.Snapshots, "gigabytes": q.Gigabytes, "per_volume_gigabytes": unlimited,
		"backups": 0, "backup_gigabytes": 0, "groups": 0,
	}
}

// sinceProjectLimits is the microversion since which an administrator can ask for another project's limits.
const sinceProjectLimits microversion = 39

func (a *api) showVolumeLimits(c *call) (*answer, error) {
	project := c.caller.ProjectID
	q := c.URL.Query()
	if other := firstOf(q, "project_id", q.Get("tenant_id")); other != "" && c.caller.admin && c.since(sinceProjectLimits) {
		project = other
	}
	used, err := a.Backend.VolumeUsage(c.Context(), project)
	if err != nil {
		return nil, err
	}
	limits := a.Backend.VolumeQuotas()
	return ok(map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": map[string]int{
		"maxTotalVolumes": limits.Volumes, "maxTotalSnapshots": limits.Snapshots, "maxTotalVolumeGigabytes": limits.Gigabytes,
		"maxTotalBackups": 0, "maxTotalBackupGigabytes": 0,
		"totalVolumesUsed": used.Volumes, "totalSnapshotsUsed": used.Snapshots, "totalGigabytesUsed": used.Gigabytes,
		"totalBackupsUsed": 0, "totalBackupGigabytesUsed": 0,
	}}})
}

// ownQuotas is the project whose limits a path names, if the caller may see them.
func ownQuotas(c *call) (string, error) {
	project := c.PathValue("project")
	if !c.caller.mine(project) {
		return "", forbiddenAction("volume_extension:quotas:show")
	}
	return project, nil
}

func (a *api) showVolumeQuotas(c *call) (*answer, error) {
	project, err := ownQuotas(c)
	if err != nil {
		return nil, err
	}
	if usage, _ := parseBool(c.URL.Query().Get("usage")); !usage {
		return a.answerQuotas(project)
	}
	used, err := a.Backend.VolumeUsage(c.Context(), project)
	if err != nil {
		return nil, err
	}
	in := map[string]int{"volumes": used.Volumes, "snapshots": used.Snapshots, "gigabytes": used.Gigabytes}
	quotas := map[string]any{"id": project}
	for name, limit := range volumeQuotaLimits(a.Backend.VolumeQuotas()) {
		quotas[name] = map[string]int{"limit": limit, "in_use": in[name], "reserved": 0}
	}
	return ok(map[string]any{"quota_set": quotas})
}

func (a *api) showDefaultVolumeQuotas(c *call) (*answer, error) {
	project, err := ownQuotas(c)
	if err != nil {
		return nil, err
	}
	return a.answerQuotas(project)
}

func (a *api) answerQuotas(id string) (*answer, error) {
	quotas := map[string]any{"id": id}
	for name, limit := range volumeQuotaLimits(a.Backend.VolumeQuotas()) {
		quotas[name] = limit
	}
	return ok(map[string]any{"quota_set": quotas})
}

func (a *api) showVolumeQuotaClass(c *call) (*answer, error) {
	quotas := map[string]any{"id": c.PathValue("class")}
	for name, limit := range volumeQuotaLimits(a.Backend.VolumeQuotas()) {
		quotas[name] = limit
	}
	return ok(map[string]any{"quota_class_set": quotas})
}

// upOrDown is Cinder's word for whether a backend works.
func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// listVolumeServices lists a volume service for each backend and the scheduler, which are all this agent.
func (a *api) listVolumeServices(c *call) (*answer, error) {
	pools, err := a.Backend.Pools(c.Context())
	if err != nil {
		return nil, err
	}
	services := []view{a.volumeServiceView("cinder-scheduler", a.Hostname, true)}
	for _, p := range pools {
		one := a.volumeServiceView("cinder-volume", a.Hostname+"@"+p.Backend, p.Up)
		one["replication_status"], one["active_backend_id"], one["frozen"] = "disabled", nil, false
		if c.since(49) {
			one["backend_state"] = upOrDown(p.Up)
		}
		services = append(services, one)
	}
	q := c.URL.Query()
	binary, host := firstOf(q, "binary", q.Get("service")), q.Get("host")
	services = slices.DeleteFunc(services, func(v view) bool {
		name, _ := v["host"].(string)
		atHost := host == "" || name == host || strings.HasPrefix(name, host+"@")
		return !atHost || (binary != "" && v["binary"] != binary)
	})
	if c.since(7) {
		for _, v := range services {
			v["cluster"] = nil
		}
	}
	return ok(map[string]any{"services": services})
}

func (a *api) volumeServiceView(binary, host string, up bool) view {
	return view{
		"binary": binary, "host": host, "zone": availabilityZone, "status": "enabled", "state": upOrDown(up),
		"updated_at": cinderTime(a.Now()), "disabled_reason": nil,
	}
}

// protocols are how the volumes of a kind of backend reach a guest, in Cinder's words.
var protocols = map[string]string{"local": "file", "lvm": "local"}

func (a *api) poolCapabilities(p cinder.Pool) view {
	protocol, known := protocols[p.Kind]
	if !known {
		protocol = p.Kind
	}
	out := view{
		"volume_backend_name": p.Backend, "pool_name": p.Backend, "vendor_name": "compute-agent", "driver_version": "1.0", "storage_protocol": protocol,
		"total_capacity_gb": p.TotalGiB, "free_capacity_gb": p.FreeGiB, "allocated_capacity_gb": p.AllocatedGiB, "provisioned_capacity_gb": p.AllocatedGiB,
		"reserved_percentage": 0, "multiattach": p.Multiattach, "QoS_support": false, "backend_state": upOrDown(p.Up), "timestamp": cinderTime(a.Now()),
	}
	if p.Problem != "" {
		out["problem"] = p.Problem // ours; Cinder leaves it in its log
	}
	return out
}

func (a *api) listPools(c *call) (*answer, error) {
	pools, err := a.Backend.Pools(c.Context())
	if err != nil {
		return nil, err
	}
	detail, _ := parseBool(c.URL.Query().Get("detail"))
	name := c.URL.Query().Get("name")
	views := []view{}
	for _, p := range pools {
		one := view{"name": a.cinderHost(p.Backend)}
		if detail {
			one["capabilities"] = a.poolCapabilities(p)
		}
		if name == "" || !c.since(28) || one["name"] == name {
			views = append(views, one)
		}
	}
	return ok(map[string]any{"pools": views})
}

func (a *api) showCapabilities(c *call) (*answer, error) {
	pools, err := a.Backend.Pools(c.Context())
	if err != nil {
		return nil, err
	}
	host := c.PathValue("host")
	for _, p := range pools {
		if host != a.Hostname+"@"+p.Backend && host != a.cinderHost(p.Backend) {
			continue
		}
		has := a.poolCapabilities(p)
		return ok(map[string]any{
			"namespace": "OS::Storage::Capabilities::" + host, "vendor_name": has["vendor_name"], "volume_backend_name": p.Backend, "pool_name": p.Backend,
			"driver_version": has["driver_version"], "storage_protocol": has["storage_protocol"], "display_name": p.Backend, "description": p.Kind,
			"visibility": "public", "replication_targets": []any{}, "properties": view{},
		})
	}
	return nil, faultf(http.StatusBadRequest, "Service cinder-volume could not be found on host %s.", shorten(host))
}

// listResourceFilters lists what lists can be filtered by.
func (a *api) listResourceFilters(c *call) (*answer, error) {
	known := []struct {
		resource string
		filters  []string
	}{
		{"volume", append(slices.Sorted(maps.Keys(volumeListing.filters)), "created_at", "metadata", "updated_at")},
		{"snapshot", append(slices.Sorted(maps.Keys(snapshotListing.filters)), "metadata")},
		{"attachment", slices.Sorted(maps.Keys(attachmentListing.filters))},
		{"pool", []string{"name"}},
		{"volume_type", append(slices.Sorted(maps.Keys(typeListing.filters)), "extra_specs")},
	}
	asked := c.URL.Query().Get("resource")
	views := []any{}
	for _, k := range known {
		if asked == "" || asked == k.resource {
			views = append(views, map[string]any{"resource": k.resource, "filters": k.filters})
		}
	}
	return ok(map[string]any{"resource_filters": views})
}

// listUsedLUNs is no call of Cinder's: it is for `compute-agent volume used-luns`.
func (a *api) listUsedLUNs(c *call) (*answer, error) {
	used, err := a.Backend.UsedLUNs(c.Context())
	if err != nil {
		return nil, err
	}
	views := []view{}
	for _, u := range used {
		views = append(views, view{"backend": u.Backend, "lun": u.LUN, "project_id": u.ProjectID, "volume_id": u.VolumeID, "since": u.Since})
	}
	return ok(view{"used_luns": views})
}

// cleanLUN has the names in the query: a LUN's is any text of the operator's.
func (a *api) cleanLUN(c *call) (*answer, error) {
	q := c.URL.Query()
	if err := a.Backend.CleanLUN(c.Context(), q.Get("backend"), q.Get("lun")); err != nil {
		return nil, err
	}
	return status(http.StatusNoContent)
}
