package compute

import (
	"slices"
	"strings"
	"testing"

	"compute-agent/guest"
	"compute-agent/virt"
)

// TestProcessorTraits: what guests get of the processor depends on the operator's choice of it.
func TestProcessorTraits(t *testing.T) {
	h := reportedHost() // which has aes, pni and vmx
	h.Capabilities[0].CPUModels = []virt.CPUModel{{Name: "Nehalem", Usable: virt.Yes, Features: []string{"sse4.2", "pni"}}, {Name: "486"}}
	for _, c := range []struct {
		name string
		opt  guest.Options
		want string
	}{
		{"host-model by default", guest.Options{}, "AESNI INTEL_VMX SSE3 VMX"},
		{"host-passthrough", guest.Options{CPUMode: "host-passthrough"}, "AESNI INTEL_VMX SSE3 VMX"},
		{"a model", guest.Options{CPUMode: "custom", CPUModels: []string{"Nehalem"}}, "SSE3 SSE42"},
		{"a model of which nothing is known", guest.Options{CPUMode: "custom", CPUModels: []string{"486"}}, ""},
		{"flags", guest.Options{CPUFlags: []string{"-vmx", "+pcid"}}, "AESNI INTEL_PCID SSE3"},
		{"flags of a model", guest.Options{CPUMode: "custom", CPUModels: []string{"Nehalem"}, CPUFlags: []string{"aes", "-pni"}}, "AESNI SSE42"},
		{"the hypervisor's own", guest.Options{CPUMode: "none"}, ""},
	} {
		var got []string
		for _, trait := range traits(h, hostSize{}, c.opt) {
			if name, is := strings.CutPrefix(trait, "HW_CPU_X86_"); is {
				got = append(got, name)
			}
		}
		if slices.Sort(got); strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}
