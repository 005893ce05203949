package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"time"

	"compute-agent/compute"
)

// serverStatus is the word that the API has for a state (nova.api.openstack.common): what is
// being done shows only where Nova shows it.
func serverStatus(vm compute.VMState, task compute.TaskState) string {
	if slices.Contains(rebuilding, task) {
		return "REBUILD"
	}
	switch vm {
	case compute.Active:
		switch task {
		case compute.TaskRebooting, compute.TaskRebootStarted:
			return "REBOOT"
		case compute.TaskRebootingHard, compute.TaskRebootStartedHard:
			return "HARD_REBOOT"
		}
		return "ACTIVE"
	case compute.Building:
		return "BUILD"
	case compute.Stopped:
		return "SHUTOFF"
	case compute.Rescued:
		return "RESCUE"
	case compute.Resized:
		return "VERIFY_RESIZE"
	case compute.SoftDeleted:
		return "SOFT_DELETED"
	case compute.Paused:
		return "PAUSED"
	case compute.Suspended:
		return "SUSPENDED"
	case compute.Error:
		return "ERROR"
	case compute.Deleted:
		return "DELETED"
	case compute.Shelved:
		return "SHELVED"
	case compute.ShelvedOffloaded:
		return "SHELVED_OFFLOADED"
	}
	return "UNKNOWN"
}

// rebuilding are the task states that show, whatever the server was.
var rebuilding = []compute.TaskState{compute.TaskRebuilding, compute.TaskRebuildDevices, compute.TaskRebuildSpawning}

// novaTime is seconds and a Z.
func novaTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// usageTime is how the usage extension writes times; null when it has not happened.
func usageTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000")
}

// hostID tells a project's servers on the same host from others without telling which host.
func hostID(projectID, host string) string {
	sum := sha256.Sum224([]byte(projectID + host))
	return hex.EncodeToString(sum[:])
}

func serverLinks(c *call, id string) []link { return selfAndBookmark(c, "/servers/"+id) }

// serverSummary is an entry of a list without details.
func serverSummary(c *call, s compute.Server) map[string]any {
	return map[string]any{"id": s.ID, "name": s.Name, "links": serverLinks(c, s.ID)}
}

// serverCore is what every view of a server has, also the answer to an update before 2.75.
func (a *api) serverCore(c *call, s compute.Server, has *belongings) map[string]any {
	view := map[string]any{
		"id":                s.ID,
		"name":              s.Name,
		"status":            serverStatus(s.VM, s.Task),
		"tenant_id":         s.ProjectID,
		"user_id":           s.UserID,
		"metadata":          orEmpty(s.Metadata),
		"hostId":            hostID(s.ProjectID, a.Hostname),
		"image":             reference(c, s.ImageID, "/images/"),
		"flavor":            serverFlavor(c, s.Flavor),
		"created":           novaTime(s.Created),
		"updated":           novaTime(s.Updated),
		"addresses":         has.addresses(s.ID),
		"accessIPv4":        addressText(s.AccessIPv4),
		"accessIPv6":        addressText(s.AccessIPv6),
		"links":             serverLinks(c, s.ID),
		"OS-DCF:diskConfig": "MANUAL",
	}
	if s.ImageID == "" {
		view["image"] = ""
	}
	switch view["status"] {
	case "ACTIVE", "BUILD", "REBUILD", "VERIFY_RESIZE":
		view["progress"] = 0
	}
	if s.Fault != nil && (s.VM == compute.Error || s.VM == compute.Deleted) {
		view["fault"] = faultView(c, *s.Fault)
	}
	a.addVersioned(c, s, view)
	return view
}

// addVersioned adds the core's fields of later microversions.
func (a *api) addVersioned(c *call, s compute.Server, view map[string]any) {
	if c.since(9) {
		view["locked"] = false
	}
	if c.since(19) {
		view["description"] = orNull(s.Description)
	}
	if c.since(26) {
		view["tags"] = []string{}
	}
	if c.since(63) {
		view["trusted_image_certificates"] = nil
	}
	if c.since(73) {
		view["locked_reason"] = nil
	}
}

// serverDetail is the whole view of a server.
func (a *api) serverDetail(c *call, s compute.Server, has *belongings) map[string]any {
	view := a.serverCore(c, s, has)
	if groups := has.groupNames(s.ID); len(groups) > 0 {
		view["security_groups"] = groups
	}
	view["key_name"] = nil
	if s.Keypair != nil {
		view["key_name"] = s.Keypair.Name
	}
	view["config_drive"] = ""
	if s.ConfigDrive {
		view["config_drive"] = "True"
	}
	view["OS-EXT-AZ:availability_zone"] = availabilityZone
	view["OS-EXT-STS:task_state"] = orNull(string(s.Task))
	view["OS-EXT-STS:vm_state"] = string(s.VM)
	view["OS-EXT-STS:power_state"] = int(s.Power)
	view["OS-SRV-USG:launched_at"] = usageTime(s.Launched)
	view["OS-SRV-USG:terminated_at"] = usageTime(s.Terminated)
	view["os-extended-volumes:volumes_attached"] = attachedVolumes(c, has.volumes[s.ID])
	if c.caller.admin {
		a.addHost(c, s, view)
	}
	return view
}

// addHost adds what only an admin sees.
func (a *api) addHost(c *call, s compute.Server, view map[string]any) {
	view["OS-EXT-SRV-ATTR:host"] = a.Hostname
	view["OS-EXT-SRV-ATTR:hypervisor_hostname"] = a.Hostname
	view["OS-EXT-SRV-ATTR:instance_name"] = s.GuestName()
	if c.since(3) {
		view["OS-EXT-SRV-ATTR:hostname"] = s.Hostname()
		view["OS-EXT-SRV-ATTR:reservation_id"] = reservationID(s)
		view["OS-EXT-SRV-ATTR:launch_index"] = 0
		view["OS-EXT-SRV-ATTR:kernel_id"] = ""
		view["OS-EXT-SRV-ATTR:ramdisk_id"] = ""
		view["OS-EXT-SRV-ATTR:root_device_name"] = s.RootDevice()
		view["OS-EXT-SRV-ATTR:user_data"] = nil
		if len(s.UserData) > 0 {
			view["OS-EXT-SRV-ATTR:user_data"] = base64.StdEncoding.EncodeToString(s.UserData)
		}
	}
	if c.since(16) {
		view["host_status"] = "DOWN"
		if a.Backend.Up() {
			view["host_status"] = "UP"
		}
	}
}

// reservationID names the request that made a server; here each makes one.
func reservationID(s compute.Server) string {
	return "r-" + fixedID("reservation " + s.ID)[:8]
}

// serverFlavor is a reference before 2.47 and the flavor as it was from then on.
func serverFlavor(c *call, f compute.Flavor) map[string]any {
	if !c.since(47) {
		return reference(c, f.ID, "/flavors/")
	}
	return map[string]any{
		"original_name": f.Name,
		"vcpus":         f.VCPUs,
		"ram":           f.MemoryMiB,
		"disk":          f.DiskGiB,
		"ephemeral":     f.EphemeralGiB,
		"swap":          f.SwapMiB,
		"extra_specs":   orEmpty(f.ExtraSpecs),
	}
}

// faultView shows the details to admins, and to all when the fault is the user's own.
func faultView(c *call, f compute.Fault) map[string]any {
	view := map[string]any{"code": f.Code, "created": novaTime(f.Created), "message": f.Message}
	if f.Details != "" && (c.caller.admin || f.Code != 500) {
		view["details"] = f.Details
	}
	return view
}
