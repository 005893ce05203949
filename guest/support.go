package guest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"compute-agent/hwprops"
	"compute-agent/virt"
)

// Supported says what of a guest this host cannot do: the first such thing as an *Error, that names the extra spec
// or image property which asks for it, or else the operator's option or the device, and what the host lacks. It is
// pure, and nil for a host that does not tell what it can do.
func Supported(spec virt.Spec, host virt.Host, asked hwprops.Source) error {
	s := support{spec: &spec, host: &host, asked: asked, caps: host.CapabilitiesOf(spec.Arch, spec.VirtType, spec.Machine)}
	s.told = s.caps != nil
	if !s.told {
		s.caps = &virt.Capabilities{} // which refuses nothing
	}
	for _, part := range []func() error{
		s.kind, s.machine, s.processor, s.firmware, s.memory, s.encryption, s.features, s.disks, s.nics, s.screen,
		s.sound, s.tpm, s.rng, s.iommu, s.hostDevices, s.versions,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// support holds a guest against a host.
type support struct {
	spec  *virt.Spec
	host  *virt.Host
	caps  *virt.Capabilities
	told  bool // the host says what such guests can have
	asked hwprops.Source
}

// by is the first of the keys that the flavor or the image has; where neither says anything it is who else
// decides.
func (s *support) by(otherwise string, keys ...string) string {
	for _, key := range keys {
		_, inFlavor := s.asked.ExtraSpecs[key]
		_, inImage := s.asked.Properties[key]
		if inFlavor || inImage {
			return key
		}
	}
	return otherwise
}

// offered checks a word against what the host offers.
func (s *support) offered(offer virt.Offer, class, key, word string) error {
	switch {
	case word == "" || !offer.Refuses(word):
		return nil
	case len(offer) == 0:
		return failed(class, key, word, "%s has none for %s", s.hypervisor(), s.guests())
	}
	return failed(class, key, word, "%s offers %s for %s", s.hypervisor(), some(offer), s.guests())
}

// some are the first words of a list.
func some(words []string) string {
	const most = 12
	if len(words) <= most {
		return strings.Join(words, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ", "), len(words)-most)
}

func (s *support) hypervisor() string {
	return s.host.Hypervisor + " " + dotted(s.host.HypervisorVersion)
}
func (s *support) library() string { return "libvirt " + dotted(s.host.LibraryVersion) }

// guests are those that the host's capabilities are about.
func (s *support) guests() string {
	return fmt.Sprintf("%s guests of machine type %s", s.spec.VirtType, s.host.CanonicalMachine(s.spec.Arch, s.spec.Machine))
}

// dotted writes a version that libvirt counts as major*1000000 + minor*1000 + micro.
func dotted(v int) string { return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000) }

// kind checks that the host runs guests of the architecture, in the way that is asked for.
func (s *support) kind() error {
	if s.host.Supported == nil {
		return nil
	}
	known := false
	for _, k := range s.host.Supported {
		if k.Arch == s.spec.Arch && k.VirtType == s.spec.VirtType {
			return nil
		}
		known = known || k.Arch == s.spec.Arch
	}
	if known {
		return failed("UnsupportedVirtType", "virt_type", s.spec.VirtType, "%s has no such guests of architecture %s here", s.hypervisor(), s.spec.Arch)
	}
	key := s.by("architecture", "hw_emulation_architecture", "hw_architecture", "architecture")
	return failed("InvalidArchitectureName", key, s.spec.Arch, "this host has no emulator for it; install the package that has qemu-system-%s", emulatorSuffix(s.spec.Arch))
}

// emulatorSuffix is the name by which QEMU's program for an architecture goes.
func emulatorSuffix(arch string) string {
	switch arch {
	case "i686":
		return "i386"
	case "armv6", "armv6l", "armv7l", "armv7b":
		return "arm"
	case "ppc64le":
		return "ppc64"
	}
	return arch
}

func (s *support) machine() error {
	key := s.by("hw_machine_type of the operator", "hw_machine_type")
	m := s.host.MachineType(s.spec.Arch, s.spec.Machine)
	if m == nil {
		if have := machineNames(s.host, s.spec.Arch); len(have) > 0 {
			return failed("InvalidMachineType", key, s.spec.Machine, "%s has %s", s.hypervisor(), some(have))
		}
		return nil
	}
	if most := leastOf(m.MaxVCPUs, s.caps.MaxVCPUs); most > 0 && s.spec.VCPUs > most {
		return failed("Invalid", "vcpus", strconv.Itoa(s.spec.VCPUs), "%s takes %d with %s", s.hypervisor(), most, s.guests())
	}
	return nil
}

// leastOf is the smaller limit; 0 is none. What a host says of a kind of machine is about the newest of its kind.
func leastOf(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// machineNames are the host's machine types for an architecture: aliases first, then the newest versions.
func machineNames(h *virt.Host, arch string) []string {
	var aliases, names []string
	for _, m := range h.Machines {
		if m.Arch == arch {
			aliases, names = append(aliases, m.Aliases...), append(names, m.Name)
		}
	}
	slices.Sort(aliases)
	slices.SortFunc(names, func(a, b string) int { return -compareVersions(a, b) })
	return append(aliases, names...)
}

// compareVersions orders names by the numbers at their ends, and then by what is before.
func compareVersions(a, b string) int {
	nameA, versionA := cutVersion(a)
	nameB, versionB := cutVersion(b)
	return cmp.Or(slices.Compare(versionA, versionB), cmp.Compare(nameB, nameA))
}

func cutVersion(name string) (before string, numbers []int) {
	i := strings.LastIndexByte(name, '-')
	for _, part := range strings.Split(name[i+1:], ".") {
		n, err := strconv.Atoi(strings.TrimLeft(part, "abcdefghijklmnopqrstuvwxyz"))
		if err != nil {
			return name, nil
		}
		numbers = append(numbers, n)
	}
	return name[:max(i, 0)], numbers
}

func (s *support) processor() error {
	cpu := &s.spec.CPU
	if cpu.Mode == "none" {
		return nil
	}
	const class = "InvalidCPUInfo"
	if err := s.offered(s.caps.CPUModes, class, "cpu_mode", cpu.Mode); err != nil {
		return err
	}
	if cpu.Mode != "custom" || s.caps.CPUModels == nil {
		return nil
	}
	model := s.caps.CPUModel(cpu.Model)
	switch {
	case model == nil:
		return failed(class, "cpu_models", cpu.Model, "%s has no such model for %s", s.hypervisor(), s.guests())
	case model.Usable == virt.No && s.spec.VirtType == "kvm" && !s.takesFlags():
		return failed(class, "cpu_models", cpu.Model, "the processor of this host (%s) lacks features of it", cmp.Or(s.host.CPU.Model, "unknown"))
	}
	return nil
}

// takesFlags says whether flags are taken from the CPU model, perhaps those that the host lacks.
func (s *support) takesFlags() bool {
	return slices.ContainsFunc(s.spec.CPU.Features, func(f virt.CPUFeature) bool { return f.Policy == "disable" || f.Policy == "forbid" })
}

func (s *support) firmware() error {
	f := s.spec.Firmware
	if !f.UEFI {
		return nil
	}
	if s.caps.Firmware.Refuses("efi") {
		return failed("UEFINotSupported", s.by("hw_firmware_type", "hw_firmware_type"), "uefi", "this host has no UEFI firmware for %s; install the package %s",
			s.guests(), firmwarePackage(s.spec.Arch))
	}
	if f.SecureBoot && s.caps.SecureBoot == virt.No {
		return failed("SecureBootNotSupported", s.by("os_secure_boot", "os:secure_boot", "os_secure_boot"), "required",
			"this host has no firmware with secure boot for %s; it takes the package %s, and on x86 machine type q35", s.guests(), firmwarePackage(s.spec.Arch))
	}
	if f.Stateless && s.caps.Stateless == virt.No {
		return failed("UEFINotSupported", "hw_firmware_stateless", "true", "this host has no stateless firmware for %s", s.guests())
	}
	return nil
}

// firmwarePackage is Debian's package with an architecture's UEFI firmware.
func firmwarePackage(arch string) string {
	switch {
	case arch == "aarch64":
		return "qemu-efi-aarch64"
	case strings.HasPrefix(arch, "arm"):
		return "qemu-efi-arm"
	case arch == "i686":
		return "ovmf-ia32"
	case arch == "riscv64":
		return "qemu-efi-riscv64"
	}
	return "ovmf"
}

func (s *support) memory() error {
	m := s.spec.Memory
	source, key := "", ""
	switch {
	case m.FileBacked:
		source, key = "file", "file_backed_memory"
	case m.Memfd:
		source, key = "memfd", "shares"
	}
	if err := s.offered(s.caps.MemorySources, "UnsupportedHardware", key, source); err != nil {
		return err
	}
	if len(s.spec.Shares) > 0 {
		return s.offered(s.caps.FileSystems, "UnsupportedHardware", "shares", "virtiofs")
	}
	return nil
}

// encryption checks AMD's SEV, whose kinds have guests of their own to spare.
func (s *support) encryption() error {
	e := s.spec.Encryption
	if e == nil || !s.told {
		return nil
	}
	lacks := func(rule string, args ...any) error {
		key := s.by("hw_mem_encryption", "hw:mem_encryption_model", "hw_mem_encryption_model", "hw:mem_encryption", "hw_mem_encryption")
		return failed("UnsupportedHardware", key, e.Model, rule, args...)
	}
	switch sev := s.caps.SEV; {
	case sev == nil:
		return lacks("this host cannot encrypt memory for %s: it needs an AMD EPYC processor with SEV, turned on in the firmware and in kvm_amd", s.guests())
	case e.Model != "amd-sev" && sev.MaxESGuests == 0:
		return lacks("this host's firmware has no room for guests with SEV-ES or SEV-SNP")
	case e.Model == "amd-sev-snp" && s.caps.LaunchSecurity.Refuses("sev-snp"):
		return lacks("%s offers %s", s.hypervisor(), some(s.caps.LaunchSecurity))
	}
	return nil
}

func (s *support) features() error {
	f, c := &s.spec.Features, s.caps
	if f.HyperV && c.HyperV.Refuses("relaxed") {
		return failed("UnsupportedHardware", s.by("os_type", "os_type"), "windows", "%s has no enlightenments of Hyper-V for %s", s.hypervisor(), s.guests())
	}
	for _, need := range []struct {
		asked  bool
		answer virt.Answer
		key    string
	}{
		{f.VMCoreInfo, c.VMCoreInfo, "vmcoreinfo"},
		{s.spec.IOThreads > 0, c.IOThreads, "iothreads"},
	} {
		if need.asked && need.answer == virt.No {
			return failed("UnsupportedHardware", need.key, "on", "%s has none for %s", s.hypervisor(), s.guests())
		}
	}
	return nil
}

// diskKeys are the properties that name the bus of a kind of drive.
var diskKeys = map[string][]string{
	"": {"hw_disk_bus", "hw_rescue_bus"}, "disk": {"hw_disk_bus", "hw_rescue_bus"}, "lun": {"hw_disk_bus"},
	"cdrom": {"hw_cdrom_bus", "hw_rescue_bus"}, "floppy": {"hw_floppy_bus", "hw_rescue_bus"},
}

func (s *support) disks() error {
	const class = "UnsupportedHardware"
	for i := range s.spec.Disks {
		d := &s.spec.Disks[i]
		key := "bus of drive " + d.Target
		for _, property := range diskKeys[d.Kind] {
			if s.asked.Properties[property] == d.Bus {
				key = property
				break
			}
		}
		if err := s.offered(s.caps.DiskBuses, class, key, d.Bus); err != nil {
			return err
		}
		if err := s.offered(s.caps.DiskDevices, class, "kind of drive "+d.Target, cmp.Or(d.Kind, "disk")); err != nil {
			return err
		}
	}
	return s.scsi()
}

// scsi checks the controllers of which capabilities do not tell. QEMU has no BusLogic, and IBM's for its own
// machines alone.
func (s *support) scsi() error {
	model := s.spec.SCSI
	isPower := strings.HasPrefix(s.spec.Arch, "ppc")
	if !s.told {
		return nil
	}
	if model == "buslogic" || model == "ibmvscsi" && !isPower {
		return failed("UnsupportedHardware", s.by("hw_scsi_model", "hw_scsi_model"), model, "%s has no such controller for %s", s.hypervisor(), s.guests())
	}
	return nil
}

// pciNICs are the network devices that QEMU has on a PCI bus. Of which there are, capabilities do not tell.
var pciNICs = []string{"virtio", "ne2k_pci", "pcnet", "rtl8139", "e1000", "e1000e", "vmxnet3", "igb"}

func (s *support) nics() error {
	for i := range s.spec.NICs {
		model := s.spec.NICs[i].Model
		switch {
		case model == "" || !s.told || slices.Contains(pciNICs, model):
		case model == "spapr-vlan" && strings.HasPrefix(s.spec.Arch, "ppc"):
		case model == "lan9118" && strings.HasPrefix(s.spec.Arch, "arm"):
		default:
			return failed("UnsupportedHardware", s.by("model of NIC "+s.spec.NICs[i].MAC, "hw_vif_model"), model, "%s has %s for %s", s.hypervisor(), some(pciNICs), s.guests())
		}
	}
	return nil
}

func (s *support) screen() error {
	for _, g := range s.spec.Graphics {
		if err := s.offered(s.caps.Graphics, "UnsupportedHardware", "graphics", g.Type); err != nil {
			return err
		}
	}
	if s.spec.Channels.SPICE {
		if err := s.offered(s.caps.Channels, "UnsupportedHardware", "channel of SPICE's agent", "spicevmc"); err != nil {
			return err
		}
	}
	if v := s.spec.Video; v != nil {
		if err := s.offered(s.caps.VideoModels, "InvalidVideoMode", s.by("video model", "hw_video_model"), v.Model); err != nil {
			return err
		}
	}
	if s.spec.USB.RedirectedPorts > 0 && s.caps.Redirection.Refuses("usb") {
		key := s.by("redirected_usb_ports", "hw:redirected_usb_ports", "hw_redirected_usb_ports")
		return failed("UnsupportedHardware", key, strconv.Itoa(s.spec.USB.RedirectedPorts), "%s cannot redirect USB devices", s.hypervisor())
	}
	return nil
}

// soundhw is the option of QEMU by which libvirt gave a guest the PC's speaker; QEMU dropped it.
const (
	soundhwEnd   = 7_001_000
	soundhwKnown = 9_001_000 // libvirts before it are known to need it
)

func (s *support) sound() error {
	h := s.host
	if s.spec.Sound == "pcspk" && h.HypervisorVersion >= soundhwEnd && h.LibraryVersion > 0 && h.LibraryVersion < soundhwKnown {
		return failed("UnsupportedHardware", s.by("sound model", "hw:sound_model", "hw_sound_model"), "pcspk",
			"%s cannot give a guest the speaker with %s, which has no option -soundhw any more", s.library(), s.hypervisor())
	}
	return nil
}

func (s *support) tpm() error {
	t, c := s.spec.TPM, s.caps
	if t == nil {
		return nil
	}
	const class = "UnsupportedHardware"
	version := s.by("tpm_version", "hw:tpm_version", "hw_tpm_version")
	if c.TPMModels != nil && len(c.TPMModels) == 0 {
		return failed(class, version, t.Version, "%s has no TPM for %s", s.hypervisor(), s.guests())
	}
	if c.TPMBackends.Refuses("emulator") {
		return failed(class, version, t.Version, "this host has no swtpm; install the packages swtpm and swtpm-tools")
	}
	if err := s.offered(c.TPMVersions, class, version, t.Version); err != nil {
		return err
	}
	return s.offered(c.TPMModels, class, s.by("tpm_model", "hw:tpm_model", "hw_tpm_model"), t.Model)
}

func (s *support) rng() error {
	if s.spec.RNG == nil {
		return nil
	}
	const class = "UnsupportedHardware"
	key := s.by("rng_dev_path", "hw_rng:allowed", "hw_rng_model")
	if err := s.offered(s.caps.RNGModels, class, key, "virtio"); err != nil {
		return err
	}
	return s.offered(s.caps.RNGBackends, class, key, "random")
}

// iommu checks what libvirt asks of the machine.
func (s *support) iommu() error {
	i := s.spec.IOMMU
	if i == nil || !s.told {
		return nil
	}
	key := s.by("IOMMU", "hw:viommu_model", "hw_viommu_model")
	q35 := (s.spec.Arch == "x86_64" || s.spec.Arch == "i686") && strings.Contains(s.host.CanonicalMachine(s.spec.Arch, s.spec.Machine), "q35")
	arm := s.spec.Arch == "aarch64" && strings.HasPrefix(s.spec.Machine, "virt")
	switch {
	case i.Model == "intel" && q35, i.Model == "smmuv3" && arm, i.Model == "virtio" && (q35 || arm):
		return nil
	}
	return failed("InvalidVIOMMUMachineType", key, i.Model, "%s has none for %s", s.hypervisor(), s.guests())
}

// hostDevices checks that the kernel can give devices away.
func (s *support) hostDevices() error {
	if s.caps.VFIO != virt.No {
		return nil
	}
	lacks := func(key, value string) error {
		return failed("PciDeviceUnsupportedHypervisor", key, value, "the kernel of this host cannot give devices to guests: it needs an IOMMU that is turned on, and the module vfio-pci")
	}
	for _, d := range s.spec.PCI {
		return lacks(s.by("PCI device", "pci_passthrough:alias"), d.Address)
	}
	for _, d := range s.spec.Mediated {
		return lacks(s.by("mediated device", "resources:VGPU"), d.UUID)
	}
	for i := range s.spec.NICs {
		if nic := &s.spec.NICs[i]; nic.Attach.Type == "hostdev" {
			return lacks("NIC "+nic.MAC, nic.Attach.Address)
		}
	}
	return nil
}
