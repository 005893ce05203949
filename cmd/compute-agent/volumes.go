package main

import (
	"context"
	"path/filepath"

	"compute-agent/blockdev/attach"
	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/remote"
	"compute-agent/compute"
	"compute-agent/internal/command"
)

// The state directory holds these, too.
const (
	volumesDir    = "volumes"
	volumeKeysDir = "volume-keys"
	// volumeStateDir is what is connected to the host, and goes with what is there.
	volumeStateDir = "connected-volumes"
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

// openVolumeHost makes what connects volumes to this host: for now those in files.
func (a *agent) openVolumeHost(ctx context.Context, c *Config) (*attach.Host, error) {
	host, err := a.driver.Host(ctx)
	if err != nil {
		return nil, err
	}
	files := remote.Files{Dirs: []string{filepath.Join(c.StateDir, volumesDir)}}
	return attach.New(attach.Options{
		Connectors: map[connector.Type]connector.Connector{connector.File: files},
		State:      filepath.Join(c.StateDir, volumeStateDir),
		Facts:      attach.Facts{Root: "/", Host: host.Hostname},
		Log:        a.log,
	})
}
