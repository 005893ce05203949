package virt

import "time"

// Spec is everything a driver needs to make a guest: nothing in it has to be looked up. It is a
// value: drivers neither change nor keep it.
type Spec struct {
	ID   string // UUID, lower case with dashes
	Name string // unique on the host, at most 64 of [A-Za-z0-9_.-]
	// Title is the user's name for the server: any text, hostile. So are the texts in Metadata.
	// None of them makes Create fail: a driver replaces what it cannot hold (control characters,
	// line ends, what is not UTF-8) and may cut what is longer than 1,024 bytes.
	Title string

	VirtType  string // "kvm" or "qemu"
	Arch      string // x86_64
	Emulator  string // path; empty for the hypervisor's own choice
	Machine   string // pc, q35, or a versioned machine type
	VCPUs     int
	MemoryMiB uint64
	CPU       CPU
	Placement *Placement // nil: the guest may run anywhere on the host

	Disks      []Disk // in boot order
	ConsoleLog string // file that gets the first serial port's output; empty for none
	VNC        *VNC   // nil for no graphics
	RNG        *RNG   // nil for none
	GuestAgent bool   // a channel for the QEMU guest agent
	// BalloonPeriod is how often the guest's balloon driver refreshes its statistics; zero for
	// a balloon without statistics. Nova: [libvirt]mem_stats_period_seconds, default 10.
	BalloonPeriod time.Duration

	Metadata Metadata
}

// CPU says which processor the guest sees.
type CPU struct {
	// Mode is "host-model", "host-passthrough", "maximum", "custom" (then Model is named) or
	// "none" (the hypervisor's default). Nova: [libvirt]cpu_mode.
	Mode  string
	Model string
	// Sockets, Cores and Threads multiply to Spec.VCPUs.
	Sockets, Cores, Threads int
}

// Disk is one drive of the guest.
type Disk struct {
	Path   string // absolute, on the host
	Format string // of the file's contents, never probed: "qcow2" or "raw"
	// Backing is the chain below Path, nearest first. It is stated so that no hypervisor
	// has to read it out of an image.
	Backing []Backing
	Target  string // vda
	Bus     string // virtio, ide, sata, scsi
	CDROM   bool   // read-only removable drive
	Cache   string // none, writeback, writethrough, directsync, unsafe; empty for the hypervisor's default
	IO      string // native, threads, io_uring; empty for the hypervisor's default
	Serial  string // what the guest sees, of [A-Za-z0-9_.+-]; at most 20 characters reach it
	Boot    int    // position in the boot order from 1; 0 for not bootable
}

// Backing is a file that a disk's overlay is built on.
type Backing struct {
	Path, Format string
}

// VNC is a VNC server for the guest's screen.
type VNC struct {
	Listen string // address; the port is the hypervisor's choice
}

// RNG gives the guest a source of randomness from the host.
type RNG struct {
	Source string // host device: /dev/urandom
}

// Metadata is what a domain tells tools that read Nova's metadata element (namespace
// http://openstack.org/xmlns/libvirt/nova/1.1), such as exporters and collectors.
type Metadata struct {
	Package   string // version of the maker
	Name      string // the server's name as the user wrote it; hostile
	Created   time.Time
	Flavor    FlavorMetadata
	UserID    string
	UserName  string
	ProjectID string
	Project   string
	RootType  string // "image" or "volume"; empty for none
	RootID    string
}

// FlavorMetadata is the size that the user asked for.
type FlavorMetadata struct {
	ID, Name                       string
	MemoryMiB                      uint64
	DiskGiB, EphemeralGiB, SwapMiB int // Nova: disk in GiB, swap in MiB
	VCPUs                          int
}
