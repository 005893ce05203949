package guest

import "compute-agent/virt"

// Role is what a drive is to the server.
type Role string

// The roles. A volume is one wherever it is, the root drive too.
const (
	RoleRoot        Role = "root"
	RoleEphemeral   Role = "ephemeral"
	RoleSwap        Role = "swap"
	RoleVolume      Role = "volume"
	RoleConfigDrive Role = "config drive"
	RoleRescue      Role = "rescue"
)

// Drive is a drive of the guest: where package blockdev has put it, and what is behind it.
type Drive struct {
	Role   Role
	Target string // vda
	Bus    string // virtio, ide, sata, scsi, usb, fdc
	Kind   string // disk, cdrom, floppy, lun; empty for disk
	Boot   int    // position in the boot order from 1, Nova's boot_index + 1; 0 for none

	Source  virt.Source
	Format  string         // raw or qcow2; never probed; empty for a drive without a medium
	Backing []virt.Backing // nearest first
	// Unstated says that the chain below the source is not known.
	Unstated bool
	VolumeID string // UUID of a volume
	Serial   string // what the guest sees; a volume's ID
	WWN      string // of a volume that has one; empty for none
	ReadOnly bool
	Shared   bool // a volume that other servers may be attached to (multiattach)
	// Key encrypts the contents; nil for none.
	Key *virt.DiskKey
	// SourceType is the word by which disk_cachemodes names the source: file, block, network, mount. Empty for
	// what Source says.
	SourceType string
	// Tune are a volume's own limits (qos_specs). Those of the flavor are for the server's own drives.
	Tune    virt.DiskTune
	BlockIO virt.BlockIO
	Discard string // what a volume's connection asks for: unmap; empty for the hypervisor's own
	// Cache is how the volume's storage has to be cached, where the operator does not say; empty for not at all.
	Cache string
	// IO is what the drive's storage asks for; empty for the operator's rule.
	IO    string
	Alias string // a user's tag for the device that begins with ua-; empty for the volume's ID
}

// Local says whether the drive is the server's own, and no volume.
func (d *Drive) Local() bool { return d.Role != RoleVolume }

// sourceType is what disk_cachemodes knows the drive as.
func (d *Drive) sourceType() string {
	switch {
	case d.SourceType != "":
		return d.SourceType
	case d.Source.Network != nil:
		return "network"
	case d.Source.Device != "":
		return "block"
	}
	return "file"
}
