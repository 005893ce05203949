// Package test holds the tests that cross packages.
package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "compute-agent/"

// mayImport is the import policy: a package and all below it may import, of this module, only
// what is listed here (and internal/). An entry ending in "/..." allows all below it.
var mayImport = map[string][]string{
	// Leaves know how.
	"virt":        {},
	"numa":        {},
	"pci":         {},
	"blockdev":    {},
	"network":     {},
	"console":     {},
	"image":       {},
	"configdrive": {},
	"identity":    {},
	"hwprops":     {},
	"internal":    {},
	// Drivers talk to their hypervisor.
	"virt/fake":     {"virt"},
	"virt/libvirt":  {"virt"},
	"virt/virttest": {"virt"},
	// The core decides.
	"guest":   {"virt", "numa", "pci", "blockdev", "hwprops", "configdrive"},
	"neutron": {"network"},
	"cinder":  {},
	"compute": {"cinder", "guest", "neutron", "virt", "numa", "pci", "blockdev", "network", "console", "image", "configdrive", "hwprops"},
	// Edges talk and remember; never with each other.
	"store": {"cinder", "compute", "guest", "neutron", "virt", "numa", "pci", "blockdev", "network", "console", "image", "configdrive", "identity"},
	"api":   {"cinder", "compute", "guest", "neutron", "virt", "numa", "pci", "blockdev", "network", "console", "image", "configdrive", "identity", "hwprops"},
	"nova":  {"cinder", "compute", "guest", "neutron", "virt", "numa", "pci", "blockdev", "network", "console", "image", "configdrive"},
	// Wiring and the tests that cross packages see everything.
	"plan": {"..."},
	"cmd":  {"..."},
	"test": {"..."},
}

// mayImportInTests is what test files may import beyond their package's own list: the suite and
// the fakes that they are tested with.
var mayImportInTests = map[string][]string{
	"virt/fake":    {"virt/virttest"},
	"virt/libvirt": {"virt/virttest"},
	"compute":      {"virt/fake", "store"},
	"api":          {"virt/fake", "store"},
	"identity":     {"store"},
}

func TestImportPolicy(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel("..", path)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "build") {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, ".go") {
			seen++
			checkFile(t, path, filepath.ToSlash(filepath.Dir(rel)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("only %d Go files found: the walk does not see the project", seen)
	}
}

func checkFile(t *testing.T, path, dir string) {
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	owner, allowed := policyOf(dir)
	if owner == "" {
		t.Errorf("%s: package %s is not in the import policy; add it to mayImport with its layer", path, dir)
		return
	}
	if strings.HasSuffix(path, "_test.go") {
		allowed = slices.Concat(allowed, mayImportInTests[owner])
	}
	for _, spec := range file.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		target, ours := strings.CutPrefix(name, module)
		if ours && !permits(owner, allowed, target) {
			t.Errorf("%s imports %s; %s may import only %v", path, target, owner, allowed)
		}
	}
}

// policyOf finds the longest entry of mayImport that dir is in.
func policyOf(dir string) (owner string, allowed []string) {
	for prefix := dir; prefix != "."; prefix = filepath.ToSlash(filepath.Dir(prefix)) {
		if list, ok := mayImport[prefix]; ok {
			return prefix, list
		}
	}
	return "", nil
}

// permits says whether a package of owner may import target: its own sub-packages, internal/,
// and what the list names.
func permits(owner string, allowed []string, target string) bool {
	if within(target, "internal") || (within(target, owner) && owner != "virt") {
		return true
	}
	for _, a := range allowed {
		if a == "..." || target == a || (a != "virt" && within(target, a)) {
			return true
		}
	}
	return false
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func TestImportPolicyRefuses(t *testing.T) {
	for _, c := range []struct {
		owner, target string
		want          bool
	}{
		{"virt", "virt/libvirt", false},
		{"compute", "virt", true},
		{"compute", "virt/libvirt", false},
		{"compute", "store", false},
		{"api", "store", false},
		{"numa", "virt", false},
		{"network", "network/firewall", true},
		{"numa", "internal/cpuset", true},
		{"cmd", "virt/libvirt", true},
	} {
		if got := permits(c.owner, mayImport[c.owner], c.target); got != c.want {
			t.Errorf("%s importing %s: allowed %v, want %v", c.owner, c.target, got, c.want)
		}
	}
}
