package lun

import (
	"context"
	"errors"
	"slices"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/uevent"
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
	disks, err := h.volume(v)
	if err != nil {
		return err
	}
	if err := h.TakeAway(ctx, disks, h.SCSI.Remove); err != nil {
		return err
	}
	return h.removeEmpty(ctx, scsi.MapName(v.Identity))
}

// volume finds what there is of a volume.
func (h Host) volume(v Volume) ([]scsi.Device, error) {
	var disks []scsi.Device
	for _, a := range v.Addresses {
		d, found, err := h.SCSI.Find(a)
		if err != nil {
			return nil, err
		}
		if found && v.is(d) {
			disks = append(disks, d)
		}
	}
	same := v.Identity
	if same == "" && len(disks) > 0 {
		same = disks[0].Identity
	}
	maps, err := h.mapsAbove(disks)
	if err != nil || same == "" {
		return disks, err
	}
	if left, found, err := h.Maps.Find(scsi.MapName(same)); err != nil {
		return nil, err
	} else if found && !contains(maps, left) {
		maps = append(maps, left)
	}
	for _, m := range maps {
		for _, path := range m.Paths {
			d, found, err := h.SCSI.Block(path)
			if err != nil {
				return nil, err
			}
			known := slices.ContainsFunc(disks, func(o scsi.Device) bool { return o.Address == d.Address })
			if found && !known && d.Identity == same {
				disks = append(disks, d)
			}
		}
	}
	return disks, nil
}

// TakeAway removes disks and the maps that are made of them. A map that has others too lives on without these. The error is InUse, and nothing is
// removed, when somebody holds any of them. remove removes one disk that nobody holds. multipathd may be about to make a map of disks that have just come,
// and udev's programs to look at it: what comes meanwhile is taken away as well.
func (h Host) TakeAway(ctx context.Context, disks []scsi.Device, remove func(context.Context, scsi.Device) error) error {
	const tries = 4
	var names []string // of the maps that multipathd may make of them
	for _, d := range disks {
		names = append(names, h.SCSI.WWID(d))
	}
	for n := 1; len(disks) > 0; n++ {
		h.settle(ctx, disks)
		maps, err := h.mapsAbove(disks)
		if err != nil {
			return err
		}
		failure := h.takeNow(ctx, disks, maps, remove)
		if failure == nil {
			break
		}
		if n == tries || ctx.Err() != nil || reason(failure) == connector.InUse && !h.newMap(disks, maps) {
			return failure
		}
		disks = slices.DeleteFunc(slices.Clone(disks), func(d scsi.Device) bool {
			_, found, err := h.SCSI.Find(d.Address)
			return !found && err == nil
		})
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		if err := h.removeEmpty(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// newMap says whether a map has come that was not among those.
func (h Host) newMap(disks []scsi.Device, maps []multipath.Map) bool {
	now, err := h.mapsAbove(disks)
	return err == nil && slices.ContainsFunc(now, func(m multipath.Map) bool { return !contains(maps, m) })
}

func contains(maps []multipath.Map, m multipath.Map) bool {
	return slices.ContainsFunc(maps, func(other multipath.Map) bool { return other.Device == m.Device })
}

// settling bounds how long udev's programs are waited for.
const settling = 5 * time.Second

// settle waits until udev has done with disks that have just come, and with the maps above them.
func (h Host) settle(ctx context.Context, disks []scsi.Device) {
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	watch, err := h.SCSI.Kernel.Watch()
	if err != nil {
		return
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	signs := []string{"/block/dm-"}
	for _, d := range disks {
		signs = append(signs, uevent.Below(d.Address.String()))
	}
	watch.Only(signs...)
	_ = watch.Until(ctx, func() (bool, error) {
		for _, d := range disks {
			if now, found, err := h.SCSI.Find(d.Address); err != nil || found && now.Name != "" && !h.SCSI.Settled(now.Name) {
				return false, err
			}
		}
		maps, err := h.mapsAbove(disks)
		return !slices.ContainsFunc(maps, func(m multipath.Map) bool {
			return !h.SCSI.Settled(m.Device) || h.SCSI.Path(m.Device) == h.SCSI.Node(m.Device)
		}), err
	})
}

// removeEmpty takes away the map of that name when all its paths are gone.
func (h Host) removeEmpty(ctx context.Context, wwid string) error {
	if wwid == "" {
		return nil
	}
	m, found, err := h.Maps.Find(wwid)
	if err != nil || !found || slices.ContainsFunc(m.Paths, h.SCSI.Exists) {
		return err
	}
	return h.Maps.Remove(ctx, m)
}

// takeNow does nothing when somebody holds a map or disk.
func (h Host) takeNow(ctx context.Context, disks []scsi.Device, maps []multipath.Map, remove func(context.Context, scsi.Device) error) error {
	if err := h.checkFree(disks, maps); err != nil {
		return err
	}
	for _, m := range maps {
		if whole(m, disks) {
			if err := h.Maps.Remove(ctx, m); err != nil {
				return err
			}
		}
	}
	results := make(chan error)
	for _, d := range disks {
		go func() {
			h.release(ctx, d, disks, maps)
			results <- remove(ctx, d)
		}()
	}
	var failed []error
	for range disks {
		failed = append(failed, <-results)
	}
	return errors.Join(failed...)
}

// release takes a disk out of the maps that live on. What does not let it go is found by who then removes it.
func (h Host) release(ctx context.Context, d scsi.Device, disks []scsi.Device, maps []multipath.Map) {
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	for _, m := range maps {
		if slices.Contains(m.Paths, d.Name) && !whole(m, disks) {
			_ = h.Maps.Release(ctx, m, d.Name)
		}
	}
}

// checkFree returns InUse when anybody but the maps holds any of the disks, or anybody a map that goes with them.
func (h Host) checkFree(disks []scsi.Device, maps []multipath.Map) error {
	var own []string
	for _, m := range maps {
		own = append(own, m.Device)
		if whole(m, disks) {
			if err := h.SCSI.CheckFree(m.Device); err != nil {
				return err
			}
		}
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

// mapsAbove are the maps that the disks are in: one, or none, unless something is amiss.
func (h Host) mapsAbove(disks []scsi.Device) ([]multipath.Map, error) {
	var maps []multipath.Map
	for _, d := range disks {
		if d.Name == "" {
			continue
		}
		m, found, err := h.Maps.Of(d.Name)
		if err != nil {
			return nil, err
		}
		if found && !contains(maps, m) {
			maps = append(maps, m)
		}
	}
	return maps, nil
}

// whole says whether a map is made of these disks and no other.
func whole(m multipath.Map, disks []scsi.Device) bool {
	return !slices.ContainsFunc(m.Paths, func(path string) bool {
		return !slices.ContainsFunc(disks, func(d scsi.Device) bool { return d.Name == path })
	})
}

func reason(err error) connector.Reason {
	var e *connector.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
