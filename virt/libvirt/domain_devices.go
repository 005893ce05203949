package libvirt

import (
	"time"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

func renderEmulator(d *libvirtxml.Domain, s *virt.Spec) { d.Devices.Emulator = s.Emulator }

// renderBalloon names the balloon in any case, because libvirt adds one to a domain that does not. It rounds
// the period up to the whole seconds that libvirt counts in.
func renderBalloon(d *libvirtxml.Domain, s *virt.Spec) {
	b := s.Balloon
	if b.None {
		d.Devices.MemBalloon = &libvirtxml.DomainMemBalloon{Model: "none"}
		return
	}
	d.Devices.MemBalloon = &libvirtxml.DomainMemBalloon{
		Model: "virtio", AutoDeflate: onOrNothing(b.AutoDeflate), FreePageReporting: onOrNothing(b.FreePageReporting),
	}
	if b.Period > 0 {
		seconds := (b.Period + time.Second - 1) / time.Second
		d.Devices.MemBalloon.Stats = &libvirtxml.DomainMemBalloonStats{Period: uint(seconds)}
	}
}

func renderRNG(d *libvirtxml.Domain, s *virt.Spec) {
	if s.RNG == nil {
		return
	}
	rng := libvirtxml.DomainRNG{
		Model:   "virtio",
		Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: s.RNG.Source}},
	}
	if s.RNG.Bytes > 0 {
		rng.Rate = &libvirtxml.DomainRNGRate{Bytes: uint(s.RNG.Bytes), Period: uint(s.RNG.Period)}
	}
	d.Devices.RNGs = append(d.Devices.RNGs, rng)
}

func renderWatchdog(d *libvirtxml.Domain, s *virt.Spec) {
	if s.Watchdog != "" {
		d.Devices.Watchdogs = append(d.Devices.Watchdogs, libvirtxml.DomainWatchdog{Model: "i6300esb", Action: s.Watchdog})
	}
}

// renderShares makes directories of the host mountable in the guest.
func renderShares(d *libvirtxml.Domain, s *virt.Spec) {
	for _, share := range s.Shares {
		d.Devices.Filesystems = append(d.Devices.Filesystems, libvirtxml.DomainFilesystem{
			Driver: &libvirtxml.DomainFilesystemDriver{Type: "virtiofs"},
			Source: &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: share.Path}},
			Target: &libvirtxml.DomainFilesystemTarget{Dir: share.Tag},
		})
	}
}

// alias is a user's name for a device; nil for none.
func alias(name string) *libvirtxml.DomainAlias {
	if name == "" {
		return nil
	}
	return &libvirtxml.DomainAlias{Name: name}
}

// bootOrder is a device's place among those that the firmware tries; nil for none.
func bootOrder(position int) *libvirtxml.DomainDeviceBoot {
	if position == 0 {
		return nil
	}
	return &libvirtxml.DomainDeviceBoot{Order: uint(position)}
}
