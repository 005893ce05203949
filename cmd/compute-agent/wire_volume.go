package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"

	"compute-agent/blockdev/attach"
	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/fibrechannel"
	"compute-agent/blockdev/iscsi"
	"compute-agent/blockdev/luks"
	"compute-agent/blockdev/lun"
	"compute-agent/blockdev/multipath"
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
	lvmBackend   = "lvm"
	fixedBackend = "fixed"
)

// The state directory holds these, too.
const (
	volumeKeysDir    = "volume-keys"    // keys of encrypted volumes
	volumeScratchDir = "volume-scratch" // images on their way to volumes that are no files
)

// openVolumes makes the volume service, which starts before the manager: a server that is restored needs its volumes. grown is told of volumes that have
// grown while a server has them.
func (a *agent) openVolumes(c *Config, host compute.VolumeHost, blobs compute.Blobs, grown func(ctx context.Context, serverID, volumeID string) error) (*compute.VolumeService, error) {
	backends, err := c.volumeBackends(host)
	if err != nil {
		return nil, exitError{exitUsage, err}
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

// volumeBackends are the places where volumes can be: files always, and what else the operator names.
func (c *Config) volumeBackends(host compute.VolumeHost) (map[string]compute.VolumeBackend, error) {
	v := &c.Volume
	local, err := compute.NewLocalVolumes(compute.LocalOptions{Dir: c.volumeDir(), Format: v.Format, Sparse: !v.Preallocate, Runner: command.Exec{}})
	if err != nil {
		return nil, err
	}
	all := map[string]compute.VolumeBackend{localBackend: local}
	scratch := filepath.Join(c.StateDir, volumeScratchDir)
	if v.Group != "" {
		all[lvmBackend], err = compute.NewLVMVolumes(compute.LVMOptions{Group: v.Group, Wipe: compute.Wipe(v.GroupWipe), Scratch: scratch, Runner: command.Exec{}})
		if err != nil {
			return nil, err
		}
	}
	luns, err := c.readLUNs()
	if err != nil || luns == nil {
		return all, err
	}
	all[fixedBackend], err = compute.NewFixedVolumes(compute.FixedOptions{
		LUNs: luns, Wipe: compute.Wipe(v.LUNsWipe), Host: host, Scratch: scratch, Runner: command.Exec{},
	})
	return all, err
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
	maps := multipath.Daemon{SCSI: scsi.Host(), Commands: run}
	all[connector.FibreChannel] = fibrechannel.New(fibrechannel.Options{
		LUN: lun.Host{SCSI: scsi.Host(), Maps: maps, Multipath: v.Multipath, Enforce: v.Enforce, Log: a.log}, NoWildcard: !v.Wildcard, Log: a.log,
	})
	if v.Initiator == "qemu" {
		all[connector.ISCSI] = remote.ISCSI{Run: run, Initiator: cmp.Or(v.InitiatorName, facts.InitiatorName())}
		return all
	}
	host := iscsi.New(iscsi.Options{
		Interface: v.Interface, Multipath: v.Multipath, Login: v.DeviceTimeout, Device: v.DeviceTimeout, Scans: v.Scans, Runner: run, Log: a.log,
	})
	all[connector.ISCSI], all[connector.ISER] = host, host
	return all
}

// volumeState is where is written down what is connected to the host. It must not outlive what it tells of, so it is below /run; agents with different state
// directories do not know each other's.
func (c *Config) volumeState() string {
	sum := sha256.Sum256([]byte(filepath.Clean(c.StateDir)))
	return filepath.Join(c.RunDir, "volumes-"+hex.EncodeToString(sum[:6]))
}
