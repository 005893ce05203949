package libvirt

import (
	"fmt"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// Render returns the domain XML of a Spec. It is pure: it opens no file and asks no hypervisor, and
// the same Spec gives the same text. What is in it has the form that Nova gives it, where Nova has one
// that libvirt's schema takes. The error is of kind virt.ErrInvalid when the Spec contradicts itself.
func Render(s virt.Spec) (string, error) {
	if err := s.Validate(); err != nil {
		return "", err
	}
	metadata, err := novaMetadata(s.Metadata)
	if err != nil {
		return "", fmt.Errorf("metadata: %w", err)
	}
	d := &libvirtxml.Domain{
		Metadata: &libvirtxml.DomainMetadata{XML: metadata},
		Devices:  &libvirtxml.DomainDeviceList{},
	}
	for _, render := range sections {
		render(d, &s)
	}
	return d.Marshal()
}

// sections make the parts of a domain, in the order of libvirt's own documentation. The ones about
// devices are in the order in which the guest finds them.
var sections = []func(*libvirtxml.Domain, *virt.Spec){
	renderIdentity,
	renderMemory,
	renderMemoryBacking,
	renderVCPUs,
	renderTuning,
	renderCPU,
	renderGuestCells,
	renderSMBIOS,
	renderOS,
	renderFirmware,
	renderBoot,
	renderFeatures,
	renderClock,
	renderPerf,
	renderEncryption,
	renderEmulator,
	renderDisks,
	renderSCSI,
	renderRootPorts,
	renderUSB,
	renderNICs,
	renderSerial,
	renderChannels,
	renderGraphics,
	renderVideo,
	renderInputs,
	renderSound,
	renderTPM,
	renderHostdevs,
	renderShares,
	renderWatchdog,
	renderBalloon,
	renderRNG,
	renderNVDIMMs,
	renderIOMMU,
}

func renderIdentity(d *libvirtxml.Domain, s *virt.Spec) {
	d.Type = s.VirtType
	d.Name = s.Name
	d.UUID = s.ID
	d.Title = oneLine(s.Title)
}

func isX86(arch string) bool { return arch == "x86_64" || arch == "i686" }
