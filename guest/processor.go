package guest

import (
	"cmp"
	"slices"
	"strings"

	"compute-agent/virt"
)

// processor is the guest's CPU with the best topology within the limits of flavor and image: one socket per
// vCPU where neither says anything.
func (d *definition) processor() error {
	topologies, err := d.r.numa().Topologies(true)
	if err != nil {
		return err
	}
	best, s := topologies[0], &d.spec
	s.VCPUs = d.r.Flavor.VCPUs
	s.CPU = d.cpuModel()
	s.CPU.Sockets, s.CPU.Cores, s.CPU.Threads = best.Sockets, best.Cores, best.Threads
	if d.hw.PhysAddrMode != "" {
		s.CPU.PhysAddr = &virt.PhysAddr{Mode: d.hw.PhysAddrMode, Bits: d.hw.PhysAddrBits}
	}
	q := d.hw.CPUQuota
	s.CPUTime = virt.CPUTime{Shares: deref(q.Shares), Period: deref(q.Period), Quota: bounded(deref(q.Quota))}
	return nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// Processor is what guests of the host's own architecture get for a processor, but for its topology, where neither
// flavor nor image has a word in it.
func Processor(h virt.Host, opt Options) virt.CPU {
	r := &Request{Host: h, Options: opt}
	d, err := begin(r)
	if err != nil { // an operator's machine type that is none
		d = &definition{r: r, arch: h.Arch}
	}
	return d.cpuModel()
}

// foreignModels are the processors of guests of another architecture than the host's.
var foreignModels = map[string]string{"aarch64": "cortex-a57", "ppc64le": "POWER8"}

func (d *definition) cpuModel() virt.CPU {
	if d.foreign() {
		if model := foreignModels[d.arch]; model != "" {
			return virt.CPU{Mode: "custom", Model: model, Features: d.cpuFlags()}
		}
		return virt.CPU{Mode: "none"}
	}
	cpu := virt.CPU{Mode: cmp.Or(d.r.Options.CPUMode, d.defaultCPUMode())}
	if cpu.Mode == "custom" {
		cpu.Model = d.customModel()
	}
	if cpu.Mode != "none" {
		cpu.Features = d.cpuFlags()
	}
	return cpu
}

func (d *definition) defaultCPUMode() string {
	switch emulated := d.r.Host.VirtType != "kvm" && d.r.Options.EmulatedCPU != ""; {
	case emulated && d.arch == "x86_64":
		return "custom"
	case emulated:
		return "maximum"
	case d.arch == "aarch64": // where no host model can be told
		return "host-passthrough"
	}
	return "host-model"
}

func (d *definition) customModel() string {
	switch opt := d.r.Options; {
	case opt.CPUMode == "":
		return opt.EmulatedCPU
	case len(opt.CPUModels) > 0:
		return d.spelled(opt.CPUModels[0])
	case d.arch == "aarch64":
		return "max"
	}
	return ""
}

// spelled is a processor's name as the hypervisor spells it; operators may write it in any case.
func (d *definition) spelled(model string) string {
	for _, known := range d.caps.CPUModels {
		if strings.EqualFold(known.Name, model) {
			return known.Name
		}
	}
	return model
}

// cpuFlags are cpu_model_extra_flags: a dash takes a flag away, a plus or nothing asks for it. The last word on a
// flag counts.
func (d *definition) cpuFlags() []virt.CPUFeature {
	var features []virt.CPUFeature
	for _, flag := range d.r.Options.CPUFlags {
		flag = strings.ToLower(strings.TrimSpace(flag))
		f := virt.CPUFeature{Name: strings.TrimLeft(flag, "+-"), Policy: "require"}
		if strings.HasPrefix(flag, "-") {
			f.Policy = "disable"
		}
		if f.Name == "" {
			continue
		}
		features = slices.DeleteFunc(features, func(o virt.CPUFeature) bool { return o.Name == f.Name })
		features = append(features, f)
	}
	slices.SortFunc(features, func(a, b virt.CPUFeature) int { return cmp.Compare(a.Name, b.Name) })
	return features
}
