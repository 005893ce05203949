package hwprops

// Hardware is all that a flavor and an image say of a guest's devices, firmware and features, with
// Nova's precedence, checked against each other. Empty words and nil say nothing: the default is then
// the operator's or the machine's.
type Hardware struct {
	Architecture string // hw_emulation_architecture, else hw_architecture, in libvirt's words: x86_64
	MachineType  string // hw_machine_type
	VMMode       string // hw_vm_mode: hvm
	OSType       string // os_type: linux, windows
	OSDistro     string // os_distro
	CommandLine  string // os_command_line: for a kernel that is booted directly; hostile
	AdminUser    string // os_admin_user

	Firmware       string // hw_firmware_type: bios, uefi
	Stateless      bool   // hw_firmware_stateless
	SecureBoot     string // os:secure_boot, os_secure_boot: disabled, optional, required
	BootMenu       bool   // hw_boot_menu, else hw:boot_menu
	HideHypervisor bool   // hw:hide_hypervisor_id, img_hide_hypervisor_id
	PMU            *bool  // hw:pmu, hw_pmu
	HPET           bool   // hw_time_hpet

	DiskBus      string // hw_disk_bus
	CDROMBus     string // hw_cdrom_bus
	FloppyBus    string // hw_floppy_bus
	SCSIModel    string // hw_scsi_model
	RescueDevice string // hw_rescue_device: cdrom, disk, floppy
	RescueBus    string // hw_rescue_bus
	RootDevice   string // img_root_device_name
	ConfigDrive  bool   // img_config_drive is mandatory

	VIFModel   string // hw_vif_model
	Multiqueue bool   // hw:vif_multiqueue_enabled, hw_vif_multiqueue_enabled
	PackedRing bool   // hw:virtio_packed_ring, hw_virtio_packed_ring
	IPXEBoot   bool   // hw_ipxe_boot

	VideoModel      string // hw_video_model
	VideoRAMMiB     int    // hw_video_ram, within hw_video:ram_max_mb
	PointerModel    string // hw_pointer_model: usbtablet
	InputBus        string // hw_input_bus: usb, virtio
	SoundModel      string // hw:sound_model, hw_sound_model
	USBModel        string // hw:usb_model, hw_usb_model
	RedirectedPorts int    // hw:redirected_usb_ports, hw_redirected_usb_ports

	TPM             *TPM
	RNG             RNG
	Watchdog        string // hw_watchdog_action, else hw:watchdog_action: pause, poweroff, reset, none; empty for no watchdog
	SerialPorts     int    // see SerialPorts
	GuestAgent      bool   // hw_qemu_guest_agent
	RequireQuiesce  bool   // os_require_quiesce
	VIOMMU          string // hw:viommu_model, hw_viommu_model: intel, smmuv3, virtio, auto
	PhysAddrMode    string // hw:maxphysaddr_mode, hw_maxphysaddr_mode: passthrough, emulate
	PhysAddrBits    int    // hw:maxphysaddr_bits, hw_maxphysaddr_bits
	MemEncryption   string // hw:mem_encryption(_model), hw_mem_encryption(_model): amd-sev, amd-sev-es, amd-sev-snp
	EphemeralFormat string // hw:ephemeral_encryption(_format): luks, plain; empty for not encrypted

	CPUQuota  CPUQuota
	DiskQuota DiskQuota
	VIFQuota  VIFQuota

	VGPUs       int      // resources:VGPU
	PMEM        []string // hw:pmem
	PCIAlias    string   // pci_passthrough:alias
	PCIAffinity string   // hw:pci_numa_affinity_policy, hw_pci_numa_affinity_policy

	TraitsNeeded    []string // trait:T=required of the flavor and the image, sorted
	TraitsForbidden []string // trait:T=forbidden, sorted
}

// RNG is what a flavor and an image say of a source of randomness.
type RNG struct {
	Allowed       bool // hw_rng:allowed, true unless said otherwise
	Bytes, Period int  // hw_rng:rate_bytes, hw_rng:rate_period in milliseconds; 0 for no limit
}

// CPUQuota is quota:cpu_shares, quota:cpu_period and quota:cpu_quota; nil for not said.
type CPUQuota struct {
	Shares, Period, Quota *int
}

// DiskQuota is quota:disk_*, for the guest's own disks and not for volumes. Bytes and requests are per second;
// nil for not said.
type DiskQuota struct {
	ReadBytes, WriteBytes, TotalBytes          *uint64
	ReadIOPS, WriteIOPS, TotalIOPS             *uint64
	ReadBytesMax, WriteBytesMax, TotalBytesMax *uint64
	ReadIOPSMax, WriteIOPSMax, TotalIOPSMax    *uint64
	SizeIOPS                                   *uint64
}

// VIFQuota is quota:vif_*: averages and peaks in KiB/s, bursts in KiB; nil for not said. A peak or a burst is there
// only with its average.
type VIFQuota struct {
	InboundAverage, InboundPeak, InboundBurst    *int
	OutboundAverage, OutboundPeak, OutboundBurst *int
}
