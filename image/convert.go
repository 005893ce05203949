package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"compute-agent/internal/command"
)

// convertLimits bound a program that reads hostile bytes to their end: what it may take grows with the image.
var convertLimits = command.Limits{AddressSpace: 2 << 30, CPU: 2 * time.Hour}

const nobody = 65534

// Unpack writes what an image describes into a new file at path, in a format: raw, with holes where it is zero, or qcow2. The image's header is looked at
// again. A file that is there is replaced; when it fails there is none. Nothing of it is on stable storage yet.
func Unpack(ctx context.Context, runner command.Runner, path, format string, base Base) (err error) {
	defer func() {
		if err != nil {
			_ = os.Remove(path) // so does who calls again
			err = fmt.Errorf("unpack image: %w", noSpace(err))
		}
	}()
	if format != FormatRaw && format != FormatQCOW2 || !filepath.IsAbs(path) {
		return fmt.Errorf("%s in format %q cannot be written", path, format)
	}
	if _, err := Check(base.Path, base.Format); err != nil {
		return err
	}
	source, err := os.Open(base.Path)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	if err := give(path); err != nil {
		return err
	}
	_, err = runner.Run(ctx, command.Cmd{
		Name: "qemu-img",
		Args: []string{"convert", "-q", "--image-opts", "-O", format, "driver=" + base.Format + ",file.driver=file,file.filename=" + stdin, path},
		// It gets the open image, and of other files only the one that it writes.
		Stdin: source, Nobody: true, Limits: convertLimits,
	})
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, 0, 0)
}

// give makes an empty file for a program that runs as nobody.
func give(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		err = file.Chown(nobody, nobody)
	}
	return errors.Join(err, file.Close())
}

// Check looks at the header of a file that is an image of the store, or was made of one: what it says of itself, or a *Refusal.
func Check(path, format string) (Info, error) { return inspectPath(path, format) }

// Target is where a disk's contents are to be written: a block device or a file that is large enough.
type Target struct {
	Path string // absolute
	// Key is the passphrase of the LUKS volume that is there; empty for none.
	Key string
}

// Pour writes a raw file's bytes over a target from its beginning, and brings them to stable storage. Raw bytes mean nothing to the program, whatever they are.
func Pour(ctx context.Context, runner command.Runner, raw string, to Target) error {
	stat, err := os.Stat(to.Path)
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	below := "file"
	if stat.Mode()&os.ModeDevice != 0 {
		below = "host_device"
	}
	c := command.Cmd{Name: "qemu-img", Args: []string{"convert", "-q", "-n", "-f", FormatRaw}, Limits: convertLimits}
	target := "driver=raw"
	if to.Key != "" {
		c.Args = append(c.Args, "--object", "secret,id=key,file="+stdin)
		c.Stdin, c.Secret = strings.NewReader(to.Key), true
		target = "driver=luks,key-secret=key"
	}
	target += ",file.driver=" + below + ",file.filename=" + strings.ReplaceAll(to.Path, ",", ",,")
	c.Args = append(c.Args, "--target-image-opts", raw, target)
	if _, err := runner.Run(ctx, c); err != nil {
		return fmt.Errorf("write image: %w", noSpace(err))
	}
	file, err := os.OpenFile(to.Path, os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(file.Sync(), file.Close())
	}
	if err != nil {
		return fmt.Errorf("write image: %w", noSpace(err))
	}
	return nil
}

// Grow makes a qcow2 file, whose header is looked at first, one of a disk of size bytes. A disk that is as large stays.
func Grow(ctx context.Context, runner command.Runner, path string, size int64) error {
	info, err := Check(path, FormatQCOW2)
	if err == nil && info.VirtualSize < size {
		_, err = runner.Run(ctx, command.Cmd{Name: "qemu-img", Args: []string{"resize", "-q", "-f", FormatQCOW2, path, fmt.Sprint(size)}, Limits: checkLimits})
	}
	if err == nil {
		err = keep(path)
	}
	if err != nil {
		return fmt.Errorf("grow disk: %w", noSpace(err))
	}
	return nil
}

// CreateQCOW2 writes an empty qcow2 file of a disk of size bytes at path, where none is.
func CreateQCOW2(ctx context.Context, runner command.Runner, path string, size int64) error {
	_, err := runner.Run(ctx, command.Cmd{Name: "qemu-img", Args: []string{"create", "-q", "-f", FormatQCOW2, path, fmt.Sprint(size)}})
	if err != nil {
		return fmt.Errorf("make disk: %w", noSpace(err))
	}
	return nil
}

// NoSpace gives a full file system, or an exhausted quota, its kind: ErrNoSpace.
func NoSpace(err error) error { return noSpace(err) }

// CopySparse copies a file's bytes and its holes. dst is empty.
func CopySparse(ctx context.Context, dst, src *os.File) error {
	stat, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(stat.Size()); err != nil {
		return err
	}
	for at := int64(0); at < stat.Size(); {
		from, to, err := nextData(src, at, stat.Size())
		if err != nil {
			return err
		}
		if err := copyRange(ctx, dst, src, from, to); err != nil {
			return err
		}
		at = to
	}
	return nil
}

func copyRange(ctx context.Context, dst, src *os.File, from, to int64) error {
	section := readUntil{ctx, io.NewSectionReader(src, from, to-from)}
	_, err := io.CopyBuffer(io.NewOffsetWriter(dst, from), section, make([]byte, 1<<20))
	return err
}
