package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

func renderDisks(d *libvirtxml.Domain, s *virt.Spec) {
	for i := range s.Disks {
		d.Devices.Disks = append(d.Devices.Disks, renderDisk(&s.Disks[i]))
	}
}

// renderDisk states the format of the image and of everything below it, so that neither libvirt nor
// QEMU reads a format or a backing file's name out of bytes that a user has written.
func renderDisk(disk *virt.Disk) libvirtxml.DomainDisk {
	out := libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{
			Name: "qemu", Type: disk.Format, Cache: disk.Cache, IO: disk.IO,
		},
		Source:       fileSource(disk.Path),
		BackingStore: backingChain(disk.Backing),
		Target:       &libvirtxml.DomainDiskTarget{Dev: disk.Target, Bus: disk.Bus},
		Serial:       disk.Serial,
	}
	if disk.CDROM {
		out.Device = "cdrom"
		out.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	if disk.Boot > 0 {
		out.Boot = &libvirtxml.DomainDeviceBoot{Order: uint(disk.Boot)}
	}
	return out
}

// backingChain ends in an empty element, which tells libvirt that there is nothing further below.
func backingChain(layers []virt.Backing) *libvirtxml.DomainDiskBackingStore {
	chain := &libvirtxml.DomainDiskBackingStore{}
	for i := len(layers) - 1; i >= 0; i-- {
		chain = &libvirtxml.DomainDiskBackingStore{
			Format:       &libvirtxml.DomainDiskFormat{Type: layers[i].Format},
			Source:       fileSource(layers[i].Path),
			BackingStore: chain,
		}
	}
	return chain
}

func fileSource(path string) *libvirtxml.DomainDiskSource {
	return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}
}
