package virt

import "compute-agent/internal/pattern"

var (
	vendorForm = pattern.New(`^[A-Za-z0-9 ._-]{1,12}$`)
	smbiosForm = pattern.New(`^[ -~]{1,64}$`)
)

func (s Spec) validateFirmware() error {
	f := s.Firmware
	switch {
	case f.SecureBoot && !f.UEFI:
		return invalid("firmware: secure boot needs UEFI")
	case f.Stateless && !f.UEFI:
		return invalid("firmware: only UEFI can be stateless")
	case f.SecureBoot && s.isX86() && !s.isQ35():
		return invalid("firmware: secure boot needs machine type q35, not %s", s.Machine)
	case s.SMBIOS.Serial != "" && !smbiosForm.MatchString(s.SMBIOS.Serial):
		return invalid("SMBIOS serial %q is not 1 to 64 printable characters", s.SMBIOS.Serial)
	}
	return nil
}

// maxCommandLine is what Linux takes on most processors, and more than it takes on x86.
const maxCommandLine = 4096

func (s Spec) validateBoot() error {
	b := s.Boot
	switch {
	case b.Kernel == "" && b.Initrd != "":
		return invalid("boot: an initrd without a kernel")
	case b.Kernel == "" && b.CommandLine != "":
		return invalid("boot: a command line without a kernel")
	case len(b.CommandLine) > maxCommandLine:
		return invalid("boot: a command line of %d bytes, the most is %d", len(b.CommandLine), maxCommandLine)
	}
	seen := map[string]bool{}
	for _, class := range b.Devices {
		if err := oneOf("boot device", class, "hd", "cdrom", "fd", "network"); err != nil {
			return err
		}
		if seen[class] {
			return invalid("boot device %s is named twice", class)
		}
		seen[class] = true
	}
	return first(optionalPath("boot: kernel", b.Kernel), optionalPath("boot: initrd", b.Initrd))
}

// validateBootOrder checks that the firmware can tell what comes first.
func (s Spec) validateBootOrder() error {
	seen := map[int]bool{}
	take := func(what string, position int) error {
		switch {
		case position == 0:
			return nil
		case position < 0:
			return invalid("%s: boot position %d", what, position)
		case len(s.Boot.Devices) > 0 && s.Boot.Kernel == "":
			return invalid("%s: boot position %d beside boot devices", what, position)
		case seen[position]:
			return invalid("%s: boot position %d is another device's too", what, position)
		}
		seen[position] = true
		return nil
	}
	for _, d := range s.Disks {
		if err := take("disk "+d.Target, d.Boot); err != nil {
			return err
		}
	}
	for _, n := range s.NICs {
		if err := take("NIC "+n.MAC, n.Boot); err != nil {
			return err
		}
	}
	return nil
}

func (s Spec) validateFeatures() error {
	f := s.Features
	switch {
	case f.HyperVVendor != "" && !f.HyperV:
		return invalid("features: a Hyper-V vendor without Hyper-V")
	case f.HyperVVendor != "" && !vendorForm.MatchString(f.HyperVVendor):
		return invalid("features: Hyper-V vendor %q is not 1 to 12 of [A-Za-z0-9 ._-]", f.HyperVVendor)
	case f.TCGCacheMiB != 0 && s.VirtType != "qemu":
		return invalid("features: a translation cache with virt type %s, which translates nothing", s.VirtType)
	}
	return first(
		within("features: translation cache, in MiB,", f.TCGCacheMiB, 0, 1<<20),
		oneOf("features: IOAPIC", f.IOAPIC, "", "qemu", "kvm"),
	)
}

// validateEncryption asks for what Nova does (nova.virt.hardware.get_mem_encryption_constraint): the
// processor has to measure a firmware, and to reach all devices over PCI Express.
func (s Spec) validateEncryption() error {
	e := s.Encryption
	switch {
	case e == nil:
		return nil
	case !s.Firmware.UEFI:
		return invalid("memory encryption needs UEFI")
	case !s.isQ35():
		return invalid("memory encryption needs machine type q35, not %s", s.Machine)
	case s.Features.VMCoreInfo:
		return invalid("memory encryption: the place of crash notes cannot be told from encrypted memory")
	}
	return first(
		oneOf("memory encryption: model", e.Model, "amd-sev", "amd-sev-es", "amd-sev-snp"),
		within("memory encryption: C bit position", e.CBitPos, 0, 63),
		within("memory encryption: reduced physical address bits", e.ReducedPhysBits, 0, 63),
	)
}

// validateIOMMU has libvirt's rules.
func (s Spec) validateIOMMU() error {
	i := s.IOMMU
	switch {
	case i == nil:
		return nil
	case i.Model == "intel" && !s.isQ35():
		return invalid("IOMMU intel needs machine type q35, not %s", s.Machine)
	case i.Model == "smmuv3" && s.Arch != "aarch64":
		return invalid("IOMMU smmuv3 needs arch aarch64, not %s", s.Arch)
	case !s.isPCIe():
		return invalid("IOMMU %s needs a machine type with PCI Express, not %s", i.Model, s.Machine)
	case i.Model != "intel" && *i != IOMMU{Model: i.Model}:
		return invalid("IOMMU %s takes none of intel's settings", i.Model)
	case i.InterruptRemapping && s.Features.IOAPIC != "qemu":
		return invalid("IOMMU: interrupt remapping needs the IOAPIC of qemu")
	case i.EIM && !i.InterruptRemapping:
		return invalid("IOMMU: EIM needs interrupt remapping")
	case i.EIM && s.VirtType != "kvm":
		return invalid("IOMMU: EIM needs virt type kvm")
	case i.AddressBits != 0 && i.AddressBits != 39 && i.AddressBits != 48:
		return invalid("IOMMU: %d address bits are not 39 or 48", i.AddressBits)
	}
	return oneOf("IOMMU model", i.Model, "intel", "smmuv3", "virtio")
}
