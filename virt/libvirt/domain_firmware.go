package libvirt

import (
	"strings"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

func renderOS(d *libvirtxml.Domain, s *virt.Spec) {
	d.OS = &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: s.Arch, Machine: s.Machine, Type: "hvm"}}
	if isX86(s.Arch) {
		d.OS.SMBios = &libvirtxml.DomainSMBios{Mode: "sysinfo"}
	}
}

// renderFirmware lets libvirt pick the firmware's files by what they must be able to do. It knows the files
// of its host, and gives the guest SMM where they need it. A loader that is not to be secure is not named as
// such, as Nova does, because libvirt 9.0 refuses that; the feature says it.
func renderFirmware(d *libvirtxml.Domain, s *virt.Spec) {
	if s.Firmware.BootMenu {
		d.OS.BootMenu = &libvirtxml.DomainBootMenu{Enable: "yes"}
	}
	if !s.Firmware.UEFI {
		return
	}
	d.OS.Firmware = "efi"
	d.OS.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{
		Features: []libvirtxml.DomainOSFirmwareFeature{{Name: "secure-boot", Enabled: yesNo(s.Firmware.SecureBoot)}},
	}
	var loader libvirtxml.DomainLoader
	if s.Firmware.SecureBoot {
		loader.Secure = "yes"
	}
	if s.Firmware.Stateless {
		loader.Stateless = "yes"
	}
	if (loader != libvirtxml.DomainLoader{}) {
		d.OS.Loader = &loader
	}
}

// renderBoot leaves the boot order to the devices where they have a place in it.
func renderBoot(d *libvirtxml.Domain, s *virt.Spec) {
	if s.Boot.Kernel != "" {
		d.OS.Kernel, d.OS.Initrd = s.Boot.Kernel, s.Boot.Initrd
		d.OS.Cmdline = text(s.Boot.CommandLine)
		return
	}
	for _, class := range s.Boot.Devices {
		d.OS.BootDevices = append(d.OS.BootDevices, libvirtxml.DomainBootDevice{Dev: class})
	}
}

// renderSMBIOS names the machine as Nova does: software in guests (cloud-init's data source detection,
// inventory agents) looks for these words.
func renderSMBIOS(d *libvirtxml.Domain, s *virt.Spec) {
	if !isX86(s.Arch) {
		return
	}
	var entries []libvirtxml.DomainSysInfoEntry
	for _, e := range []libvirtxml.DomainSysInfoEntry{
		{Name: "manufacturer", Value: "OpenStack Foundation"},
		{Name: "product", Value: "OpenStack Nova"},
		{Name: "version", Value: printable(s.Metadata.Package)},
		{Name: "serial", Value: s.SMBIOS.Serial},
		{Name: "uuid", Value: s.ID},
		{Name: "family", Value: "Virtual Machine"},
	} {
		if e.Value != "" {
			entries = append(entries, e)
		}
	}
	d.SysInfo = []libvirtxml.DomainSysInfo{{SMBIOS: &libvirtxml.DomainSysInfoSMBIOS{
		System: &libvirtxml.DomainSysInfoSystem{Entry: entries},
	}}}
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
