package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// renderSCSI makes the controller of the SCSI drives. Without a model libvirt adds one that few guests have
// a driver for.
func renderSCSI(d *libvirtxml.Domain, s *virt.Spec) {
	if s.SCSI != "" { // also for drives that are attached later
		addController(d, libvirtxml.DomainController{Type: "scsi", Index: new(uint(0)), Model: s.SCSI})
	}
}

// renderRootPorts makes places for PCIe devices that are plugged in later.
func renderRootPorts(d *libvirtxml.Domain, s *virt.Spec) {
	if s.RootPorts == 0 {
		return
	}
	addController(d, libvirtxml.DomainController{Type: "pci", Model: "pcie-root"})
	for range s.RootPorts {
		addController(d, libvirtxml.DomainController{Type: "pci", Model: "pcie-root-port"})
	}
}

// renderUSB names the USB controller in any case, because libvirt adds one to a domain that does not.
func renderUSB(d *libvirtxml.Domain, s *virt.Spec) {
	addController(d, libvirtxml.DomainController{Type: "usb", Index: new(uint(0)), Model: s.USB.Controller})
	for range s.USB.RedirectedPorts {
		d.Devices.RedirDevs = append(d.Devices.RedirDevs, libvirtxml.DomainRedirDev{
			Bus: "usb", Source: &libvirtxml.DomainChardevSource{SpiceVMC: &libvirtxml.DomainChardevSourceSpiceVMC{}},
		})
	}
}

func addController(d *libvirtxml.Domain, c libvirtxml.DomainController) {
	d.Devices.Controllers = append(d.Devices.Controllers, c)
}
