package configdrive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"compute-agent/internal/command"
)

const (
	// Label is the volume label by which a guest finds its config drive.
	Label     = "config-2"
	publisher = "compute-agent"
	seedSize  = 512
	// vfatSize is Nova's size of a drive in VFAT. Most of it is a hole.
	vfatSize = 64 << 20
)

// Format is how the documents are kept on the drive (config_drive_format).
type Format string

// The formats.
const (
	ISO9660 Format = "iso9660" // a CD-ROM, with Joliet and Rock Ridge names
	VFAT    Format = "vfat"    // a disk
)

// Write makes the drive at path, readable by its owner only, since it may hold a password. What was at path is
// replaced at once; after an error it is as it was. Until Write ends the documents are in a directory beside path,
// named path.new, which the next Write removes if this one never ends.
func Write(ctx context.Context, runner command.Runner, path string, format Format, d Drive) error {
	if d.Seed == nil {
		d.Seed = make([]byte, seedSize)
		_, _ = rand.Read(d.Seed) // never fails
	}
	work := path + ".new"
	err := os.RemoveAll(work)
	if err == nil {
		err = build(ctx, runner, work, path, format, Documents(d))
	}
	if err = errors.Join(err, os.RemoveAll(work)); err != nil {
		return fmt.Errorf("write config drive: %w", err)
	}
	return nil
}

// Commands are the programs that Write has make the drive at path, one after the other, for people to look at; none for
// a format that is not known.
func Commands(path string, format Format) []command.Cmd { return commands(path+".new", format) }

func commands(work string, format Format) []command.Cmd {
	tree, image := inside(work)
	switch format {
	case ISO9660:
		return []command.Cmd{{Name: "genisoimage", Args: []string{
			"-quiet", "-o", image, "-V", Label, "-publisher", publisher,
			"-J", "-r", "-l", "-ldots", "-allow-lowercase", "-allow-multidot", tree}}}
	case VFAT: // filled without being mounted
		return []command.Cmd{
			{Name: "mkfs.vfat", Args: []string{"-n", Label, image}},
			{Name: "mcopy", Args: []string{"-s", "-i", image, filepath.Join(tree, openStackDir), filepath.Join(tree, ec2Dir), "::/"}},
		}
	}
	return nil
}

// inside is where the documents and the image are in a working directory.
func inside(work string) (tree, image string) {
	return filepath.Join(work, "tree"), filepath.Join(work, "image")
}

func build(ctx context.Context, runner command.Runner, work, path string, format Format, files map[string][]byte) error {
	tree, image := inside(work)
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(tree, name), data); err != nil {
			return err
		}
	}
	if err := pack(ctx, runner, work, format); err != nil {
		return err
	}
	if err := keep(image); err != nil {
		return err
	}
	if err := os.Rename(image, path); err != nil {
		return err
	}
	return sync(filepath.Dir(path))
}

// pack makes the image of the documents.
func pack(ctx context.Context, runner command.Runner, work string, format Format) error {
	programs := commands(work, format)
	if programs == nil {
		return fmt.Errorf("config_drive_format %q is not known", format)
	}
	if format == VFAT {
		if err := createHole(work); err != nil {
			return err
		}
	}
	for _, c := range programs {
		if _, err := runner.Run(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// createHole makes the file that a VFAT file system is made in.
func createHole(work string) error {
	_, image := inside(work)
	file, err := os.OpenFile(image, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(vfatSize), file.Close())
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// keep makes the image private and brings it to stable storage.
func keep(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Chmod(0o600), file.Sync(), file.Close())
}

// sync makes a rename in the directory survive a power failure.
func sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
