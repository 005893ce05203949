package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
)

// Files connects volumes of type file: regular files of this host.
type Files struct {
	nobody
	// Dirs are the directories that volumes may be below, absolute. There are none by default.
	Dirs []string
}

// Connect implements connector.Connector. No link is followed below the directories, at any place of the path.
func (c Files) Connect(_ context.Context, info connector.Info, _ connector.Identity) (connector.Device, error) {
	return c.device(info)
}

// Extend implements connector.Connector.
func (c Files) Extend(_ context.Context, info connector.Info, _ connector.Device) (connector.Device, error) {
	return c.device(info)
}

func (c Files) device(info connector.Info) (connector.Device, error) {
	const field = "data.device_path"
	for _, dir := range c.Dirs {
		if name, err := filepath.Rel(dir, info.Path); err == nil && filepath.IsLocal(name) && name != "." {
			return fileDevice(dir, name, field, info.Format)
		}
	}
	rule := "files of volumes may be in no directory of this host"
	if len(c.Dirs) > 0 {
		rule = "files of volumes may only be below " + strings.Join(c.Dirs, ", ")
	}
	return connector.Device{}, &connector.Error{Reason: connector.InvalidInfo, Field: field, Value: info.Path, Rule: rule}
}

// fileDevice is a regular file below a directory, as a device. field is what an error names.
func fileDevice(dir, name, field, format string) (connector.Device, error) {
	path := filepath.Join(dir, name)
	f, err := openBelow(dir, name, unix.O_PATH) // to look at it: no right to read is needed, and a pipe does not block
	switch {
	case errors.Is(err, unix.ENOENT):
		return connector.Device{}, &connector.Error{Reason: connector.NoDevice, Field: field, Value: path, Rule: "the file is not there", Err: err}
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return connector.Device{}, &connector.Error{Reason: connector.InvalidInfo, Field: field, Value: path, Rule: "the way to the file has a link or leaves the directory", Err: err}
	case err != nil:
		return connector.Device{}, fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // only read
	stat, err := f.Stat()
	if err != nil {
		return connector.Device{}, err
	}
	if !stat.Mode().IsRegular() {
		return connector.Device{}, &connector.Error{Reason: connector.InvalidInfo, Field: field, Value: path, Rule: "it is not a regular file"}
	}
	dev := connector.Device{Path: path, Format: "raw", Bytes: stat.Size()}
	if format == "qcow2" {
		dev.Format = format
		if dev.Bytes, err = qcow2Size(path, dir, name); err != nil {
			return connector.Device{}, err
		}
	}
	if dev.Bytes == 0 {
		return connector.Device{}, &connector.Error{Reason: connector.BadSize, Field: field, Value: path, Rule: "the file is empty"}
	}
	return dev, nil
}

// openBelow opens a file below a directory without following a link.
func openBelow(dir, name string, flags uint64) (*os.File, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root) //nolint:errcheck // only looked at
	how := unix.OpenHow{
		Flags:   flags | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(root, name, &how)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir, name)), nil
}

// The header of a qcow2 file (QEMU, docs/interop/qcow2.txt).
const (
	qcow2Magic   = 0x514649fb
	qcow2Header  = 104 // of version 3
	externalData = 1 << 2
)

// qcow2Size is the size of the disk in a qcow2 file. A file that goes on in others is refused: the hypervisor follows no name that a volume holds.
func qcow2Size(path, dir, name string) (int64, error) {
	f, err := openBelow(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // only read
	refuse := func(rule string) (int64, error) {
		return 0, &connector.Error{Reason: connector.InvalidInfo, Field: "data.format", Value: "qcow2", Rule: path + " " + rule}
	}
	h := make([]byte, qcow2Header)
	if _, err := io.ReadFull(f, h[:72]); err != nil {
		return refuse("is too short to be qcow2")
	}
	if _, err := io.ReadFull(f, h[72:]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	version := binary.BigEndian.Uint32(h[4:])
	size := binary.BigEndian.Uint64(h[24:])
	switch {
	case binary.BigEndian.Uint32(h) != qcow2Magic || version != 2 && version != 3:
		return refuse("is not qcow2")
	case binary.BigEndian.Uint64(h[8:]) != 0:
		return refuse("has a backing file, which no volume may have")
	case version == 3 && binary.BigEndian.Uint64(h[72:])&externalData != 0:
		return refuse("has its data in another file")
	case size > 1<<62:
		return refuse("has no valid size")
	}
	return int64(size), nil
}
