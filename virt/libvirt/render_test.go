package libvirt

import (
	"encoding/xml"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	lv "libvirt.org/go/libvirt"

	"compute-agent/internal/golden"
	"compute-agent/virt"
)

func TestRender(t *testing.T) {
	for name, spec := range goldenSpecs() {
		t.Run(name, func(t *testing.T) {
			got, err := Render(spec.Spec)
			if err != nil {
				t.Fatal(err)
			}
			golden.Assert(t, filepath.Join("testdata", name+".xml"), got+"\n")
		})
	}
}

// TestRenderedIsWhatLibvirtTakes defines every golden on a real libvirtd, against its schema.
func TestRenderedIsWhatLibvirtTakes(t *testing.T) {
	needLibvirt(t)
	conn, err := lv.NewConnect(testURI())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = conn.Close() }()
	count := map[string]int{}
	for name, golden := range goldenSpecs() {
		kind := "taken"
		if golden.lack != "" {
			kind = "lacking"
		}
		count[kind]++
		t.Run(kind+"/"+name, func(t *testing.T) {
			spec := golden.Spec
			spec.ID = uuid.NewString() // the golden one may be a guest of this host
			spec.Name = "catest-" + spec.ID[:8]
			back, err := defined(conn, mustRender(t, spec))
			switch {
			case golden.lack == "" && err != nil:
				t.Fatal(err)
			case golden.lack == "":
				checkKept(t, spec, back)
			case err == nil || !strings.Contains(err.Error(), golden.lack):
				t.Errorf("libvirt says %v, not %q", err, golden.lack)
			default:
				t.Logf("refused, as this host must: %s", golden.lack)
			}
		})
	}
	t.Logf("%d golden domains accepted by libvirt, %d refused for a named lack", count["taken"], count["lacking"])
}

// defined defines a domain, reads what libvirt makes of it, and undefines it.
func defined(conn *lv.Connect, text string) (string, error) {
	dom, err := conn.DomainDefineXMLFlags(text, lv.DOMAIN_DEFINE_VALIDATE)
	if err != nil {
		return "", err
	}
	defer free(dom)
	back, err := dom.GetXMLDesc(lv.DOMAIN_XML_INACTIVE)
	return back, errors.Join(err, dom.UndefineFlags(undefineFlags))
}

// checkKept looks for what libvirt must not drop.
func checkKept(t *testing.T, spec virt.Spec, back string) {
	t.Helper()
	want := []string{"nova:instance"}
	for _, d := range spec.Disks {
		if !d.Unstated && !d.Source.Empty() {
			want = append(want, "<backingStore/>")
		}
	}
	for _, text := range want {
		if !strings.Contains(back, text) {
			t.Errorf("libvirt keeps no %s:\n%s", text, back)
		}
	}
}

func mustRender(t testing.TB, s virt.Spec) string {
	t.Helper()
	out, err := Render(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// elements returns the names of a document's elements and attributes in order, without their values.
func elements(t interface{ Fatalf(string, ...any) }, text string) []string {
	dec := xml.NewDecoder(strings.NewReader(text))
	var out []string
	for {
		token, err := dec.Token()
		if token == nil {
			if err != nil && err.Error() != "EOF" {
				t.Fatalf("%v in\n%s", err, text)
			}
			return out
		}
		switch e := token.(type) {
		case xml.StartElement:
			out = append(out, "<"+e.Name.Local)
			for _, a := range e.Attr {
				out = append(out, a.Name.Local)
			}
		case xml.EndElement:
			out = append(out, ">")
		case xml.Comment, xml.ProcInst, xml.Directive:
			out = append(out, "other")
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	spec := typical()
	spec.Disks[0].Format = ""
	if out, err := Render(spec); !errors.Is(err, virt.ErrInvalid) || out != "" {
		t.Errorf("a disk without format: %v", err)
	}
}
