package guest

import "compute-agent/virt"

func (r *Request) disks() []virt.Disk {
	var disks []virt.Disk
	for i := range r.Drives {
		disks = append(disks, r.disk(&r.Drives[i]))
	}
	return disks
}

func (r *Request) disk(d *Drive) virt.Disk {
	disk := virt.Disk{
		Source: d.Source, Format: d.Format, Backing: d.Backing, Unstated: d.Unstated,
		Target: d.Target, Bus: d.Bus, Kind: d.Kind, Boot: d.Boot, ReadOnly: d.ReadOnly, Shared: d.Shared, Serial: d.Serial,
	}
	// Around the page cache where the file system can, else through it, as Nova does.
	if r.DirectIO {
		disk.Cache, disk.IO = "none", "native"
	} else {
		disk.Cache = "writeback"
	}
	return disk
}
