package numa

import (
	"slices"
	"strconv"
)

// CPUTopology is sockets, cores per socket and threads per core of a guest. Zero means no wish.
type CPUTopology struct {
	Sockets, Cores, Threads int
}

// noLimit stands where neither the flavor nor the image limits a part of the topology. Nova's number.
const noLimit = 65536

// TopologyLimits reads hw:cpu_sockets, hw:cpu_cores, hw:cpu_threads and their hw:cpu_max_ forms: what
// is preferred and what may not be exceeded. The image may lower the flavor's limits, and its
// preferences replace the flavor's as a whole.
func (r Request) TopologyLimits() (preferred, limit CPUTopology, err error) {
	flavorMax, err := topologyOf(r.ExtraSpecs, "hw:cpu_max_")
	if err != nil {
		return preferred, limit, err
	}
	imageMax, err := topologyOf(r.Properties, "hw_cpu_max_")
	if err != nil {
		return preferred, limit, err
	}
	if part, value, most := excess(imageMax, flavorMax); part != "" {
		return preferred, limit, failed("ImageVCPULimitsRangeExceeded", "hw_cpu_max_"+part, strconv.Itoa(value), "the flavor's limit is %d", most)
	}
	limit = firstSet(imageMax, flavorMax, CPUTopology{noLimit, noLimit, noLimit})
	flavor, err := topologyOf(r.ExtraSpecs, "hw:cpu_")
	if err != nil {
		return preferred, limit, err
	}
	image, err := topologyOf(r.Properties, "hw_cpu_")
	if err != nil {
		return preferred, limit, err
	}
	if part, value, most := excess(image, limit); part != "" {
		return preferred, limit, failed("ImageVCPUTopologyRangeExceeded", "hw_cpu_"+part, strconv.Itoa(value), "the limit of flavor and image is %d", most)
	}
	preferred = flavor
	if part, _, _ := excess(flavor, limit); part != "" {
		preferred = CPUTopology{} // the image narrowed the limits below the flavor's wish
	}
	if image != (CPUTopology{}) {
		preferred = image
	}
	return preferred, limit, nil
}

func topologyOf(settings map[string]string, prefix string) (t CPUTopology, err error) {
	for name, field := range map[string]*int{"sockets": &t.Sockets, "cores": &t.Cores, "threads": &t.Threads} {
		text, set := settings[prefix+name]
		if !set {
			continue
		}
		n, convErr := strconv.Atoi(text)
		if convErr != nil {
			return t, failed("InvalidRequest", prefix+name, text, "must be a whole number")
		}
		*field = n
	}
	return t, nil
}

// excess is the first part of a topology that is above the same part of a limit, where that has one; empty for none.
func excess(a, limit CPUTopology) (part string, value, most int) {
	for _, p := range []struct {
		name        string
		value, most int
	}{
		{"sockets", a.Sockets, limit.Sockets}, {"cores", a.Cores, limit.Cores}, {"threads", a.Threads, limit.Threads},
	} {
		if p.most > 0 && p.value > p.most {
			return p.name, p.value, p.most
		}
	}
	return "", 0, 0
}

// firstSet takes each part from the first topology that has it.
func firstSet(of ...CPUTopology) CPUTopology {
	var t CPUTopology
	for _, o := range slices.Backward(of) {
		if o.Sockets > 0 {
			t.Sockets = o.Sockets
		}
		if o.Cores > 0 {
			t.Cores = o.Cores
		}
		if o.Threads > 0 {
			t.Threads = o.Threads
		}
	}
	return t
}

// Topologies lists every topology that multiplies to the guest's vCPUs within its limits, best first:
// those that meet most of its preferences, then fewer threads, then more sockets. Without
// allowThreads every core has one thread.
func (r Request) Topologies(allowThreads bool) ([]CPUTopology, error) {
	preferred, limit, err := r.TopologyLimits()
	if err != nil {
		return nil, err
	}
	if !allowThreads {
		limit.Threads = 1
	}
	possible := possibleTopologies(r.VCPUs, limit)
	if len(possible) == 0 {
		return nil, failed("ImageVCPULimitsRangeImpossible", "hw:cpu_max_*", "", "no topology within %v gives %d vCPUs", limit, r.VCPUs)
	}
	slices.SortStableFunc(possible, func(a, b CPUTopology) int { return met(b, preferred) - met(a, preferred) })
	return possible, nil
}

func possibleTopologies(vcpus int, limit CPUTopology) []CPUTopology {
	var list []CPUTopology
	for threads := 1; threads <= min(vcpus, limit.Threads); threads++ {
		if vcpus%threads != 0 {
			continue
		}
		for sockets := min(vcpus, limit.Sockets); sockets >= 1; sockets-- {
			if vcpus%(threads*sockets) != 0 {
				continue
			}
			if cores := vcpus / (threads * sockets); cores <= limit.Cores {
				list = append(list, CPUTopology{sockets, cores, threads})
			}
		}
	}
	return list
}

// met counts the preferences that a topology meets.
func met(t, preferred CPUTopology) int {
	n := 0
	for _, p := range [][2]int{{t.Sockets, preferred.Sockets}, {t.Cores, preferred.Cores}, {t.Threads, preferred.Threads}} {
		if p[1] > 0 && p[0] == p[1] {
			n++
		}
	}
	return n
}
