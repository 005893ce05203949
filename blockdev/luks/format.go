package luks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

// Payload is where cryptsetup has the data of a LUKS1 volume begin, in bytes: so much less than the volume's size does a guest see.
const Payload = 2 << 20

// iterations of PBKDF2 for a passphrase that is a random key; see formatArgs.
const iterations = 10_000

// Format makes a new, blank volume one that is encrypted with c; a plain volume is one already. The size of the volume stays what it is. The caller
// is who made the volume and knows that it is new. Format does not take its word for it: a volume that holds anything in its first BlankBytes is
// refused with connector.HasData, and one that somebody has open exclusively with InUse. path is absolute, a block device or a file.
//
// cryptsetup does it, with no need of device mapper. qemu-img could make LUKS1, too, but measures how fast the host hashes, and gives up where the
// kernel's count of CPU time is coarse.
func Format(ctx context.Context, run command.Runner, path string, c connector.Cipher) error {
	return format(ctx, run, path, c, false)
}

// Reformat is Format for a volume that the volume service itself has just made of space that others used before, or whose Format it began and did not
// end: what the volume holds is lost.
func Reformat(ctx context.Context, run command.Runner, path string, c connector.Cipher) error {
	return format(ctx, run, path, c, true)
}

func format(ctx context.Context, run command.Runner, path string, c connector.Cipher, overwrite bool) error {
	if err := Check(c); err != nil {
		return err
	}
	if !filepath.IsAbs(path) {
		return invalid("device_path", path, "the path of a volume must be absolute")
	}
	f, err := openExclusive(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // what is written is synchronised
	if !overwrite {
		if err := mustBeBlank(f, path); err != nil {
			return err
		}
	}
	if c.Format == FormatPlain {
		return nil
	}
	if err := mustHold(f, path, Payload+sector); err != nil {
		return err
	}
	if overwrite {
		if err := wipe(f, path); err != nil {
			return err
		}
	}
	// cryptsetup opens a block device exclusively itself.
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := run.Run(ctx, cryptsetup(c.Key, formatArgs(path, c)...)); err != nil {
		return refused(path, err)
	}
	return nil
}

// openExclusive opens a volume for writing. Of a block device O_EXCL says that nobody has it mounted, mapped or opened in the same way.
func openExclusive(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_EXCL|syscall.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, syscall.EBUSY):
		return nil, &connector.Error{Reason: connector.InUse, Field: "device", Value: path, Rule: "the device that is to be formatted is held", Err: err}
	case errors.Is(err, os.ErrNotExist):
		return nil, &connector.Error{Reason: connector.NoDevice, Field: "device", Value: path, Rule: "the device that is to be formatted is not there", Err: err}
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() && info.Mode().Type()&os.ModeDevice == 0 || err == nil && info.Mode()&os.ModeCharDevice != 0 {
		err = invalid("device_path", path, "a volume must be a block device or a file")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func mustBeBlank(f *os.File, path string) error {
	blank, err := zeros(f, BlankBytes)
	if err != nil || blank {
		return err
	}
	rule := "the volume is to be formatted and is not blank"
	if found, err := Header(f); err == nil && (found.Kind == LUKS1 || found.Kind == LUKS2) {
		rule = fmt.Sprintf("the volume is to be formatted and has a %s header, of UUID %s", found.Kind, found.UUID)
	}
	return &connector.Error{Reason: connector.HasData, Field: "device", Value: path, Rule: rule}
}

// wipe takes away what a program could ask about, or take for a second header.
func wipe(f *os.File, path string) error {
	if err := mustHold(f, path, BlankBytes+sector); err != nil {
		return err
	}
	zero := make([]byte, 1<<20)
	for at := int64(0); at < BlankBytes; at += int64(len(zero)) {
		if _, err := f.WriteAt(zero, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

func mustHold(f *os.File, path string, least int64) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size < least {
		return &connector.Error{Reason: connector.BadSize, Field: "device", Value: path, Rule: fmt.Sprintf("a volume of %d bytes has no room for the header of its encryption", size)}
	}
	return err
}
