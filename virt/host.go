package virt

import "compute-agent/internal/cpuset"

// Host describes a host and its hypervisor.
type Host struct {
	Hostname          string // as the hypervisor reports it; Nova's hypervisor_hostname
	Hypervisor        string // Nova's hypervisor_type: "QEMU"
	HypervisorVersion int    // major*1000000 + minor*1000 + micro, as libvirt counts
	LibraryVersion    int    // libvirt's own, counted likewise; 0 for a driver without one
	VirtType          string // the domain type that new guests get when none is asked for: "kvm" or "qemu"
	Arch              string // x86_64
	Emulator          string // the emulator's path
	CPU               HostCPU
	CPUs              int    // online logical CPUs
	MemoryMiB         uint64 // of the host
	FreeMemoryMiB     uint64 // free and reclaimable now
	Cells             []Cell // NUMA nodes; nil when the hypervisor does not tell
	Supported         []GuestKind
	Machines          []MachineType // what guests can be, by architecture and name; nil when the hypervisor does not tell
	// Capabilities are what guests can have, by architecture, virt type and machine type; see CapabilitiesOf.
	Capabilities []Capabilities
}

// GuestKind is a kind of guest that a host can run.
type GuestKind struct {
	Arch     string // x86_64
	VirtType string // kvm, qemu
	OSType   string // hvm
}

// HostCPU is the host's processor as libvirt's capabilities name it.
type HostCPU struct {
	Model, Vendor           string
	Sockets, Cores, Threads int      // per host, per socket, per core; libvirt's own count per NUMA cell times cells
	Features                []string // all of them, those too that Model stands for
}

// Cell is one NUMA node of a host. It may lack CPUs or memory.
type Cell struct {
	ID        int
	CPUs      []CellCPU // online ones
	MemoryKiB int
	Pages     map[int]int // number of memory pages by their size in KiB, in use or not
	Distances map[int]int // to the cells by their ID, in ACPI SLIT units; nil when not known
}

// CellCPU is one logical CPU of a cell.
type CellCPU struct {
	ID       int
	Socket   int        // physical package; -1 when not known
	Siblings cpuset.Set // online hardware threads of its core, itself among them
}
