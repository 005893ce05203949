// Package connector says how a host gets at a volume of a storage system: what the volume service tells of it (Cinder's
// connection_info, in the shape that os-brick takes), what the host tells of itself, and what a Connector makes of the two.
package connector

import (
	"context"
	"encoding/json"
	"log/slog"
)

// Type is a kind of connection (driver_volume_type), in Cinder's words.
type Type string

// The types that there are connectors for.
const (
	ISCSI        Type = "iscsi"
	ISER         Type = "iser"
	FibreChannel Type = "fibre_channel"
	NVMeoF       Type = "nvmeof"
	NFS          Type = "nfs"
	RBD          Type = "rbd"
	NBD          Type = "nbd"   // the hypervisor reaches it; Cinder has no such driver
	Local        Type = "local" // a block device of this host
	File         Type = "file"  // a file of this host
)

// Info is a connection_info that Parse has checked. The part of its type is there, and no other.
type Info struct {
	Type Type

	ISCSI *ISCSIInfo // iscsi, iser
	FC    *FCInfo
	NVMe  *NVMeInfo
	NFS   *NFSInfo
	RBD   *RBDInfo
	NBD   *NBDInfo
	Path  string // local, file: absolute

	Format           string // of the contents: raw or qcow2; empty for raw
	ReadOnly         bool   // access_mode is ro
	Discard          bool
	Encrypted        bool
	Cacheable        bool
	EnforceMultipath bool
	// Logical and Physical are the block sizes that a guest is to see, in bytes; zero for the device's own.
	Logical, Physical int
	Limits            Limits
	// WWID is the identity that the storage system says the volume has (data.wwn, or an NVMe volume's UUID or NGUID); empty when it does not
	// say. See Identity.
	WWID string
}

// ISCSIInfo is a LUN by iSCSI.
type ISCSIInfo struct {
	// Targets are the paths that are known, each a portal with its target and LUN. One with no others may have more, which are found by discovery
	// when multipath is asked for (Discover).
	Targets  []ISCSITarget
	Discover bool // no lists of targets were given: SendTargets tells of the other portals
	Auth     *CHAP
	// DiscoveryAuth is for the discovery session; nil for none.
	DiscoveryAuth *CHAP
	// AddressingMode is how LUNs above 255 are written: SAM, SAM2, SAM3-flat or transparent; empty for transparent.
	AddressingMode string
}

// ISCSITarget is one path to a LUN.
type ISCSITarget struct {
	Portal string // host:port; [host]:port for IPv6
	IQN    string
	LUN    int
}

// CHAP is who logs in.
type CHAP struct {
	Method   string // CHAP
	User     string
	Password Secret
}

// FCInfo is a LUN by Fibre Channel.
type FCInfo struct {
	// Targets are the ports of the array, with the LUN that each shows the volume as.
	Targets []FCTarget
	// Map says which targets each of this host's ports reaches (initiator_target_map); nil for all.
	Map map[string][]FCTarget
	// AddressingMode as of ISCSIInfo.
	AddressingMode string
}

// FCTarget is a port of an array.
type FCTarget struct {
	WWPN string // 16 hexadecimal digits, lower case
	LUN  int
}

// NVMeInfo is a namespace of an NVMe subsystem.
type NVMeInfo struct {
	NQN     string // of the subsystem (target_nqn or nqn)
	HostNQN string // that the subsystem expects; empty for the host's own
	Portals []NVMePortal
	// Namespace is its number (ns_id, volume_nguid, ...): how it is found. Empty for the only one.
	UUID, NGUID string
	NSID        int // 0 when it is not told
}

// NVMePortal is an address of a subsystem.
type NVMePortal struct {
	Transport string // tcp, rdma or fc
	Address   string
	Port      int // 0 for fc
}

// NFSInfo is a file on an NFS server.
type NFSInfo struct {
	Export  string // host:/path
	Name    string // of the file; no path
	Options string // of mount, from the volume service; a list of words that Parse has checked
}

// RBDInfo is an image of a Ceph pool.
type RBDInfo struct {
	Pool, Image string
	Hosts       []Address
	User        string // empty when there is no authentication
	SecretUUID  string // of the hypervisor's secret; empty for the operator's
	Cluster     string
	Keyring     Secret
}

// NBDInfo is an export of an NBD server.
type NBDInfo struct {
	Server Address
	Export string
}

// Address of a storage server.
type Address struct {
	Host string
	Port int // 0 for the protocol's own
}

// Limits are a volume's (qos_specs), that the hypervisor keeps. Zero means no limit. Bytes and operations are per second.
type Limits struct {
	TotalBytes, ReadBytes, WriteBytes          uint64
	TotalIOPS, ReadIOPS, WriteIOPS             uint64
	TotalBytesMax, ReadBytesMax, WriteBytesMax uint64
	TotalIOPSMax, ReadIOPSMax, WriteIOPSMax    uint64
	SizeIOPS                                   uint64
}

// Secret is a password or a key. It shows in no log line and no error; only JSON, which goes to the store, has it.
type Secret string

const hidden = "***"

// String hides it.
func (s Secret) String() string { return hidden }

// GoString hides it.
func (s Secret) GoString() string { return hidden }

// LogValue hides it.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// Identity is what a disk itself says that it is, whatever the way to it: its WWID as the kernel has it (naa.6..., eui., t10.), uuid. and the UUID
// of an NVMe namespace, or for files and network drives nothing. It is remembered at the first attachment and must be the same at each later one.
type Identity string

// Device is a volume as it is there on this host. It is stored, and with the Info it is all that is needed to take it away again.
type Device struct {
	// Path is the block device or the file; or, of a drive that the hypervisor itself reaches, empty.
	Path    string   `json:"path,omitempty"`
	Network *Network `json:"network,omitempty"`
	// Format of the contents: raw, or qcow2 for files that are.
	Format   string   `json:"format"`
	Identity Identity `json:"identity,omitempty"`
	Bytes    int64    `json:"bytes,omitempty"` // its size; 0 when it is not known
	// Map is the device-mapper map that stands for the paths (multipath), Paths are the devices below; for the log and for people.
	Map   string   `json:"map,omitempty"`
	Paths []string `json:"paths,omitempty"`
	// Crypt is the device-mapper map that decrypts it on the host; Path is then that. Empty when the hypervisor decrypts, or nobody.
	Crypt string `json:"crypt,omitempty"`
	// Below is what Path was before Crypt stood above it.
	Below string `json:"below,omitempty"`
}

// Network is a drive that the hypervisor itself reaches.
type Network struct {
	Protocol  string    `json:"protocol"` // iscsi, rbd, nbd
	Name      string    `json:"name"`     // iscsi: IQN/LUN; rbd: pool/image; nbd: export
	Hosts     []Address `json:"hosts"`
	User      string    `json:"user,omitempty"`      // that logs in; empty for nobody
	Usage     string    `json:"usage,omitempty"`     // of the secret: iscsi or ceph
	Secret    string    `json:"secret,omitempty"`    // UUID of a secret that the operator keeps; empty for one that the agent makes of the Info
	Initiator string    `json:"initiator,omitempty"` // IQN
}

// Connector makes volumes of its types available on this host, and takes them away. All methods may be called concurrently; what concerns one target or
// LUN waits for each other there and nowhere else. They may be called again, also after a crash in the middle, and then finish what was
// begun. Errors are of type *Error where an operator or user can do something about them.
type Connector interface {
	// Connect returns when the volume's device is there, its size and identity read from it. It never returns a device that is not what Info
	// names: one whose identity is not known, when known is not empty, is taken away again and refused with IdentityMismatch, with both values.
	Connect(ctx context.Context, info Info, known Identity) (Device, error)
	// Disconnect removes exactly what Connect made. A device that a guest, a mount or another map holds is neither flushed nor removed: InUse,
	// with who holds it. What is not there is removed. dev may be zero when it is not known what Connect had got to.
	Disconnect(ctx context.Context, info Info, dev Device) error
	// Extend makes the host see the volume's new size, on all its paths, and returns the device as it is then.
	Extend(ctx context.Context, info Info, dev Device) (Device, error)
}

// Properties are what a host tells the volume service of itself (os-brick's get_connector_properties).
type Properties struct {
	Initiator       string   `json:"initiator,omitempty"` // IQN
	WWPNs           []string `json:"wwpns,omitempty"`
	WWNNs           []string `json:"wwnns,omitempty"`
	NQN             string   `json:"nqn,omitempty"`
	NVMeHostID      string   `json:"nvme_hostid,omitempty"`
	SystemUUID      string   `json:"system uuid,omitempty"`
	NativeMultipath bool     `json:"nvme_native_multipath"`
	IP              string   `json:"ip"`
	Host            string   `json:"host"`
	Multipath       bool     `json:"multipath"`
	EnforceMP       bool     `json:"enforce_multipath"`
	OSType          string   `json:"os_type"`  // linux
	Platform        string   `json:"platform"` // x86_64
	DoLocalAttach   bool     `json:"do_local_attach"`
	Mountpoint      string   `json:"mountpoint,omitempty"` // of one attachment
}

// Raw is a connection_info as a volume service sends it.
type Raw = json.RawMessage

// Request is one volume on its way to this host or from it.
type Request struct {
	VolumeID string
	Info     Info
	Known    Identity // that the volume had at its first attachment; empty for none yet
	Device   Device   // as Connect returned it; zero when that is not known
	// Shared says that another server of this host has the volume too (multiattach): Disconnect then leaves the device to it. Where servers come and go
	// side by side, the caller decides it under a lock of the volume's.
	Shared bool
	// Cipher is the encryption that has to be undone on the host; nil for none, or where the hypervisor does it.
	Cipher *Cipher
}

// Cipher is how a volume is encrypted.
type Cipher struct {
	Format  string // luks, luks2 or plain
	Cipher  string // aes-xts-plain64; empty for the program's own
	KeySize int    // bits; 0 for the program's own
	Key     Secret
}
