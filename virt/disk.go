package virt

import (
	"context"
	"log/slog"
)

// DiskPlugger is the ability to plug disks into guests, and out of them, after they were made; see Plugging. A disk is known
// by its Target (vdb), which no two disks of a guest share.
type DiskPlugger interface {
	// PlugDisk gives the guest one more disk, with the Target that it names. A paused or just created guest finds it when it runs. ErrInvalid when
	// the disk contradicts itself (see Disk.Validate) or its file, its device or a secret that it names is not there; ErrNotFound without the guest;
	// ErrExists when it has a disk of this Target, live and in its definition, which stays as it is; ErrUnsupported when this hypervisor cannot do
	// what the disk asks, or plug in such a drive (see Disk.Pluggable); ErrNoCapacity when the guest's machine has no free place; ErrBusy when somebody else has the
	// source locked, or the guest has it as another disk. What a storage server says that refuses a login, or does not answer, is of no kind. After
	// these the guest has of the disk what it had before. Of concurrent calls for one Target exactly one succeeds.
	PlugDisk(ctx context.Context, id string, disk Disk) error

	// UnplugDisk takes the disk of a Target away, and returns when the guest's operating system has let go of it, as UnplugNIC does, with the same
	// errors. A disk that is being copied is ErrBusy. When it returns nil the hypervisor has closed the disk's source, and flushed what the guest wrote.
	UnplugDisk(ctx context.Context, id, target string, opt UnplugOptions) error

	// Disks returns the guest's disks: those that it runs with, and then those of its definition alone. ErrNotFound without the guest.
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

	// Like Source live, or of the definition.
	Tune    DiskTune
	BlockIO BlockIO
	Discard string
}

// DiskResizer is the ability to tell a running guest that a disk has grown.
type DiskResizer interface {
	// ResizeDisk makes the guest see the disk's size in bytes, a multiple of 512, which its source must have; an image file is made that large.
	// Of a disk with a Key the source must have room for the key's header beside. A stopped guest sees it when it runs: then nothing is
	// done. ErrNotFound without the guest or the disk; ErrInvalid when the disk would shrink.
	ResizeDisk(ctx context.Context, id, target string, bytes uint64) error
}

// DiskCopier is the ability to move a running guest's disk to another source while it is in use (Nova: swap volume).
type DiskCopier interface {
	// CopyDisk copies the disk's contents to another source, which is at least as large, and then has the guest use that, live and in its
	// definition, with the other's limits (Tune). Its definition also gets the other's BlockIO, Discard, Cache, IO, DetectZeroes and Serial, which a disk that
	// runs cannot change: the guest has them when it is started again. The rest of what the disk is stays. What of the source is more than there was is seen
	// then too; until then ResizeDisk may be ErrUnsupported.
	// progress, which may be nil, is told of bytes that are copied and that there are; it must not block. When ctx ends, or the copy fails, the
	// guest goes on with what it had, and the copy is nobody's. Other calls for the guest are not held up meanwhile; one that ends the guest
	// fails the copy. ErrInvalid when the disk would contradict itself, or the source is not there or too small; ErrInvalidState when the guest
	// is stopped; ErrNotFound without the guest or the disk; ErrBusy when another copy of the disk is under way. Called again after it succeeded,
	// it succeeds: the disk has that source already. One that was under way when its agent ended goes on when it is called again.
	CopyDisk(ctx context.Context, id, target string, to Disk, progress func(done, total uint64)) error

	// AbortCopy ends a copy of the disk that was under way when its agent ended: the guest goes on with what it had. Without one
	// it succeeds and changes nothing. ErrNotFound without the guest; ErrBusy while CopyDisk of this driver makes it.
	AbortCopy(ctx context.Context, id, target string) error
}

// DiskMeter is the ability to tell what guests did with their disks.
type DiskMeter interface {
	// DiskUse returns what each disk of each guest that is not stopped did since its process began, or it was plugged in, in one call to
	// the hypervisor (Nova: get_all_volume_usage, block_stats). Of guests that do not answer nothing may be told.
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
	// PutSecret keeps a secret for disks to name by its UUID, in the place of the one that has it, and of the one that is for the same with
	// the same Usage. The hypervisor shows it to nobody, and may forget it when it restarts: it is put again before a guest is made or
	// started. ErrInvalid when it contradicts itself; ErrExists when a secret that is not of PutSecret has the UUID, which stays as it is.
	PutSecret(ctx context.Context, s Secret) error
	// DeleteSecret forgets a secret that PutSecret made. One that is not there, or not of PutSecret, is none: it succeeds and changes nothing.
	DeleteSecret(ctx context.Context, uuid string) error
	// Secrets lists the UUIDs of those that PutSecret made, with what they are for.
	Secrets(ctx context.Context) (map[string]string, error)
}

// Secret is one secret of the hypervisor's.
type Secret struct {
	UUID  string
	Usage string // iscsi, ceph or volume
	// For says what it is for, in a word of [A-Za-z0-9_.:-] that nothing else has: the volume's ID.
	For   string
	Value []byte
}

// String tells all of a secret but its value.
func (s Secret) String() string { return "secret " + s.UUID + " (" + s.Usage + " " + s.For + ")" }

// GoString is String: no way to print a secret shows its value.
func (s Secret) GoString() string { return s.String() }

// LogValue is String, for package slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
