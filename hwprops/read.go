package hwprops

import (
	"maps"
	"slices"
	"strings"

	"compute-agent/internal/pattern"
)

// Hardware reads all that the flavor and the image say. The error is an *Error that names the setting at
// fault, its value and the rule. What depends on the host or the operator's defaults (which machine types,
// buses and models there are) is not judged here.
func (s Source) Hardware() (Hardware, error) {
	r := s.read()
	var h Hardware
	for _, part := range []func(*reader, *Hardware){
		readPlacement, readMachine, readFirmware, readSecurity, readDisks, readNetwork, readDisplay, readDevices, readCPUQuota,
		readDiskQuota, readVIFQuota, readHost, readTraits,
	} {
		part(r, &h)
	}
	if r.err != nil {
		return Hardware{}, r.err
	}
	return h, nil
}

// readPlacement refuses words that are neither yes nor no, which package numa takes for no as Nova does.
func readPlacement(r *reader, _ *Hardware) {
	r.flag("hw:cpu_realtime")
	r.flag("hw:locked_memory")
}

func readMachine(r *reader, h *Hardware) {
	image := r.text("hw_architecture")
	h.Architecture = r.text("hw_emulation_architecture")
	if h.Architecture == "" {
		h.Architecture = image
	}
	h.MachineType = r.text("hw_machine_type")
	h.VMMode = r.text("hw_vm_mode")
	h.OSType = r.text("os_type")
	h.OSDistro = r.text("os_distro")
	h.CommandLine = r.text("os_command_line")
	h.AdminUser = r.text("os_admin_user")
	r.text("img_hv_type") // an image for another hypervisor is refused, and nothing else comes of it
}

func readFirmware(r *reader, h *Hardware) {
	h.Firmware = r.text("hw_firmware_type")
	h.Stateless = r.flag("hw_firmware_stateless") && h.Firmware == "uefi"
	h.SecureBoot = r.text("os:secure_boot")
	h.BootMenu = r.flag("hw:boot_menu")
	older := r.flag("hide_hypervisor_id")
	h.HideHypervisor = r.flag("hw:hide_hypervisor_id") || older
	h.PMU = r.optionalFlag("hw:pmu")
	h.HPET = r.flag("hw_time_hpet")
	readAddressBits(r, h)
}

func readAddressBits(r *reader, h *Hardware) {
	h.PhysAddrMode = r.text("hw:maxphysaddr_mode")
	h.PhysAddrBits = r.integer("hw:maxphysaddr_bits")
	mode, bits := r.get("hw:maxphysaddr_mode"), r.get("hw:maxphysaddr_bits")
	switch emulate := h.PhysAddrMode == "emulate"; {
	case h.PhysAddrBits != 0 && !emulate:
		r.refuse("Invalid", bits.key, bits.value, "needs hw:maxphysaddr_mode=emulate")
	case h.PhysAddrBits == 0 && emulate:
		r.refuse("Invalid", mode.key, mode.value, "needs hw:maxphysaddr_bits")
	}
}

func readSecurity(r *reader, h *Hardware) {
	h.TPM = r.tpm()
	readMemoryEncryption(r, h)
	if format := r.ephemeralFormat(); r.flag("hw:ephemeral_encryption") {
		h.EphemeralFormat = format
		if format == "" {
			h.EphemeralFormat = "luks"
		}
	}
}

// tpm reads what there is to say of a TPM; a model alone asks for none.
func (r *reader) tpm() *TPM {
	t := TPM{Version: r.text("hw:tpm_version"), Model: r.text("hw:tpm_model"), SecretSecurity: r.text("hw:tpm_secret_security")}
	switch {
	case t.Version == "":
		return nil
	case t.Model == "":
		t.Model = "tpm-tis"
	case t.Model == "tpm-crb" && t.Version == "1.2":
		r.refuse("Invalid", r.get("hw:tpm_model").key, t.Model, "needs hw:tpm_version=2.0")
	}
	return &t
}

func (r *reader) ephemeralFormat() string { return r.text("hw:ephemeral_encryption_format") }

// readMemoryEncryption has Nova's conditions; the machine type that is the operator's default is not known
// here.
func readMemoryEncryption(r *reader, h *Hardware) {
	wanted, model := r.flag("hw:mem_encryption"), r.text("hw:mem_encryption_model")
	if !wanted {
		return
	}
	if h.MemEncryption = model; model == "" {
		h.MemEncryption = "amd-sev"
	}
	switch {
	case h.Firmware != "uefi":
		r.refuse("FlavorImageConflict", "hw_firmware_type", h.Firmware, "memory encryption needs hw_firmware_type=uefi")
	case h.MachineType != "" && !strings.Contains(h.MachineType, "q35"):
		r.refuse("InvalidMachineType", "hw_machine_type", h.MachineType, "memory encryption needs a q35 machine type")
	case h.MemEncryption == "amd-sev-snp" && !h.Stateless:
		r.refuse("StatelessFirmwareRequired", "hw_firmware_stateless", r.Properties["hw_firmware_stateless"],
			"amd-sev-snp needs hw_firmware_stateless=yes")
	}
}

func readDisks(r *reader, h *Hardware) {
	adapter := r.text("vmware_adaptertype")
	h.DiskBus = r.text("hw_disk_bus")
	h.SCSIModel = r.text("hw_scsi_model")
	if adapter == "ide" && h.DiskBus == "" {
		h.DiskBus = "ide"
	}
	if adapter != "" && adapter != "ide" {
		h.DiskBus, h.SCSIModel = orElse(h.DiskBus, "scsi"), orElse(h.SCSIModel, adapter)
	}
	h.CDROMBus = r.text("hw_cdrom_bus")
	h.FloppyBus = r.text("hw_floppy_bus")
	h.RescueDevice = r.text("hw_rescue_device")
	h.RescueBus = r.text("hw_rescue_bus")
	h.RootDevice = r.text("img_root_device_name")
	h.ConfigDrive = r.text("img_config_drive") == "mandatory"
}

func orElse(word, otherwise string) string {
	if word == "" {
		return otherwise
	}
	return word
}

func readNetwork(r *reader, h *Hardware) {
	h.VIFModel = r.text("hw_vif_model")
	h.Multiqueue = r.flag("hw:vif_multiqueue_enabled")
	h.PackedRing = r.flag("hw:virtio_packed_ring")
	h.IPXEBoot = r.flag("hw_ipxe_boot")
}

func readDisplay(r *reader, h *Hardware) {
	h.VideoModel = r.text("hw_video_model")
	limit := r.integer("hw_video:ram_max_mb")
	h.VideoRAMMiB = r.integer("hw_video_ram")
	if h.VideoRAMMiB > limit {
		r.refuse("RequestedVRamTooHigh", "hw_video_ram", r.text("hw_video_ram"), "the flavor allows hw_video:ram_max_mb=%d", limit)
	}
	h.PointerModel = r.text("hw_pointer_model")
	h.InputBus = r.text("hw_input_bus")
	h.SoundModel = r.text("hw:sound_model")
	h.USBModel = r.text("hw:usb_model")
	h.RedirectedPorts = r.integer("hw:redirected_usb_ports")
}

// maxSerialPorts is how many an ISA bus of QEMU has.
const maxSerialPorts = 4

func readDevices(r *reader, h *Hardware) {
	if allowed := r.optionalFlag("hw_rng:allowed"); allowed == nil || *allowed {
		h.RNG.Allowed = true
	}
	h.RNG.Bytes, h.RNG.Period = r.integer("hw_rng:rate_bytes"), r.integer("hw_rng:rate_period")
	r.text("hw_rng_model")
	if h.Watchdog = r.text("hw:watchdog_action"); h.Watchdog == "disabled" {
		h.Watchdog = ""
	}
	var key string
	if h.SerialPorts, key = r.serialPorts(); h.SerialPorts > maxSerialPorts {
		r.refuse("SerialPortNumberLimitExceeded", key, r.said(key), "a guest has at most %d serial ports", maxSerialPorts)
	}
	h.GuestAgent = r.flag("hw_qemu_guest_agent")
	h.RequireQuiesce = r.flag("os_require_quiesce")
	h.VIOMMU = r.text("hw:viommu_model")
}

// said is what a key says in the flavor, or in the image if the flavor has none of the name.
func (r *reader) said(key string) string {
	if value, set := r.ExtraSpecs[key]; set {
		return value
	}
	return r.Properties[key]
}

func readCPUQuota(r *reader, h *Hardware) {
	q := CPUQuota{Shares: r.optionalInteger("quota:cpu_shares"), Period: r.optionalInteger("quota:cpu_period"), Quota: r.optionalInteger("quota:cpu_quota")}
	if p := q.Period; p != nil && *p != 0 && (*p < 1000 || *p > 1000000) {
		r.refuse("Invalid", "quota:cpu_period", r.said("quota:cpu_period"), "must be from 1000 to 1000000 microseconds, or 0")
	}
	if q.Quota != nil && *q.Quota > 0 && *q.Quota < 1000 {
		r.refuse("Invalid", "quota:cpu_quota", r.said("quota:cpu_quota"), "must be at least 1000 microseconds, or 0 or negative for no limit")
	}
	h.CPUQuota = q
}

func readDiskQuota(r *reader, h *Hardware) {
	q := &h.DiskQuota
	fields := []struct {
		name  string
		field **uint64
	}{
		{"read_bytes_sec", &q.ReadBytes}, {"write_bytes_sec", &q.WriteBytes}, {"total_bytes_sec", &q.TotalBytes},
		{"read_iops_sec", &q.ReadIOPS}, {"write_iops_sec", &q.WriteIOPS}, {"total_iops_sec", &q.TotalIOPS},
		{"read_bytes_sec_max", &q.ReadBytesMax}, {"write_bytes_sec_max", &q.WriteBytesMax}, {"total_bytes_sec_max", &q.TotalBytesMax},
		{"read_iops_sec_max", &q.ReadIOPSMax}, {"write_iops_sec_max", &q.WriteIOPSMax}, {"total_iops_sec_max", &q.TotalIOPSMax},
		{"size_iops_sec", &q.SizeIOPS},
	}
	for _, f := range fields {
		*f.field = r.optionalCount("quota:disk_" + f.name)
	}
	r.notBoth(q.TotalBytes, q.ReadBytes, q.WriteBytes, "bytes_sec")
	r.notBoth(q.TotalIOPS, q.ReadIOPS, q.WriteIOPS, "iops_sec")
	r.notBoth(q.TotalBytesMax, q.ReadBytesMax, q.WriteBytesMax, "bytes_sec_max")
	r.notBoth(q.TotalIOPSMax, q.ReadIOPSMax, q.WriteIOPSMax, "iops_sec_max")
}

// notBoth refuses a limit of the sum beside one of its parts, which no hypervisor takes.
func (r *reader) notBoth(total, read, write *uint64, unit string) {
	limits := func(n *uint64) bool { return n != nil && *n > 0 }
	if limits(total) && (limits(read) || limits(write)) {
		key := "quota:disk_total_" + unit
		r.refuse("Invalid", key, r.said(key), "cannot be combined with quota:disk_read_%s or quota:disk_write_%s", unit, unit)
	}
}

// readVIFQuota leaves out a peak and a burst that have no average: they say nothing without it.
func readVIFQuota(r *reader, h *Hardware) {
	q := VIFQuota{
		InboundAverage: r.optionalInteger("quota:vif_inbound_average"), InboundPeak: r.optionalInteger("quota:vif_inbound_peak"),
		InboundBurst: r.optionalInteger("quota:vif_inbound_burst"), OutboundAverage: r.optionalInteger("quota:vif_outbound_average"),
		OutboundPeak: r.optionalInteger("quota:vif_outbound_peak"), OutboundBurst: r.optionalInteger("quota:vif_outbound_burst"),
	}
	if q.InboundAverage == nil {
		q.InboundPeak, q.InboundBurst = nil, nil
	}
	if q.OutboundAverage == nil {
		q.OutboundPeak, q.OutboundBurst = nil, nil
	}
	h.VIFQuota = q
}

func readHost(r *reader, h *Hardware) {
	h.PCIAlias = r.text("pci_passthrough:alias")
	h.PCIAffinity = r.text("hw:pci_numa_affinity_policy")
	h.PMEM = r.labels()
	if profile := r.get("accel:device_profile"); profile.key != "" {
		r.refuse("DeviceProfileError", profile.key, profile.value, "needs the accelerator service Cyborg, which this agent does not use")
	}
	vgpus := setting("resources[GROUP]:VGPU")
	for _, key := range slices.Sorted(maps.Keys(r.ExtraSpecs)) {
		if vgpus.specs.MatchString(key) {
			h.VGPUs += r.number(vgpus, key)
		}
	}
}

// labels reads hw:pmem, in which spaces may stand beside the commas.
func (r *reader) labels() []string {
	list := r.PersistentMemory()
	if !setting("hw:pmem").pattern.MatchString(strings.Join(list, ",")) && len(list) > 0 {
		r.refuse("Invalid", "hw:pmem", r.ExtraSpecs["hw:pmem"], "%s", setting("hw:pmem").Rule())
	}
	return list
}

var traitPrefix = pattern.New(`^trait[a-zA-Z0-9_-]{0,64}:`)

// readTraits reads the traits of the flavor, in numbered groups or not, and of the image.
func readTraits(r *reader, h *Hardware) {
	for _, key := range slices.Sorted(maps.Keys(r.ExtraSpecs)) {
		if prefix := traitPrefix.FindString(key); prefix != "" {
			r.trait(h, key, key[len(prefix):], r.ExtraSpecs)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.Properties)) {
		if name, is := strings.CutPrefix(key, "trait:"); is {
			r.trait(h, key, name, r.Properties)
		}
	}
	h.TraitsNeeded, h.TraitsForbidden = sortedOnce(h.TraitsNeeded), sortedOnce(h.TraitsForbidden)
}

func sortedOnce(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

func (r *reader) trait(h *Hardware, key, name string, from map[string]string) {
	s := setting("trait[GROUP]:TRAIT")
	if !s.specs.MatchString(key) || len(name) > 255 {
		r.refuse("Invalid", key, from[key], "a trait's name has only A to Z, 0 to 9 and _, and at most 255 of them")
		return
	}
	switch r.check(s, key, from).value {
	case "required":
		h.TraitsNeeded = append(h.TraitsNeeded, name)
	case "forbidden":
		h.TraitsForbidden = append(h.TraitsForbidden, name)
	}
}
