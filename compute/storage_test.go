package compute_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/store"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// The volumes that the tests' storage has before anything is done to it.
const (
	fileVolume  = "11111111-0000-4000-8000-000000000001"
	otherVolume = "11111111-0000-4000-8000-000000000002"
	iscsiVolume = "11111111-0000-4000-8000-000000000003" // which the hypervisor itself reaches, with a password
)

// storage is a storage system and what a host has connected of it. It outlives the agents of its world.
type storage struct {
	hv  *fake.Hypervisor
	dir string

	mu        sync.Mutex
	boots     int                       // of the host: devices have other names after each
	connected map[string]string         // by volume: its device
	identity  map[string]string         // by volume: what its disk says, where that is not the volume's own
	refuse    error                     // what the host says of whatever it is to connect
	gone      bool                      // the targets
	holder    string                    // of all devices, beside guests
	grown     map[string]int64          // by volume: bytes
	asks      map[string]map[string]any // by volume: what its connection_info says beside the way to it
}

func newStorage(t *testing.T, hv *fake.Hypervisor) *storage {
	return &storage{hv: hv, dir: scratch(t), connected: map[string]string{}, identity: map[string]string{}, grown: map[string]int64{}, asks: map[string]map[string]any{}}
}

const volumeBytes = 1 << 20

func (s *storage) make(id string) error {
	f, err := os.OpenFile(filepath.Join(s.dir, id), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(volumeBytes), f.Close())
}

// reboot is a restart of the host: no device is left, and no secret.
func (s *storage) reboot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boots++
	clear(s.connected)
	s.hv.ForgetSecrets()
}

// list is what the host has connected.
func (s *storage) list() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.connected {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// held says whether a guest that runs has a file open.
func (s *storage) held(path string) bool {
	driver := s.hv.Open(fake.Options{})
	defer func() { _ = driver.Close() }()
	guests, _ := driver.Guests(context.Background())
	for _, g := range guests {
		disks, _ := driver.Disks(context.Background(), g.ID)
		if slices.ContainsFunc(disks, func(d virt.PluggedDisk) bool { return d.Live && path != "" && d.Source.File == path }) {
			return true
		}
	}
	return false
}

// Properties implements compute.VolumeHost.
func (s *storage) Properties(context.Context) (connector.Properties, error) {
	return connector.Properties{Host: "host", IP: "192.0.2.1", Initiator: "iqn.2026-11.org.example:host", OSType: "linux", Platform: "x86_64"}, nil
}

// Connect implements compute.VolumeHost.
func (s *storage) Connect(_ context.Context, r compute.VolumeConnection) (d connector.Device, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	identity := s.identity[r.VolumeID]
	if identity == "" {
		identity = "uuid." + r.VolumeID
	}
	switch {
	case s.refuse != nil:
		return d, s.refuse
	case r.Known != "" && string(r.Known) != identity:
		return d, &connector.Error{Reason: connector.IdentityMismatch, Field: "identity", Value: identity, Rule: "the volume was " + string(r.Known)}
	}
	d = connector.Device{Format: "raw", Identity: connector.Identity(identity), Bytes: max(volumeBytes, s.grown[r.VolumeID])}
	if r.Info.ISCSI != nil {
		target := r.Info.ISCSI.Targets[0]
		d.Network = &connector.Network{Protocol: "iscsi", Name: target.IQN + "/1", Hosts: []connector.Address{{Host: "192.0.2.9", Port: 3260}},
			User: r.Info.ISCSI.Auth.User, Usage: "iscsi", Initiator: "iqn.2026-11.org.example:host"}
		s.connected[r.VolumeID] = ""
		return d, nil
	}
	d.Path = s.connected[r.VolumeID]
	if d.Path == "" {
		made := filepath.Join(s.dir, filepath.Base(r.Info.Path))
		d.Path = fmt.Sprintf("%s.%d", made, s.boots)
		if err := os.Link(made, d.Path); err != nil && !errors.Is(err, os.ErrExist) {
			return d, err
		}
		s.connected[r.VolumeID] = d.Path
	}
	return d, nil
}

// Disconnect implements compute.VolumeHost.
func (s *storage) Disconnect(_ context.Context, r compute.VolumeConnection) error {
	s.mu.Lock()
	path, holder := s.connected[r.VolumeID], s.holder
	s.mu.Unlock()
	if holder != "" {
		return &connector.Error{Reason: connector.InUse, Field: "device", Value: path, Rule: holder + " holds it"}
	}
	if s.held(path) {
		return &connector.Error{Reason: connector.InUse, Field: "device", Value: path, Rule: "a guest has it open"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connected, r.VolumeID)
	if s.gone {
		return &connector.Error{Reason: connector.Unreachable, Rule: "the target does not answer"}
	}
	return nil
}

// Extend implements compute.VolumeHost.
func (s *storage) Extend(_ context.Context, r compute.VolumeConnection) (connector.Device, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := r.Device
	d.Bytes = max(2*volumeBytes, s.grown[r.VolumeID])
	s.grown[r.VolumeID] = d.Bytes
	return d, s.refuse
}

// mortalHost is the storage for as long as its agent lives.
type mortalHost struct {
	*storage
	fate *fate
}

func (h *mortalHost) Connect(ctx context.Context, r compute.VolumeConnection) (d connector.Device, err error) {
	err = h.fate.around("connecting a volume", func() (err error) {
		d, err = h.storage.Connect(ctx, r)
		return err
	})
	return d, err
}

func (h *mortalHost) Disconnect(ctx context.Context, r compute.VolumeConnection) error {
	return h.fate.around("disconnecting a volume", func() error { return h.storage.Disconnect(ctx, r) })
}

func (h *mortalHost) Extend(ctx context.Context, r compute.VolumeConnection) (d connector.Device, err error) {
	err = h.fate.around("extending a volume", func() (err error) {
		d, err = h.storage.Extend(ctx, r)
		return err
	})
	return d, err
}

// mortalVolumes is a volume service as another host would be.
type mortalVolumes struct {
	storage *storage
	store   *store.Store
	service *compute.VolumeService
	fate    *fate
}

func (v *mortalVolumes) call(what string, effect func(tx compute.Writer) error) error {
	return v.fate.around(what, func() error { return v.store.Update(context.Background(), effect) })
}

// turn gives an attachment another state.
func turnAttachment(tx compute.Writer, id string, change func(*cinder.Attachment)) error {
	a, err := tx.VolumeAttachment(id)
	if err != nil {
		return err
	}
	change(&a)
	if err := tx.PutVolumeAttachment(a); err != nil {
		return err
	}
	vol, err := tx.Volume(a.VolumeID)
	if err != nil {
		return err
	}
	all, err := tx.AttachmentsOf(a.VolumeID)
	vol.Status = vol.Settled(all)
	return errors.Join(err, tx.PutVolume(vol))
}

func (v *mortalVolumes) Connect(_ context.Context, attachmentID string, _ connector.Properties, device string) (raw connector.Raw, err error) {
	err = v.call("asking for the way to a volume", func(tx compute.Writer) error {
		a, err := tx.VolumeAttachment(attachmentID)
		if err != nil {
			return err
		}
		raw = v.storage.way(a.VolumeID)
		return turnAttachment(tx, attachmentID, func(a *cinder.Attachment) {
			a.Device = device
			if a.Status == cinder.AttachmentReserved {
				a.Status = cinder.AttachmentAttaching
			}
		})
	})
	return raw, err
}

func (s *storage) way(id string) connector.Raw {
	data := map[string]any{"device_path": "/volumes/" + id}
	kind := "file"
	if id == iscsiVolume {
		kind = "iscsi"
		data = map[string]any{"target_portal": "192.0.2.9:3260", "target_iqn": "iqn.2026-11.org.example:" + id, "target_lun": 1,
			"auth_method": "CHAP", "auth_username": "user", "auth_password": "secret-of-chap"}
	}
	maps.Copy(data, s.asks[id])
	raw, err := json.Marshal(map[string]any{"driver_volume_type": kind, "data": data})
	if err != nil {
		panic(err)
	}
	return raw
}

func (v *mortalVolumes) Complete(_ context.Context, attachmentID string) error {
	return v.call("completing an attachment", func(tx compute.Writer) error {
		return turnAttachment(tx, attachmentID, func(a *cinder.Attachment) { a.Status = cinder.AttachmentAttached })
	})
}

func (v *mortalVolumes) Remove(_ context.Context, attachmentID string) error {
	return v.call("removing an attachment", func(tx compute.Writer) error { return v.service.ReleaseReservation(tx, attachmentID) })
}

func (v *mortalVolumes) Make(_ context.Context, id string, s compute.Server, d compute.BlockDevice) error {
	return v.call("making a volume", func(tx compute.Writer) error {
		if _, err := tx.Volume(id); err == nil {
			return nil
		}
		return errors.Join(v.storage.make(id), tx.PutVolume(cinder.Volume{ID: id, ProjectID: s.ProjectID, SizeGiB: d.SizeGiB, Status: cinder.Available}))
	})
}

func (v *mortalVolumes) Attach(_ context.Context, attachmentID, volumeID, serverID string) error {
	return v.call("reserving a volume", func(tx compute.Writer) error { return v.service.Reserve(tx, attachmentID, volumeID, serverID) })
}

func (v *mortalVolumes) Delete(_ context.Context, volumeID string) error {
	return v.call("deleting a volume", func(tx compute.Writer) error {
		if err := tx.DeleteVolume(volumeID); !errors.Is(err, compute.ErrNotFound) {
			return err
		}
		return nil
	})
}

func (v *mortalVolumes) Key(context.Context, string) (connector.Secret, error) {
	return "passphrase", nil
}

func (v *mortalVolumes) Extended(_ context.Context, volumeID, _ string, failure error) error {
	return v.call("saying that a volume is extended", func(tx compute.Writer) error {
		vol, err := tx.Volume(volumeID)
		if err != nil {
			return err
		}
		vol.SizeGiB, vol.NewGiB, vol.Status = max(vol.SizeGiB, vol.NewGiB), 0, cinder.InUse
		if failure != nil {
			vol.Status, vol.Problem = cinder.ErrorExtending, failure.Error()
		}
		return tx.PutVolume(vol)
	})
}

// provide gives the agent the storage.
func (w *world) provide(opt *compute.Options, st *store.Store, f *fate) {
	opt.VolumeService = compute.NewVolumeService(compute.VolumeOptions{Store: opt.Store})
	opt.Volumes = &mortalVolumes{w.storage, st, opt.VolumeService, f}
	opt.VolumeHost = &mortalHost{w.storage, f}
}

// fillStorage makes the volumes, once.
func (w *world) fillStorage() {
	w.t.Helper()
	for _, id := range []string{fileVolume, otherVolume, iscsiVolume} {
		w.must(w.storage.make(id))
		w.must(w.agent.store.Update(context.Background(), func(tx compute.Writer) error {
			if _, err := tx.Volume(id); !errors.Is(err, compute.ErrNotFound) {
				return err
			}
			return tx.PutVolume(cinder.Volume{ID: id, ProjectID: "project", SizeGiB: 1, Status: cinder.Available, Bootable: id == otherVolume,
				ImageMetadata: map[string]string{"image_name": "boots", "min_ram": "32", "hw_disk_bus": "scsi"}})
		}))
	}
}

// volumes reads the store past the agent's fate.
func (w *world) volumes() map[string]cinder.Volume {
	w.t.Helper()
	all := map[string]cinder.Volume{}
	w.must(w.agent.store.View(context.Background(), func(tx compute.Reader) error {
		list, err := tx.Volumes()
		for _, v := range list {
			all[v.ID] = v
		}
		return err
	}))
	return all
}

// devices are all servers' block devices, and the attachments by ID.
func (w *world) blockDevices() (all []compute.BlockDevice, attachments map[string]cinder.Attachment) {
	w.t.Helper()
	attachments = map[string]cinder.Attachment{}
	w.must(w.agent.store.View(context.Background(), func(tx compute.Reader) error {
		var list []cinder.Attachment
		var err, listErr error
		all, err = tx.AllBlockDevices()
		list, listErr = tx.VolumeAttachments()
		for _, a := range list {
			attachments[a.ID] = a
		}
		return errors.Join(err, listErr)
	}))
	return all, attachments
}

// auditVolumes compares what servers have with what the volume service says, what the host has connected and what guests have.
func (w *world) auditVolumes() {
	w.t.Helper()
	all, attachments := w.blockDevices()
	volumes := w.volumes()
	needed, kept := map[string]bool{}, w.secrets() // by volume: whether it must be connected, and its secret be kept
	for _, d := range all {
		state := w.guests()[d.ServerID].State
		needed[d.VolumeID] = state == virt.PowerRunning || state == virt.PowerPaused
		if s, err := w.Server(context.Background(), d.ServerID); err != nil || s.VM == compute.Error {
			delete(attachments, d.AttachmentID) // its delete or its build failed in the middle, and is asked for again
			delete(volumes, d.VolumeID)
			continue
		}
		if !d.Attached || d.Name == "" || d.Connection == nil {
			w.t.Errorf("half a block device is left: %+v", d)
		}
		if a := attachments[d.AttachmentID]; a.Status != cinder.AttachmentAttached || a.VolumeID != d.VolumeID || a.Device != "/dev/"+d.Name {
			w.t.Errorf("volume %s of the server has attachment %+v", d.VolumeID, a)
		}
		if s := volumes[d.VolumeID].Status; s != cinder.InUse && s != cinder.ErrorExtending {
			w.t.Errorf("volume %s of the server is %s", d.VolumeID, s)
		}
		delete(attachments, d.AttachmentID)
		delete(volumes, d.VolumeID)
		w.auditDisk(d)
	}
	connected := w.storage.list()
	for id, must := range needed {
		if must && !slices.Contains(connected, id) {
			w.t.Errorf("a guest runs with volume %s, which the host has not connected", id)
		}
		if must && id == iscsiVolume && kept[compute.SecretUUID(id, "iscsi")] != id {
			w.t.Errorf("a guest runs with volume %s, whose secret is not kept", id)
		}
	}
	for _, id := range connected {
		if _, has := needed[id]; !has {
			w.t.Errorf("the host has connected volume %s, which no server has", id)
		}
	}
	for uuid, id := range kept {
		if _, has := needed[id]; !has {
			w.t.Errorf("the hypervisor keeps secret %s for volume %s, which no server has", uuid, id)
		}
	}
	for _, v := range volumes {
		if v.Status != cinder.Available && v.Status != cinder.ErrorExtending {
			w.t.Errorf("volume %s is %s, and no server has it", v.ID, v.Status)
		}
	}
	if len(attachments) > 0 {
		w.t.Errorf("attachments are left: %+v", attachments)
	}
}

// secrets are those that the hypervisor keeps, with the volumes that they are for.
func (w *world) secrets() map[string]string {
	w.t.Helper()
	driver := w.hv.Open(fake.Options{})
	defer func() { _ = driver.Close() }()
	kept, err := driver.Secrets(context.Background())
	w.must(err)
	return kept
}

// auditDisk looks for a volume among the disks of its server's guest: it is there once, live and defined, or there is no guest.
func (w *world) auditDisk(d compute.BlockDevice) {
	w.t.Helper()
	g, there := w.guests()[d.ServerID]
	if !there {
		return
	}
	driver := w.hv.Open(fake.Options{})
	defer func() { _ = driver.Close() }()
	disks, err := driver.Disks(context.Background(), d.ServerID)
	w.must(err)
	n := 0
	for _, p := range disks {
		if p.Serial != d.VolumeID {
			continue
		}
		n++
		if p.Target != d.Name || !p.Defined || p.Live != (g.State != virt.PowerShutdown) || p.Live && p.Source.File != d.Device.Path {
			w.t.Errorf("the %v guest has volume %s as %+v, its record is %+v", g.State, d.VolumeID, p, d)
		}
	}
	want := 1
	if s, err := w.Server(context.Background(), d.ServerID); err == nil && s.Rescue != nil && !s.Rescue.Stable {
		want = 0
	}
	if n != want {
		w.t.Errorf("the guest has volume %s %d times", d.VolumeID, n)
	}
}

// attachVolume gives a server a volume, and waits until it has.
func (w *world) attachVolume(id, volumeID string) compute.BlockDevice {
	w.t.Helper()
	d, err := w.AttachVolume(w.t.Context(), id, compute.BlockDeviceRequest{VolumeID: volumeID})
	w.must(err)
	w.await(id)
	return d
}

func withVolumes(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.storage = newStorage(t, w.hv)
	w.boot(nil)
	return w
}

// storing is an active server with a volume.
func storing(w *world) string {
	id := active(w)
	w.attachVolume(id, fileVolume)
	return id
}

// storingRebooted is a stopped server with volumes after the host was restarted.
func storingRebooted(w *world) string {
	id := storing(w)
	w.attachVolume(id, iscsiVolume)
	w.must(w.StopServer(w.t.Context(), id))
	w.await(id)
	w.storage.reboot()
	return id
}

// bootVolume asks for a server that boots from a volume that is made for it, and has another one.
func bootVolume() compute.CreateRequest {
	r := request()
	r.ImageID = ""
	r.BlockDevices = []compute.BlockDeviceRequest{
		{Source: compute.VolumeSource{ImageID: imageID}, SizeGiB: 2, BootIndex: new(int), DeleteOnTermination: true},
		{VolumeID: fileVolume},
	}
	return r
}

func bootsFromVolume(w *world) string {
	s, err := w.CreateServer(w.t.Context(), bootVolume())
	w.must(err)
	return w.await(s.ID).ID
}

func attachISCSI(w *world, id string) error {
	_, err := w.AttachVolume(w.t.Context(), id, compute.BlockDeviceRequest{VolumeID: iscsiVolume})
	return err
}

// grow is what the volume service does with a volume that a server has: it is larger at its storage, and the server is told.
func grow(w *world, id string) error { return growVolume(w, id, fileVolume) }

func growVolume(w *world, id, volumeID string) error {
	turn := func(status cinder.Status, gib int) {
		w.must(w.agent.store.Update(context.Background(), func(tx compute.Writer) error {
			v, err := tx.Volume(volumeID)
			v.NewGiB, v.Status = gib, status
			return errors.Join(err, tx.PutVolume(v))
		}))
	}
	turn(cinder.Extending, 2)
	err := w.ExtendAttached(w.t.Context(), id, volumeID)
	if err != nil {
		turn(cinder.InUse, 0)
	}
	return err
}

func hasText(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }
