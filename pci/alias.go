package pci

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Aliases are the names by which flavors ask for devices: [pci]alias. Several entries of one name are
// alternatives.
type Aliases map[string][]Alias

// Alias is one entry of [pci]alias.
type Alias struct {
	Name          string
	Spec          map[string]string // vendor_id, product_id, dev_type, live_migratable
	Affinity      string            // numa_policy; empty for AffinityLegacy
	ResourceClass string            // placement's; empty for the default
	Traits        []string          // placement's
}

var idForm = regexp.MustCompile(`^[0-9a-fA-F]{4}$`)

// aliasKeys says for each key of an alias what its value must be.
var aliasKeys = map[string]struct {
	rule  string
	valid func(string) bool
}{
	"name":            {"must have 1 to 256 characters and no comma or colon", func(s string) bool { return s != "" && len(s) <= 256 && !strings.ContainsAny(s, ",:") }},
	"capability_type": {"must be pci", func(s string) bool { return s == "pci" }},
	"vendor_id":       {"must be four hexadecimal digits", idForm.MatchString},
	"product_id":      {"must be four hexadecimal digits", idForm.MatchString},
	"device_type":     {"must be type-PCI, type-PF, type-VF or vdpa", oneOf(TypePCI, TypePF, TypeVF, TypeVDPA)},
	"numa_policy":     {"must be required, legacy, preferred or socket", oneOf(AffinityRequired, AffinityLegacy, AffinityPreferred, AffinitySocket)},
	"resource_class":  {"must not be empty", func(s string) bool { return s != "" }},
	"traits":          {"must not be empty", func(s string) bool { return s != "" }},
	"live_migratable": {"must be yes or no", func(string) bool { return true }},
}

func oneOf(words ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(words, s) }
}

// ParseAliases reads the values of [pci]alias: each a JSON object or a list of them.
func ParseAliases(values []string) (Aliases, error) {
	aliases := Aliases{}
	for _, value := range values {
		objects, err := objectsOf(value)
		if err != nil {
			return nil, failed("PciInvalidAlias", "alias", value, "%v", err)
		}
		for _, o := range objects {
			if err := aliases.add(o); err != nil {
				return nil, err
			}
		}
	}
	return aliases, nil
}

func (a Aliases) add(o map[string]any) error {
	alias, err := parseAlias(o)
	if err != nil {
		return err
	}
	if first := a[alias.Name]; first != nil {
		if first[0].Affinity != alias.Affinity {
			return failed("PciInvalidAlias", "numa_policy", alias.Affinity, "the entries of alias %q have different policies", alias.Name)
		}
		if first[0].Spec["dev_type"] != alias.Spec["dev_type"] {
			return failed("PciInvalidAlias", "device_type", alias.Spec["dev_type"], "the entries of alias %q have different types", alias.Name)
		}
	}
	a[alias.Name] = append(a[alias.Name], alias)
	return nil
}

func parseAlias(o map[string]any) (Alias, error) {
	texts := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(o)) {
		rule, known := aliasKeys[key]
		if !known {
			return Alias{}, failed("PciInvalidAlias", key, fmt.Sprint(o[key]), "is not a key of an alias")
		}
		text, isText := o[key].(string)
		if !isText || !rule.valid(text) {
			return Alias{}, failed("PciInvalidAlias", key, fmt.Sprint(o[key]), "%s", rule.rule)
		}
		texts[key] = text
	}
	if texts["name"] == "" {
		return Alias{}, failed("PciInvalidAlias", "name", "", "an alias needs a name")
	}
	alias := Alias{Name: texts["name"], Affinity: texts["numa_policy"], ResourceClass: texts["resource_class"],
		Traits: splitList(texts["traits"]), Spec: map[string]string{}}
	for key, property := range map[string]string{"vendor_id": "vendor_id", "product_id": "product_id", "device_type": "dev_type"} {
		if texts[key] != "" {
			alias.Spec[property] = texts[key]
		}
	}
	if texts["live_migratable"] != "" {
		flag, err := flagOf(o, "live_migratable", false)
		if err != nil {
			return Alias{}, failed("PciInvalidAlias", "live_migratable", texts["live_migratable"], "must be yes or no")
		}
		alias.Spec["live_migratable"] = strconv.FormatBool(flag)
	}
	return alias, nil
}

// Requests reads a flavor's pci_passthrough:alias, "name:count,name:count". policy is the flavor's or
// image's hw:pci_numa_affinity_policy, which goes before the alias's own; empty for none.
func (a Aliases) Requests(text, policy string) ([]Request, error) {
	const key = "pci_passthrough:alias"
	var list []Request
	for i, part := range strings.Split(text, ",") {
		name, number, _ := strings.Cut(part, ":")
		name = strings.TrimSpace(name)
		entries := a[name]
		if entries == nil {
			return nil, failed("PciRequestAliasNotDefined", key, text, "alias %q is not configured", name)
		}
		count, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || count < 1 {
			return nil, failed("PciInvalidAlias", key, text, "%q must be the name of an alias and a number of devices, 1 or more", part)
		}
		r := Request{ID: strconv.Itoa(i), Alias: name, Count: count, Affinity: policy}
		if r.Affinity == "" {
			r.Affinity = entries[0].Affinity
		}
		for _, e := range entries {
			r.Specs = append(r.Specs, e.Spec)
		}
		list = append(list, r)
	}
	return list, nil
}
