package api

import (
	"maps"
	"slices"
	"strings"

	"compute-agent/hwprops"
)

// namespaces are the ones in which only known names are accepted.
var namespaces = []string{
	"accel", "aggregate_instance_extra_specs", "capabilities", "hw", "hw_rng", "hw_video", "os", "pci_passthrough",
	"powervm", "quota", "resources", "trait", "vmware",
}

// checkExtraSpecs checks names and values as Nova does from 2.86 on (nova.api.validation.extra_specs), by the
// table of package hwprops. Names outside of the namespaces are for operators' own scheduler filters.
func checkExtraSpecs(specs map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		setting, known := hwprops.Find(name)
		if !known {
			namespace, _, has := strings.Cut(name, ":")
			if has && slices.Contains(namespaces, namespace) {
				return badRequest("Validation failed; extra spec '%s' does not appear to be a valid extra spec.", name)
			}
			continue
		}
		values := setting.FlavorValues()
		if _, allowed := values.Canonical(specs[name]); !allowed {
			return badRequest("Validation failed; the value %s of extra spec '%s' is not %s.", quoted(specs[name]), name, saysOf(values))
		}
	}
	return nil
}

func saysOf(v hwprops.Values) string {
	if len(v.Words) > 0 {
		return "one of " + quotedList(v.Words)
	}
	return v.Says
}
