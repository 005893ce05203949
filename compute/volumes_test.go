package compute_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

func TestAttachAndDetachVolumes(t *testing.T) {
	for name, state := range map[string]func(*world) string{"active": active, "stopped": stopped, "without guest": func(w *world) string {
		id := gone(w)
		w.until(id, func(s compute.Server) bool { return s.Power == virt.PowerNoState })
		return id
	}} {
		t.Run(name, func(t *testing.T) {
			w := withVolumes(t)
			id := state(w)
			first := w.attachVolume(id, fileVolume)
			second := w.attachVolume(id, iscsiVolume)
			if first.Name != "vdb" || second.Name != "vdc" || first.Index != 0 || second.Index != 1 {
				t.Errorf("the volumes are %s and %s", first.Name, second.Name)
			}
			w.agrees(id)
			w.must(w.DetachVolume(t.Context(), id, fileVolume))
			w.agrees(id)
			w.must(w.DetachVolume(t.Context(), id, iscsiVolume))
			w.agrees(id)
			if list, err := w.BlockDevices(t.Context(), id); err != nil || len(list) > 0 {
				t.Errorf("volumes %+v, %v", list, err)
			}
		})
	}
}

// agrees waits for a server's operations, and compares store, service, host and guest; a hard reboot would change nothing.
func (w *world) agrees(id string) compute.Server {
	w.t.Helper()
	s := w.await(id)
	w.audit()
	w.auditVolumes()
	w.wakesUnchanged(s)
	return s
}

// Users send several commands for one server at once: each has its turn.
func TestVolumesOfOneServerTakeTurns(t *testing.T) {
	w := withVolumes(t)
	id := active(w)
	errs := make(chan error, 3)
	for _, volume := range []string{fileVolume, otherVolume, iscsiVolume} {
		go func() {
			_, err := w.AttachVolume(t.Context(), id, compute.BlockDeviceRequest{VolumeID: volume})
			errs <- err
		}()
	}
	for range 3 {
		w.must(<-errs)
	}
	w.agrees(id)
	if list, err := w.BlockDevices(t.Context(), id); err != nil || len(list) != 3 {
		t.Errorf("volumes %+v, %v", list, err)
	}
}

func TestVolumeDefinition(t *testing.T) {
	w := withVolumes(t)
	w.extra = map[string]string{}
	id := active(w)
	w.attachVolume(id, iscsiVolume)
	disks := w.definition(id).Disks
	got := disks[len(disks)-1]
	want := virt.Disk{
		Source: virt.Source{Network: &virt.NetworkSource{Protocol: "iscsi", Name: "iqn.2026-11.org.example:" + iscsiVolume + "/1", Hosts: []virt.HostPort{{Host: "192.0.2.9", Port: 3260}},
			Auth: &virt.SecretRef{User: "user", Type: "iscsi", UUID: compute.SecretUUID(iscsiVolume, "iscsi")}, Initiator: "iqn.2026-11.org.example:host"}},
		Format: "raw", Target: "vdb", Bus: "virtio", Cache: "none", Serial: iscsiVolume, Alias: "ua-" + iscsiVolume,
	}
	if got.Source.Network == nil || got.Source.Network.Auth == nil || *got.Source.Network.Auth != *want.Source.Network.Auth ||
		got.Target != want.Target || got.Serial != want.Serial || got.Alias != want.Alias || got.Cache != want.Cache {
		t.Errorf("the disk is %+v", got)
	}
	if value := w.hv.SecretValue(got.Source.Network.Auth.UUID); string(value) != "secret-of-chap" {
		t.Errorf("the secret is %q", value)
	}
}

// TestBootFromVolume makes a server without an image.
func TestBootFromVolume(t *testing.T) {
	w := withVolumes(t)
	id := bootsFromVolume(w)
	s := w.agrees(id)
	if s.ImageID != "" || !s.BootsFromVolume() {
		t.Errorf("the server has image %q", s.ImageID)
	}
	made := w.definition(id)
	list, err := w.BlockDevices(t.Context(), id)
	w.must(err)
	if len(list) != 2 || list[0].Name != "vda" || made.Disks[0].Serial != list[0].VolumeID || made.Metadata.RootType != "volume" || made.Metadata.RootID != list[0].VolumeID {
		t.Errorf("volumes %+v, disks %+v, metadata %+v", list, made.Disks, made.Metadata)
	}
	if c := w.claims()[id]; c.DiskGiB != 0 {
		t.Errorf("the server claims %d GiB of the host for a disk that is a volume", c.DiskGiB)
	}
	if err := w.DetachVolume(t.Context(), id, list[0].VolumeID); !errors.Is(err, compute.ErrInvalid) || !hasText(err, "Cannot detach a root device volume") {
		t.Errorf("detach of the root volume: %v", err)
	}
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
	w.agrees(id)
	w.must(w.DeleteServer(t.Context(), id))
	w.waitAll()
	w.auditVolumes()
	if _, there := w.volumes()[list[0].VolumeID]; there || len(w.volumes()) != 3 {
		t.Error("the volume that was to go with the server is there")
	}
}

// An existing volume that says of which image it was made counts as that image.
func TestBootFromExistingVolume(t *testing.T) {
	w := withVolumes(t)
	r := request()
	r.ImageID, r.BlockDevices = "", []compute.BlockDeviceRequest{{VolumeID: otherVolume, BootIndex: new(int)}}
	s, err := w.CreateServer(t.Context(), r)
	w.must(err)
	w.agrees(s.ID)
	if made := w.definition(s.ID); made.Disks[0].Bus != "scsi" || made.Disks[0].Target != "sda" {
		t.Errorf("the root disk is %+v", made.Disks[0])
	}
	if got := w.await(s.ID).Image; got.Name != "boots" || got.Properties["hw_disk_bus"] != "scsi" || got.Properties["min_ram"] != "" {
		t.Errorf("image %+v", got)
	}
}

func TestSwapVolume(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	release := w.agent.driver.HoldCopies()
	w.must(w.SwapVolume(t.Context(), id, fileVolume, otherVolume))
	w.until(id, func(s compute.Server) bool { return s.Task == compute.TaskSwappingVolume })
	if got := w.volumes(); got[fileVolume].Status != cinder.Detaching {
		t.Errorf("the old volume is %s while it is copied", got[fileVolume].Status)
	}
	_, attachments := w.blockDevices()
	for at, a := range attachments {
		if used, err := w.UsesAttachment(t.Context(), at); !used || err != nil {
			t.Errorf("while it is copied, the attachment of %s may be ended: %v", a.VolumeID, err)
		}
	}
	release()
	w.agrees(id)
	list, err := w.BlockDevices(t.Context(), id)
	if err != nil || len(list) != 1 || list[0].VolumeID != otherVolume || list[0].Name != "vdb" {
		t.Errorf("volumes %+v, %v", list, err)
	}
	if got := w.volumes(); got[fileVolume].Status != cinder.Available || got[otherVolume].Status != cinder.InUse {
		t.Errorf("the old volume is %s, the new one %s", got[fileVolume].Status, got[otherVolume].Status)
	}
}

// The guest has the new volume's limits at once, and its block sizes and discard from the next start on.
func TestSwapTakesTheNewVolumesLimits(t *testing.T) {
	w := withVolumes(t)
	w.storage.asks[fileVolume] = map[string]any{"qos_specs": map[string]any{"total_iops_sec": "1000"}, "discard": true, "logical_block_size": 512, "physical_block_size": 512}
	w.storage.asks[otherVolume] = map[string]any{"qos_specs": map[string]any{"read_bytes_sec": "1048576"}, "logical_block_size": 512, "physical_block_size": 4096}
	id := storing(w)
	driver := w.hv.Open(fake.Options{})
	defer func() { _ = driver.Close() }()
	disk := func() virt.PluggedDisk {
		list, err := driver.Disks(t.Context(), id)
		w.must(err)
		return list[slices.IndexFunc(list, func(p virt.PluggedDisk) bool { return p.Target == "vdb" })]
	}
	was, now := virt.BlockIO{Logical: 512, Physical: 512}, virt.BlockIO{Logical: 512, Physical: 4096}
	if d := disk(); d.Tune != (virt.DiskTune{TotalIOPS: 1000}) || d.BlockIO != was || d.Discard != "unmap" {
		t.Fatalf("before the swap the disk is %+v", d)
	}
	w.must(w.SwapVolume(t.Context(), id, fileVolume, otherVolume))
	w.agrees(id)
	if d := disk(); d.Tune != (virt.DiskTune{ReadBytes: 1 << 20}) || d.BlockIO != was || d.Discard != "unmap" {
		t.Errorf("the guest runs with %+v", d)
	}
	made := w.definition(id).Disks
	for range 2 { // what it is made of now, and after it was made again
		if d := made[slices.IndexFunc(made, func(d virt.Disk) bool { return d.Target == "vdb" })]; d.Tune != (virt.DiskTune{ReadBytes: 1 << 20}) || d.BlockIO != now || d.Discard != "" {
			t.Errorf("the guest is made of %+v", d)
		}
		w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
		w.agrees(id)
		made = w.definition(id).Disks
	}
	if d := disk(); d.Tune != (virt.DiskTune{ReadBytes: 1 << 20}) || d.BlockIO != now || d.Discard != "" {
		t.Errorf("after a hard reboot the guest runs with %+v", d)
	}
}

// A guest that got another volume, and then does not let go of it, is made of what is stored: its disk has the name that it had.
func TestGuestKeepsSwappedVolume(t *testing.T) {
	w := newWorld(t)
	w.storage = newStorage(t, w.hv)
	w.options = func(o *compute.Options) { o.DetachTimeout, o.DetachAttempts = 5*time.Millisecond, 3 }
	w.boot(nil)
	id := storing(w)
	w.must(w.SwapVolume(t.Context(), id, fileVolume, otherVolume))
	w.agrees(id)
	w.hv.SetHearing(id, 0)
	w.must(w.DetachVolume(t.Context(), id, otherVolume))
	w.agrees(id)
}

// What a user says of a volume while it is copied holds for the one that takes its place.
func TestKeepVolumeDuringSwap(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	_, err := w.KeepVolume(t.Context(), id, fileVolume, true)
	w.must(err)
	w.hv.Inject(fake.Fault{Method: "CopyDisk", Do: fake.Pass, OnStrike: func() {
		if _, err := w.KeepVolume(context.Background(), id, fileVolume, false); err != nil {
			t.Error(err)
		}
	}})
	w.must(w.SwapVolume(t.Context(), id, fileVolume, otherVolume))
	w.agrees(id)
	w.must(w.DeleteServer(t.Context(), id))
	w.waitAll()
	if _, there := w.volumes()[otherVolume]; !there {
		t.Error("the volume that was to be kept is deleted with its server")
	}
}

// A swap whose copy goes on for too long ends with the server, and whose copy fails with what the server had.
func TestSwapEnds(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	w.hv.Inject(fake.Fault{Method: "CopyDisk", Do: fake.Fail(virt.ErrInvalid)})
	w.must(w.SwapVolume(t.Context(), id, fileVolume, otherVolume))
	w.agrees(id)
	if list, err := w.BlockDevices(t.Context(), id); err != nil || len(list) != 1 || list[0].VolumeID != fileVolume {
		t.Errorf("after a failure: volumes %+v, %v", list, err)
	}
	defer w.agent.driver.HoldCopies()()
	w.must(w.SwapVolume(t.Context(), id, fileVolume, otherVolume))
	w.until(id, func(s compute.Server) bool { return s.Task == compute.TaskSwappingVolume })
	if err := w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}); !errors.Is(err, compute.ErrConflict) {
		t.Errorf("hard reboot during a swap: %v", err)
	}
	w.must(w.DeleteServer(t.Context(), id))
	w.waitAll()
	w.auditVolumes()
}

func TestExtendVolume(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	w.must(grow(w, id))
	w.agrees(id)
	driver := w.hv.Open(fake.Options{})
	defer func() { _ = driver.Close() }()
	disks, err := driver.Disks(context.Background(), id)
	w.must(err)
	if i := slices.IndexFunc(disks, func(d virt.PluggedDisk) bool { return d.Serial == fileVolume }); disks[i].Bytes != 2*volumeBytes {
		t.Errorf("the guest sees %+v", disks[i])
	}
	if v := w.volumes()[fileVolume]; v.SizeGiB != 2 || v.Status != cinder.InUse {
		t.Errorf("volume %+v", v)
	}
	w.storage.refuse = &connector.Error{Reason: connector.Unreachable, Rule: "no path"}
	w.must(grow(w, id))
	w.await(id)
	if v := w.volumes()[fileVolume]; v.Status != cinder.ErrorExtending || !strings.Contains(v.Problem, "did not answer") {
		t.Errorf("volume %+v", v)
	}
}

// TestExtendEncryptedVolume extends one that only the hypervisor reaches: what its header takes shows in what the guest has of it.
func TestExtendEncryptedVolume(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	w.changeVolume(iscsiVolume, func(v *cinder.Volume) { v.Encryption = &cinder.Encryption{Provider: "luks"} })
	const header = 1 << 20
	const seen = 1 << 30 // by the guests of the fake, of what is no file
	w.storage.grown[iscsiVolume] = seen + header
	w.attachVolume(id, iscsiVolume)
	w.storage.grown[iscsiVolume] = 2 << 30
	for range 2 { // again, as after a crash, is the same
		w.must(growVolume(w, id, iscsiVolume))
		w.await(id)
		if v, seen := w.volumes()[iscsiVolume], w.seenBytes(id, iscsiVolume); v.Status != cinder.InUse || seen != 2<<30-header {
			t.Fatalf("the guest sees %d bytes of volume %+v", seen, v)
		}
	}
	driver := w.hv.Open(fake.Options{})
	defer func() { _ = driver.Close() }()
	w.must(driver.ResizeDisk(t.Context(), id, "vdc", 4<<30))
	w.must(growVolume(w, id, iscsiVolume))
	w.await(id)
	if v := w.volumes()[iscsiVolume]; v.Status != cinder.ErrorExtending || !strings.Contains(v.Problem, "its encryption") {
		t.Errorf("volume %+v", v)
	}
}

// TestGuestKeepsVolume detaches a volume from guests that do not let go: they keep it, and so does the server, and it is said why. Once a guest does
// let go the volume is detached.
func TestGuestKeepsVolume(t *testing.T) {
	type act func(*world, string)
	for name, c := range map[string]struct {
		hinder, relent act
		words          string
	}{
		"it does not listen": {
			func(w *world, id string) { w.hv.SetHearing(id, 0) },
			func(w *world, id string) { w.hv.SetHearing(id, 1) }, "its guest does not let go of the volume",
		},
		"it is paused": {
			func(w *world, id string) { w.must(w.PauseServer(w.t.Context(), id)); w.await(id) },
			func(w *world, id string) { w.must(w.UnpauseServer(w.t.Context(), id)); w.await(id) }, "it is PAUSED and cannot let go of disk vdb",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.storage = newStorage(t, w.hv)
			said := make(chan error, 8)
			w.options = func(o *compute.Options) {
				o.DetachTimeout, o.DetachAttempts = 5*time.Millisecond, 3
				o.Observe = func(seen compute.Observation) {
					if seen.Kind == compute.OpDetachVolume && seen.Step == "unplug" && !seen.Undo {
						said <- seen.Err
					}
				}
			}
			w.boot(nil)
			id := storing(w)
			c.hinder(w, id)
			w.must(w.DetachVolume(t.Context(), id, fileVolume))
			if s := w.agrees(id); s.VM == compute.Error || s.Fault != nil {
				t.Errorf("the server is %s with fault %+v", s.VM, s.Fault)
			}
			if v := w.volumes()[fileVolume]; v.Status != cinder.InUse {
				t.Errorf("the volume is %s", v.Status)
			}
			if err := <-said; !hasText(err, c.words) {
				t.Errorf("the detach failed with %v", err)
			}
			c.relent(w, id)
			w.stop()
			w.options = nil // with patience
			w.boot(nil)
			w.waitAll()
			w.must(w.DetachVolume(t.Context(), id, fileVolume))
			w.agrees(id)
			if v := w.volumes()[fileVolume]; v.Status != cinder.Available {
				t.Errorf("the volume is %s after it was detached again", v.Status)
			}
		})
	}
}

// TestOverDetachOfVolume ends the wait for a guest that does not let go: the server keeps its volume, or goes.
func TestOverDetachOfVolume(t *testing.T) {
	for name, command := range map[string]func(w *world, id string) error{
		"hard reboot": func(w *world, id string) error { return w.RebootServer(w.t.Context(), id, compute.Reboot{Hard: true}) },
		"delete":      func(w *world, id string) error { return w.DeleteServer(w.t.Context(), id) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.storage = newStorage(t, w.hv)
			w.options = func(o *compute.Options) { o.DetachTimeout = time.Hour }
			w.boot(nil)
			id := storing(w)
			w.hv.SetHearing(id, 0)
			w.must(w.DetachVolume(t.Context(), id, fileVolume))
			w.until(id, func(s compute.Server) bool { return s.Task == compute.TaskDetachingVolume })
			w.must(command(w, id))
			w.waitAll()
			w.audit()
			w.auditVolumes()
		})
	}
}

// TestRestartOfTheHost starts servers whose devices went with it, and refuses a disk that is not the volume's.
func TestRestartOfTheHost(t *testing.T) {
	w := withVolumes(t)
	id := storingRebooted(w)
	w.storage.identity[fileVolume] = "naa.somebody-elses"
	w.must(w.StartServer(t.Context(), id))
	if s := w.await(id); s.VM != compute.Stopped {
		t.Errorf("the server is %s with another's disk", s.VM)
	}
	if slices.Contains(w.storage.list(), fileVolume) {
		t.Error("another's disk is connected")
	}
	delete(w.storage.identity, fileVolume)
	w.must(w.StartServer(t.Context(), id))
	if s := w.agrees(id); s.VM != compute.Active {
		t.Errorf("the server is %s", s.VM)
	}
	w.must(w.StopServer(t.Context(), id))
	w.await(id)
	w.storage.reboot()
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
	w.agrees(id)
}

// TestVolumeRefused has the host refuse a volume: it is available again, and the server what it was.
func TestVolumeRefused(t *testing.T) {
	w := withVolumes(t)
	id := active(w)
	for _, reason := range []connector.Reason{connector.Unreachable, connector.AuthFailed, connector.IdentityMismatch, connector.NoDevice} {
		w.storage.refuse = &connector.Error{Reason: reason, Field: "portal", Value: "192.0.2.9:3260", Rule: "a rule"}
		_, err := w.AttachVolume(t.Context(), id, compute.BlockDeviceRequest{VolumeID: fileVolume})
		w.must(err)
		if s := w.agrees(id); s.VM != compute.Active || s.Fault != nil {
			t.Errorf("%s: the server is %s with fault %+v", reason, s.VM, s.Fault)
		}
	}
	if list, err := w.BlockDevices(t.Context(), id); err != nil || len(list) > 0 {
		t.Errorf("volumes %+v, %v", list, err)
	}
	s, err := w.CreateServer(t.Context(), bootVolume())
	w.must(err)
	if s := w.await(s.ID); s.VM != compute.Error || !strings.Contains(s.Fault.Message, "its storage has no such disk") || strings.Contains(s.Fault.Message, "192.0.2.9") {
		t.Errorf("the server is %s with fault %+v", s.VM, s.Fault)
	}
	w.auditVolumes()
	if n := len(w.volumes()); n != 3 {
		t.Errorf("%d volumes are left", n)
	}
}

// A volume whose target is gone is detached, and a server with one deleted. One that somebody holds stays.
func TestTargetIsGone(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	w.storage.gone = true
	w.must(w.DetachVolume(t.Context(), id, fileVolume))
	w.agrees(id)
	w.storage.gone = false
	w.attachVolume(id, fileVolume)
	w.storage.gone = true
	w.must(w.DeleteServer(t.Context(), id))
	w.waitAll()
	w.auditVolumes()
	if n := len(w.servers()); n != 0 {
		t.Errorf("%d servers are left", n)
	}
}

func TestHeldVolumeStays(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	w.storage.holder = "a mount"
	w.must(w.DetachVolume(t.Context(), id, fileVolume))
	w.agrees(id)
	if v := w.volumes()[fileVolume]; v.Status != cinder.InUse {
		t.Errorf("the volume is %s", v.Status)
	}
	w.must(w.DeleteServer(t.Context(), id))
	if s := w.await(id); s.VM != compute.Error || !strings.Contains(s.Fault.Message, "still holds its disk") {
		t.Errorf("the server is %s with fault %+v", s.VM, s.Fault)
	}
	w.storage.holder = ""
	w.must(w.DeleteServer(t.Context(), id))
	w.waitAll()
	w.auditVolumes()
	if n := len(w.servers()); n != 0 {
		t.Errorf("%d servers are left", n)
	}
}

// Two servers of one host share a volume and its device.
func TestMultiattachOnOneHost(t *testing.T) {
	w := withVolumes(t)
	w.changeVolume(fileVolume, func(v *cinder.Volume) { v.Multiattach = true })
	first, second := active(w), active(w)
	w.attachVolume(first, fileVolume)
	w.attachVolume(second, fileVolume)
	if d := w.definition(second).Disks; !d[len(d)-1].Shared {
		t.Errorf("the disk is %+v", d[len(d)-1])
	}
	if err := w.SwapVolume(t.Context(), first, fileVolume, otherVolume); !errors.Is(err, compute.ErrConflict) {
		t.Errorf("swap of a volume that two write: %v", err)
	}
	w.must(w.DetachVolume(t.Context(), first, fileVolume))
	w.agrees(first)
	w.agrees(second)
	if !slices.Contains(w.storage.list(), fileVolume) {
		t.Error("the device was taken away from the other server")
	}
	w.must(w.DetachVolume(t.Context(), second, fileVolume))
	w.agrees(second)
}

// What a running disk cannot become by a copy is refused before it begins.
func TestSwapKeepsWhatTheDiskIs(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	w.changeVolume(otherVolume, func(v *cinder.Volume) { v.Multiattach = true })
	if err := w.SwapVolume(t.Context(), id, fileVolume, otherVolume); !hasText(err, "for several servers") {
		t.Errorf("to one for several servers: %v", err)
	}
	w.changeVolume(otherVolume, func(v *cinder.Volume) { v.Multiattach, v.ReadOnly = false, true })
	if err := w.SwapVolume(t.Context(), id, fileVolume, otherVolume); !hasText(err, "read-only") {
		t.Errorf("to a read-only one: %v", err)
	}
	w.changeVolume(otherVolume, func(v *cinder.Volume) { v.ReadOnly = false })
	w.must(w.SwapVolume(t.Context(), id, fileVolume, otherVolume))
	w.waitAll()
	w.agrees(id)
}

func (w *world) changeVolume(id string, change func(*cinder.Volume)) {
	w.t.Helper()
	w.must(w.agent.store.Update(context.Background(), func(tx compute.Writer) error {
		v, err := tx.Volume(id)
		change(&v)
		return errors.Join(err, tx.PutVolume(v))
	}))
}

func TestVolumeRequestsRefused(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	other := active(w)
	w.changeVolume(iscsiVolume, func(v *cinder.Volume) { v.ProjectID = "another" })
	for name, c := range map[string]struct {
		call func() error
		text string
	}{
		"attached here":     {func() error { return attachTo(w, id, fileVolume) }, "attached to server"},
		"attached there":    {func() error { return attachTo(w, other, fileVolume) }, "status must be available"},
		"another project's": {func() error { return attachTo(w, id, iscsiVolume) }, "could not be found"},
		"no such volume":    {func() error { return attachTo(w, id, imageID) }, "could not be found"},
		"no such server":    {func() error { return attachTo(w, imageID, otherVolume) }, "not found"},
		"no such bus": {func() error {
			_, err := w.AttachVolume(t.Context(), id, compute.BlockDeviceRequest{VolumeID: otherVolume, Bus: "xen"})
			return err
		}, "no such bus"},
		"detach what it has not": {func() error { return w.DetachVolume(t.Context(), other, fileVolume) }, "it has no volume"},
		"swap what it has not":   {func() error { return w.SwapVolume(t.Context(), other, fileVolume, otherVolume) }, "it has no volume"},
		"swap for the same":      {func() error { return w.SwapVolume(t.Context(), id, fileVolume, fileVolume) }, "attached to server"},
		"extend what it has not": {func() error { return w.ExtendAttached(t.Context(), other, fileVolume) }, "it has no volume"},
		"keep what it has not": {func() error {
			_, err := w.KeepVolume(t.Context(), other, fileVolume, true)
			return err
		}, "it has no volume"},
		"boot from nothing": {func() error { return createWith(w, "", compute.BlockDeviceRequest{VolumeID: otherVolume}) }, "neither an image nor a volume"},
		"boot from two": {func() error {
			return createWith(w, imageID, compute.BlockDeviceRequest{VolumeID: otherVolume, BootIndex: new(int)})
		}, "from an image and from a volume"},
		"a volume twice": {func() error {
			return createWith(w, imageID, compute.BlockDeviceRequest{VolumeID: otherVolume}, compute.BlockDeviceRequest{VolumeID: otherVolume})
		}, "attached to server"},
		"without a size": {func() error {
			return createWith(w, imageID, compute.BlockDeviceRequest{Source: compute.VolumeSource{Blank: true}})
		}, "needs a size"},
		"no such image": {func() error {
			return createWith(w, "", compute.BlockDeviceRequest{Source: compute.VolumeSource{ImageID: fileVolume}, BootIndex: new(int)})
		}, "there is no image"},
		"a volume that is in use": {func() error { return createWith(w, imageID, compute.BlockDeviceRequest{VolumeID: fileVolume}) }, "status must be available"},
	} {
		if err := c.call(); !hasText(err, c.text) {
			t.Errorf("%s: error is %v, want %q", name, err, c.text)
		}
	}
	w.must(w.StopServer(t.Context(), id))
	w.await(id)
	if err := w.SwapVolume(t.Context(), id, fileVolume, otherVolume); !errors.Is(err, compute.ErrConflict) {
		t.Errorf("swap of a stopped server's volume: %v", err)
	}
	w.agrees(id)
	w.agrees(other)
}

// TestMaxDrives gives servers as many drives as the operator's limit allows. Those that have more after the limit was lowered keep them.
func TestMaxDrives(t *testing.T) {
	w := newWorld(t)
	w.storage = newStorage(t, w.hv)
	limit := 0
	w.options = func(o *compute.Options) { o.Guests.MaxDrives = limit }
	w.boot(nil)
	id := storing(w)
	drives := len(w.definition(id).Disks)
	attach := func() error { return attachTo(w, id, otherVolume) }
	restart := func(most int) {
		w.stop()
		limit = most
		w.boot(nil)
		w.waitAll()
	}
	for _, most := range []int{drives, drives - 1} {
		restart(most)
		for name, call := range map[string]func() error{
			"attach": attach,
			"create": func() error {
				return createWith(w, imageID, compute.BlockDeviceRequest{VolumeID: otherVolume}, compute.BlockDeviceRequest{VolumeID: iscsiVolume})
			},
		} {
			if err := call(); !errors.Is(err, compute.ErrForbidden) || !hasText(err, fmt.Sprintf("a guest has at most %d drives here", most)) {
				t.Errorf("%s with a limit of %d: error is %v", name, most, err)
			}
		}
		w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
		if s := w.agrees(id); s.VM != compute.Active {
			t.Errorf("with a limit of %d the server is %s after a hard reboot", most, s.VM)
		}
		if v := w.volumes()[otherVolume]; v.Status != cinder.Available {
			t.Errorf("a volume that no server got is %s", v.Status)
		}
	}
	if err := rebuild(w, id); !errors.Is(err, compute.ErrForbidden) {
		t.Errorf("rebuild beyond the limit: error is %v", err)
	}
	restart(drives + 1)
	w.must(attach())
	w.agrees(id)
	w.must(w.SwapVolume(t.Context(), id, fileVolume, iscsiVolume)) // has no drive more
	w.agrees(id)
}

// Without a volume service requests with volumes are refused.
func TestNoVolumeService(t *testing.T) {
	w := started(t, func(*compute.Options) {})
	id := active(w)
	for name, err := range map[string]error{
		"attach": attachTo(w, id, fileVolume), "detach": w.DetachVolume(t.Context(), id, fileVolume),
		"create": createWith(w, imageID, compute.BlockDeviceRequest{VolumeID: fileVolume}),
	} {
		if !errors.Is(err, compute.ErrInvalid) || !hasText(err, "no volume service") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func attachTo(w *world, id, volume string) error {
	_, err := w.AttachVolume(w.t.Context(), id, compute.BlockDeviceRequest{VolumeID: volume})
	return err
}

func createWith(w *world, image string, devices ...compute.BlockDeviceRequest) error {
	r := request()
	r.ImageID, r.BlockDevices = image, devices
	_, err := w.CreateServer(w.t.Context(), r)
	return err
}

func TestKeepVolume(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	d, err := w.KeepVolume(t.Context(), id, fileVolume, true)
	if err != nil || !d.DeleteOnTermination {
		t.Errorf("%+v, %v", d, err)
	}
	w.must(w.DeleteServer(t.Context(), id))
	w.waitAll()
	if _, there := w.volumes()[fileVolume]; there {
		t.Error("the volume is there")
	}
}

// The audit tells of a volume that somebody took out of a guest's definition.
func TestAuditOfVolumes(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	if found := w.Differences(); len(found) > 0 {
		t.Errorf("found %q", found)
	}
	w.must(w.hv.UnplugDiskByHand(id, "vdb"))
	found := w.Differences()
	if len(found) != 1 || !strings.Contains(found[0], "its guest's definition has no disk vdb, which is volume "+fileVolume) {
		t.Errorf("found %q", found)
	}
}

func TestVolumeUse(t *testing.T) {
	w := withVolumes(t)
	id := storing(w)
	use, err := w.VolumeUse(t.Context())
	if err != nil || len(use) != 1 || use[0].VolumeID != fileVolume || use[0].ServerID != id || use[0].Target != "vdb" {
		t.Errorf("%+v, %v", use, err)
	}
}
