package compute

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"compute-agent/guest"
	"compute-agent/numa"
	"compute-agent/pci"
	"compute-agent/virt"
)

// NodeFacts are all that a report of the node is made from.
type NodeFacts struct {
	ID      string // the node's UUID
	Host    virt.Host
	Storage Storage
	Servers []Server
	Claims  []Claim
	Guests  []virt.Guest  // all of the hypervisor's
	Options guest.Options // the operator's, for all guests
	// Devices are the host's PCI devices, and Owners those that guests have, by guest; see ReadDevices.
	Devices []virt.HostPCI
	Owners  map[string][]string
}

// NodeReport is the node in the two shapes in which an OpenStack knows it: Nova's ComputeNode, which counts, and
// the resource provider of the placement service, which grants. The keys are theirs.
type NodeReport struct {
	ComputeNode NovaNode `json:"compute_node"`
	Provider    Provider `json:"resource_provider"`
	// DeviceProviders are the children of Provider: PCI devices whose spec says how placement knows them.
	DeviceProviders []Provider `json:"device_providers,omitempty"`
}

// NovaNode is Nova's record of a host.
type NovaNode struct {
	UUID               string            `json:"uuid"`
	Hostname           string            `json:"hypervisor_hostname"`
	Hypervisor         string            `json:"hypervisor_type"`
	Version            int               `json:"hypervisor_version"`
	VCPUs              int               `json:"vcpus"` // CPUs that vCPUs float on
	VCPUsUsed          int               `json:"vcpus_used"`
	MemoryMiB          int               `json:"memory_mb"`
	MemoryMiBUsed      int               `json:"memory_mb_used"`
	FreeMemoryMiB      int               `json:"free_ram_mb"`
	DiskGiB            int               `json:"local_gb"`
	DiskGiBUsed        int               `json:"local_gb_used"`
	FreeDiskGiB        int               `json:"free_disk_gb"`
	DiskAvailableLeast int               `json:"disk_available_least"` // when all overlays have grown to their full size
	RunningVMs         int               `json:"running_vms"`
	Workload           int               `json:"current_workload"`
	CPUInfo            CPUInfo           `json:"cpu_info"`
	NUMA               *novaObject       `json:"numa_topology"` // null when the host does not tell its cells
	PCIPools           novaObject        `json:"pci_device_pools"`
	SupportedInstances [][3]string       `json:"supported_instances"` // architecture, hypervisor, mode
	Stats              map[string]string `json:"stats"`
	CPUAllocationRatio float64           `json:"cpu_allocation_ratio"`
	RAMAllocationRatio float64           `json:"ram_allocation_ratio"`
	DiskAllocation     float64           `json:"disk_allocation_ratio"`

	cells   numa.Host // what NUMA tells
	devices []pci.Entry
}

// CellLines tells of the host's cells, a line for each, for people.
func (n NovaNode) CellLines() []string {
	var lines []string
	for _, c := range n.cells.Cells {
		line := fmt.Sprintf("cell %d: shared CPUs %s with %d vCPUs, dedicated CPUs %s, pinned %s, %d of %d MiB used", c.ID,
			cmp.Or(c.Shared.String(), "none"), c.CPUUsage, cmp.Or(c.Dedicated.String(), "none"), cmp.Or(c.Pinned.String(), "none"), c.UsedMiB, c.MemoryMiB)
		for _, p := range c.Pages {
			if numa.Huge(p.SizeKiB) && p.Total > 0 {
				line += fmt.Sprintf(", %d of %d pages of %d KiB used, %d reserved", p.Used, p.Total, p.SizeKiB, p.Reserved)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// CPUInfo is the host's processor as Nova's cpu_info has it.
type CPUInfo struct {
	Arch     string   `json:"arch"`
	Model    string   `json:"model"`
	Vendor   string   `json:"vendor"`
	Topology Topology `json:"topology"`
	Features []string `json:"features"`
}

// Topology counts NUMA cells, packages, cores of each and threads of each core.
type Topology struct {
	Cells   int `json:"cells"`
	Sockets int `json:"sockets"`
	Cores   int `json:"cores"`
	Threads int `json:"threads"`
}

// CPUInfoOf is a host's processor.
func CPUInfoOf(h virt.Host) CPUInfo {
	return CPUInfo{Arch: h.Arch, Model: h.CPU.Model, Vendor: h.CPU.Vendor, Features: append([]string{}, h.CPU.Features...),
		Topology: Topology{Cells: max(1, len(h.Cells)), Sockets: h.CPU.Sockets, Cores: h.CPU.Cores, Threads: h.CPU.Threads}}
}

// Provider is what the placement service is told of a host.
type Provider struct {
	UUID        string               `json:"uuid,omitempty"` // of a child: placement gives it one
	Name        string               `json:"name"`
	Inventories map[string]Inventory `json:"inventories"` // by resource class
	Usages      map[string]int       `json:"usages"`
	Traits      []string             `json:"traits"`
}

// Inventory is how much of a resource class a provider has.
type Inventory struct {
	Total    int     `json:"total"`
	Reserved int     `json:"reserved"`
	MinUnit  int     `json:"min_unit"`
	MaxUnit  int     `json:"max_unit"`
	StepSize int     `json:"step_size"`
	Ratio    float64 `json:"allocation_ratio"`
}

// Report describes a node. It is pure. The error is that of a host which contradicts itself.
func (c Capacity) Report(f NodeFacts) (NodeReport, error) {
	l, err := c.ledgerOf(f)
	b := l.balance()
	return NodeReport{
		ComputeNode:     l.capacity.computeNode(f, b, l.claims()),
		Provider:        l.capacity.provider(f, b),
		DeviceProviders: deviceProviders(f.Host.Hostname, b.stock),
	}, err
}

// ledgerOf is the ledger of a node. The error is that of a host which contradicts itself: the ledger is then without what
// cannot be true.
func (c Capacity) ledgerOf(f NodeFacts) (*ledger, error) {
	l := newLedger(c)
	size, err := l.capacity.measure(f.Host, f.Storage)
	l.size(size)
	for _, claim := range f.Claims {
		l.restore(claim)
	}
	found, deviceErr := c.PCI.allowed(f.Devices)
	l.show(found)
	l.noteAllocated(f.Owners)
	return l, errors.Join(err, deviceErr)
}

func (c Capacity) computeNode(f NodeFacts, b balance, entries map[ClaimKey]entry) NovaNode {
	record := c.nodeRecord(f, b, entries)
	n := NovaNode{
		UUID: f.ID, Hostname: f.Host.Hostname, Hypervisor: f.Host.Hypervisor, Version: f.Host.HypervisorVersion,
		VCPUs: record.VCPUs, VCPUsUsed: record.VCPUsUsed,
		MemoryMiB: record.MemoryMiB, MemoryMiBUsed: record.MemoryMiBUsed, FreeMemoryMiB: record.MemoryMiB - record.MemoryMiBUsed,
		DiskGiB: record.DiskGiB, DiskGiBUsed: record.DiskGiBUsed, FreeDiskGiB: record.DiskGiB - record.DiskGiBUsed,
		DiskAvailableLeast: availableLeast(f.Storage, f.Guests),
		RunningVMs:         record.RunningVMs(), Workload: record.Workload(), Stats: record.Stats(),
		CPUInfo: CPUInfoOf(f.Host), SupportedInstances: supportedInstances(f.Host), PCIPools: pciPools(b.stock.pools()),
		CPUAllocationRatio: c.CPUAllocationRatio, RAMAllocationRatio: c.RAMAllocationRatio, DiskAllocation: c.DiskAllocationRatio,
	}
	for _, a := range b.stock.Addresses() {
		n.devices = append(n.devices, b.stock.Entry(a))
	}
	if record.NUMAUsed != nil {
		topology := numaTopology(*record.NUMAUsed)
		n.NUMA, n.cells = &topology, *record.NUMAUsed
	}
	return n
}

// nodeRecord counts the servers as Nova does.
func (c Capacity) nodeRecord(f NodeFacts, b balance, entries map[ClaimKey]entry) *NodeRecord {
	size := NodeSize{VCPUs: b.host.vcpus, MemoryMiB: b.host.memoryMiB, DiskGiB: b.host.diskGiB,
		ReservedVCPUs: c.ReservedHostCPUs, ReservedMemoryMiB: c.ReservedHostMemoryMiB, ReservedDiskMiB: c.ReservedHostDiskMiB}
	if len(b.host.cells.Cells) > 0 {
		size.NUMA = &b.host.cells
	}
	var shares []NodeShare
	for _, s := range f.Servers {
		e := entries[ClaimKey{s.ID, ClaimOwn}]
		shares = append(shares, NodeShare{ServerID: s.ID, VCPUs: e.VCPUs, MemoryMiB: e.MemoryMiB, DiskGiB: e.DiskGiB, NUMA: e.counted,
			VM: s.VM, Task: s.Task, OSType: s.Image.Properties["os_type"], ProjectID: s.ProjectID})
	}
	record := NewNodeRecord(size)
	// What cannot be counted was left out of the entries, and the audit tells of it.
	_ = record.Audit(shares)
	for key, e := range entries {
		if key.Kind != ClaimOwn {
			_ = record.Hold(NodeShare{ServerID: key.ServerID, VCPUs: e.sum.VCPUs, MemoryMiB: e.sum.MemoryMiB, DiskGiB: e.sum.DiskGiB, NUMA: e.counted})
		}
	}
	return record
}

// availableLeast is what is free on the instances' file system, in GiB, less what the disks may still grow by.
func availableLeast(st Storage, guests []virt.Guest) int {
	free := int64(st.FreeBytes)
	for _, g := range guests {
		for _, d := range g.Disks {
			free -= max(0, int64(d.CapacityBytes)-int64(d.AllocatedBytes))
		}
	}
	return int(free >> 30)
}

func supportedInstances(h virt.Host) [][3]string {
	list := [][3]string{}
	for _, g := range h.Supported {
		list = append(list, [3]string{g.Arch, g.VirtType, g.OSType})
	}
	return list
}

func (c Capacity) provider(f NodeFacts, b balance) Provider {
	p := Provider{UUID: f.ID, Name: f.Host.Hostname, Inventories: map[string]Inventory{}, Usages: map[string]int{}, Traits: traits(f.Host, b.host, f.Options)}
	rows := c.resources(b.host)
	for class, i := range map[string]int{"VCPU": rowVCPU, "PCPU": rowPCPU, "MEMORY_MB": rowMemory, "DISK_GB": rowDisk} {
		r := rows[i]
		if r.total == 0 {
			continue // placement has no empty inventories
		}
		if i == rowMemory {
			r.reserved += b.host.reserved
		}
		p.Inventories[class] = Inventory{Total: r.total, Reserved: min(r.reserved, r.total), MinUnit: 1, MaxUnit: r.total, StepSize: 1, Ratio: r.ratio}
		p.Usages[class] = b.used[i]
	}
	return p
}

// novaObject is one of Nova's versioned objects as it is stored and sent (oslo.versionedobjects).
type novaObject struct {
	Name      string         `json:"nova_object.name"`
	Namespace string         `json:"nova_object.namespace"`
	Version   string         `json:"nova_object.version"`
	Data      map[string]any `json:"nova_object.data"`
	Changes   []string       `json:"nova_object.changes,omitempty"`
}

func newNovaObject(name, version string, data map[string]any) novaObject {
	return novaObject{Name: name, Namespace: "nova", Version: version, Data: data, Changes: slices.Sorted(maps.Keys(data))}
}

// numaTopology is the host's cells as Nova's NUMATopology.
func numaTopology(host numa.Host) novaObject {
	cells := []novaObject{}
	for i := range host.Cells {
		cells = append(cells, numaCell(&host.Cells[i]))
	}
	return newNovaObject("NUMATopology", "1.2", map[string]any{"cells": cells})
}

func numaCell(c *numa.HostCell) novaObject {
	pages := []novaObject{}
	for _, p := range c.Pages {
		pages = append(pages, newNovaObject("NUMAPagesTopology", "1.1",
			map[string]any{"size_kb": p.SizeKiB, "total": p.Total, "used": p.Used, "reserved": p.Reserved}))
	}
	siblings := [][]int{}
	for _, core := range c.Siblings {
		siblings = append(siblings, core.Slice())
	}
	var socket any // null: not known
	if c.Socket >= 0 {
		socket = c.Socket
	}
	return newNovaObject("NUMACell", "1.5", map[string]any{
		"id": c.ID, "cpuset": c.Shared, "pcpuset": c.Dedicated, "pinned_cpus": c.Pinned, "cpu_usage": c.CPUUsage,
		"memory": c.MemoryMiB, "memory_usage": c.UsedMiB, "mempages": pages, "siblings": siblings, "socket": socket,
		"network_metadata": newNovaObject("NetworkMetadata", "1.0", map[string]any{
			"physnets": append([]string{}, c.Network.Physnets...), "tunneled": c.Network.Tunneled}),
	})
}

// Report describes the node as it is now.
func (m *Manager) Report() (NodeReport, error) {
	f := NodeFacts{ID: m.opt.NodeID, Options: m.opt.Guests.Options}
	err := m.store.View(m.base, func(tx Reader) error { return f.Read(tx) })
	if err != nil {
		return NodeReport{}, err
	}
	if f.Host, f.Storage, err = m.learnHost(); err != nil {
		return NodeReport{}, err
	}
	if f.Guests, err = m.listGuests(); err != nil {
		return NodeReport{}, err
	}
	ctx, cancel := m.call()
	defer cancel()
	if err := f.ReadDevices(ctx, m.driver); err != nil {
		return NodeReport{}, err
	}
	return m.ledger.capacity.Report(f)
}

// Read fills in what the store knows.
func (f *NodeFacts) Read(tx Reader) (err error) {
	if f.Servers, err = tx.Servers(); err != nil {
		return err
	}
	f.Claims, err = tx.Claims()
	return err
}
