package compute_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
)

// refusedBy checks that an error is a refusal of a class, with words.
func refusedBy(t *testing.T, err error, class, words string) {
	t.Helper()
	var why *cinder.Refusal
	if !errors.As(err, &why) || why.Class != class || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v, want %s with %q", err, class, words)
	}
}

func TestVolumeFromImage(t *testing.T) {
	w := newVolumeWorld(t)
	var during cinder.Volume
	w.before = func(what, id string) {
		if what != "Create" {
			return
		}
		during, _ = w.Volume(context.Background(), id)
		_, err := w.UpdateVolume(context.Background(), id, func(v *cinder.Volume) error {
			v.ImageMetadata["disk_format"] = "raw" // as which its bytes must not be read
			return nil
		})
		refusedBy(t, err, "InvalidVolume", "cannot be changed while it is downloading")
		// The image goes while the volume is made of it: its bytes stay.
		if err := w.library.DeleteImage(context.Background(), "image"); err != nil {
			t.Error(err)
		}
	}
	w.boot(nil)
	w.image("image")
	bytesFile := filepath.Join(w.state, "images", fmt.Sprintf("%064x", 7))
	v, err := w.CreateVolume(t.Context(), cinder.VolumeRequest{ProjectID: project, ImageID: "image"})
	must(t, err)
	if v.Status != cinder.Creating || v.SizeGiB != 2 || !v.Bootable {
		t.Errorf("the answer is %+v", v)
	}
	v = w.rested(v.ID)
	if during.Status != cinder.Downloading || v.Status != cinder.Available || v.ImageSHA256 != "" {
		t.Errorf("it was %s and became %+v", during.Status, v)
	}
	if got := w.array.volumes[v.ID].what; got != filepath.Base(bytesFile)+" qcow2" {
		t.Errorf("it is made of %q", got)
	}
	for key, want := range map[string]string{"hw_disk_bus": "scsi", "image_id": "image", "image_name": "tiny", "disk_format": "qcow2", "checksum": "md5", "min_disk": "2", "size": "512"} {
		if v.ImageMetadata[key] != want {
			t.Errorf("it says of its image %q, want %s %q", v.ImageMetadata, key, want)
		}
	}
	if _, err := os.Stat(bytesFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the bytes that nothing needs any more: %v", err)
	}
}

func TestVolumesAreTheirProjects(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	ctx := t.Context()
	v := w.made(cinder.VolumeRequest{ProjectID: otherProject, SizeGiB: 1})
	s, err := w.CreateSnapshot(ctx, cinder.SnapshotRequest{ProjectID: otherProject, VolumeID: v.ID})
	must(t, err)
	w.rest()
	w.servers("server")
	_, err = w.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: project, SourceID: v.ID})
	refusedBy(t, err, "VolumeNotFound", v.ID)
	_, err = w.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: project, SnapshotID: s.ID})
	refusedBy(t, err, "SnapshotNotFound", s.ID)
	refusedBy(t, w.Attach(ctx, uuid.NewString(), v.ID, "server"), "VolumeNotFound", v.ID)
	_, err = w.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: project, ImageID: "none"})
	refusedBy(t, err, "ImageNotFound", "none")
}

func TestAttachments(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	ctx := t.Context()
	w.servers("s1", "s2", "s3")
	one := w.made(cinder.VolumeRequest{SizeGiB: 1})
	kind, err := w.CreateVolumeType(ctx, cinder.Type{Name: "shared", Public: true, ExtraSpecs: map[string]string{"multiattach": "<is> True"}})
	must(t, err)
	many := w.made(cinder.VolumeRequest{SizeGiB: 1, Type: kind.ID})
	status := func(v cinder.Volume, want cinder.Status) {
		t.Helper()
		if got := w.rested(v.ID); got.Status != want {
			t.Errorf("the volume is %s, want %s", got.Status, want)
		}
	}
	for range 2 { // each may be repeated
		must(t, w.Attach(ctx, "a1", one.ID, "s1"))
		status(one, cinder.Reserved)
	}
	refusedBy(t, w.Attach(ctx, "a2", one.ID, "s2"), "InvalidVolume", "attached to server s1, and it is not multiattach")
	refusedBy(t, w.Attach(ctx, "a2", one.ID, "s1"), "InvalidVolume", "attached to server s1 already")
	if err := w.Attach(ctx, "a1", many.ID, "s1"); !errors.Is(err, compute.ErrExists) {
		t.Errorf("an attachment of two volumes: %v", err)
	}
	refusedBy(t, w.DeleteVolume(ctx, one.ID, true), "InvalidVolume", "attached to server s1")
	for range 2 {
		_, err = w.Connect(ctx, "a1", connector.Properties{Host: "host"}, "/dev/vdb")
		must(t, err)
		status(one, cinder.Attaching)
	}
	for range 2 {
		must(t, w.Complete(ctx, "a1"))
		status(one, cinder.InUse)
	}
	a, err := w.VolumeAttachment(ctx, "a1")
	must(t, err)
	if a.Device != "/dev/vdb" || a.Host != "host" || a.ServerID != "s1" || a.Mode != "rw" || a.Attached.IsZero() {
		t.Errorf("%+v", a)
	}
	_, err = w.Connect(ctx, "a1", connector.Properties{Host: "host"}, "/dev/vdb") // as when the server starts again
	must(t, err)
	status(one, cinder.InUse)
	w.attached("m1", many.ID, "s1")
	w.attached("m2", many.ID, "s2")
	must(t, w.Attach(ctx, "m3", many.ID, "s3"))
	status(many, cinder.Reserved)
	for range 2 {
		must(t, w.Remove(ctx, "m3"))
		status(many, cinder.InUse)
	}
	must(t, errors.Join(w.Remove(ctx, "m1"), w.Remove(ctx, "m2"), w.Remove(ctx, "a1")))
	status(many, cinder.Available)
	status(one, cinder.Available)
	_, err = w.Connect(ctx, "a1", connector.Properties{}, "")
	refusedBy(t, err, "VolumeAttachmentNotFound", "a1")
}

// The transactions of servers' operations: a volume that is detached goes back to what it was when the server keeps it.
func TestDetaching(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	w.servers("server")
	v := w.made(cinder.VolumeRequest{SizeGiB: 1})
	do := func(change func(tx compute.Writer) error) error {
		return w.store.Update(t.Context(), change)
	}
	must(t, w.Attach(t.Context(), "a", v.ID, "server"))
	refusedBy(t, do(func(tx compute.Writer) error { return w.BeginDetaching(tx, "a") }), "InvalidVolume", "must be attached to detach it, but it is reserved")
	must(t, do(func(tx compute.Writer) error { return w.RollDetaching(tx, "a") }))
	must(t, w.Complete(t.Context(), "a"))
	for range 2 {
		must(t, do(func(tx compute.Writer) error { return w.BeginDetaching(tx, "a") }))
	}
	if got := w.rested(v.ID); got.Status != cinder.Detaching {
		t.Errorf("it is %s", got.Status)
	}
	refusedBy(t, w.ExtendVolume(t.Context(), v.ID, 2), "InvalidVolume", "current status is detaching")
	for range 2 {
		must(t, do(func(tx compute.Writer) error { return w.RollDetaching(tx, "a") }))
	}
	if got := w.rested(v.ID); got.Status != cinder.InUse {
		t.Errorf("it is %s", got.Status)
	}
}

func TestConnectionSaysWhatCinderSays(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	ctx := t.Context()
	w.servers("server")
	q, err := w.CreateQoS(ctx, cinder.QoS{Name: "slow", Consumer: "front-end", Specs: map[string]string{"total_iops_sec_per_gb": "10"}})
	must(t, err)
	kind, err := w.CreateVolumeType(ctx, cinder.Type{Name: "slow", Public: true, QoSID: q.ID, Encryption: &cinder.Encryption{Provider: "luks"}})
	must(t, err)
	v := w.made(cinder.VolumeRequest{SizeGiB: 3, Type: "slow"})
	_, err = w.UpdateVolume(ctx, v.ID, func(v *cinder.Volume) error { v.ReadOnly = true; return nil })
	must(t, err)
	must(t, w.Attach(ctx, "a", v.ID, "server"))
	raw, err := w.Connect(ctx, "a", connector.Properties{}, "")
	must(t, err)
	info, err := connector.Parse(raw)
	must(t, err)
	if !info.ReadOnly || !info.Encrypted || info.Limits.TotalIOPS != 30 || info.Path != "/volumes/"+v.ID {
		t.Errorf("%+v", info)
	}
	key, err := w.Key(ctx, v.ID)
	must(t, err)
	if len(key) != 64 || !strings.HasSuffix(w.array.volumes[v.ID].what, string(key)) {
		t.Errorf("the key is %d characters, or another", len(key))
	}
	refusedBy(t, w.DeleteQoS(ctx, q.ID), "QoSSpecsInUse", "slow")
	refusedBy(t, w.DeleteVolumeType(ctx, kind.ID), "VolumeTypeInUse", v.ID)
	if text := fmt.Sprintf("%v %+v", key, v); strings.Contains(text, w.array.volumes[v.ID].what[30:]) {
		t.Error("the key is shown")
	}
}

// A copy of an encrypted volume is opened by a key of its own, of the same value, and outlives what it is a copy of.
func TestCopiesOfEncryptedVolumes(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	ctx := t.Context()
	_, err := w.CreateVolumeType(ctx, cinder.Type{Name: "secret", Public: true, Encryption: &cinder.Encryption{Provider: "luks", KeySize: 512}})
	must(t, err)
	v := w.made(cinder.VolumeRequest{SizeGiB: 1, Type: "secret"})
	clone := w.made(cinder.VolumeRequest{SourceID: v.ID})
	key, err := w.Key(ctx, v.ID)
	must(t, err)
	must(t, w.DeleteVolume(ctx, v.ID, false))
	w.rest()
	again, err := w.Key(ctx, clone.ID)
	if err != nil || again != key || len(key) != 128 || clone.KeyID == v.KeyID {
		t.Errorf("%v; the same: %v", err, again == key)
	}
	w.audit("after")
}

func TestMake(t *testing.T) {
	w := newVolumeWorld(t)
	release := make(chan struct{})
	ended, cancel := context.WithCancel(t.Context())
	w.before = func(what, _ string) {
		if what == "Create" {
			cancel()
			<-release
		}
	}
	w.boot(nil)
	w.image("image")
	id, server := uuid.NewString(), compute.Server{ID: "server", ProjectID: project, UserID: "user"}
	d := compute.BlockDevice{SizeGiB: 4, Source: compute.VolumeSource{ImageID: "image"}}
	if err := w.Make(ended, id, server, d); err == nil {
		t.Error("it is made before it is made")
	}
	result := make(chan error)
	go func() { result <- w.Make(t.Context(), id, server, d) }()
	close(release)
	must(t, <-result)
	v := w.rested(id)
	if v.Status != cinder.Available || v.SizeGiB != 4 || v.ProjectID != project || v.UserID != "user" || len(w.array.volumes) != 1 {
		t.Errorf("%+v", v)
	}
	must(t, w.Make(t.Context(), id, server, d))
	for range 2 {
		must(t, w.Delete(t.Context(), id))
		w.rest()
	}
	if err := w.Make(t.Context(), "../x", server, d); !errors.Is(err, compute.ErrInvalid) {
		t.Errorf("error %v", err)
	}
	w.array.volumes = map[string]stored{}
	d.Source.ImageID = "none"
	refusedBy(t, w.Make(t.Context(), uuid.NewString(), server, d), "ImageNotFound", "none")
}

// Who waits for a volume that comes to nothing is told why.
func TestMakeFails(t *testing.T) {
	w := newVolumeWorld(t)
	f := newFate()
	w.boot(f)
	f.mu.Lock()
	f.failAt, f.failWith = f.seen+3, errors.New("the array is full") // after the record is written
	f.mu.Unlock()
	err := w.Make(t.Context(), uuid.NewString(), compute.Server{ProjectID: project}, compute.BlockDevice{SizeGiB: 1})
	if !errors.Is(err, compute.ErrUnavailable) || !strings.Contains(err.Error(), "the array is full") {
		t.Errorf("error %v", err)
	}
}

func TestExtensionInUse(t *testing.T) {
	w := newVolumeWorld(t)
	var answer error
	w.options = func(o *compute.VolumeOptions) {
		o.InUse = func(ctx context.Context, server, volume string) error {
			if server == "deaf" {
				return errors.New("the server is deaf")
			}
			v, _ := w.Volume(ctx, volume)
			if v.Status != cinder.Extending || v.SizeGiB != 2 {
				t.Errorf("the server is told of %+v", v)
			}
			return w.Extended(ctx, volume, server, answer)
		}
	}
	w.boot(nil)
	w.servers("server", "deaf")
	for server, c := range map[string]struct {
		answer error
		want   cinder.Status
		words  string
	}{"server": {nil, cinder.InUse, ""}, "deaf": {nil, cinder.ErrorExtending, "the server is deaf"}} {
		v := w.made(cinder.VolumeRequest{SizeGiB: 1})
		w.attached("of "+server, v.ID, server)
		must(t, w.ExtendVolume(t.Context(), v.ID, 2))
		if got := w.rested(v.ID); got.Status != c.want || got.SizeGiB != 2 || got.NewGiB != 0 || !strings.Contains(got.Problem, c.words) {
			t.Errorf("%s: %+v", server, got)
		}
	}
	answer = errors.New("no such disk")
	v := w.made(cinder.VolumeRequest{SizeGiB: 1})
	w.attached("a", v.ID, "server")
	must(t, w.ExtendVolume(t.Context(), v.ID, 2))
	if got := w.rested(v.ID); got.Status != cinder.ErrorExtending || got.Problem != "no such disk" {
		t.Errorf("%+v", got)
	}
	must(t, w.Extended(t.Context(), v.ID, "server", nil)) // too late, and no harm
	must(t, w.store.Update(t.Context(), func(tx compute.Writer) error { return w.BeginDetaching(tx, "a") }))
	must(t, w.Remove(t.Context(), "a"))
	must(t, w.DeleteVolume(t.Context(), v.ID, false))
}

// The extension of a volume that several servers have lasts until each has answered, or has the volume no more; over a restart too.
func TestExtensionAwaitsAllServers(t *testing.T) {
	w := newVolumeWorld(t)
	var mu sync.Mutex
	told := map[string]int{}
	w.options = func(o *compute.VolumeOptions) {
		o.InUse = func(_ context.Context, server, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			told[server]++
			return nil
		}
	}
	w.boot(nil)
	ctx := t.Context()
	w.servers("s1", "s2", "s3")
	kind, err := w.CreateVolumeType(ctx, cinder.Type{Name: "shared", Public: true, ExtraSpecs: map[string]string{"multiattach": "<is> True"}})
	must(t, err)
	awaited := func(gib int) cinder.Volume {
		v := w.made(cinder.VolumeRequest{SizeGiB: 1, Type: kind.ID})
		for _, s := range []string{"s1", "s2", "s3"} {
			w.attached(v.ID+s, v.ID, s)
		}
		must(t, w.ExtendVolume(ctx, v.ID, gib))
		return w.rested(v.ID)
	}
	is := func(id string, want cinder.Status, words string) {
		t.Helper()
		if v := w.rested(id); v.Status != want || v.SizeGiB != 3 || v.Problem != words {
			t.Errorf("the volume is %s, %q, want %s, %q: %+v", v.Status, v.Problem, want, words, v)
		}
	}
	v := awaited(3)
	must(t, w.Extended(ctx, v.ID, "s2", nil))
	must(t, w.Extended(ctx, v.ID, "s2", nil))
	must(t, w.Extended(ctx, v.ID, "another", nil))
	is(v.ID, cinder.Extending, "")
	w.end()
	w.boot(nil)
	is(v.ID, cinder.Extending, "")
	if told["s1"] != 2 || told["s2"] != 1 || told["s3"] != 2 {
		t.Errorf("servers were told %v: again are only those that have not answered", told)
	}
	must(t, w.Extended(ctx, v.ID, "s1", nil))
	is(v.ID, cinder.Extending, "")
	must(t, w.Extended(ctx, v.ID, "s3", nil))
	is(v.ID, cinder.InUse, "")

	v = awaited(3)
	must(t, w.Extended(ctx, v.ID, "s3", errors.New("s3 is deaf")))
	is(v.ID, cinder.Extending, "s3 is deaf")
	must(t, w.Extended(ctx, v.ID, "s1", errors.New("s1 is too")))
	must(t, w.Remove(ctx, v.ID+"s2"))
	is(v.ID, cinder.ErrorExtending, "s3 is deaf; s1 is too")

	v = awaited(3)
	for _, s := range []string{"s1", "s2", "s3"} {
		is(v.ID, cinder.Extending, "")
		must(t, w.Remove(ctx, v.ID+s))
	}
	is(v.ID, cinder.Available, "")
}

// A server that lets the volume service wait holds up nobody else's volumes.
func TestExtensionInUseTakesNoWorker(t *testing.T) {
	w := newVolumeWorld(t)
	begun, release := make(chan struct{}, 8), make(chan struct{})
	w.options = func(o *compute.VolumeOptions) {
		o.Workers = 1
		o.InUse = func(ctx context.Context, server, volume string) error {
			begun <- struct{}{}
			<-release
			return w.Extended(ctx, volume, server, nil)
		}
	}
	w.boot(nil)
	ctx := t.Context()
	w.servers("server")
	var all []cinder.Volume
	for range 3 {
		v := w.made(cinder.VolumeRequest{SizeGiB: 1})
		w.attached("of "+v.ID, v.ID, "server")
		all = append(all, v)
	}
	for _, v := range all {
		must(t, w.ExtendVolume(ctx, v.ID, 2))
		<-begun
	}
	must(t, w.Make(ctx, fileVolume, compute.Server{ProjectID: project}, compute.BlockDevice{SizeGiB: 1})) // returns when it is there
	close(release)
	for _, v := range all {
		if got := w.rested(v.ID); got.Status != cinder.InUse || got.SizeGiB != 2 {
			t.Errorf("%+v", got)
		}
	}
}

func TestCopiesWhileInUse(t *testing.T) {
	for _, live := range []bool{false, true} {
		w := newVolumeWorld(t)
		w.array.live = live
		w.boot(nil)
		w.servers("server")
		v := w.made(cinder.VolumeRequest{SizeGiB: 1})
		w.attached("a", v.ID, "server")
		_, err := w.CreateSnapshot(t.Context(), cinder.SnapshotRequest{ProjectID: project, VolumeID: v.ID})
		refusedBy(t, err, "InvalidVolume", "current status is in-use")
		_, forced := w.CreateSnapshot(t.Context(), cinder.SnapshotRequest{ProjectID: project, VolumeID: v.ID, Force: true})
		_, cloned := w.CreateVolume(t.Context(), cinder.VolumeRequest{ProjectID: project, SourceID: v.ID})
		for _, err := range []error{forced, cloned} {
			if live {
				must(t, err)
			} else {
				refusedBy(t, err, "InvalidVolume", "detach it first")
			}
		}
		w.audit("copied")
	}
}

// While something is made of a volume, nobody changes it.
func TestNothingChangesWhatIsCopied(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	w.servers("server")
	source := w.made(cinder.VolumeRequest{SizeGiB: 1}).ID
	w.before = func(what, id string) {
		ctx := context.Background()
		if what != "Create" && what != "Snapshot" {
			return
		}
		for _, err := range []error{w.Attach(ctx, "a", source, "server"), w.ExtendVolume(ctx, source, 9), w.DeleteVolume(ctx, source, true)} {
			refusedBy(t, err, "InvalidVolume", "")
		}
	}
	w.made(cinder.VolumeRequest{SourceID: source})
	s, err := w.CreateSnapshot(t.Context(), cinder.SnapshotRequest{ProjectID: project, VolumeID: source})
	must(t, err)
	w.rest()
	refusedBy(t, w.DeleteVolume(t.Context(), source, true), "InvalidVolume", "dependent snapshots, like "+s.ID)
	w.before = nil
	must(t, w.DeleteSnapshot(t.Context(), s.ID))
	w.rest()
	must(t, w.DeleteVolume(t.Context(), source, false))
}

func TestVolumeUpdates(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	w.servers("server")
	v := w.made(cinder.VolumeRequest{SizeGiB: 1})
	got, err := w.UpdateVolume(t.Context(), v.ID, func(v *cinder.Volume) error {
		v.Name, v.Description, v.Metadata, v.Bootable, v.ImageMetadata = "n", "d", map[string]string{"k": "v"}, true, map[string]string{"hw_disk_bus": "scsi"}
		v.SizeGiB, v.Backend, v.ProjectID, v.KeyID, v.LUN = 100, "other", otherProject, "key", "lun" // not the user's to say
		return nil
	})
	must(t, err)
	if got.Name != "n" || !got.Bootable || got.ImageMetadata["hw_disk_bus"] != "scsi" || got.SizeGiB != 1 || got.Backend != "array" || got.ProjectID != project || got.KeyID+got.LUN != "" {
		t.Errorf("%+v", got)
	}
	set := func(status cinder.Status) error {
		_, err := w.UpdateVolume(t.Context(), v.ID, func(v *cinder.Volume) error { v.Status = status; return nil })
		return err
	}
	for _, status := range []cinder.Status{cinder.Creating, cinder.Deleting, cinder.Extending, cinder.Downloading, "mine"} {
		refusedBy(t, set(status), "InvalidInput", "cannot be set by hand")
	}
	must(t, errors.Join(set(cinder.Error), set(cinder.Available)))
	w.attached("a", v.ID, "server")
	refusedBy(t, set(cinder.Available), "InvalidVolume", "attached to server server")
	_, err = w.UpdateVolume(t.Context(), v.ID, func(v *cinder.Volume) error { v.ReadOnly = true; return nil })
	refusedBy(t, err, "InvalidVolume", "readonly")
	_, err = w.UpdateVolume(t.Context(), v.ID, func(*cinder.Volume) error { return errBroken })
	if !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}

func TestVolumeTypesAndPools(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	ctx := t.Context()
	types, err := w.VolumeTypes(ctx)
	if err != nil || len(types) != 1 || types[0].Name != "__DEFAULT__" {
		t.Fatalf("%+v, %v", types, err)
	}
	refusedBy(t, w.DeleteVolumeType(ctx, types[0].ID), "VolumeTypeDefaultDeletionError", "default")
	if v := w.made(cinder.VolumeRequest{SizeGiB: 7}); v.TypeID != types[0].ID {
		t.Errorf("%+v", v)
	}
	own, err := w.CreateVolumeType(ctx, cinder.Type{Name: "own", Projects: []string{otherProject}})
	must(t, err)
	_, err = w.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: project, SizeGiB: 1, Type: "own"})
	refusedBy(t, err, "VolumeTypeNotFoundByName", "own")
	_, err = w.UpdateVolumeType(ctx, own.ID, func(t *cinder.Type) error { t.Projects = append(t.Projects, project); return nil })
	must(t, err)
	w.made(cinder.VolumeRequest{SizeGiB: 1, Type: "own"})
	_, err = w.CreateVolumeType(ctx, cinder.Type{Name: "x", QoSID: "none"})
	refusedBy(t, err, "QoSSpecsNotFound", "none")
	_, err = w.VolumeType(ctx, "none")
	refusedBy(t, err, "VolumeTypeNotFound", "none")
	pools, err := w.Pools(ctx)
	must(t, err)
	if len(pools) != 1 || pools[0].Backend != "array" || !pools[0].Up || pools[0].AllocatedGiB != 8 || pools[0].FreeGiB != 100 {
		t.Errorf("%+v", pools)
	}
	_, err = w.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: project, SizeGiB: 101})
	refusedBy(t, err, "NoValidBackend", "array: 100 GiB are free")
	w.end()
	w.boot(nil) // no second default
	if types, err := w.VolumeTypes(ctx); err != nil || len(types) != 2 {
		t.Errorf("%+v, %v", types, err)
	}
}

func TestVolumeQuotasAreKept(t *testing.T) {
	w := newVolumeWorld(t)
	w.options = func(o *compute.VolumeOptions) {
		o.Quotas = &cinder.Quotas{Volumes: 2, Snapshots: 1, Gigabytes: 5}
	}
	w.boot(nil)
	ctx := t.Context()
	v := w.made(cinder.VolumeRequest{SizeGiB: 2})
	refusedBy(t, w.ExtendVolume(ctx, v.ID, 6), "VolumeSizeExceedsAvailableQuota", "requested 4G")
	_, err := w.CreateSnapshot(ctx, cinder.SnapshotRequest{ProjectID: project, VolumeID: v.ID})
	must(t, err)
	w.rest()
	_, err = w.CreateSnapshot(ctx, cinder.SnapshotRequest{ProjectID: project, VolumeID: v.ID})
	refusedBy(t, err, "SnapshotLimitExceeded", "(1)")
	_, err = w.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: project, SizeGiB: 2})
	refusedBy(t, err, "VolumeSizeExceedsAvailableQuota", "4G has been consumed")
	w.made(cinder.VolumeRequest{SizeGiB: 1})
	_, err = w.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: project, SizeGiB: 1})
	refusedBy(t, err, "VolumeLimitExceeded", "(2)")
	usage, err := w.VolumeUsage(ctx, project)
	if err != nil || usage != (cinder.Usage{Volumes: 2, Snapshots: 1, Gigabytes: 5}) {
		t.Errorf("%+v, %v", usage, err)
	}
}

// A volume whose backend is no longer configured can be seen, and nothing can be done to it that is not done.
func TestBackendIsGone(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	w.servers("server")
	v := w.made(cinder.VolumeRequest{SizeGiB: 1})
	w.attached("a", v.ID, "server")
	w.end()
	w.options = func(o *compute.VolumeOptions) { o.Backends = nil }
	w.boot(nil)
	ctx := t.Context()
	_, connect := w.Connect(ctx, "a", connector.Properties{}, "")
	_, snapshot := w.CreateSnapshot(ctx, cinder.SnapshotRequest{ProjectID: project, VolumeID: v.ID, Force: true})
	for _, err := range []error{connect, snapshot, w.ExtendVolume(ctx, v.ID, 2)} {
		if !errors.Is(err, compute.ErrUnavailable) || !strings.Contains(err.Error(), `its backend "array" is not configured`) {
			t.Errorf("error %v", err)
		}
	}
	must(t, w.Remove(ctx, "a"))
	must(t, w.DeleteVolume(ctx, v.ID, false))
	if got := w.rested(v.ID); got.Status != cinder.ErrorDeleting || !strings.Contains(got.Problem, "not configured") {
		t.Errorf("%+v", got)
	}
}

func TestVolumeKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k, err := compute.NewVolumeKeys(dir)
	must(t, err)
	a, b := uuid.NewString(), uuid.NewString()
	must(t, k.Make(a, 0))
	key, err := k.Passphrase(a)
	must(t, err)
	must(t, errors.Join(k.Make(a, 512), k.Copy(a, b), k.Make(b, 0))) // what is there stays
	for _, id := range []string{a, b} {
		if again, err := k.Passphrase(id); err != nil || again != key || len(key) != 64 {
			t.Errorf("%v; the same: %v", err, again == key)
		}
		stat, err := os.Stat(filepath.Join(dir, id))
		must(t, err)
		if stat.Mode() != 0o600 {
			t.Errorf("a key's mode is %v", stat.Mode())
		}
	}
	if stat, err := os.Stat(dir); err != nil || stat.Mode().Perm() != 0o700 {
		t.Errorf("the directory's mode is %v, %v", stat.Mode(), err)
	}
	must(t, errors.Join(k.Delete(a), k.Delete(a)))
	if _, err := k.Passphrase(a); !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), string(key)) {
		t.Errorf("error %v", err)
	}
	for _, id := range []string{"", "../x", "urn:uuid:" + a} {
		if k.Make(id, 0) == nil || k.Copy(b, id) == nil || k.Delete(id) == nil {
			t.Errorf("%q names a key", id)
		}
	}
	// A crash beside a key leaves a second name of it, by which it would outlive its end.
	must(t, os.Link(filepath.Join(dir, b), filepath.Join(dir, ".new-1234")))
	_, err = compute.NewVolumeKeys(dir)
	must(t, err)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != b {
		t.Errorf("%v, %v are left", entries, err)
	}
}

// Not more is done at a time than there are workers.
func TestVolumeWorkersAreBounded(t *testing.T) {
	w := newVolumeWorld(t)
	w.options = func(o *compute.VolumeOptions) { o.Workers = 2 }
	at, most := make(chan int, 2), make(chan int, 16)
	w.before = func(what, _ string) {
		if what == "Create" {
			at <- 1 // full with two
			most <- len(at)
			<-at
		}
	}
	w.boot(nil)
	for range 8 {
		_, err := w.CreateVolume(t.Context(), cinder.VolumeRequest{ProjectID: project, SizeGiB: 1})
		must(t, err)
	}
	w.rest()
	if n := w.number(cinder.Available); n != 8 || len(most) != 8 {
		t.Errorf("%d volumes, %d made", n, len(most))
	}
}

func TestSnapshotUpdates(t *testing.T) {
	w := newVolumeWorld(t)
	w.boot(nil)
	ids := map[string]string{}
	snapshotted(w, ids)
	s, err := w.UpdateSnapshot(t.Context(), ids["s"], func(s *cinder.Snapshot) error {
		s.Name, s.Metadata, s.SizeGiB, s.VolumeID, s.Status = "n", map[string]string{"k": "v"}, 9, "other", cinder.Error
		return nil
	})
	must(t, err)
	if s.Name != "n" || s.SizeGiB != 1 || s.VolumeID != ids["a"] || s.Status != cinder.Error {
		t.Errorf("%+v", s)
	}
	_, err = w.UpdateSnapshot(t.Context(), ids["s"], func(s *cinder.Snapshot) error { s.Status = cinder.Deleting; return nil })
	refusedBy(t, err, "InvalidInput", "by hand")
	_, err = w.CreateVolume(t.Context(), cinder.VolumeRequest{ProjectID: project, SnapshotID: ids["s"]})
	refusedBy(t, err, "InvalidSnapshot", "current status is error")
	all, err := w.Snapshots(t.Context())
	if err != nil || len(all) != 1 || all[0].ID != ids["s"] {
		t.Errorf("%+v, %v", all, err)
	}
}
