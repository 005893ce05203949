package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

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
	if owned := p.foreignCA(); owned != "" {
		return warning("chown -R "+swtpmUser+" "+swtpmCA, "swtpm runs as user %s and cannot write %s: no guest with a new TPM starts", swtpmUser, owned)
	}
	return ok("swtpm: %s", strings.Join(guests.TPMVersions, ", "))
}

// Debian's libvirt runs swtpm as this user. A libvirtd that was started before swtpm was installed, when there was no
// such user, runs it as root instead until it is started again: what root has made in swtpm's certificate authority
// until then is in the way.
const (
	swtpmUser = "tss"
	swtpmCA   = "/var/lib/swtpm-localca"
)

// foreignCA is the first file of swtpm's certificate authority that its user does not own; empty for none, and where
// libvirt's configuration names the user.
func (p *patient) foreignCA() string {
	u, _, err := p.lookupUser(swtpmUser)
	if err != nil {
		return ""
	}
	settings, err := os.ReadFile(p.path("/etc/libvirt/qemu.conf"))
	if err == nil && setsUser.Match(settings) {
		return ""
	}
	entries, err := os.ReadDir(p.path(swtpmCA))
	if err != nil {
		return ""
	}
	for _, e := range entries {
		path := filepath.Join(swtpmCA, e.Name())
		info, err := os.Stat(p.path(path))
		if err != nil {
			continue
		}
		if st, is := info.Sys().(*syscall.Stat_t); is && strconv.Itoa(int(st.Uid)) != u.Uid {
			return path
		}
	}
	return ""
}

var setsUser = regexp.MustCompile(`(?m)^\s*swtpm_user\s*=`)
