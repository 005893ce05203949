package iscsi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/scsi"
)

// Disconnect implements connector.Connector. What is at the volume's LUN and, by dev, is not the volume is left alone: it is somebody else's, of
// whom the target has the number now.
func (c *Connector) Disconnect(ctx context.Context, info connector.Info, dev connector.Device) error {
	v, err := c.parse(info)
	if err != nil {
		return err
	}
	unlock, err := c.lock(ctx, v)
	if err != nil {
		return err
	}
	defer unlock()
	disks, err := c.present(ctx, v, dev.Identity)
	if err != nil {
		return err
	}
	if err := c.takeAway(ctx, disks); err != nil {
		return err
	}
	return c.leaveAll(ctx, v, disks)
}

// present returns the volume's disks that are there. Those at portals that were not told of are its own when the target told of them, or when they say
// that they are it.
func (c *Connector) present(ctx context.Context, v volume, identity connector.Identity) ([]disk, error) {
	var disks []disk
	for _, w := range v.targets() {
		all, err := sessions(c.SCSI.Sys, w.iqn)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			d, found, err := c.SCSI.Find(address(s, w.lun))
			if err != nil {
				return nil, err
			}
			same := identity != "" && d.Identity == identity
			if !found || !same && !v.at(s, w.lun) {
				continue
			}
			if identity != "" && !same {
				c.Log.WarnContext(ctx, "A disk where a volume was is not it, and stays", "disk", d.Name, "is", d.Identity, "volume", identity)
				continue
			}
			p, err := s.path()
			if err != nil {
				return nil, err
			}
			disks = append(disks, disk{way: way{p, w.lun}, Device: d})
		}
	}
	return disks, nil
}

// path is the one that the session is of.
func (s Session) path() (path, error) {
	return newPath(connector.ISCSITarget{Portal: s.Portal, IQN: s.IQN}, s.Interface)
}

// takeAway removes the map above the disks and the disks, if nobody holds any of them. multipathd may be about to make a map of disks that have just
// come, and udev's programs to look at it: what comes meanwhile is taken away as well.
func (c *Connector) takeAway(ctx context.Context, disks []disk) error {
	const tries = 4
	for n := 1; len(disks) > 0; n++ {
		c.settle(ctx, disks)
		maps, err := c.mapsOf(disks)
		if err != nil {
			return err
		}
		failure := c.takeNow(ctx, disks, maps)
		if failure == nil {
			return c.orphans(ctx, disks)
		}
		var refused *connector.Error
		held := errors.As(failure, &refused) && refused.Reason == connector.InUse
		if n == tries || ctx.Err() != nil || held && !c.newMap(disks, maps) {
			return failure
		}
		disks = slices.DeleteFunc(disks, func(d disk) bool {
			_, found, err := c.SCSI.Find(d.Address)
			return !found && err == nil
		})
	}
	return nil
}

// newMap says whether a map has come that was not among those.
func (c *Connector) newMap(disks []disk, maps []multipath.Map) bool {
	now, err := c.mapsOf(disks)
	return err == nil && slices.ContainsFunc(now, func(m multipath.Map) bool { return !contains(maps, m) })
}

func contains(maps []multipath.Map, m multipath.Map) bool {
	return slices.ContainsFunc(maps, func(other multipath.Map) bool { return other.Device == m.Device })
}

// settle waits until udev has done with disks that have just come, and with the maps above them.
func (c *Connector) settle(ctx context.Context, disks []disk) {
	ctx, cancel := context.WithTimeout(ctx, c.Straggler)
	defer cancel()
	watch, err := c.SCSI.Kernel.Watch()
	if err != nil {
		return
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	_ = watch.Until(ctx, func() (bool, error) {
		for _, d := range disks {
			if now, found, err := c.SCSI.Find(d.Address); err != nil || found && now.Name != "" && !c.SCSI.Settled(now.Name) {
				return false, err
			}
		}
		maps, err := c.mapsOf(disks)
		return !slices.ContainsFunc(maps, func(m multipath.Map) bool {
			return !c.SCSI.Settled(m.Device) || c.SCSI.Path(m.Device) == c.SCSI.Node(m.Device)
		}), err
	})
}

// orphans takes away maps of the disks that have none of them any more.
func (c *Connector) orphans(ctx context.Context, disks []disk) error {
	for _, d := range disks {
		m, found, err := c.maps.Find(c.SCSI.WWID(d.Device))
		if err == nil && found && len(m.Paths) == 0 {
			err = c.maps.Remove(ctx, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeNow does nothing when somebody holds a map or disk.
func (c *Connector) takeNow(ctx context.Context, disks []disk, maps []multipath.Map) error {
	for _, m := range maps {
		if c.whole(m, disks) {
			if err := c.SCSI.CheckFree(m.Device); err != nil {
				return err
			}
		}
	}
	for _, d := range disks {
		if err := c.SCSI.CheckFree(d.Name, devices(maps)...); err != nil {
			return err
		}
	}
	for _, m := range maps {
		if c.whole(m, disks) {
			if err := c.maps.Remove(ctx, m); err != nil {
				return err
			}
		}
	}
	return c.removeAll(ctx, disks, maps)
}

// mapsOf are the maps that the disks are in: one, or none, unless something is amiss.
func (c *Connector) mapsOf(disks []disk) ([]multipath.Map, error) {
	var maps []multipath.Map
	for _, d := range disks {
		m, found, err := c.maps.Of(d.Name)
		if err != nil {
			return nil, err
		}
		if found && !contains(maps, m) {
			maps = append(maps, m)
		}
	}
	return maps, nil
}

func devices(maps []multipath.Map) []string {
	var names []string
	for _, m := range maps {
		names = append(names, m.Device)
	}
	return names
}

// whole says whether a map is made of these disks and no other. One that has others lives on without these.
func (c *Connector) whole(m multipath.Map, disks []disk) bool {
	return !slices.ContainsFunc(m.Paths, func(path string) bool {
		return !slices.ContainsFunc(disks, func(d disk) bool { return d.Name == path })
	})
}

func (c *Connector) removeAll(ctx context.Context, disks []disk, maps []multipath.Map) error {
	results := make(chan error)
	for _, d := range disks {
		go func() {
			for _, m := range maps {
				if slices.Contains(m.Paths, d.Name) && !c.whole(m, disks) {
					c.maps.Forget(ctx, d.Name)
				}
			}
			results <- c.removeDisk(ctx, d)
		}()
	}
	var failed []error
	for range disks {
		failed = append(failed, <-results)
	}
	return errors.Join(failed...)
}

// removeDisk flushes and removes a disk. The kernel would let it wait for a session that is cut off, for minutes: where that has no other disk it is
// ended instead, and the disk goes with it.
func (c *Connector) removeDisk(ctx context.Context, d disk) error {
	s, found, err := c.find(d.path)
	if err != nil {
		return err
	}
	if found && !s.LoggedIn() {
		if others, err := c.disks(s); err == nil && len(others) == 1 {
			return c.drop(ctx, s, d)
		}
	}
	if err := c.SCSI.Remove(ctx, d.Device); err != nil {
		return fmt.Errorf("disk %s of target %s: %w", d.Name, d.iqn, err)
	}
	return nil
}

// drop ends a session that is cut off, and its one disk, which nobody holds.
func (c *Connector) drop(ctx context.Context, s Session, d disk) error {
	if err := c.SCSI.CheckFree(d.Name); err != nil {
		return err
	}
	unlock, err := c.paths.Lock(ctx, d.path)
	if err != nil {
		return err
	}
	defer unlock()
	watch, err := c.SCSI.Kernel.Watch()
	if err != nil {
		return err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	if err := c.admin.logout(ctx, s.ID); err != nil {
		return err
	}
	return watch.Until(ctx, func() (bool, error) {
		left, err := c.disks(s)
		return len(left) == 0, err
	})
}

// leaveAll ends the sessions that the volume was in, if it was their last, and takes away the agent's records of the target that no session needs.
func (c *Connector) leaveAll(ctx context.Context, v volume, disks []disk) error {
	var paths []path
	for _, d := range disks {
		paths = append(paths, d.path)
	}
	for _, w := range v.ways {
		paths = append(append(paths, w.path), c.records.paths(w.iqn, w.iface)...)
	}
	for _, w := range v.targets() {
		all, err := sessions(c.SCSI.Sys, w.iqn)
		if err != nil {
			return err
		}
		for _, s := range all {
			if p, err := s.path(); err == nil && v.at(s, w.lun) {
				paths = append(paths, p)
			}
		}
	}
	var failed []error
	for i, p := range paths {
		if !slices.Contains(paths[:i], p) {
			failed = append(failed, c.leave(ctx, p))
		}
	}
	for _, w := range v.ways {
		if v.info.ISCSI.DiscoveryAuth != nil {
			failed = append(failed, c.records.forget(w.path))
		}
	}
	return errors.Join(failed...)
}

// Extend implements connector.Connector. All paths are read anew: one that kept the old size would refuse what is written to the new end.
func (c *Connector) Extend(ctx context.Context, info connector.Info, dev connector.Device) (connector.Device, error) {
	v, err := c.parse(info)
	if err != nil {
		return dev, err
	}
	unlock, err := c.lock(ctx, v)
	if err != nil {
		return dev, err
	}
	defer unlock()
	disks, err := c.present(ctx, v, dev.Identity)
	if err == nil && len(disks) == 0 {
		err = &connector.Error{Reason: connector.NoDevice, Field: "target_iqn", Value: v.ways[0].iqn, Rule: "the volume is not on this host"}
	}
	for i := range disks {
		if err == nil {
			disks[i].Device, err = c.renew(ctx, disks[i])
		}
	}
	if err == nil {
		err = check(disks, info, dev.Identity)
	}
	if err != nil {
		return dev, err
	}
	m, found, err := c.maps.Of(disks[0].Name)
	if err != nil {
		return dev, err
	}
	dev.Bytes = disks[0].Bytes
	if found {
		m, err = c.maps.Resize(ctx, m)
		dev.Bytes = m.Bytes
	}
	return dev, err
}

// renew makes the kernel read a disk's size.
func (c *Connector) renew(ctx context.Context, d disk) (scsi.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Device)
	defer cancel()
	s, found, err := c.find(d.path)
	if err != nil {
		return d.Device, err
	}
	if !found || !s.LoggedIn() {
		return d.Device, &connector.Error{Reason: connector.Unreachable, Field: "target_portal", Value: d.portal(), Rule: "the path is cut off, and would keep the old size"}
	}
	if err := c.SCSI.Rescan(ctx, d.Address); err != nil {
		return d.Device, err
	}
	now, found, err := c.SCSI.Find(d.Address)
	if err == nil && !found {
		err = &connector.Error{Reason: connector.NoDevice, Field: d.Name, Rule: "it went while it was read"}
	}
	return now, err
}
