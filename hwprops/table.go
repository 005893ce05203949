package hwprops

import (
	"slices"

	"compute-agent/internal/pattern"
)

const (
	cpuList   = `\^?[0-9]+(?:-[0-9]+)?(?:,\^?[0-9]+(?:-[0-9]+)?)*`
	traitName = `(?:CUSTOM_[A-Z0-9_]+|[A-Z0-9_]+)`
)

var (
	anyText     = matching(`(?s).*`, "text")
	oneLine     = line(255)
	cpus        = matching(cpuList, "a set of CPUs")
	diskBuses   = words("fdc", "ide", "lxc", "sata", "scsi", "uml", "usb", "virtio", "xen")
	requirement = words("required", "forbidden")

	architectures = words("aarch64", "alpha", "armv6", "armv7b", "armv7l", "cris", "i686", "ia64", "lm32", "m68k", "microblaze",
		"microblazeel", "mips", "mips64", "mips64el", "mipsel", "openrisc", "parisc", "parisc64", "ppc", "ppc64", "ppc64le", "ppcemb",
		"ppcle", "s390", "s390x", "sh4", "sh4eb", "sparc", "sparc64", "unicore32", "x86_64", "xtensa", "xtensaeb").
		inAnyCase(map[string]string{"i386": "i686", "i486": "i686", "i586": "i686", "x86_32": "i686", "x86_32p": "i686", "amd64": "x86_64"})
	vifModels = words("e1000", "e1000e", "igb", "lan9118", "ne2k_pci", "netfront", "pcnet", "rtl8139", "spapr-vlan", "sriov",
		"virtio", "vmxnet", "vmxnet3").
		inAnyCase(map[string]string{"virtuale1000": "e1000", "virtuale1000e": "e1000e", "virtualpcnet32": "pcnet",
			"virtualsriovethernetcard": "sriov", "virtualvmxnet": "vmxnet", "virtualvmxnet3": "vmxnet3"})
	scsiModels = words("buslogic", "ibmvscsi", "lsilogic", "lsisas1068", "lsisas1078", "virtio-scsi", "vmpvscsi").
			inAnyCase(map[string]string{"lsilogicsas": "lsisas1068", "paravirtual": "vmpvscsi"})
)

var groups = []Group{
	{"CPUs and memory", placement},
	{"Machine and system", machine},
	{"Firmware and security", security},
	{"Disks", disks},
	{"Network", network},
	{"Display, input, sound and USB", display},
	{"Other devices and services", devices},
	{"Quotas", quotas()},
	{"Devices of the host, and what the scheduler reads", host},
	{"Known, without effect here", ignored()},
}

var placement = slices.Concat([]*Setting{
	numas("cpu_policy", words("dedicated", "mixed", "shared"), Setting{Default: "shared", Class: "InvalidCPUAllocationPolicy",
		Meaning: "whether vCPUs are pinned to CPUs of their own: all, some or none", Refused: "ImageCPUPinningForbidden: the image wants more than the flavor says"}),
	numas("cpu_thread_policy", words("prefer", "isolate", "require"), Setting{Default: "prefer", Class: "InvalidCPUThreadAllocationPolicy",
		Meaning: "whether pinned vCPUs share cores",
		Refused: "ImageCPUThreadPolicyForbidden: the image differs from a flavor that does not prefer; CPUThreadPolicyConfigurationInvalid: without pinned vCPUs"}),
	numasFlavor("hw:cpu_dedicated_mask", cpus, Setting{Meaning: "the vCPUs that are pinned, for hw:cpu_policy=mixed; ^ takes away",
		Refused: "InvalidMixedInstanceDedicatedMask: none or all of the vCPUs; RequiredMixedInstancePolicy: another policy; RequiredMixedOrRealtimeCPUMask: with a realtime mask too"}),
	numasFlavor("hw:cpu_realtime", yesOrNo(), Setting{By: ByHardware, Default: "no", Meaning: "vCPUs run under the host's real-time scheduler",
		Refused: "RealtimeConfigurationInvalid: without pinned vCPUs"}),
	numas("cpu_realtime_mask", cpus, Setting{Meaning: "the vCPUs that run in real time; ^ takes away; the image's goes first",
		Refused: "RealtimeMaskNotFoundOrInvalid: none of the vCPUs, or all of them where the emulator has no CPU of its own"}),
	numasFlavor("hw:emulator_threads_policy", words("isolate", "share"), Setting{Class: "InvalidEmulatorThreadsPolicy",
		Default: "on the guest's own CPUs", Meaning: "where the emulator runs: on a pinned CPU of its own, or on the shared ones",
		Refused: "BadRequirementEmulatorThreadsPolicy: without pinned vCPUs"}),
}, topologies(), []*Setting{
	numas("numa_nodes", atLeast(1), Setting{Class: "InvalidNUMANodesNumber", Meaning: "how many NUMA nodes the guest has",
		Refused: "ImageNUMATopologyForbidden: flavor and image both say it"}),
	numaFamily("numa_cpus", cpus, "the vCPUs of the guest's node N", "ImageNUMATopologyCPUsUnassigned, ...CPUDuplicates, ...CPUOutOfRange: a vCPU in no node, in two, or not the guest's"),
	numaFamily("numa_mem", atLeast(0), "the MiB of the guest's node N", "ImageNUMATopologyMemoryOutOfRange: the sum is not the flavor's memory"),
	numas("mem_page_size", matching(`large|small|any|[0-9]+(?:[kKMGT]i?)?(?:b|bit|B)?`, "large, small, any or a size"), Setting{
		Class: "MemoryPageSizeInvalid", Meaning: "the size of the memory's pages; a number alone is KiB",
		Refused: "MemoryPageSizeForbidden: the image says it and the flavor says neither large nor any"}),
	numas("locked_memory", yesOrNo(), Setting{By: ByHardware, Default: "no", Meaning: "the memory is never swapped",
		Refused: "LockMemoryForbidden: without hw:mem_page_size; FlavorImageLockedMemoryConflict: flavor and image differ"}),
	flavorAndImage("pci_numa_affinity_policy", mustAgree, words("required", "preferred", "legacy", "socket"), Setting{Class: "InvalidPCINUMAAffinity",
		Default: "that of the alias or port, else legacy", Meaning: "how near the host's PCI devices must be to the guest's CPUs", differ: "ImagePCINUMAPolicyForbidden"}),
	numasFlavor("resources:PCPU", atLeast(0), Setting{Meaning: "another way to say hw:cpu_policy=dedicated", Class: "InvalidRequest",
		Refused: "InvalidRequest: with hw:cpu_policy or resources:VCPU, or not the flavor's vCPUs"}),
	numasFlavor("resources:VCPU", atLeast(0), Setting{Meaning: "another way to say hw:cpu_policy=shared", Class: "InvalidRequest",
		Refused: "InvalidRequest: with hw:cpu_policy or resources:PCPU"}),
	{Spec: "trait:HW_CPU_HYPERTHREADING", Property: "trait:HW_CPU_HYPERTHREADING", Values: requirement, By: ByNUMA | ByHardware, both: ownRule,
		Meaning: "another way to say hw:cpu_thread_policy: require or isolate", Refused: "InvalidRequest: with hw:cpu_thread_policy"},
})

func topologies() []*Setting {
	var list []*Setting
	for _, part := range []string{"sockets", "cores", "threads"} {
		list = append(list, numas("cpu_"+part, atLeast(1), Setting{Class: "InvalidRequest", Meaning: "how many " + part + " the guest's CPU topology should have",
			Refused: "ImageVCPUTopologyRangeExceeded: the image's is above the limits"}))
	}
	for _, part := range []string{"sockets", "cores", "threads"} {
		list = append(list, numas("cpu_max_"+part, atLeast(1), Setting{Class: "InvalidRequest", Meaning: "how many " + part + " the topology may have at most",
			Refused: "ImageVCPULimitsRangeExceeded: the image's is above the flavor's; ImageVCPULimitsRangeImpossible: no topology within the limits"}))
	}
	return list
}

func numaFamily(name string, v Values, meaning, refused string) *Setting {
	s := numas(name, v, Setting{Meaning: meaning, Refused: refused + "; ImageNUMATopologyForbidden: flavor and image both say it"})
	s.Spec, s.Property = s.Spec+".N", s.Property+".N"
	s.specs = pattern.New(`^hw:` + name + `\.[0-9]+$`)
	s.properties = pattern.New(`^hw_` + name + `\.[0-9]+$`)
	return s
}

var machine = []*Setting{
	ofImage("hw_architecture", architectures, Setting{Older: []string{"architecture"}, Class: "InvalidArchitectureName",
		Default: "the host's", Meaning: "the processor that the image is for"}),
	ofImage("hw_emulation_architecture", architectures, Setting{Class: "InvalidArchitectureName",
		Default: "hw_architecture", Meaning: "the processor that is emulated in software, when it is not the host's"}),
	ofImage("hw_machine_type", matching(`[A-Za-z0-9][A-Za-z0-9._+-]{0,63}`, "the name of a machine type: letters, digits, dots, dashes"),
		Setting{By: ByNUMA, Class: "InvalidMachineType", Default: "the operator's", Meaning: "the machine that is emulated: q35, pc-i440fx-7.2, virt",
			Refused: "InvalidMachineType: the host has none of the name, or memory encryption needs q35"}),
	ofImage("hw_vm_mode", words("hvm").inAnyCase(map[string]string{"hv": "hvm", "baremetal": "hvm"}), Setting{Older: []string{"vm_mode"},
		Class: "InvalidVirtualMachineMode", Default: "hvm", Meaning: "full virtualisation, the one mode that QEMU has"}),
	ofImage("img_hv_type", words("kvm", "qemu").inAnyCase(nil), Setting{Older: []string{"hypervisor_type"}, Class: "InvalidHypervisorVirtType",
		Meaning: "the hypervisor that the image was made for"}),
	ofImage("os_type", words("linux", "windows").inAnyCase(nil), Setting{Meaning: "the guest's system: Windows gets a clock in local time and Hyper-V's enlightenments"}),
	ofImage("os_distro", oneLine, Setting{Older: []string{"vmware_ostype"}, Meaning: "the guest's distribution"}),
	ofImage("os_command_line", line(4095), Setting{Meaning: "the command line of a kernel that is booted directly"}),
	ofImage("os_admin_user", oneLine, Setting{Default: "root, or Administrator on Windows", Meaning: "whose password is set through the guest agent"}),
}

var security = []*Setting{
	ofImage("hw_firmware_type", words("uefi", "bios"), Setting{By: ByNUMA, Default: "bios; uefi on aarch64", Meaning: "the firmware"}),
	ofImage("hw_firmware_stateless", yesOrNo(), Setting{Default: "no", Meaning: "UEFI keeps no variables; without hw_firmware_type=uefi it does nothing"}),
	{Spec: "os:secure_boot", Property: "os_secure_boot", Values: words("disabled", "optional", "required"), FlavorMay: words("disabled", "required"),
		By: ByHardware, both: mustAgree, differ: "FlavorImageConflict", Default: "disabled",
		Meaning: "whether UEFI starts only what is signed", Refused: "SecureBootNotSupported: required, and the host has no such firmware"},
	flavorAndImage("boot_menu", imageFirst, yesOrNo(), Setting{Default: "no", Meaning: "the firmware shows a menu of boot devices"}),
	flavorAndImage("tpm_version", mustAgree, words("1.2", "2.0"), Setting{Default: "no TPM", Meaning: "an emulated trusted platform module"}),
	flavorAndImage("tpm_model", mustAgree, words("tpm-tis", "tpm-crb"), Setting{Default: "tpm-tis", Meaning: "its interface; says nothing without a version",
		Refused: "Invalid: tpm-crb with version 1.2"}),
	ofFlavor("hw:tpm_secret_security", words("user", "host", "deployment"), Setting{Default: "user", Meaning: "who may read the key of the TPM's state"}),
	flavorAndImage("mem_encryption", mustAgree, yesOrNo(), Setting{By: ByNUMA | ByHardware, Default: "no", Meaning: "the memory is encrypted (AMD SEV)",
		Refused: "FlavorImageConflict: hw_firmware_type is not uefi; InvalidMachineType: hw_machine_type is not a q35"}),
	flavorAndImage("mem_encryption_model", mustAgree, words("amd-sev", "amd-sev-es", "amd-sev-snp"), Setting{By: ByNUMA | ByHardware, Default: "amd-sev",
		Meaning: "how it is encrypted; says nothing without hw:mem_encryption", Refused: "StatelessFirmwareRequired: amd-sev-snp without hw_firmware_stateless"}),
	{Spec: "hw:hide_hypervisor_id", Property: "img_hide_hypervisor_id", Values: yesOrNo(), By: ByHardware, both: either, Default: "no",
		Meaning: "the guest is not told that it is one"},
	ofFlavor("hide_hypervisor_id", yesOrNo(), Setting{Default: "no", Meaning: "the older name of hw:hide_hypervisor_id"}),
	flavorAndImage("maxphysaddr_mode", mustAgree, words("passthrough", "emulate"), Setting{Default: "the hypervisor's", Meaning: "how many address bits the guest's CPUs have: the host's, or a number",
		Refused: "Invalid: emulate without hw:maxphysaddr_bits"}),
	flavorAndImage("maxphysaddr_bits", flavorFirst, atLeast(0), Setting{Meaning: "the number, for emulate", Refused: "Invalid: without hw:maxphysaddr_mode=emulate"}),
}

var disks = []*Setting{
	ofImage("hw_disk_bus", diskBuses, Setting{Default: "virtio, decided once for each server", Meaning: "the bus of disks", Refused: "UnsupportedHardware: the hypervisor has no such bus"}),
	ofImage("hw_cdrom_bus", diskBuses, Setting{Default: "ide; sata on q35; scsi elsewhere", Meaning: "the bus of CD-ROM drives", Refused: "UnsupportedHardware: the hypervisor has no such bus"}),
	ofImage("hw_floppy_bus", diskBuses, Setting{Default: "fdc", Meaning: "the bus of floppy drives", Refused: "UnsupportedHardware: the hypervisor has no such bus"}),
	ofImage("hw_scsi_model", scsiModels, Setting{Default: "the hypervisor's", Meaning: "the controller of a scsi bus"}),
	{Property: "vmware_adaptertype", Values: words(append([]string{"ide"}, scsiModels.Words...)...).inAnyCase(scsiModels.aliases), By: ByHardware,
		Meaning: "ide is hw_disk_bus=ide; a model is hw_disk_bus=scsi and hw_scsi_model, which overrule it"},
	ofImage("hw_rescue_device", words("cdrom", "disk", "floppy"), Setting{Class: "UnsupportedRescueDevice", Default: "disk",
		Meaning: "what a rescue disk is; said, it leaves the server's disks in their places during a rescue"}),
	ofImage("hw_rescue_bus", diskBuses, Setting{Class: "UnsupportedRescueBus", Default: "that of the device", Meaning: "its bus; likewise",
		Refused: "UnsupportedRescueBus: the hypervisor has no such bus"}),
	ofImage("img_root_device_name", matching(`[A-Za-z0-9/_.-]{1,64}`, "the name of a device"), Setting{Older: []string{"root_device_name"}, Default: "the first of the bus", Meaning: "the root disk's name"}),
	ofImage("img_config_drive", words("optional", "mandatory"), Setting{Default: "optional", Meaning: "mandatory gives the server a config drive unasked"}),
	flavorAndImage("ephemeral_encryption", mustAgree, yesOrNo(), Setting{Default: "no", Meaning: "the server's own disks are encrypted"}),
	{Spec: "hw:ephemeral_encryption_format", Property: "hw_ephemeral_encryption_format", Values: words("luks", "plain"), FlavorMay: words("plain", "luks", "luksv2"),
		By: ByHardware, both: mustAgree, differ: "FlavorImageConflict", Default: "luks", Meaning: "how; says nothing without hw:ephemeral_encryption"},
}

var network = []*Setting{
	ofImage("hw_vif_model", vifModels, Setting{Default: "virtio, decided once for each server", Meaning: "the model of network interfaces",
		Refused: "UnsupportedHardware: the hypervisor has no such model"}),
	flavorAndImage("vif_multiqueue_enabled", mustAgree, yesOrNo(), Setting{Default: "no", Meaning: "a queue for each vCPU, up to the kernel's limit"}),
	flavorAndImage("virtio_packed_ring", mustAgree, yesOrNo(), Setting{Default: "no", Meaning: "the packed form of virtio's queues, on network interfaces"}),
	ofImage("hw_ipxe_boot", yesOrNo(), Setting{Older: []string{"ipxe_boot"}, Default: "no", Meaning: "the server boots an iPXE image, into which its network is written"}),
}

var display = []*Setting{
	ofImage("hw_video_model", words("bochs", "cirrus", "gop", "none", "qxl", "vga", "virtio", "vmvga", "xen"), Setting{Class: "InvalidVideoMode",
		Default: "by architecture, decided once for each server", Meaning: "the video card; none for none"}),
	ofImage("hw_video_ram", atLeast(0), Setting{Default: "the hypervisor's", Meaning: "the video card's MiB", Refused: "RequestedVRamTooHigh: above the flavor's hw_video:ram_max_mb"}),
	ofFlavor("hw_video:ram_max_mb", atLeast(0), Setting{Default: "0", Meaning: "how much of it an image may ask for"}),
	ofImage("hw_pointer_model", words("usbtablet"), Setting{Default: "the operator's", Meaning: "an absolute pointer"}),
	ofImage("hw_input_bus", words("usb", "virtio"), Setting{Default: "usb", Meaning: "the bus of pointer and keyboard, both of which it asks for"}),
	flavorAndImage("sound_model", mustAgree, words("sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"), Setting{Default: "none", Meaning: "a sound card"}),
	flavorAndImage("usb_model", mustAgree, words("none", "nec-xhci", "qemu-xhci"), Setting{Default: "what other devices need", Meaning: "the USB controller"}),
	flavorAndImage("redirected_usb_ports", mustAgree, between(0, 15), Setting{Default: "0", Meaning: "ports for USB devices of the user's, over SPICE"}),
}

var devices = []*Setting{
	flavorAndImage("pmu", mustAgree, yesOrNo(), Setting{Default: "the hypervisor's", Meaning: "performance counters"}),
	ofImage("hw_time_hpet", yesOrNo(), Setting{Default: "no", Meaning: "a high precision event timer"}),
	flavorAndImage("viommu_model", flavorFirst, words("intel", "smmuv3", "virtio", "auto"), Setting{Default: "none", Meaning: "an emulated IOMMU",
		Refused: "InvalidVIOMMUMachineType: not q35 on x86 nor virt on aarch64; InvalidVIOMMUArchitecture: another processor"}),
	flavorAndImage("watchdog_action", imageFirst, words("none", "pause", "poweroff", "reset", "disabled"), Setting{Class: "InvalidWatchdogAction", Default: "disabled",
		Meaning: "what is done with a guest that its watchdog finds hanging; disabled for no watchdog"}),
	ofFlavor("hw_rng:allowed", yesOrNo(), Setting{Default: "yes", Meaning: "a virtio source of randomness"}),
	ofFlavor("hw_rng:rate_bytes", atLeast(0), Setting{Default: "no limit", Meaning: "how many bytes the guest may read in a period"}),
	ofFlavor("hw_rng:rate_period", atLeast(0), Setting{Default: "0", Meaning: "the period in milliseconds"}),
	ofImage("hw_rng_model", words("virtio"), Setting{Default: "virtio", Meaning: "the one model that there is"}),
	flavorAndImage("serial_port_count", ownRule, atLeast(0), Setting{Class: "ImageSerialPortNumberInvalid", Default: "1", Meaning: "serial ports for consoles over the network, without which a guest has one port, for its log; the flavor's number is the limit of the image's",
		Refused: "ImageSerialPortNumberExceedFlavorValue: the image's is above the flavor's; SerialPortNumberLimitExceeded: more than 4"}),
	ofImage("hw_qemu_guest_agent", yesOrNo(), Setting{Default: "no", Meaning: "a channel to the agent inside the guest"}),
	ofImage("os_require_quiesce", yesOrNo(), Setting{Default: "no", Meaning: "no snapshot without the guest's file systems at rest", Refused: "QemuGuestAgentNotEnabled: a snapshot without hw_qemu_guest_agent"}),
}

var host = []*Setting{
	ofFlavor("pci_passthrough:alias", matching(`[^:]+:[0-9]+(?:,\s*[^:]+:[0-9]+)*`, "alias:count, with commas between several"), Setting{Class: "PciInvalidAlias",
		Meaning: "devices of the host, by the operator's names for them", Refused: "PciRequestAliasNotDefined: no such alias"}),
	{Spec: "resources[GROUP]:VGPU", Values: atLeast(0), By: ByHardware, specs: pattern.New(`^resources[a-zA-Z0-9_-]{0,64}:VGPU$`),
		Class: "InvalidRequest", Meaning: "virtual GPUs: mediated devices of the host"},
	ofFlavor("hw:pmem", matching(`[a-zA-Z0-9_]+(?:,[a-zA-Z0-9_]+)*`, "labels with commas between them"), Setting{By: ByNUMA, Meaning: "persistent memory of the host, by the operator's labels"}),
	{Spec: "trait[GROUP]:TRAIT", Property: "trait:TRAIT", Values: requirement, By: ByHardware, both: ownRule,
		specs: pattern.New(`^trait[a-zA-Z0-9_-]{0,64}:` + traitName + `$`), properties: pattern.New(`^trait:` + traitName + `$`),
		Meaning: "what the host must, or may not, be able to do", Refused: "NoValidHost: the host is not so"},
	ofFlavor("accel:device_profile", anyText, Setting{Class: "DeviceProfileError", Meaning: "a device of the accelerator service Cyborg", Refused: "DeviceProfileError: always, there is no such service here"}),
}

func quotas() []*Setting {
	list := []*Setting{
		ofFlavor("quota:cpu_shares", atLeast(0), Setting{Default: "the host's", Meaning: "the weight of the guest's CPU time among the others'", Refused: "UnsupportedHostCPUControlPolicy: the host's kernel cannot"}),
		ofFlavor("quota:cpu_period", atLeast(0), Setting{Default: "the host's", Meaning: "microseconds within which the quota holds: 1000 to 1000000, or 0", Refused: "Invalid: another number"}),
		ofFlavor("quota:cpu_quota", anyInteger(), Setting{Default: "no limit", Meaning: "microseconds that each vCPU may run within a period: at least 1000; 0 or negative for no limit", Refused: "Invalid: another number"}),
	}
	for _, unit := range []string{"bytes", "iops"} {
		for _, of := range []string{"read", "write", "total"} {
			list = append(list, ofFlavor("quota:disk_"+of+"_"+unit+"_sec", atLeast(0), Setting{Default: "no limit", Class: "Invalid",
				Meaning: of + " " + unit + " a second, for each of the server's own disks", Refused: "Invalid: total with read or write"}))
		}
	}
	for _, unit := range []string{"bytes", "iops"} {
		for _, of := range []string{"read", "write", "total"} {
			list = append(list, ofFlavor("quota:disk_"+of+"_"+unit+"_sec_max", atLeast(0), Setting{Default: "the limit itself",
				Meaning: "how far a burst may go above it; Nova has it for volumes only", Refused: "Invalid: total with read or write"}))
		}
	}
	list = append(list, ofFlavor("quota:disk_size_iops_sec", atLeast(0), Setting{Default: "none", Meaning: "the bytes that count as one request; Nova has it for volumes only"}))
	for _, way := range []string{"inbound", "outbound"} {
		for _, what := range []string{"average", "peak", "burst"} {
			meaning := "the " + what + " of " + way + " traffic of each interface, in " + map[string]string{
				"average": "KiB a second", "peak": "KiB a second; nothing without an average", "burst": "KiB; nothing without an average"}[what]
			list = append(list, ofFlavor("quota:vif_"+way+"_"+what, atLeast(0), Setting{Default: "no limit", Meaning: meaning}))
		}
	}
	return list
}

// ignored is all else that Nova knows: of other hypervisors, of the scheduler of many hosts, and of services
// that this agent has no part in.
func ignored() []*Setting {
	family := func(name, expression string, v Values, meaning string) *Setting {
		s := unused(name, "", v, meaning)
		s.specs = pattern.New("^" + expression + "$")
		return s
	}
	const vmware, scheduler = "of VMware", "read by the scheduler of a cloud of many hosts"
	return []*Setting{
		family("resources[GROUP]:CLASS", `resources[a-zA-Z0-9_-]{0,64}:`+traitName, atLeast(0), "an amount of another resource, "+scheduler),
		unused("group_policy", "", words("isolate", "none"), "whether numbered groups may share a provider, "+scheduler),
		family("capabilities:NAME", `capabilities:.+`, anyText, scheduler),
		family("aggregate_instance_extra_specs:NAME", `aggregate_instance_extra_specs:.+`, anyText, scheduler),
		family("powervm:NAME", `powervm:[a-z_]+`, anyText, "of PowerVM"),
		unused("vmware:hw_version", "", anyText, vmware),
		unused("vmware:storage_policy", "", anyText, vmware),
		family("quota:WHAT_limit, _reservation, _shares_share", `quota:(?:cpu|memory|disk_io|vif)_(?:limit|reservation|shares_share)`, atLeast(0), vmware),
		family("quota:WHAT_shares_level", `quota:(?:cpu|disk_io|memory|vif)_shares_level`, words("custom", "high", "normal", "low"), vmware),
		family("quota:disk_..._max_length", `quota:disk_(?:read|write|total)_(?:bytes|iops)_sec_max_length`, atLeast(0), "how long a burst lasts"),
		unused("", "hw_auto_disk_config", anyText, "of Xen", "auto_disk_config"),
		unused("", "hw_device_id", anyText, "of Xen", "xenapi_device_id"),
		unused("", "hw_disk_type", anyText, vmware, "vmware_disktype"),
		unused("", "hw_ephemeral_encryption_secret_uuid", anyText, "the key of an image that is itself encrypted"),
		unused("", "img_bdm_v2", anyText, "the form of img_block_device_mapping", "bdm_v2"),
		unused("", "img_bittorrent", anyText, "of Xen", "bittorrent"),
		unused("", "img_block_device_mapping", anyText, "the disks of a snapshot of volumes", "block_device_mapping"),
		unused("", "img_cache_in_nova", anyText, "of Xen: all images are cached", "cache_in_nova"),
		unused("", "img_compression_level", anyText, "of Xen", "xenapi_image_compression_level"),
		unused("", "img_hv_requested_version", anyText, "a version of the hypervisor, "+scheduler, "hypervisor_version_requires"),
		unused("", "img_linked_clone", anyText, vmware, "vmware_linked_clone"),
		unused("", "img_mappings", anyText, "names of devices in images of EC2", "mappings"),
		unused("", "img_owner_id", anyText, "whose image it is", "owner_id"),
		unused("", "img_signature", anyText, "the image's signature: images are checked by their checksum"),
		unused("", "img_signature_certificate_uuid", anyText, "likewise"),
		unused("", "img_signature_hash_method", anyText, "likewise"),
		unused("", "img_signature_key_type", anyText, "likewise"),
		unused("", "img_use_agent", anyText, "of Xen", "xenapi_use_agent"),
		unused("", "img_version", anyText, vmware, "vmware_image_version"),
		unused("", "os_skip_agent_inject_files_at_boot", anyText, "of Xen", "xenapi_skip_agent_inject_files_at_boot"),
		unused("", "os_skip_agent_inject_ssh", anyText, "of Xen", "xenapi_skip_agent_inject_ssh"),
	}
}
