package fake

import (
	"fmt"
	"slices"
	"strings"

	"compute-agent/virt"
)

const emulator = "/usr/bin/qemu-system-x86_64"

// cpuModels are those that guests can be given by name. All are usable: the emulated processor is never looked at.
var cpuModels = strings.Fields("486 pentium pentium2 pentium3 qemu32 qemu64 kvm32 kvm64 coreduo core2duo n270 athlon phenom " +
	"Conroe Penryn Nehalem Nehalem-IBRS Westmere Westmere-IBRS SandyBridge SandyBridge-IBRS IvyBridge IvyBridge-IBRS " +
	"Haswell Haswell-IBRS Haswell-noTSX Haswell-noTSX-IBRS Broadwell Broadwell-IBRS Broadwell-noTSX Broadwell-noTSX-IBRS " +
	"Skylake-Client Skylake-Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Server Skylake-Server-IBRS Skylake-Server-noTSX-IBRS " +
	"Cascadelake-Server Cascadelake-Server-noTSX Cooperlake Icelake-Server Icelake-Server-noTSX Snowridge " +
	"Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4 Opteron_G5 EPYC EPYC-IBPB EPYC-Rome EPYC-Milan Dhyana")

// modelFeatures are told of the models that agents choose by themselves.
var modelFeatures = map[string][]string{
	"Nehalem": strings.Fields("apic clflush cmov cx16 cx8 de fpu fxsr lahf_lm lm mca mce mmx msr mtrr nx pae pat pge pni popcnt pse pse36 " +
		"sep sse sse2 sse4.1 sse4.2 ssse3 syscall tsc vme"),
}

// capabilities are what guests can have, as libvirt 9.0 tells with QEMU 7.2 and all that Debian 12 has beside it.
func (o Options) capabilities() (all []virt.Capabilities) {
	for _, kind := range o.kinds() {
		for _, m := range o.machineTypes() {
			if len(m.Aliases) > 0 {
				all = append(all, capabilities(kind, m))
			}
		}
	}
	return all
}

func capabilities(kind virt.GuestKind, m virt.MachineType) virt.Capabilities {
	c := virt.Capabilities{
		Arch: kind.Arch, VirtType: kind.VirtType, Machine: m.Name, Emulator: emulator, MaxVCPUs: m.MaxVCPUs,
		CPUModes: virt.Offer{"maximum", "host-model", "custom"},
		Firmware: virt.Offer{"efi"}, SecureBoot: virt.No, Stateless: virt.No,
		MemorySources: virt.Offer{"file", "anonymous", "memfd"},
		DiskBuses:     virt.Offer{"fdc", "scsi", "virtio", "usb", "sata"},
		DiskDevices:   virt.Offer{"disk", "cdrom", "floppy", "lun"},
		Graphics:      virt.Offer{"vnc", "spice"},
		VideoModels:   virt.Offer{"vga", "cirrus", "vmvga", "qxl", "virtio", "none", "bochs", "ramfb"},
		HostDevices:   virt.Offer{"usb", "pci", "scsi"},
		RNGModels:     virt.Offer{"virtio"},
		RNGBackends:   virt.Offer{"random", "egd", "builtin"},
		FileSystems:   virt.Offer{"path", "virtiofs"},
		TPMModels:     virt.Offer{"tpm-tis", "tpm-crb"},
		TPMBackends:   virt.Offer{"passthrough", "emulator"},
		TPMVersions:   virt.Offer{"1.2", "2.0"},
		Redirection:   virt.Offer{"usb"},
		Channels:      virt.Offer{"pty", "unix", "spicevmc"},
		HyperV:        virt.Offer{"spinlocks", "vendor_id"},
		VFIO:          virt.Yes, IOThreads: virt.Yes, VMCoreInfo: virt.Yes, GenID: virt.Yes,
	}
	if kind.VirtType == "kvm" {
		c.CPUModes = append(c.CPUModes, "host-passthrough")
	}
	if slices.Contains(m.Aliases, "q35") {
		c.SecureBoot = virt.Yes
	} else {
		c.DiskBuses = append(c.DiskBuses, "ide")
	}
	for _, name := range cpuModels {
		c.CPUModels = append(c.CPUModels, virt.CPUModel{Name: name, Usable: virt.Yes, Features: modelFeatures[name]})
	}
	return c
}

// kinds are the guests that can be run: emulated ones everywhere.
func (o Options) kinds() []virt.GuestKind {
	kinds := []virt.GuestKind{{Arch: "x86_64", VirtType: "qemu", OSType: "hvm"}}
	if o.VirtType == "kvm" {
		kinds = append(kinds, virt.GuestKind{Arch: "x86_64", VirtType: "kvm", OSType: "hvm"})
	}
	return kinds
}

// host has what decides over Specs.
func (o Options) host() virt.Host {
	return virt.Host{Supported: o.kinds(), Machines: o.machineTypes(), Capabilities: o.capabilities()}
}

// lacking says what of a Spec this host's capabilities refuse; empty for nothing.
func lacking(s virt.Spec, c *virt.Capabilities) string {
	type wish struct {
		offer virt.Offer
		what  string
		word  string
	}
	wishes := []wish{{c.CPUModes, "CPU mode", s.CPU.Mode}}
	for _, d := range s.Disks {
		wishes = append(wishes, wish{c.DiskBuses, "disk " + d.Target + " on bus", d.Bus})
	}
	for _, g := range s.Graphics {
		wishes = append(wishes, wish{c.Graphics, "graphics", g.Type})
	}
	if s.Video != nil {
		wishes = append(wishes, wish{c.VideoModels, "video model", s.Video.Model})
	}
	if s.TPM != nil {
		wishes = append(wishes, wish{c.TPMModels, "TPM model", s.TPM.Model}, wish{c.TPMVersions, "TPM version", s.TPM.Version})
	}
	for _, w := range wishes {
		if w.word != "" && w.word != "none" && w.offer.Refuses(w.word) {
			return fmt.Sprintf("%s %s", w.what, w.word)
		}
	}
	switch {
	case s.CPU.Mode == "custom" && c.CPUModel(s.CPU.Model) == nil:
		return "CPU model " + s.CPU.Model
	case s.Firmware.SecureBoot && c.SecureBoot == virt.No:
		return "secure boot"
	case s.Firmware.Stateless && c.Stateless == virt.No:
		return "stateless firmware"
	case s.Encryption != nil && c.SEV == nil:
		return "encryption of memory"
	}
	return ""
}
