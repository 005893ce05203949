package virttest

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"compute-agent/virt"
)

var hostPromises = group{"Host", []promise{
	{"describes the host and its hypervisor as they are now", hostDescribes, always},
	{"names machine types that guests can be", hostMachines, always},
}}

func hostDescribes(e *env) {
	h, err := e.Driver.Host(e.within())
	e.ok(err)
	for what, wrong := range map[string]bool{
		"no hostname":                    h.Hostname == "",
		"no hypervisor":                  h.Hypervisor == "",
		"no hypervisor version":          h.HypervisorVersion <= 0,
		"virt type not kvm or qemu":      h.VirtType != "kvm" && h.VirtType != "qemu",
		"no arch":                        h.Arch == "",
		"no CPUs":                        h.CPUs <= 0,
		"a topology with a zero":         h.CPU.Sockets <= 0 || h.CPU.Cores <= 0 || h.CPU.Threads <= 0,
		"no memory":                      h.MemoryMiB == 0,
		"no free memory":                 h.FreeMemoryMiB == 0,
		"more free memory than it has":   h.FreeMemoryMiB > h.MemoryMiB,
		"an emulator that is not a path": h.Emulator != "" && !filepath.IsAbs(h.Emulator),
	} {
		if wrong {
			e.Errorf("%s: %+v", what, h)
		}
	}
}

// hostMachines makes a guest of the Spec's machine type under each of its names.
func hostMachines(e *env) {
	h, err := e.Driver.Host(e.within())
	e.ok(err)
	s := e.spec()
	m := h.MachineType(s.Arch, s.Machine)
	if m == nil {
		e.Fatalf("machine type %s, that the Spec asks for, is not among the host's: %+v", s.Machine, h.Machines)
	}
	for _, name := range append([]string{m.Name}, m.Aliases...) {
		s.Machine = name
		e.ok(e.Driver.Create(e.within(), s))
		e.ok(e.Driver.Destroy(e.within(), s.ID))
	}
	s.Machine, s.VCPUs = m.Name, m.MaxVCPUs+1
	s.CPU.Sockets, s.CPU.Cores, s.CPU.Threads = s.VCPUs, 1, 1
	e.fails(e.Driver.Create(e.within(), s), virt.ErrUnsupported)
}

var createPromises = group{"Create", []promise{
	{"makes the guest and leaves it with its vCPUs stopped in state PowerPaused", createLeavesPaused, always},
	{"the Spec is not changed and not kept", createKeepsNoSpec, always},
	{"ErrInvalid when the Spec contradicts itself", createInvalid, always},
	{"ErrInvalid when the Spec names a missing file or directory", createMissingFile, always},
	{"ErrExists when a guest with the same ID is there", createTwice, always},
	{"ErrExists when a guest with the same name is there", createSameName, always},
	{"ErrUnsupported when this hypervisor cannot do what it asks", createUnsupported, always},
	{"ErrNoCapacity when the Spec names a PCI device that the host does not have", createMissingPCI, pciLister},
	{"after any error no guest with this ID is left behind", createFailsClean, always},
	{"may use the same ID again after Destroy", createAgain, always},
	{"opens files whatever their names", createOddFiles, always},
}}

func createLeavesPaused(e *env) {
	s := e.created()
	g := e.guest(s.ID)
	if g.State != virt.PowerPaused {
		e.Errorf("state is %v, want %v", g.State, virt.PowerPaused)
	}
	if g.ID != s.ID || g.Name != s.Name || g.VCPUs != s.VCPUs || g.MemoryMiB != s.MemoryMiB {
		e.Errorf("guest is %+v, made of %+v", g, s)
	}
}

func createKeepsNoSpec(e *env) {
	s := e.spec()
	s.Graphics = []virt.Graphics{{Type: "vnc", Listen: "127.0.0.1"}}
	s.RNG = &virt.RNG{Source: "/dev/urandom"}
	before := s
	before.Disks = slices.Clone(s.Disks)
	before.Graphics, before.RNG = slices.Clone(s.Graphics), &virt.RNG{Source: "/dev/urandom"}
	e.ok(e.Driver.Create(e.within(), s))
	if !reflect.DeepEqual(s, before) {
		e.Errorf("Create changed its Spec:\n%+v\nwas\n%+v", s, before)
	}
	s.Disks[0].Target, s.Disks[0].Source.File = "changed", "changed"
	e.ok(e.Driver.Start(e.within(), s.ID))
	if d := e.guest(s.ID).Disks; len(d) == 0 || d[0].Target != before.Disks[0].Target || d[0].Path != before.Disks[0].Source.File {
		e.Errorf("a change to the caller's Spec reached the guest: %+v", d)
	}
}

// contradictions are Specs that can be right on no host.
var contradictions = map[string]func(*virt.Spec){
	"an ID that is no UUID":           func(s *virt.Spec) { s.ID = "instance-1" },
	"an ID in upper case":             func(s *virt.Spec) { s.ID = strings.ToUpper("a" + s.ID[1:]) },
	"no ID":                           func(s *virt.Spec) { s.ID = "" },
	"no name":                         func(s *virt.Spec) { s.Name = "" },
	"a name with a slash":             func(s *virt.Spec) { s.Name = "../" + s.Name },
	"a name with markup":              func(s *virt.Spec) { s.Name = "<b>" },
	"a name with a line end":          func(s *virt.Spec) { s.Name += "\n" },
	"a name of 65":                    func(s *virt.Spec) { s.Name = strings.Repeat("n", 65) },
	"an unknown virt type":            func(s *virt.Spec) { s.VirtType = "xen" },
	"no machine type":                 func(s *virt.Spec) { s.Machine = "" },
	"a machine type with markup":      func(s *virt.Spec) { s.Machine = "pc'/>" },
	"no vCPUs":                        func(s *virt.Spec) { s.VCPUs = 0 },
	"vCPUs below zero":                func(s *virt.Spec) { s.VCPUs, s.CPU.Sockets = -1, -1 },
	"no memory":                       func(s *virt.Spec) { s.MemoryMiB = 0 },
	"a topology that is not its CPUs": func(s *virt.Spec) { s.CPU.Cores *= 3 },
	"a topology with a zero":          func(s *virt.Spec) { s.CPU.Threads = 0 },
	"an unknown CPU mode":             func(s *virt.Spec) { s.CPU.Mode = "best" },
	"CPU mode custom without model":   func(s *virt.Spec) { s.CPU.Mode, s.CPU.Model = "custom", "" },
	"a CPU model in another mode":     func(s *virt.Spec) { s.CPU.Mode, s.CPU.Model = "maximum", "qemu64" },
	"a relative disk path":            func(s *virt.Spec) { s.Disks[0].Source.File = "disk" },
	"no disk path":                    func(s *virt.Spec) { s.Disks[0].Source.File = "" },
	"a disk path with a zero byte":    func(s *virt.Spec) { s.Disks[0].Source.File += "\x00" },
	"an unknown disk format":          func(s *virt.Spec) { s.Disks[0].Format = "vmdk" },
	"no disk format":                  func(s *virt.Spec) { s.Disks[0].Format = "" },
	"an unknown bus":                  func(s *virt.Spec) { s.Disks[0].Bus = "isa" },
	"no bus":                          func(s *virt.Spec) { s.Disks[0].Bus = "" },
	"a target of another bus":         func(s *virt.Spec) { s.Disks[0].Bus, s.Disks[0].Target = "virtio", "sda" },
	"a target with markup":            func(s *virt.Spec) { s.Disks[0].Target = "vd<a" },
	"a CD-ROM on virtio":              func(s *virt.Spec) { d := &s.Disks[0]; d.Kind, d.Bus, d.Target = "cdrom", "virtio", "vda" },
	"two disks with one target":       func(s *virt.Spec) { s.Disks = append(s.Disks, s.Disks[0]); s.Disks[1].Source.File += "2" },
	"two disks with one file":         func(s *virt.Spec) { s.Disks = append(s.Disks, s.Disks[0]); s.Disks[1].Target = next(s.Disks[0].Target) },
	"an unknown cache mode":           func(s *virt.Spec) { s.Disks[0].Cache = "yes" },
	"an unknown I/O mode":             func(s *virt.Spec) { s.Disks[0].IO = "fast" },
	"native I/O with a cache":         func(s *virt.Spec) { s.Disks[0].IO, s.Disks[0].Cache = "native", "writeback" },
	"a boot position below zero":      func(s *virt.Spec) { s.Disks[0].Boot = -1 },
	"a serial with markup":            func(s *virt.Spec) { s.Disks[0].Serial = "'\"><" },
	"a raw disk on a backing file": func(s *virt.Spec) {
		d := &s.Disks[0]
		d.Format, d.Backing = "raw", []virt.Backing{{Path: d.Source.File, Format: "raw"}}
	},
	"a backing file without format": func(s *virt.Spec) {
		d := &s.Disks[0]
		d.Format, d.Backing = "qcow2", []virt.Backing{{Path: d.Source.File}}
	},
	"a relative console log":       func(s *virt.Spec) { s.Serial[0].Log = "console.log" },
	"a relative emulator":          func(s *virt.Spec) { s.Emulator = "qemu" },
	"a relative randomness source": func(s *virt.Spec) { s.RNG = &virt.RNG{Source: "urandom"} },
	"a VNC address that is none":   func(s *virt.Spec) { s.Graphics = []virt.Graphics{{Type: "vnc", Listen: "localhost; reboot"}} },
	"a balloon period below zero":  func(s *virt.Spec) { s.Balloon.Period = -time.Second },
	"an unknown root type":         func(s *virt.Spec) { s.Metadata.RootType = "tape" },
}

// next is the target after another: vdb for vda.
func next(target string) string { return target[:len(target)-1] + string(target[len(target)-1]+1) }

func createInvalid(e *env) {
	base := e.spec()
	for _, name := range slices.Sorted(maps.Keys(contradictions)) {
		s := base
		s.Disks = slices.Clone(base.Disks)
		contradictions[name](&s)
		if err := e.Driver.Create(e.within(), s); !errors.Is(err, virt.ErrInvalid) {
			e.Errorf("%s: error is %v, want ErrInvalid", name, err)
		}
	}
	e.absent(base.ID)
}

func createMissingFile(e *env) {
	const nowhere = "/nonexistent/file"
	for name, spoil := range map[string]func(*virt.Spec){
		"disk": func(s *virt.Spec) { s.Disks[0].Source.File += ".missing" },
		"backing file": func(s *virt.Spec) {
			s.Disks[0].Format, s.Disks[0].Backing = "qcow2", []virt.Backing{{Path: nowhere, Format: "raw"}}
		},
		"directory of the console log": func(s *virt.Spec) { s.Serial[0].Log = nowhere },
		"emulator":                     func(s *virt.Spec) { s.Emulator = nowhere },
		"randomness source":            func(s *virt.Spec) { s.RNG = &virt.RNG{Source: nowhere} },
	} {
		s := e.spec()
		spoil(&s)
		if err := e.Driver.Create(e.within(), s); !errors.Is(err, virt.ErrInvalid) {
			e.Errorf("missing %s: error is %v, want ErrInvalid", name, err)
		}
		e.absent(s.ID)
	}
}

func createTwice(e *env) {
	s := e.running()
	e.fails(e.Driver.Create(e.within(), s), virt.ErrExists)
	e.state(s.ID, virt.PowerRunning)
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	e.fails(e.Driver.Create(e.within(), s), virt.ErrExists)
	e.state(s.ID, virt.PowerShutdown)
	other := e.spec()
	other.ID = s.ID
	e.fails(e.Driver.Create(e.within(), other), virt.ErrExists)
	if g := e.guest(s.ID); g.Name != s.Name {
		e.Errorf("the guest is named %s now", g.Name)
	}
}

func createSameName(e *env) {
	s, other := e.created(), e.spec()
	other.Name = s.Name
	e.fails(e.Driver.Create(e.within(), other), virt.ErrExists)
	e.absent(other.ID)
	e.state(s.ID, virt.PowerPaused)
}

func createUnsupported(e *env) {
	for name, ask := range map[string]func(*virt.Spec){
		"machine type of no emulator": func(s *virt.Spec) { s.Machine = "pc-q35-77.0" },
		"arch of no emulator":         func(s *virt.Spec) { s.Arch, s.Machine = "alpha", "clipper" },
		"CPU model that none knows":   func(s *virt.Spec) { s.CPU.Mode, s.CPU.Model = "custom", "Z80" },
		"thousands of vCPUs":          func(s *virt.Spec) { s.VCPUs, s.CPU.Sockets, s.CPU.Cores, s.CPU.Threads = 5000, 5000, 1, 1 },
		"IDE on q35":                  func(s *virt.Spec) { s.Machine, s.Disks[0].Bus, s.Disks[0].Target = "q35", "ide", "hda" },
		"the host's CPU emulated":     func(s *virt.Spec) { s.VirtType, s.CPU.Mode, s.CPU.Model = "qemu", "host-passthrough", "" },
	} {
		s := e.spec()
		ask(&s)
		if err := e.Driver.Create(e.within(), s); !errors.Is(err, virt.ErrUnsupported) {
			e.Errorf("%s: error is %v, want ErrUnsupported", name, err)
		}
		e.absent(s.ID)
	}
}

func createFailsClean(e *env) {
	owner := e.created()
	for name, spoil := range map[string]func(*virt.Spec){
		"a disk that is not of its format": func(s *virt.Spec) {
			s.Disks[0].Source.File = e.file(*s, "garbage-"+s.ID, make([]byte, 65536))
			s.Disks[0].Format = "qcow2"
		},
		"a disk that another guest has open": func(s *virt.Spec) { s.Disks = owner.Disks },
		"more memory than there is":          func(s *virt.Spec) { s.MemoryMiB = 1 << 32 },
		"a VNC address of another host":      func(s *virt.Spec) { s.Graphics = []virt.Graphics{{Type: "vnc", Listen: "203.0.113.1"}} },
	} {
		good := e.spec()
		s := good
		s.Disks = slices.Clone(good.Disks)
		spoil(&s)
		err := e.Driver.Create(e.within(), s)
		var failure *virt.Error
		if !errors.As(err, &failure) || failure.Op == "" || failure.Subject != s.ID {
			e.Errorf("%s: error is %v, want a *virt.Error with operation and subject", name, err)
		}
		e.absent(s.ID)
		if err := e.Driver.Create(e.within(), good); err != nil {
			e.Errorf("%s, then put right: %v", name, err)
		}
		e.ok(e.Driver.Destroy(e.within(), good.ID))
	}
	e.ok(e.Driver.Start(e.within(), owner.ID)) // the failures of the others did it no harm
	e.state(owner.ID, virt.PowerRunning)
}

func createAgain(e *env) {
	s := e.running()
	e.ok(e.Driver.Destroy(e.within(), s.ID))
	e.watch(s.ID).expect(virt.EventStopped, virt.EventUndefined)
	e.create(s)
	e.state(s.ID, virt.PowerPaused)
}

func createOddFiles(e *env) {
	s := e.spec()
	content, err := os.ReadFile(s.Disks[0].Source.File)
	e.ok(err)
	s.Disks[0].Source.File = e.file(s, "a b,c=d;e'f\"g<h>&i:j\\k%l $m é.img", content)
	s.Serial[0].Log = filepath.Join(filepath.Dir(s.Disks[0].Source.File), "log,<a>&\"b\" 'c'.log")
	e.Cleanup(func() { _ = os.Remove(s.ConsoleLog()) })
	e.ok(e.Driver.Create(e.within(), s))
	e.ok(e.Driver.Start(e.within(), s.ID))
	if d := e.guest(s.ID).Disks; len(d) == 0 || d[0].Path != s.Disks[0].Source.File {
		e.Errorf("disks are %+v, want path %q", d, s.Disks[0].Source.File)
	}
}

var textPromises = group{"Spec texts", []promise{
	{"no text of a user makes Create fail", textsAreHarmless, always},
}}

// hostileTexts are what users write when nobody stops them. The first is many in one, because each
// costs a guest.
var hostileTexts = map[string]string{
	"everything": strings.Join([]string{
		`</nova:name></title><name>evil</name><![CDATA[ & &lt; " ' ]]> <!-- --`,          // markup
		"a\x00b\x01c\x07d\x1be\x7ff\tg",                                                  // control characters
		"first\nsecond\r\nthird\u2028fourth",                                             // line ends
		"caf\xe9 \xff\xfe \xed\xa0\x80 \xc0\xaf",                                         // not UTF-8
		"\ufffe\uffff\U0010ffff",                                                         // no characters
		"\u202egnp.exe \u0645\u0631\u062d\u0628\u0627 \U0001f600",                        // right to left
		"; touch /tmp/evil; $(touch /tmp/evil) `touch /tmp/evil`, file=/etc/shadow %s%n", // for shells and option parsers
	}, " "),
	"very long":     strings.Repeat("long \u20ac ", 20000),
	"only controls": "\x01\x02\x03",
	"blank":         "  \t  ",
}

func textsAreHarmless(e *env) {
	for _, name := range slices.Sorted(maps.Keys(hostileTexts)) {
		text := hostileTexts[name]
		s := e.spec()
		s.Title = text
		s.Metadata = virt.Metadata{
			Package: text, Name: text, UserID: text, UserName: text, ProjectID: text, Project: text,
			RootType: "image", RootID: text, Flavor: virt.FlavorMetadata{ID: text, Name: text},
		}
		if err := e.Driver.Create(e.within(), s); err != nil {
			e.Errorf("%s: %v", name, err)
			continue
		}
		if g := e.guest(s.ID); g.Name != s.Name || g.State != virt.PowerPaused {
			e.Errorf("%s: guest is %+v", name, g)
		}
		e.ok(e.Driver.Destroy(e.within(), s.ID))
	}
}

func createMissingPCI(e *env) {
	s := e.spec()
	s.PCI = []virt.PCIDevice{{Address: "ffff:ff:1f.7", Managed: true}}
	e.fails(e.Driver.Create(e.within(), s), virt.ErrNoCapacity)
	e.absent(s.ID)
}
