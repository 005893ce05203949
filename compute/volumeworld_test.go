package compute_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/image"
	"compute-agent/store"
)

// array is a storage system that outlives the agents.
type array struct {
	mu        sync.Mutex
	volumes   map[string]stored
	snapshots map[string]stored
	live      bool // it copies what is written to
}

// stored is what a volume holds, in words, and its size.
type stored struct {
	what string
	gib  int
}

func (a *array) Create(_ context.Context, v cinder.Volume, from compute.VolumeOrigin) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, there := a.volumes[v.ID]; there {
		return nil
	}
	what := "nothing"
	switch {
	case from.Snapshot != nil:
		what = a.snapshots[from.Snapshot.ID].what
	case from.Volume != nil:
		what = a.volumes[from.Volume.ID].what
	case from.Image != nil:
		what = filepath.Base(from.Image.Path) + " " + from.Image.Format
	}
	if what == "" {
		return errors.New("what it is to be made of is not there")
	}
	if from.Cipher != nil && from.Volume == nil {
		what += " encrypted with " + string(from.Cipher.Key)
	}
	a.volumes[v.ID] = stored{what, v.SizeGiB}
	return nil
}

func (a *array) Delete(_ context.Context, v cinder.Volume) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.volumes, v.ID)
	return nil
}

func (a *array) Extend(_ context.Context, v cinder.Volume, gib int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.volumes[v.ID]
	s.gib = max(s.gib, gib)
	a.volumes[v.ID] = s
	return nil
}

func (a *array) Snapshot(_ context.Context, s cinder.Snapshot, of cinder.Volume) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, there := a.snapshots[s.ID]; !there {
		a.snapshots[s.ID] = a.volumes[of.ID]
	}
	return nil
}

func (a *array) DeleteSnapshot(_ context.Context, s cinder.Snapshot, _ cinder.Volume) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.snapshots, s.ID)
	return nil
}

func (a *array) Connection(_ context.Context, v cinder.Volume, host connector.Properties) (connector.Raw, error) {
	return json.Marshal(map[string]any{"driver_volume_type": "file", "data": map[string]any{"device_path": "/volumes/" + v.ID, "format": "raw"}})
}

func (a *array) Pool(context.Context) (cinder.Pool, error) {
	return cinder.Pool{Kind: "local", TotalGiB: 100, FreeGiB: 100, Multiattach: true, Copies: true, LiveCopies: a.live, LiveExtend: true, Encryption: []string{"luks"}}, nil
}

// mortalBackend is the array for as long as its agent lives. before, if it is not nil, is called before each effect.
type mortalBackend struct {
	*array
	fate   *fate
	before func(what, id string)
}

func (b *mortalBackend) around(what, id string, effect func() error) error {
	return b.fate.around(what, func() error {
		if b.before != nil {
			b.before(what, id)
		}
		return effect()
	})
}

func (b *mortalBackend) Create(ctx context.Context, v cinder.Volume, from compute.VolumeOrigin) error {
	return b.around("Create", v.ID, func() error { return b.array.Create(ctx, v, from) })
}

func (b *mortalBackend) Delete(ctx context.Context, v cinder.Volume) error {
	return b.around("Delete", v.ID, func() error { return b.array.Delete(ctx, v) })
}

func (b *mortalBackend) Extend(ctx context.Context, v cinder.Volume, gib int) error {
	return b.around("Extend", v.ID, func() error { return b.array.Extend(ctx, v, gib) })
}

func (b *mortalBackend) Snapshot(ctx context.Context, s cinder.Snapshot, of cinder.Volume) error {
	return b.around("Snapshot", s.ID, func() error { return b.array.Snapshot(ctx, s, of) })
}

func (b *mortalBackend) DeleteSnapshot(ctx context.Context, s cinder.Snapshot, of cinder.Volume) error {
	return b.around("DeleteSnapshot", s.ID, func() error { return b.array.DeleteSnapshot(ctx, s, of) })
}

// volumeWorld is a host with volumes that outlives its agents.
type volumeWorld struct {
	t       *testing.T
	state   string
	array   *array
	before  func(what, id string)
	options func(*compute.VolumeOptions)
	wrote   notice

	*compute.VolumeService // of the agent that runs
	store                  *store.Store
	library                *compute.Library
	fate                   *fate
	mu                     sync.Mutex
	told                   []string // servers that were told of volumes that have grown
}

func newVolumeWorld(t *testing.T) *volumeWorld {
	t.Helper()
	w := &volumeWorld{t: t, state: scratch(t), array: &array{volumes: map[string]stored{}, snapshots: map[string]stored{}}}
	t.Cleanup(w.end)
	return w
}

const project, otherProject = "project", "other"

// boot starts an agent, which the fate kills.
func (w *volumeWorld) boot(f *fate) {
	w.t.Helper()
	if f == nil {
		f = newFate()
	}
	st, err := store.Open(filepath.Join(w.state, "agent.db"))
	must(w.t, err)
	blobs, err := image.OpenStore(filepath.Join(w.state, "images"), image.Options{Runner: cachedPrograms})
	must(w.t, err)
	keys, err := compute.NewVolumeKeys(filepath.Join(w.state, "keys"))
	must(w.t, err)
	mortal := &mortalStore{st, f, &w.wrote}
	w.store, w.fate, w.library = st, f, compute.NewLibrary(mortal, blobs, nil, nil)
	opt := compute.VolumeOptions{Store: mortal, Backends: map[string]compute.VolumeBackend{"array": &mortalBackend{w.array, f, w.before}},
		Keys: keys, ImageDir: filepath.Join(w.state, "images"), Blobs: w.library}
	opt.InUse = func(ctx context.Context, server, volume string) error {
		return f.around("telling a server", func() error {
			w.mu.Lock()
			w.told = append(w.told, server)
			w.mu.Unlock()
			return w.Extended(ctx, volume, server, nil)
		})
	}
	if w.options != nil {
		w.options(&opt)
	}
	w.VolumeService = compute.NewVolumeService(opt)
	if err := w.Start(w.t.Context()); err != nil && !f.dead() {
		w.t.Fatal(err)
	}
}

// end ends the agent; what it has not done is not done.
func (w *volumeWorld) end() {
	if w.VolumeService == nil {
		return
	}
	w.fate.die()
	w.Close()
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
	w.VolumeService = nil
}

// rest waits until nothing is under way.
func (w *volumeWorld) rest() { _ = w.Idle(w.fate.life) }

// servers are in the store, so that volumes have somebody to go to.
func (w *volumeWorld) servers(ids ...string) {
	w.t.Helper()
	must(w.t, w.store.Update(w.t.Context(), func(tx compute.Writer) error {
		for _, id := range ids {
			if _, err := tx.InsertServer(compute.Server{ID: id, ProjectID: project}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// image puts an image into the store, and its bytes.
func (w *volumeWorld) image(id string) {
	w.t.Helper()
	sum := fmt.Sprintf("%064x", 7)
	must(w.t, os.WriteFile(filepath.Join(w.state, "images", sum), imageBytes, 0o644))
	must(w.t, w.store.Update(w.t.Context(), func(tx compute.Writer) error {
		return tx.PutImage(compute.Image{ID: id, Name: "tiny", Status: compute.ImageActive, DiskFormat: "qcow2", ContainerFormat: "bare", MinDiskGiB: 2, MD5: "md5",
			Size: 512, VirtualSize: 1 << 20, SHA256: sum, Properties: map[string]string{"hw_disk_bus": "scsi"}})
	}))
}

// made creates a volume and waits until it has come to rest.
func (w *volumeWorld) made(r cinder.VolumeRequest) cinder.Volume {
	w.t.Helper()
	if r.ProjectID == "" {
		r.ProjectID = project
	}
	v, err := w.CreateVolume(w.t.Context(), r)
	must(w.t, err)
	return w.rested(v.ID)
}

func (w *volumeWorld) rested(id string) cinder.Volume {
	w.t.Helper()
	w.rest()
	v, err := w.Volume(w.t.Context(), id)
	must(w.t, err)
	return v
}

// attached gives a volume to a server, wholly.
func (w *volumeWorld) attached(attachment, volume, server string) {
	w.t.Helper()
	ctx := w.t.Context()
	must(w.t, w.Attach(ctx, attachment, volume, server))
	_, err := w.Connect(ctx, attachment, connector.Properties{Host: "host"}, "/dev/vdb")
	must(w.t, err)
	must(w.t, w.Complete(ctx, attachment))
}

// audit compares store, array and keys: all is at rest, everything that is available is there, and nothing that has no record.
func (w *volumeWorld) audit(where string) {
	w.t.Helper()
	w.rest()
	volumes, err := w.Volumes(w.t.Context())
	must(w.t, err)
	snapshots, err := w.Snapshots(w.t.Context())
	must(w.t, err)
	w.array.mu.Lock()
	defer w.array.mu.Unlock()
	records, keys := map[string]bool{}, []string{}
	for _, v := range volumes {
		records[v.ID] = true
		if v.KeyID != "" {
			keys = append(keys, v.KeyID)
		}
		whole := v.Status == cinder.Available || v.Status == cinder.InUse
		if v.UnderWay() || whole && (w.array.volumes[v.ID].gib != v.SizeGiB || v.NewGiB != 0 || v.ImageSHA256 != "") {
			w.t.Errorf("%s: %+v is a volume of %+v", where, v, w.array.volumes[v.ID])
		}
	}
	for _, s := range snapshots {
		records[s.ID] = true
		if _, there := w.array.snapshots[s.ID]; s.UnderWay() || s.Status == cinder.Available && !there {
			w.t.Errorf("%s: %+v: on the array %v", where, s, there)
		}
	}
	for id := range w.array.volumes {
		if !records[id] {
			w.t.Errorf("%s: volume %s is left on the array", where, id)
		}
	}
	for id := range w.array.snapshots {
		if !records[id] {
			w.t.Errorf("%s: snapshot %s is left on the array", where, id)
		}
	}
	w.auditKeys(where, keys)
}

func (w *volumeWorld) auditKeys(where string, known []string) {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.state, "keys"))
	must(w.t, err)
	for _, e := range entries {
		if !slices.Contains(known, e.Name()) {
			w.t.Errorf("%s: key %s is left", where, e.Name())
		}
	}
}

// clear deletes everything, as an administrator can from any state of rest.
func (w *volumeWorld) clear(where string) {
	w.t.Helper()
	ctx := w.t.Context()
	attachments, err := w.VolumeAttachments(ctx)
	must(w.t, err)
	for _, a := range attachments {
		must(w.t, w.Remove(ctx, a.ID))
	}
	snapshots, err := w.Snapshots(ctx)
	must(w.t, err)
	for _, s := range snapshots {
		must(w.t, w.DeleteSnapshot(ctx, s.ID))
	}
	w.rest()
	volumes, err := w.Volumes(ctx)
	must(w.t, err)
	for _, v := range volumes {
		must(w.t, w.DeleteVolume(ctx, v.ID, true))
	}
	w.audit(where + ", cleared")
	if volumes, err := w.Volumes(ctx); err != nil || len(volumes) > 0 {
		w.t.Errorf("%s: %d volumes are left, %v", where, len(volumes), err)
	}
}
