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
)

// Write makes the drive at path: an ISO 9660 image with Joliet and Rock Ridge names, readable by
// its owner only, since it may hold a password. What was at path is replaced at once; after an
// error it is as it was. Until Write ends the documents are in a directory beside path, named
// path.new, which the next Write removes if this one never ends.
func Write(ctx context.Context, runner command.Runner, path string, d Drive) error {
	if d.Seed == nil {
		d.Seed = make([]byte, seedSize)
		_, _ = rand.Read(d.Seed) // never fails
	}
	work := path + ".new"
	err := os.RemoveAll(work)
	if err == nil {
		err = build(ctx, runner, work, path, Documents(d))
	}
	if err = errors.Join(err, os.RemoveAll(work)); err != nil {
		return fmt.Errorf("write config drive: %w", err)
	}
	return nil
}

// Command is the program that Write has make the drive at path, for people to look at.
func Command(path string) command.Cmd { return isoCommand(path + ".new") }

func isoCommand(work string) command.Cmd {
	tree, image := inside(work)
	return command.Cmd{Name: "genisoimage", Args: []string{
		"-quiet", "-o", image, "-V", Label, "-publisher", publisher,
		"-J", "-r", "-l", "-ldots", "-allow-lowercase", "-allow-multidot", tree}}
}

// inside is where the documents and the image are in a working directory.
func inside(work string) (tree, image string) {
	return filepath.Join(work, "tree"), filepath.Join(work, "image")
}

func build(ctx context.Context, runner command.Runner, work, path string, files map[string][]byte) error {
	tree, image := inside(work)
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(tree, name), data); err != nil {
			return err
		}
	}
	if _, err := runner.Run(ctx, isoCommand(work)); err != nil {
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
