package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/luks"
	"compute-agent/cinder"
	"compute-agent/image"
	"compute-agent/internal/command"
)

// LocalOptions are how LocalVolumes are kept.
type LocalOptions struct {
	Dir    string // absolute; made if it is not there
	Format string // raw or qcow2; default raw
	// Sparse files take room when they are written to, not before: there may then be more volumes than there is room for. qcow2 files are always so.
	Sparse bool
	Runner command.Runner // runs qemu-img and, for other encryptions than LUKS1, cryptsetup
}

// LocalVolumes keeps each volume as a file, which servers of this host use as it is. Files are named by the volume's UUID, snapshots are in a directory
// beside them. What is being made has another name until it is whole.
type LocalVolumes struct {
	opt LocalOptions
	// reflinks says whether the file system copies a file at one moment.
	reflinks bool
}

const (
	kindLocal    = "local"
	snapshotsDir = "snapshots"
	// The names of what is being made: the volume, and the image that it is to be filled with.
	unfinished = ".new"
	unpacked   = ".image"
)

// NewLocalVolumes opens the volumes in a directory.
func NewLocalVolumes(opt LocalOptions) (*LocalVolumes, error) {
	if opt.Format == "" {
		opt.Format = image.FormatRaw
	}
	if opt.Format != image.FormatRaw && opt.Format != image.FormatQCOW2 || !filepath.IsAbs(opt.Dir) {
		return nil, fmt.Errorf("volumes in %q: the directory must be absolute, the format raw or qcow2, not %q", opt.Dir, opt.Format)
	}
	for _, system := range []string{"/dev/", "/proc/", "/sys/"} { // connector.Parse would refuse each volume
		if strings.HasPrefix(filepath.Clean(opt.Dir)+"/", system) {
			return nil, fmt.Errorf("volumes in %s: it is below %s", opt.Dir, system)
		}
	}
	// Others may pass through, as the hypervisor's user must, but not list.
	if err := os.MkdirAll(filepath.Join(opt.Dir, snapshotsDir), 0o711); err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	l := &LocalVolumes{opt: opt}
	err := l.tryReflink()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, fmt.Errorf("volumes in %s: %w", opt.Dir, err)
	}
	l.reflinks = err == nil
	return l, nil
}

// tryReflink copies one file, of a block, as the file system can.
func (l *LocalVolumes) tryReflink() error {
	src, err := os.CreateTemp(l.opt.Dir, ".reflink-*")
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(src.Close(), os.Remove(src.Name())) }()
	if err := src.Truncate(4096); err != nil {
		return err
	}
	dst, err := os.CreateTemp(l.opt.Dir, ".reflink-*")
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(dst.Close(), os.Remove(dst.Name())) }()
	return image.Reflink(dst, src)
}

func (l *LocalVolumes) path(id string) (string, error) {
	if err := uuid.Validate(id); err != nil || len(id) != uuidLength {
		return "", fmt.Errorf("volume %q is not named by a UUID", id)
	}
	return filepath.Join(l.opt.Dir, id), nil
}

func (l *LocalVolumes) snapshotPath(id string) (string, error) {
	path, err := l.path(id)
	return filepath.Join(filepath.Dir(path), snapshotsDir, id), err
}

func bytesOf(gib int) int64 { return int64(gib) << 30 }

// Create implements VolumeBackend.
func (l *LocalVolumes) Create(ctx context.Context, v cinder.Volume, from VolumeOrigin) error {
	path, err := l.path(v.ID)
	if err != nil {
		return err
	}
	return l.build(path, func(temp string) error {
		if err := l.write(ctx, temp, v, from); err != nil {
			return err
		}
		return l.grow(ctx, temp, bytesOf(v.SizeGiB))
	})
}

// build makes a file by making another one and moving it to its place. One that is there was made before.
func (l *LocalVolumes) build(path string, write func(temp string) error) (err error) {
	if _, err := os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp := path + unfinished
	if err := removeFiles(temp); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp) // the next attempt begins by removing it, and so does Delete
			err = image.NoSpace(err)
		}
	}()
	if err := write(temp); err != nil {
		return err
	}
	if err := syncFile(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// write makes the file with a new volume's contents; it may still be too small.
func (l *LocalVolumes) write(ctx context.Context, temp string, v cinder.Volume, from VolumeOrigin) error {
	switch {
	case from.Snapshot != nil:
		path, err := l.snapshotPath(from.Snapshot.ID)
		if err != nil {
			return err
		}
		return l.copy(ctx, temp, path, false)
	case from.Volume != nil:
		path, err := l.path(from.Volume.ID)
		if err != nil {
			return err
		}
		return l.copy(ctx, temp, path, from.Volume.Status != cinder.Available)
	case from.Cipher != nil:
		return l.writeEncrypted(ctx, temp, v, from)
	case from.Image != nil:
		return image.Unpack(ctx, l.opt.Runner, temp, l.opt.Format, *from.Image)
	case l.opt.Format == image.FormatQCOW2:
		return image.CreateQCOW2(ctx, l.opt.Runner, temp, bytesOf(v.SizeGiB))
	}
	return createEmpty(temp, 0)
}

func createEmpty(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(size), file.Close())
}

// writeEncrypted makes an encrypted volume, and writes the image into it that it is to contain.
func (l *LocalVolumes) writeEncrypted(ctx context.Context, temp string, v cinder.Volume, from VolumeOrigin) error {
	if err := createEmpty(temp, bytesOf(v.SizeGiB)); err != nil {
		return err
	}
	if err := luks.Format(ctx, l.opt.Runner, temp, *from.Cipher); err != nil {
		return err
	}
	if from.Image == nil {
		return nil
	}
	path, err := l.path(v.ID)
	if err != nil {
		return err
	}
	return pourImage(ctx, l.opt.Runner, *from.Image, path+unpacked, image.Target{Path: temp, Key: string(from.Cipher.Key)})
}

// pourImage writes an image over a target, by way of a raw file where the image is none: only what reads raw bytes may run with the right to write anywhere.
func pourImage(ctx context.Context, runner command.Runner, base image.Base, scratch string, to image.Target) (err error) {
	raw := base.Path
	if base.Format != image.FormatRaw {
		raw = scratch
		if err := image.Unpack(ctx, runner, scratch, image.FormatRaw, base); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(scratch)) }()
	} else if _, err := image.Check(base.Path, base.Format); err != nil {
		return err
	}
	return image.Pour(ctx, runner, raw, to)
}

// copy makes a file of the contents of another one. live is whether somebody may write to that meanwhile.
func (l *LocalVolumes) copy(ctx context.Context, to, from string, live bool) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	err = errors.ErrUnsupported
	if l.reflinks {
		err = image.Reflink(dst, src)
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if live {
		return errors.New("a server may be writing to it, and this file system cannot copy a file at one moment")
	}
	return image.CopySparse(ctx, dst, src)
}

// grow makes a file's disk at least so large.
func (l *LocalVolumes) grow(ctx context.Context, path string, size int64) error {
	if l.opt.Format == image.FormatQCOW2 {
		return image.Grow(ctx, l.opt.Runner, path, size)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	stat, err := file.Stat()
	switch {
	case err != nil:
		return err
	case !l.opt.Sparse:
		err = image.Allocate(file, max(size, stat.Size()))
	case stat.Size() < size:
		err = file.Truncate(size)
	}
	return errors.Join(err, file.Sync())
}

// Delete implements VolumeBackend. The blocks are the file system's again, which shows them to nobody before they are written.
func (l *LocalVolumes) Delete(_ context.Context, v cinder.Volume) error {
	path, err := l.path(v.ID)
	if err != nil {
		return err
	}
	return removeFiles(path+unfinished, path+unpacked, path)
}

// removeFiles removes what is there of files of one directory.
func removeFiles(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(filepath.Dir(paths[0]))
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Chmod(0o600), file.Sync(), file.Close())
}

// Extend implements VolumeBackend.
func (l *LocalVolumes) Extend(ctx context.Context, v cinder.Volume, gib int) error {
	path, err := l.path(v.ID)
	if err != nil {
		return err
	}
	return image.NoSpace(l.grow(ctx, path, bytesOf(gib)))
}

// Snapshot implements VolumeBackend.
func (l *LocalVolumes) Snapshot(ctx context.Context, s cinder.Snapshot, of cinder.Volume) error {
	from, fromErr := l.path(of.ID)
	path, err := l.snapshotPath(s.ID)
	if err := errors.Join(fromErr, err); err != nil {
		return err
	}
	return l.build(path, func(temp string) error { return l.copy(ctx, temp, from, of.Status != cinder.Available) })
}

// DeleteSnapshot implements VolumeBackend.
func (l *LocalVolumes) DeleteSnapshot(_ context.Context, s cinder.Snapshot, _ cinder.Volume) error {
	path, err := l.snapshotPath(s.ID)
	if err != nil {
		return err
	}
	return removeFiles(path+unfinished, path)
}

// Connection implements VolumeBackend.
func (l *LocalVolumes) Connection(_ context.Context, v cinder.Volume, _ connector.Properties) (connector.Raw, error) {
	path, err := l.path(v.ID)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return nil, err
	}
	return connectionOf(connector.File, map[string]any{"device_path": path, "format": l.opt.Format})
}

func connectionOf(kind connector.Type, data map[string]any) (connector.Raw, error) {
	return json.Marshal(map[string]any{"driver_volume_type": kind, "data": data})
}

// Pool implements VolumeBackend.
func (l *LocalVolumes) Pool(context.Context) (cinder.Pool, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(l.opt.Dir, &st); err != nil {
		return cinder.Pool{Kind: kindLocal}, fmt.Errorf("look at the file system of %s: %w", l.opt.Dir, err)
	}
	raw := l.opt.Format == image.FormatRaw
	p := cinder.Pool{Kind: kindLocal, TotalGiB: inGiB(st.Blocks * uint64(st.Bsize)), FreeGiB: inGiB(st.Bavail * uint64(st.Bsize)), Multiattach: raw,
		Copies: true, LiveCopies: raw && l.reflinks, LiveExtend: raw}
	if raw {
		p.Encryption = []string{luks.FormatLUKS}
	}
	return p, nil
}

func inGiB(bytes uint64) float64 { return float64(bytes) / (1 << 30) }
