package lun

import (
	"context"
	"errors"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
)

// Extend makes the host see the size that a volume has now, as Grow does, on all paths that there are.
func (h Host) Extend(ctx context.Context, v Volume, device connector.Device) (connector.Device, error) {
	disks, err := h.volume(v)
	if err != nil {
		return device, err
	}
	var paths []Path
	for _, d := range disks {
		paths = append(paths, Path{Device: d})
	}
	return h.Grow(ctx, paths, device)
}

// Grow reads the size of all paths anew, makes the map as large, and returns the device as it is then. All paths must be the disk still and have the
// same size: one that kept the old would refuse what is written to the new end.
func (h Host) Grow(ctx context.Context, paths []Path, device connector.Device) (connector.Device, error) {
	if len(paths) == 0 {
		return device, &connector.Error{Reason: connector.NoDevice, Rule: "no path leads to the volume"}
	}
	var disks []scsi.Device
	for i, p := range paths {
		now, err := h.renew(ctx, p)
		if err != nil {
			return device, err
		}
		paths[i].Device = now
		disks = append(disks, now)
	}
	if err := check(Wanted{Known: device.Identity}, paths); err != nil {
		return device, err
	}
	maps, err := h.mapsAbove(disks)
	if err != nil {
		return device, err
	}
	for _, m := range maps {
		if _, err := h.Maps.Resize(ctx, m); err != nil {
			return device, err
		}
	}
	device.Bytes = disks[0].Bytes
	return device, nil
}

// renewal bounds how long a path may take to answer.
const renewal = time.Minute

// renew reads a disk's size anew; that it has become another disk is refused.
func (h Host) renew(ctx context.Context, p Path) (scsi.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, renewal)
	defer cancel()
	if err := h.SCSI.Rescan(ctx, p.Address); err != nil {
		return p.Device, &connector.Error{Reason: connector.Unreachable, Field: p.where(), Rule: "the path does not answer", Err: err}
	}
	now, found, err := h.SCSI.Find(p.Address)
	if err != nil || !found {
		return p.Device, errors.Join(err, &connector.Error{Reason: connector.NoDevice, Field: p.where(), Rule: "the path is gone"})
	}
	return now, connector.CheckIdentity(now.Name, now.Identity, p.Identity)
}
