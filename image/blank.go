package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"compute-agent/internal/command"
)

// FileSystem is what a blank disk is formatted with.
type FileSystem string

// The file systems, in Nova's words (default_ephemeral_format, guest_format).
const (
	Ext2 FileSystem = "ext2"
	Ext3 FileSystem = "ext3"
	Ext4 FileSystem = "ext4"
	XFS  FileSystem = "xfs"
	VFAT FileSystem = "vfat"
	NTFS FileSystem = "ntfs"
	Swap FileSystem = "swap" // swap space of Linux; it gets no label
)

// FileSystemFor is Nova's choice for a guest with an operating system (os_type).
func FileSystemFor(osType string) FileSystem {
	switch osType {
	case "linux":
		return Ext4
	case "windows":
		return NTFS
	}
	return VFAT // which every system reads
}

// formatters are the programs that format a file, with all that keeps them from asking, from writing zeroes over
// all of it, and from refusing a file that is no device.
var formatters = map[FileSystem][]string{
	Ext2: {"mkfs.ext2", "-q", "-F", "-L"},
	Ext3: {"mkfs.ext3", "-q", "-F", "-L"},
	Ext4: {"mkfs.ext4", "-q", "-F", "-L"},
	XFS:  {"mkfs.xfs", "-q", "-f", "-L"},
	VFAT: {"mkfs.vfat", "-n"},
	NTFS: {"mkfs.ntfs", "-q", "-Q", "-F", "-L"},
	Swap: {"mkswap", "-q"},
}

// formatLimits bound the programs. They read nobody's bytes; their memory and time grow with the disk.
var formatLimits = command.Limits{AddressSpace: 4 << 30, CPU: 3 * time.Minute}

// MakeBlank makes an empty disk at path: a raw file of size bytes without contents but those of a fresh file system
// with a label. Blocks that nothing was written to take no room. The file is there wholly or not at all, readable by
// its owner only. Making it again succeeds and keeps what is in it; a file of another size at path is left alone, and
// fs.ErrExist.
func MakeBlank(ctx context.Context, runner command.Runner, path string, size int64, format FileSystem, label string) error {
	if err := makeBlank(ctx, runner, path, size, format, label); err != nil {
		return fmt.Errorf("make %s disk: %w", format, err)
	}
	return nil
}

func makeBlank(ctx context.Context, runner command.Runner, path string, size int64, format FileSystem, label string) error {
	switch {
	case formatters[format] == nil:
		return errors.New("the format is not known")
	case !filepath.IsAbs(path):
		return errors.New("the path is not absolute")
	}
	switch found, err := os.Lstat(path); {
	case err == nil && found.Mode().IsRegular() && found.Size() == size:
		return nil
	case err == nil:
		return fmt.Errorf("another disk is there: %w", fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return createBlank(ctx, runner, path, size, BlankCommand(path, format, label))
}

// BlankCommand is the program that MakeBlank has format a disk in a known format; others look at it, too.
func BlankCommand(path string, format FileSystem, label string) command.Cmd {
	args := slices.Clone(formatters[format][1:])
	if format != Swap {
		args = append(args, label)
	}
	return command.Cmd{Name: formatters[format][0], Args: append(args, path+".new"), Limits: formatLimits}
}

// createBlank has a program format a new file beside path and moves it there.
func createBlank(ctx context.Context, runner command.Runner, path string, size int64, format command.Cmd) (err error) {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp) // the next attempt begins by removing it
		}
	}()
	if err := createHole(temp, size); err != nil {
		return noSpace(err)
	}
	if _, err := runner.Run(ctx, format); err != nil {
		return noSpace(err)
	}
	if err := keep(temp); err != nil {
		return noSpace(err)
	}
	if err := os.Rename(temp, path); err != nil {
		return noSpace(err)
	}
	return noSpace(syncDir(filepath.Dir(path)))
}

// createHole makes a file that has a size and no blocks.
func createHole(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(size), file.Close())
}

// Formatter is the program that makes a file system, and the Debian package that has it.
func (f FileSystem) Formatter() (program, debian string) {
	program = formatters[f][0]
	switch {
	case f == XFS:
		return program, "xfsprogs"
	case f == VFAT:
		return program, "dosfstools"
	case f == NTFS:
		return program, "ntfs-3g"
	case f == Swap:
		return program, "util-linux"
	case strings.HasPrefix(string(f), "ext"):
		return program, "e2fsprogs"
	}
	return program, ""
}
