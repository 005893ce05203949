package compute

import (
	"context"
	"encoding/json"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
)

// BlockDevice is a drive of a server that is a volume (Nova: a block device mapping with destination_type volume). The record is there from the
// request for it, in the same transaction as the intent, until the volume has been taken away from the host.
type BlockDevice struct {
	ServerID string
	// ID is the record's UUID; VolumeID is empty while the volume is yet to be made (Source).
	ID           string
	VolumeID     string
	AttachmentID string
	Index        int    // in the order of the guest's bus
	Name         string // vda: where the guest has it; chosen once
	Bus          string // virtio, scsi...; empty for the rules'
	Kind         string // disk, cdrom, lun; empty for disk
	// BootIndex counts from 0 for what the guest boots first; nil for what it does not boot from.
	BootIndex           *int
	DeleteOnTermination bool
	Tag                 string
	Multiattach         bool
	ReadOnly            bool
	SizeGiB             int
	// Source is what a volume is to be made of; the zero value for one that is there.
	Source VolumeSource

	// Connection is what the volume service said of the way to it, with secrets; nil until it was asked. Device is what the host made of that;
	// zero until it is there.
	Connection json.RawMessage
	Device     connector.Device
	// Key is the encryption that the agent or the hypervisor undoes; nil for none. Its passphrase is the volume service's to tell.
	Encryption *cinder.Encryption
	// Image is what a boot volume says of the image that it was made from: its properties count as those of the server's image.
	Image map[string]string
	// Attached is whether the guest has, or had, it: a guest that is made again gets it too.
	Attached bool
	// Replaces is the name that a swap gives the volume when all is copied, which then leaves it to the one that is copied. The guest has no
	// volume whose Name is empty.
	Replaces string
}

// VolumeSource is what a new volume is made of. At most one is named; none is a blank volume.
type VolumeSource struct {
	ImageID    string
	SnapshotID string
	Blank      bool
	TypeID     string
}

// BlockDeviceRequest is one entry of a new server's block_device_mapping_v2 whose destination is a volume, or a request to attach one.
type BlockDeviceRequest struct {
	VolumeID            string // one that is there; or
	Source              VolumeSource
	SizeGiB             int
	Device              string // /dev/vdb: a wish; empty for none
	Bus, Kind           string
	BootIndex           *int
	DeleteOnTermination bool
	Tag                 string
}

// VolumeReader reads the records of volumes and of servers' block devices. A single record that is not there is ErrNotFound. Lists come in the order of
// creation, oldest first.
type VolumeReader interface {
	Volume(id string) (cinder.Volume, error)
	Volumes() ([]cinder.Volume, error)
	VolumeAttachment(id string) (cinder.Attachment, error)
	VolumeAttachments() ([]cinder.Attachment, error)
	AttachmentsOf(volumeID string) ([]cinder.Attachment, error)
	Snapshot(id string) (cinder.Snapshot, error)
	Snapshots() ([]cinder.Snapshot, error)
	VolumeType(id string) (cinder.Type, error)
	VolumeTypes() ([]cinder.Type, error)
	QoS(id string) (cinder.QoS, error)
	QoSSpecs() ([]cinder.QoS, error)
	// BlockDevices lists a server's, in the order of Index.
	BlockDevices(serverID string) ([]BlockDevice, error)
	// AllBlockDevices lists those of all servers.
	AllBlockDevices() ([]BlockDevice, error)
	// VolumeIdentity is what the volume's disk said that it is when it was first attached; empty for one that never was.
	VolumeIdentity(volumeID string) (connector.Identity, error)
	// UsedLUNs are those of fixed backends that are not clean, in the order of backend and name.
	UsedLUNs() ([]cinder.UsedLUN, error)
}

// VolumeWriter changes them, as Writer does. What another record refers to cannot be deleted: ErrConflict; what refers to a record that
// is not there is ErrNotFound. Block devices go with their server.
type VolumeWriter interface {
	PutVolume(cinder.Volume) error
	DeleteVolume(id string) error
	PutVolumeAttachment(cinder.Attachment) error
	DeleteVolumeAttachment(id string) error
	PutSnapshot(cinder.Snapshot) error
	DeleteSnapshot(id string) error
	PutVolumeType(cinder.Type) error
	DeleteVolumeType(id string) error
	PutQoS(cinder.QoS) error
	DeleteQoS(id string) error
	// PutBlockDevice fails with ErrExists when the server has another record of the same volume or name.
	PutBlockDevice(BlockDevice) error
	DeleteBlockDevice(id string) error
	// PutVolumeIdentity remembers; an empty identity forgets. It outlives the volume's attachments.
	PutVolumeIdentity(volumeID string, identity connector.Identity) error
	PutUsedLUN(cinder.UsedLUN) error
	DeleteUsedLUN(backend, lun string) error
}

// Volumes is the volume service, as the operations on servers need it: *VolumeService on a host that is alone, Cinder for one that joined a cloud.
// Each call may be repeated, also after a crash in the middle. What is refused is a *cinder.Refusal; what the service cannot do now wraps ErrUnavailable.
type Volumes interface {
	// Connect tells the service which host an attachment is for and by which name its server knows it, and returns the connection_info (Cinder: attachment
	// update). It asks again at each call: an answer may have changed since the last one.
	Connect(ctx context.Context, attachmentID string, host connector.Properties, device string) (connector.Raw, error)
	// Complete says that the server has the volume: in-use.
	Complete(ctx context.Context, attachmentID string) error
	// Remove ends an attachment, whatever it has got to: the volume is available when it was the last.
	Remove(ctx context.Context, attachmentID string) error
	// Make makes a volume for a server, or goes on making it, and returns when it is available; the id is the caller's and names it from then on. Nova makes
	// volumes of images, snapshots or nothing for servers that ask for them.
	Make(ctx context.Context, id string, s Server, d BlockDevice) error
	// Attach reserves an available volume for a server: the new attachment has the ID that the caller gives.
	Attach(ctx context.Context, attachmentID, volumeID, serverID string) error
	// Delete deletes a volume that a server had and was to take with it (delete_on_termination). One that is not there is deleted.
	Delete(ctx context.Context, volumeID string) error
	// Key is the passphrase of an encrypted volume.
	Key(ctx context.Context, volumeID string) (connector.Secret, error)
	// Extended says how an extension of a volume in use ended for one of the servers that have it.
	Extended(ctx context.Context, volumeID, serverID string, failure error) error
}

// VolumeHost makes volumes available on this host; *attach.Host is it. See connector.Connector, which it chooses by the Info's type.
type VolumeHost interface {
	Properties(ctx context.Context) (connector.Properties, error)
	Connect(ctx context.Context, r VolumeConnection) (connector.Device, error)
	Disconnect(ctx context.Context, r VolumeConnection) error
	Extend(ctx context.Context, r VolumeConnection) (connector.Device, error)
}

// VolumeConnection is one volume of a server on its way to this host or from it.
type VolumeConnection = connector.Request
