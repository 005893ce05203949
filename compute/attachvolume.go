package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"compute-agent/blockdev"
	"compute-agent/cinder"
	"compute-agent/virt"
)

// volumeArgs are in the journal while something is done to a server's volume.
type volumeArgs struct {
	DeviceID string `json:"device_id"` // of the block device's record
	// OtherID is the record of the volume that a swap copies to, and of the one that it has copied.
	OtherID string `json:"other_id,omitempty"`
	// VolumeID is the volume that a swap copies to, or that has been extended.
	VolumeID string `json:"volume_id,omitempty"`
	// GiB is the size that the volume has been extended to.
	GiB int `json:"gib,omitempty"`
}

func (w *work) volumeArgs() (args volumeArgs, err error) {
	if err := json.Unmarshal(w.op.Args, &args); err != nil {
		return args, fmt.Errorf("read the operation's arguments: %w", err)
	}
	return args, nil
}

// device is the block device that the operation is about, as it is stored now. ErrNotFound when it is gone.
func (w *work) device(ctx context.Context) (BlockDevice, error) {
	args, err := w.volumeArgs()
	if err != nil {
		return BlockDevice{}, err
	}
	return w.deviceByID(ctx, args.DeviceID)
}

func (w *work) deviceByID(ctx context.Context, id string) (BlockDevice, error) {
	list, err := w.blockDevices(ctx)
	if err != nil {
		return BlockDevice{}, err
	}
	i := slices.IndexFunc(list, func(d BlockDevice) bool { return d.ID == id })
	if i < 0 {
		return BlockDevice{}, &Failure{Kind: ErrNotFound, Subject: "server " + w.op.ServerID, Reason: "it has no such volume any more"}
	}
	return list[i], nil
}

// deviceWith is a server's block device by its volume. ErrNotFound if the server has not got the volume.
func deviceWith(tx VolumeReader, serverID, volumeID string) (BlockDevice, error) {
	list, err := tx.BlockDevices(serverID)
	if err != nil {
		return BlockDevice{}, err
	}
	i := slices.IndexFunc(list, func(d BlockDevice) bool { return d.VolumeID == volumeID && !d.spare() })
	if i < 0 {
		return BlockDevice{}, &Failure{Kind: ErrNotFound, Subject: "server " + serverID, Reason: "it has no volume " + abridge(volumeID)}
	}
	return list[i], nil
}

// AttachVolume reserves a volume for a server and stores the intent; it returns with the name that the guest will have it by. What is
// then done shows in the volume's status: in-use, or available again when this host or the guest cannot have it. The errors are those of the volume service, ErrInvalid for
// what no guest can have, and ErrConflict when the server is in no state for it or has the volume already.
func (m *Manager) AttachVolume(ctx context.Context, serverID string, want BlockDeviceRequest) (d BlockDevice, err error) {
	if err := m.canPlugDisks(); err != nil {
		return d, err
	}
	on, err := m.machine()
	if err != nil {
		return d, &Failure{Kind: ErrUnavailable, Reason: "the hypervisor does not answer", Err: err}
	}
	err = m.inTurn(ctx, serverID, OpAttachVolume, func(tx Writer, s Server) (json.RawMessage, error) {
		if err := admit(CmdAttachVolume, s); err != nil {
			return nil, err
		}
		if d, err = m.addVolume(tx, s, want, on); err != nil {
			return nil, err
		}
		return json.Marshal(volumeArgs{DeviceID: d.ID})
	})
	return d, err
}

// canPlugDisks says why no server of this agent can get another volume, or give one back.
func (m *Manager) canPlugDisks() error {
	if err := m.canConnect(); err != nil {
		return err
	}
	_, err := m.diskPlugger()
	return err
}

func (m *Manager) diskPlugger() (virt.DiskPlugger, error) {
	p, can := m.driver.(virt.DiskPlugger)
	if !can {
		return nil, &Failure{Kind: ErrInvalid, Reason: "the hypervisor cannot plug disks into guests"}
	}
	return p, nil
}

// turnTime is how long a command about a volume waits for those before it on the same server, as Nova's does for its compute host.
const turnTime = time.Minute

// inTurn is beginWith for commands that users send several of at once for one server: each waits until those before it are done. What is
// under way otherwise is a conflict.
func (m *Manager) inTurn(ctx context.Context, serverID string, kind OperationKind, accept func(Writer, Server) (json.RawMessage, error)) error {
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	for {
		var busy bool
		_, err := m.beginWith(ctx, serverID, kind, func(tx Writer, s Server) (json.RawMessage, error) {
			busy = slices.Contains(tasksInTurn, s.Task)
			return accept(tx, s)
		})
		if err == nil || !busy || !errors.Is(err, ErrConflict) || m.open() != nil {
			return err
		}
		if m.Wait(ctx, serverID) != nil {
			return err
		}
	}
}

// tasksInTurn are done soon, and others wait for them.
var tasksInTurn = []TaskState{TaskAttachingVolume, TaskDetachingVolume, TaskDisconnectingVolume, TaskExtendingVolume, TaskAttachingInterface, TaskDetachingInterface}

// addVolume makes a volume a server's, and says whether its guest could then be defined.
func (m *Manager) addVolume(tx Writer, s Server, want BlockDeviceRequest, on machine) (d BlockDevice, err error) {
	list, err := tx.BlockDevices(s.ID)
	if err != nil {
		return d, err
	}
	d = newDevice(s.ID, want, list)
	if err := m.reserveVolume(tx, s.ProjectID, &d); err != nil {
		return d, err
	}
	if _, err := m.fill(tx, s.ID, &on); err != nil {
		return d, err
	}
	on.volumes = slices.DeleteFunc(list, BlockDevice.spare)
	on = on.limited()
	place, err := on.placeFor(s, d)
	if err != nil {
		return d, err
	}
	d = d.at(place)
	on.volumes = append(on.volumes, d)
	if _, err := buildSpec(s, m.disks.Files(s), on); err != nil {
		return d, err
	}
	return d, alreadyHas(tx.PutBlockDevice(d))
}

// alreadyHas gives the store's error the kind that a front door knows.
func alreadyHas(err error) error {
	if errors.Is(err, ErrExists) {
		return &Failure{Kind: errors.Join(ErrConflict, err), Reason: err.Error()}
	}
	return err
}

// fill adds to a machine what a server's records say, and returns its claim.
func (m *Manager) fill(tx Reader, serverID string, on *machine) (claim Claim, err error) {
	claim, on.cells = m.ledger.place(serverID)
	on.placed, on.devices = claim.NUMA, guestDevices(claim.PCI)
	if on.ports, err = guestPorts(tx, serverID); err != nil {
		return claim, err
	}
	on.volumes, err = guestVolumes(tx, serverID)
	return claim, err
}

// newDevice is the record of a volume that a server is to get, after those that it has.
func newDevice(serverID string, want BlockDeviceRequest, others []BlockDevice) BlockDevice {
	d := BlockDevice{
		ServerID: serverID, ID: newID(), VolumeID: want.VolumeID, AttachmentID: newID(), Name: blockdev.Strip(want.Device), Bus: want.Bus, Kind: want.Kind,
		BootIndex: want.BootIndex, DeleteOnTermination: want.DeleteOnTermination, Tag: want.Tag, SizeGiB: want.SizeGiB, Source: want.Source,
	}
	for _, o := range others {
		d.Index = max(d.Index, o.Index+1)
	}
	return d
}

// reserveVolume reserves a volume that is there, and notes what its server has to know of it.
func (m *Manager) reserveVolume(tx Writer, projectID string, d *BlockDevice) error {
	v, err := m.opt.VolumeService.reserve(tx, d.AttachmentID, d.VolumeID, d.ServerID, projectID)
	if err != nil {
		return err
	}
	d.note(v)
	return nil
}

// note takes down what a volume is.
func (d *BlockDevice) note(v cinder.Volume) {
	d.SizeGiB, d.Multiattach, d.ReadOnly, d.Encryption = v.SizeGiB, v.Multiattach, v.ReadOnly, v.Encryption
	if d.root() {
		d.Image = v.ImageMetadata
	}
}

// DetachVolume takes a volume away from a server: out of its guest first, which has to let go of it, and then from the host. A guest that does not
// let go keeps the volume. ErrNotFound when the server has not got it, ErrInvalid for the one that it boots from.
func (m *Manager) DetachVolume(ctx context.Context, serverID, volumeID string) error {
	if err := m.canPlugDisks(); err != nil {
		return err
	}
	return m.inTurn(ctx, serverID, OpDetachVolume, func(tx Writer, s Server) (json.RawMessage, error) {
		d, err := deviceWith(tx, serverID, volumeID)
		if err != nil {
			return nil, err
		}
		if err := admit(CmdDetachVolume, s); err != nil {
			return nil, err
		}
		if d.root() {
			return nil, invalid("volume", "Cannot detach a root device volume")
		}
		if err := m.opt.VolumeService.beginDetaching(tx, d.AttachmentID); err != nil {
			return nil, err
		}
		return json.Marshal(volumeArgs{DeviceID: d.ID})
	})
}

// KeepVolume says whether a server's volume is deleted with it.
func (m *Manager) KeepVolume(ctx context.Context, serverID, volumeID string, deleteOnTermination bool) (d BlockDevice, err error) {
	err = m.store.Update(context.WithoutCancel(ctx), func(tx Writer) error {
		if _, err := tx.Server(serverID); err != nil {
			return err
		}
		if d, err = deviceWith(tx, serverID, volumeID); err != nil {
			return err
		}
		d.DeleteOnTermination = deleteOnTermination
		return tx.PutBlockDevice(d)
	})
	return d, err
}

// attachVolumeProcedure has the volume on the host before the guest has it.
func (m *Manager) attachVolumeProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "connect", task: TaskAttachingVolume, do: doConnectVolume, undo: doGiveVolumeBack},
			{name: "plug", task: TaskAttachingVolume, do: doPlugVolume, undo: doPullVolume},
		},
		keeps: true, patience: m.opt.OperationTimeout,
	}
}

// detachVolumeProcedure can be replaced by a hard reboot while it waits for the guest, and not once the guest has let go.
func (m *Manager) detachVolumeProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "unplug", task: TaskDetachingVolume, do: doUnplugVolume, undo: doKeepVolume},
			{name: "disconnect", task: TaskDisconnectingVolume, do: doDisconnectVolume},
		},
		keeps: true, patience: m.opt.OperationTimeout,
	}
}

func doConnectVolume(ctx context.Context, w *work) error {
	d, err := w.device(ctx)
	if err == nil {
		_, err = w.connectVolume(ctx, d)
	}
	return err
}

// doGiveVolumeBack takes a volume away that no guest has.
func doGiveVolumeBack(ctx context.Context, w *work) error {
	d, err := w.device(ctx)
	if err != nil {
		return ignoreMissing(err)
	}
	return w.disconnectVolume(ctx, d, false)
}

// doPlugVolume gives the guest the disk that its definition would have if it were made now, and tells the service.
func doPlugVolume(ctx context.Context, w *work) error {
	d, err := w.device(ctx)
	if err != nil {
		return err
	}
	if err := w.plugVolume(ctx, d); err != nil {
		return err
	}
	return volumesCall(w.m.opt.Volumes.Complete(ctx, d.AttachmentID))
}

// plugVolume gives the guest a volume's disk. One that is not there gets it when it is made.
func (w *work) plugVolume(ctx context.Context, d BlockDevice) error {
	plugger, err := w.m.diskPlugger()
	if err != nil {
		return err
	}
	disk, err := w.defineDisk(ctx, d)
	if err != nil {
		return err
	}
	err = w.m.driverCall(func(ctx context.Context) error { return plugger.PlugDisk(ctx, w.op.ServerID, disk) })
	switch {
	case errors.Is(err, virt.ErrExists), errors.Is(err, virt.ErrNotFound):
		return nil
	case errors.Is(err, virt.ErrBusy):
		return &Failure{Kind: errVolume, Subject: "volume " + d.VolumeID, Reason: "somebody else holds it", Err: plain(err)}
	}
	return err
}

// defineDisk has a volume in what the guest is made of.
func (w *work) defineDisk(ctx context.Context, d BlockDevice) (virt.Disk, error) {
	d.Attached = true
	if err := w.putDevice(ctx, d, nil); err != nil {
		return virt.Disk{}, err
	}
	now, _, err := w.m.define(w.server)
	if err != nil {
		return virt.Disk{}, err
	}
	i := slices.IndexFunc(now.Disks, hasTarget(d.Name))
	if i < 0 {
		return virt.Disk{}, fmt.Errorf("server %s: its guest has no place for %s", w.op.ServerID, d.Name)
	}
	disk := now.Disks[i]
	err = w.redefine(ctx, func(made *virt.Spec) {
		at := slices.IndexFunc(made.Disks, hasTarget(d.Name))
		if at < 0 {
			made.Disks = append(made.Disks, disk)
			return
		}
		if made.Disks[at].Serial == disk.Serial { // after a swap the guest calls it as it called the volume before
			disk.Alias = made.Disks[at].Alias
		}
		made.Disks[at] = disk
	})
	return disk, err
}

func hasTarget(name string) func(virt.Disk) bool {
	return func(d virt.Disk) bool { return d.Target == name }
}

// doPullVolume takes away what doPlugVolume gave, for as long as it takes the guest to let go.
func doPullVolume(ctx context.Context, w *work) error {
	d, err := w.device(ctx)
	if err != nil {
		return ignoreMissing(err)
	}
	if err := w.unplugVolume(ctx, d, w.m.opt.DetachTimeout); err != nil {
		return err
	}
	return w.undefineDisk(ctx, d)
}

// undefineDisk has a volume no more in what the guest is made of.
func (w *work) undefineDisk(ctx context.Context, d BlockDevice) error {
	d.Attached = false
	if err := w.putDevice(ctx, d, nil); err != nil {
		return err
	}
	return w.redefine(ctx, func(made *virt.Spec) { made.Disks = slices.DeleteFunc(made.Disks, hasTarget(d.Name)) })
}

func (w *work) unplugVolume(ctx context.Context, d BlockDevice, patience time.Duration) error {
	plugger, err := w.m.diskPlugger()
	if err != nil {
		return err
	}
	opt := virt.UnplugOptions{Patience: patience, Retry: w.m.opt.DetachTimeout}
	// It ends early when ctx does, with the guest as it then is: what takes its place must not wait for the guest.
	call, cancel := context.WithTimeout(ctx, opt.Patience+w.m.opt.CallTimeout)
	defer cancel()
	return ignoreNotFound(plugger.UnplugDisk(call, w.op.ServerID, d.Name, opt))
}

// doUnplugVolume asks the guest to let go for as long as Nova would. What the guest is made of still has the disk: if the guest is made again in the
// place of this operation, it is whole.
func doUnplugVolume(ctx context.Context, w *work) error {
	d, err := w.device(ctx)
	if err != nil {
		return ignoreMissing(err)
	}
	err = w.unplugVolume(ctx, d, time.Duration(w.m.opt.DetachAttempts)*w.m.opt.DetachTimeout)
	if errors.Is(err, virt.ErrBusy) { // which was tried for long enough
		return &Failure{Kind: ErrConflict, Subject: "server " + w.op.ServerID, Reason: "its guest does not let go of the volume", Err: plain(err)}
	}
	return err
}

// doDisconnectVolume takes away from the host what the guest has let go of.
func doDisconnectVolume(ctx context.Context, w *work) error {
	d, err := w.device(ctx)
	if err != nil {
		return ignoreMissing(err)
	}
	if err := w.undefineDisk(ctx, d); err != nil {
		return err
	}
	d.Attached = false
	return w.disconnectVolume(ctx, d, false)
}

// doKeepVolume leaves a server the volume that was to be taken away.
func doKeepVolume(ctx context.Context, w *work) error {
	d, err := w.device(ctx)
	if err != nil {
		return ignoreMissing(err)
	}
	if d, err = w.connectVolume(ctx, d); err != nil {
		return err
	}
	if err := w.plugVolume(ctx, d); err != nil {
		return err
	}
	return w.save(ctx, func(*Server) {}, func(tx Writer) error { return w.m.rollDetaching(tx, d) })
}

// abandonDetach leaves a server the volume whose detaching another operation takes the place of.
func (m *Manager) abandonDetach(tx Writer, op Operation) error {
	var args volumeArgs
	if err := json.Unmarshal(op.Args, &args); err != nil {
		return fmt.Errorf("read the operation's arguments: %w", err)
	}
	list, err := tx.BlockDevices(op.ServerID)
	if err != nil {
		return err
	}
	for _, d := range list {
		if d.ID == args.DeviceID {
			return m.rollDetaching(tx, d)
		}
	}
	return nil
}

// rollDetaching says that a server keeps a volume.
func (m *Manager) rollDetaching(tx Writer, d BlockDevice) error {
	if m.opt.VolumeService == nil {
		return nil
	}
	err := m.opt.VolumeService.rollDetaching(tx, d.AttachmentID)
	if isGone(err) {
		return nil
	}
	return err
}
