package api

import (
	"fmt"
	"testing"
)

// From 2.86 on names and values are checked by the table that the guest's hardware is read by.
func TestExtraSpecRules(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"hw:cpu_policy", "mixed", ""},
		{"hw:cpu_policy", "pinned", "the value 'pinned' of extra spec 'hw:cpu_policy' is not one of 'dedicated', 'mixed', 'shared'"},
		{"hw:numa_cpus.3", "0-3,^2", ""},
		{"hw:numa_cpus.3", "all", "the value 'all' of extra spec 'hw:numa_cpus.3' is not a set of CPUs"},
		{"hw:numa_nodes", "0", "the value '0' of extra spec 'hw:numa_nodes' is not an integer of at least 1"},
		{"hw:pmu", "perhaps", "the value 'perhaps' of extra spec 'hw:pmu' is not a boolean"},
		{"hw:virtio_packed_ring", "True", ""},
		{"hw:sound_model", "ich9", ""},
		{"hw:usb_model", "uhci", "the value 'uhci' of extra spec 'hw:usb_model' is not one of 'none', 'nec-xhci', 'qemu-xhci'"},
		{"hw:redirected_usb_ports", "15", ""},
		{"hw:redirected_usb_ports", "16", "the value '16' of extra spec 'hw:redirected_usb_ports' is not an integer from 0 to 15"},
		{"hw:tpm_secret_security", "host", ""},
		{"hw:mem_encryption_model", "amd-sev-snp", ""},
		{"hw:ephemeral_encryption", "no", ""},
		{"hw:ephemeral_encryption_format", "luksv2", ""},
		{"hw:maxphysaddr_mode", "emulate", ""},
		{"os:secure_boot", "required", ""},
		{"os:secure_boot", "optional", "the value 'optional' of extra spec 'os:secure_boot' is not one of 'disabled', 'required'"},
		{"quota:cpu_quota", "-1", ""},
		{"quota:disk_read_bytes_sec", "-1", "the value '-1' of extra spec 'quota:disk_read_bytes_sec' is not an integer of at least 0"},
		{"accel:device_profile", "fpga", ""},
		{"resources2:CUSTOM_GOLD", "1", ""},
		{"trait:HW_CPU_X86_AVX2", "wanted", "the value 'wanted' of extra spec 'trait:HW_CPU_X86_AVX2' is not one of 'required', 'forbidden'"},
		{"hw:colour", "red", "extra spec 'hw:colour' does not appear to be a valid extra spec"},
		{"hw:disk_bus", "ide", "extra spec 'hw:disk_bus' does not appear to be a valid extra spec"},
		{"acme:colour", "red", ""},
		{"hw_disk_bus", "red", ""},
	} {
		want := "<nil>"
		if c.want != "" {
			want = "Validation failed; " + c.want + "."
		}
		if got := fmt.Sprint(checkExtraSpecs(map[string]string{c.name: c.value})); got != want {
			t.Errorf("%s=%s: %s, want %s", c.name, c.value, got, want)
		}
	}
}
