package compute

import (
	"maps"
	"slices"
	"strings"

	"compute-agent/guest"
	"compute-agent/hwprops"
	"compute-agent/virt"
)

// traits are what the placement service is told of a host's kind, in the names of os-traits: what the agent does
// today, what the hypervisor says of the processor, and what guests can have. The last are the answers of what also
// refuses servers, so that the two agree.
func traits(h virt.Host, size hostSize, opt guest.Options) []string {
	set := map[string]bool{"COMPUTE_NODE": true, "COMPUTE_IMAGE_TYPE_QCOW2": true, "COMPUTE_IMAGE_TYPE_RAW": true}
	set["HW_ARCH_"+strings.ToUpper(h.Arch)] = true
	if h.Arch == "x86_64" {
		for feature := range processorFeatures(h, guest.Processor(h, opt)) {
			for _, name := range cpuTraits[feature] {
				set[name] = true
			}
		}
	}
	for i := range size.cells.Cells {
		if size.cells.Cells[i].HasThreads() {
			set["HW_CPU_HYPERTHREADING"] = true
		}
	}
	for _, family := range traitFamilies {
		for _, word := range family.words {
			if makes(h, func(s *virt.Spec) { family.ask(s, word) }) {
				set[family.prefix+traitWord.Replace(strings.ToUpper(word))] = true
			}
		}
	}
	for _, arch := range emulationTraits {
		if slices.ContainsFunc(h.Supported, func(k virt.GuestKind) bool { return k.Arch == arch }) {
			set["COMPUTE_ARCH_"+strings.ToUpper(arch)] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// processorFeatures are what guests get of the host's processor, or of the model that they have in its place. Of a model
// that the hypervisor does not tell of, nothing is promised.
func processorFeatures(h virt.Host, cpu virt.CPU) map[string]bool {
	var names []string
	switch cpu.Mode {
	case "none":
	case "custom":
		for i := range h.Capabilities {
			c := &h.Capabilities[i]
			if m := c.CPUModel(cpu.Model); m != nil && c.Arch == h.Arch && c.VirtType == h.VirtType {
				names = m.Features
			}
		}
	default:
		names = h.CPU.Features
	}
	features := map[string]bool{}
	for _, name := range names {
		features[name] = true
	}
	for _, f := range cpu.Features {
		if f.Policy == "disable" {
			delete(features, f.Name)
		} else {
			features[f.Name] = true
		}
	}
	return features
}

// makes says whether the host can make guests with what is asked for, on at least one of its kinds of machine. A host
// that does not tell what guests can have promises nothing.
func makes(h virt.Host, ask func(*virt.Spec)) bool {
	for i := range h.Capabilities {
		c := &h.Capabilities[i]
		if c.VirtType != h.VirtType {
			continue
		}
		spec := virt.Spec{VirtType: c.VirtType, Arch: c.Arch, Machine: c.Machine, VCPUs: 1, CPU: virt.CPU{Mode: "none"}}
		ask(&spec)
		if guest.Supported(spec, h, hwprops.Source{}) == nil {
			return true
		}
	}
	return false
}

// traitFamily are traits with a common beginning, each of a word that guests can ask for.
type traitFamily struct {
	prefix string
	words  []string
	ask    func(s *virt.Spec, word string)
}

var traitWord = strings.NewReplacer("-", "_", ".", "_")

// traitFamilies are Nova's (nova.virt.libvirt.driver, static_traits and the capabilities of the driver), and the
// models of USB controllers. Not told are virtiofs and files as memory, which nobody can ask for: they are for
// shares.
var traitFamilies = []traitFamily{
	{"COMPUTE_GRAPHICS_MODEL_", strings.Fields("bochs cirrus gop none qxl vga virtio vmvga xen"), func(s *virt.Spec, word string) { s.Video = &virt.Video{Model: word} }},
	{"COMPUTE_NET_VIF_MODEL_", strings.Fields("e1000 e1000e igb lan9118 ne2k_pci netfront pcnet rtl8139 spapr-vlan virtio vmxnet vmxnet3"),
		func(s *virt.Spec, word string) { s.NICs = []virt.NIC{{Model: word}} }},
	{"COMPUTE_NET_", []string{"virtio_packed"}, func(s *virt.Spec, _ string) { s.NICs = []virt.NIC{{Model: "virtio", Packed: true}} }},
	{"COMPUTE_STORAGE_BUS_", strings.Fields("fdc ide sata scsi usb virtio"), askForBus},
	{"COMPUTE_SOUND_MODEL_", strings.Fields("ac97 es1370 ich6 ich9 pcspk sb16 usb virtio"), func(s *virt.Spec, word string) { s.Sound = word }},
	{"COMPUTE_USB_MODEL_", strings.Fields("nec-xhci qemu-xhci"), func(s *virt.Spec, word string) { s.USB.Controller = word }},
	{"COMPUTE_VIOMMU_MODEL_", strings.Fields("auto intel smmuv3 virtio"), askForIOMMU},
	{"COMPUTE_SECURITY_TPM_", strings.Fields("1.2 2.0"), func(s *virt.Spec, word string) { s.TPM = &virt.TPM{Version: word, Model: "tpm-tis"} }},
	{"COMPUTE_SECURITY_TPM_", strings.Fields("tis crb"), func(s *virt.Spec, word string) { s.TPM = &virt.TPM{Version: "2.0", Model: "tpm-" + word} }},
	{"COMPUTE_SECURITY_", []string{"uefi_secure_boot"}, func(s *virt.Spec, _ string) { s.Firmware = virt.Firmware{UEFI: true, SecureBoot: true} }},
	{"COMPUTE_SECURITY_", []string{"stateless_firmware"}, func(s *virt.Spec, _ string) { s.Firmware = virt.Firmware{UEFI: true, Stateless: true} }},
	{"COMPUTE_ADDRESS_SPACE_", []string{"passthrough"}, func(s *virt.Spec, _ string) { s.CPU.PhysAddr = &virt.PhysAddr{Mode: "passthrough"} }},
	{"COMPUTE_ADDRESS_SPACE_", []string{"emulated"}, func(s *virt.Spec, _ string) { s.CPU.PhysAddr = &virt.PhysAddr{Mode: "emulate"} }},
	{"HW_CPU_X86_", strings.Fields("amd-sev amd-sev-es amd-sev-snp"), func(s *virt.Spec, word string) {
		s.Firmware.UEFI, s.Encryption = true, &virt.MemoryEncryption{Model: word}
	}},
}

func askForBus(s *virt.Spec, bus string) {
	kind := "disk"
	if bus == "fdc" {
		kind = "floppy"
	}
	s.Disks = []virt.Disk{{Bus: bus, Kind: kind}}
}

// askForIOMMU asks for a model; auto is one of those that there are.
func askForIOMMU(s *virt.Spec, model string) {
	switch {
	case model != "auto":
	case s.Arch == "aarch64":
		model = "smmuv3"
	default:
		model = "intel"
	}
	s.IOMMU = &virt.IOMMU{Model: model}
}

// emulationTraits are the architectures that have a trait of their own for hosts that run their guests.
var emulationTraits = strings.Fields("aarch64 ppc64le mipsel s390x riscv64 x86_64")

// cpuTraits are the traits of the processor's features, these in libvirt's names. They are those of Nova
// (nova.virt.libvirt.utils), and SSE3 under the name that libvirt has for it.
var cpuTraits = func() map[string][]string {
	table := map[string][]string{}
	// Features whose name is the trait's, but for the prefix, case and punctuation.
	for _, f := range strings.Fields("3dnow abm avx avx2 avx512bitalg avx512bw avx512cd avx512dq avx512er avx512f avx512ifma " +
		"avx512pf avx512vbmi avx512vbmi2 avx512vl avx512vnni avx512-vpopcntdq bmi2 f16c fma4 mmx mpx pdpe1gb sse sse2 " +
		"sse4.1 sse4.2 sse4a ssse3 stibp tbm xop") {
		table[f] = []string{"HW_CPU_X86_" + strings.ToUpper(strings.NewReplacer("-", "", ".", "").Replace(f))}
	}
	for f, names := range map[string]string{
		"aes": "AESNI", "bmi1": "BMI", "fma": "FMA3", "pclmuldq": "CLMUL", "pni": "SSE3", "sha-ni": "SHA", "rtm": "TSX",
		"gfni": "AVX512GFNI", "vaes": "AVX512VAES", "vpclmulqdq": "AVX512VPCLMULQDQ", "svm": "SVM AMD_SVM", "vmx": "VMX INTEL_VMX",
		"pcid": "INTEL_PCID", "md-clear": "INTEL_MD_CLEAR", "spec-ctrl": "INTEL_SPEC_CTRL", "ssbd": "INTEL_SSBD",
		"amd-ssbd": "AMD_SSBD", "amd-no-ssb": "AMD_NO_SSB", "ibpb": "AMD_IBPB", "virt-ssbd": "AMD_VIRT_SSBD",
	} {
		for _, name := range strings.Fields(names) {
			table[f] = append(table[f], "HW_CPU_X86_"+name)
		}
	}
	return table
}()
