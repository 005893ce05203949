package libvirt

import (
	"slices"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// renderControllers gives SCSI drives a virtio controller. libvirt would add one that few guests have a
// driver for.
func renderControllers(d *libvirtxml.Domain, s *virt.Spec) {
	if !slices.ContainsFunc(s.Disks, func(disk virt.Disk) bool { return disk.Bus == "scsi" }) {
		return
	}
	index := uint(0)
	d.Devices.Controllers = append(d.Devices.Controllers, libvirtxml.DomainController{
		Type: "scsi", Index: &index, Model: "virtio-scsi",
	})
}

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
		Source:       renderSource(&disk.Source),
		BackingStore: backingChain(disk.Backing),
		Target:       &libvirtxml.DomainDiskTarget{Dev: disk.Target, Bus: disk.Bus},
		Serial:       disk.Serial,
	}
	if disk.Kind != "" {
		out.Device = disk.Kind
	}
	if disk.Kind == "cdrom" || disk.ReadOnly {
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
			Source:       sharedSource(layers[i].Path),
			BackingStore: chain,
		}
	}
	return chain
}

// sharedSource is a file that other guests are built on too. libvirt leaves its owner alone: given to
// QEMU's user, a guest that broke out of its emulator could write what all the others read.
func sharedSource(path string) *libvirtxml.DomainDiskSource {
	source := fileSource(path)
	source.File.SecLabel = []libvirtxml.DomainDeviceSecLabel{{Model: "dac", Relabel: "no"}}
	return source
}

// renderSource says where a drive's contents are.
func renderSource(s *virt.Source) *libvirtxml.DomainDiskSource {
	switch {
	case s.File != "":
		return fileSource(s.File)
	case s.Device != "":
		return &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: s.Device}}
	}
	return nil
}

func fileSource(path string) *libvirtxml.DomainDiskSource {
	return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}
}
