package numa

import (
	"fmt"
	"strings"

	"compute-agent/internal/cpuset"
)

// DedicatedVCPUs reads hw:cpu_dedicated_mask: the vCPUs of a mixed guest that are pinned. set is false
// when there is no mask.
func (r Request) DedicatedVCPUs() (vcpus cpuset.Set, set bool, err error) {
	mask := r.ExtraSpecs["hw:cpu_dedicated_mask"]
	if mask == "" {
		return cpuset.Set{}, false, nil
	}
	vcpus, err = r.parseMask("hw:cpu_dedicated_mask", mask)
	if err != nil {
		return cpuset.Set{}, false, err
	}
	if vcpus.Empty() || !vcpus.SubsetOf(r.vcpus()) || vcpus.Len() == r.VCPUs {
		return cpuset.Set{}, false, failed("InvalidMixedInstanceDedicatedMask", "hw:cpu_dedicated_mask", mask,
			"must leave at least one of the %d vCPUs pinned and one unpinned, and name no other", r.VCPUs)
	}
	return vcpus, true, nil
}

// RealtimeVCPUs reads hw:cpu_realtime and the mask that goes with it: the vCPUs that run in real time.
// The image's mask is preferred to the flavor's. set is false when the flavor does not ask for it.
func (r Request) RealtimeVCPUs() (vcpus cpuset.Set, set bool, err error) {
	if !isTrue(r.ExtraSpecs["hw:cpu_realtime"]) {
		return cpuset.Set{}, false, nil
	}
	emulator, err := r.EmulatorThreads()
	if err != nil {
		return cpuset.Set{}, false, err
	}
	key, mask := "hw_cpu_realtime_mask", r.Properties["hw_cpu_realtime_mask"]
	if mask == "" {
		key, mask = "hw:cpu_realtime_mask", r.ExtraSpecs["hw:cpu_realtime_mask"]
	}
	vcpus = r.vcpus()
	if mask != "" {
		if vcpus, err = r.parseMask(key, mask); err != nil {
			return cpuset.Set{}, false, err
		}
	}
	wrong := func(rule string) error { return failed("RealtimeMaskNotFoundOrInvalid", key, mask, "%s", rule) }
	switch {
	case vcpus.Empty():
		return cpuset.Set{}, false, wrong("leaves no vCPU in real time")
	case !vcpus.SubsetOf(r.vcpus()):
		return cpuset.Set{}, false, wrong(fmt.Sprintf("names a vCPU that is not among the guest's %d", r.VCPUs))
	case vcpus.Len() == r.VCPUs && emulator == "":
		return cpuset.Set{}, false, wrong("must leave at least one vCPU out, or hw:emulator_threads_policy must move the emulator away")
	}
	return vcpus, true, nil
}

func (r Request) vcpus() cpuset.Set { return cpuset.Range(0, r.VCPUs-1) }

// parseMask reads a mask of vCPUs; one that begins with ^ takes away from all the guest's vCPUs.
func (r Request) parseMask(key, mask string) (cpuset.Set, error) {
	text := strings.TrimSpace(mask)
	if strings.HasPrefix(text, "^") {
		text = fmt.Sprintf("0-%d,%s", r.VCPUs-1, text)
	}
	set, err := cpuset.Parse(text)
	if err != nil {
		return cpuset.Set{}, failed("Invalid", key, mask, "%v", err)
	}
	return set, nil
}
