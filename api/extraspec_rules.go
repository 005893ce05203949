package api

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A rule says which values an extra spec may have. From microversion 2.86 on Nova checks the names
// and values in the namespaces that it knows (nova.api.validation.extra_specs); names outside of
// them are for operators' own scheduler filters.
type rule struct {
	match *regexp.Regexp
	says  string // what a value must be
}

func oneOf(words ...string) rule {
	return rule{regexp.MustCompile(`^(?:` + strings.Join(words, "|") + `)$`), "one of " + quotedList(words)}
}

func matching(pattern, says string) rule {
	return rule{regexp.MustCompile("^(?:" + pattern + ")$"), says}
}

var (
	anyText     = matching(`(?s).*`, "text")
	wholeNumber = matching(`[0-9]{1,18}`, "an integer of at least 0")
	atLeastOne  = matching(`0*[1-9][0-9]{0,17}`, "an integer of at least 1")
	truthValue  = matching(`(?i)1|t|true|on|y|yes|0|f|false|off|n|no`, "a boolean")
)

// namespaces are the ones in which only known names are accepted.
var namespaces = []string{
	"accel", "aggregate_instance_extra_specs", "capabilities", "hw", "hw_rng", "hw_video", "os", "pci_passthrough",
	"powervm", "quota", "resources", "trait", "vmware",
}

// extraSpecRules are by the whole name.
var extraSpecRules = map[string]rule{
	"accel:device_profile":        anyText,
	"hide_hypervisor_id":          truthValue,
	"hw:boot_menu":                truthValue,
	"hw:cpu_cores":                atLeastOne,
	"hw:cpu_dedicated_mask":       matching(`\^?[0-9]+(?:-[0-9]+)?(?:,\^?[0-9]+(?:-[0-9]+)?)*`, "a set of CPUs"),
	"hw:cpu_max_cores":            atLeastOne,
	"hw:cpu_max_sockets":          atLeastOne,
	"hw:cpu_max_threads":          atLeastOne,
	"hw:cpu_policy":               oneOf("dedicated", "mixed", "shared"),
	"hw:cpu_realtime":             truthValue,
	"hw:cpu_realtime_mask":        matching(`\^?[0-9]+(?:-[0-9]+)?(?:,\^?[0-9]+(?:-[0-9]+)?)*`, "a set of CPUs"),
	"hw:cpu_sockets":              atLeastOne,
	"hw:cpu_thread_policy":        oneOf("prefer", "isolate", "require"),
	"hw:cpu_threads":              atLeastOne,
	"hw:emulator_threads_policy":  oneOf("isolate", "share"),
	"hw:hide_hypervisor_id":       truthValue,
	"hw:locked_memory":            truthValue,
	"hw:maxphysaddr_bits":         wholeNumber,
	"hw:maxphysaddr_mode":         oneOf("passthrough", "emulate"),
	"hw:mem_encryption":           truthValue,
	"hw:mem_page_size":            matching(`large|small|any|[0-9]+(?:[kKMGT]i?)?(?:b|bit|B)?`, "large, small, any or a size"),
	"hw:numa_nodes":               atLeastOne,
	"hw:pci_numa_affinity_policy": oneOf("required", "preferred", "legacy", "socket"),
	"hw:pmem":                     matching(`[a-zA-Z0-9_]+(?:,[a-zA-Z0-9_]+)*`, "labels with commas between them"),
	"hw:serial_port_count":        wholeNumber,
	"hw:tpm_model":                oneOf("tpm-tis", "tpm-crb"),
	"hw:tpm_version":              oneOf(`1\.2`, `2\.0`),
	"hw:vif_multiqueue_enabled":   truthValue,
	"hw:viommu_model":             oneOf("intel", "smmuv3", "virtio", "auto"),
	"hw:watchdog_action":          oneOf("none", "pause", "poweroff", "reset", "disabled"),
	"hw_rng:allowed":              truthValue,
	"hw_rng:rate_bytes":           wholeNumber,
	"hw_rng:rate_period":          wholeNumber,
	"hw_video:ram_max_mb":         wholeNumber,
	"os:secure_boot":              oneOf("disabled", "required"),
	"pci_passthrough:alias":       matching(`[^:]+:[0-9]+(?:,\s*[^:]+:[0-9]+)*`, "alias:count, with commas between several"),
	"group_policy":                oneOf("isolate", "none"),
	"vmware:hw_version":           anyText,
	"vmware:storage_policy":       anyText,
}

// extraSpecPatterns are families of names.
var extraSpecPatterns = []struct {
	name *regexp.Regexp
	rule rule
}{
	{regexp.MustCompile(`^aggregate_instance_extra_specs:.+$`), anyText},
	{regexp.MustCompile(`^capabilities:.+$`), anyText},
	{regexp.MustCompile(`^hw:numa_cpus\.[0-9]+$`), matching(`\^?[0-9]+(?:-[0-9]+)?(?:,\^?[0-9]+(?:-[0-9]+)?)*`, "a set of CPUs")},
	{regexp.MustCompile(`^hw:numa_mem\.[0-9]+$`), wholeNumber},
	{regexp.MustCompile(`^powervm:[a-z_]+$`), anyText},
	{regexp.MustCompile(`^quota:(?:cpu_(?:shares|quota|period|limit|reservation|shares_share)|disk_(?:read|write|total)_(?:bytes|iops)_sec(?:_max(?:_length)?)?|` +
		`disk_io_(?:limit|reservation|shares_share)|memory_(?:limit|reservation|shares_share)|vif_(?:inbound|outbound)_(?:average|burst|peak)|vif_(?:limit|reservation|shares_share))$`), wholeNumber},
	{regexp.MustCompile(`^quota:(?:cpu|disk_io|memory|vif)_shares_level$`), oneOf("custom", "high", "normal", "low")},
	{regexp.MustCompile(`^resources[a-zA-Z0-9_-]{0,64}:(?:CUSTOM_[A-Z0-9_]+|[A-Z0-9_]+)$`), wholeNumber},
	{regexp.MustCompile(`^trait[a-zA-Z0-9_-]{0,64}:(?:CUSTOM_[A-Z0-9_]+|[A-Z0-9_]+)$`), oneOf("required", "forbidden")},
}

// checkExtraSpecs checks names and values as Nova does from 2.86 on.
func checkExtraSpecs(specs map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		r, known := ruleOf(name)
		if !known {
			namespace, _, has := strings.Cut(name, ":")
			if has && slices.Contains(namespaces, namespace) {
				return badRequest("Validation failed; extra spec '%s' does not appear to be a valid extra spec.", name)
			}
			continue
		}
		if value := specs[name]; !r.match.MatchString(value) {
			return badRequest("Validation failed; the value %s of extra spec '%s' is not %s.", quoted(value), name, r.says)
		}
	}
	return nil
}

func ruleOf(name string) (rule, bool) {
	if r, known := extraSpecRules[name]; known {
		return r, true
	}
	for _, p := range extraSpecPatterns {
		if p.name.MatchString(name) {
			return p.rule, true
		}
	}
	return rule{}, false
}
