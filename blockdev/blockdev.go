// Package blockdev decides where a guest's drives are attached: on which bus, as what kind of device, under which
// name the hypervisor knows them, and in which order the guest tries to boot from them. The rules are those of Nova's
// libvirt driver (nova.virt.libvirt.blockinfo). It is pure: what a flavor, an image and a machine ask for goes in,
// drives come out. A name is the hypervisor's target name; no guest promises to use the same.
package blockdev

import "slices"

// Role says what a drive holds.
type Role string

// The roles.
const (
	Root        Role = "root"         // what the image was made into
	Ephemeral   Role = "ephemeral"    // an empty file system
	Swap        Role = "swap"         // swap space
	Volume      Role = "volume"       // a volume; also when the guest boots from it
	ConfigDrive Role = "config drive" // what the guest is told about itself
	Rescue      Role = "rescue"       // what a rescued guest boots from
)

// Type is the kind of device that the guest sees.
type Type string

// The types, in libvirt's words.
const (
	Disk   Type = "disk"
	CDROM  Type = "cdrom"
	Floppy Type = "floppy"
	LUN    Type = "lun" // a disk that passes SCSI commands through
)

// The forms of a config drive, in Nova's words (config_drive_format).
const (
	ISO9660 = "iso9660" // a CD-ROM
	VFAT    = "vfat"    // a disk
)

// Request is what a guest needs drives for.
type Request struct {
	VirtType string // kvm or qemu, in Nova's words (virt_type); empty means kvm
	Arch     string // x86_64, aarch64...; empty means x86_64
	Machine  string // pc, q35, or a versioned machine type; empty means the architecture's usual
	// Properties are the image's. Those that name a bus or a device are read.
	Properties map[string]string
	// ISO says that the image is a CD-ROM's (disk_format=iso), and so the root device a CD-ROM drive.
	ISO bool
	// RootName is the name that the root device has had, with or without /dev/; empty for none yet.
	RootName string
	// Image is what is wanted of the disk that is made of the image. Nil says nothing: the root device is
	// then the volume that boots first or, without one, the image's disk all the same.
	Image      *Wanted
	Ephemerals []Wanted
	Swap       *Wanted // nil for none
	Volumes    []Wanted
	// ConfigDrive is ISO9660 or VFAT; empty for none.
	ConfigDrive string
	// Rescue is the image that a guest is rescued with; nil for an ordinary start.
	Rescue *RescueImage
	// MaxDrives is how many drives a guest may have; nil for no limit. Nova:
	// [compute]max_disk_devices_to_attach.
	MaxDrives *int
	// Prefix begins every name, in place of the bus's own. Nova: [libvirt]disk_prefix.
	Prefix string
	// AsNova keeps to Nova where it gives two drives the same name, leaves a drive out, ignores what was
	// asked for, or attaches what no machine has. It is for comparing with Nova, never for a guest.
	AsNova bool
}

// Wanted is what was asked for one drive (Nova's block device mapping). Empty fields leave the choice to
// the rules.
type Wanted struct {
	Name string // vdb or /dev/vdb: the name that the drive has had
	Bus  Bus
	Type Type
	// BootIndex counts from 0 for what the guest boots first; nil or negative for what it does not boot from.
	BootIndex *int
	// Implied says that the flavor's size asks for the drive and no block device mapping does.
	Implied bool
}

// RescueImage is what a guest is rescued with.
type RescueImage struct {
	// Stable keeps the guest's own drives where they are and adds the rescue disk behind them. Otherwise
	// the rescue disk takes the first place and the root disk the second, and the rest is left out; then the
	// Request's Properties are the rescue image's.
	Stable bool
	// Properties of the rescue image, of which hw_rescue_device and hw_rescue_bus are read first.
	Properties map[string]string
	// Arch and Machine are what the rescue image says of itself. The machine stays the guest's; only Nova
	// (AsNova) chooses a CD-ROM's bus by them.
	Arch, Machine string
}

// Drive is a drive's place in the guest.
type Drive struct {
	Role  Role
	Index int    // in Request.Ephemerals or Request.Volumes
	Name  string // vda
	Bus   Bus
	Type  Type
	// BootIndex counts from 1 for what the guest boots first; 0 for what it does not boot from.
	BootIndex int
}

// Mapping is the places of a guest's drives.
type Mapping struct {
	DiskBus, CDROMBus Bus // where drives go that say nothing of their bus
	// Root is the root device: the image's disk or a volume, or in a rescue that is not stable the rescue disk. It
	// is the first of Drives, too.
	Root Drive
	// Drives are all drives in the order in which they are attached: root, ephemeral disks, swap,
	// volumes, config drive, rescue disk.
	Drives []Drive
}

// Plan places the drives of a guest, each with a name of its own on a bus that the machine has. Its error is an *Error.
func Plan(r Request) (Mapping, error) {
	p, err := newPlacer(r)
	if err != nil {
		return Mapping{}, err
	}
	if r.Rescue != nil && !r.Rescue.Stable {
		err = p.planRescue()
	} else {
		err = p.planAll()
	}
	if err == nil && !r.AsNova {
		err = p.check()
	}
	if err != nil {
		return Mapping{}, err
	}
	return Mapping{DiskBus: p.diskBus, CDROMBus: p.cdromBus, Root: p.root, Drives: p.drives}, nil
}

// Attach says where one more drive goes that is attached to a guest with the drives of the request. A name that it
// has is not honoured, as in Nova: libvirt cannot promise one.
func Attach(r Request, more Wanted) (Drive, error) {
	p, err := newPlacer(r)
	if err != nil {
		return Drive{}, err
	}
	if err := p.planAll(); err != nil {
		return Drive{}, err
	}
	more.Name, more.BootIndex = "", nil
	d, err := p.locate(more, "", nil)
	if err != nil {
		return Drive{}, err
	}
	d.Role, d.Index = Volume, len(p.Volumes)
	p.Volumes = append(slices.Clone(p.Volumes), more)
	p.put(d)
	if !r.AsNova {
		err = p.check()
	}
	return d, err
}

// Find returns the drive with a role and, of several, an index.
func (m Mapping) Find(role Role, index int) (Drive, bool) {
	i := slices.IndexFunc(m.Drives, func(d Drive) bool { return d.Role == role && d.Index == index })
	if i < 0 {
		return Drive{}, false
	}
	return m.Drives[i], true
}

// BootOrder is the drives that the guest boots from, first to last.
func (m Mapping) BootOrder() []Drive {
	order := slices.DeleteFunc(slices.Clone(m.Drives), func(d Drive) bool { return d.BootIndex == 0 })
	slices.SortStableFunc(order, func(a, b Drive) int { return a.BootIndex - b.BootIndex })
	return order
}

// BootClasses are the classes of device, each once, that the firmware tries: hd, cdrom, fd.
func (m Mapping) BootClasses() []string {
	classes := []string{}
	for _, d := range m.BootOrder() {
		if class := d.Type.BootClass(); !slices.Contains(classes, class) {
			classes = append(classes, class)
		}
	}
	return classes
}

// BootClass is libvirt's word for devices of the type that the firmware boots.
func (t Type) BootClass() string {
	switch t {
	case CDROM:
		return "cdrom"
	case Floppy:
		return "fd"
	}
	return "hd"
}
