package numa_test

import (
	"errors"
	"testing"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
)

// FuzzParsePageSize wants a size or a word of every text that is accepted, and a named error of every other.
func FuzzParsePageSize(f *testing.F) {
	for _, text := range []string{"", "small", "large", "any", "4", "2048", "2MB", "1GB", "1GiB", "2 MB", "0", "-1", "1.5GB", ".5MB",
		"8Mbit", "1TB", "99999999999TB", "4b", "0x10", "2mb", "1e3", "٤"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := numa.ParsePageSize("hw:mem_page_size", text)
		if err == nil {
			if size <= 0 && size != numa.PageSmall && size != numa.PageLarge && size != numa.PageAny {
				t.Errorf("%q is a page of %d KiB", text, size)
			}
			return
		}
		mustName(t, err, "hw:mem_page_size", text)
	})
}

func mustName(t *testing.T, err error, key, value string) {
	var named *numa.Error
	if !errors.As(err, &named) || named.Class == "" || named.Rule == "" || named.Key != key || named.Value != value {
		t.Errorf("%s=%q: the error %v does not name key, value and rule", key, value, err)
	}
}

// FuzzMasks reads masks of vCPUs: those that are accepted name vCPUs of the guest and leave some out.
func FuzzMasks(f *testing.F) {
	for _, mask := range []string{"", "^0", "^0-1", "0-3", "2", "1,^1", "^0,^1", "0-99", "^", "a", " ^2 ", "^0-3", "-1"} {
		f.Add(mask, 4)
	}
	f.Fuzz(func(t *testing.T, mask string, vcpus int) {
		if vcpus < 1 || vcpus > 256 {
			return
		}
		r := numa.Request{VCPUs: vcpus, MemoryMiB: 1024, ExtraSpecs: map[string]string{
			"hw:cpu_policy": "mixed", "hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": mask, "hw:cpu_dedicated_mask": mask}}
		all := cpuset.Range(0, vcpus-1)
		for key, read := range map[string]func() (cpuset.Set, bool, error){
			"hw:cpu_dedicated_mask": r.DedicatedVCPUs, "hw:cpu_realtime_mask": r.RealtimeVCPUs,
		} {
			got, set, err := read()
			switch {
			case err != nil:
				mustName(t, err, key, mask)
			case set && (got.Empty() || !got.SubsetOf(all) || got.Len() == vcpus):
				t.Errorf("%s=%q of %d vCPUs is %v", key, mask, vcpus, got)
			}
		}
	})
}

// FuzzConstraints wants of every layout that is accepted that each vCPU and each MiB is in one cell.
func FuzzConstraints(f *testing.F) {
	f.Add(4, 1024, "2", "0-1", "2-3", "512", "512", "dedicated", "prefer")
	f.Add(4, 1024, "2", "0", "1-3", "256", "768", "mixed", "")
	f.Add(4, 1024, "1", "", "", "", "", "shared", "isolate")
	f.Add(4, 1024, "2", "0-1", "2-3", "-512", "1536", "", "")
	f.Add(3, 1000, "3", "0", "1", "1", "999", "", "")
	f.Fuzz(func(t *testing.T, vcpus, mib int, nodes, cpus0, cpus1, mem0, mem1, policy, threads string) {
		if vcpus < 1 || vcpus > 512 || mib < 1 {
			return
		}
		r := numa.Request{VCPUs: vcpus, MemoryMiB: mib, ExtraSpecs: map[string]string{
			"hw:numa_nodes": nodes, "hw:cpu_policy": policy, "hw:cpu_thread_policy": threads}}
		for key, value := range map[string]string{"hw:numa_cpus.0": cpus0, "hw:numa_cpus.1": cpus1, "hw:numa_mem.0": mem0, "hw:numa_mem.1": mem1} {
			if value != "" {
				r.ExtraSpecs[key] = value
			}
		}
		guest, err := r.Constraints()
		if err != nil || guest == nil {
			return
		}
		var seen cpuset.Set
		memory := 0
		for i := range guest.Cells {
			c := &guest.Cells[i]
			if c.MemoryMiB < 1 {
				t.Errorf("%+v: a cell without memory", guest)
			}
			if seen.IntersectLen(c.VCPUs()) > 0 || c.Shared.IntersectLen(c.Dedicated) > 0 {
				t.Errorf("%+v: a vCPU in two places", guest)
			}
			seen = seen.Union(c.VCPUs())
			memory += c.MemoryMiB
		}
		if !seen.Equal(cpuset.Range(0, vcpus-1)) || memory != mib {
			t.Errorf("%d vCPUs and %d MiB laid out as %+v", vcpus, mib, guest)
		}
	})
}
