package libvirt

import (
	"errors"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"libvirt.org/go/libvirtxml"
	"pgregory.net/rapid"

	"compute-agent/virt"
)

// textField is a string somewhere in a Spec that is set.
type textField struct {
	path  string
	value reflect.Value
}

// texts are all strings of a Spec that are set, to be written to.
func texts(s *virt.Spec) (found []textField) {
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem(), path)
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i), path)
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if field := v.Type().Field(i); field.IsExported() {
					walk(v.Field(i), path+"."+field.Name)
				}
			}
		case reflect.String:
			if v.Len() > 0 {
				found = append(found, textField{path, v})
			}
		}
	}
	walk(reflect.ValueOf(s).Elem(), "")
	return found
}

// subjects are what a refusal of a field begins with, by the field of the Spec that it is in.
var subjects = map[string]string{
	"ID": "ID", "Name": "name", "VirtType": "virt type|features", "Arch": "arch|firmware|memory encryption|IOMMU|root ports",
	"Emulator": "emulator", "Machine": "machine|firmware|memory encryption|IOMMU|root ports", "CPU": "CPU", "Firmware": "firmware",
	"Boot": "boot", "Features": "features|IOMMU", "SMBIOS": "SMBIOS", "Encryption": "memory encryption", "Disks": "disk|two disks",
	"NICs": "NIC", "Shares": "share", "Serial": "serial port|console log", "Channels": "guest agent",
	"Graphics": "graphics|(vnc|spice|[^ ]*) ?listen|redirected USB|a channel|two graphics", "Video": "video", "Inputs": "input", "Sound": "sound",
	"USB": "USB", "SCSI": "SCSI", "TPM": "TPM", "RNG": "random number", "Watchdog": "watchdog", "PCI": "PCI device", "Mediated": "mediated device",
	"NVDIMMs": "persistent memory", "IOMMU": "IOMMU", "PerfEvents": "perf event", "Metadata": "metadata",
}

// harmless are texts of all the forms that fields have.
var harmless = []string{
	"harmless", "/harmless", "ua-harmless", "00000000-0000-4000-8000-00000000000a", "fa:16:3e:00:00:0a", "192.0.2.77", "0000:01:00.0",
	"5000c50015ea71aa", "iqn.2000-01.example:a", "vdz", "sdz", "hdz",
}

var hostileTexts = rapid.OneOf(
	rapid.String(),
	rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }), // not UTF-8
	rapid.SampledFrom([]string{
		hostileText, "/" + hostileText, "/a'\"<>&]]>\u202eb", "\xff", "/x\x00y", "ua-<a/>", "]]>", "<![CDATA[", "&lt;", "' onload='", "../../etc",
		strings.Repeat("€", 5000), "/" + strings.Repeat("d/", 3000), "-" + strings.Repeat("o", 300), "a\nb", "0000:81:10.1\n", " ", "vda\x00",
	}),
	rapid.Map(rapid.StringMatching(`[a-z/:.0-9<>&'"=;\n -]{1,60}`), func(s string) string { return "/" + s }),
)

// TestHostileText puts hostile texts into every string field of the golden Specs. Either the Spec is refused as
// invalid, with the name of what is wrong, or the XML has the elements and attributes that it has with a
// harmless text there.
func TestHostileText(t *testing.T) {
	tried := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(goldenSpecs())) {
		s := mustSpec(t, name)
		for _, field := range texts(&s) {
			if tried[field.path] {
				continue
			}
			tried[field.path] = true
			t.Run(name+field.path, func(t *testing.T) {
				want, before := structures(t, &s, field), field.value.String()
				rapid.Check(t, func(t *rapid.T) {
					field.value.SetString(hostileTexts.Draw(t, "text"))
					checkHostile(t, s, field.path, want)
				})
				field.value.SetString(before)
			})
		}
	}
	t.Logf("%d string fields were tried", len(tried))
}

func checkHostile(t *rapid.T, s virt.Spec, path string, want [][]string) {
	out, err := Render(s)
	if err != nil {
		checkRefusal(t, path, err)
		return
	}
	if !utf8.ValidString(out) {
		t.Errorf("the XML is not UTF-8")
	}
	if got := elements(t, out); !slices.ContainsFunc(want, func(w []string) bool { return slices.Equal(got, w) }) {
		t.Errorf("the structure is another:\n%s", out)
	}
	var d libvirtxml.Domain
	if err := d.Unmarshal(out); err != nil {
		t.Error(err)
	}
	if strings.ContainsAny(d.Title+d.OS.Cmdline, "\r\n\x00") || len(d.Title) > maxText {
		t.Errorf("title is %q, command line %q", d.Title, d.OS.Cmdline)
	}
}

// structures are those of the Spec with the field as it is, without it, and with each harmless text that it takes.
func structures(t *testing.T, s *virt.Spec, field textField) (all [][]string) {
	before := field.value.String()
	for _, text := range append([]string{before, ""}, harmless...) {
		field.value.SetString(text)
		if out, err := Render(*s); err == nil {
			all = append(all, elements(t, out))
		}
	}
	field.value.SetString(before)
	return all
}

func checkRefusal(t *rapid.T, path string, err error) {
	top, _, _ := strings.Cut(strings.TrimPrefix(path, "."), ".")
	subject := subjects[top]
	if subject == "" {
		subject = "no refusal is expected"
	}
	form := regexp.MustCompile(`^invalid: ("?)(` + subject + `)`)
	if !errors.Is(err, virt.ErrInvalid) || !form.MatchString(err.Error()) {
		t.Errorf("%s: the error is %v; it does not begin with %s", path, err, subject)
	}
	if len(err.Error()) > 3*maxText {
		t.Errorf("%s: the error has %d bytes", path, len(err.Error()))
	}
}
