package libvirt

import (
	"strconv"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

func renderSerial(d *libvirtxml.Domain, s *virt.Spec) {
	for i := range s.Serial {
		p := &s.Serial[i]
		serial := libvirtxml.DomainSerial{Source: serialSource(p)}
		if p.Log != "" {
			serial.Log = &libvirtxml.DomainChardevLog{File: p.Log, Append: onOff(p.AppendLog)}
		}
		d.Devices.Serials = append(d.Devices.Serials, serial)
	}
}

func serialSource(p *virt.SerialPort) *libvirtxml.DomainChardevSource {
	switch p.Type {
	case "tcp":
		return &libvirtxml.DomainChardevSource{TCP: &libvirtxml.DomainChardevSourceTCP{
			Mode: "bind", Host: p.Host, Service: strconv.Itoa(p.Port),
		}}
	case "unix":
		return unixSocket(p.Path)
	}
	return &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}
}

// unixSocket is one that the hypervisor listens on; libvirt chooses its path when it is empty.
func unixSocket(path string) *libvirtxml.DomainChardevSource {
	return &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: path}}
}

// renderChannels makes the channels on which the agents in the guest listen.
func renderChannels(d *libvirtxml.Domain, s *virt.Spec) {
	if s.Channels.SPICE {
		addChannel(d, "com.redhat.spice.0", &libvirtxml.DomainChardevSource{SpiceVMC: &libvirtxml.DomainChardevSourceSpiceVMC{}})
	}
	if s.Channels.GuestAgent {
		addChannel(d, "org.qemu.guest_agent.0", unixSocket(s.Channels.GuestAgentSocket))
	}
}

func addChannel(d *libvirtxml.Domain, name string, source *libvirtxml.DomainChardevSource) {
	d.Devices.Channels = append(d.Devices.Channels, libvirtxml.DomainChannel{
		Source: source, Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: name}},
	})
}
