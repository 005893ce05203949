package main

import (
	"context"
	"fmt"

	"compute-agent/virt"
	"compute-agent/virt/libvirt"
)

// The oldest versions that Nova's libvirt driver starts with (nova.virt.libvirt.driver,
// MIN_LIBVIRT_VERSION and MIN_QEMU_VERSION), as libvirt counts.
const (
	oldestLibvirt = 8_000_000
	oldestQEMU    = 6_002_000
)

// hypervisor is what the driver said of the host when doctor asked, once for all checks.
type hypervisor struct {
	driver virt.Driver
	host   virt.Host
	err    error
}

// openHypervisor connects as serve would, but leaves the type of guests to the driver, so that it
// says what the host offers.
func openHypervisor(ctx context.Context, c *Config) hypervisor {
	if c.Driver != "libvirt" {
		return hypervisor{}
	}
	driver, err := libvirt.Open(ctx, libvirt.Options{URI: c.LibvirtURI, VirtType: "auto", Logger: quietLogger()})
	if err != nil {
		return hypervisor{err: err}
	}
	host, err := driver.Host(ctx)
	return hypervisor{driver, host, err}
}

func (h hypervisor) close() {
	if h.driver != nil {
		_ = h.driver.Close() // nothing was changed that closing could lose
	}
}

func (p *patient) checkLibvirt(context.Context) verdict {
	if p.config.Driver != "libvirt" {
		return ok("not used by driver %s", p.config.Driver)
	}
	if err := p.hypervisor.err; err != nil {
		return failure("Start libvirtd (systemctl start libvirtd), and run as root or in the group libvirt.",
			"%v", err)
	}
	h := p.hypervisor.host
	return ok("%s answers: %s, %d CPUs, %d MiB", p.config.LibvirtURI, h.Hostname, h.CPUs, h.MemoryMiB)
}

func (p *patient) checkLibvirtVersion(context.Context) verdict {
	return p.checkVersion(p.hypervisor.host.LibraryVersion, oldestLibvirt)
}

func (p *patient) checkQEMUVersion(context.Context) verdict {
	return p.checkVersion(p.hypervisor.host.HypervisorVersion, oldestQEMU)
}

func (p *patient) checkVersion(have, oldest int) verdict {
	switch {
	case p.config.Driver != "libvirt":
		return ok("not used by driver %s", p.config.Driver)
	case p.hypervisor.err != nil:
		return warning("See libvirt connection.", "unknown")
	case have < oldest:
		return failure("Upgrade to "+dotted(oldest)+" or newer.", "%s is too old", dotted(have))
	}
	return ok("%s", dotted(have))
}

// checkVirtType says what new guests will run on.
func (p *patient) checkVirtType(context.Context) verdict {
	const remedy = "See cpu virtualisation and kvm device; or set virt_type qemu if emulation is meant."
	offered, wanted := p.hypervisor.host.VirtType, p.config.VirtType
	switch {
	case p.config.Driver != "libvirt":
		return ok("not used by driver %s", p.config.Driver)
	case p.hypervisor.err != nil:
		return warning("See libvirt connection.", "unknown")
	case wanted == "kvm" && offered != "kvm":
		return failure(remedy, "libvirt offers no kvm here, and virt_type asks for it")
	case wanted == "auto" && offered != "kvm":
		return warning(remedy, "libvirt offers no kvm here: guests will be emulated, which is slow")
	case wanted == "qemu":
		return ok("qemu, as virt_type asks; the host offers %s", offered)
	}
	return ok("%s with %s", offered, p.hypervisor.host.Emulator)
}

// dotted writes a version that libvirt counts as major*1000000 + minor*1000 + micro.
func dotted(v int) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000)
}
