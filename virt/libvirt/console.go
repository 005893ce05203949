package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// maxRotated is how many rotated console logs are looked for (virtlogd keeps max_backups, 3 by default).
const maxRotated = 10

// ConsoleLog implements virt.ConsoleLogger. The file's name comes from the domain itself, so guests that
// others made can be read too.
func (d *Driver) ConsoleLog(ctx context.Context, id string, limit int) ([]byte, error) {
	result := make(chan []byte, 1)
	err := d.run(ctx, "read console log of guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		var path string
		err := c.domain(ctx, id, func(dom *lv.Domain) (err error) {
			path, err = consoleLogPath(dom)
			return err
		})
		if err != nil {
			return err
		}
		log, err := tailRotated(path, limit)
		result <- log
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-result, nil
}

func consoleLogPath(dom *lv.Domain) (string, error) {
	domain, err := domainOf(dom)
	if err != nil {
		return "", err
	}
	if domain.Devices != nil {
		for _, serial := range domain.Devices.Serials {
			if serial.Log != nil && serial.Log.File != "" {
				return serial.Log.File, nil
			}
		}
	}
	return "", fmt.Errorf("%w: guest has no console log", virt.ErrUnsupported)
}

// tailRotated returns the last limit bytes of the file at path and of what was rotated out of it: path.0,
// then path.1 and so on, the newest first. Files that are not there are empty.
func tailRotated(path string, limit int) ([]byte, error) {
	var parts [][]byte
	for i := -1; i < maxRotated && limit > 0; i++ {
		name := path
		if i >= 0 {
			name = fmt.Sprintf("%s.%d", path, i)
		}
		part, err := tail(name, limit)
		if errors.Is(err, fs.ErrNotExist) && i >= 0 {
			break
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		parts = append(parts, part)
		limit -= len(part)
	}
	slices.Reverse(parts)
	return slices.Concat(parts...), nil
}

// tail returns the last limit bytes of a file.
func tail(name string, limit int) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // not to wait for a FIFO's writer
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	size := min(info.Size(), int64(limit))
	part := make([]byte, size)
	n, err := io.ReadFull(io.NewSectionReader(f, info.Size()-size, size), part)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil // it was rotated or emptied meanwhile
	}
	return part[:n], err
}
