package compute

import (
	"maps"
	"slices"
	"strings"

	"compute-agent/virt"
)

// traits are what the placement service is told of a host's kind, in the names of os-traits: only what
// the agent does today, and what the hypervisor says of the processor.
func traits(h virt.Host, size hostSize) []string {
	set := map[string]bool{}
	add := func(names ...string) {
		for _, name := range names {
			set[name] = true
		}
	}
	add("COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_IMAGE_TYPE_RAW", "COMPUTE_GRAPHICS_MODEL_VGA",
		"COMPUTE_STORAGE_BUS_VIRTIO", "COMPUTE_STORAGE_BUS_SATA", "COMPUTE_STORAGE_BUS_SCSI")
	if h.Arch == "x86_64" {
		add("COMPUTE_STORAGE_BUS_IDE", "HW_ARCH_X86_64")
		for _, feature := range h.CPU.Features {
			add(cpuTraits[feature]...)
		}
	} else {
		add("HW_ARCH_" + strings.ToUpper(h.Arch))
	}
	for i := range size.cells.Cells {
		if size.cells.Cells[i].HasThreads() {
			add("HW_CPU_HYPERTHREADING")
		}
	}
	return slices.Sorted(maps.Keys(set))
}

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
