package compute

import (
	"errors"
	"fmt"
	"strconv"

	"compute-agent/numa"
)

// NodeRecord is the host in the terms of Nova's ComputeNode object: what its scheduler, its hypervisor API
// and its operators' tools read. It counts, and it never refuses: in an OpenStack it is placement
// that grants vCPUs, memory and disk, and what it has granted must be counted even where it is
// too much. The ledger, which does refuse, is a different thing with a different owner: it guards
// this host's promises, and its sums are limits, not reports. Both count NUMA cells with package
// numa, which is why this is here and not in a leaf.
type NodeRecord struct {
	NodeSize
	VCPUsUsed, MemoryMiBUsed, DiskGiBUsed int
	NUMAUsed                              *numa.Host // NodeSize.NUMA with what is in use; nil as that

	shares map[string]NodeShare
	stats  map[string]int
}

// NodeSize is how large a host is and what it keeps for itself.
type NodeSize struct {
	VCPUs, MemoryMiB, DiskGiB int
	ReservedVCPUs             int // reserved_host_cpus
	ReservedMemoryMiB         int // reserved_host_memory_mb
	ReservedDiskMiB           int // reserved_host_disk_mb
	NUMA                      *numa.Host
}

// NodeShare is what one server takes of the host, and what its record says of it.
type NodeShare struct {
	ServerID                  string
	VCPUs, MemoryMiB, DiskGiB int
	NUMA                      *numa.Guest // as placed; nil for none
	VM                        VMState
	Task                      TaskState
	OSType                    string // empty for none
	ProjectID                 string
}

// NewNodeRecord returns a host that nothing is on.
func NewNodeRecord(size NodeSize) *NodeRecord {
	r := &NodeRecord{NodeSize: size}
	r.clear()
	return r
}

func (r *NodeRecord) clear() {
	r.VCPUsUsed, r.MemoryMiBUsed, r.DiskGiBUsed = r.ReservedVCPUs, r.ReservedMemoryMiB, r.ReservedDiskMiB/1024
	r.NUMAUsed, r.shares, r.stats = r.NUMA, map[string]NodeShare{}, map[string]int{}
}

// Audit counts everything anew. A share whose pCPUs cannot be counted, because another has them or the
// host has lost them, is counted for the rest, and is in the error.
func (r *NodeRecord) Audit(shares []NodeShare) error {
	r.clear()
	var wrong []error
	for _, s := range shares {
		wrong = append(wrong, r.Put(s))
	}
	return errors.Join(wrong...)
}

// Put counts a server, or, for one that is counted, its new states.
func (r *NodeRecord) Put(s NodeShare) error {
	old, known := r.shares[s.ServerID]
	if known {
		r.count(old, -1)
		r.shares[s.ServerID] = s
		r.count(s, +1)
		return nil
	}
	r.shares[s.ServerID] = s
	r.stats["num_instances"]++
	r.count(s, +1)
	return r.use(s, +1, numa.Place)
}

// Hold counts what a server holds beside its share, in a move or until it may go back: as Nova does, which counts
// migrations in the sums and not in the statistics.
func (r *NodeRecord) Hold(s NodeShare) error { return r.use(s, +1, numa.Place) }

// Remove no longer counts a server. One that is not counted is fine.
func (r *NodeRecord) Remove(serverID string) error {
	s, known := r.shares[serverID]
	if !known {
		return nil
	}
	delete(r.shares, serverID)
	r.stats["num_instances"]--
	r.count(s, -1)
	return r.use(s, -1, numa.Free)
}

func (r *NodeRecord) use(s NodeShare, sign int, account func(numa.Host, numa.Guest) (numa.Host, error)) error {
	r.VCPUsUsed += sign * s.VCPUs
	r.MemoryMiBUsed += sign * s.MemoryMiB
	r.DiskGiBUsed += sign * s.DiskGiB
	if r.NUMAUsed == nil || s.NUMA == nil {
		return nil
	}
	used, err := account(*r.NUMAUsed, *s.NUMA)
	if err != nil {
		return fmt.Errorf("server %s: %w", s.ServerID, err)
	}
	r.NUMAUsed = &used
	return nil
}

// count keeps Nova's statistics, whose keys are made of the servers' states.
func (r *NodeRecord) count(s NodeShare, sign int) {
	none := func(text string) string {
		if text == "" {
			return "None" // Python's, which the keys have inherited
		}
		return text
	}
	r.stats["num_vm_"+string(s.VM)] += sign
	r.stats["num_task_"+none(string(s.Task))] += sign
	r.stats["num_os_type_"+none(s.OSType)] += sign
	r.stats["num_proj_"+s.ProjectID] += sign
	r.stats["io_workload"] = r.ioWorkload()
}

// ioWorkload is the number of servers that load the disks by what is being done to them.
func (r *NodeRecord) ioWorkload() int {
	n := r.stats["num_vm_"+string(Building)]
	for _, task := range []string{"resize_migrating", "rebuilding", "resize_prep", "image_snapshot", "image_backup", "rescuing", "unshelving"} {
		n += r.stats["num_task_"+task]
	}
	return n
}

// RunningVMs is the number of servers that are counted, whether they run or not: Nova's name.
func (r *NodeRecord) RunningVMs() int { return r.stats["num_instances"] }

// Workload is the number of servers to which something is being done.
func (r *NodeRecord) Workload() int {
	n := 0
	for _, s := range r.shares {
		if s.Task != TaskNone {
			n++
		}
	}
	return n
}

// Stats returns Nova's statistics, the numbers as text. A key whose servers have gone stays, at 0, until
// the next audit.
func (r *NodeRecord) Stats() map[string]string {
	stats := map[string]string{"failed_builds": "0"}
	for key, n := range r.stats {
		stats[key] = strconv.Itoa(n)
	}
	return stats
}
