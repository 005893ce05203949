package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"compute-agent/virt"
)

// SwapVolume copies what is on one volume of a server to another one, and gives the server that in its place. It returns as soon as the request is
// stored; the volumes' status tells how it goes. ErrInvalid when the other volume is smaller, ErrConflict when the server does not run or others write the volume too.
func (m *Manager) SwapVolume(ctx context.Context, serverID, oldID, newID string) error {
	if err := m.canPlugDisks(); err != nil {
		return err
	}
	if _, err := m.diskCopier(); err != nil {
		return err
	}
	return m.inTurn(ctx, serverID, OpSwapVolume, func(tx Writer, s Server) (json.RawMessage, error) {
		d, err := deviceWith(tx, serverID, oldID)
		if err != nil {
			return nil, err
		}
		if err := admit(CmdSwapVolume, s); err != nil {
			return nil, err
		}
		other, err := m.addSpare(tx, s, d, newID)
		if err != nil {
			return nil, err
		}
		return json.Marshal(volumeArgs{DeviceID: d.ID, OtherID: other.ID, VolumeID: newID})
	})
}

func (m *Manager) diskCopier() (virt.DiskCopier, error) {
	c, can := m.driver.(virt.DiskCopier)
	if !can {
		return nil, &Failure{Kind: ErrInvalid, Reason: "the hypervisor cannot move guests' disks"}
	}
	return c, nil
}

// addSpare reserves the volume that a server's volume is to be copied to. The words are Nova's.
func (m *Manager) addSpare(tx Writer, s Server, d BlockDevice, volumeID string) (other BlockDevice, err error) {
	list, err := tx.BlockDevices(s.ID)
	if err != nil {
		return other, err
	}
	if err := m.opt.VolumeService.beginDetaching(tx, d.AttachmentID); err != nil {
		return other, err
	}
	writers, err := writersOf(tx, d.VolumeID)
	if err != nil {
		return other, err
	}
	if writers > 1 {
		return other, &Failure{Kind: ErrConflict, Subject: "server " + s.ID,
			Reason: "Swapping multi-attach volumes with more than one read/write attachment is not supported."}
	}
	other = newDevice(s.ID, BlockDeviceRequest{VolumeID: volumeID, Bus: d.Bus, Kind: d.Kind}, list)
	other.Replaces = d.Name
	if err := m.reserveVolume(tx, s.ProjectID, &other); err != nil {
		return other, err
	}
	switch {
	case other.SizeGiB < d.SizeGiB:
		return other, invalid("volumeId", "New volume must be the same size or larger.")
	case d.ReadOnly || other.ReadOnly: // a disk that runs cannot become another in this
		return other, invalid("volumeId", "a read-only volume cannot be swapped")
	case d.Multiattach != other.Multiattach:
		return other, invalid("volumeId", "one of the volumes is for several servers and the other is not")
	}
	return other, alreadyHas(tx.PutBlockDevice(other))
}

// writersOf counts the attachments that may write a volume.
func writersOf(tx VolumeReader, volumeID string) (n int, err error) {
	list, err := tx.AttachmentsOf(volumeID)
	for _, a := range list {
		if a.Mode != "ro" {
			n++
		}
	}
	return n, err
}

// swapVolumeProcedure has no patience: when the hypervisor does not answer it is not known which of the volumes the guest has.
func (m *Manager) swapVolumeProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "connect", task: TaskSwappingVolume, do: doConnectSpare, undo: doGiveSpareBack},
			{name: "copy", task: TaskSwappingVolume, do: doCopyVolume, undo: doAbortCopy},
			{name: "disconnect", task: TaskSwappingVolume, do: doReleaseCopied},
		},
		keeps: true,
	}
}

// spare is the other volume of a swap.
func (w *work) spare(ctx context.Context) (BlockDevice, error) {
	args, err := w.volumeArgs()
	if err != nil {
		return BlockDevice{}, err
	}
	return w.deviceByID(ctx, args.OtherID)
}

func doConnectSpare(ctx context.Context, w *work) error {
	other, err := w.spare(ctx)
	if err == nil {
		_, err = w.connectVolume(ctx, other)
	}
	return err
}

// doGiveSpareBack leaves the server with the volume that it had. Once the guest has the new one there is no way back, and what is left of the
// swap is done.
func doGiveSpareBack(ctx context.Context, w *work) error {
	switch done, err := w.exchanged(ctx); {
	case err != nil:
		return err
	case done:
		return doReleaseCopied(ctx, w)
	}
	other, err := w.spare(ctx)
	if err == nil {
		err = w.disconnectVolume(ctx, other, false)
	}
	if ignoreMissing(err) != nil {
		return err
	}
	d, err := w.device(ctx)
	if err != nil {
		return ignoreMissing(err)
	}
	return w.save(ctx, func(*Server) {}, func(tx Writer) error { return w.m.rollDetaching(tx, d) })
}

// doCopyVolume moves the guest's disk, and has the two volumes change places in the records. Done again after it was, it finds the disk moved.
func doCopyVolume(ctx context.Context, w *work) error {
	args, err := w.volumeArgs()
	if err != nil {
		return err
	}
	d, err := w.device(ctx)
	if err != nil || d.VolumeID == args.VolumeID {
		return err
	}
	other, err := w.spare(ctx)
	if err != nil {
		return err
	}
	disk, err := w.movedDisk(ctx, d, other)
	if err != nil {
		return err
	}
	if err := w.moveDisk(ctx, disk); err != nil {
		return err
	}
	return w.exchange(ctx, d, other, disk)
}

// exchanged says that the server has the new volume.
func (w *work) exchanged(ctx context.Context) (bool, error) {
	args, err := w.volumeArgs()
	if err != nil {
		return false, err
	}
	d, err := w.device(ctx)
	return err == nil && d.VolumeID == args.VolumeID, ignoreMissing(err)
}

// movedDisk is the guest's disk of a volume as it will be on another one.
func (w *work) movedDisk(ctx context.Context, d, other BlockDevice) (disk virt.Disk, err error) {
	made, err := w.m.definition(ctx, w.op.ServerID)
	if err != nil {
		return disk, err
	}
	i := slices.IndexFunc(made.Disks, hasTarget(d.Name))
	if i < 0 {
		return disk, &Failure{Kind: ErrConflict, Subject: "server " + w.op.ServerID, Reason: "its guest has no disk " + d.Name}
	}
	now, _, err := w.m.defineWith(w.server, func(list []BlockDevice) {
		if at := slices.IndexFunc(list, func(o BlockDevice) bool { return o.ID == d.ID }); at >= 0 {
			list[at] = d.with(other)
		}
	})
	if err != nil {
		return disk, err
	}
	at := slices.IndexFunc(now.Disks, hasTarget(d.Name))
	if at < 0 {
		return disk, fmt.Errorf("server %s: its guest has no place for %s", w.op.ServerID, d.Name)
	}
	is := now.Disks[at]
	disk = made.Disks[i]
	disk.Source, disk.Format, disk.Key, disk.Serial = is.Source, is.Format, is.Key, is.Serial
	disk.Tune, disk.BlockIO, disk.Discard = is.Tune, is.BlockIO, is.Discard
	disk.Cache, disk.IO, disk.DetectZeroes = is.Cache, is.IO, is.DetectZeroes
	return disk, nil
}

// with is a server's block device that has become another's volume.
func (d BlockDevice) with(other BlockDevice) BlockDevice {
	d.VolumeID, d.AttachmentID, d.Connection, d.Device = other.VolumeID, other.AttachmentID, other.Connection, other.Device
	d.SizeGiB, d.Multiattach, d.Encryption = other.SizeGiB, other.Multiattach, other.Encryption
	return d
}

// moveDisk copies. A hypervisor that says that it failed may have moved the disk all the same.
func (w *work) moveDisk(ctx context.Context, disk virt.Disk) error {
	copier, err := w.m.diskCopier()
	if err != nil {
		return err
	}
	err = copier.CopyDisk(ctx, w.op.ServerID, disk.Target, disk, w.tellProgress())
	if err == nil || ctx.Err() != nil || errors.Is(err, virt.ErrUnavailable) {
		return err
	}
	moved, lookErr := w.hasMoved(disk)
	switch {
	case errors.Is(lookErr, virt.ErrUnavailable):
		return lookErr // until it is known
	case lookErr == nil && moved:
		return nil
	}
	return plainFailure("server "+w.op.ServerID, "its volume could not be copied", err)
}

// doAbortCopy ends a copy that another agent began.
func doAbortCopy(ctx context.Context, w *work) error {
	copier, err := w.m.diskCopier()
	if err != nil {
		return err
	}
	d, err := w.device(ctx)
	if err != nil {
		return ignoreMissing(err)
	}
	return ignoreNotFound(w.m.driverCall(func(ctx context.Context) error { return copier.AbortCopy(ctx, w.op.ServerID, d.Name) }))
}

// plainFailure is one that is not tried again, whatever its cause.
func plainFailure(subject, reason string, err error) error {
	return &Failure{Kind: ErrConflict, Subject: subject, Reason: reason, Err: plain(err)}
}

// hasMoved looks where the guest's disk is.
func (w *work) hasMoved(disk virt.Disk) (moved bool, err error) {
	plugger, err := w.m.diskPlugger()
	if err != nil {
		return false, err
	}
	err = w.m.driverCall(func(ctx context.Context) error {
		list, err := plugger.Disks(ctx, w.op.ServerID)
		i := slices.IndexFunc(list, func(p virt.PluggedDisk) bool { return p.Target == disk.Target && p.Live })
		moved = i >= 0 && sameSource(list[i].Source, disk.Source)
		return err
	})
	return moved, err
}

// sameSource compares what two sources name; who logs in is no part of it.
func sameSource(a, b virt.Source) bool {
	if a.Network == nil || b.Network == nil {
		return reflect.DeepEqual(a, b)
	}
	return a.Network.Protocol == b.Network.Protocol && a.Network.Name == b.Network.Name && slices.Equal(a.Network.Hosts, b.Network.Hosts)
}

// tellProgress logs how far a copy is, at each tenth.
func (w *work) tellProgress() func(done, total uint64) {
	told := uint64(0)
	return func(done, total uint64) {
		if total == 0 {
			return
		}
		if tenth := min(done, total) / max(total/10, 1); tenth > told {
			told = tenth
			w.log.Info("volume is being copied", "done_bytes", done, "total_bytes", total)
		}
	}
}

// exchange has the server's record name the volume that the guest has now, and the spare one the volume that it had.
func (w *work) exchange(ctx context.Context, d, other BlockDevice, disk virt.Disk) error {
	now, was := d.with(other), other.with(d)
	return w.save(ctx, func(*Server) {}, func(tx Writer) error {
		made, err := tx.Definition(w.op.ServerID)
		if err != nil {
			return err
		}
		made = made.Clone()
		if i := slices.IndexFunc(made.Disks, hasTarget(d.Name)); i >= 0 {
			made.Disks[i] = disk
		}
		// Whether it goes with the server a user may have said while it was copied.
		if stored, err := deviceWith(tx, d.ServerID, d.VolumeID); err != nil {
			return err
		} else if stored.ID == d.ID {
			now.DeleteOnTermination = stored.DeleteOnTermination
		}
		return errors.Join(
			tx.DeleteBlockDevice(other.ID), // no two records of a server name one volume
			tx.PutBlockDevice(now), tx.PutBlockDevice(was),
			tx.PutDefinition(w.op.ServerID, made),
		)
	})
}

// doReleaseCopied has the guest see the new volume's size, tells the service of it, and gives the old one back.
func doReleaseCopied(ctx context.Context, w *work) error {
	d, err := w.device(ctx)
	if err != nil {
		return err
	}
	if err := w.resizeDisk(d, 0); err != nil {
		if transient(err) {
			return err
		}
		w.log.Warn("the guest does not see the size of its new volume yet", "volume_id", d.VolumeID, "error", err)
	}
	if err := w.m.opt.Volumes.Complete(ctx, d.AttachmentID); err != nil {
		return volumesCall(err)
	}
	was, err := w.spare(ctx)
	if err != nil {
		return ignoreMissing(err)
	}
	return w.disconnectVolume(ctx, was, false)
}
