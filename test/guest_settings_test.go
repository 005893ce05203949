package test

import (
	"cmp"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"compute-agent/hwprops"
	"compute-agent/numa"
)

// What must be said beside a setting for it to show in what is read, by the setting's name. A line without a
// place is said where the setting is.
var surroundings = map[string][]string{
	"hw:cpu_thread_policy":           {"flavor hw:cpu_policy=dedicated"},
	"hw:cpu_dedicated_mask":          {"flavor hw:cpu_policy=mixed", "flavor hw:cpu_dedicated_mask=0"},
	"hw:cpu_realtime":                {"flavor hw:cpu_policy=mixed", "flavor hw:cpu_realtime_mask=^0", "flavor hw:cpu_realtime=yes"},
	"hw:cpu_realtime_mask":           {"flavor hw:cpu_policy=mixed", "flavor hw:cpu_realtime=yes", "flavor hw:cpu_realtime_mask=^0-1"},
	"hw:emulator_threads_policy":     {"flavor hw:cpu_policy=dedicated"},
	"hw:numa_cpus.N":                 {"flavor hw:numa_nodes=1", "hw:numa_mem.0=4096", "hw:numa_cpus.0=0-3"},
	"hw:numa_mem.N":                  {"flavor hw:numa_nodes=1", "hw:numa_cpus.0=0-3", "hw:numa_mem.0=4096"},
	"hw:mem_page_size":               {"flavor hw:mem_page_size=any"},
	"hw:locked_memory":               {"flavor hw:mem_page_size=large"},
	"resources:VCPU":                 {"flavor hw:numa_nodes=1"},
	"trait:HW_CPU_HYPERTHREADING":    {"flavor hw:cpu_policy=dedicated"},
	"hw_firmware_type":               {"flavor hw:mem_encryption=yes", "image hw_firmware_type=uefi"},
	"hw_machine_type":                {"flavor hw:mem_encryption=yes", "image hw_firmware_type=uefi"},
	"hw_firmware_stateless":          {"image hw_firmware_type=uefi"},
	"hw:mem_encryption":              {"image hw_firmware_type=uefi"},
	"hw:mem_encryption_model":        {"flavor hw:mem_encryption=yes", "image hw_firmware_type=uefi", "image hw_firmware_stateless=yes"},
	"hw:tpm_model":                   {"flavor hw:tpm_version=2.0"},
	"hw:tpm_secret_security":         {"flavor hw:tpm_version=2.0"},
	"hw:maxphysaddr_mode":            {"flavor hw:maxphysaddr_bits=42", "hw:maxphysaddr_mode=emulate"},
	"hw:maxphysaddr_bits":            {"flavor hw:maxphysaddr_mode=emulate", "hw:maxphysaddr_bits=41"},
	"hw:ephemeral_encryption_format": {"flavor hw:ephemeral_encryption=yes"},
	"hw_video_ram":                   {"flavor hw_video:ram_max_mb=64"},
	"hw_video:ram_max_mb":            {"image hw_video_ram=1", "flavor hw_video:ram_max_mb=1"},
	"quota:vif_inbound_peak":         {"flavor quota:vif_inbound_average=1"},
	"quota:vif_inbound_burst":        {"flavor quota:vif_inbound_average=1"},
	"quota:vif_outbound_peak":        {"flavor quota:vif_outbound_average=1"},
	"quota:vif_outbound_burst":       {"flavor quota:vif_outbound_average=1"},
}

// A name of each family.
var members = map[string]string{
	"hw:numa_cpus.N":                      "hw:numa_cpus.0",
	"hw_numa_cpus.N":                      "hw_numa_cpus.0",
	"hw:numa_mem.N":                       "hw:numa_mem.0",
	"hw_numa_mem.N":                       "hw_numa_mem.0",
	"resources[GROUP]:VGPU":               "resources_g:VGPU",
	"trait[GROUP]:TRAIT":                  "trait1:CUSTOM_GOLD",
	"trait:TRAIT":                         "trait:CUSTOM_GOLD",
	"resources[GROUP]:CLASS":              "resources2:CUSTOM_GOLD",
	"capabilities:NAME":                   "capabilities:vcpus",
	"aggregate_instance_extra_specs:NAME": "aggregate_instance_extra_specs:ssd",
	"powervm:NAME":                        "powervm:uncapped",
	"quota:WHAT_limit, _reservation, _shares_share": "quota:vif_limit",
	"quota:WHAT_shares_level":                       "quota:cpu_shares_level",
	"quota:disk_..._max_length":                     "quota:disk_read_bytes_sec_max_length",
}

// someValues are tried of settings that are not words.
var someValues = []string{"yes", "no", "1", "0", "2", "2000", "0-1", "^0", "2048", "42", "1GB", "a:1", "A", "pc-q35-7.2", "text"}

// notAllowed is a value that no setting may have, and some text.
const notAllowed = "\x01?"

// Settings of which Hardware makes nothing but a refusal.
var checkedOnly = []string{"hw:cpu_realtime", "hw:locked_memory", "hw_rng_model", "img_hv_type"}

// guestSays is what a flavor and an image say.
type guestSays struct{ flavor, image map[string]string }

func (g guestSays) with(image bool, key, value string) guestSays {
	g = guestSays{maps.Clone(g.flavor), maps.Clone(g.image)}
	if image {
		g.image[key] = value
	} else {
		g.flavor[key] = value
	}
	return g
}

// around is what must be said beside a setting.
func around(s *hwprops.Setting, image bool) guestSays {
	g := guestSays{map[string]string{}, map[string]string{}}
	for _, line := range surroundings[nameOf(s)] {
		place, said, placed := strings.Cut(line, " ")
		if !placed {
			said = line
		}
		name, value, _ := strings.Cut(said, "=")
		if !placed && image {
			name = strings.Replace(name, ":", "_", 1)
		}
		g = g.with(place == "image" || (!placed && image), name, value)
	}
	return g
}

func nameOf(s *hwprops.Setting) string { return cmp.Or(s.Spec, s.Property) }

// hardware is what package hwprops makes of it.
func (g guestSays) hardware() (string, error) {
	h, err := hwprops.Source{ExtraSpecs: g.flavor, Properties: g.image}.Hardware()
	text, _ := json.Marshal(h)
	return string(text), err
}

// layout is what package numa makes of it.
func (g guestSays) layout() (string, error) {
	r := numa.Request{VCPUs: 4, MemoryMiB: 4096, ExtraSpecs: g.flavor, Properties: g.image}
	guest, err := r.Constraints()
	page, errPage := r.PageSize()
	locked, _, errLocked := r.LockedMemory()
	encrypted, errEncrypted := r.MemoryEncryption()
	realtime, _, errRealtime := r.RealtimeVCPUs()
	preferred, limit, errLimits := r.TopologyLimits()
	text, _ := json.Marshal([]any{guest, page, locked, encrypted, realtime, preferred, limit})
	return string(text), cmp.Or(err, errPage, errLocked, errEncrypted, errRealtime, errLimits)
}

// place is one key under which a setting may stand.
type place struct {
	key   string
	image bool
}

func placesOf(s *hwprops.Setting) []place {
	var list []place
	if s.Spec != "" {
		list = append(list, place{cmp.Or(members[s.Spec], s.Spec), false})
	}
	for _, key := range append([]string{s.Property}, s.Older...) {
		if key != "" {
			list = append(list, place{cmp.Or(members[key], key), true})
		}
	}
	return list
}

func valuesOf(s *hwprops.Setting) []string {
	if len(s.Words) > 0 {
		return s.Words
	}
	return slices.DeleteFunc(slices.Clone(someValues), func(v string) bool {
		_, allowed := s.Canonical(v)
		return !allowed
	})
}

// effect is what values of a key do to what a reader makes of the guest.
type effect struct {
	refusal error // of the value that is not allowed
	changes bool  // an allowed value makes a difference, if only that of being refused
}

func effectOf(base guestSays, p place, values []string, read func(guestSays) (string, error)) (e effect, err error) {
	before, err := read(base)
	if err != nil {
		return e, err
	}
	for _, value := range values {
		after, refusal := read(base.with(p.image, p.key, value))
		e.changes = e.changes || after != before || refusal != nil
	}
	_, e.refusal = read(base.with(p.image, p.key, notAllowed))
	return e, nil
}

// Each setting of the table does what docs/guest-properties.md says of it: what is read changes the guest
// and is refused by its key and Nova's exception when it is wrong; what is without effect changes nothing.
func TestSettingsDoWhatTheTableSays(t *testing.T) {
	for _, group := range hwprops.Settings() {
		for _, s := range group.Settings {
			for _, p := range placesOf(s) {
				t.Run(p.key, func(t *testing.T) { checkSetting(t, s, p) })
			}
		}
	}
}

func checkSetting(t *testing.T, s *hwprops.Setting, p place) {
	base, values := around(s, p.image), valuesOf(s)
	devices, err := effectOf(base, p, values, guestSays.hardware)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := effectOf(base, p, values, guestSays.layout)
	if err != nil {
		t.Fatal(err)
	}
	class := cmp.Or(s.Class, "Invalid")
	if s.By&hwprops.ByHardware == 0 {
		if devices != (effect{}) {
			t.Errorf("Hardware reads it: %+v", devices)
		}
	} else {
		var refused *hwprops.Error
		if !errors.As(devices.refusal, &refused) || refused.Key != p.key || refused.Class != class {
			t.Errorf("a wrong value: %v, want %s", devices.refusal, class)
		}
		if !devices.changes && !slices.Contains(checkedOnly, nameOf(s)) {
			t.Error("no value changes the hardware")
		}
	}
	if s.By&hwprops.ByNUMA == 0 {
		if layout != (effect{}) {
			t.Errorf("package numa reads it: %+v", layout)
		}
		return
	}
	var refused *numa.Error
	if s.By == hwprops.ByNUMA && (!errors.As(layout.refusal, &refused) || refused.Key != p.key || refused.Class != class) {
		t.Errorf("a wrong value: %v, want %s", layout.refusal, class)
	}
	if !layout.changes {
		t.Error("no value changes the layout")
	}
}

// What may stand in one place only is not read in the other, nor is a key that differs by a letter.
func TestSettingsAreReadInTheirPlaces(t *testing.T) {
	known := map[place]bool{}
	for _, group := range hwprops.Settings() {
		for _, s := range group.Settings {
			for _, p := range placesOf(s) {
				known[p] = true
			}
		}
	}
	tried := 0
	for p := range known {
		for _, q := range beside(p) {
			_, ofFamily := hwprops.Find(q.key)
			if known[q] || (ofFamily && !q.image) {
				continue
			}
			tried++
			for name, read := range map[string]func(guestSays) (string, error){"Hardware": guestSays.hardware, "package numa": guestSays.layout} {
				e, err := effectOf(guestSays{map[string]string{}, map[string]string{}}, q, someValues, read)
				if e != (effect{}) || err != nil {
					t.Errorf("%s reads %s (of an image: %v), which is not in the table: %+v %v", name, q.key, q.image, e, err)
				}
			}
		}
	}
	if tried < 300 {
		t.Errorf("only %d keys tried", tried)
	}
}

// beside lists places that look like one of the table. A trait's name may be any, and a wrong one is refused.
func beside(p place) []place {
	if strings.HasPrefix(p.key, "trait") {
		return nil
	}
	otherForm := strings.Replace(p.key, ":", "_", 1)
	if p.image {
		otherForm = strings.Replace(p.key, "_", ":", 1)
	}
	return []place{{p.key, !p.image}, {otherForm, !p.image}, {p.key + "x", p.image}, {"x" + p.key, p.image}}
}

var keyLike = regexp.MustCompile(`^(?:hw|os|img|quota|resources|trait|accel|pci_passthrough|hide)[:_][\w.:]+$`)

// The sources of package numa name no key that the table does not say it reads, nor a part of one.
func TestNUMAReadsOnlyTheTable(t *testing.T) {
	var names []string
	for _, group := range hwprops.Settings() {
		for _, s := range group.Settings {
			if s.By&hwprops.ByNUMA != 0 {
				names = append(names, s.Spec, s.Property)
			}
		}
	}
	found := 0
	for _, key := range keysNamedIn(t, "../numa") {
		found++
		begins := func(name string) bool {
			return name == key || (strings.HasSuffix(key, "_") && strings.HasPrefix(name, key)) || name == key+".N"
		}
		if !slices.ContainsFunc(names, begins) {
			t.Errorf("package numa names %s, which the table does not let it read", key)
		}
	}
	if found < 25 {
		t.Errorf("only %d keys found in package numa", found)
	}
}

// No package has a use for a setting that the table calls without effect.
func TestIgnoredSettingsHaveNoUse(t *testing.T) {
	ignored := map[string]bool{}
	for _, group := range hwprops.Settings() {
		for _, s := range group.Settings {
			if s.By == 0 {
				ignored[s.Spec], ignored[s.Property] = true, true
			}
		}
	}
	for _, dir := range []string{"blockdev", "compute", "guest", "numa", "pci", "virt", "virt/libvirt"} {
		for _, key := range keysNamedIn(t, "../"+dir) {
			if ignored[key] {
				t.Errorf("package %s names %s, which the table calls without effect", dir, key)
			}
		}
	}
}

// keysNamedIn lists the strings that look like keys, and both forms of those that are given without a prefix.
func keysNamedIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	add := func(e ast.Expr, prefixes ...string) {
		if lit, is := e.(*ast.BasicLit); is && lit.Kind == token.STRING {
			text, _ := strconv.Unquote(lit.Value)
			for _, prefix := range prefixes {
				if keyLike.MatchString(prefix + text) {
					keys[prefix+text] = true
				}
			}
		}
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				add(n, "")
			case *ast.CallExpr:
				if f, is := n.Fun.(*ast.SelectorExpr); is && slices.Contains([]string{"pair", "choice", "either", "nodeValues"}, f.Sel.Name) {
					add(n.Args[0], "hw:", "hw_")
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(keys))
}
