package compute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"compute-agent/blockdev"
	"compute-agent/configdrive"
	"compute-agent/image"
	"compute-agent/internal/command"
)

// FileDisks keeps each server's disks as files in a directory of its own, named by the server's ID:
// a qcow2 overlay on the image's cached bytes, ephemeral disk, swap, and the config drive.
type FileDisks struct {
	dir       string
	imageDir  string
	ephemeral image.FileSystem
	runner    command.Runner
	directIO  bool
}

// NewFileDisks keeps servers' files under dir, which is made if it is not there, and builds them on
// the bytes of an image store in imageDir. Both must be absolute. Ephemeral disks get the given file system
// (default_ephemeral_format); empty leaves it to the guest's operating system. The runner runs qemu-img,
// genisoimage and the programs that format disks.
func NewFileDisks(dir, imageDir string, ephemeral image.FileSystem, runner command.Runner) (*FileDisks, error) {
	if !filepath.IsAbs(dir) || !filepath.IsAbs(imageDir) {
		return nil, fmt.Errorf("servers' directory: %s or %s is not an absolute path", dir, imageDir)
	}
	// Others may pass through, as the hypervisor's user must, but not list.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("servers' directory: %w", err)
	}
	return &FileDisks{dir: dir, imageDir: imageDir, ephemeral: ephemeral, runner: runner, directIO: takesDirectIO(dir)}, nil
}

// takesDirectIO tries whether files in dir can be opened around the page cache; tmpfs and some
// others refuse.
func takesDirectIO(dir string) bool {
	path := filepath.Join(dir, ".direct-io")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_DIRECT, 0o600)
	if err == nil {
		_ = file.Close()
	}
	_ = os.Remove(path)
	return err == nil
}

// Storage implements Disks.
func (d *FileDisks) Storage(context.Context) (Storage, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		return Storage{}, fmt.Errorf("look at the file system of %s: %w", d.dir, err)
	}
	size := uint64(st.Bsize)
	return Storage{TotalBytes: st.Blocks * size, FreeBytes: st.Bavail * size, DirectIO: d.directIO}, nil
}

// Files implements Disks.
func (d *FileDisks) Files(s Server) Files { return FilesIn(d.dir, d.imageDir, s) }

// FilesIn says where FileDisks has a server's files. It looks at nothing.
func FilesIn(dir, imageDir string, s Server) Files {
	return filesAt(filepath.Join(dir, s.ID), imageDir, s)
}

// filesAt are a server's files in a directory that is all its own.
func filesAt(dir, imageDir string, s Server) Files {
	f := Files{
		Root: filepath.Join(dir, "disk"), Base: filepath.Join(imageDir, s.Image.Checksum),
		Ephemeral: filepath.Join(dir, "disk.eph0"), Swap: filepath.Join(dir, "disk.swap"),
		ConfigDrive: filepath.Join(dir, "disk.config"), ConsoleLog: filepath.Join(dir, "console.log"),
		SerialSocket: filepath.Join(dir, "serial"),
	}
	if s.Rescue != nil {
		f.Rescue, f.RescueBase = filepath.Join(dir, "disk.rescue"), filepath.Join(imageDir, s.Rescue.Image.Checksum)
		f.RescueConfig = filepath.Join(dir, "disk.config.rescue")
	}
	return f
}

// Make implements Disks.
func (d *FileDisks) Make(ctx context.Context, s Server, on Attached, secret Secrets) error {
	dir, err := d.home(s.ID)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the server's directory: %w", err)
	}
	if err := syncDir(d.dir); err != nil {
		return fmt.Errorf("make the server's directory: %w", err)
	}
	return d.fill(ctx, s, d.Files(s), on, secret)
}

// fill makes a server's disks as files.
func (d *FileDisks) fill(ctx context.Context, s Server, files Files, on Attached, secret Secrets) error {
	base := image.Base{Path: files.Base, Format: s.Image.Format}
	if !s.BootsFromVolume() {
		if err := image.MakeOverlay(ctx, d.runner, files.Root, base, int64(s.Flavor.DiskGiB)<<30); err != nil {
			return explainDisk(s, err)
		}
	}
	for _, b := range blanksOf(s, files, d.ephemeral) {
		if err := image.MakeBlank(ctx, d.runner, b.path, b.size, b.format, b.label); err != nil {
			return explainDisk(s, err)
		}
	}
	if !s.ConfigDrive {
		return nil
	}
	return configdrive.Write(ctx, d.runner, files.ConfigDrive, s.driveFormat(), driveOf(s, on, secret))
}

const propOSType = "os_type"

// blank is a disk that a flavor gives beside the image's.
type blank struct {
	path   string
	size   int64 // bytes
	format image.FileSystem
	label  string
}

// blanksOf are the ephemeral disk and the swap disk of a server, if its flavor has them. An empty format leaves the
// choice to the guest's operating system.
func blanksOf(s Server, files Files, format image.FileSystem) (all []blank) {
	if size := int64(s.Flavor.EphemeralGiB) << 30; size > 0 {
		format = cmp.Or(format, image.FileSystemFor(s.Image.Properties[propOSType]))
		all = append(all, blank{files.Ephemeral, size, format, "ephemeral0"})
	}
	if size := int64(s.Flavor.SwapMiB) << 20; size > 0 {
		all = append(all, blank{files.Swap, size, image.Swap, ""})
	}
	return all
}

// syncDir makes a new entry of a directory survive a power failure.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// explainDisk turns what the user can do something about into words for the user.
func explainDisk(s Server, err error) error {
	because := func(kind error, reason string) error {
		return &Failure{Kind: kind, Subject: "image " + s.ImageID, Reason: reason, Err: err}
	}
	var refused *image.Refusal
	switch {
	case errors.As(err, &refused):
		return &Failure{Kind: ErrInvalid, Subject: "image " + s.ImageID, Reason: refused.Error()}
	case errors.Is(err, image.ErrTooSmall):
		return because(ErrInvalid, "the flavor's disk is smaller than the image")
	case errors.Is(err, image.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return because(ErrNotFound, "its bytes are not there")
	case errors.Is(err, image.ErrNoSpace), errors.Is(err, syscall.ENOSPC):
		return because(ErrNoCapacity, "no space is left on the host for its disk")
	default:
		return err
	}
}

// Remove implements Disks.
func (d *FileDisks) Remove(_ context.Context, serverID string) error {
	dir, err := d.home(serverID)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the server's files: %w", err)
	}
	return nil
}

// List implements Disks.
func (d *FileDisks) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list servers' files: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if _, err := d.home(e.Name()); err == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// home is a server's directory. Only a UUID names one: nothing else may become a path.
func (d *FileDisks) home(serverID string) (string, error) {
	if id, err := uuid.Parse(serverID); err != nil || id.String() != serverID {
		return "", fmt.Errorf("%w: server ID %q is not a UUID", ErrInvalid, serverID)
	}
	return filepath.Join(d.dir, serverID), nil
}

// devices are the names of the server's own disks. They do not depend on the machine; a server whose drives cannot be
// placed never gets this far.
func devices(s Server, volumes []BlockDevice) (root, ephemeral, swap string) {
	m, err := blockdev.Plan(driveRequest(s, volumes, "", "", ""))
	if err != nil {
		return "vda", "", ""
	}
	eph, _ := m.Find(blockdev.Ephemeral, 0)
	sw, _ := m.Find(blockdev.Swap, 0)
	return m.Root.Name, eph.Name, sw.Name
}

// driveFormat is the format of the server's config drive, if it has one.
func (s Server) driveFormat() configdrive.Format {
	return cmp.Or(configdrive.Format(s.ConfigDriveFormat), configdrive.ISO9660)
}

// Hostname is the host name that the guest finds on its config drive.
func (s Server) Hostname() string { return hostname(s) }

// RootDevice is the root disk's device file in the guest, as Nova calls it: /dev/vda. The guest may
// see another.
func (s Server) RootDevice() string {
	root, _, _ := devices(s, nil)
	return "/dev/" + root
}

// hostname makes a valid host name of a server's name, as Nova's sanitize_hostname does: spaces and
// underscores become dashes, letters small, all else but letters, digits, dots and dashes goes. A
// name of which nothing is left becomes "server-" and the ID.
func hostname(s Server) string {
	keep := func(r rune) rune {
		switch {
		case r == ' ' || r == '_':
			return '-'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return -1
	}
	name := strings.Map(keep, strings.ToLower(s.Name))
	if len(name) > 63 {
		name = name[:63]
	}
	name = strings.Trim(name, ".-")
	if name == "" {
		return "server-" + s.ID
	}
	return name
}
