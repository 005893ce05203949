package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// renderGraphics makes the servers of the guest's screen, on ports of libvirt's choice.
func renderGraphics(d *libvirtxml.Domain, s *virt.Spec) {
	for _, g := range s.Graphics {
		var out libvirtxml.DomainGraphic
		if g.Type == "spice" {
			out.Spice = &libvirtxml.DomainGraphicSpice{AutoPort: "yes", Listen: g.Listen, Keymap: g.Keymap}
		} else {
			out.VNC = &libvirtxml.DomainGraphicVNC{AutoPort: "yes", Listen: g.Listen, Keymap: g.Keymap}
		}
		d.Devices.Graphics = append(d.Devices.Graphics, out)
	}
}

func renderVideo(d *libvirtxml.Domain, s *virt.Spec) {
	if s.Video == nil {
		return
	}
	d.Devices.Videos = append(d.Devices.Videos, libvirtxml.DomainVideo{
		Model: libvirtxml.DomainVideoModel{Type: s.Video.Model, VRam: uint(s.Video.RAMMiB * kibPerMiB)},
	})
}

func renderInputs(d *libvirtxml.Domain, s *virt.Spec) {
	for _, in := range s.Inputs {
		d.Devices.Inputs = append(d.Devices.Inputs, libvirtxml.DomainInput{Type: in.Type, Bus: in.Bus})
	}
}

func renderSound(d *libvirtxml.Domain, s *virt.Spec) {
	if s.Sound != "" {
		d.Devices.Sounds = append(d.Devices.Sounds, libvirtxml.DomainSound{Model: s.Sound})
	}
}
