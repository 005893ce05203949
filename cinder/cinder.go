// Package cinder is the volume service's records and rules: volumes, snapshots, types, QoS specs, attachments, in the shapes of OpenStack's block
// storage API. It is pure: what a command asks for and the records go in, records or an error come out. The rules are those of Cinder.
package cinder

import "time"

// Status is where a volume is in its life, in Cinder's words.
type Status string

// The states of a volume.
const (
	Creating       Status = "creating"
	Downloading    Status = "downloading" // an image is written to it
	Available      Status = "available"
	Reserved       Status = "reserved" // for an attachment that has not begun
	Attaching      Status = "attaching"
	InUse          Status = "in-use"
	Detaching      Status = "detaching"
	Extending      Status = "extending"
	Deleting       Status = "deleting"
	Error          Status = "error"
	ErrorDeleting  Status = "error_deleting"
	ErrorExtending Status = "error_extending"
	Maintenance    Status = "maintenance"
)

// Volume is one volume.
type Volume struct {
	ID          string // UUID
	ProjectID   string
	UserID      string
	Name        string // hostile
	Description string
	SizeGiB     int
	Status      Status
	TypeID      string // of its volume type; empty for none
	Backend     string // the operator's name of where it is
	Bootable    bool
	Multiattach bool
	ReadOnly    bool
	// Encryption is what its type asked for when it was made; nil for none. KeyID is the key's.
	Encryption *Encryption
	KeyID      string

	ImageID string // it was made from; empty for none
	// ImageSHA256 names the bytes that it is being made from, and are kept for it; empty when it is made.
	ImageSHA256   string
	ImageMetadata map[string]string
	SnapshotID    string
	SourceID      string // the volume that it was cloned from
	Metadata      map[string]string

	// LUN is which of the fixed backend's it is: the operator's name; empty for other backends.
	LUN string
	// NewGiB is the size that it is being extended to; 0 when it is not.
	NewGiB int
	// Awaited are the IDs of the servers that have it and have not said yet whether they see its new size.
	Awaited []string
	// Before is the status that it had before what is under way, where that failed.
	Before Status

	Problem string // why it is in an error; for the operator
	Created time.Time
	Updated time.Time
}

// AttachmentStatus is where an attachment is, in Cinder's words.
type AttachmentStatus string

// The states of an attachment.
const (
	AttachmentReserved  AttachmentStatus = "reserved"
	AttachmentAttaching AttachmentStatus = "attaching"
	AttachmentAttached  AttachmentStatus = "attached"
	AttachmentDetaching AttachmentStatus = "detaching"
)

// Attachment is a volume's, of a server or, without one, of a host.
type Attachment struct {
	ID       string // UUID
	VolumeID string
	ServerID string // empty for none
	Status   AttachmentStatus
	Device   string // /dev/vdb, as the server calls it
	Mode     string // rw or ro
	Host     string
	Attached time.Time // zero until it is
	Detached time.Time
	Created  time.Time
}

// Type is a volume type.
type Type struct {
	ID          string // UUID
	Name        string
	Description string
	Public      bool
	Projects    []string          // that may use it though it is not public (os-volume-type-access)
	ExtraSpecs  map[string]string // volume_backend_name, multiattach: "<is> True"
	QoSID       string            // empty for none
	Encryption  *Encryption
	Created     time.Time
	Updated     time.Time
}

// Encryption is how volumes of a type are encrypted (os-volume_encryption).
type Encryption struct {
	ID       string // UUID
	Provider string // luks, luks2 or plain
	Cipher   string // aes-xts-plain64; empty for the program's own
	KeySize  int    // bits; 0 for the program's own
	Location string // control_location: front-end, who attaches it
}

// QoS are limits of volumes of a type (qos_specs).
type QoS struct {
	ID       string // UUID
	Name     string
	Consumer string // front-end, back-end or both
	Specs    map[string]string
	Created  time.Time
}

// Snapshot is a volume's contents of a moment.
type Snapshot struct {
	ID          string // UUID
	VolumeID    string
	ProjectID   string
	UserID      string
	Name        string
	Description string
	SizeGiB     int
	Status      Status // creating, available, deleting, error, error_deleting
	Metadata    map[string]string
	Problem     string
	Created     time.Time
	Updated     time.Time
}

// UsedLUN is a LUN of a fixed backend that still holds what a deleted volume had.
type UsedLUN struct {
	Backend   string
	LUN       string // the operator's name
	ProjectID string // whose it was: only that project's volumes may have it before it is clean
	VolumeID  string // the last that was on it
	Since     time.Time
}
