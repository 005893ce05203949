package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"

	"compute-agent/virt"
)

// greet writes what a guest says when its first instruction runs.
func (g *guest) greet() error { return g.print("fake guest " + g.spec.Name + " started\n") }

// print appends to the guest's console log, if it has one, and makes the file.
func (g *guest) print(text string) error {
	if g.spec.ConsoleLog() == "" {
		return nil
	}
	f, err := os.OpenFile(g.spec.ConsoleLog(), os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open console log: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write console log: %w", err)
	}
	return nil
}

// ConsoleLog implements virt.ConsoleLogger.
func (d *Driver) ConsoleLog(ctx context.Context, id string, limit int) ([]byte, error) {
	var log []byte
	err := d.call(ctx, "ConsoleLog", "read console log", id, func() error {
		var path string
		err := d.locked(ctx, func() error {
			g, err := d.hv.find(id)
			if err == nil {
				path = g.spec.ConsoleLog()
			}
			return err
		})()
		if err != nil {
			return err
		}
		if path == "" {
			return fmt.Errorf("%w: the guest was made without a console log", virt.ErrUnsupported)
		}
		log, err = tail(path, limit)
		return err
	})
	return log, err
}

// tail returns at most limit bytes from the end of a log and its rotated files.
func tail(path string, limit int) ([]byte, error) {
	var parts [][]byte
	name := path
	for i := 0; limit > 0; i++ {
		part, err := tailOf(name, limit)
		if errors.Is(err, fs.ErrNotExist) {
			if i > 0 {
				break
			}
		} else if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		limit -= len(part)
		name = path + "." + strconv.Itoa(i)
	}
	slices.Reverse(parts)
	return slices.Concat(parts...), nil
}

// tailOf returns at most limit bytes from the end of one file.
func tailOf(path string, limit int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	from := max(0, size-int64(limit))
	return io.ReadAll(io.NewSectionReader(f, from, size-from))
}
