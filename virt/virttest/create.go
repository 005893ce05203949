package virttest

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"compute-agent/virt"
)

var hostPromises = group{"Host", []promise{
	{"describes the host and its hypervisor as they are now", hostDescribes, always},
	{"names machine types that guests can be", hostMachines, always},
	{"says what guests can have: that Create makes, and ErrUnsupported of the rest", hostOffers, always},
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

// hostOffers asks for some things of each kind and compares what happens with what the host says. A host that does not
// tell of a thing may do either.
func hostOffers(e *env) {
	h, err := e.Driver.Host(e.within())
	e.ok(err)
	offer := func(o virt.Offer, word string) virt.Answer {
		switch {
		case o == nil:
			return virt.Untold
		case o.Refuses(word):
			return virt.No
		}
		return virt.Yes
	}
	for _, machine := range []string{"pc", "q35"} {
		c := h.CapabilitiesOf("x86_64", h.VirtType, machine)
		if c == nil {
			e.Fatalf("nothing is said of %s guests of machine type %s", h.VirtType, machine)
		}
		type wish struct {
			what   string
			answer virt.Answer
			ask    func(*virt.Spec)
		}
		wishes := []wish{
			{"IDE", offer(c.DiskBuses, "ide"), func(s *virt.Spec) { s.Disks[0].Bus, s.Disks[0].Target = "ide", "hda" }},
			{"video xen", offer(c.VideoModels, "xen"), func(s *virt.Spec) { s.Video = &virt.Video{Model: "xen"} }},
		}
		if machine == "q35" {
			wishes = append(wishes,
				wish{"SATA", offer(c.DiskBuses, "sata"), func(s *virt.Spec) { s.Disks[0].Bus, s.Disks[0].Target = "sata", "sda" }},
				wish{"video vga", offer(c.VideoModels, "vga"), func(s *virt.Spec) { s.Video = &virt.Video{Model: "vga"} }},
				wish{"UEFI", offer(c.Firmware, "efi"), func(s *virt.Spec) { s.Firmware.UEFI = true }},
				wish{"secure boot", c.SecureBoot, func(s *virt.Spec) { s.Firmware.UEFI, s.Firmware.SecureBoot = true, true }},
				wish{"stateless firmware", c.Stateless, func(s *virt.Spec) { s.Firmware.UEFI, s.Firmware.Stateless = true, true }},
				wish{"TPM", offer(c.TPMVersions, "2.0"), func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "2.0", Model: "tpm-tis"} }})
		}
		for _, w := range wishes {
			s := e.spec()
			s.VirtType, s.Machine = h.VirtType, machine
			w.ask(&s)
			err := e.Driver.Create(e.within(), s)
			switch {
			case w.answer == virt.Yes && err != nil, w.answer == virt.No && !errors.Is(err, virt.ErrUnsupported):
				e.Errorf("%s on %s: the host says %q, Create %v", w.what, machine, w.answer, err)
			}
			e.ok(e.Driver.Destroy(e.within(), s.ID))
		}
	}
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
	{"gives a file to several guests when all say that it is shared", createShared, always},
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
	before := s.Clone()
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

func createInvalid(e *env) {
	base := e.spec()
	for _, group := range contradictions {
		for _, c := range group {
			s := base.Clone()
			c.spoil(&s)
			err := e.Driver.Create(e.within(), s)
			if !errors.Is(err, virt.ErrInvalid) || !strings.Contains(err.Error(), c.field) {
				e.Errorf("%s: error is %v, want ErrInvalid that names %q", c.name, err, c.field)
			}
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
		"kernel":                       func(s *virt.Spec) { s.Boot = virt.Boot{Kernel: nowhere} },
		"share": func(s *virt.Spec) {
			s.Memory, s.Shares = virt.Memory{Memfd: true, Shared: true}, []virt.Share{{Path: nowhere, Tag: "t"}}
		},
		"directory of a socket": func(s *virt.Spec) {
			s.NICs = []virt.NIC{{MAC: "fa:16:3e:00:00:01", Attach: virt.Attachment{Type: "vhostuser", Mode: "server", Socket: nowhere}}}
		},
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

func createShared(e *env) {
	first := e.spec()
	cluster := virt.Disk{
		Source: virt.Source{File: e.file(first, "cluster", make([]byte, 1<<20))}, Format: "raw", Target: "vdz", Bus: "virtio", Shared: true,
	}
	first.Disks = append(first.Disks, cluster)
	second, third := e.spec(), e.spec()
	second.Disks = append(second.Disks, cluster)
	cluster.Shared = false
	third.Disks = append(third.Disks, cluster)
	e.create(first)
	e.create(second)
	e.fails(e.Driver.Create(e.within(), third), virt.ErrBusy)
	e.absent(third.ID)
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
