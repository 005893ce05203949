package guest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"compute-agent/hwprops"
	"compute-agent/virt"
)

// modestHost tells everything, and has little.
func modestHost() virt.Host {
	h := virt.Host{
		Hypervisor: "QEMU", HypervisorVersion: 7_002_022, LibraryVersion: 9_000_000, Arch: "x86_64", VirtType: "kvm",
		CPU:       virt.HostCPU{Model: "Broadwell"},
		Supported: []virt.GuestKind{{Arch: "x86_64", VirtType: "kvm", OSType: "hvm"}, {Arch: "i686", VirtType: "qemu", OSType: "hvm"}},
		Machines: []virt.MachineType{
			{Arch: "x86_64", Name: "pc-i440fx-2.12", MaxVCPUs: 255}, {Arch: "x86_64", Name: "pc-i440fx-7.2", Aliases: []string{"pc"}, MaxVCPUs: 255},
			{Arch: "x86_64", Name: "pc-q35-6.2", MaxVCPUs: 8}, {Arch: "x86_64", Name: "pc-q35-7.2", Aliases: []string{"q35"}, MaxVCPUs: 288},
		},
	}
	for _, machine := range []string{"pc-i440fx-7.2", "pc-q35-7.2"} {
		h.Capabilities = append(h.Capabilities, virt.Capabilities{
			Arch: "x86_64", VirtType: "kvm", Machine: machine, MaxVCPUs: 240,
			CPUModes:  virt.Offer{"host-model", "custom"},
			CPUModels: []virt.CPUModel{{Name: "Nehalem", Usable: virt.Yes}, {Name: "EPYC", Usable: virt.No}, {Name: "486"}},
			Firmware:  virt.Offer{}, SecureBoot: virt.No, Stateless: virt.No,
			MemorySources: virt.Offer{"anonymous"}, DiskBuses: virt.Offer{"virtio", "scsi"}, DiskDevices: virt.Offer{"disk", "cdrom"},
			Graphics: virt.Offer{"vnc"}, VideoModels: virt.Offer{"vga", "none"}, HostDevices: virt.Offer{"pci"},
			RNGModels: virt.Offer{}, RNGBackends: virt.Offer{"random"}, FileSystems: virt.Offer{"path"},
			TPMModels: virt.Offer{"tpm-tis"}, TPMBackends: virt.Offer{"emulator"}, TPMVersions: virt.Offer{"2.0"},
			Redirection: virt.Offer{}, Channels: virt.Offer{"unix"}, HyperV: virt.Offer{"spinlocks"},
			VFIO: virt.No, IOThreads: virt.No, VMCoreInfo: virt.No, GenID: virt.No, LaunchSecurity: virt.Offer{"sev"},
			SEV: &virt.SEV{CBitPos: 51, ReducedPhysBits: 1, MaxGuests: 15},
		})
	}
	return h
}

// plainSpec is a guest that the modest host can make.
func plainSpec() virt.Spec {
	return virt.Spec{
		VirtType: "kvm", Arch: "x86_64", Machine: "q35", VCPUs: 1, CPU: virt.CPU{Mode: "host-model"},
		Disks: []virt.Disk{{Target: "vda", Bus: "virtio"}}, NICs: []virt.NIC{{MAC: "fa:16:3e:00:00:01", Model: "virtio"}},
		Graphics: []virt.Graphics{{Type: "vnc"}}, Video: &virt.Video{Model: "vga"},
	}
}

// wishes are what a Spec can ask for and the modest host cannot do, each with who asked and what the error says.
var wishes = []struct {
	name  string
	asked hwprops.Source
	spec  func(*virt.Spec)
	class string
	words []string
}{
	{"no emulator", hwprops.Source{Properties: map[string]string{"hw_architecture": "armv7l"}}, func(s *virt.Spec) { s.Arch = "armv7l" },
		"InvalidArchitectureName", []string{`hw_architecture="armv7l"`, "qemu-system-arm"}},
	{"not that fast", hwprops.Source{}, func(s *virt.Spec) { s.Arch = "i686" }, "UnsupportedVirtType", []string{`virt_type="kvm"`, "i686"}},
	{"machine type of the image", hwprops.Source{Properties: map[string]string{"hw_machine_type": "pc-q35-9.0"}}, func(s *virt.Spec) { s.Machine = "pc-q35-9.0" },
		"InvalidMachineType", []string{`hw_machine_type="pc-q35-9.0"`, "QEMU 7.2.22 has pc, q35, pc-i440fx-7.2, pc-q35-7.2, pc-q35-6.2, pc-i440fx-2.12"}},
	{"machine type of the operator", hwprops.Source{}, func(s *virt.Spec) { s.Machine = "pc-q35-9.0" }, "InvalidMachineType", []string{"of the operator"}},
	{"vCPUs of the capabilities", hwprops.Source{}, func(s *virt.Spec) { s.VCPUs = 241 }, "Invalid", []string{`vcpus="241"`, "takes 240"}},
	{"vCPUs of an older machine", hwprops.Source{}, func(s *virt.Spec) { s.Machine, s.VCPUs = "pc-q35-6.2", 9 }, "Invalid", []string{"takes 8", "pc-q35-6.2"}},
	{"CPU mode", hwprops.Source{}, func(s *virt.Spec) { s.CPU.Mode = "host-passthrough" },
		"InvalidCPUInfo", []string{`cpu_mode="host-passthrough"`, "host-model, custom"}},
	{"CPU model", hwprops.Source{}, func(s *virt.Spec) { s.CPU = virt.CPU{Mode: "custom", Model: "Cray"} }, "InvalidCPUInfo", []string{`cpu_models="Cray"`}},
	{"CPU model of another processor", hwprops.Source{}, func(s *virt.Spec) { s.CPU = virt.CPU{Mode: "custom", Model: "EPYC"} },
		"InvalidCPUInfo", []string{`cpu_models="EPYC"`, "(Broadwell) lacks"}},
	{"UEFI", hwprops.Source{Properties: map[string]string{"hw_firmware_type": "uefi"}}, func(s *virt.Spec) { s.Firmware.UEFI = true },
		"UEFINotSupported", []string{"hw_firmware_type", "package ovmf"}},
	{"memory in files", hwprops.Source{}, func(s *virt.Spec) { s.Memory.FileBacked = true }, "UnsupportedHardware", []string{`file_backed_memory="file"`, "anonymous"}},
	{"memfd", hwprops.Source{}, func(s *virt.Spec) { s.Memory.Memfd = true }, "UnsupportedHardware", []string{"memfd"}},
	{"shares", hwprops.Source{}, func(s *virt.Spec) { s.Shares = []virt.Share{{Tag: "data"}} }, "UnsupportedHardware", []string{`shares="virtiofs"`, "offers path"}},
	{"SEV-ES", hwprops.Source{ExtraSpecs: map[string]string{"hw:mem_encryption_model": "amd-sev-es"}},
		func(s *virt.Spec) { s.Encryption = &virt.MemoryEncryption{Model: "amd-sev-es"} }, "UnsupportedHardware", []string{`hw:mem_encryption_model="amd-sev-es"`, "no room"}},
	{"Hyper-V", hwprops.Source{Properties: map[string]string{"os_type": "windows"}}, func(s *virt.Spec) { s.Features.HyperV = true },
		"UnsupportedHardware", []string{`os_type="windows"`}},
	{"crash notes", hwprops.Source{}, func(s *virt.Spec) { s.Features.VMCoreInfo = true }, "UnsupportedHardware", []string{"vmcoreinfo"}},
	{"I/O threads", hwprops.Source{}, func(s *virt.Spec) { s.IOThreads = 1 }, "UnsupportedHardware", []string{"iothreads"}},
	{"disk bus of the image", hwprops.Source{Properties: map[string]string{"hw_disk_bus": "sata"}}, func(s *virt.Spec) { s.Disks[0].Bus = "sata" },
		"UnsupportedHardware", []string{`hw_disk_bus="sata"`, "offers virtio, scsi"}},
	{"disk bus of a volume", hwprops.Source{Properties: map[string]string{"hw_disk_bus": "virtio"}}, func(s *virt.Spec) { s.Disks[0].Bus = "sata" },
		"UnsupportedHardware", []string{`bus of drive vda="sata"`}},
	{"floppy", hwprops.Source{}, func(s *virt.Spec) { s.Disks[0].Kind = "floppy" }, "UnsupportedHardware", []string{`kind of drive vda="floppy"`}},
	{"SCSI controller", hwprops.Source{Properties: map[string]string{"hw_scsi_model": "buslogic"}}, func(s *virt.Spec) { s.SCSI = "buslogic" },
		"UnsupportedHardware", []string{`hw_scsi_model="buslogic"`}},
	{"NIC", hwprops.Source{Properties: map[string]string{"hw_vif_model": "lan9118"}}, func(s *virt.Spec) { s.NICs[0].Model = "lan9118" },
		"UnsupportedHardware", []string{`hw_vif_model="lan9118"`, "rtl8139"}},
	{"SPICE", hwprops.Source{}, func(s *virt.Spec) { s.Graphics[0].Type = "spice" }, "UnsupportedHardware", []string{`graphics="spice"`, "offers vnc"}},
	{"SPICE's agent", hwprops.Source{}, func(s *virt.Spec) { s.Channels.SPICE = true }, "UnsupportedHardware", []string{"spicevmc"}},
	{"video", hwprops.Source{Properties: map[string]string{"hw_video_model": "gop"}}, func(s *virt.Spec) { s.Video.Model = "gop" },
		"InvalidVideoMode", []string{`hw_video_model="gop"`, "QEMU 7.2.22 offers vga, none"}},
	{"USB redirection", hwprops.Source{ExtraSpecs: map[string]string{"hw:redirected_usb_ports": "2"}}, func(s *virt.Spec) { s.USB.RedirectedPorts = 2 },
		"UnsupportedHardware", []string{`hw:redirected_usb_ports="2"`}},
	{"speaker", hwprops.Source{Properties: map[string]string{"hw_sound_model": "pcspk"}}, func(s *virt.Spec) { s.Sound = "pcspk" },
		"UnsupportedHardware", []string{`hw_sound_model="pcspk"`, "libvirt 9.0.0", "QEMU 7.2.22"}},
	{"TPM version", hwprops.Source{ExtraSpecs: map[string]string{"hw:tpm_version": "1.2"}}, func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "1.2", Model: "tpm-tis"} },
		"UnsupportedHardware", []string{`hw:tpm_version="1.2"`, "offers 2.0"}},
	{"TPM model", hwprops.Source{Properties: map[string]string{"hw_tpm_model": "tpm-crb"}}, func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "2.0", Model: "tpm-crb"} },
		"UnsupportedHardware", []string{`hw_tpm_model="tpm-crb"`, "offers tpm-tis"}},
	{"randomness", hwprops.Source{}, func(s *virt.Spec) { s.RNG = &virt.RNG{} }, "UnsupportedHardware", []string{`rng_dev_path="virtio"`}},
	{"PCI device", hwprops.Source{ExtraSpecs: map[string]string{"pci_passthrough:alias": "gpu:1"}}, func(s *virt.Spec) { s.PCI = []virt.PCIDevice{{Address: "0000:01:00.0"}} },
		"PciDeviceUnsupportedHypervisor", []string{`pci_passthrough:alias="0000:01:00.0"`, "vfio-pci"}},
	{"vGPU", hwprops.Source{ExtraSpecs: map[string]string{"resources:VGPU": "1"}}, func(s *virt.Spec) { s.Mediated = []virt.MediatedDevice{{UUID: "u"}} },
		"PciDeviceUnsupportedHypervisor", []string{`resources:VGPU="u"`}},
	{"virtual function", hwprops.Source{}, func(s *virt.Spec) { s.NICs[0].Attach = virt.Attachment{Type: "hostdev", Address: "0000:81:10.1"} },
		"PciDeviceUnsupportedHypervisor", []string{`NIC fa:16:3e:00:00:01="0000:81:10.1"`}},
	{"IOMMU", hwprops.Source{Properties: map[string]string{"hw_viommu_model": "smmuv3"}}, func(s *virt.Spec) { s.IOMMU = &virt.IOMMU{Model: "smmuv3"} },
		"InvalidVIOMMUMachineType", []string{`hw_viommu_model="smmuv3"`, "pc-q35-7.2"}},
	{"igb", hwprops.Source{Properties: map[string]string{"hw_vif_model": "igb"}}, func(s *virt.Spec) { s.NICs[0].Model = "igb" },
		"UnsupportedHardware", []string{`hw_vif_model="igb"`, "needs libvirt 9.3.0, this host has 9.0.0"}},
	{"virtio sound", hwprops.Source{ExtraSpecs: map[string]string{"hw:sound_model": "virtio"}}, func(s *virt.Spec) { s.Sound = "virtio" },
		"UnsupportedHardware", []string{`hw:sound_model="virtio"`, "libvirt 10.4.0"}},
}

func TestSupported(t *testing.T) {
	if err := Supported(plainSpec(), modestHost(), hwprops.Source{}); err != nil {
		t.Fatalf("the plain guest: %v", err)
	}
	for _, c := range wishes {
		t.Run(c.name, func(t *testing.T) {
			spec := plainSpec()
			c.spec(&spec)
			err := Supported(spec, modestHost(), c.asked)
			var bad *Error
			if !errors.As(err, &bad) || bad.Class != c.class {
				t.Fatalf("error %v, want class %s", err, c.class)
			}
			for _, word := range c.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if err := Supported(spec, virt.Host{Arch: "x86_64"}, c.asked); err != nil {
				t.Errorf("a host that tells nothing refuses: %v", err)
			}
		})
	}
}

// TestSupportedByPartialHosts checks what hosts refuse that have a part of a thing, or once it is there.
func TestSupportedByPartialHosts(t *testing.T) {
	uefi := func(s *virt.Spec) { s.Firmware.UEFI = true }
	for _, c := range []struct {
		name  string
		host  func(*virt.Capabilities)
		spec  func(*virt.Spec)
		class string // empty: accepted
		word  string
	}{
		{"UEFI installed", func(c *virt.Capabilities) { c.Firmware = virt.Offer{"efi"} }, uefi, "", ""},
		{"secure boot", func(c *virt.Capabilities) { c.Firmware = virt.Offer{"efi"} }, func(s *virt.Spec) { uefi(s); s.Firmware.SecureBoot = true },
			"SecureBootNotSupported", "pc-q35-7.2"},
		{"stateless", func(c *virt.Capabilities) { c.Firmware = virt.Offer{"efi"} }, func(s *virt.Spec) { uefi(s); s.Firmware.Stateless = true },
			"UEFINotSupported", "hw_firmware_stateless"},
		{"no swtpm", func(c *virt.Capabilities) { c.TPMBackends, c.TPMVersions = virt.Offer{"passthrough"}, nil },
			func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "2.0", Model: "tpm-tis"} }, "UnsupportedHardware", "this host has no swtpm; install the packages swtpm and swtpm-tools"},
		{"TPM", func(*virt.Capabilities) {}, func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "2.0", Model: "tpm-tis"} }, "", ""},
		{"SEV", func(*virt.Capabilities) {}, func(s *virt.Spec) { s.Encryption = &virt.MemoryEncryption{Model: "amd-sev"} }, "", ""},
		{"no SEV", func(c *virt.Capabilities) { c.SEV = nil }, func(s *virt.Spec) { s.Encryption = &virt.MemoryEncryption{Model: "amd-sev"} }, "UnsupportedHardware", "EPYC"},
		{"SEV-SNP", func(c *virt.Capabilities) { c.SEV.MaxESGuests = 99 }, func(s *virt.Spec) { s.Encryption = &virt.MemoryEncryption{Model: "amd-sev-snp"} },
			"UnsupportedHardware", "offers sev"},
		{"SEV-ES of an old QEMU", func(c *virt.Capabilities) { c.SEV.MaxESGuests = 99 }, func(s *virt.Spec) { s.Encryption = &virt.MemoryEncryption{Model: "amd-sev-es"} },
			"UnsupportedHardware", "SEV-ES needs QEMU 8.0.0"},
		{"a model without what the host lacks", func(*virt.Capabilities) {}, func(s *virt.Spec) {
			s.CPU = virt.CPU{Mode: "custom", Model: "EPYC", Features: []virt.CPUFeature{{Name: "svm", Policy: "disable"}}}
		}, "", ""},
		{"a model of which it is not known", func(*virt.Capabilities) {}, func(s *virt.Spec) { s.CPU = virt.CPU{Mode: "custom", Model: "486"} }, "", ""},
		{"VFIO", func(c *virt.Capabilities) { c.VFIO = virt.Yes }, func(s *virt.Spec) { s.PCI = []virt.PCIDevice{{}} }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, spec := modestHost(), plainSpec()
			for i := range host.Capabilities {
				c.host(&host.Capabilities[i])
			}
			c.spec(&spec)
			err := Supported(spec, host, hwprops.Source{})
			var bad *Error
			switch {
			case c.class == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.class != "" && (!errors.As(err, &bad) || bad.Class != c.class || !strings.Contains(err.Error(), c.word)):
				t.Errorf("error %v, want class %s with %q", err, c.class, c.word)
			}
		})
	}
}

// TestNewerFeatures holds each feature that is told by versions against hosts just too old and just new enough.
func TestNewerFeatures(t *testing.T) {
	spec := plainSpec()
	spec.NICs = []virt.NIC{{Model: "virtio", Packed: true}, {Model: "igb"}}
	spec.Disks = []virt.Disk{{Target: "vda", Bus: "virtio", IO: "io_uring"}}
	spec.Shares = []virt.Share{{Tag: "data"}}
	spec.Balloon.FreePageReporting = true
	spec.Firmware = virt.Firmware{UEFI: true, Stateless: true}
	spec.CPU.PhysAddr = &virt.PhysAddr{Mode: "emulate", Bits: 42}
	spec.Sound = "virtio"
	var seen []string
	for _, f := range newerFeatures {
		s := spec
		switch f.name {
		case "SEV-ES":
			s.Encryption = &virt.MemoryEncryption{Model: "amd-sev-es"}
		case "SEV-SNP":
			s.Encryption = &virt.MemoryEncryption{Model: "amd-sev-snp"}
		case "address bits of an IOMMU":
			s.IOMMU = &virt.IOMMU{Model: "intel", AddressBits: 48}
		case "an IOMMU of virtio's":
			s.IOMMU = &virt.IOMMU{Model: "virtio"}
		}
		if f.value(&s) == "" {
			t.Errorf("%s: the guest does not ask for it", f.name)
		}
		if f.libvirt == 0 && f.qemu == 0 {
			t.Errorf("%s is in every version", f.name)
		}
		only := func(host virt.Host) error { // the one feature of the list
			saved := newerFeatures
			defer func() { newerFeatures = saved }()
			newerFeatures = []feature{f}
			return Supported(s, host, hwprops.Source{})
		}
		enough := virt.Host{LibraryVersion: f.libvirt, HypervisorVersion: f.qemu}
		if err := only(enough); err != nil {
			t.Errorf("%s on the first versions that have it: %v", f.name, err)
		}
		for _, old := range []virt.Host{{LibraryVersion: f.libvirt - 1, HypervisorVersion: f.qemu}, {LibraryVersion: f.libvirt, HypervisorVersion: f.qemu - 1}} {
			tooOld := old.LibraryVersion >= 0 && old.LibraryVersion < f.libvirt || old.HypervisorVersion >= 0 && old.HypervisorVersion < f.qemu
			if err := only(old); (err != nil) != tooOld {
				t.Errorf("%s on %+v: %v", f.name, old, err)
			}
		}
		seen = append(seen, f.name)
	}
	if slices.Sort(seen); len(slices.Compact(seen)) != len(newerFeatures) {
		t.Errorf("a feature is there twice: %v", seen)
	}
}

// TestMachinesInErrorsAreFew: QEMU has a hundred machine types, a user reads a dozen.
func TestMachinesInErrorsAreFew(t *testing.T) {
	host := modestHost()
	for _, version := range []string{"2.0", "2.1", "2.2", "2.3", "2.4", "2.10", "4.0.1", "5.0", "5.1", "5.2", "6.0", "6.1"} {
		host.Machines = append(host.Machines, virt.MachineType{Arch: "x86_64", Name: "pc-q35-" + version})
	}
	host.Machines = append(host.Machines, virt.MachineType{Arch: "x86_64", Name: "isapc"}, virt.MachineType{Arch: "x86_64", Name: "pc-q35-rhel9.2.0"})
	spec := plainSpec()
	spec.Machine = "moon"
	err := Supported(spec, host, hwprops.Source{})
	const want = "has pc, q35, pc-q35-rhel9.2.0, pc-i440fx-7.2, pc-q35-7.2, pc-q35-6.2, pc-q35-6.1, pc-q35-6.0, pc-q35-5.2, pc-q35-5.1, pc-q35-5.0, pc-q35-4.0.1 and 8 more"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}
