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
			out.Spice = spiceServer(&g)
		} else {
			out.VNC = &libvirtxml.DomainGraphicVNC{AutoPort: "yes", Listen: g.Listen, Keymap: g.Keymap}
		}
		d.Devices.Graphics = append(d.Devices.Graphics, out)
	}
}

// secureChannels are all that a SPICE viewer opens.
var secureChannels = []string{"main", "display", "inputs", "cursor", "playback", "record", "smartcard", "usbredir"}

func spiceServer(g *virt.Graphics) *libvirtxml.DomainGraphicSpice {
	out := &libvirtxml.DomainGraphicSpice{AutoPort: "yes", Listen: g.Listen, Keymap: g.Keymap}
	s := &g.SPICE
	if s.ImageCompression != "" {
		out.Image = &libvirtxml.DomainGraphicSpiceImage{Compression: s.ImageCompression}
	}
	if s.JPEGCompression != "" {
		out.JPEG = &libvirtxml.DomainGraphicSpiceJPEG{Compression: s.JPEGCompression}
	}
	if s.ZlibCompression != "" {
		out.ZLib = &libvirtxml.DomainGraphicSpiceZLib{Compression: s.ZlibCompression}
	}
	if s.PlaybackCompression != nil {
		out.Playback = &libvirtxml.DomainGraphicSpicePlayback{Compression: onOff(*s.PlaybackCompression)}
	}
	if s.StreamingMode != "" {
		out.Streaming = &libvirtxml.DomainGraphicSpiceStreaming{Mode: s.StreamingMode}
	}
	if s.Secure {
		for _, name := range secureChannels {
			out.Channel = append(out.Channel, libvirtxml.DomainGraphicSpiceChannel{Name: name, Mode: "secure"})
		}
	}
	return out
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
