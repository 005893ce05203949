package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"

	"compute-agent/blockdev/attach"
	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/luks"
	"compute-agent/blockdev/nvmeof"
	"compute-agent/blockdev/remote"
	"compute-agent/blockdev/scsi"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/internal/command"
)

// The names of the backends, by which volume types choose them (volume_backend_name).
const (
	localBackend = "local"
)

// volumeKeysDir holds the keys of encrypted volumes, in the state directory.
const volumeKeysDir = "volume-keys"

// openVolumes makes the volume service, which starts before the manager: a server that is restored needs its volumes. grown is told of volumes that have
// grown while a server has them.
func (a *agent) openVolumes(c *Config, blobs compute.Blobs, grown func(ctx context.Context, serverID, volumeID string) error) (*compute.VolumeService, error) {
	backends, err := c.volumeBackends()
	if err != nil {
		return nil, err
	}
	keys, err := compute.NewVolumeKeys(filepath.Join(c.StateDir, volumeKeysDir))
	if err != nil {
		return nil, err
	}
	service := compute.NewVolumeService(compute.VolumeOptions{
		Store: a.store, Backends: backends, ImageDir: filepath.Join(c.StateDir, imagesDir), Blobs: blobs, Keys: keys,
		Quotas: &cinder.Quotas{Volumes: c.Volume.Volumes, Snapshots: c.Volume.Snapshots, Gigabytes: c.Volume.Gigabytes},
		InUse:  grown, Logger: a.log,
	})
	a.onClose(func() error { service.Close(); return nil })
	return service, nil
}

// volumeBackends are the places where volumes can be.
func (c *Config) volumeBackends() (map[string]compute.VolumeBackend, error) {
	local, err := compute.NewLocalVolumes(compute.LocalOptions{
		Dir: c.volumeDir(), Format: c.Volume.Format, Sparse: !c.Volume.Preallocate, Runner: command.Exec{},
	})
	if err != nil {
		return nil, err
	}
	return map[string]compute.VolumeBackend{localBackend: local}, nil
}

// openVolumeHost makes what connects volumes to this host. Nothing of the host is touched yet.
func (a *agent) openVolumeHost(ctx context.Context, c *Config) (*attach.Host, error) {
	host, err := a.driver.Host(ctx)
	if err != nil {
		return nil, err
	}
	run := attach.Measured{Runner: command.Exec{}}
	facts := attach.Facts{
		Root: "/", Host: host.Hostname, IP: c.Volume.IP, Initiator: c.Volume.InitiatorName, Multipath: c.Volume.Multipath, Enforce: c.Volume.Enforce,
	}
	return attach.New(attach.Options{
		Connectors: a.connectors(c, run, facts), Cipher: &luks.Host{System: scsi.Host(), Run: run}, State: filepath.Join(c.volumeState(), "connected"), Facts: facts, Log: a.log,
	})
}

// connectors are those of this host: what it lacks they say when it is needed.
func (a *agent) connectors(c *Config, run command.Runner, facts attach.Facts) map[connector.Type]connector.Connector {
	v := &c.Volume
	all := map[connector.Type]connector.Connector{
		connector.Local: remote.Local{System: scsi.Host()},
		connector.File:  remote.Files{Dirs: append([]string{c.volumeDir()}, v.FileDirs...)},
		connector.NBD:   remote.NBD{Run: run},
		connector.RBD:   remote.RBD{User: v.RBDUser, Secret: v.RBDSecret},
		connector.NFS: &remote.NFS{
			Run: run, Base: c.nfsBase(), Options: v.NFSOptions, Users: filepath.Join(c.volumeState(), "nfs"), Proc: "/proc",
		},
		connector.NVMeoF: nvmeof.Host(filepath.Join(c.volumeState(), "nvme")),
	}
	if v.Initiator == "qemu" {
		all[connector.ISCSI] = remote.ISCSI{Run: run, Initiator: cmp.Or(v.InitiatorName, facts.InitiatorName())}
		delete(all, connector.ISER) // QEMU as Debian builds it has no RDMA
	}
	return all
}

// volumeState is where is written down what is connected to the host. It must not outlive what it tells of, so it is below /run; agents with different state
// directories do not know each other's.
func (c *Config) volumeState() string {
	sum := sha256.Sum256([]byte(filepath.Clean(c.StateDir)))
	return filepath.Join(c.RunDir, "volumes-"+hex.EncodeToString(sum[:6]))
}
