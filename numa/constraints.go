package numa

import (
	"slices"
	"strconv"
	"strings"

	"compute-agent/internal/cpuset"
)

// Constraints turns a flavor and an image into the NUMA layout that the guest asks for; nil when it
// asks for none and the host may place it anywhere. The rules and their precedence are Nova's
// (nova.virt.hardware.numa_get_constraints of the 2026 master).
func (r Request) Constraints() (*Guest, error) {
	cpu, err := r.cpuConstraints()
	if err != nil {
		return nil, err
	}
	guest, err := r.cells(cpu.policy)
	if err != nil {
		return nil, err
	}
	if guest == nil {
		return nil, nil
	}
	for i := range guest.Cells {
		cpu.apply(&guest.Cells[i])
	}
	guest.EmulatorThreads = cpu.emulator
	return guest, nil
}

// cpuRules is what a guest asks of the CPUs that it runs on.
type cpuRules struct {
	policy, threads, emulator string
	dedicated                 cpuset.Set // of a mixed guest
}

// apply writes the rules into a cell whose vCPUs all float so far.
func (c cpuRules) apply(cell *GuestCell) {
	cell.CPUPolicy, cell.ThreadPolicy = c.policy, c.threads
	switch c.policy {
	case PolicyDedicated:
		cell.Dedicated, cell.Shared = cell.Shared, cpuset.Set{}
	case PolicyMixed:
		all := cell.Shared
		cell.Dedicated, cell.Shared = all.Intersect(c.dedicated), all.Minus(c.dedicated)
	}
}

func (r Request) cpuConstraints() (rules cpuRules, err error) {
	if rules.policy, err = r.CPUPolicy(); err != nil {
		return rules, err
	}
	if rules.threads, err = r.ThreadPolicy(); err != nil {
		return rules, err
	}
	realtime, isRealtime, err := r.RealtimeVCPUs()
	if err != nil {
		return rules, err
	}
	dedicated, hasMask, err := r.DedicatedVCPUs()
	if err != nil {
		return rules, err
	}
	if rules.emulator, err = r.EmulatorThreads(); err != nil {
		return rules, err
	}
	if rules.policy, err = r.policyOfResources(rules); err != nil {
		return rules, err
	}
	if rules.threads, err = r.threadsOfTrait(rules.threads); err != nil {
		return rules, err
	}
	rules.dedicated = dedicated
	if !hasMask {
		rules.dedicated = realtime
	}
	return rules, rules.check(hasMask, isRealtime)
}

// check refuses settings that contradict the CPU policy.
func (c cpuRules) check(hasMask, isRealtime bool) error {
	switch c.policy {
	case PolicyShared, "":
		switch {
		case c.threads != "":
			return failed("CPUThreadPolicyConfigurationInvalid", "hw:cpu_thread_policy", c.threads, "needs hw:cpu_policy=dedicated or mixed")
		case c.emulator == EmulatorIsolate:
			return failed("BadRequirementEmulatorThreadsPolicy", "hw:emulator_threads_policy", c.emulator, "needs hw:cpu_policy=dedicated or mixed")
		case isRealtime:
			return failed("RealtimeConfigurationInvalid", "hw:cpu_realtime", "", "needs hw:cpu_policy=dedicated or mixed")
		case hasMask:
			return failed("RequiredMixedInstancePolicy", "hw:cpu_dedicated_mask", "", "needs hw:cpu_policy=mixed")
		}
	case PolicyDedicated:
		if hasMask {
			return failed("RequiredMixedInstancePolicy", "hw:cpu_dedicated_mask", "", "needs hw:cpu_policy=mixed")
		}
	case PolicyMixed:
		if hasMask == isRealtime {
			return failed("RequiredMixedOrRealtimeCPUMask", "hw:cpu_dedicated_mask", "",
				"hw:cpu_policy=mixed needs exactly one of hw:cpu_dedicated_mask and hw:cpu_realtime with its mask")
		}
	}
	return nil
}

// policyOfResources honours resources:PCPU and resources:VCPU, the other way to ask for a policy.
func (r Request) policyOfResources(rules cpuRules) (string, error) {
	vcpus, err := r.resource("resources:VCPU")
	if err != nil {
		return "", err
	}
	pcpus, err := r.resource("resources:PCPU")
	if err != nil {
		return "", err
	}
	refuse := func(key, rule string) error { return failed("InvalidRequest", key, "", "%s", rule) }
	switch {
	case vcpus == 0 && pcpus == 0:
		return rules.policy, nil
	case rules.policy != "":
		return "", refuse("hw:cpu_policy", "cannot be combined with resources:VCPU or resources:PCPU")
	case vcpus > 0 && pcpus > 0:
		return "", refuse("resources:PCPU", "cannot be combined with resources:VCPU")
	case vcpus > 0:
		return PolicyShared, nil
	case rules.emulator == EmulatorIsolate && pcpus != r.VCPUs+1:
		return "", refuse("resources:PCPU", "must be the flavor's vCPUs and one more, for hw:emulator_threads_policy=isolate")
	case rules.emulator != EmulatorIsolate && pcpus != r.VCPUs:
		return "", refuse("resources:PCPU", "must be the flavor's vCPUs")
	}
	return PolicyDedicated, nil
}

func (r Request) resource(key string) (int, error) {
	text, set := r.ExtraSpecs[key]
	if !set {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 0 {
		return 0, failed("InvalidRequest", key, text, "must be a whole number")
	}
	return n, nil
}

// threadsOfTrait honours the trait HW_CPU_HYPERTHREADING, the other way to ask for a thread policy.
func (r Request) threadsOfTrait(policy string) (string, error) {
	const trait = "trait:HW_CPU_HYPERTHREADING"
	word := r.ExtraSpecs[trait]
	if word == "" {
		word = r.Properties[trait]
	}
	if word == "" {
		return policy, nil
	}
	if policy != "" {
		return "", failed("InvalidRequest", trait, word, "cannot be combined with hw:cpu_thread_policy")
	}
	switch word {
	case "forbidden":
		return ThreadsIsolate, nil
	case "required":
		return ThreadsRequire, nil
	}
	return policy, nil
}

// cells lays out the guest's cells, every vCPU floating; nil when nothing asks for cells. Dedicated
// vCPUs do: they are accounted per host cell.
func (r Request) cells(policy string) (*Guest, error) {
	nodes, err := r.Nodes()
	if err != nil {
		return nil, err
	}
	page, err := r.PageSize()
	if err != nil {
		return nil, err
	}
	if _, _, err := r.LockedMemory(); err != nil {
		return nil, err
	}
	dedicated := policy == PolicyDedicated || policy == PolicyMixed
	if nodes == 0 && page == 0 && !dedicated && r.ExtraSpecs["hw:pmem"] == "" {
		return nil, nil
	}
	guest, err := r.layOut(max(nodes, 1))
	if err != nil {
		return nil, err
	}
	for i := range guest.Cells {
		guest.Cells[i].PageKiB = page
	}
	return guest, nil
}

func (r Request) layOut(nodes int) (*Guest, error) {
	cpus, err := r.NodeVCPUs()
	if err != nil {
		return nil, err
	}
	mem, err := r.NodeMemory()
	if err != nil {
		return nil, err
	}
	if cpus == nil && mem == nil {
		return r.layOutEvenly(nodes)
	}
	if len(cpus) != nodes || len(mem) != nodes {
		return nil, failed("ImageNUMATopologyIncomplete", "hw:numa_nodes", strconv.Itoa(nodes), "each node needs hw:numa_cpus.N and hw:numa_mem.N")
	}
	cells := make([]GuestCell, nodes)
	for i := range cells {
		cells[i] = GuestCell{ID: i, Shared: cpus[i], MemoryMiB: mem[i]}
	}
	return &Guest{Cells: cells}, r.checkLayout(cells)
}

func (r Request) layOutEvenly(nodes int) (*Guest, error) {
	if r.VCPUs%nodes != 0 || r.MemoryMiB%nodes != 0 {
		return nil, failed("ImageNUMATopologyAsymmetric", "hw:numa_nodes", strconv.Itoa(nodes),
			"%d vCPUs and %d MiB cannot be spread evenly; hw:numa_cpus.N and hw:numa_mem.N must say how", r.VCPUs, r.MemoryMiB)
	}
	cells := make([]GuestCell, nodes)
	share := r.VCPUs / nodes
	for i := range cells {
		cells[i] = GuestCell{ID: i, Shared: cpuset.Range(i*share, (i+1)*share-1), MemoryMiB: r.MemoryMiB / nodes}
	}
	return &Guest{Cells: cells}, nil
}

func nodeKey(key string, i int) string { return key + "." + strconv.Itoa(i) }

// checkLayout refuses a layout that does not give every vCPU and every MiB to one cell.
func (r Request) checkLayout(cells []GuestCell) error {
	var seen cpuset.Set
	memory := 0
	for i, cell := range cells {
		key, text := nodeKey("hw:numa_cpus", i), cell.Shared.String()
		if !cell.Shared.SubsetOf(r.vcpus()) {
			return failed("ImageNUMATopologyCPUOutOfRange", key, text, "the highest vCPU is %d", r.VCPUs-1)
		}
		if twice := seen.Intersect(cell.Shared); !twice.Empty() {
			return failed("ImageNUMATopologyCPUDuplicates", key, text, "vCPU %d is in two nodes", twice.First())
		}
		seen = seen.Union(cell.Shared)
		memory += cell.MemoryMiB
	}
	if missing := r.vcpus().Minus(seen); !missing.Empty() {
		return failed("ImageNUMATopologyCPUsUnassigned", "hw:numa_cpus.N", "", "vCPU %v is in no node", missing)
	}
	if memory != r.MemoryMiB {
		return failed("ImageNUMATopologyMemoryOutOfRange", "hw:numa_mem.N", "", "the nodes have %d MiB, the flavor %d", memory, r.MemoryMiB)
	}
	return nil
}

// NodeVCPUs reads hw:numa_cpus.N; nil if nothing is said.
func (r Request) NodeVCPUs() ([]cpuset.Set, error) {
	key, values, err := r.nodeValues("numa_cpus")
	if err != nil || values == nil {
		return nil, err
	}
	sets := make([]cpuset.Set, len(values))
	for i, text := range values {
		if sets[i], err = cpuset.Parse(text); err != nil {
			return nil, failed("Invalid", nodeKey(key, i), text, "%v", err)
		}
	}
	return sets, nil
}

// NodeMemory reads hw:numa_mem.N in MiB; nil if nothing is said.
func (r Request) NodeMemory() ([]int, error) {
	key, values, err := r.nodeValues("numa_mem")
	if err != nil || values == nil {
		return nil, err
	}
	mib := make([]int, len(values))
	for i, text := range values {
		n, convErr := strconv.Atoi(strings.TrimSpace(text))
		if convErr != nil || n < 1 {
			return nil, failed("Invalid", nodeKey(key, i), text, "must be a number of MiB, at least 1")
		}
		mib[i] = n
	}
	return slices.Clip(mib), nil
}
