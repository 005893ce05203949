package numa

import (
	"slices"
	"strconv"
	"strings"
)

// Request is what a user asks for: a flavor and an image.
type Request struct {
	VCPUs      int
	MemoryMiB  int
	ExtraSpecs map[string]string // of the flavor, "hw:..."
	Properties map[string]string // of the image, "hw_..."
}

// pair returns a setting as the flavor and as the image have it, and whether each has it. key is
// without its prefix: cpu_policy is hw:cpu_policy and hw_cpu_policy.
func (r Request) pair(key string) (flavor, image string) {
	return r.ExtraSpecs["hw:"+key], r.Properties["hw_"+key]
}

// words that mean true, as oslo.utils has them; everything else is false.
var trueWords = []string{"1", "t", "true", "on", "y", "yes"}

func isTrue(s string) bool { return slices.Contains(trueWords, strings.ToLower(strings.TrimSpace(s))) }

// choice reads a setting that is one of a few words, from the flavor or the image. class is the
// error's class for a word that is none of them.
func (r Request) choice(key, class string, allowed ...string) (flavor, image string, err error) {
	flavor, image = r.pair(key)
	if flavor != "" && !slices.Contains(allowed, flavor) {
		return "", "", failed(class, "hw:"+key, flavor, "must be one of %s", strings.Join(allowed, ", "))
	}
	if image != "" && !slices.Contains(allowed, image) {
		return "", "", failed(class, "hw_"+key, image, "must be one of %s", strings.Join(allowed, ", "))
	}
	return flavor, image, nil
}

// CPUPolicy reads hw:cpu_policy: shared, dedicated, mixed or empty. The image may name a policy where
// the flavor has none, or repeat it; dedicated flavors overrule it.
func (r Request) CPUPolicy() (string, error) {
	flavor, image, err := r.choice("cpu_policy", "InvalidCPUAllocationPolicy", PolicyDedicated, PolicyShared, PolicyMixed)
	if err != nil {
		return "", err
	}
	forbidden := flavor == PolicyMixed && image == PolicyDedicated ||
		flavor == PolicyShared && (image == PolicyDedicated || image == PolicyMixed)
	if forbidden {
		return "", failed("ImageCPUPinningForbidden", "hw_cpu_policy", image, "the image may not override hw:cpu_policy=%s of the flavor", flavor)
	}
	if flavor != "" {
		return flavor, nil
	}
	return image, nil
}

// ThreadPolicy reads hw:cpu_thread_policy: prefer, isolate, require or empty. The image may
// name one where the flavor has none or prefers.
func (r Request) ThreadPolicy() (string, error) {
	flavor, image, err := r.choice("cpu_thread_policy", "InvalidCPUThreadAllocationPolicy", ThreadsPrefer, ThreadsIsolate, ThreadsRequire)
	switch {
	case err != nil:
		return "", err
	case flavor == "" || flavor == ThreadsPrefer:
		if image != "" {
			return image, nil
		}
		return flavor, nil
	case image != "" && image != flavor:
		return "", failed("ImageCPUThreadPolicyForbidden", "hw_cpu_thread_policy", image,
			"the image may not override hw:cpu_thread_policy=%s of the flavor", flavor)
	}
	return flavor, nil
}

// EmulatorThreads reads hw:emulator_threads_policy: share, isolate or empty.
func (r Request) EmulatorThreads() (string, error) {
	policy := r.ExtraSpecs["hw:emulator_threads_policy"]
	switch policy {
	case "", EmulatorShare, EmulatorIsolate:
		return policy, nil
	}
	return "", failed("InvalidEmulatorThreadsPolicy", "hw:emulator_threads_policy", policy, "must be one of share, isolate")
}

// Nodes reads hw:numa_nodes: how many cells the guest has; 0 if nothing is said.
func (r Request) Nodes() (int, error) {
	key, value, err := r.either("numa_nodes")
	if err != nil || key == "" {
		return 0, err
	}
	n, convErr := strconv.Atoi(strings.TrimSpace(value))
	if convErr != nil || n < 1 {
		return 0, failed("InvalidNUMANodesNumber", key, value, "must be a number greater than 0")
	}
	return n, nil
}

// either reads a setting that the flavor or the image may have, but not both.
func (r Request) either(key string) (name, value string, err error) {
	flavor, inFlavor := r.ExtraSpecs["hw:"+key]
	image, inImage := r.Properties["hw_"+key]
	switch {
	case inFlavor && inImage:
		return "", "", failed("ImageNUMATopologyForbidden", "hw_"+key, image, "the image may not override the flavor's NUMA configuration")
	case inFlavor:
		return "hw:" + key, flavor, nil
	case inImage:
		return "hw_" + key, image, nil
	}
	return "", "", nil
}

// perNode reads the settings key.0, key.1, ... up to the first that is missing.
func perNode(settings map[string]string, prefix string) []string {
	var values []string
	for {
		v, ok := settings[prefix+"."+strconv.Itoa(len(values))]
		if !ok {
			return values
		}
		values = append(values, v)
	}
}

// nodeValues reads a per-node setting from the flavor or the image, but not from both.
func (r Request) nodeValues(key string) (name string, values []string, err error) {
	flavor := perNode(r.ExtraSpecs, "hw:"+key)
	image := perNode(r.Properties, "hw_"+key)
	switch {
	case flavor != nil && image != nil:
		return "", nil, failed("ImageNUMATopologyForbidden", "hw_"+key, "", "the image may not override the flavor's NUMA configuration")
	case flavor != nil:
		return "hw:" + key, flavor, nil
	}
	return "hw_" + key, image, nil
}
