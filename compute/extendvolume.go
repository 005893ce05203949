package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"compute-agent/blockdev/luks"
	"compute-agent/virt"
)

// ExtendAttached has a server's guest see that a volume has grown, which is done at its storage. It returns as soon as the request is stored; how it ends
// the volume service is told (Volumes.Extended). ErrNotFound when the server has not got the volume.
func (m *Manager) ExtendAttached(ctx context.Context, serverID, volumeID string) error {
	return m.inTurn(ctx, serverID, OpExtendVolume, func(tx Writer, s Server) (json.RawMessage, error) {
		d, err := deviceWith(tx, serverID, volumeID)
		if err != nil {
			return nil, err
		}
		if err := admit(CmdExtendVolume, s); err != nil {
			return nil, err
		}
		args := volumeArgs{DeviceID: d.ID, VolumeID: volumeID}
		v, err := tx.Volume(volumeID)
		if ignoreMissing(err) != nil {
			return nil, err
		}
		args.GiB = max(v.SizeGiB, v.NewGiB)
		return json.Marshal(args)
	})
}

func (m *Manager) extendVolumeProcedure() procedure {
	return procedure{
		steps: []step{{name: "extend", task: TaskExtendingVolume, do: doExtendVolume, undo: doNotExtended}},
		keeps: true, patience: m.opt.OperationTimeout,
	}
}

// doExtendVolume has the host see the new size, and then the guest. A volume that was taken away meanwhile has its size with the next one who gets it.
func doExtendVolume(ctx context.Context, w *work) error {
	args, err := w.volumeArgs()
	if err != nil {
		return err
	}
	d, err := w.device(ctx)
	if err == nil && d.onHost() {
		err = w.extend(ctx, d, args.GiB)
	}
	if ignoreMissing(err) != nil {
		return err
	}
	return volumesCall(w.m.opt.Volumes.Extended(ctx, args.VolumeID, w.op.ServerID, nil))
}

func (w *work) extend(ctx context.Context, d BlockDevice, gib int) error {
	r, err := w.m.volumeRequest(ctx, d)
	if err != nil {
		return err
	}
	grown, err := w.m.opt.VolumeHost.Extend(ctx, r)
	if err != nil {
		return volumeFailure(d.VolumeID, err)
	}
	before := d.bytes()
	d.Device, d.SizeGiB = grown, max(d.SizeGiB, gib)
	if err := w.resizeDisk(d, before); err != nil {
		return err
	}
	return w.putDevice(ctx, d, nil)
}

// resizeDisk has the guest see the size of a volume's device, which had so many bytes before; 0 when that is not known. One that does not run sees it
// when it does.
func (w *work) resizeDisk(d BlockDevice, before int64) error {
	if w.server.inPlaceOfAll() {
		return nil // its guest has it not, and perhaps another disk under its name
	}
	hidden, err := w.hiddenBytes(d, before)
	if err != nil {
		return err
	}
	resizer, can := w.m.driver.(virt.DiskResizer)
	if !can {
		return &Failure{Kind: ErrInvalid, Reason: "the hypervisor cannot resize guests' disks"}
	}
	const sector = 512
	err = w.m.driverCall(func(ctx context.Context) error {
		return resizer.ResizeDisk(ctx, w.op.ServerID, d.Name, uint64((d.bytes()-hidden)/sector*sector))
	})
	return ignoreNotFound(err)
}

// hiddenBytes is how much of a volume's device its guest does not see: the header of one that the hypervisor deciphers (Nova subtracts it too). Where the
// host does not see the device, it is what the guest had less than the device.
func (w *work) hiddenBytes(d BlockDevice, before int64) (int64, error) {
	if !d.hypervisorDeciphers() {
		return 0, nil
	}
	if d.Device.Path != "" {
		hidden, err := luks.DataOffset(d.Device.Path)
		if err == nil && hidden >= d.bytes() {
			err = fmt.Errorf("volume %s: its header of %d bytes leaves none of %d", d.VolumeID, hidden, d.bytes())
		}
		return hidden, err
	}
	disks, stopped, err := w.disks()
	i := slices.IndexFunc(disks, func(p virt.PluggedDisk) bool { return p.Target == d.Name && p.Live })
	if err != nil || stopped || i < 0 {
		return 0, err // and no guest that is to see anything
	}
	for _, bytes := range []int64{before, d.bytes()} { // the guest may see the new size already
		if hidden := bytes - int64(disks[i].Bytes); hidden > 0 && hidden <= mostHidden {
			return hidden, nil
		}
	}
	return 0, &Failure{Kind: ErrConflict, Subject: "volume " + d.VolumeID, Reason: "how much of it its encryption takes is not known; the guest sees its size when it is started again"}
}

// mostHidden is more than any program makes the header of a LUKS1 volume.
const mostHidden = 64 << 20

// bytes is how large a volume's device is: as the host has it, or, of a drive that only the hypervisor sees, as the service says.
func (d BlockDevice) bytes() int64 {
	if d.Device.Bytes > 0 {
		return d.Device.Bytes
	}
	return int64(d.SizeGiB) << 30
}

// doNotExtended tells the service that the guest does not see the volume's new size.
func doNotExtended(ctx context.Context, w *work) error {
	args, err := w.volumeArgs()
	if err != nil {
		return err
	}
	err = w.m.opt.Volumes.Extended(ctx, args.VolumeID, w.op.ServerID, errors.New(w.op.Cause))
	if isGone(err) {
		return nil
	}
	return err
}
