package virt

import "time"

// Disk is one drive of the guest.
type Disk struct {
	Source Source
	// Format of the source's contents, never probed: "qcow2" or "raw". Empty for a CD-ROM drive without a medium.
	Format string
	// Backing is the chain below the source, nearest first. It is stated so that no hypervisor
	// has to read it out of an image.
	Backing []Backing
	// Unstated says that the chain below the source is not known to who made the Spec. Such a Spec can
	// be rendered for people to look at; Create refuses it.
	Unstated bool
	Target   string // vda
	Bus      string // virtio, ide, sata, scsi, usb, fdc
	Kind     string // disk, cdrom, floppy or lun; empty for disk
	ReadOnly bool   // CD-ROMs always are
	Shared   bool   // other guests may write it too
	Cache    string // none, writeback, writethrough, directsync, unsafe; empty for the hypervisor's default
	IO       string // native, threads, io_uring; empty for the hypervisor's default
	Discard  string // unmap or ignore; empty for the hypervisor's default
	// DetectZeroes is off, on or unmap; empty for the hypervisor's default.
	DetectZeroes string
	Serial       string // what the guest sees, of [A-Za-z0-9_.+-]; at most 20 characters reach it on most buses
	WWN          string // 16 hexadecimal digits; only on ide and scsi; empty for none
	Boot         int    // position in the boot order from 1; 0 leaves it to Spec.Boot
	Tune         DiskTune
	BlockIO      BlockIO
	// Unit is the drive's place on a scsi controller; nil for the hypervisor's choice.
	Unit *int
	// Key encrypts the contents: LUKS, decrypted by the hypervisor. Nil for none.
	Key *DiskKey
	// Packed is whether the drive's virtio ring is packed (hw:virtio_packed_ring).
	Packed bool
	// Alias is a name of the user's for the device, that begins with ua-; empty for none.
	Alias string
}

// Source is where a drive's contents are. Exactly one of File, Device and Network is named; none is an
// empty drive.
type Source struct {
	File    string // path of a regular file
	Device  string // path of a block device
	Network *NetworkSource
}

// Empty says whether there is no medium in the drive.
func (s Source) Empty() bool { return s.File == "" && s.Device == "" && s.Network == nil }

// NetworkSource is a drive that the hypervisor itself reaches over the network.
type NetworkSource struct {
	Protocol string // rbd, iscsi, nbd
	Name     string // rbd: pool/image; iscsi: IQN/LUN
	Hosts    []HostPort
	// Auth names the secret that the hypervisor logs in with; nil for none.
	Auth *SecretRef
	// Initiator is the IQN that logs in, for iscsi.
	Initiator string
}

// HostPort is an address of a storage server.
type HostPort struct {
	Host string
	Port int // 0 for the protocol's own
}

// SecretRef names a secret that the hypervisor keeps; the secret itself is in no Spec.
type SecretRef struct {
	User string
	Type string // ceph or iscsi
	UUID string
}

// DiskKey is an encrypted drive's.
type DiskKey struct {
	Format string // luks, luks2 or plain
	Secret string // UUID of the hypervisor's secret
}

// Backing is a file that a disk's overlay is built on.
type Backing struct {
	Path, Format string
}

// DiskTune limits a drive's I/O (quota:disk_*, a volume's QoS). Zero means no limit.
type DiskTune struct {
	TotalBytes, ReadBytes, WriteBytes          uint64 // per second
	TotalIOPS, ReadIOPS, WriteIOPS             uint64
	TotalBytesMax, ReadBytesMax, WriteBytesMax uint64 // in bursts
	TotalIOPSMax, ReadIOPSMax, WriteIOPSMax    uint64
	SizeIOPS                                   uint64 // bytes that count as one I/O
}

// BlockIO is the block size that the guest sees, in bytes; zero for the hypervisor's own.
type BlockIO struct {
	Logical, Physical int
}

// NIC is one network interface of the guest.
type NIC struct {
	MAC   string
	Model string // virtio, e1000, e1000e, rtl8139, ne2k_pci, pcnet, vmxnet3...; empty for the hypervisor's choice
	// Attach is what the host side is.
	Attach Attachment
	Target string // name of the tap on the host; empty for the hypervisor's choice
	MTU    int    // 0 leaves it alone
	// Driver is who moves a virtio interface's packets: vhost or qemu; empty for the hypervisor's choice.
	Driver     string
	Queues     int // of a virtio interface; 0 or 1 for one
	RxRing     int // entries; 0 for the hypervisor's own
	TxRing     int
	Bandwidth  *Bandwidth // nil for no limit
	Packed     bool       // virtio ring (hw:virtio_packed_ring)
	Boot       int        // position in the boot order from 1; 0 leaves it to Spec.Boot
	DisableROM bool       // no boot ROM (hw_ipxe_boot is false)
	Alias      string     // a user's name for the device, that begins with ua-; empty for none
}

// Attachment is what a network interface is plugged into.
type Attachment struct {
	// Type is ethernet (a tap that somebody else plugs in), bridge, direct (macvtap), hostdev (an SR-IOV
	// virtual function), vhostuser or vdpa.
	Type   string
	Bridge string // bridge: its name
	// Port is the Open vSwitch interface ID of a bridge of that kind; empty for a Linux bridge.
	Port     string
	Device   string // direct: the interface below; vdpa: the path of the device
	Mode     string // direct: bridge, vepa, private, passthrough; vhostuser: client or server
	Socket   string // vhostuser: its path
	Address  string // hostdev: the function's PCI address, 0000:81:10.1
	VLAN     int    // hostdev, direct: the tag; 0 for none
	Profile  string // direct, hostdev: the 802.1Qbh profile; empty for none
	Existing bool   // ethernet: the tap is there before the guest and stays after it; else it is the hypervisor's
	Managed  bool   // hostdev: libvirt takes the device from its host driver and gives it back
}

// Bandwidth limits an interface (quota:vif_*), as seen from the guest.
type Bandwidth struct {
	Inbound, Outbound Rate
}

// Rate is in KiB/s, Burst in KiB. Zero means not set.
type Rate struct {
	Average, Peak, Burst int
}

// Share is a directory of the host that the guest can mount (virtiofs).
type Share struct {
	Path string // on the host
	Tag  string // by which the guest names it
}

// SerialPort is one of the guest's serial ports.
type SerialPort struct {
	// Type is pty, tcp or unix.
	Type string
	Host string // tcp: address that it listens on
	Port int    // tcp; 0 is one that is not chosen yet, of which no guest can be made
	Path string // unix: socket that it listens on
	// Log gets what the guest writes; empty for none.
	Log string
	// AppendLog keeps what is in the log when the guest starts. Nova starts it anew.
	AppendLog bool
}

// Channels are connections between programs on the host and in the guest.
type Channels struct {
	GuestAgent bool // for the QEMU guest agent
	// GuestAgentSocket is where the host's side listens; empty for the hypervisor's choice.
	GuestAgentSocket string
	SPICE            bool // for SPICE's agent
}

// Graphics is a server for the guest's screen.
type Graphics struct {
	Type   string // vnc or spice
	Listen string // address; the port is the hypervisor's choice
	Keymap string // empty for the viewer's
	SPICE  SPICE  // of type spice
}

// SPICE is how a SPICE server treats its viewers; what is zero is the server's own choice. VNC's TLS is a setting of
// the host's QEMU.
type SPICE struct {
	Secure              bool   // viewers come over TLS alone ([spice]require_secure)
	ImageCompression    string // auto_glz, auto_lz, quic, glz, lz, off
	JPEGCompression     string // auto, never, always; for slow links
	ZlibCompression     string // auto, never, always; for slow links
	PlaybackCompression *bool  // of sound
	StreamingMode       string // filter, all, off: of what moves
}

// Video is the guest's video device.
type Video struct {
	Model  string // vga, cirrus, vmvga, xen, qxl, virtio, gop, none, bochs
	RAMMiB int    // 0 for the hypervisor's own
}

// Input is a keyboard or a pointer.
type Input struct {
	Type string // tablet, mouse, keyboard
	Bus  string // usb, virtio, ps2
}

// USB is the guest's USB controller.
type USB struct {
	// Controller is its model: empty for the hypervisor's choice, none for no controller, or piix3-uhci, ehci,
	// nec-xhci, qemu-xhci...
	Controller string
	// RedirectedPorts can take devices of a SPICE viewer's machine (hw:redirected_usb_ports).
	RedirectedPorts int
}

// TPM is an emulated trusted platform module.
type TPM struct {
	Version string // 1.2 or 2.0
	Model   string // tpm-tis or tpm-crb
	// Secret is the UUID of the hypervisor's secret that encrypts its state; empty for none.
	Secret string
}

// RNG gives the guest a source of randomness from the host.
type RNG struct {
	Source string // host device: /dev/urandom
	// Bytes in each Period of milliseconds (hw_rng:rate_bytes, hw_rng:rate_period); 0 for no limit.
	Bytes, Period int
}

// PCIDevice is a device of the host that the guest gets.
type PCIDevice struct {
	Address string // 0000:81:00.0
	Managed bool   // libvirt takes the device from its host driver and gives it back
	Alias   string // a user's name for the device, that begins with ua-; empty for none
}

// MediatedDevice is a part of a device of the host (vGPU).
type MediatedDevice struct {
	UUID string
}

// NVDIMM is persistent memory of the host that the guest gets (hw:pmem).
type NVDIMM struct {
	Path     string // of the host's device: /dev/dax0.0
	SizeKiB  uint64
	AlignKiB uint64
}

// IOMMU is the guest's own (hw:viommu_model).
type IOMMU struct {
	Model string // intel, smmuv3 or virtio
	// The rest is for intel alone.
	CachingMode, EIM, InterruptRemapping, IOTLB bool
	AddressBits                                 int // 0 for the hypervisor's own
}

// Balloon is the device by which the guest gives memory back.
type Balloon struct {
	None bool // no balloon at all
	// Period is how often the guest's balloon driver refreshes its statistics; zero for
	// a balloon without statistics. Nova: [libvirt]mem_stats_period_seconds, default 10.
	Period time.Duration
	// AutoDeflate gives memory back to the guest before its kernel kills a process for want of it.
	AutoDeflate bool
	// FreePageReporting lets the guest tell which pages the host can have until they are used again.
	FreePageReporting bool
}

// Path is the disk's file or device on the host; empty for an empty drive and for one that is reached over
// the network.
func (d Disk) Path() string { return d.Source.File + d.Source.Device }

// Secrets are the UUIDs of those of the hypervisor's secrets that the disk cannot be opened without.
func (d Disk) Secrets() (uuids []string) {
	if n := d.Source.Network; n != nil && n.Auth != nil {
		uuids = append(uuids, n.Auth.UUID)
	}
	if d.Key != nil {
		uuids = append(uuids, d.Key.Secret)
	}
	return uuids
}

// Removable says whether the drive takes media, and so is not the guest's own storage.
func (d Disk) Removable() bool { return d.Kind == "cdrom" || d.Kind == "floppy" }

// Pluggable says whether a machine takes such a drive while it runs: one without media, on a bus that is made for it.
func (d Disk) Pluggable() bool {
	return !d.Removable() && (d.Bus == "virtio" || d.Bus == "scsi" || d.Bus == "usb")
}

// ConsoleLog is the file that has what the guest wrote to its first serial port; empty for none.
func (s Spec) ConsoleLog() string {
	if len(s.Serial) == 0 {
		return ""
	}
	return s.Serial[0].Log
}
