package hwprops

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// settings reads "key=value" lines; those of a flavor have a colon in their key, or are in flavorKeys.
func settings(lines ...string) Source {
	s := Source{ExtraSpecs: map[string]string{}, Properties: map[string]string{}}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		key, ofImage := strings.CutPrefix(key, "image ")
		if (strings.Contains(key, ":") || key == "hide_hypervisor_id") && !ofImage {
			s.ExtraSpecs[key] = value
		} else {
			s.Properties[key] = value
		}
	}
	return s
}

// nothingSaid is what a flavor and an image that say nothing come to.
func nothingSaid() Hardware {
	return Hardware{RNG: RNG{Allowed: true}, SerialPorts: 1, PMEM: []string{}}
}

func TestHardware(t *testing.T) {
	yes, no := true, false
	for name, c := range map[string]struct {
		says []string
		want func(*Hardware)
	}{
		"nothing":                  {nil, func(*Hardware) {}},
		"empty values say nothing": {[]string{"hw_disk_bus=", "hw:tpm_version=", "quota:cpu_shares=", "hw:pmu="}, func(*Hardware) {}},

		"machine": {[]string{"hw_architecture=x86_64", "hw_machine_type=pc-q35-7.2", "hw_vm_mode=hvm", "os_type=Windows", "os_distro=debian12",
			"os_command_line=console=ttyS0 root=/dev/vda", "os_admin_user=admin", "img_hv_type=KVM"}, func(h *Hardware) {
			h.Architecture, h.MachineType, h.VMMode, h.OSType, h.OSDistro = "x86_64", "pc-q35-7.2", "hvm", "windows", "debian12"
			h.CommandLine, h.AdminUser = "console=ttyS0 root=/dev/vda", "admin"
		}},
		"an emulated processor goes first": {[]string{"hw_architecture=AMD64", "hw_emulation_architecture=aarch64"}, func(h *Hardware) { h.Architecture = "aarch64" }},
		"other spellings of processors":    {[]string{"hw_architecture=i586"}, func(h *Hardware) { h.Architecture = "i686" }},
		"other spellings of modes":         {[]string{"hw_vm_mode=HV"}, func(h *Hardware) { h.VMMode = "hvm" }},
		"older names": {[]string{"architecture=x86_64", "vm_mode=hvm", "vmware_ostype=debian12", "ipxe_boot=yes", "root_device_name=/dev/vda"},
			func(h *Hardware) {
				h.Architecture, h.VMMode, h.OSDistro, h.IPXEBoot, h.RootDevice = "x86_64", "hvm", "debian12", true, "/dev/vda"
			}},
		"a newer name overrules the older": {[]string{"architecture=ppc64", "hw_architecture=s390x"}, func(h *Hardware) { h.Architecture = "s390x" }},

		"firmware":                                  {[]string{"hw_firmware_type=uefi", "hw_firmware_stateless=yes", "os:secure_boot=optional"}, func(h *Hardware) { h.Firmware, h.Stateless, h.SecureBoot = "uefi", true, "optional" }},
		"stateless does nothing for BIOS":           {[]string{"hw_firmware_type=bios", "hw_firmware_stateless=yes"}, func(h *Hardware) { h.Firmware = "bios" }},
		"secure boot by the image":                  {[]string{"os_secure_boot=required"}, func(h *Hardware) { h.SecureBoot = "required" }},
		"the image's boot menu goes first":          {[]string{"hw:boot_menu=yes", "hw_boot_menu=no"}, func(*Hardware) {}},
		"boot menu of the flavor":                   {[]string{"hw:boot_menu=1"}, func(h *Hardware) { h.BootMenu = true }},
		"hidden by the flavor":                      {[]string{"hw:hide_hypervisor_id=true", "img_hide_hypervisor_id=no"}, func(h *Hardware) { h.HideHypervisor = true }},
		"hidden by the image":                       {[]string{"hw:hide_hypervisor_id=no", "img_hide_hypervisor_id=on"}, func(h *Hardware) { h.HideHypervisor = true }},
		"hidden by the older name":                  {[]string{"hide_hypervisor_id= True "}, func(h *Hardware) { h.HideHypervisor = true }},
		"no PMU":                                    {[]string{"hw:pmu=false"}, func(h *Hardware) { h.PMU = &no }},
		"PMU of the image":                          {[]string{"hw_pmu=yes", "hw:pmu=1"}, func(h *Hardware) { h.PMU = &yes }},
		"HPET":                                      {[]string{"hw_time_hpet=true"}, func(h *Hardware) { h.HPET = true }},
		"TPM":                                       {[]string{"hw:tpm_version=2.0", "hw_tpm_model=tpm-crb", "hw:tpm_secret_security=host"}, func(h *Hardware) { h.TPM = &TPM{"2.0", "tpm-crb", "host"} }},
		"TPM's default model":                       {[]string{"hw_tpm_version=1.2"}, func(h *Hardware) { h.TPM = &TPM{"1.2", "tpm-tis", ""} }},
		"a TPM's model asks for none":               {[]string{"hw:tpm_model=tpm-crb"}, func(*Hardware) {}},
		"memory encryption":                         {[]string{"hw:mem_encryption=true", "hw_firmware_type=uefi", "hw_machine_type=q35"}, func(h *Hardware) { h.MemEncryption, h.Firmware, h.MachineType = "amd-sev", "uefi", "q35" }},
		"memory encryption's model":                 {[]string{"hw_mem_encryption=true", "hw:mem_encryption_model=amd-sev-es", "hw_firmware_type=uefi"}, func(h *Hardware) { h.MemEncryption, h.Firmware = "amd-sev-es", "uefi" }},
		"a memory encryption's model asks for none": {[]string{"hw:mem_encryption_model=amd-sev-snp"}, func(*Hardware) {}},
		"SNP": {[]string{"hw:mem_encryption=1", "hw_mem_encryption=yes", "hw:mem_encryption_model=amd-sev-snp", "hw_firmware_type=uefi", "hw_firmware_stateless=t"},
			func(h *Hardware) { h.MemEncryption, h.Firmware, h.Stateless = "amd-sev-snp", "uefi", true }},
		"address bits": {[]string{"hw:maxphysaddr_mode=emulate", "hw_maxphysaddr_bits=42"}, func(h *Hardware) { h.PhysAddrMode, h.PhysAddrBits = "emulate", 42 }},
		"the flavor's address bits go first": {[]string{"hw_maxphysaddr_mode=emulate", "hw_maxphysaddr_bits=42", "hw:maxphysaddr_bits=44"},
			func(h *Hardware) { h.PhysAddrMode, h.PhysAddrBits = "emulate", 44 }},

		"buses": {[]string{"hw_disk_bus=scsi", "hw_cdrom_bus=sata", "hw_floppy_bus=fdc", "hw_scsi_model=VirtIO-SCSI", "hw_rescue_device=cdrom", "hw_rescue_bus=usb",
			"img_root_device_name=sda", "img_config_drive=mandatory"}, func(h *Hardware) {
			h.DiskBus, h.CDROMBus, h.FloppyBus, h.SCSIModel, h.RescueDevice, h.RescueBus = "scsi", "sata", "fdc", "virtio-scsi", "cdrom", "usb"
			h.RootDevice, h.ConfigDrive = "sda", true
		}},
		"an optional config drive":      {[]string{"img_config_drive=optional"}, func(*Hardware) {}},
		"VMware's ide adapter":          {[]string{"vmware_adaptertype=ide"}, func(h *Hardware) { h.DiskBus = "ide" }},
		"VMware's scsi adapter":         {[]string{"vmware_adaptertype=lsiLogicsas"}, func(h *Hardware) { h.DiskBus, h.SCSIModel = "scsi", "lsisas1068" }},
		"an adapter is overruled":       {[]string{"vmware_adaptertype=paraVirtual", "hw_disk_bus=virtio"}, func(h *Hardware) { h.DiskBus, h.SCSIModel = "virtio", "vmpvscsi" }},
		"encrypted disks":               {[]string{"hw:ephemeral_encryption=true"}, func(h *Hardware) { h.EphemeralFormat = "luks" }},
		"encrypted disks' format":       {[]string{"hw_ephemeral_encryption=true", "hw:ephemeral_encryption_format=plain"}, func(h *Hardware) { h.EphemeralFormat = "plain" }},
		"a format alone encrypts none":  {[]string{"hw:ephemeral_encryption_format=plain"}, func(*Hardware) {}},
		"network":                       {[]string{"hw_vif_model=VirtualE1000e", "hw:vif_multiqueue_enabled=yes", "hw_virtio_packed_ring=yes"}, func(h *Hardware) { h.VIFModel, h.Multiqueue, h.PackedRing = "e1000e", true, true }},
		"video":                         {[]string{"hw_video_model=qxl", "hw_video_ram=64", "hw_video:ram_max_mb=64"}, func(h *Hardware) { h.VideoModel, h.VideoRAMMiB = "qxl", 64 }},
		"input":                         {[]string{"hw_pointer_model=usbtablet", "hw_input_bus=virtio"}, func(h *Hardware) { h.PointerModel, h.InputBus = "usbtablet", "virtio" }},
		"sound and USB":                 {[]string{"hw:sound_model=ich9", "hw_usb_model=qemu-xhci", "hw:redirected_usb_ports=2", "hw_redirected_usb_ports=02"}, func(h *Hardware) { h.SoundModel, h.USBModel, h.RedirectedPorts = "ich9", "qemu-xhci", 2 }},
		"no randomness":                 {[]string{"hw_rng:allowed=False"}, func(h *Hardware) { h.RNG.Allowed = false }},
		"randomness at a rate":          {[]string{"hw_rng:rate_bytes=4096", "hw_rng:rate_period=1000", "hw_rng_model=virtio"}, func(h *Hardware) { h.RNG = RNG{true, 4096, 1000} }},
		"watchdog":                      {[]string{"hw:watchdog_action=reset"}, func(h *Hardware) { h.Watchdog = "reset" }},
		"the image's watchdog":          {[]string{"hw:watchdog_action=reset", "hw_watchdog_action=none"}, func(h *Hardware) { h.Watchdog = "none" }},
		"the image disables a watchdog": {[]string{"hw:watchdog_action=reset", "hw_watchdog_action=disabled"}, func(*Hardware) {}},
		"serial ports within":           {[]string{"hw:serial_port_count=4", "hw_serial_port_count=2"}, func(h *Hardware) { h.SerialPorts = 2 }},
		"serial ports of the flavor":    {[]string{"hw:serial_port_count=3"}, func(h *Hardware) { h.SerialPorts = 3 }},
		"0 serial ports say nothing":    {[]string{"hw:serial_port_count=0", "hw_serial_port_count=2"}, func(h *Hardware) { h.SerialPorts = 2 }},
		"agent":                         {[]string{"hw_qemu_guest_agent=yes", "os_require_quiesce=yes"}, func(h *Hardware) { h.GuestAgent, h.RequireQuiesce = true, true }},
		"the flavor's IOMMU goes first": {[]string{"hw:viommu_model=intel", "hw_viommu_model=virtio"}, func(h *Hardware) { h.VIOMMU = "intel" }},
		"of the host": {[]string{"resources:VGPU=1", "resources_a:VGPU=2", "hw:pmem=4GB, SMALL", "pci_passthrough:alias=a:1, b:2", "hw:pci_numa_affinity_policy=socket"},
			func(h *Hardware) {
				h.VGPUs, h.PMEM, h.PCIAlias, h.PCIAffinity = 3, []string{"4GB", "SMALL"}, "a:1, b:2", "socket"
			}},
		"traits": {[]string{"trait:HW_CPU_X86_AVX2=required", "trait1:CUSTOM_GOLD=required", "trait:CUSTOM_OLD=forbidden", "image trait:HW_CPU_X86_AVX2=required", "image trait:CUSTOM_A=required"},
			func(h *Hardware) {
				h.TraitsNeeded, h.TraitsForbidden = []string{"CUSTOM_A", "CUSTOM_GOLD", "HW_CPU_X86_AVX2"}, []string{"CUSTOM_OLD"}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(c.says...)
			before := Source{maps.Clone(s.ExtraSpecs), maps.Clone(s.Properties)}
			got, err := s.Hardware()
			if err != nil {
				t.Fatal(err)
			}
			want := nothingSaid()
			c.want(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if !cmp.Equal(before, s) {
				t.Error("the source was changed")
			}
		})
	}
}

func TestQuotas(t *testing.T) {
	h, err := settings("quota:cpu_shares=2048", "quota:cpu_period=25000", "quota:cpu_quota=-1", "quota:disk_read_bytes_sec=10485760000",
		"quota:disk_write_iops_sec=0", "quota:disk_total_iops_sec_max=7", "quota:disk_size_iops_sec=4096",
		"quota:vif_outbound_average=10", "quota:vif_outbound_burst=30", "quota:vif_inbound_peak=5").Hardware()
	if err != nil {
		t.Fatal(err)
	}
	n := func(n int) *int { return &n }
	u := func(n uint64) *uint64 { return &n }
	want := nothingSaid()
	want.CPUQuota = CPUQuota{n(2048), n(25000), n(-1)}
	want.DiskQuota = DiskQuota{ReadBytes: u(10485760000), WriteIOPS: u(0), TotalIOPSMax: u(7), SizeIOPS: u(4096)}
	want.VIFQuota = VIFQuota{OutboundAverage: n(10), OutboundBurst: n(30)}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Error(diff)
	}
}

func TestHardwareRefuses(t *testing.T) {
	for _, c := range []struct {
		says             []string
		class, key, rule string
	}{
		// A flavor and an image that do not agree.
		{[]string{"hw:pmu=yes", "hw_pmu=no"}, "FlavorImageConflict", "hw_pmu", "hw:pmu=true"},
		{[]string{"hw:vif_multiqueue_enabled=yes", "hw_vif_multiqueue_enabled=no"}, "FlavorImageConflict", "hw_vif_multiqueue_enabled", ""},
		{[]string{"hw:virtio_packed_ring=no", "hw_virtio_packed_ring=yes"}, "FlavorImageConflict", "hw_virtio_packed_ring", ""},
		{[]string{"hw:tpm_version=2.0", "hw_tpm_version=1.2"}, "FlavorImageConflict", "hw_tpm_version", "hw:tpm_version=2.0"},
		{[]string{"hw:tpm_model=tpm-crb", "hw_tpm_model=tpm-tis"}, "FlavorImageConflict", "hw_tpm_model", ""},
		{[]string{"os:secure_boot=disabled", "os_secure_boot=required"}, "FlavorImageConflict", "os_secure_boot", "os:secure_boot=disabled"},
		{[]string{"hw:mem_encryption=no", "hw_mem_encryption=yes", "hw_firmware_type=uefi"}, "FlavorImageConflict", "hw_mem_encryption", ""},
		{[]string{"hw:mem_encryption_model=amd-sev", "hw_mem_encryption_model=amd-sev-es"}, "FlavorImageConflict", "hw_mem_encryption_model", ""},
		{[]string{"hw:maxphysaddr_mode=emulate", "hw_maxphysaddr_mode=passthrough"}, "FlavorImageConflict", "hw_maxphysaddr_mode", ""},
		{[]string{"hw:sound_model=ac97", "hw_sound_model=ich6"}, "FlavorImageConflict", "hw_sound_model", ""},
		{[]string{"hw:usb_model=none", "hw_usb_model=qemu-xhci"}, "FlavorImageConflict", "hw_usb_model", ""},
		{[]string{"hw:redirected_usb_ports=3", "hw_redirected_usb_ports=4"}, "FlavorImageConflict", "hw_redirected_usb_ports", "ports=3"},
		{[]string{"hw:ephemeral_encryption=yes", "hw_ephemeral_encryption=no"}, "FlavorImageConflict", "hw_ephemeral_encryption", ""},
		{[]string{"hw:ephemeral_encryption_format=luks", "hw_ephemeral_encryption_format=plain"}, "FlavorImageConflict", "hw_ephemeral_encryption_format", ""},
		{[]string{"hw:pci_numa_affinity_policy=required", "hw_pci_numa_affinity_policy=socket"}, "ImagePCINUMAPolicyForbidden", "hw_pci_numa_affinity_policy", ""},
		{[]string{"hw:serial_port_count=1", "hw_serial_port_count=2"}, "ImageSerialPortNumberExceedFlavorValue", "hw_serial_port_count", "allows 1"},

		// Settings that need another.
		{[]string{"hw:tpm_version=1.2", "hw_tpm_model=tpm-crb"}, "Invalid", "hw_tpm_model", "2.0"},
		{[]string{"hw:mem_encryption=yes"}, "FlavorImageConflict", "hw_firmware_type", "uefi"},
		{[]string{"hw:mem_encryption=yes", "hw_firmware_type=uefi", "hw_machine_type=pc"}, "InvalidMachineType", "hw_machine_type", "q35"},
		{[]string{"hw:mem_encryption=yes", "hw:mem_encryption_model=amd-sev-snp", "hw_firmware_type=uefi"}, "StatelessFirmwareRequired", "hw_firmware_stateless", ""},
		{[]string{"hw:maxphysaddr_bits=42"}, "Invalid", "hw:maxphysaddr_bits", "emulate"},
		{[]string{"hw_maxphysaddr_mode=emulate"}, "Invalid", "hw_maxphysaddr_mode", "hw:maxphysaddr_bits"},
		{[]string{"hw_maxphysaddr_bits=42", "hw:maxphysaddr_mode=passthrough"}, "Invalid", "hw_maxphysaddr_bits", "emulate"},
		{[]string{"hw_video_ram=65", "hw_video:ram_max_mb=64"}, "RequestedVRamTooHigh", "hw_video_ram", "64"},
		{[]string{"hw_video_ram=1"}, "RequestedVRamTooHigh", "hw_video_ram", "hw_video:ram_max_mb=0"},
		{[]string{"quota:disk_total_bytes_sec=1", "quota:disk_read_bytes_sec=1"}, "Invalid", "quota:disk_total_bytes_sec", "combined"},
		{[]string{"quota:disk_total_iops_sec=1", "quota:disk_write_iops_sec=1"}, "Invalid", "quota:disk_total_iops_sec", "combined"},

		// Numbers out of range, and words that are none.
		{[]string{"hw:serial_port_count=5"}, "SerialPortNumberLimitExceeded", "hw:serial_port_count", "4"},
		{[]string{"hw_serial_port_count=many"}, "ImageSerialPortNumberInvalid", "hw_serial_port_count", "integer"},
		{[]string{"hw:redirected_usb_ports=16"}, "Invalid", "hw:redirected_usb_ports", "0 to 15"},
		{[]string{"hw:redirected_usb_ports=-1"}, "Invalid", "hw:redirected_usb_ports", "0 to 15"},
		{[]string{"quota:cpu_shares=1.5"}, "Invalid", "quota:cpu_shares", "integer"},
		{[]string{"quota:cpu_shares=99999999999"}, "Invalid", "quota:cpu_shares", "at most"},
		{[]string{"quota:cpu_period=999"}, "Invalid", "quota:cpu_period", "1000"},
		{[]string{"quota:cpu_quota=5"}, "Invalid", "quota:cpu_quota", "1000"},
		{[]string{"quota:vif_inbound_average=fast"}, "Invalid", "quota:vif_inbound_average", "integer"},
		{[]string{"resources_x:VGPU=one"}, "InvalidRequest", "resources_x:VGPU", "integer"},
		{[]string{"hw:watchdog_action=bark", "hw_watchdog_action=reset"}, "InvalidWatchdogAction", "hw:watchdog_action", "none, pause, poweroff, reset, disabled"},
		{[]string{"hw_video_model=3dfx"}, "InvalidVideoMode", "hw_video_model", "bochs, cirrus"},
		{[]string{"hw_machine_type=pc'/><x"}, "InvalidMachineType", "hw_machine_type", "letters"},
		{[]string{"hw_architecture=z80"}, "InvalidArchitectureName", "hw_architecture", "x86_64"},
		{[]string{"architecture=z80"}, "InvalidArchitectureName", "architecture", "x86_64"},
		{[]string{"hw_vm_mode=xen"}, "InvalidVirtualMachineMode", "hw_vm_mode", "hvm"},
		{[]string{"hypervisor_type=vmware"}, "InvalidHypervisorVirtType", "hypervisor_type", "kvm, qemu"},
		{[]string{"hw_rescue_device=fs"}, "UnsupportedRescueDevice", "hw_rescue_device", "cdrom, disk, floppy"},
		{[]string{"hw_rescue_bus=isa"}, "UnsupportedRescueBus", "hw_rescue_bus", "virtio"},
		{[]string{"hw_firmware_type=UEFI"}, "Invalid", "hw_firmware_type", "uefi, bios"},
		{[]string{"os:secure_boot=maybe"}, "Invalid", "os:secure_boot", "disabled, optional, required"},
		{[]string{"hw:pmu=perhaps"}, "Invalid", "hw:pmu", "yes"},
		{[]string{"hw:pmem=a b"}, "Invalid", "hw:pmem", "labels"},
		{[]string{"pci_passthrough:alias=gpu"}, "PciInvalidAlias", "pci_passthrough:alias", "count"},
		{[]string{"hw:pci_numa_affinity_policy=near"}, "InvalidPCINUMAAffinity", "hw:pci_numa_affinity_policy", "socket"},
		{[]string{"accel:device_profile=fpga"}, "DeviceProfileError", "accel:device_profile", "Cyborg"},
		{[]string{"trait:HW_X=yes"}, "Invalid", "trait:HW_X", "required, forbidden"},
		{[]string{"trait:<b>=required"}, "Invalid", "trait:<b>", "A to Z"},

		// What could do harm in a definition.
		{[]string{"os_command_line=a\nb"}, "Invalid", "os_command_line", "one line"},
		{[]string{"os_distro=\xff\xfe"}, "Invalid", "os_distro", "one line"},
		{[]string{"os_admin_user=" + strings.Repeat("x", 256)}, "Invalid", "os_admin_user", "255"},
		{[]string{"img_root_device_name=/dev/<vda>"}, "Invalid", "img_root_device_name", "device"},
		{[]string{"hw_disk_bus=" + strings.Repeat("virtio\x00", 1<<16)}, "Invalid", "hw_disk_bus", "virtio"},
		{[]string{"trait:" + strings.Repeat("A", 300) + "=required"}, "Invalid", "trait:" + strings.Repeat("A", 58) + "…", "255"},
	} {
		_, err := settings(c.says...).Hardware()
		var refused *Error
		if !errors.As(err, &refused) {
			t.Errorf("%.100q: %v", c.says, err)
			continue
		}
		if refused.Class != c.class || refused.Key != c.key || !strings.Contains(refused.Rule, c.rule) {
			t.Errorf("%.100q: %s: %v; want %s of %s with %q", c.says, refused.Class, refused, c.class, c.key, c.rule)
		}
		if len(err.Error()) > 800 || strings.IndexFunc(err.Error(), func(c rune) bool { return c < ' ' }) >= 0 {
			t.Errorf("%.100q: an error of %d bytes: %.200q", c.says, len(err.Error()), err)
		}
	}
}
