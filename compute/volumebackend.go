package compute

import (
	"context"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/image"
)

// VolumeBackend is a place for volumes: *LocalVolumes, *LVMVolumes, *FixedVolumes. It is known by the volume's ID, keeps no records, and may be asked again
// for what it has done, also after a crash in the middle: it then finishes it. Its methods may be called concurrently for different volumes. Errors are for
// the operator: an administrator reads them, its user is told that the volume is in an error.
type VolumeBackend interface {
	// Create makes a volume with the contents that from says. What it has made of it when it fails is gone, or Delete removes it.
	Create(ctx context.Context, v cinder.Volume, from VolumeOrigin) error
	// Delete removes a volume with its contents, such that no later volume shows them. One that is not there is deleted.
	Delete(ctx context.Context, v cinder.Volume) error
	// Extend makes a volume at least as large as it says; one that is stays as it is.
	Extend(ctx context.Context, v cinder.Volume, gib int) error
	// Snapshot keeps a volume's contents of one moment.
	Snapshot(ctx context.Context, s cinder.Snapshot, of cinder.Volume) error
	// DeleteSnapshot removes a snapshot. One that is not there is deleted.
	DeleteSnapshot(ctx context.Context, s cinder.Snapshot, of cinder.Volume) error
	// Connection is the way to a volume for a host: a connection_info. What is the same for all backends, like limits, is added to it.
	Connection(ctx context.Context, v cinder.Volume, host connector.Properties) (connector.Raw, error)
	// Pool says what there is, as it is now. Its name is the caller's to say.
	Pool(ctx context.Context) (cinder.Pool, error)
}

// VolumeOrigin is what a new volume is to contain: one of an image, a snapshot and a volume, or nothing.
type VolumeOrigin struct {
	Image    *image.Base
	Snapshot *cinder.Snapshot
	Volume   *cinder.Volume // to be cloned; or that the snapshot is of
	// Cipher is how the volume is encrypted; nil for not. A copy of another volume is encrypted as that is, with the same key.
	Cipher *connector.Cipher
}

// VolumePlacer is a backend whose volumes each take a place that somebody else made: it is chosen in the transaction that makes the record.
type VolumePlacer interface {
	// Place chooses the LUN for a new volume. all are the volumes of the store, used the LUNs that are not clean.
	Place(v cinder.Volume, all []cinder.Volume, used []cinder.UsedLUN) (lun string, err error)
	// Left says what there is for a project. It takes the place of Pool's numbers.
	Left(p cinder.Pool, projectID string, all []cinder.Volume, used []cinder.UsedLUN) cinder.Pool
	// Grown is how large a volume can be, in GiB.
	Grown(v cinder.Volume) int
	// KeepsContents says whether a LUN still holds what a volume had after its Delete.
	KeepsContents() bool
}
