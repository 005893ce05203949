package guest

import (
	"strconv"

	"compute-agent/virt"
)

// feature is a thing of guests that hypervisors have since some version, and of which their capabilities do
// not tell.
type feature struct {
	name  string
	class string   // of Nova's exceptions
	keys  []string // that ask for it, the strongest first; the last word is who does if none of them does
	// value is what a guest has of it; empty for nothing.
	value func(s *virt.Spec) string
	// The oldest libvirt and QEMU that have it, as libvirt counts; 0 for every one.
	libvirt, qemu int
}

// newerFeatures are the younger ones. Versions are those of libvirt's and QEMU's release notes, and Nova's
// (nova.virt.libvirt.driver, MIN_...) where it has one.
var newerFeatures = []feature{
	{"virtio packed rings", "UnsupportedHardware", []string{"hw:virtio_packed_ring", "hw_virtio_packed_ring", "packed ring"}, packed, 6_003_000, 4_002_000},
	{"I/O through io_uring", "UnsupportedHardware", []string{"drive's I/O"}, uring, 6_003_000, 5_000_000},
	{"virtiofs", "UnsupportedHardware", []string{"shares"}, sharedTag, 6_002_000, 4_002_000},
	{"address bits of an IOMMU", "UnsupportedHardware", []string{"hw:viommu_model", "hw_viommu_model", "IOMMU"}, iommuBits, 6_005_000, 0},
	{"an IOMMU of virtio's", "UnsupportedHardware", []string{"hw:viommu_model", "hw_viommu_model", "IOMMU"}, virtioIOMMU, 8_003_000, 0},
	{"free page reporting", "UnsupportedHardware", []string{"balloon"}, reporting, 6_009_000, 5_001_000},
	{"stateless firmware", "UEFINotSupported", []string{"hw_firmware_stateless", "stateless firmware"}, stateless, 8_006_000, 0},
	{"a number of physical address bits", "UnsupportedHardware", []string{"hw:maxphysaddr_mode", "hw_maxphysaddr_mode", "physical address bits"}, physAddr, 8_007_000, 0},
	{"network devices igb", "UnsupportedHardware", []string{"hw_vif_model", "NIC model"}, igb, 9_003_000, 8_000_000},
	{"sound devices of virtio's", "UnsupportedHardware", []string{"hw:sound_model", "hw_sound_model", "sound model"}, virtioSound, 10_004_000, 8_002_000},
	{"SEV-ES", "UnsupportedHardware", encryptionKeys, encrypted("amd-sev-es"), 0, 8_000_000},
	{"SEV-SNP", "UnsupportedHardware", encryptionKeys, encrypted("amd-sev-snp"), 10_005_000, 9_001_000},
}

var encryptionKeys = []string{"hw:mem_encryption_model", "hw_mem_encryption_model", "hw:mem_encryption", "hw_mem_encryption", "memory encryption"}

// versions checks what is told by the versions of libvirt and QEMU alone. A version that is 0 is not known.
func (s *support) versions() error {
	for i := range newerFeatures {
		f := &newerFeatures[i]
		value := f.value(s.spec)
		if value == "" {
			continue
		}
		last := len(f.keys) - 1
		key := s.by(f.keys[last], f.keys[:last]...)
		if have := s.host.LibraryVersion; have > 0 && have < f.libvirt {
			return failed(f.class, key, value, "%s needs libvirt %s, this host has %s", f.name, dotted(f.libvirt), dotted(have))
		}
		if have := s.host.HypervisorVersion; have > 0 && have < f.qemu {
			return failed(f.class, key, value, "%s needs QEMU %s, this host has %s", f.name, dotted(f.qemu), dotted(have))
		}
	}
	return nil
}

func when(is bool, value string) string {
	if is {
		return value
	}
	return ""
}

func packed(s *virt.Spec) string {
	for i := range s.Disks {
		if s.Disks[i].Packed {
			return "true"
		}
	}
	for i := range s.NICs {
		if s.NICs[i].Packed {
			return "true"
		}
	}
	return ""
}

func uring(s *virt.Spec) string {
	for i := range s.Disks {
		if s.Disks[i].IO == "io_uring" {
			return "io_uring"
		}
	}
	return ""
}

func igb(s *virt.Spec) string {
	for i := range s.NICs {
		if s.NICs[i].Model == "igb" {
			return "igb"
		}
	}
	return ""
}

func sharedTag(s *virt.Spec) string {
	if len(s.Shares) == 0 {
		return ""
	}
	return s.Shares[0].Tag
}

func iommuBits(s *virt.Spec) string {
	if s.IOMMU == nil || s.IOMMU.AddressBits == 0 {
		return ""
	}
	return strconv.Itoa(s.IOMMU.AddressBits)
}

func virtioIOMMU(s *virt.Spec) string {
	return when(s.IOMMU != nil && s.IOMMU.Model == "virtio", "virtio")
}
func reporting(s *virt.Spec) string   { return when(s.Balloon.FreePageReporting, "free page reporting") }
func stateless(s *virt.Spec) string   { return when(s.Firmware.Stateless, "true") }
func virtioSound(s *virt.Spec) string { return when(s.Sound == "virtio", "virtio") }

func physAddr(s *virt.Spec) string {
	if s.CPU.PhysAddr == nil {
		return ""
	}
	return s.CPU.PhysAddr.Mode
}

func encrypted(model string) func(*virt.Spec) string {
	return func(s *virt.Spec) string { return when(s.Encryption != nil && s.Encryption.Model == model, model) }
}
