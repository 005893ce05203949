package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// renderEncryption hides the guest's memory from the host. That virtio devices then have to use the guest's
// IOMMU platform is what QEMU sees to itself, since 6.0.
func renderEncryption(d *libvirtxml.Domain, s *virt.Spec) {
	e := s.Encryption
	if e == nil {
		return
	}
	if e.Model == "amd-sev-snp" {
		d.LaunchSecurity = &libvirtxml.DomainLaunchSecurity{SEVSNP: &libvirtxml.DomainLaunchSecuritySEVSNP{
			Policy: new(uint64(e.Policy)), CBitPos: unlessZero(e.CBitPos), ReducedPhysBits: unlessZero(e.ReducedPhysBits),
			AuthorKey: "no", VCEK: "yes", KernelHashes: yesNo(s.Boot.Kernel != ""),
		}}
		return
	}
	d.LaunchSecurity = &libvirtxml.DomainLaunchSecurity{SEV: &libvirtxml.DomainLaunchSecuritySEV{
		Policy: new(uint(e.Policy)), CBitPos: unlessZero(e.CBitPos), ReducedPhysBits: unlessZero(e.ReducedPhysBits),
	}}
}

func unlessZero(n int) *uint {
	if n == 0 {
		return nil
	}
	return new(uint(n))
}

func renderTPM(d *libvirtxml.Domain, s *virt.Spec) {
	if s.TPM == nil {
		return
	}
	emulator := &libvirtxml.DomainTPMBackendEmulator{Version: s.TPM.Version}
	if s.TPM.Secret != "" {
		emulator.Encryption = &libvirtxml.DomainTPMBackendEncryption{Secret: s.TPM.Secret}
	}
	d.Devices.TPMs = append(d.Devices.TPMs, libvirtxml.DomainTPM{
		Model: s.TPM.Model, Backend: &libvirtxml.DomainTPMBackend{Emulator: emulator},
	})
}
