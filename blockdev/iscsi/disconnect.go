package iscsi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"compute-agent/blockdev/connector"
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

// takeAway removes the map above the disks and the disks, if nobody holds any of them.
func (c *Connector) takeAway(ctx context.Context, disks []disk) error {
	var devices []scsi.Device
	for _, d := range disks {
		devices = append(devices, d.Device)
	}
	return c.luns.TakeAway(ctx, devices, func(ctx context.Context, now scsi.Device) error {
		at := slices.IndexFunc(disks, func(d disk) bool { return d.Address == now.Address })
		return c.removeDisk(ctx, disks[at])
	})
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

// Extend implements connector.Connector. A path that has lost its connection is waited for: it would keep the old size, and a storage server or host that is busy
// loses one for some seconds.
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
	if err != nil {
		return dev, err
	}
	if len(disks) == 0 {
		return dev, &connector.Error{Reason: connector.NoDevice, Field: "target_iqn", Value: v.ways[0].iqn, Rule: "the volume is not on this host"}
	}
	if err := c.allConnected(ctx, disks); err != nil {
		return dev, err
	}
	return c.luns.Grow(ctx, asPaths(disks), dev)
}

// allConnected waits until no session of the disks is cut off.
func (c *Connector) allConnected(ctx context.Context, disks []disk) error {
	for _, d := range disks {
		s, found, err := c.find(d.path)
		if err == nil && !found {
			err = &connector.Error{Reason: connector.Unreachable, Field: "target_portal", Value: d.portal(), Rule: "the session has ended, and its disk would keep the old size"}
		}
		if err == nil {
			_, err = c.connected(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
