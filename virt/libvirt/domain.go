package libvirt

import (
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// Render returns the domain XML of a Spec. It is pure: it opens no file and asks no hypervisor, and
// the same Spec gives the same text. The error is of kind virt.ErrInvalid when the Spec contradicts
// itself.
func Render(s virt.Spec) (string, error) {
	if err := s.Validate(); err != nil {
		return "", err
	}
	metadata, err := novaMetadata(s.Metadata)
	if err != nil {
		return "", fmt.Errorf("metadata: %w", err)
	}
	d := &libvirtxml.Domain{
		Metadata: &libvirtxml.DomainMetadata{XML: metadata},
		Devices:  &libvirtxml.DomainDeviceList{},
	}
	for _, render := range sections {
		render(d, &s)
	}
	return d.Marshal()
}

// sections make the parts of a domain, in the order of libvirt's own documentation. The ones about
// devices are in the order in which the guest finds them.
var sections = []func(*libvirtxml.Domain, *virt.Spec){
	renderIdentity,
	renderMemory,
	renderVCPUs,
	renderCPU,
	renderTuning,
	renderGuestCells,
	renderMemoryBacking,
	renderSMBIOS,
	renderOS,
	renderFeatures,
	renderClock,
	renderLifecycle,
	renderEmulator,
	renderControllers,
	renderDisks,
	renderSerial,
	renderGuestAgent,
	renderVNC,
	renderBalloon,
	renderRNG,
}

func renderIdentity(d *libvirtxml.Domain, s *virt.Spec) {
	d.Type = s.VirtType
	d.Name = s.Name
	d.UUID = s.ID
	d.Title = oneLine(s.Title)
}

func renderMemory(d *libvirtxml.Domain, s *virt.Spec) {
	d.Memory = &libvirtxml.DomainMemory{Value: uint(s.MemoryMiB), Unit: "MiB"}
}

// renderSMBIOS names the machine as Nova does: software in guests (cloud-init's data source detection,
// inventory agents) looks for these words.
func renderSMBIOS(d *libvirtxml.Domain, s *virt.Spec) {
	entries := []libvirtxml.DomainSysInfoEntry{
		{Name: "manufacturer", Value: "OpenStack Foundation"},
		{Name: "product", Value: "OpenStack Nova"},
	}
	if version := printable(s.Metadata.Package); version != "" {
		entries = append(entries, libvirtxml.DomainSysInfoEntry{Name: "version", Value: version})
	}
	entries = append(entries,
		libvirtxml.DomainSysInfoEntry{Name: "serial", Value: s.ID},
		libvirtxml.DomainSysInfoEntry{Name: "uuid", Value: s.ID},
		libvirtxml.DomainSysInfoEntry{Name: "family", Value: "Virtual Machine"},
	)
	d.SysInfo = []libvirtxml.DomainSysInfo{{SMBIOS: &libvirtxml.DomainSysInfoSMBIOS{
		System: &libvirtxml.DomainSysInfoSystem{Entry: entries},
	}}}
}

// renderOS leaves the boot order to the disks, which each have a place in it.
func renderOS(d *libvirtxml.Domain, s *virt.Spec) {
	d.OS = &libvirtxml.DomainOS{
		Type:   &libvirtxml.DomainOSType{Arch: s.Arch, Machine: s.Machine, Type: "hvm"},
		SMBios: &libvirtxml.DomainSMBios{Mode: "sysinfo"},
	}
}

func renderFeatures(d *libvirtxml.Domain, s *virt.Spec) {
	d.Features = &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}}
	if isX86(s.Arch) {
		d.Features.APIC = &libvirtxml.DomainFeatureAPIC{}
	}
}

// renderClock sets the timers as Nova does on x86: lost ticks of the PIT are delayed and those of the
// RTC caught up, so that a guest that was not scheduled keeps time; guests fare better without the HPET.
func renderClock(d *libvirtxml.Domain, s *virt.Spec) {
	d.Clock = &libvirtxml.DomainClock{Offset: "utc"}
	if isX86(s.Arch) {
		d.Clock.Timer = []libvirtxml.DomainTimer{
			{Name: "pit", TickPolicy: "delay"},
			{Name: "rtc", TickPolicy: "catchup"},
			{Name: "hpet", Present: "no"},
		}
	}
}

// renderLifecycle states libvirt's defaults, because the meaning of the events depends on them.
func renderLifecycle(d *libvirtxml.Domain, _ *virt.Spec) {
	d.OnPoweroff, d.OnReboot, d.OnCrash = "destroy", "restart", "destroy"
}

func renderEmulator(d *libvirtxml.Domain, s *virt.Spec) { d.Devices.Emulator = s.Emulator }

func isX86(arch string) bool { return arch == "x86_64" || arch == "i686" }

// maxText is how much of a user's text, in bytes, goes into a domain; libvirt refuses definitions of
// more than 4 MiB.
const maxText = 1024

// oneLine makes of any text one that a domain can hold: libvirt refuses line ends in titles, and XML 1.0
// holds no control characters and nothing that is not UTF-8.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t', r == '\u0085', r == '\u2028', r == '\u2029':
			return ' '
		case !inXML(r):
			return '\uFFFD'
		}
		return r
	}, s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}

// inXML says whether XML 1.0 can hold the character (its production Char, without the line ends and
// the tab, and without the C1 controls, which it discourages).
func inXML(r rune) bool {
	return r >= 0x20 && r < 0x7f || r >= 0xa0 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

// maxSMBIOS is how long a string in the SMBIOS tables may be; QEMU refuses tables of 64 KiB.
const maxSMBIOS = 64

// printable replaces what libvirt's schema refuses in SMBIOS strings.
func printable(s string) string {
	if len(s) > maxSMBIOS {
		s = s[:maxSMBIOS]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
