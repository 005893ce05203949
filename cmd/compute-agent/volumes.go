package main

import (
	"context"
	"path/filepath"

	"compute-agent/compute"
	"compute-agent/internal/command"
)

// The state directory holds these, too.
const (
	volumesDir    = "volumes"
	volumeKeysDir = "volume-keys"
)

// localBackend is the name of the backend whose volumes are files of the state directory.
const localBackend = "local"

// openVolumes makes the volume service, which starts before the manager: a server that is restored needs its volumes. attached is told of volumes that have
// grown while a server has them.
func (a *agent) openVolumes(c *Config, blobs compute.Blobs, attached func(ctx context.Context, serverID, volumeID string) error) (*compute.VolumeService, error) {
	local, err := compute.NewLocalVolumes(compute.LocalOptions{Dir: filepath.Join(c.StateDir, volumesDir), Sparse: true, Runner: command.Exec{}})
	if err != nil {
		return nil, err
	}
	keys, err := compute.NewVolumeKeys(filepath.Join(c.StateDir, volumeKeysDir))
	if err != nil {
		return nil, err
	}
	service := compute.NewVolumeService(compute.VolumeOptions{
		Store: a.store, Backends: map[string]compute.VolumeBackend{localBackend: local}, ImageDir: filepath.Join(c.StateDir, imagesDir), Blobs: blobs,
		Keys: keys, InUse: attached, Logger: a.log,
	})
	a.onClose(func() error { service.Close(); return nil })
	return service, nil
}
