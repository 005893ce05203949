package guest

import (
	"cmp"
	"slices"

	"compute-agent/virt"
)

// virtioSCSI is the one model of SCSI controller whose drives get their places from us: it takes 256 of them, but
// libvirt would make a second controller after seven.
const virtioSCSI = "virtio-scsi"

func (d *definition) disks() error {
	if err := d.encrypted(); err != nil {
		return err
	}
	s := &d.spec
	s.SCSI = d.hw.SCSIModel
	units := d.unitNumbers()
	for i := range d.r.Drives {
		drive := &d.r.Drives[i]
		disk := d.disk(drive)
		if units != nil {
			if unit := units(drive); drive.Bus == "scsi" {
				disk.Unit = &unit
			}
		}
		s.Disks = append(s.Disks, disk)
	}
	return nil
}

// encrypted says whether the server's own disks are, where they have to be.
func (d *definition) encrypted() error {
	if d.hw.EphemeralFormat == "" {
		return nil
	}
	for i := range d.r.Drives {
		switch drive := &d.r.Drives[i]; drive.Role {
		case RoleRoot, RoleEphemeral, RoleSwap:
			if drive.Key == nil {
				return failed("EphemeralEncryptionSecretNotFound", "hw:ephemeral_encryption", "true", "the host has no key for disk %s", drive.Target)
			}
		}
	}
	return nil
}

// unitNumbers counts drives' places on a virtio-scsi controller; nil for other controllers. The volume that the
// server boots from is at 0. Volumes count on whatever bus they are.
func (d *definition) unitNumbers() func(*Drive) int {
	if d.hw.SCSIModel != virtioSCSI {
		return nil
	}
	next := 0
	if slices.ContainsFunc(d.r.Drives, isBootVolume) {
		next = 1
	}
	return func(drive *Drive) int {
		if isBootVolume(*drive) {
			return 0
		}
		unit := next
		if drive.Bus == "scsi" || !drive.Local() {
			next++
		}
		return unit
	}
}

func isBootVolume(d Drive) bool { return d.Role == RoleVolume && d.Boot == 1 }

func (d *definition) disk(drive *Drive) virt.Disk {
	disk := virt.Disk{
		Source: drive.Source, Format: drive.Format, Backing: drive.Backing, Unstated: drive.Unstated,
		Target: drive.Target, Bus: drive.Bus, Kind: drive.Kind, ReadOnly: drive.ReadOnly, Shared: drive.Shared,
		Serial: drive.Serial, WWN: drive.WWN, BlockIO: drive.BlockIO, Key: drive.Key, Alias: drive.Alias,
	}
	if drive.Kind == "lun" { // which answers for itself
		disk.Serial, disk.BlockIO = "", virt.BlockIO{}
	}
	if drive.Alias == "" && drive.VolumeID != "" {
		disk.Alias = "ua-" + drive.VolumeID
	}
	// The order of boot is by kinds of drive; but the disk of a rescue that keeps all others in their places
	// is tried before them.
	if d.r.Rescue != nil && d.r.Rescue.Stable && drive.Role == RoleRescue {
		disk.Boot = 1
	}
	disk.Cache = d.cacheMode(drive)
	if drive.Local() {
		d.tuneLocal(&disk, drive)
	} else {
		d.tuneVolume(&disk, drive)
	}
	if disk.IO == "native" && !uncached(disk.Cache) {
		disk.IO = "threads"
	}
	return disk
}

// cacheMode is how the host caches a drive: not at all where its file system can do without, unless the operator
// says otherwise for this kind of source. What several guests write can have no cache.
func (d *definition) cacheMode(drive *Drive) string {
	mode := cmp.Or(drive.Cache, "none")
	if drive.Local() && !d.r.DirectIO {
		mode = "writeback"
	}
	if drive.Shared {
		return "none"
	}
	return cmp.Or(d.r.Options.CacheModes[drive.sourceType()], mode)
}

// uncached says whether a cache mode goes around the host's page cache, which native I/O needs.
func uncached(mode string) bool { return mode == "none" || mode == "directsync" }

func (d *definition) tuneLocal(disk *virt.Disk, drive *Drive) {
	disk.Discard, disk.IO = d.r.Options.Discard, drive.IO
	if drive.IO == "" && d.r.Options.NativeIO {
		disk.IO = "native"
	}
	q := &d.hw.DiskQuota
	disk.Tune = virt.DiskTune{
		TotalBytes: deref(q.TotalBytes), ReadBytes: deref(q.ReadBytes), WriteBytes: deref(q.WriteBytes),
		TotalIOPS: deref(q.TotalIOPS), ReadIOPS: deref(q.ReadIOPS), WriteIOPS: deref(q.WriteIOPS),
		TotalBytesMax: deref(q.TotalBytesMax), ReadBytesMax: deref(q.ReadBytesMax), WriteBytesMax: deref(q.WriteBytesMax),
		TotalIOPSMax: deref(q.TotalIOPSMax), ReadIOPSMax: deref(q.ReadIOPSMax), WriteIOPSMax: deref(q.WriteIOPSMax),
		SizeIOPS: deref(q.SizeIOPS),
	}
}

func (d *definition) tuneVolume(disk *virt.Disk, drive *Drive) {
	disk.Tune, disk.Discard, disk.IO = drive.Tune, drive.Discard, drive.IO
	if drive.IO == "" && drive.Source.Network == nil && !d.r.Options.DefaultVolumeIO {
		disk.IO = "native"
	}
}
