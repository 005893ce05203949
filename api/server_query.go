package api

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"compute-agent/compute"
)

// serverQuery are the parameters that a list of servers knows, nova.api.openstack.compute.schemas.servers.
var serverQuery = []string{
	"limit", "marker", "sort_key", "sort_dir", "all_tenants", "name", "status", "flavor", "image", "host", "node",
	"uuid", "deleted", "changes-since", "changes-before", "project_id", "tenant_id", "user_id", "key_name",
	"availability_zone", "config_drive", "description", "vm_state", "task_state", "power_state", "progress",
	"instance_name", "reservation_id", "locked", "tags", "tags-any", "not-tags", "not-tags-any", "ip", "ip6",
	"access_ip_v4", "access_ip_v6", "auto_disk_config", "created_at", "launched_at", "terminated_at", "hostname",
	"kernel_id", "ramdisk_id", "launch_index", "locked_by", "root_device_name", "soft_deleted", "block_device_mapping",
	"services", "metadata", "system_metadata", "info_cache", "security_groups", "pci_devices", "display_name", "display_description",
	"cell_name", "cleaned", "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "internal_id",
	"memory_mb", "os_type", "root_gb", "shutdown_terminate", "user_data", "vcpus", "vm_mode", "updated_at", "id",
}

var serverOrder = map[string]func(a, b compute.Server) int{
	"created_at":   func(a, b compute.Server) int { return a.Created.Compare(b.Created) },
	"updated_at":   func(a, b compute.Server) int { return a.Updated.Compare(b.Updated) },
	"launched_at":  func(a, b compute.Server) int { return a.Launched.Compare(b.Launched) },
	"id":           func(a, b compute.Server) int { return cmp.Compare(a.Number, b.Number) },
	"uuid":         func(a, b compute.Server) int { return cmp.Compare(a.ID, b.ID) },
	"display_name": func(a, b compute.Server) int { return cmp.Compare(a.Name, b.Name) },
	"name":         func(a, b compute.Server) int { return cmp.Compare(a.Name, b.Name) },
	"project_id":   func(a, b compute.Server) int { return cmp.Compare(a.ProjectID, b.ProjectID) },
	"user_id":      func(a, b compute.Server) int { return cmp.Compare(a.UserID, b.UserID) },
	"image_ref":    func(a, b compute.Server) int { return cmp.Compare(a.ImageID, b.ImageID) },
	"vm_state":     func(a, b compute.Server) int { return cmp.Compare(a.VM, b.VM) },
	"task_state":   func(a, b compute.Server) int { return cmp.Compare(a.Task, b.Task) },
	"power_state":  func(a, b compute.Server) int { return cmp.Compare(a.Power, b.Power) },
	"memory_mb":    func(a, b compute.Server) int { return cmp.Compare(a.Flavor.MemoryMiB, b.Flavor.MemoryMiB) },
	"vcpus":        func(a, b compute.Server) int { return cmp.Compare(a.Flavor.VCPUs, b.Flavor.VCPUs) },
	"root_gb":      func(a, b compute.Server) int { return cmp.Compare(a.Flavor.DiskGiB, b.Flavor.DiskGiB) },
	"host":         func(compute.Server, compute.Server) int { return 0 },
	"node":         func(compute.Server, compute.Server) int { return 0 },
	"key_name":     func(a, b compute.Server) int { return cmp.Compare(keyName(a), keyName(b)) },
}

func keyName(s compute.Server) string {
	if s.Keypair == nil {
		return ""
	}
	return s.Keypair.Name
}

// predicate tells whether a server passes one filter.
type predicate func(compute.Server) bool

// servers are the servers that a list request asks for, in its order.
func (a *api) servers(c *call) (part []compute.Server, more bool, err error) {
	q := newQuery(c, c.since(75), serverQuery)
	p := q.page()
	q.strictStatus = c.since(38)
	inOrder := sorting(q, serverOrder, "created_at", "id")
	filters := a.serverFilters(c, q)
	if q.err != nil {
		return nil, false, q.err
	}
	byAddress, err := a.addressFilters(c, q)
	if err != nil {
		return nil, false, err
	}
	filters = append(filters, byAddress...)
	all, err := a.Backend.Servers(c.Context())
	if err != nil {
		return nil, false, err
	}
	found := make([]compute.Server, 0, len(all))
	for _, s := range all {
		if passes(s, filters) {
			found = append(found, s)
		}
	}
	inOrder.sort(found)
	return cut(found, p, func(s compute.Server) string { return s.ID })
}

func passes(s compute.Server, filters []predicate) bool {
	for _, filter := range filters {
		if !filter(s) {
			return false
		}
	}
	return true
}

// filter makes a predicate of a parameter's value; nil lets all pass.
type filter func(q *query, value string) predicate

// sameAs compares a field.
func sameAs(field func(compute.Server) string) filter {
	return func(_ *query, want string) predicate {
		return func(s compute.Server) bool { return field(s) == want }
	}
}

// everyServer has the same value for a field, so all pass or none.
func everyServer(value string) filter {
	return sameAs(func(compute.Server) string { return value })
}

// userFilters are what every user may filter by, adminFilters what an admin may, and from 2.83 on
// the ones in between are everybody's.
var (
	userFilters = map[string]filter{
		"flavor":         sameAs(func(s compute.Server) string { return s.Flavor.ID }),
		"image":          sameAs(func(s compute.Server) string { return s.ImageID }),
		"reservation_id": sameAs(reservationID),
		"status":         statusFilter,
	}
	userFilters83 = map[string]filter{
		"key_name":          sameAs(keyName),
		"user_id":           sameAs(func(s compute.Server) string { return s.UserID }),
		"vm_state":          sameAs(func(s compute.Server) string { return string(s.VM) }),
		"task_state":        sameAs(func(s compute.Server) string { return string(s.Task) }),
		"power_state":       powerFilter,
		"availability_zone": everyServer(availabilityZone),
		"config_drive":      configDriveFilter,
		"hostname":          sameAs(compute.Server.Hostname),
	}
	adminFilters = map[string]filter{
		"uuid": sameAs(func(s compute.Server) string { return s.ID }),
	}
)

// serverFilters reads the filters of a list request. As in Nova, what a user who is no admin may
// not filter by is ignored.
func (a *api) serverFilters(c *call, q *query) []predicate {
	filters := []predicate{scopeFilter(c, q), lifeFilter(c, q)}
	add := func(known map[string]filter) {
		for name, f := range known {
			if !q.has(name) {
				continue
			}
			if p := f(q, q.text(name)); p != nil {
				filters = append(filters, p)
			}
		}
	}
	like := func(name string, field func(compute.Server) string) {
		if re := q.pattern(name); re != nil {
			filters = append(filters, func(s compute.Server) bool { return re.MatchString(field(s)) })
		}
	}
	like("name", func(s compute.Server) string { return s.Name })
	add(userFilters)
	filters = append(filters, changeFilters(c, q)...)
	filters = append(filters, tagAndLockFilters(c, q)...)
	if c.caller.admin || c.since(83) {
		like("description", func(s compute.Server) string { return s.Description })
		add(userFilters83)
	}
	if c.caller.admin {
		like("instance_name", compute.Server.GuestName)
		add(adminFilters)
		add(map[string]filter{"host": everyServer(a.Hostname), "node": everyServer(a.Hostname)})
	}
	return filters
}

// scopeFilter keeps projects apart: only an admin sees others', and only when asking for them.
func scopeFilter(c *call, q *query) predicate {
	everyone := false
	if q.has("all_tenants") {
		// Nova: the bare word means yes; what is no truth value is refused.
		word := cmp.Or(q.text("all_tenants"), "1")
		value, known := parseBool(word)
		if !known {
			q.refuse("all_tenants", word, quoted(word)+" is not a 'boolean'")
		}
		everyone = value
	}
	if everyone && !c.caller.admin {
		q.fail(faultf(http.StatusForbidden, "Policy doesn't allow os_compute_api:servers:index:get_all_tenants to be performed."))
	}
	project := c.caller.ProjectID
	if c.caller.admin && everyone {
		if project = cmp.Or(q.text("project_id"), q.text("tenant_id")); project == "" {
			return func(compute.Server) bool { return true }
		}
	}
	return func(s compute.Server) bool { return s.ProjectID == project }
}

// lifeFilter hides deleted servers, or shows only them to an admin who asks.
func lifeFilter(c *call, q *query) predicate {
	wantDeleted := c.caller.admin && q.boolean("deleted", false)
	if !wantDeleted && q.has("changes-since") {
		return func(compute.Server) bool { return true } // Nova: a change may be the deletion
	}
	return func(s compute.Server) bool { return (s.VM == compute.Deleted) == wantDeleted }
}

// knownStatuses are the words that a status filter may have.
var knownStatuses = []string{
	"ACTIVE", "BUILD", "DELETED", "ERROR", "HARD_REBOOT", "MIGRATING", "PASSWORD", "PAUSED", "REBOOT", "REBUILD", "RESCUE",
	"RESIZE", "REVERT_RESIZE", "SHELVED", "SHELVED_OFFLOADED", "SHUTOFF", "SOFT_DELETED", "SUSPENDED", "UNKNOWN", "VERIFY_RESIZE",
}

func statusFilter(q *query, _ string) predicate {
	var wanted []string
	for _, status := range q.values["status"] {
		if status = strings.ToUpper(status); slices.Contains(knownStatuses, status) {
			wanted = append(wanted, status)
		}
	}
	if len(wanted) == 0 && q.strictStatus {
		q.fail(badRequest("Invalid status value"))
	}
	return func(s compute.Server) bool { return slices.Contains(wanted, serverStatus(s.VM, s.Task)) }
}

// powerFilter compares numbers, so that no text of the wrong kind is taken for 0.
func powerFilter(q *query, value string) predicate {
	n, err := strconv.Atoi(value)
	if err != nil {
		q.refuse("power_state", value, quoted(value)+" is not a number")
	}
	return func(s compute.Server) bool { return int(s.Power) == n }
}

func configDriveFilter(q *query, _ string) predicate {
	want := q.boolean("config_drive", false)
	return func(s compute.Server) bool { return s.ConfigDrive == want }
}

// addressFilters match expressions with the addresses of servers. Only from 2.5 on ip6 is for users who are no admins.
func (a *api) addressFilters(c *call, q *query) ([]predicate, error) {
	v4, v6 := q.pattern("ip"), q.pattern("ip6")
	if !c.caller.admin && !c.since(5) {
		v6 = nil
	}
	if q.err != nil || (v4 == nil && v6 == nil) {
		return nil, q.err
	}
	i, err := a.interfaces(c)
	if err != nil {
		return nil, err
	}
	has := func(serverID string, version int, re *regexp.Regexp) bool {
		for _, list := range i.addresses(serverID) {
			if slices.ContainsFunc(list, func(x serverAddress) bool { return x.Version == version && re.MatchString(x.Address) }) {
				return true
			}
		}
		return false
	}
	return []predicate{func(s compute.Server) bool {
		return (v4 == nil || has(s.ID, 4, v4)) && (v6 == nil || has(s.ID, 6, v6))
	}}, nil
}

func changeFilters(c *call, q *query) []predicate {
	var filters []predicate
	if since := q.instant("changes-since"); !since.IsZero() {
		filters = append(filters, func(s compute.Server) bool { return !s.Updated.Before(since) })
	}
	if before := q.instant("changes-before"); c.since(66) && !before.IsZero() {
		filters = append(filters, func(s compute.Server) bool { return !s.Updated.After(before) })
	}
	return filters
}

// tagAndLockFilters is about tags and locks, which no server has yet.
func tagAndLockFilters(c *call, q *query) []predicate {
	none := func(compute.Server) bool { return false }
	var filters []predicate
	if c.since(26) && (q.text("tags") != "" || q.text("tags-any") != "") {
		filters = append(filters, none)
	}
	if c.since(73) && q.boolean("locked", false) {
		filters = append(filters, none)
	}
	return filters
}
