package virt

import "context"

// DiskPlugger is the ability to plug disks into guests, and out of them, after they were made; see Plugging. A disk is known
// by its Target (vdb), which no two disks of a guest share.
type DiskPlugger interface {
	// PlugDisk gives the guest one more disk, with the Target that it names. A paused or just created guest finds it when it runs. ErrInvalid when
	// the disk contradicts itself (see Disk.Validate) or its file or device is not there; ErrNotFound without the guest; ErrExists when it has a
	// disk of this Target, live and in its definition, which stays as it is; ErrUnsupported when this hypervisor cannot do what the disk asks;
	// ErrNoCapacity when the guest's machine has no free place; ErrBusy when somebody else has the source locked. After these the guest has of the disk
	// what it had before. Of concurrent calls for one Target exactly one succeeds.
	PlugDisk(ctx context.Context, id string, disk Disk) error

	// UnplugDisk takes the disk of a Target away, and returns when the guest's operating system has let go of it, as UnplugNIC does, with the same
	// errors. When it returns nil the hypervisor has closed the disk's source, and flushed what the guest wrote.
	UnplugDisk(ctx context.Context, id, target string, opt UnplugOptions) error

	// Disks returns the guest's disks: those that it runs with in the order in which it got them, and then those of its definition
	// alone. ErrNotFound without the guest.
	Disks(ctx context.Context, id string) ([]PluggedDisk, error)
}

// PluggedDisk is a disk as a guest has it.
type PluggedDisk struct {
	Target  string
	Serial  string
	Source  Source // live, or of the definition where it is not live; without secrets
	Live    bool   // the guest runs with it
	Defined bool   // it is in the guest's definition
	Bytes   uint64 // the size that the running guest sees; 0 when it does not run
}

// DiskResizer is the ability to tell a running guest that a disk has grown.
type DiskResizer interface {
	// ResizeDisk makes the guest see the disk's size in bytes, a multiple of 512, which its source must have. A guest that does not run sees
	// it when it does: then nothing is done. ErrNotFound without the guest or the disk; ErrInvalid when the disk would shrink.
	ResizeDisk(ctx context.Context, id, target string, bytes uint64) error
}

// DiskCopier is the ability to move a running guest's disk to another source while it is in use (Nova: swap volume).
type DiskCopier interface {
	// CopyDisk copies the disk's contents to another source, which is at least as large, and then has the guest use that, live and in its
	// definition; what the disk is beside its Source, Format and Serial stays. progress, which may be nil, is told of bytes that are copied and
	// that there are; it must not block. When ctx ends, or the copy fails, the guest goes on with what it had, and the
	// copy is nobody's. ErrInvalidState when the guest does not run; ErrNotFound without the guest or the disk; ErrBusy when another copy of the disk
	// is under way. Called again after it succeeded, it succeeds: the disk has that source already.
	CopyDisk(ctx context.Context, id, target string, to Disk, progress func(done, total uint64)) error
}

// DiskMeter is the ability to tell what guests did with their disks.
type DiskMeter interface {
	// DiskUse returns what each live disk of each running guest did since its process began, in one call to the hypervisor (Nova:
	// get_all_volume_usage, block_stats).
	DiskUse(ctx context.Context) ([]DiskUse, error)
}

// DiskUse is what a guest did with a disk.
type DiskUse struct {
	ID                      string // of the guest
	Target                  string
	ReadBytes, WrittenBytes uint64
	Reads, Writes           uint64 // requests
	Flushes                 uint64
}

// SecretKeeper is the ability to keep what a guest's disks need and no Spec may hold: passwords of storage systems, keys of encrypted disks.
type SecretKeeper interface {
	// PutSecret keeps a secret for disks to name by its UUID, in the place of the one that has it. The hypervisor shows it to nobody, and
	// may forget it when it restarts: it is put again before a guest is made or started. ErrInvalid when it contradicts itself.
	PutSecret(ctx context.Context, s Secret) error
	// DeleteSecret forgets a secret. One that is not there is forgotten.
	DeleteSecret(ctx context.Context, uuid string) error
	// Secrets lists the UUIDs of those that PutSecret made, with what they are for.
	Secrets(ctx context.Context) (map[string]string, error)
}

// Secret is one secret of the hypervisor's.
type Secret struct {
	UUID  string
	Usage string // iscsi, ceph or volume
	// For says what it is for, in a word that nothing else has: the volume's ID.
	For   string
	Value []byte
}
