package compute_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
)

// volumeWalk does what comes to its mind to a volume service.
type volumeWalk struct {
	*volumeWorld
	shared string // a type of volumes that several servers may have
	number int
}

// TestVolumeWalk does random commands, also senseless ones, and restarts; what must always be true is checked after each.
func TestVolumeWalk(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := &volumeWalk{volumeWorld: newVolumeWorld(t)}
		w.array.live = rapid.Bool().Draw(r, "live copies")
		w.options = func(o *compute.VolumeOptions) {
			o.Quotas = &cinder.Quotas{Volumes: 6, Snapshots: 3, Gigabytes: 30}
		}
		w.boot(nil)
		defer w.end()
		w.servers("s1", "s2")
		kind, err := w.CreateVolumeType(t.Context(), cinder.Type{Name: "shared", Public: true, ExtraSpecs: map[string]string{"multiattach": "<is> True"}})
		must(t, err)
		w.shared = kind.ID
		r.Repeat(map[string]func(*rapid.T){
			"create": w.create, "delete": w.delete, "extend": w.extend, "snapshot": w.snapshot, "attach": w.attach, "go on attaching": w.goOn, "detach": w.detach,
			"restart": func(*rapid.T) { w.end(); w.boot(nil) },
			"":        w.check,
		})
		w.clear("the walk's end")
	})
}

// oneOf is one of what is there, or what is not.
func oneOf[T any](r *rapid.T, what string, all []T, none T) T {
	i := rapid.IntRange(-1, len(all)-1).Draw(r, what)
	if i < 0 {
		return none
	}
	return all[i]
}

func (w *volumeWalk) volume(r *rapid.T) cinder.Volume {
	all, err := w.Volumes(w.t.Context())
	must(w.t, err)
	return oneOf(r, "volume", all, cinder.Volume{ID: "none"})
}

func (w *volumeWalk) attachment(r *rapid.T) cinder.Attachment {
	all, err := w.VolumeAttachments(w.t.Context())
	must(w.t, err)
	return oneOf(r, "attachment", all, cinder.Attachment{ID: "none"})
}

// legal takes refusals for an answer, and nothing else that is not success.
func (w *volumeWalk) legal(r *rapid.T, err error) {
	var why *cinder.Refusal
	if err != nil && !errors.As(err, &why) {
		r.Errorf("%v", err)
	}
}

func (w *volumeWalk) create(r *rapid.T) {
	want := cinder.VolumeRequest{ProjectID: project, SizeGiB: rapid.IntRange(0, 8).Draw(r, "size"), Type: oneOf(r, "type", []string{w.shared}, "")}
	switch rapid.IntRange(0, 2).Draw(r, "source") {
	case 1:
		want.SourceID = w.volume(r).ID
	case 2:
		all, err := w.Snapshots(w.t.Context())
		must(w.t, err)
		want.SnapshotID = oneOf(r, "snapshot", all, cinder.Snapshot{ID: "none"}).ID
	}
	_, err := w.CreateVolume(w.t.Context(), want)
	w.legal(r, err)
}

func (w *volumeWalk) delete(r *rapid.T) {
	v := w.volume(r)
	attachments, err := w.VolumeAttachments(w.t.Context())
	must(w.t, err)
	err = w.DeleteVolume(w.t.Context(), v.ID, rapid.Bool().Draw(r, "force"))
	w.legal(r, err)
	if slices.ContainsFunc(attachments, func(a cinder.Attachment) bool { return a.VolumeID == v.ID }) && err == nil {
		r.Error("a volume that somebody has was deleted")
	}
}

func (w *volumeWalk) extend(r *rapid.T) {
	v := w.volume(r)
	gib := rapid.IntRange(0, 9).Draw(r, "size")
	err := w.ExtendVolume(w.t.Context(), v.ID, gib)
	w.legal(r, err)
	if err == nil && gib <= v.SizeGiB {
		r.Error("a volume was made smaller")
	}
}

func (w *volumeWalk) snapshot(r *rapid.T) {
	all, err := w.Snapshots(w.t.Context())
	must(w.t, err)
	if len(all) > 0 && rapid.Bool().Draw(r, "delete") {
		w.legal(r, w.DeleteSnapshot(w.t.Context(), oneOf(r, "snapshot", all, cinder.Snapshot{ID: "none"}).ID))
		return
	}
	_, err = w.CreateSnapshot(w.t.Context(), cinder.SnapshotRequest{ProjectID: project, VolumeID: w.volume(r).ID, Force: rapid.Bool().Draw(r, "force")})
	w.legal(r, err)
}

func (w *volumeWalk) attach(r *rapid.T) {
	w.number++
	w.legal(r, w.Attach(w.t.Context(), fmt.Sprint("a", w.number), w.volume(r).ID, rapid.SampledFrom([]string{"s1", "s2"}).Draw(r, "server")))
}

func (w *volumeWalk) goOn(r *rapid.T) {
	a := w.attachment(r)
	if rapid.Bool().Draw(r, "connect") {
		_, err := w.Connect(w.t.Context(), a.ID, connector.Properties{Host: "host"}, "/dev/vdb")
		w.legal(r, err)
		return
	}
	w.legal(r, w.Complete(w.t.Context(), a.ID))
}

func (w *volumeWalk) detach(r *rapid.T) {
	a := w.attachment(r)
	if rapid.Bool().Draw(r, "remove") {
		must(w.t, w.Remove(w.t.Context(), a.ID))
		return
	}
	change := w.BeginDetaching
	if rapid.Bool().Draw(r, "roll back") {
		change = w.RollDetaching
	}
	w.legal(r, w.store.Update(w.t.Context(), func(tx compute.Writer) error { return change(tx, a.ID) }))
}

// check is what must be true whenever all is at rest.
func (w *volumeWalk) check(r *rapid.T) {
	w.audit("walk")
	volumes, err := w.Volumes(w.t.Context())
	must(w.t, err)
	attachments, err := w.VolumeAttachments(w.t.Context())
	must(w.t, err)
	for _, v := range volumes {
		var servers []string
		statuses := map[cinder.AttachmentStatus]bool{}
		for _, a := range attachments {
			if a.VolumeID == v.ID {
				servers = append(servers, a.ServerID)
				statuses[a.Status] = true
			}
		}
		slices.Sort(servers)
		if distinct := slices.Compact(slices.Clone(servers)); len(distinct) != len(servers) || len(servers) > 1 && !v.Multiattach {
			r.Errorf("volume %+v is of %v", v, servers)
		}
		want := map[cinder.Status]bool{
			cinder.Available: len(servers) == 0, cinder.InUse: statuses[cinder.AttachmentAttached], cinder.Reserved: statuses[cinder.AttachmentReserved],
			cinder.Attaching: statuses[cinder.AttachmentAttaching], cinder.Detaching: statuses[cinder.AttachmentDetaching],
		}
		if !want[v.Status] {
			r.Errorf("a volume with attachments %v is %s", statuses, v.Status)
		}
	}
	usage, err := w.VolumeUsage(w.t.Context(), project)
	if err != nil || usage.Volumes > 6 || usage.Snapshots > 3 || usage.Gigabytes > 30 {
		r.Errorf("%+v, %v", usage, err)
	}
}
