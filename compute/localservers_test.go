package compute_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"compute-agent/blockdev/attach"
	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/luks"
	"compute-agent/blockdev/remote"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/internal/command"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// withLocalVolumes is a world whose agents keep volumes in files, and connect them as they do on a host.
func withLocalVolumes(t *testing.T) (w *world, service *compute.VolumeService) {
	t.Helper()
	w, dir := newWorld(t), passable(t)
	images, err := filepath.Glob(filepath.Join(w.blobs, "*"))
	w.must(err)
	for _, path := range images {
		w.must(os.Chmod(path, 0o644)) // qemu-img is nobody
	}
	w.options = func(o *compute.Options) {
		local, err := compute.NewLocalVolumes(compute.LocalOptions{Dir: filepath.Join(dir, "volumes"), Sparse: true, Runner: command.Exec{}})
		w.must(err)
		keys, err := compute.NewVolumeKeys(filepath.Join(dir, "keys"))
		w.must(err)
		service = compute.NewVolumeService(compute.VolumeOptions{
			Store: o.Store, Backends: map[string]compute.VolumeBackend{"local": local}, ImageDir: w.blobs, Keys: keys,
			InUse: func(ctx context.Context, serverID, volumeID string) error {
				return w.ExtendAttached(ctx, serverID, volumeID)
			},
		})
		t.Cleanup(service.Close)
		host, err := attach.New(attach.Options{
			Connectors: map[connector.Type]connector.Connector{connector.File: remote.Files{Dirs: []string{filepath.Join(dir, "volumes")}}},
			State:      filepath.Join(dir, "state"), Facts: attach.Facts{Root: "/", Host: "host"},
		})
		w.must(err)
		o.Volumes, o.VolumeService, o.VolumeHost = service, service, host
	}
	w.boot(nil)
	w.must(service.Start(t.Context()))
	return w, service
}

// untilVolume waits until a volume is in a state; it looks after each write to the store.
func (w *world) untilVolume(id string, want cinder.Status) cinder.Volume {
	w.t.Helper()
	for {
		written := w.wrote.next()
		v := w.volumes()[id]
		if v.Status == want {
			return v
		}
		if v.Status == cinder.Error || v.Status == cinder.ErrorExtending {
			w.t.Fatalf("volume %+v", v)
		}
		select {
		case <-written:
		case <-w.t.Context().Done():
			w.t.Fatalf("the volume stays %+v", v)
		}
	}
}

// TestServersWithLocalVolumes leads volumes of the agent's own service through a server's life: one that is made of an image to boot from, an
// encrypted one, and one that it is copied to.
func TestServersWithLocalVolumes(t *testing.T) {
	w, service := withLocalVolumes(t)
	ctx := t.Context()
	kind, err := service.CreateVolumeType(ctx, cinder.Type{Name: "secret", Public: true, Encryption: &cinder.Encryption{Provider: "luks"}})
	w.must(err)
	secret, err := service.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: "project", UserID: userID, SizeGiB: 1, Type: kind.ID})
	w.must(err)
	plain, err := service.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: "project", UserID: userID, SizeGiB: 3})
	w.must(err)
	w.untilVolume(secret.ID, cinder.Available)
	w.untilVolume(plain.ID, cinder.Available)

	r := request()
	r.ImageID, r.BlockDevices = "", []compute.BlockDeviceRequest{
		{Source: compute.VolumeSource{ImageID: imageID}, SizeGiB: 1, BootIndex: new(int), DeleteOnTermination: true}, {VolumeID: secret.ID},
	}
	s, err := w.CreateServer(ctx, r)
	w.must(err)
	if s = w.await(s.ID); s.VM != compute.Active {
		t.Fatalf("the server is %s: %+v", s.VM, s.Fault)
	}
	w.audit()
	disks := w.definition(s.ID).Disks
	root, second := disks[0], disks[len(disks)-2] // the config drive is the last
	if w.volumes()[root.Serial].ImageID != imageID || root.Key != nil {
		t.Errorf("the root disk is %+v", root)
	}
	if second.Serial != secret.ID || second.Key == nil || len(w.hv.SecretValue(second.Key.Secret)) == 0 {
		t.Errorf("the second disk is %+v", second)
	}

	w.must(service.ExtendVolume(ctx, secret.ID, 2))
	if v := w.untilVolume(secret.ID, cinder.InUse); v.SizeGiB != 2 {
		t.Errorf("volume %+v", v)
	}
	w.await(s.ID)
	if seen, want := w.seenBytes(s.ID, secret.ID), int64(2<<30-luks.Payload); seen != want {
		t.Errorf("the guest sees %d bytes of the encrypted volume, want %d: its header is none of the guest's", seen, want)
	}
	w.must(w.SwapVolume(ctx, s.ID, secret.ID, plain.ID))
	w.await(s.ID)
	w.audit()
	w.untilVolume(secret.ID, cinder.Available)
	w.untilVolume(plain.ID, cinder.InUse)
	if left := w.secrets(); len(left) > 0 {
		t.Errorf("secrets are left: %v", left)
	}
	if err := service.DeleteVolume(ctx, plain.ID, false); err == nil {
		t.Error("a volume of a server was deleted")
	}

	w.must(w.DetachVolume(ctx, s.ID, plain.ID))
	w.await(s.ID)
	w.untilVolume(plain.ID, cinder.Available)
	w.must(w.DeleteServer(ctx, s.ID))
	w.waitAll()
	w.must(service.Idle(ctx)) // the volume goes after its server
	if _, err := service.Volume(ctx, root.Serial); !refusedAs(err, cinder.NotFound) || len(w.volumes()) != 2 {
		t.Errorf("the volume that was to go with the server: %v", err)
	}
}

// seenBytes is how large a guest sees a volume.
func (w *world) seenBytes(serverID, volumeID string) int64 {
	w.t.Helper()
	driver := w.hv.Open(fake.Options{})
	defer func() { _ = driver.Close() }()
	disks, err := driver.Disks(context.Background(), serverID)
	w.must(err)
	i := slices.IndexFunc(disks, func(d virt.PluggedDisk) bool { return d.Serial == volumeID && d.Live })
	if i < 0 {
		w.t.Fatalf("the guest has not got volume %s: %+v", volumeID, disks)
	}
	return int64(disks[i].Bytes)
}

func refusedAs(err error, kind cinder.Kind) bool {
	refusal, is := errors.AsType[*cinder.Refusal](err)
	return is && refusal.Kind == kind
}
