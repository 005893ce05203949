package main

import (
	"context"
	"strings"

	"compute-agent/virt"
)

// guestsHere are what guests of the configuration's kind can have on the machine type that has most; nil when that is
// not told.
func (p *patient) guestsHere() *virt.Capabilities {
	h := p.hypervisor.host
	virtType := h.VirtType
	if p.config.VirtType != "auto" {
		virtType = p.config.VirtType
	}
	for _, machine := range []string{"q35", "virt", "pseries", "s390-ccw-virtio"} {
		if c := h.CapabilitiesOf(h.Arch, virtType, machine); c != nil {
			return c
		}
	}
	return nil
}

// checkUEFI looks for firmware as libvirt does for a guest.
func (p *patient) checkUEFI(context.Context) verdict {
	const remedy = "apt-get install ovmf (qemu-efi-aarch64 on ARM); only servers whose image says hw_firmware_type=uefi need it."
	guests := p.guestsHere()
	switch {
	case p.config.Driver != "libvirt":
		return ok("not used by driver %s", p.config.Driver)
	case p.hypervisor.err != nil:
		return warning("See libvirt connection.", "unknown")
	case guests == nil || guests.Firmware == nil:
		return ok("libvirt does not tell")
	case guests.Firmware.Refuses("efi"):
		return warning(remedy, "libvirt finds none")
	case guests.SecureBoot == virt.No:
		return warning(remedy, "without secure boot")
	case guests.SecureBoot == virt.Yes:
		return ok("with secure boot")
	}
	return ok("found")
}

// checkTPM looks for the emulator of TPMs, which libvirt runs.
func (p *patient) checkTPM(context.Context) verdict {
	const remedy = "apt-get install swtpm swtpm-tools; only servers that ask for a TPM (hw:tpm_version) need it."
	guests := p.guestsHere()
	switch {
	case p.config.Driver != "libvirt":
		return ok("not used by driver %s", p.config.Driver)
	case p.hypervisor.err != nil:
		return warning("See libvirt connection.", "unknown")
	case guests == nil || guests.TPMBackends == nil:
		return ok("libvirt does not tell")
	case guests.TPMBackends.Refuses("emulator"):
		return warning(remedy, "libvirt finds no swtpm")
	}
	return ok("swtpm: %s", strings.Join(guests.TPMVersions, ", "))
}
