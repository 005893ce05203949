package libvirt

import (
	"strconv"

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
		Device:       orElse(disk.Kind, "disk"),
		Driver:       diskDriver(disk),
		Source:       diskSource(&disk.Source),
		Auth:         diskAuth(disk.Source.Network),
		BackingStore: backingChain(disk),
		Target:       &libvirtxml.DomainDiskTarget{Dev: disk.Target, Bus: disk.Bus},
		Serial:       disk.Serial,
		WWN:          disk.WWN,
		IOTune:       diskTune(&disk.Tune),
		Alias:        alias(disk.Alias),
		Boot:         bootOrder(disk.Boot),
	}
	if disk.ReadOnly { // libvirt says it of CD-ROM drives by itself
		out.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	if disk.Shared {
		out.Shareable = &libvirtxml.DomainDiskShareable{}
	}
	if b := disk.BlockIO; b != (virt.BlockIO{}) {
		out.BlockIO = &libvirtxml.DomainDiskBlockIO{LogicalBlockSize: uint(b.Logical), PhysicalBlockSize: uint(b.Physical)}
	}
	if disk.Unit != nil {
		out.Address = &libvirtxml.DomainAddress{Drive: &libvirtxml.DomainAddressDrive{
			Controller: new(uint(0)), Unit: new(uint(*disk.Unit)),
		}}
	}
	if disk.Key != nil {
		out.Encryption = &libvirtxml.DomainDiskEncryption{
			Format: disk.Key.Format, Secrets: []libvirtxml.DomainDiskSecret{{Type: "passphrase", UUID: disk.Key.Secret}},
		}
	}
	return out
}

func diskDriver(disk *virt.Disk) *libvirtxml.DomainDiskDriver {
	driver := &libvirtxml.DomainDiskDriver{
		Name: "qemu", Type: disk.Format, Cache: disk.Cache, IO: disk.IO, Discard: disk.Discard, DetectZeros: disk.DetectZeroes,
	}
	if disk.Packed {
		driver.Packed = "on"
	}
	return driver
}

// diskSource says where a drive's contents are. An empty drive is of type file with no name.
func diskSource(s *virt.Source) *libvirtxml.DomainDiskSource {
	switch {
	case s.Device != "":
		return &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: s.Device}}
	case s.Network != nil:
		return &libvirtxml.DomainDiskSource{Network: networkSource(s.Network)}
	}
	return fileSource(s.File)
}

func fileSource(path string) *libvirtxml.DomainDiskSource {
	return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}
}

func networkSource(n *virt.NetworkSource) *libvirtxml.DomainDiskSourceNetwork {
	out := &libvirtxml.DomainDiskSourceNetwork{Protocol: n.Protocol, Name: n.Name}
	for _, h := range n.Hosts {
		host := libvirtxml.DomainDiskSourceHost{Name: h.Host}
		if h.Port > 0 {
			host.Port = strconv.Itoa(h.Port)
		}
		out.Hosts = append(out.Hosts, host)
	}
	if n.Initiator != "" {
		out.Initiator = &libvirtxml.DomainDiskSourceNetworkInitiator{IQN: &libvirtxml.DomainDiskSourceNetworkIQN{Name: n.Initiator}}
	}
	return out
}

func diskAuth(n *virt.NetworkSource) *libvirtxml.DomainDiskAuth {
	if n == nil || n.Auth == nil {
		return nil
	}
	return &libvirtxml.DomainDiskAuth{
		Username: n.Auth.User, Secret: &libvirtxml.DomainDiskSecret{Type: n.Auth.Type, UUID: n.Auth.UUID},
	}
}

// backingChain ends in an empty element, which tells libvirt that there is nothing further below. Nil lets
// libvirt read the chain out of the image.
func backingChain(disk *virt.Disk) *libvirtxml.DomainDiskBackingStore {
	if disk.Unstated || disk.Source.Empty() {
		return nil
	}
	chain := &libvirtxml.DomainDiskBackingStore{}
	for i := len(disk.Backing) - 1; i >= 0; i-- {
		chain = &libvirtxml.DomainDiskBackingStore{
			Format:       &libvirtxml.DomainDiskFormat{Type: disk.Backing[i].Format},
			Source:       sharedSource(disk.Backing[i].Path),
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

func diskTune(t *virt.DiskTune) *libvirtxml.DomainDiskIOTune {
	if (*t == virt.DiskTune{}) {
		return nil
	}
	return &libvirtxml.DomainDiskIOTune{
		TotalBytesSec: t.TotalBytes, ReadBytesSec: t.ReadBytes, WriteBytesSec: t.WriteBytes,
		TotalIopsSec: t.TotalIOPS, ReadIopsSec: t.ReadIOPS, WriteIopsSec: t.WriteIOPS,
		TotalBytesSecMax: t.TotalBytesMax, ReadBytesSecMax: t.ReadBytesMax, WriteBytesSecMax: t.WriteBytesMax,
		TotalIopsSecMax: t.TotalIOPSMax, ReadIopsSecMax: t.ReadIOPSMax, WriteIopsSecMax: t.WriteIOPSMax,
		SizeIopsSec: t.SizeIOPS,
	}
}
