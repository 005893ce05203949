package lun

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/scsi"
)

// Volume is a logical unit that was attached.
type Volume struct {
	Addresses []scsi.Address
	// Identity is that of the disk, as Attach returned it; empty when that is not known.
	Identity connector.Identity
	WWID     string // that the storage system says it has; empty when it does not say
}

// is says whether a disk at one of the addresses is the volume.
func (v Volume) is(d scsi.Device) bool {
	if v.Identity != "" {
		return d.Identity == v.Identity
	}
	return v.WWID == "" || d.Identity == "" || scsi.SameWWID(d.Identity, v.WWID)
}

// Detach removes the volume's map and its disks: those at its addresses, and those that its map has besides. A disk that is not the one that identity
// says is another's and stays; an empty identity is of a volume of which nothing is known but its addresses, and what Info says. The error is InUse, and nothing is
// removed, when somebody holds any of them. What is not there is removed.
func (h Host) Detach(ctx context.Context, v Volume) error {
	// multipathd may make the map again of a path that comes up between the removal of the map and its own.
	const attempts = 3
	var err error
	for range attempts {
		if err = h.detach(ctx, v); reason(err) != connector.InUse || !h.held(v) {
			return err
		}
	}
	return err
}

// held says whether a map of the volume's own is what holds its disks.
func (h Host) held(v Volume) bool {
	disks, maps, err := h.volume(v)
	return err == nil && len(maps) > 0 && len(disks) > 0 && h.checkFree(disks, maps) == nil
}

func (h Host) detach(ctx context.Context, v Volume) error {
	disks, maps, err := h.volume(v)
	if err != nil {
		return err
	}
	if err := h.checkFree(disks, maps); err != nil {
		return err
	}
	for _, m := range maps {
		if err := h.Maps.Remove(ctx, m); err != nil {
			return err
		}
	}
	var failed []error
	for _, d := range disks {
		failed = append(failed, h.SCSI.Remove(ctx, d))
	}
	return errors.Join(failed...)
}

// volume finds what there is of a volume.
func (h Host) volume(v Volume) ([]scsi.Device, []multipath.Map, error) {
	var disks []scsi.Device
	for _, a := range v.Addresses {
		d, found, err := h.SCSI.Find(a)
		if err != nil {
			return nil, nil, err
		}
		if found && v.is(d) {
			disks = append(disks, d)
		}
	}
	same := v.Identity
	if same == "" && len(disks) > 0 {
		same = disks[0].Identity
	}
	maps, err := h.mapsFor(v, disks)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range maps {
		for _, path := range m.Paths {
			d, found, err := h.SCSI.Block(path)
			if err != nil {
				return nil, nil, err
			}
			known := slices.ContainsFunc(disks, func(o scsi.Device) bool { return o.Address == d.Address })
			if found && !known && same != "" && d.Identity == same {
				disks = append(disks, d)
			}
		}
	}
	return disks, maps, nil
}

// mapsFor are the multipath maps of a volume: those of its disks that carry its WWID, and one that has lost all its paths.
func (h Host) mapsFor(v Volume, disks []scsi.Device) ([]multipath.Map, error) {
	all, err := h.Maps.Maps()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(m multipath.Map) bool {
		// A LUN that was given to another volume has, until it is read anew, its old name in the kernel and the new one in udev's records.
		ofDisk := func(d scsi.Device) bool {
			return d.Name != "" && m.WWID == h.SCSI.WWID(d) && !another(d.Identity, m.WWID)
		}
		left := v.Identity != "" && m.WWID == scsi.MapName(v.Identity)
		return !left && !slices.ContainsFunc(disks, ofDisk)
	}), nil
}

// another says whether a map's WWID is of the same kind as an identity, and not the same.
func another(id connector.Identity, wwid string) bool {
	name := scsi.MapName(id)
	return name != "" && len(name) == len(wwid) && name[0] == wwid[0] && name != wwid
}

// checkFree returns InUse when anybody but the volume's own maps holds any of its disks, or anybody a map.
func (h Host) checkFree(disks []scsi.Device, maps []multipath.Map) error {
	var own []string
	for _, m := range maps {
		if err := h.SCSI.CheckFree(m.Device); err != nil {
			return err
		}
		own = append(own, m.Device)
	}
	for _, d := range disks {
		if d.Name == "" {
			continue
		}
		if err := h.SCSI.CheckFree(d.Name, own...); err != nil {
			return err
		}
	}
	return nil
}

// Extend reads the size of all paths anew, makes the map as large, and returns the device as it is then. All paths must have the same new size.
func (h Host) Extend(ctx context.Context, v Volume, device connector.Device) (connector.Device, error) {
	disks, maps, err := h.volume(v)
	if err != nil {
		return device, err
	}
	if len(disks) == 0 {
		return device, &connector.Error{Reason: connector.NoDevice, Rule: "no path leads to the volume"}
	}
	var size int64
	for _, d := range disks {
		now, err := h.renew(ctx, d)
		if err != nil {
			return device, err
		}
		if size != 0 && now.Bytes != size || now.Bytes == 0 {
			return device, &connector.Error{Reason: connector.BadSize, Field: d.Name, Value: fmt.Sprint(now.Bytes), Rule: fmt.Sprintf("all paths must have one size, another has %d bytes", size)}
		}
		size = now.Bytes
	}
	for _, m := range maps {
		if _, err := h.Maps.Resize(ctx, m); err != nil {
			return device, err
		}
	}
	device.Bytes = size
	return device, nil
}

// renew reads a disk's size anew; that it has become another disk is refused.
func (h Host) renew(ctx context.Context, d scsi.Device) (scsi.Device, error) {
	if err := h.SCSI.Rescan(ctx, d.Address); err != nil {
		return d, &connector.Error{Reason: connector.Unreachable, Field: d.Name, Rule: "the path does not answer", Err: err}
	}
	now, found, err := h.SCSI.Find(d.Address)
	if err != nil || !found {
		return d, errors.Join(err, &connector.Error{Reason: connector.NoDevice, Field: d.Name, Rule: "the path is gone"})
	}
	return now, connector.CheckIdentity(now.Name, now.Identity, d.Identity)
}

func reason(err error) connector.Reason {
	var e *connector.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
