package libvirt

import (
	"encoding/xml"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/internal/cpuset"
	"compute-agent/internal/golden"
	"compute-agent/virt"
)

// goldenSpecs are the Specs of the golden files, by name.
func goldenSpecs() map[string]virt.Spec {
	const dir = "/var/lib/compute-agent/instances/6f4c2a1e-0d5b-4b8e-9c57-3a2f1e0d9b8c/"
	typical := virt.Spec{
		ID: "6f4c2a1e-0d5b-4b8e-9c57-3a2f1e0d9b8c", Name: "instance-0000002a", Title: "web 1",
		VirtType: "kvm", Arch: "x86_64", Emulator: "/usr/bin/qemu-system-x86_64", Machine: "pc",
		VCPUs: 4, MemoryMiB: 2048, CPU: virt.CPU{Mode: "host-model", Sockets: 4, Cores: 1, Threads: 1},
		Disks: []virt.Disk{
			{Source: virt.Source{File: dir + "disk"}, Format: "qcow2", Backing: []virt.Backing{{Path: "/var/lib/compute-agent/images/ab12", Format: "qcow2"}},
				Target: "vda", Bus: "virtio", Cache: "none", IO: "native", Serial: "6f4c2a1e", Boot: 1},
			{Source: virt.Source{File: dir + "disk.config"}, Format: "raw", Target: "hda", Bus: "ide", Kind: "cdrom"},
		},
		Serial: []virt.SerialPort{{Type: "pty", Log: dir + "console.log", AppendLog: true}}, Graphics: []virt.Graphics{{Type: "vnc", Listen: "127.0.0.1"}}, RNG: &virt.RNG{Source: "/dev/urandom"},
		Inputs: []virt.Input{{Type: "tablet", Bus: "usb"}}, Video: &virt.Video{Model: "vga"}, SCSI: "virtio-scsi",
		Channels: virt.Channels{GuestAgent: true}, Balloon: virt.Balloon{Period: 10 * time.Second},
		Metadata: virt.Metadata{
			Package: "0.1.0", Name: "web 1", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Flavor: virt.FlavorMetadata{ID: "42", Name: "m1.small", MemoryMiB: 2048, DiskGiB: 20, EphemeralGiB: 5, SwapMiB: 512, VCPUs: 4},
			UserID: "u-1", UserName: "admin", ProjectID: "p-1", Project: "demo", RootType: "image", RootID: "i-1",
		},
	}
	minimal := virt.Spec{
		ID: "00000000-0000-4000-8000-000000000001", Name: "instance-00000001", VirtType: "qemu", Arch: "x86_64", Machine: "pc",
		VCPUs: 1, MemoryMiB: 64, CPU: virt.CPU{Mode: "none", Sockets: 1, Cores: 1, Threads: 1},
	}
	q35 := typical
	q35.VirtType, q35.Machine = "qemu", "q35"
	q35.CPU = virt.CPU{Mode: "custom", Model: "Nehalem", Sockets: 1, Cores: 2, Threads: 2}
	q35.Disks = []virt.Disk{
		{Source: virt.Source{File: dir + "disk"}, Format: "qcow2", Target: "sda", Bus: "scsi", Cache: "writeback", IO: "io_uring", Boot: 1,
			Backing: []virt.Backing{{Path: dir + "disk.mid", Format: "qcow2"}, {Path: "/var/lib/compute-agent/images/cd34", Format: "raw"}}},
		{Source: virt.Source{File: dir + "disk.raw"}, Format: "raw", Target: "vda", Bus: "virtio", Boot: 2},
		{Source: virt.Source{File: dir + "disk.config"}, Format: "raw", Target: "sdb", Bus: "sata", Kind: "cdrom"},
	}
	hostile := typical
	hostile.Title = hostileText
	hostile.VirtType, hostile.CPU.Mode = "qemu", "maximum"
	hostile.Metadata = virt.Metadata{Package: hostileText, Name: hostileText, UserID: hostileText, UserName: hostileText,
		ProjectID: hostileText, Project: hostileText, RootType: "volume", RootID: hostileText,
		Flavor: virt.FlavorMetadata{ID: hostileText, Name: hostileText}}
	pinned := typical
	pinned.Placement = &virt.Placement{
		VCPUs:    []cpuset.Set{cpuset.Of(2), cpuset.Of(3), cpuset.Of(10), cpuset.Of(11)},
		Emulator: cpuset.Of(0, 1, 8), Realtime: cpuset.Range(1, 3),
		Cells: []virt.GuestCell{
			{VCPUs: cpuset.Of(0, 1), MemoryMiB: 1024, HostCell: 0, PageKiB: 2048, Distances: []int{10, 21}},
			{VCPUs: cpuset.Of(2, 3), MemoryMiB: 1024, HostCell: 1, PageKiB: 1048576, Distances: []int{21, 10}},
		},
	}
	pinned.Memory = virt.Memory{Locked: true, Unshared: true}
	floating := typical
	floating.Placement = &virt.Placement{Floating: cpuset.Of(0, 1, 2, 3, 8)}
	return map[string]virt.Spec{"typical": typical, "minimal": minimal, "q35": q35, "hostile": hostile,
		"pinned": pinned, "floating": floating}
}

const hostileText = "</nova:name></title> & <b a='\"'>]]> \x00\x01\x1b[31m\r\n\t\u0085\u2028 \xff\xc0\xaf \ufffe \u202e \U0001f600 <!-- -- -->"

func TestRender(t *testing.T) {
	for name, spec := range goldenSpecs() {
		t.Run(name, func(t *testing.T) {
			got, err := Render(spec)
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
	for name, spec := range goldenSpecs() {
		spec.ID = uuid.NewString() // the golden one may be a guest of this host
		spec.Name = "catest-" + spec.ID[:8]
		text, err := Render(spec)
		if err != nil {
			t.Fatal(err)
		}
		dom, err := conn.DomainDefineXMLFlags(text, lv.DOMAIN_DEFINE_VALIDATE)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back, err := dom.GetXMLDesc(lv.DOMAIN_XML_INACTIVE)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range []string{"<backingStore/>", "nova:instance"} {
			if len(spec.Disks) > 0 && !strings.Contains(back, want) {
				t.Errorf("%s: libvirt keeps no %s:\n%s", name, want, back)
			}
		}
		if err := dom.UndefineFlags(undefineFlags); err != nil {
			t.Errorf("%s: a domain is left behind: %v", name, err)
		}
		free(dom)
	}
}

// TestHostileText puts hostile text into every text field, one at a time, and reads the XML back: nothing
// but that field differs from a domain with harmless text there.
func TestHostileText(t *testing.T) {
	fields := map[string]func(*virt.Spec) *string{
		"title":        func(s *virt.Spec) *string { return &s.Title },
		"package":      func(s *virt.Spec) *string { return &s.Metadata.Package },
		"name":         func(s *virt.Spec) *string { return &s.Metadata.Name },
		"user ID":      func(s *virt.Spec) *string { return &s.Metadata.UserID },
		"user name":    func(s *virt.Spec) *string { return &s.Metadata.UserName },
		"project ID":   func(s *virt.Spec) *string { return &s.Metadata.ProjectID },
		"project":      func(s *virt.Spec) *string { return &s.Metadata.Project },
		"root ID":      func(s *virt.Spec) *string { return &s.Metadata.RootID },
		"flavor ID":    func(s *virt.Spec) *string { return &s.Metadata.Flavor.ID },
		"flavor name":  func(s *virt.Spec) *string { return &s.Metadata.Flavor.Name },
		"disk path":    func(s *virt.Spec) *string { return &s.Disks[0].Source.File },
		"backing path": func(s *virt.Spec) *string { return &s.Disks[0].Backing[0].Path },
		"console log":  func(s *virt.Spec) *string { return &s.Serial[0].Log },
		"emulator":     func(s *virt.Spec) *string { return &s.Emulator },
		"rng source":   func(s *virt.Spec) *string { return &s.RNG.Source },
	}
	for name, field := range fields {
		for _, text := range []string{hostileText, strings.Repeat("€", 5000), "/a'\"<>&]]>\u202eb", "\xff"} {
			plain, hostile := goldenSpecs()["typical"], goldenSpecs()["typical"]
			*field(&plain), *field(&hostile) = "/harmless", text
			a := elements(t, mustRender(t, plain))
			out, err := Render(hostile)
			if errors.Is(err, virt.ErrInvalid) && strings.Contains(err.Error(), "path") {
				continue // a path that no domain can hold is refused
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if !utf8.ValidString(out) {
				t.Errorf("%s: the XML is not UTF-8", name)
			}
			if b := elements(t, out); !reflect.DeepEqual(a, b) {
				t.Errorf("%s: text %q changes the structure:\n%v\n%v", name, text, a, b)
			}
			var d libvirtxml.Domain
			if err := d.Unmarshal(out); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if strings.ContainsAny(d.Title, "\r\n") || len(d.Title) > maxText {
				t.Errorf("%s: title is %q", name, d.Title)
			}
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
func elements(t testing.TB, text string) []string {
	t.Helper()
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
	spec := goldenSpecs()["typical"]
	spec.Disks[0].Format = ""
	if out, err := Render(spec); !errors.Is(err, virt.ErrInvalid) || out != "" {
		t.Errorf("a disk without format: %v", err)
	}
}

func BenchmarkRender(b *testing.B) {
	spec := goldenSpecs()["typical"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Render(spec); err != nil {
			b.Fatal(err)
		}
	}
}
