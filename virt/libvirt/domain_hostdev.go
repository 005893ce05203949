package libvirt

import (
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// renderHostdevs passes devices of the host to the guest: whole PCI functions and parts of one.
func renderHostdevs(d *libvirtxml.Domain, s *virt.Spec) {
	for _, p := range s.PCI {
		d.Devices.Hostdevs = append(d.Devices.Hostdevs, libvirtxml.DomainHostdev{
			Managed: yesNo(p.Managed),
			SubsysPCI: &libvirtxml.DomainHostdevSubsysPCI{
				Source: &libvirtxml.DomainHostdevSubsysPCISource{Address: addressPCI(p.Address)},
			},
			Alias: alias(p.Alias),
		})
	}
	for _, m := range s.Mediated {
		d.Devices.Hostdevs = append(d.Devices.Hostdevs, libvirtxml.DomainHostdev{
			Managed: "no",
			SubsysMDev: &libvirtxml.DomainHostdevSubsysMDev{
				Model:  "vfio-pci",
				Source: &libvirtxml.DomainHostdevSubsysMDevSource{Address: &libvirtxml.DomainAddressMDev{UUID: m.UUID}},
			},
		})
	}
}

// addressPCI takes an address that Validate took.
func addressPCI(address string) *libvirtxml.DomainAddressPCI {
	part := func(text string) *uint {
		n, _ := strconv.ParseUint(text, 16, 32)
		return new(uint(n))
	}
	domain, rest, _ := strings.Cut(address, ":")
	bus, rest, _ := strings.Cut(rest, ":")
	slot, function, _ := strings.Cut(rest, ".")
	return &libvirtxml.DomainAddressPCI{Domain: part(domain), Bus: part(bus), Slot: part(slot), Function: part(function)}
}

// renderIOMMU makes the guest's own IOMMU, behind which it can give devices to guests or programs of its own.
func renderIOMMU(d *libvirtxml.Domain, s *virt.Spec) {
	if s.IOMMU == nil {
		return
	}
	driver := libvirtxml.DomainIOMMUDriver{
		IntRemap: onOrNothing(s.IOMMU.InterruptRemapping), CachingMode: onOrNothing(s.IOMMU.CachingMode),
		EIM: onOrNothing(s.IOMMU.EIM), IOTLB: onOrNothing(s.IOMMU.IOTLB), AWBits: uint(s.IOMMU.AddressBits),
	}
	out := libvirtxml.DomainIOMMU{Model: s.IOMMU.Model}
	if (driver != libvirtxml.DomainIOMMUDriver{}) {
		out.Driver = &driver
	}
	d.Devices.IOMMUs = append(d.Devices.IOMMUs, out)
}
