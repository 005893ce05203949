package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"
	"slices"

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

// connectedDir tells of connections, in the directory of volumeState.
const connectedDir = "connected"

// openVolumes makes the volume service. grown is told of volumes that have
// grown while a server has them.
func (a *agent) openVolumes(c *Config, host compute.VolumeHost, blobs compute.Blobs, grown func(ctx context.Context, serverID, volumeID string) error) (*compute.VolumeService, error) {
	identity := func(ctx context.Context, volumeID string) (id connector.Identity, err error) {
		err = a.store.View(ctx, func(r compute.Reader) error {
			id, err = r.VolumeIdentity(volumeID)
			return err
		})
		return id, err
	}
	backends, err := c.volumeBackends(host, identity)
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
func (c *Config) volumeBackends(host compute.VolumeHost, identity func(context.Context, string) (connector.Identity, error)) (map[string]compute.VolumeBackend, error) {
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
		LUNs: luns, Wipe: compute.Wipe(v.LUNsWipe), Host: host, Identity: identity, Scratch: scratch, Runner: command.Exec{},
	})
	return all, err
}

// openVolumeHost makes what connects volumes to this host, and gives the host its NVMe name where it has none. Nothing else of the host is touched yet.
func (a *agent) openVolumeHost(ctx context.Context, c *Config) (*attach.Host, error) {
	host, err := a.driver.Host(ctx)
	if err != nil {
		return nil, err
	}
	// A volume service lets in whom it knows by name, so the host has one before it is asked for it.
	if _, err := nvmeof.ThisHost("/etc", "/sys"); err != nil {
		a.log.Warn("the host has no name for NVMe subsystems", "error", err)
	}
	run := attach.Measured{Runner: command.Exec{}}
	facts := attach.Facts{
		Root: "/", Host: host.Hostname, IP: c.Volume.IP, Initiator: c.Volume.InitiatorName, Multipath: c.Volume.Multipath, Enforce: c.Volume.Enforce,
	}
	volumes, err := attach.New(attach.Options{
		Connectors: a.connectors(c, run, facts), Cipher: &luks.Host{System: scsi.Host(), Run: run}, State: filepath.Join(c.volumeState(), connectedDir), Facts: facts, Log: a.log,
	})
	if err == nil {
		a.onClose(func() error { volumes.Close(); return nil })
	}
	return volumes, err
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
		Interface: v.Interface, Multipath: v.Multipath, Enforce: v.Enforce, Login: v.DeviceTimeout, Device: v.DeviceTimeout, Scans: v.Scans, Runner: run, Log: a.log,
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

// leftVolumes are the connections of this host that the agent made and that no server and no work on a volume needs: what a crash left. They are looked at before the
// store is: what is connected meanwhile has its record there already.
func leftVolumes(ctx context.Context, host *attach.Host, view func(context.Context, func(compute.Reader) error) error) ([]attach.Leftover, error) {
	found, err := host.Stale(ctx, nil)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	needed := map[string]bool{}
	err = view(ctx, func(r compute.Reader) error {
		devices, err := r.AllBlockDevices()
		if err != nil {
			return err
		}
		volumes, err := r.Volumes()
		for _, d := range devices {
			needed[d.VolumeID] = true
		}
		for _, v := range volumes {
			needed[v.ID] = needed[v.ID] || v.UnderWay()
		}
		return err
	})
	return slices.DeleteFunc(found, func(l attach.Leftover) bool { return needed[l.VolumeID] }), err
}

// cleanVolumes takes such connections away, beside all else: a target that does not answer takes its time.
func (a *agent) cleanVolumes(host *attach.Host) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.onClose(func() error {
		cancel()
		<-done
		return nil
	})
	go func() {
		defer close(done)
		left, err := leftVolumes(ctx, host, a.store.View)
		for _, l := range left {
			a.log.Warn("a connection that nobody needs is taken away", "volume_id", l.VolumeID, "connection", l.String(), "since", l.Since)
		}
		if err = errors.Join(err, host.Clean(ctx, left)); err != nil {
			a.log.Error("volumes that nobody needs are left connected, which is tried again; compute-agent doctor shows them", "error", err)
		}
	}()
}
