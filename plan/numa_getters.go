package plan

import (
	"compute-agent/hwprops"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
)

// getters reports each setting by itself, as the flavor and the image give it.
func (q *numaQuestion) getters(all bool) map[string]any {
	r := q.request()
	g := map[string]any{}
	put := func(key string, v any, set bool, err error) {
		if !set {
			v = nil
		}
		g[key] = orError(v, err)
	}
	str := func(key string, v string, err error) { put(key, v, v != "", err) }
	num := func(key string, v int, err error) { put(key, v, v != 0, err) }
	set := func(key string, v cpuset.Set, ok bool, err error) { put(key, v, ok, err) }

	policy, err := r.CPUPolicy()
	str("cpu_policy", policy, err)
	threads, err := r.ThreadPolicy()
	str("cpu_thread_policy", threads, err)
	emulator, err := r.EmulatorThreads()
	str("emulator_threads_policy", emulator, err)
	nodes, err := r.Nodes()
	num("numa_nodes", nodes, err)
	page, err := r.PageSize()
	num("pagesize", page, err)
	cpus, err := r.NodeVCPUs()
	put("numa_cpus", cpus, cpus != nil, err)
	mem, err := r.NodeMemory()
	put("numa_mem", mem, mem != nil, err)
	dedicated, ok, err := r.DedicatedVCPUs()
	set("dedicated_cpus", dedicated, ok, err)
	realtime, ok, err := r.RealtimeVCPUs()
	set("realtime_cpus", realtime, ok, err)
	locked, ok, err := r.LockedMemory()
	put("locked_memory", locked, ok, err)
	preferred, limit, err := r.TopologyLimits()
	put("cpu_topology_constraints", []any{topologyForm(preferred), topologyForm(limit)}, true, err)
	q.topologies(g, all)
	if all {
		q.devices(put)
	}
	return g
}

// devices reports the settings of the guest's devices and firmware.
func (q *numaQuestion) devices(put func(key string, v any, set bool, err error)) {
	s := hwprops.Source{ExtraSpecs: q.Flavor.ExtraSpecs, Properties: q.Properties}
	secure, err := s.SecureBoot()
	put("secure_boot", secure, secure != "", err)
	format, err := s.EphemeralEncryptionFormat()
	put("ephemeral_encryption_format", format, format != "", err)
	affinity, err := s.PCIAffinity()
	put("pci_numa_policy", affinity, affinity != "", err)
	ports, err := s.SerialPorts()
	put("serial_ports", ports, true, err)
	tpm, err := s.TPM()
	put("vtpm", tpmForm(tpm), tpm != nil, err)
	encryption, ok, err := s.Bool("ephemeral_encryption")
	put("ephemeral_encryption", encryption, ok, err)
	pmu, ok, err := s.Bool("pmu")
	put("pmu", pmu, ok, err)
	multiqueue, _, err := s.Bool("vif_multiqueue_enabled")
	put("vif_multiqueue", multiqueue, true, err)
	encrypted, err := q.request().MemoryEncryption()
	put("mem_encryption", encrypted, true, err)
	put("vpmems", s.PersistentMemory(), true, nil)
	put("hw_rescue_props", s.StableRescue(), true, nil)
}

func tpmForm(t *hwprops.TPM) any {
	if t == nil {
		return nil
	}
	return map[string]string{"model": t.Model, "version": t.Version}
}

func (q *numaQuestion) topologies(g map[string]any, all bool) {
	r := q.request()
	list, err := r.Topologies(true)
	g["best_cpu_topology"] = firstTopology(list, err)
	if all {
		forms := make([]any, len(list))
		for i, t := range list {
			forms[i] = topologyForm(t)
		}
		g["desirable_cpu_topologies"] = orError(forms, err)
	}
	list, err = r.Topologies(false)
	g["best_cpu_topology_nothreads"] = firstTopology(list, err)
}

func firstTopology(list []numa.CPUTopology, err error) any {
	if err != nil {
		return orError(nil, err)
	}
	return topologyForm(list[0])
}

func topologyForm(t numa.CPUTopology) map[string]int {
	return map[string]int{"sockets": t.Sockets, "cores": t.Cores, "threads": t.Threads}
}
