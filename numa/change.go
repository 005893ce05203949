package numa

import (
	"cmp"

	"maps"
	"slices"
	"strconv"
	"strings"
)

// Change is one thing to do otherwise.
type Change struct {
	Setting string // an extra spec, "vCPUs" or "memory"; empty for a guest to move
	Value   string
	Move    string // the guest to move to another host
}

// String names the setting and its value, or the guest: "hw:numa_nodes=2", "12 vCPUs", "guest X moved away".
func (c Change) String() string {
	switch c.Setting {
	case "":
		return "guest " + c.Move + " moved away"
	case "vCPUs":
		if c.Value == "1" {
			return "1 vCPU"
		}
		return c.Value + " vCPUs"
	case "memory":
		return c.Value + " MiB of memory"
	}
	return c.Setting + "=" + c.Value
}

// Placed is a guest on a host, as Fit has placed it.
type Placed struct {
	ID    string
	Guest Guest
}

// vcpus and memory are the guest's size.
func (p Placed) vcpus() (n int) {
	for i := range p.Guest.Cells {
		n += p.Guest.Cells[i].VCPUs().Len()
	}
	return n
}

func (p Placed) memory() (mib int) {
	for _, c := range p.Guest.Cells {
		mib += c.MemoryMiB
	}
	return mib
}

// changes lists the single changes that let the guest in: first those that leave it its size, then the smallest
// guest to move, then the least that it would have to give up, and last its own pCPUs.
func changes(host Host, r Request, opt Options, others []Placed) []Change {
	t := trial{host, r, opt}
	list := slices.Concat(t.threads(), t.pageSizes(), t.nodes(), t.devices())
	list = append(list, t.moves(others)...)
	list = append(list, t.smaller()...)
	return append(list, t.with("hw:cpu_policy", PolicyShared)...)
}

// trial tries changed requests on a host.
type trial struct {
	host Host
	r    Request
	opt  Options
}

// fits says whether a request is right and fits.
func (t trial) fits(r Request) bool {
	guest, err := r.Constraints()
	if err != nil || guest == nil {
		return false
	}
	_, ok := Fit(t.host, *guest, t.opt)
	return ok
}

// changed is the request with one setting of the flavor replaced, and what the image says of it, and what
// depends on it, taken away.
func (r Request) changed(key, value string) Request {
	r.ExtraSpecs, r.Properties = maps.Clone(r.ExtraSpecs), maps.Clone(r.Properties)
	if r.ExtraSpecs == nil {
		r.ExtraSpecs = map[string]string{}
	}
	drop := func(key string) {
		delete(r.ExtraSpecs, key)
		delete(r.Properties, strings.Replace(key, "hw:", "hw_", 1))
		delete(r.Properties, key) // traits are spelled alike in both
	}
	drop(key)
	switch key {
	case "hw:cpu_thread_policy":
		drop("trait:HW_CPU_HYPERTHREADING")
	case "hw:numa_nodes":
		isPerNode := func(key, _ string) bool {
			return strings.Contains(key, "numa_cpus.") || strings.Contains(key, "numa_mem.")
		}
		maps.DeleteFunc(r.ExtraSpecs, isPerNode)
		maps.DeleteFunc(r.Properties, isPerNode)
	case "hw:cpu_policy":
		for _, k := range []string{"hw:cpu_thread_policy", "hw:cpu_dedicated_mask", "hw:cpu_realtime", "hw:cpu_realtime_mask",
			"hw:emulator_threads_policy", "resources:PCPU", "resources:VCPU", "trait:HW_CPU_HYPERTHREADING"} {
			drop(k)
		}
		if n, err := r.Nodes(); err == nil && n == 0 {
			r.ExtraSpecs["hw:numa_nodes"] = "1" // the cell that a dedicated guest has unasked
		}
	}
	r.ExtraSpecs[key] = value
	return r
}

// with is the change of one setting, if that helps.
func (t trial) with(key, value string) []Change {
	if t.r.ExtraSpecs[key] == value || !t.fits(t.r.changed(key, value)) {
		return nil
	}
	return []Change{{Setting: key, Value: value}}
}

// threads gives up where the vCPUs' siblings and the emulator's threads are.
func (t trial) threads() []Change {
	list := t.with("hw:cpu_thread_policy", ThreadsPrefer)
	if t.r.ExtraSpecs["hw:emulator_threads_policy"] == EmulatorIsolate {
		list = append(list, t.with("hw:emulator_threads_policy", EmulatorShare)...)
	}
	return list
}

// pageSizes tries the other sizes that the host has, the largest first.
func (t trial) pageSizes() (list []Change) {
	var sizes []int
	for i := range t.host.Cells {
		for _, p := range t.host.Cells[i].Pages {
			sizes = append(sizes, p.SizeKiB)
		}
	}
	slices.Sort(sizes)
	for _, size := range slices.Backward(slices.Compact(sizes)) {
		list = append(list, t.with("hw:mem_page_size", strconv.Itoa(size))...)
	}
	return list
}

// nodes tries other numbers of cells, the nearest first.
func (t trial) nodes() (list []Change) {
	now := 1
	if n, err := t.r.Nodes(); err == nil && n > 0 {
		now = n
	}
	for n := range len(t.host.Cells) {
		if n+1 != now {
			list = append(list, t.with("hw:numa_nodes", strconv.Itoa(n+1))...)
		}
	}
	far := func(c Change) int {
		n, _ := strconv.Atoi(c.Value) // it was made of a number
		return max(n-now, now-n)
	}
	slices.SortStableFunc(list, func(a, b Change) int { return far(a) - far(b) })
	return list
}

// devices tries PCI devices from farther away.
func (t trial) devices() []Change {
	near, can := t.opt.PCI.(interface{ Farther() (Devices, Change) })
	if !can {
		return nil
	}
	far, change := near.Farther()
	if t.opt.PCI = far; !t.fits(t.r) {
		return nil
	}
	return []Change{change}
}

// moves finds the smallest guest whose place is enough.
func (t trial) moves(others []Placed) []Change {
	guest, err := t.r.Constraints()
	if err != nil || guest == nil {
		return nil
	}
	others = slices.Clone(others)
	slices.SortStableFunc(others, func(a, b Placed) int {
		return cmp.Or(cmp.Compare(a.vcpus(), b.vcpus()), cmp.Compare(a.memory(), b.memory()))
	})
	for _, o := range others {
		without, err := Free(t.host, o.Guest)
		if err != nil {
			continue // it is not where it is said to be
		}
		if _, ok := Fit(without, *guest, t.opt); ok {
			return []Change{{Move: o.ID}}
		}
	}
	return nil
}

// smaller finds the most vCPUs and the most memory that fit.
func (t trial) smaller() (list []Change) {
	for n := t.r.VCPUs - 1; n > 0; n-- {
		if t.fits(t.r.withVCPUs(n)) {
			list = append(list, Change{Setting: "vCPUs", Value: strconv.Itoa(n)})
			break
		}
	}
	step := t.memoryStep()
	low, high := 0, (t.r.MemoryMiB-1)/step // low fits, or is nothing; more than high is what was asked
	for low < high {
		middle := (low + high + 1) / 2
		if t.fits(t.r.withMemory(middle * step)) {
			low = middle
		} else {
			high = middle - 1
		}
	}
	if low > 0 {
		list = append(list, Change{Setting: "memory", Value: strconv.Itoa(low * step)})
	}
	return list
}

func (r Request) withVCPUs(n int) Request {
	if text, set := r.ExtraSpecs["resources:PCPU"]; set {
		r.ExtraSpecs = maps.Clone(r.ExtraSpecs)
		pcpus, _ := strconv.Atoi(strings.TrimSpace(text)) // Constraints has read it
		r.ExtraSpecs["resources:PCPU"] = strconv.Itoa(pcpus - r.VCPUs + n)
	}
	r.VCPUs = n
	return r
}

func (r Request) withMemory(mib int) Request {
	r.MemoryMiB = mib
	return r
}

// memoryStep is what memory can be given in, in MiB: whole pages in every cell.
func (t trial) memoryStep() int {
	nodes, err := t.r.Nodes()
	if err != nil {
		nodes = 1
	}
	page, err := t.r.PageSize()
	if err != nil || page < 1024 {
		page = 1024
	}
	return max(nodes, 1) * page / 1024
}
