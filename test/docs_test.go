package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const contractPage = "../docs/virt-driver-contract.md"

var (
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
	// spanPath is a file or directory of the project; spanName is pkg.Name, pkg.Type.Method or
	// (*pkg.Type).Method, the Name being a field or an interface's method too.
	spanPath = regexp.MustCompile(`^[\w.-]+/[\w./-]*$`)
	spanName = regexp.MustCompile(`^(?:\(\*([a-z]\w*)\.(\w+)\)|([a-z]\w*))\.(\w+(?:\.\w+)?)$`)
)

// What pages name in `code` must be there: files by their path, declarations by their package.
func TestPagesNameWhatExists(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	declared := declarations{}
	for _, page := range append(pages, "../ARCHITECTURE.md") {
		found := 0
		for _, span := range codeSpan.FindAllStringSubmatch(readPage(t, page), -1) {
			names, wrong := declared.check(t, span[1])
			if wrong != "" {
				t.Errorf("%s: `%s`: %s", page, span[1], wrong)
			}
			if names {
				found++
			}
		}
		if found == 0 {
			t.Errorf("%s: nothing found that could be checked", page)
		}
	}
}

func readPage(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// declarations are what packages declare, by the package's directory and "Name" or "Type.Member".
type declarations map[string]map[string]bool

// check says whether a span of code names a file or a declaration, and if so what is wrong with it.
func (d declarations) check(t *testing.T, span string) (names bool, wrong string) {
	t.Helper()
	if spanPath.MatchString(span) {
		if _, err := os.Stat(filepath.Join("..", span)); err != nil {
			return true, "there is no such file"
		}
		return true, ""
	}
	m := spanName.FindStringSubmatch(span)
	if m == nil {
		return false, ""
	}
	pkg, name := m[3], m[4]
	if m[1] != "" {
		pkg, name = m[1], m[2]+"."+m[4]
	}
	dir := packageDir(pkg)
	switch {
	case dir == "" && !ast.IsExported(name):
		return false, "" // the name of a file: clouds.yaml
	case dir == "":
		return true, "there is no package " + pkg
	}
	if d[dir] == nil {
		d[dir] = declaredIn(t, dir)
	}
	if !d[dir][name] {
		return true, "package " + pkg + " does not declare it"
	}
	return true, ""
}

// packageDir finds a package of the project by its name; "" if there is none.
func packageDir(name string) string {
	for _, parent := range []string{"..", "../virt", "../network", "../blockdev", "../internal"} {
		dir := filepath.Join(parent, name)
		if files, _ := filepath.Glob(filepath.Join(dir, "*.go")); len(files) > 0 {
			return dir
		}
	}
	return ""
}

func declaredIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			addDeclared(names, decl)
		}
	}
	return names
}

func addDeclared(names map[string]bool, decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		name := decl.Name.Name
		if decl.Recv != nil {
			name = receiver(decl.Recv.List[0].Type) + "." + name
		}
		names[name] = true
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					names[name.Name] = true
				}
			case *ast.TypeSpec:
				names[spec.Name.Name] = true
				addMembers(names, spec)
			}
		}
	}
}

// addMembers adds a struct's fields and an interface's methods, without those of what is embedded.
func addMembers(names map[string]bool, spec *ast.TypeSpec) {
	var members *ast.FieldList
	switch typ := spec.Type.(type) {
	case *ast.StructType:
		members = typ.Fields
	case *ast.InterfaceType:
		members = typ.Methods
	default:
		return
	}
	for _, member := range members.List {
		for _, name := range member.Names {
			names[spec.Name.Name+"."+name.Name] = true
		}
	}
}

// receiver is the name of a method's type: T of T, *T and *T[K].
func receiver(typ ast.Expr) string {
	switch typ := typ.(type) {
	case *ast.StarExpr:
		return receiver(typ.X)
	case *ast.IndexExpr:
		return receiver(typ.X)
	case *ast.Ident:
		return typ.Name
	}
	return ""
}

func TestPagesRefuse(t *testing.T) {
	declared := declarations{}
	for span, want := range map[string]struct{ names, wrong bool }{
		"virt.Driver":                  {true, false},
		"virt.Driver.Create":           {true, false},
		"virt.Guest.State":             {true, false},
		"virt.ErrNotFound":             {true, false},
		"libvirt.Render":               {true, false},
		"fanout.Hub.Publish":           {true, false},
		"(*compute.Manager).Start":     {true, false},
		"compute/doc.go":               {true, false},
		"virt.Driver.Spawn":            {true, true},
		"virt.Create":                  {true, true},
		"(*compute.Manager).Spawn":     {true, true},
		"nowhere.Driver":               {true, true},
		"compute/nowhere.go":           {true, true},
		"spawn":                        {false, false},
		"clouds.yaml":                  {false, false},
		"POST /servers":                {false, false},
		"compute-agent plan numa":      {false, false},
		"cpu_allocation_ratio = 4.0":   {false, false},
		"virt.Driver.Create, and more": {false, false},
	} {
		if names, wrong := declared.check(t, span); names != want.names || (wrong != "") != want.wrong {
			t.Errorf("`%s`: names something %v, wrong %q; want %+v", span, names, wrong, want)
		}
	}
}

// The methods of Nova's ComputeDriver: 108 in Liberty, 109 in master, 82 of them in both.
func TestContractPageHasEveryMethod(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (LM|L|M) \\| (.+) \\|$")
	page := readPage(t, contractPage)
	count := map[string]int{}
	seen := map[string]bool{}
	rows := row.FindAllStringSubmatch(page, -1)
	for _, r := range rows {
		method, era, here := r[1], r[2], r[3]
		if seen[method] {
			t.Errorf("%s has two rows", method)
		}
		seen[method] = true
		count[era]++
		// TestPagesNameWhatExists sees to it that what is named is there.
		if !strings.HasPrefix(here, "Not yet: ") && !strings.HasPrefix(here, "No meaning here: ") && !strings.HasPrefix(here, "`") {
			t.Errorf("%s: %q neither names a place nor says why there is none", method, here)
		}
	}
	if want := strings.Count(page, "\n| `"); len(rows) != want {
		t.Errorf("%d of %d rows are method | era | here", len(rows), want)
	}
	if count["LM"] != 82 || count["L"] != 26 || count["M"] != 27 {
		t.Errorf("rows by era: %v, want LM 82, L 26, M 27", count)
	}
}
