package libvirt

import (
	"time"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// renderSerial makes the first serial port, with its log. The log is appended to, unlike Nova's: what a
// guest said before it was restarted is what one looks for after a crash, and virtlogd bounds it by
// rotation. Who wants it empty removes the file.
func renderSerial(d *libvirtxml.Domain, s *virt.Spec) {
	port := uint(0)
	serial := libvirtxml.DomainSerial{
		Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
		Target: &libvirtxml.DomainSerialTarget{Port: &port},
	}
	if log := s.ConsoleLog(); log != "" {
		serial.Log = &libvirtxml.DomainChardevLog{File: log, Append: "on"}
	}
	d.Devices.Serials = append(d.Devices.Serials, serial)
}

// renderGuestAgent makes the channel on which the QEMU guest agent listens; libvirt chooses the socket.
func renderGuestAgent(d *libvirtxml.Domain, s *virt.Spec) {
	if !s.Channels.GuestAgent {
		return
	}
	d.Devices.Channels = append(d.Devices.Channels, libvirtxml.DomainChannel{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
		Target: &libvirtxml.DomainChannelTarget{
			VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"},
		},
	})
}

// renderVNC makes the screen, its VNC server on a port of libvirt's choice, and a tablet, because with a
// mouse the pointers of guest and viewer drift apart. The video model is plain VGA: every guest has a
// driver for it, firmware included.
func renderVNC(d *libvirtxml.Domain, s *virt.Spec) {
	if len(s.Graphics) == 0 {
		return
	}
	d.Devices.Inputs = append(d.Devices.Inputs, libvirtxml.DomainInput{Type: "tablet", Bus: "usb"})
	d.Devices.Graphics = append(d.Devices.Graphics, libvirtxml.DomainGraphic{VNC: &libvirtxml.DomainGraphicVNC{
		Port: -1, AutoPort: "yes",
		Listeners: []libvirtxml.DomainGraphicListener{
			{Address: &libvirtxml.DomainGraphicListenerAddress{Address: s.Graphics[0].Listen}},
		},
	}})
	d.Devices.Videos = append(d.Devices.Videos, libvirtxml.DomainVideo{
		Model: libvirtxml.DomainVideoModel{Type: "vga"},
	})
}

// renderBalloon rounds the period up to the whole seconds that libvirt counts in.
func renderBalloon(d *libvirtxml.Domain, s *virt.Spec) {
	d.Devices.MemBalloon = &libvirtxml.DomainMemBalloon{Model: "virtio"}
	if s.Balloon.Period > 0 {
		seconds := (s.Balloon.Period + time.Second - 1) / time.Second
		d.Devices.MemBalloon.Stats = &libvirtxml.DomainMemBalloonStats{Period: uint(seconds)}
	}
}

func renderRNG(d *libvirtxml.Domain, s *virt.Spec) {
	if s.RNG == nil {
		return
	}
	d.Devices.RNGs = append(d.Devices.RNGs, libvirtxml.DomainRNG{
		Model: "virtio",
		Backend: &libvirtxml.DomainRNGBackend{
			Random: &libvirtxml.DomainRNGBackendRandom{Device: s.RNG.Source},
		},
	})
}
