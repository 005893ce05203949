package image

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nextData is the next range of a file's bytes from an offset on that is not a hole; empty at its end when there is none.
func nextData(file *os.File, at, size int64) (from, to int64, err error) {
	from, err = unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size, nil
	}
	if err != nil {
		return 0, 0, err
	}
	to, err = unix.Seek(int(file.Fd()), from, unix.SEEK_HOLE)
	return from, min(to, size), err
}

// Reflink makes dst share src's bytes as they are at this moment, whoever writes to src meanwhile (FICLONE): errors.ErrUnsupported where the file system
// cannot.
func Reflink(dst, src *os.File) error {
	err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return errors.ErrUnsupported
	}
	return err
}

// Allocate gives a file size bytes, with all of its blocks there; what is in it stays. A larger file stays as large.
func Allocate(file *os.File, size int64) error {
	err := unix.Fallocate(int(file.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errors.New("this file system cannot allocate blocks before they are written: have sparse files")
	}
	return err
}
