package api_test

import (
	"maps"
	"slices"
	"testing"
)

// The shape of Nova's documented sample of 2.48, and of older ones; who may not ask is told so, as by Nova's default policy.
func TestConsoleDiagnostics(t *testing.T) {
	c := consoleSite(t)
	path := "/compute/v2.1/servers/" + c.ids["server"] + "/diagnostics"
	got := c.want(200, request{as: admin, path: path, version: "2.48"})
	hasKeys(t, "diagnostics", got, "config_drive", "cpu_details", "disk_details", "driver", "hypervisor", "hypervisor_os", "memory_details", "nic_details",
		"num_cpus", "num_disks", "num_nics", "state", "uptime")
	hasKeys(t, "memory_details", got["memory_details"], "maximum", "used")
	first := func(key string) any {
		list, _ := got[key].([]any)
		if len(list) == 0 {
			return nil
		}
		return list[0]
	}
	hasKeys(t, "cpu_details", first("cpu_details"), "id", "time", "utilisation")
	hasKeys(t, "disk_details", first("disk_details"), "errors_count", "read_bytes", "read_requests", "write_bytes", "write_requests")
	if got["state"] != "running" || got["driver"] != "libvirt" || got["hypervisor"] != "kvm" && got["hypervisor"] != "qemu" {
		t.Errorf("diagnostics are %v", got)
	}
	for _, size := range []string{"1", "full"} {
		got = c.want(200, request{as: admin, path: path + "?screenshot=" + size, version: "2.48"})
		if _, there := got["screenshot"]; !there {
			t.Errorf("no screenshot in %v", got)
		}
	}
	c.want(400, request{as: admin, path: path + "?screenshot=yes", version: "2.48"})
	c.want(403, request{as: bob, path: path, version: "2.48"})
	older := c.want(200, request{as: admin, path: path, version: "2.1"})
	for _, key := range []string{"cpu0_time", "memory", "vda_read", "vda_read_req", "vda_write", "vda_write_req"} {
		if _, there := older[key]; !there {
			t.Errorf("no %s in %v", key, older)
		}
	}
}

func hasKeys(t *testing.T, what string, value any, keys ...string) {
	t.Helper()
	object, _ := value.(map[string]any)
	if got := slices.Sorted(maps.Keys(object)); !slices.Equal(got, keys) {
		t.Errorf("%s has %q, want %q", what, got, keys)
	}
}
