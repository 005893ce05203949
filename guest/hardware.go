package guest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"compute-agent/virt"
)

// Part is a piece of a guest as its operating system sees it: a device, or something of the machine itself.
type Part struct {
	Name       string     `json:"name"` // disk vda, NIC 1, firmware
	Properties []Property `json:"properties,omitempty"`

	// identity tells that a part is the same one when its properties have changed: a disk by what is on it.
	// Empty for a part that is known by its name alone.
	identity string
}

// Property is one thing that the guest can see of a part, as text. An empty Value is one that is left to the
// hypervisor.
type Property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// String says the part in a line, without what is not set.
func (p Part) String() string {
	var has []string
	for _, property := range p.Properties {
		switch property.Value {
		case "", no:
		case yes:
			has = append(has, property.Name)
		default:
			has = append(has, property.Name+" "+property.Value)
		}
	}
	if len(has) == 0 {
		return p.Name
	}
	return p.Name + ": " + strings.Join(has, ", ")
}

const yes, no = "yes", "no"

// Hardware is all of a Spec that the guest's operating system can notice. Left out is what only the host knows: files
// and their formats, taps, pCPUs, host cells, pages, limits, caches, logs and addresses.
func Hardware(s virt.Spec) []Part {
	return slices.Concat(
		machineParts(s), memoryParts(s), bootParts(s), featureParts(s),
		diskParts(s.Disks), nicParts(s.NICs), controllerParts(s), smallDevices(s), hostDevices(s))
}

// part makes a part of a name and pairs of a property's name and its value.
func part(name string, pairs ...any) Part {
	p := Part{Name: name}
	for i := 0; i+1 < len(pairs); i += 2 {
		p.Properties = append(p.Properties, Property{Name: fmt.Sprint(pairs[i]), Value: inWords(pairs[i+1])})
	}
	return p
}

// inWords is a property's value as text: nothing for what is not set.
func inWords(value any) string {
	switch v := value.(type) {
	case bool:
		if v {
			return yes
		}
		return no
	case *bool:
		if v == nil {
			return ""
		}
		return inWords(*v)
	case int:
		if v == 0 {
			return ""
		}
		return strconv.Itoa(v)
	case *int:
		if v == nil {
			return ""
		}
		return strconv.Itoa(*v)
	case uint64:
		if v == 0 {
			return ""
		}
		return strconv.FormatUint(v, 10)
	}
	return printable(fmt.Sprint(value))
}

// sized is an amount with its unit, nothing for none.
func sized(n uint64, unit string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d %s", n, unit)
}

// printable quotes text that could command a terminal: some of it is a user's.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

func machineParts(s virt.Spec) []Part {
	c := s.CPU
	cpu := part("CPU", "mode", c.Mode, "model", c.Model, "features", cpuFeatures(c.Features), "vCPUs", s.VCPUs,
		"sockets", c.Sockets, "cores", c.Cores, "threads", c.Threads)
	if c.PhysAddr != nil {
		cpu.Properties = append(cpu.Properties, part("", "address mode", c.PhysAddr.Mode, "address bits", c.PhysAddr.Bits).Properties...)
	}
	return []Part{
		part("machine", "type", s.Machine, "architecture", s.Arch, "virtualization", s.VirtType, "root ports", s.RootPorts),
		part("system", "UUID", s.ID, "serial", s.SMBIOS.Serial),
		cpu,
	}
}

// cpuFeatures are a processor's flags in no order of their own.
func cpuFeatures(features []virt.CPUFeature) string {
	var words []string
	for _, f := range features {
		if f.Policy == "" || f.Policy == "require" {
			words = append(words, f.Name)
		} else {
			words = append(words, f.Name+"="+f.Policy)
		}
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func memoryParts(s virt.Spec) []Part {
	parts := []Part{part("memory", "size", sized(s.MemoryMiB, "MiB"))}
	if s.Placement != nil {
		for i, c := range s.Placement.Cells {
			distances := strings.Trim(fmt.Sprint(c.Distances), "[]")
			parts = append(parts, part(fmt.Sprintf("NUMA cell %d", i), "vCPUs", c.VCPUs.String(), "size", sized(c.MemoryMiB, "MiB"), "distances", distances))
		}
	}
	if e := s.Encryption; e != nil {
		parts = append(parts, part("memory encryption", "model", e.Model, "policy", uint64(e.Policy), "C-bit position", e.CBitPos,
			"reduced address bits", e.ReducedPhysBits))
	}
	return parts
}

// bootParts are the firmware and what it boots. Which files the kernel is in is the host's.
func bootParts(s virt.Spec) []Part {
	b := s.Boot
	return []Part{
		part("firmware", "UEFI", s.Firmware.UEFI, "secure boot", s.Firmware.SecureBoot, "stateless", s.Firmware.Stateless),
		part("boot", "devices", strings.Join(b.Devices, " "), "kernel from the host", b.Kernel != "", "initrd from the host", b.Initrd != "",
			"command line", b.CommandLine),
	}
}

func featureParts(s virt.Spec) []Part {
	f, c := s.Features, s.Clock
	return []Part{
		part("features", "hidden hypervisor", f.HideHypervisor, "Hyper-V", f.HyperV, "Hyper-V vendor", f.HyperVVendor, "PMU", f.PMU,
			"vmcoreinfo", f.VMCoreInfo, "IOAPIC", f.IOAPIC),
		part("clock", "local time", c.LocalTime, "HPET", c.HPET, "Hyper-V time source", c.HyperV),
	}
}

func diskParts(disks []virt.Disk) []Part {
	parts := make([]Part, len(disks))
	for i, d := range disks {
		kind := d.Kind
		if kind == "" {
			kind = "disk"
		}
		parts[i] = part("disk "+d.Target, "target", d.Target, "bus", d.Bus, "kind", kind, "read only", d.ReadOnly || kind == "cdrom",
			"serial", d.Serial, "WWN", d.WWN, "boot position", d.Boot, "logical block size", d.BlockIO.Logical,
			"physical block size", d.BlockIO.Physical, "unit", d.Unit, "packed ring", d.Packed)
		parts[i].identity = contents(d.Source)
	}
	return parts
}

// contents tells two drives apart by what is in them.
func contents(s virt.Source) string {
	if s.Network != nil {
		return s.Network.Protocol + ":" + s.Network.Name
	}
	return s.File + s.Device
}

// nicParts are in the order of their places on the guest's bus, which the guest may name them by.
func nicParts(nics []virt.NIC) []Part {
	parts := make([]Part, len(nics))
	for i, n := range nics {
		parts[i] = part(fmt.Sprintf("NIC %d", i+1), "place", i+1, "MAC", n.MAC, "model", n.Model, "host device", n.Attach.Type == "hostdev",
			"MTU", n.MTU, "queues", max(n.Queues, 1), "receive ring", n.RxRing, "transmit ring", n.TxRing,
			"packed ring", n.Packed, "boot position", n.Boot, "boot ROM", !n.DisableROM)
		parts[i].identity = strings.ToLower(n.MAC)
	}
	return parts
}

func controllerParts(s virt.Spec) []Part {
	var parts []Part
	if v := s.Video; v != nil {
		parts = append(parts, part("video", "model", v.Model, "memory", sized(uint64(v.RAMMiB), "MiB")))
	}
	for i, in := range s.Inputs {
		parts = append(parts, part(fmt.Sprintf("input %d", i+1), "type", in.Type, "bus", in.Bus))
	}
	if s.Sound != "" {
		parts = append(parts, part("sound", "model", s.Sound))
	}
	if s.SCSI != "" {
		parts = append(parts, part("SCSI controller", "model", s.SCSI))
	}
	return append(parts, part("USB", "controller", s.USB.Controller, "redirected ports", s.USB.RedirectedPorts))
}

func smallDevices(s virt.Spec) []Part {
	var parts []Part
	for i := range s.Serial {
		parts = append(parts, part(fmt.Sprintf("serial port %d", i+1)))
	}
	parts = append(parts, part("channels", "guest agent", s.Channels.GuestAgent, "SPICE agent", s.Channels.SPICE))
	if s.TPM != nil {
		parts = append(parts, part("TPM", "version", s.TPM.Version, "model", s.TPM.Model))
	}
	if s.RNG != nil {
		parts = append(parts, part("random number generator"))
	}
	if s.Watchdog != "" {
		parts = append(parts, part("watchdog", "action", s.Watchdog))
	}
	if i := s.IOMMU; i != nil {
		parts = append(parts, part("IOMMU", "model", i.Model, "caching mode", i.CachingMode, "EIM", i.EIM,
			"interrupt remapping", i.InterruptRemapping, "IOTLB", i.IOTLB, "address bits", i.AddressBits))
	}
	if b := s.Balloon; !b.None {
		parts = append(parts, part("balloon", "deflates by itself", b.AutoDeflate, "free page reporting", b.FreePageReporting))
	}
	return parts
}

// hostDevices are what the host hands through. Which of its devices it is, among equals, the guest cannot tell.
func hostDevices(s virt.Spec) []Part {
	var parts []Part
	for i := range s.PCI {
		parts = append(parts, part(fmt.Sprintf("PCI device %d", i+1)))
	}
	for i := range s.Mediated {
		parts = append(parts, part(fmt.Sprintf("mediated device %d", i+1)))
	}
	for i, n := range s.NVDIMMs {
		parts = append(parts, part(fmt.Sprintf("NVDIMM %d", i+1), "size", sized(n.SizeKiB, "KiB")))
	}
	for _, share := range s.Shares {
		p := part("share "+printable(share.Tag), "tag", share.Tag)
		p.identity = share.Path
		parts = append(parts, p)
	}
	return parts
}
