package scsi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/uevent"
)

// Kernel is what is not files in sysfs. The real one is that of Host; tests put their own in its place.
type Kernel interface {
	// Write writes an attribute of sysfs. It may block until a scan or removal is done.
	Write(path, value string) error
	// Flush writes a block device's buffers out and drops them (BLKFLSBUF).
	Flush(node string) error
	// Exclusive opens the block device for itself and closes it; the error is ErrHeld when a mount, a map or swap holds it.
	Exclusive(node string) error
	// Number is major:minor of the block device that a path is; empty when it is none.
	Number(path string) string
	// Watch subscribes to events of devices.
	Watch() (*uevent.Watch, error)
}

// ErrHeld is how Kernel.Exclusive says that a device is held.
var ErrHeld = errors.New("somebody holds it")

type linux struct{}

func (linux) Write(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}

func (linux) Flush(node string) error {
	file, err := os.OpenFile(node, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	return unix.IoctlSetInt(int(file.Fd()), unix.BLKFLSBUF, 0)
}

func (linux) Exclusive(node string) error {
	file, err := os.OpenFile(node, os.O_RDONLY|os.O_EXCL|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EBUSY) {
		return ErrHeld
	}
	if err != nil {
		return err
	}
	return file.Close()
}

func (linux) Number(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))) //nolint:unconvert // not 64 bits everywhere
}

func (linux) Watch() (*uevent.Watch, error) { return uevent.Open() }

// gone says whether an error is that of a device that went while it was used.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
}
