package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"compute-agent/internal/command"
)

// MakeOverlay makes a guest's disk at path: a qcow2 file of size bytes that begins as a copy of
// base and takes what the guest writes. Size zero means the image's own; a smaller one is
// ErrTooSmall. The file is there wholly or not at all, readable by its owner only. Making it again
// succeeds and keeps what is in it; a different file at path is left alone, and fs.ErrExist.
func MakeOverlay(ctx context.Context, runner command.Runner, path string, base Base, size int64) error {
	if err := makeOverlay(ctx, runner, path, base, size); err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	return nil
}

func makeOverlay(ctx context.Context, runner command.Runner, path string, base Base, size int64) error {
	if !filepath.IsAbs(path) || !filepath.IsAbs(base.Path) {
		return errors.New("a path is not absolute")
	}
	info, err := inspectPath(base.Path, base.Format)
	if err != nil {
		return err
	}
	if size == 0 {
		size = info.VirtualSize
	}
	if size < info.VirtualSize {
		return fmt.Errorf("%w: %d bytes asked for, the image has %d", ErrTooSmall, size, info.VirtualSize)
	}
	switch found, err := readOverlay(path); {
	case err == nil && found == (overlay{base, size}):
		return nil
	case err == nil:
		return fmt.Errorf("another disk is there: %w", fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return createOverlay(ctx, runner, path, base, size)
}

// OverlayCommand is the program that MakeOverlay has write a disk, for people to look at; size in bytes is not zero.
func OverlayCommand(path string, base Base, size int64) command.Cmd {
	return overlayCommand(path+".new", base, size)
}

// overlayCommand has -u, which keeps qemu-img from opening the base, whose size and format are known.
func overlayCommand(temp string, base Base, size int64) command.Cmd {
	return command.Cmd{Name: "qemu-img", Args: []string{"create", "-q", "-u", "-f", FormatQCOW2,
		"-b", base.Path, "-F", base.Format, temp, strconv.FormatInt(size, 10)}}
}

// createOverlay has qemu-img write a new file beside path and moves it there.
func createOverlay(ctx context.Context, runner command.Runner, path string, base Base, size int64) (err error) {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp) // the next attempt begins by removing it
		}
	}()
	if _, err = runner.Run(ctx, overlayCommand(temp, base, size)); err != nil {
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

// keep makes a new file private and brings it to stable storage.
func keep(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Chmod(0o600), file.Sync(), file.Close())
}

// overlay is what a disk made here says of itself.
type overlay struct {
	base Base
	size int64
}

// readOverlay reads a disk that MakeOverlay made earlier. A guest cannot write its header.
func readOverlay(path string) (overlay, error) {
	file, err := os.Open(path)
	if err != nil {
		return overlay{}, err
	}
	defer func() { _ = file.Close() }()
	stat, err := file.Stat()
	if err != nil {
		return overlay{}, err
	}
	head, err := readAt(file, 0, min(stat.Size(), headSize))
	if err != nil {
		return overlay{}, err
	}
	h, err := parseQCOW2(head)
	if err != nil {
		return overlay{}, fmt.Errorf("the disk that is there is damaged: %w", err)
	}
	found := overlay{Base{Path: h.backingFile}, int64(h.size)}
	for _, e := range h.extensions {
		if e.kind == extBackingFormat {
			found.base.Format = string(e.data)
		}
	}
	return found, nil
}
