package compute

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"compute-agent/configdrive"
	"compute-agent/image"
)

// preparedDir is where in a server's directory the disks are that it is rebuilt with.
const preparedDir = "rebuild"

// Prepare implements Disks.
func (d *FileDisks) Prepare(ctx context.Context, s Server, on Attached, secret Secrets) error {
	dir, err := d.home(s.ID)
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, preparedDir)
	err = os.RemoveAll(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o711)
	}
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("make a directory for the server's new disks: %w", err)
	}
	return d.fill(ctx, s, filesAt(dir, d.imageDir, s), on, secret)
}

// Replace implements Disks. The root disk is the first of the files: from then on the server is the new one.
func (d *FileDisks) Replace(_ context.Context, s Server) error {
	dir, err := d.home(s.ID)
	if err != nil {
		return err
	}
	next, now := filesAt(filepath.Join(dir, preparedDir), d.imageDir, s), d.Files(s)
	for _, move := range [][2]string{
		{next.Root, now.Root}, {next.Ephemeral, now.Ephemeral}, {next.Swap, now.Swap}, {next.ConfigDrive, now.ConfigDrive},
	} {
		if err := os.Rename(move[0], move[1]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replace the server's disks: %w", err)
		}
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("replace the server's disks: %w", err)
	}
	return d.Discard(context.Background(), s.ID)
}

// Replaced implements Disks. A server that boots from a volume gives nothing up but what is made anew of what it is told.
func (d *FileDisks) Replaced(_ context.Context, s Server) (bool, error) {
	dir, err := d.home(s.ID)
	if err != nil {
		return false, err
	}
	path := filepath.Join(dir, preparedDir)
	if !s.BootsFromVolume() {
		path = filesAt(path, d.imageDir, s).Root
	}
	_, err = os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// Discard implements Disks.
func (d *FileDisks) Discard(_ context.Context, serverID string) error {
	dir, err := d.home(serverID)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, preparedDir)); err != nil {
		return fmt.Errorf("remove a server's new disks: %w", err)
	}
	return nil
}

// MakeRescue implements Disks. The rescue disk is as large as its image.
func (d *FileDisks) MakeRescue(ctx context.Context, s Server, on Attached, secret Secrets) error {
	if err := d.RemoveRescue(ctx, s.ID); err != nil {
		return err
	}
	files, by := d.Files(s), *s.Rescue
	if err := image.MakeOverlay(ctx, d.runner, files.Rescue, image.Base{Path: files.RescueBase, Format: by.Image.Format}, 0); err != nil {
		s.ImageID = by.ImageID
		return explainDisk(s, err)
	}
	if !by.ConfigDrive {
		return nil
	}
	return configdrive.Write(ctx, d.runner, files.RescueConfig, s.driveFormat(), driveOf(s, on, secret))
}

// RemoveRescue implements Disks.
func (d *FileDisks) RemoveRescue(_ context.Context, serverID string) error {
	if _, err := d.home(serverID); err != nil {
		return err
	}
	files := d.Files(Server{ID: serverID, Rescue: &Rescue{}})
	for _, path := range []string{files.Rescue, files.RescueConfig} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a server's rescue disks: %w", err)
		}
	}
	return nil
}
