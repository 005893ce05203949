package virt

import "time"

// Spec is everything a driver needs to make a guest: nothing in it has to be looked up. It is a
// value: drivers neither change nor keep it.
type Spec struct {
	ID   string // UUID, lower case with dashes
	Name string // unique on the host, at most 64 of [A-Za-z0-9_.-]
	// Title is the user's name for the server: any text, hostile. So are the texts in Metadata.
	// None of them makes Create fail: a driver replaces what it cannot hold (control characters,
	// line ends, what is not UTF-8) and may cut what is longer than 1,024 bytes.
	Title string

	VirtType  string // "kvm" or "qemu"
	Arch      string // x86_64
	Emulator  string // path; empty for the hypervisor's own choice
	Machine   string // pc, q35, or a versioned machine type
	VCPUs     int
	MemoryMiB uint64
	CPU       CPU
	CPUTime   CPUTime
	Placement *Placement // nil: the guest may run anywhere on the host
	Memory    Memory
	IOThreads int // threads for disk I/O apart from the main loop; they run where Placement.Emulator says
	Firmware  Firmware
	Boot      Boot
	Features  Features
	Clock     Clock
	SMBIOS    SMBIOS
	// Encryption is how the processor hides the guest's memory from the host; nil for not at all.
	Encryption *MemoryEncryption

	Disks    []Disk // in the order of the guest's bus
	NICs     []NIC
	Shares   []Share
	Serial   []SerialPort
	Channels Channels
	Graphics []Graphics // none for a guest without a screen
	Video    *Video     // nil for no video device
	Inputs   []Input
	Sound    string // sound device: ich6, ich9, ac97, es1370, pcspk, sb16, usb, virtio; empty for none
	USB      USB
	// SCSI is the model of the controller for the drives on bus scsi: virtio-scsi, lsilogic...; empty for
	// the hypervisor's own. Nova: hw_scsi_model.
	SCSI      string
	TPM       *TPM   // nil for none
	RNG       *RNG   // nil for none
	Watchdog  string // what is done when the guest stops petting it: pause, poweroff, reset, none; empty for no watchdog
	PCI       []PCIDevice
	Mediated  []MediatedDevice
	NVDIMMs   []NVDIMM
	IOMMU     *IOMMU // nil for none
	Balloon   Balloon
	RootPorts int // PCIe ports for hot plug (Nova: [libvirt]num_pcie_ports); 0 for the hypervisor's own number

	// PerfEvents are what the host's kernel counts of the guest: cpu_cycles, cache_misses... Nova:
	// [libvirt]enabled_perf_events.
	PerfEvents []string

	Metadata Metadata
}

// CPU says which processor the guest sees.
type CPU struct {
	// Mode is "host-model", "host-passthrough", "maximum", "custom" (then Model is named) or
	// "none" (the hypervisor's default). Nova: [libvirt]cpu_mode.
	Mode  string
	Model string
	// Features are added to or taken from the model. Nova: [libvirt]cpu_model_extra_flags.
	Features []CPUFeature
	// Sockets, Cores and Threads multiply to Spec.VCPUs.
	Sockets, Cores, Threads int
	// PhysAddr is how many address bits the guest sees; nil for the hypervisor's choice.
	PhysAddr *PhysAddr
}

// CPUFeature is one flag of a processor.
type CPUFeature struct {
	Name   string // in libvirt's words
	Policy string // require, disable, force, optional or forbid; empty for require
}

// PhysAddr is the guest's number of physical address bits (hw:maxphysaddr_mode, hw:maxphysaddr_bits).
type PhysAddr struct {
	Mode string // emulate or passthrough
	Bits int    // 0 for as many as the mode gives
}

// CPUTime limits how much of the host's CPUs the guest gets (quota:cpu_*). Zero means no limit.
type CPUTime struct {
	Shares int // relative weight
	Period int // microseconds
	Quota  int // microseconds of each vCPU in a period; -1 for no limit
}

// Memory says what the guest's memory is made of, beside its place.
type Memory struct {
	// FileBacked memory lies in files of the hypervisor's memory directory. Nova:
	// [libvirt]file_backed_memory.
	FileBacked bool
	// Shared memory can be mapped by other processes of the host: vhost-user, virtiofs.
	Shared bool
	// Discard gives the memory's contents up when the guest ends ([libvirt]file_backed_memory).
	Discard bool
	// Memfd memory is anonymous and can be shared, for virtiofs without huge pages.
	Memfd bool
	// Locked memory is never swapped out.
	Locked bool
	// Unshared memory is left out when the host merges equal pages.
	Unshared bool
}

// Firmware is what runs before the guest's operating system.
type Firmware struct {
	// UEFI asks for UEFI firmware, which the hypervisor picks; else it is the machine's BIOS.
	UEFI bool
	// SecureBoot lets the firmware run only what is signed, with its variables out of the guest's reach.
	SecureBoot bool
	// Stateless firmware keeps no variables.
	Stateless bool
	// BootMenu waits for a key with which somebody can choose the device to boot.
	BootMenu bool
}

// Boot says what the guest boots.
type Boot struct {
	// Devices are the classes of device that the firmware tries, in order: hd, cdrom, fd, network.
	// Of hd it is the first disk of the Spec.
	Devices []string
	// Kernel is booted directly, when it is named; then Devices means nothing.
	Kernel, Initrd string // paths
	CommandLine    string // hostile
}

// Features are what the virtual machine has beside its devices.
type Features struct {
	// HideHypervisor keeps the guest from seeing KVM (hw:hide_hypervisor_id).
	HideHypervisor bool
	// HyperV makes Windows run well.
	HyperV bool
	// HyperVVendor is the vendor that Hyper-V's leaves tell; empty for the hypervisor's own.
	HyperVVendor string
	// PMU is whether the guest may count its processor's events; nil for the hypervisor's choice.
	PMU *bool
	// VMCoreInfo lets the guest's kernel tell where its crash dump's notes are.
	VMCoreInfo bool
	// TCGCacheMiB is the size of the emulator's translation cache; 0 for its own choice. Nova:
	// [libvirt]tb_cache_size.
	TCGCacheMiB int
	// IOAPIC is where interrupts are distributed: qemu or kvm; empty for the hypervisor's choice.
	IOAPIC string
}

// Clock is the guest's time.
type Clock struct {
	// LocalTime makes the hardware clock show the host's local time, as Windows expects it.
	LocalTime bool
	// HPET is whether the guest has a high precision event timer (hw_time_hpet).
	HPET bool
	// CatchUp delays lost ticks of the PIT and catches up those of the RTC. Guests of KVM always have it.
	CatchUp bool
	// HyperV is Hyper-V's reference time source.
	HyperV bool
}

// SMBIOS is what the machine says of itself, beside the server's ID and the maker's name.
type SMBIOS struct {
	// Serial is the machine's serial number; empty for none. Nova: [libvirt]sysinfo_serial.
	Serial string
}

// MemoryEncryption is AMD's SEV in one of its kinds (hw:mem_encryption, hw:mem_encryption_model).
type MemoryEncryption struct {
	Model  string // amd-sev, amd-sev-es or amd-sev-snp
	Policy uint32 // the guest's policy, as AMD's SEV API defines it
	// CBitPos and ReducedPhysBits are the host's, from its domain capabilities.
	CBitPos, ReducedPhysBits int
}

// Metadata is what a domain tells tools that read Nova's metadata element (namespace
// http://openstack.org/xmlns/libvirt/nova/1.1), such as exporters and collectors.
type Metadata struct {
	Package   string // version of the maker
	Name      string // the server's name as the user wrote it; hostile
	Created   time.Time
	Flavor    FlavorMetadata
	UserID    string
	UserName  string
	ProjectID string
	Project   string
	RootType  string // "image" or "volume"; empty for none
	RootID    string
	Ports     []PortMetadata
}

// FlavorMetadata is the size that the user asked for.
type FlavorMetadata struct {
	ID, Name                       string
	MemoryMiB                      uint64
	DiskGiB, EphemeralGiB, SwapMiB int // Nova: disk in GiB, swap in MiB
	VCPUs                          int
}

// PortMetadata is one port of the server with its fixed addresses.
type PortMetadata struct {
	ID  string
	IPs []PortAddress
}

// PortAddress is a fixed address of a port.
type PortAddress struct {
	Address string
	Version int // 4 or 6
}
