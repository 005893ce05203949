package compute_test

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// otherStride is how many points lie between two deaths of a pair where a server gets another system.
const otherStride = 9

func rebuild(w *world, id string) error {
	_, err := w.RebuildServer(w.t.Context(), id, compute.RebuildRequest{ImageID: otherImageID, AdminPassword: "new"})
	return err
}

func rescue(w *world, id string) error {
	return w.RescueServer(w.t.Context(), id, compute.RescueRequest{ImageID: otherImageID})
}

// wiredStoring is a server with ports and a volume.
func wiredStoring(w *world) string {
	id := wired(w)
	w.attachVolume(id, fileVolume)
	return id
}

func rescuedStoring(w *world) string {
	id := storing(w)
	w.must(rescue(w, id))
	return w.await(id).ID
}

// disksOf are the files of a guest's disks by target, without their directory, and its volumes by their ID.
func (w *world) disksOf(id string) map[string]string {
	w.t.Helper()
	spec, err := w.hv.Spec(id)
	w.must(err)
	disks := map[string]string{}
	for _, d := range spec.Disks {
		disks[d.Target] = cmp.Or(d.Serial, filepath.Base(d.Source.File))
	}
	return disks
}

func (w *world) want(id string, vm compute.VMState, disks map[string]string) compute.Server {
	w.t.Helper()
	s := w.await(id)
	if s.VM != vm {
		w.t.Fatalf("server is %s, %+v", s.VM, s.Fault)
	}
	if got := w.disksOf(id); disks != nil && !maps.Equal(got, disks) {
		w.t.Errorf("the guest has %v, not %v", got, disks)
	}
	w.audit()
	w.auditExtra()
	if w.storage != nil {
		w.auditVolumes()
	}
	return s
}

func storingWorld(t *testing.T) (*world, string) {
	t.Helper()
	w := newWorld(t)
	w.plug()
	w.storage = newStorage(t, w.hv)
	w.boot(nil)
	return w, storing(w)
}

var ownDisks = map[string]string{"vda": "disk", "hda": "disk.config", "vdb": fileVolume}

// A server is rescued, and gets the guest back that it had.
func TestRescue(t *testing.T) {
	w, id := storingWorld(t)
	before, was := w.definition(id), w.await(id)
	w.must(w.RescueServer(t.Context(), id, compute.RescueRequest{ImageID: otherImageID, AdminPassword: "p"}))
	s := w.want(id, compute.Rescued, map[string]string{"vda": "disk.rescue", "vdb": "disk", "hda": "disk.config.rescue"})
	if s.ImageID != imageID || s.Rescue.ImageID != otherImageID || !s.Launched.After(was.Launched) {
		t.Errorf("the server is %+v", s)
	}
	for name, act := range map[string]func() error{
		"rescue":  func() error { return rescue(w, id) },
		"rebuild": func() error { return rebuild(w, id) },
		"stop":    func() error { return w.StopServer(t.Context(), id) },
		"pause":   func() error { return w.PauseServer(t.Context(), id) },
		"attach":  func() error { return attachISCSI(w, id) },
		"detach":  func() error { return w.DetachVolume(t.Context(), id, fileVolume) },
	} {
		if err := act(); !errors.Is(err, compute.ErrConflict) {
			t.Errorf("%s of a rescued server: %v, want a conflict", name, err)
		}
	}
	for _, hard := range []bool{false, true} {
		w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: hard}))
		w.want(id, compute.Rescued, map[string]string{"vda": "disk.rescue", "vdb": "disk", "hda": "disk.config.rescue"})
	}
	w.must(w.UnrescueServer(t.Context(), id))
	if s = w.want(id, compute.Active, ownDisks); s.Rescue != nil {
		t.Errorf("the server is still rescued with %+v", s.Rescue)
	}
	if diff := gocmp.Diff(before, w.definition(id)); diff != "" {
		t.Errorf("the guest is another one after its rescue (-before +after)\n%s", diff)
	}
}

// A rescue image that says what its disk is leaves the server's drives where they are.
func TestStableRescue(t *testing.T) {
	for properties, place := range map[[2]string]string{{"hw_rescue_device", "cdrom"}: "hdb", {"hw_rescue_bus", "usb"}: "sda"} {
		t.Run(properties[0], func(t *testing.T) {
			w, id := storingWorld(t)
			w.must(w.StopServer(t.Context(), id))
			w.await(id)
			w.must(w.agent.store.Update(t.Context(), func(tx compute.Writer) error {
				img, err := tx.Image(otherImageID)
				img.Properties = map[string]string{properties[0]: properties[1]}
				return errors.Join(err, tx.PutImage(img))
			}))
			w.must(rescue(w, id))
			disks := maps.Clone(ownDisks)
			disks[place], disks["hda"] = "disk.rescue", "disk.config.rescue"
			w.want(id, compute.Rescued, disks)
			w.must(w.UnrescueServer(t.Context(), id))
			w.want(id, compute.Active, ownDisks)
		})
	}
}

// What is wrong with a rescue image, or the server, shows before the server is touched.
func TestRescueRefused(t *testing.T) {
	w, id := storingWorld(t)
	ask := func(id, image string, fromVolume bool) error {
		return w.RescueServer(t.Context(), id, compute.RescueRequest{ImageID: image, FromVolume: fromVolume})
	}
	put := func(status compute.ImageStatus, properties map[string]string) {
		w.must(w.agent.store.Update(t.Context(), func(tx compute.Writer) error {
			img, err := tx.Image(otherImageID)
			img.Status, img.Properties = status, properties
			return errors.Join(err, tx.PutImage(img))
		}))
	}
	refused := func(err error, says string) {
		t.Helper()
		if !errors.Is(err, compute.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want an invalid request that says %q", err, says)
		}
		w.want(id, compute.Active, ownDisks)
	}
	refused(ask(id, "nowhere", false), `rescue_image_ref: there is no image "nowhere"`)
	put(compute.ImageQueued, nil)
	refused(ask(id, otherImageID, false), "queued, not active")
	put(compute.ImageActive, map[string]string{"hw_rescue_device": "tape"})
	refused(ask(id, otherImageID, false), "hw_rescue_device")

	s, err := w.CreateServer(t.Context(), compute.CreateRequest{UserID: userID, ProjectID: "project", Name: "from-volume", FlavorID: flavorID,
		BlockDevices: []compute.BlockDeviceRequest{{Source: compute.VolumeSource{ImageID: imageID}, SizeGiB: 1, BootIndex: new(int)}}})
	w.must(err)
	w.await(s.ID)
	both := map[string]string{"hw_rescue_device": "disk", "hw_rescue_bus": "virtio"}
	put(compute.ImageActive, map[string]string{"hw_rescue_device": "disk"})
	refused(ask(s.ID, otherImageID, true), "Cannot rescue a volume-backed instance")
	put(compute.ImageActive, both)
	refused(ask(s.ID, otherImageID, false), "Cannot rescue a volume-backed instance")
	w.must(ask(s.ID, otherImageID, true))
	if s = w.await(s.ID); s.VM != compute.Rescued || w.disksOf(s.ID)["vdb"] != "disk.rescue" {
		t.Errorf("the server that boots from a volume is %s with %v", s.VM, w.disksOf(s.ID))
	}
	w.must(w.UnrescueServer(t.Context(), s.ID))
	if s = w.await(s.ID); s.VM != compute.Active {
		t.Errorf("the server that boots from a volume is %s after its rescue", s.VM)
	}
}

// A rescued server goes with all that it was rescued with.
func TestDeleteRescued(t *testing.T) {
	w, id := storingWorld(t)
	w.must(rescue(w, id))
	w.await(id)
	w.must(w.DeleteServer(t.Context(), id))
	w.waitAll()
	if n := len(w.servers()) + len(w.files()) + len(w.guests()) + len(w.claims()); n > 0 {
		t.Errorf("%d things are left", n)
	}
	w.auditVolumes()
}

// A server is made anew with all that the request says, and keeps what it does not.
func TestRebuild(t *testing.T) {
	w, id := storingWorld(t)
	was := w.await(id)
	root := filepath.Join(w.state, "instances", id, "disk")
	w.must(os.WriteFile(filepath.Join(w.state, "instances", id, "disk.config"), []byte("old"), 0o600))
	old, err := os.Stat(root)
	w.must(err)
	accepted, err := w.RebuildServer(t.Context(), id, compute.RebuildRequest{
		ImageID: otherImageID, Name: new("other"), Description: new("new"), Metadata: map[string]string{"a": "b"}, KeyName: new(""), UserData: new([]byte),
	})
	w.must(err)
	if accepted.Task != compute.TaskRebuilding || accepted.Name != "other" || accepted.ImageID != otherImageID {
		t.Errorf("accepted as %+v", accepted)
	}
	s := w.want(id, compute.Active, ownDisks)
	if s.Name != "other" || s.Description != "new" || s.Metadata["a"] != "b" || s.Keypair != nil || len(s.UserData) > 0 || !s.Launched.After(was.Launched) {
		t.Errorf("rebuilt as %+v", s)
	}
	now, err := os.Stat(root)
	w.must(err)
	if os.SameFile(old, now) {
		t.Error("the root disk is the old one")
	}
	if drive, err := os.ReadFile(filepath.Join(w.state, "instances", id, "disk.config")); err != nil || string(drive) == "old" {
		t.Errorf("the config drive is the old one: %v", err)
	}
	w.must(w.StopServer(t.Context(), id))
	w.await(id)
	w.must(rebuild(w, id))
	if s = w.want(id, compute.Stopped, ownDisks); s.Name != "other" || s.Power != virt.PowerShutdown {
		t.Errorf("rebuilt as %+v", s)
	}
	w.must(w.StartServer(t.Context(), id))
	w.want(id, compute.Active, ownDisks)
}

// The claim follows the image: what the new one asks of the host's cells is looked for, and what does not fit is refused with the server untouched.
func TestRebuildMovesTheClaim(t *testing.T) {
	w := newWorld(t)
	w.host = twoCells()
	w.options = func(o *compute.Options) { o.Capacity.NUMA = pinnedSets() }
	w.vcpus = 2
	w.boot(nil)
	id := active(w)
	image := func(properties map[string]string) {
		w.must(w.agent.store.Update(t.Context(), func(tx compute.Writer) error {
			img, err := tx.Image(otherImageID)
			img.Properties = properties
			return errors.Join(err, tx.PutImage(img))
		}))
	}
	image(map[string]string{"hw_cpu_policy": "dedicated"})
	w.must(rebuild(w, id))
	w.want(id, compute.Active, nil)
	if c := w.claims()[id]; c.NUMA == nil || c.Kind != compute.ClaimOwn {
		t.Errorf("the claim after the rebuild is %+v", c)
	}
	image(map[string]string{"hw_numa_nodes": "2", "hw_cpu_policy": "dedicated", "hw_mem_page_size": "1GB"})
	if err := rebuild(w, id); !errors.Is(err, compute.ErrNoCapacity) && !errors.Is(err, compute.ErrInvalid) {
		t.Errorf("an image that does not fit: %v", err)
	}
	w.want(id, compute.Active, nil)
	image(nil)
	w.must(rebuild(w, id))
	w.want(id, compute.Active, nil)
	if c := w.claims()[id]; c.NUMA != nil {
		t.Errorf("the claim of a server that may run anywhere is %+v", c)
	}
}

func TestRebuildRefused(t *testing.T) {
	w, id := storingWorld(t)
	for name, c := range map[string]struct {
		req  compute.RebuildRequest
		says string
	}{
		"image":    {compute.RebuildRequest{ImageID: "nowhere"}, `imageRef: there is no image "nowhere"`},
		"key":      {compute.RebuildRequest{ImageID: imageID, UserID: userID, KeyName: new("none")}, `key_name: there is no keypair "none"`},
		"name":     {compute.RebuildRequest{ImageID: imageID, Name: new("")}, "name: it has 0 characters"},
		"metadata": {compute.RebuildRequest{ImageID: imageID, Metadata: map[string]string{"/": ""}}, "metadata: the key"},
	} {
		if _, err := w.RebuildServer(t.Context(), id, c.req); !errors.Is(err, compute.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want an invalid request that says %q", name, err, c.says)
		}
	}
	w.must(w.agent.store.Update(t.Context(), func(tx compute.Writer) error {
		img, err := tx.Image(otherImageID)
		img.MinDiskGiB = 7
		return errors.Join(err, tx.PutImage(img))
	}))
	if err := rebuild(w, id); !errors.Is(err, compute.ErrInvalid) || !strings.Contains(err.Error(), "min_disk of 7 GiB") {
		t.Errorf("an image that is too large: %v", err)
	}
	w.want(id, compute.Active, ownDisks)
}

// A failure before the old disk is given up leaves the server as it was; one after that leaves it in Error, and it can be rebuilt again.
func TestRebuildFails(t *testing.T) {
	w, id := storingWorld(t)
	was := w.await(id)
	w.hv.Inject(fake.Fault{Method: "Stop", Do: fake.Fail(&virt.Error{Op: "test", Kind: virt.ErrInvalid})})
	w.must(rebuild(w, id))
	if s := w.want(id, compute.Active, ownDisks); s.ImageID != was.ImageID || s.Power != virt.PowerRunning {
		t.Errorf("after a failure the server is %+v", s)
	}
	w.hv.Inject(fake.Fault{Method: "Create", Do: fake.Fail(&virt.Error{Op: "test", Kind: virt.ErrInvalid})})
	w.must(rebuild(w, id))
	if s := w.await(id); s.VM != compute.Error || s.ImageID != otherImageID || s.Fault == nil {
		t.Fatalf("after a failure the server is %+v", s)
	}
	w.must(rebuild(w, id))
	w.want(id, compute.Active, ownDisks)
}

// A server that boots from a volume keeps what is on it.
func TestRebuildFromVolume(t *testing.T) {
	w := newWorld(t)
	w.plug()
	w.storage = newStorage(t, w.hv)
	w.boot(nil)
	id := bootsFromVolume(w)
	disks, volume := w.disksOf(id), ""
	list, err := w.BlockDevices(t.Context(), id)
	w.must(err)
	for _, d := range list {
		if d.BootIndex != nil {
			volume = d.VolumeID
		}
	}
	if err := rebuild(w, id); !errors.Is(err, compute.ErrInvalid) || !strings.Contains(err.Error(), "Unable to rebuild with a different image for a volume-backed server") {
		t.Errorf("another image: %v", err)
	}
	_, err = w.RebuildServer(t.Context(), id, compute.RebuildRequest{ImageID: imageID})
	w.must(err)
	s := w.want(id, compute.Active, disks)
	if s.ImageID != "" || !slices.Contains(w.storage.list(), volume) {
		t.Errorf("rebuilt as %+v with %v", s, w.storage.list())
	}
}
