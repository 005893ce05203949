package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"compute-agent/compute"
	"compute-agent/numa"
)

// Claims answers what a host has in use after each of a sequence of steps: a line {"id", "input"} with the host,
// instances and steps (audit, claim, active, abort, delete, shelve_offload). The answer is
// {"id", "output"}, a record for each step with Nova's ComputeNode fields. The rule is Nova's: a
// claim fails only when its NUMA cells do not fit; vCPUs, memory and disk are placement's to grant. See
// claims_zed.go for the release that it follows.
func Claims(line []byte) ([]byte, error) {
	return reply(line, (*claimsQuestion).answer)
}

type claimsQuestion struct {
	Host struct {
		VCPUs     int       `json:"vcpus"`
		MemoryMiB int       `json:"memory_mb"`
		DiskGiB   int       `json:"local_gb"`
		NUMA      *hostForm `json:"numa"`
	} `json:"host"`
	Conf         map[string]json.RawMessage `json:"conf"`
	Instances    []instanceForm             `json:"instances"`
	VolumeBacked []int                      `json:"volume_backed"`
	Steps        []claimStep                `json:"steps"`
}

type instanceForm struct {
	ID     int `json:"id"`
	Flavor struct {
		VCPUs        int               `json:"vcpus"`
		MemoryMiB    int               `json:"memory_mb"`
		RootGiB      int               `json:"root_gb"`
		EphemeralGiB int               `json:"ephemeral_gb"`
		SwapMiB      int               `json:"swap"`
		ExtraSpecs   map[string]string `json:"extra_specs"`
	} `json:"flavor"`
}

type claimStep struct {
	Op       string      `json:"op"`
	Instance int         `json:"instance"`
	Limits   *limitsForm `json:"limits"`
}

func (q *claimsQuestion) answer() ([]map[string]any, error) {
	size, err := q.size()
	if err != nil {
		return nil, err
	}
	t := tracker{question: q, node: compute.NewNodeRecord(size), shares: map[int]compute.NodeShare{}}
	t.begin()
	records := []map[string]any{}
	for i, step := range q.Steps {
		record, err := t.take(step)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
		records = append(records, record)
	}
	return records, nil
}

func (q *claimsQuestion) size() (size compute.NodeSize, err error) {
	size = compute.NodeSize{VCPUs: q.Host.VCPUs, MemoryMiB: q.Host.MemoryMiB, DiskGiB: q.Host.DiskGiB}
	if q.Host.NUMA != nil {
		host := q.Host.NUMA.host()
		size.NUMA = &host
	}
	for key, field := range map[string]*int{
		"reserved_host_cpus": &size.ReservedVCPUs, "reserved_host_memory_mb": &size.ReservedMemoryMiB, "reserved_host_disk_mb": &size.ReservedDiskMiB,
	} {
		if raw, set := q.option(key); set {
			if err := json.Unmarshal(raw, field); err != nil {
				return size, fmt.Errorf("conf: %s: %w", key, err)
			}
		}
	}
	return size, nil
}

// option finds a configuration key at the top or in the section DEFAULT.
func (q *claimsQuestion) option(key string) (json.RawMessage, bool) {
	var section map[string]json.RawMessage
	if raw, set := q.Conf["DEFAULT"]; set && json.Unmarshal(raw, &section) == nil {
		if raw, set := section[key]; set {
			return raw, true
		}
	}
	raw, set := q.Conf[key]
	return raw, set
}

// tracker plays the steps.
type tracker struct {
	question *claimsQuestion
	node     *compute.NodeRecord
	shares   map[int]compute.NodeShare // of the instances on the host
	order    []int                     // in which they came
	threads  threadOrder
}

// begin is the host as its driver reports it, at the start and at each audit.
func (t *tracker) begin() {
	if t.node.NUMA != nil {
		t.threads = newThreadOrder(*t.node.NUMA)
	}
}

// stored follows a change of the host's use by a guest.
func (t *tracker) stored(share compute.NodeShare) {
	if share.NUMA != nil {
		t.threads.stored()
	}
}

func (t *tracker) take(step claimStep) (map[string]any, error) {
	record := map[string]any{"op": step.Op}
	share, here := t.shares[step.Instance]
	switch {
	case step.Op == "audit":
		if err := t.audit(); err != nil {
			return nil, err
		}
	case step.Op == "claim":
		if err := t.claim(step, record); err != nil {
			return nil, err
		}
	case !slices.Contains([]string{"active", "abort", "delete", "shelve_offload"}, step.Op):
		return nil, fmt.Errorf("op %q is not known", step.Op)
	case !here:
		record["skipped"] = true
		return record, nil
	case step.Op == "active":
		share.VM = compute.Active
		if err := t.put(step.Instance, share); err != nil {
			return nil, err
		}
	default:
		if err := t.remove(step.Instance); err != nil {
			return nil, err
		}
	}
	record["state"] = stateForm(t.node)
	return record, nil
}

func (t *tracker) audit() error {
	t.begin()
	shares := make([]compute.NodeShare, len(t.order))
	for i, id := range t.order {
		shares[i] = t.shares[id]
		t.stored(shares[i])
	}
	return t.node.Audit(shares)
}

func (t *tracker) put(id int, share compute.NodeShare) error {
	if _, here := t.shares[id]; !here {
		t.order = append(t.order, id)
		t.stored(share)
	}
	t.shares[id] = share
	return t.node.Put(share)
}

func (t *tracker) remove(id int) error {
	t.stored(t.shares[id])
	delete(t.shares, id)
	t.order = slices.DeleteFunc(t.order, func(o int) bool { return o == id })
	return t.node.Remove(strconv.Itoa(id))
}

// claim places an instance and counts it, or leaves the reason why not in the record.
func (t *tracker) claim(step claimStep, record map[string]any) error {
	i := slices.IndexFunc(t.question.Instances, func(f instanceForm) bool { return f.ID == step.Instance })
	if i < 0 {
		return fmt.Errorf("instance %d is not known", step.Instance)
	}
	f := t.question.Instances[i].Flavor
	placed, refusal := t.place(numa.Request{VCPUs: f.VCPUs, MemoryMiB: f.MemoryMiB, ExtraSpecs: f.ExtraSpecs}, step.Limits)
	if refusal != nil {
		record["error"] = refusal
		return nil
	}
	record["instance_numa_topology"] = nil
	if placed != nil {
		record["instance_numa_topology"] = guestFormOf(*placed)
	}
	disk := f.EphemeralGiB + f.SwapMiB/1024
	if !slices.Contains(t.question.VolumeBacked, step.Instance) {
		disk += f.RootGiB
	}
	return t.put(step.Instance, compute.NodeShare{
		ServerID: strconv.Itoa(step.Instance), VCPUs: f.VCPUs, MemoryMiB: f.MemoryMiB, DiskGiB: disk, NUMA: placed,
		VM: compute.Building, OSType: "linux", ProjectID: "p1", // as the instances of the recording are
	})
}

// place fits a guest next to what is there. A host that does not tell its cells takes every guest,
// without cells.
func (t *tracker) place(r numa.Request, limits *limitsForm) (placed *numa.Guest, refusal any) {
	guest, err := r.Constraints()
	if err != nil {
		return nil, orError(nil, err).(map[string]any)["error"]
	}
	if guest == nil || t.node.NUMAUsed == nil {
		return nil, nil
	}
	fitted, ok := numa.Fit(zedMemory(*t.node.NUMAUsed, *guest), *guest, numa.Options{Limits: limits.limits()})
	if !ok {
		return nil, map[string]any{"class": "ComputeResourcesUnavailable", "nova": true,
			"message": "Insufficient compute resources: Requested instance NUMA topology cannot fit the given host NUMA topology."}
	}
	t.threads.pins(*t.node.NUMAUsed, &fitted)
	return &fitted, nil
}

// stateForm is the node in the names of Nova's ComputeNode object.
func stateForm(n *compute.NodeRecord) map[string]any {
	state := map[string]any{
		"vcpus": n.VCPUs, "vcpus_used": n.VCPUsUsed,
		"memory_mb": n.MemoryMiB, "memory_mb_used": n.MemoryMiBUsed, "free_ram_mb": n.MemoryMiB - n.MemoryMiBUsed,
		"local_gb": n.DiskGiB, "local_gb_used": n.DiskGiBUsed, "free_disk_gb": n.DiskGiB - n.DiskGiBUsed,
		"running_vms": n.RunningVMs(), "current_workload": n.Workload(), "stats": n.Stats(), "numa_topology": nil,
	}
	if n.NUMAUsed != nil {
		state["numa_topology"] = hostFormOf(*n.NUMAUsed)
	}
	return state
}
