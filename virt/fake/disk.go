package fake

import (
	"context"
	"fmt"
	"slices"

	"compute-agent/virt"
)

// PlugDisk implements virt.DiskPlugger.
func (d *Driver) PlugDisk(ctx context.Context, id string, disk virt.Disk) error {
	return d.call(ctx, "PlugDisk", "plug disk into guest", id, func() error {
		if err := disk.Validate(); err != nil {
			return err
		}
		size, err := inspectDisk(disk)
		if err != nil {
			return err
		}
		return d.locked(ctx, func() error {
			g, err := d.hv.find(id)
			if err != nil {
				return err
			}
			return d.hv.plugDisk(g, disk, size)
		})()
	})
}

// plugDisk adds a disk to what lacks it: the guest's definition, what it runs with, or both; h.mu is held.
func (h *Hypervisor) plugDisk(g *guest, disk virt.Disk, size diskSize) error {
	defined, live := indexTarget(g.spec.Disks, disk.Target) >= 0, indexTarget(g.disks, disk.Target) >= 0
	wantsDefined, wantsLive := !defined && !g.transient, !live && g.alive()
	spec := virt.Spec{Disks: []virt.Disk{disk}}.Clone()
	spec.Disks = append(g.spec.Clone().Disks, spec.Disks...)
	switch {
	case !wantsDefined && !wantsLive:
		return fmt.Errorf("%w: disk %s", virt.ErrExists, disk.Target)
	case !disk.Pluggable():
		return fmt.Errorf("%w: a drive of kind %q on bus %s cannot be plugged in", virt.ErrUnsupported, disk.Kind, disk.Bus)
	case g.hasSource(disk):
		return fmt.Errorf("%w: disk %s: the guest has its source as another disk", virt.ErrBusy, disk.Target)
	}
	if err := h.openDisk(g.spec.ID, disk); err != nil && g.alive() {
		return err
	}
	if wantsDefined {
		whole := g.spec.Clone()
		whole.Disks = spec.Disks
		if err := whole.Validate(); err != nil {
			return err
		}
		g.spec = whole
	}
	if wantsLive {
		g.disks = append(g.disks, spec.Disks[len(spec.Disks)-1])
	}
	g.sizes[disk.Target] = size
	return nil
}

// hasSource says whether another disk of the guest has the disk's file or device.
func (g *guest) hasSource(disk virt.Disk) bool {
	return slices.ContainsFunc(slices.Concat(g.disks, g.spec.Disks), func(d virt.Disk) bool {
		return d.Target != disk.Target && d.Path() != "" && d.Path() == disk.Path()
	})
}

// UnplugDisk implements virt.DiskPlugger.
func (d *Driver) UnplugDisk(ctx context.Context, id, target string, opt virt.UnplugOptions) error {
	return d.call(ctx, "UnplugDisk", "unplug disk from guest", id, func() error {
		return d.untilLetGo(ctx, id, "disk "+target, opt, func(g *guest) pluggedDevice { return g.pluggedDisk(target) })
	})
}

func (g *guest) pluggedDisk(target string) pluggedDevice {
	live, defined := indexTarget(g.disks, target), indexTarget(g.spec.Disks, target)
	has := pluggedDevice{
		live: live >= 0, alias: "disk-" + target,
		unplug: func() { g.disks = slices.Delete(g.disks, live, live+1) },
		undefine: func() {
			if defined >= 0 {
				g.undefineDisk(defined)
			}
		},
	}
	if live >= 0 && g.disks[live].Alias != "" {
		has.alias = g.disks[live].Alias
	}
	if g.copies[target] != nil {
		has.busy = fmt.Errorf("%w: disk %s is being copied", virt.ErrBusy, target)
	}
	return has
}

// undefineDisk takes a disk out of the guest's definition, which is nobody else's.
func (g *guest) undefineDisk(i int) {
	if g.spec.Disks = slices.Delete(slices.Clone(g.spec.Disks), i, i+1); len(g.spec.Disks) == 0 {
		g.spec.Disks = nil
	}
}

func indexTarget(disks []virt.Disk, target string) int {
	return slices.IndexFunc(disks, func(d virt.Disk) bool { return d.Target == target })
}

// Disks implements virt.DiskPlugger.
func (d *Driver) Disks(ctx context.Context, id string) (list []virt.PluggedDisk, err error) {
	err = d.onGuest(ctx, "Disks", "list disks of guest", id, func(g *guest) error {
		for _, disk := range (virt.Spec{Disks: g.disks}).Clone().Disks {
			list = append(list, virt.PluggedDisk{
				Target: disk.Target, Serial: disk.Serial, Source: disk.Source, Bytes: g.sizes[disk.Target].capacity,
				Live: true, Defined: indexTarget(g.spec.Disks, disk.Target) >= 0 && !g.transient,
				Tune: disk.Tune, BlockIO: disk.BlockIO, Discard: disk.Discard,
			})
		}
		for _, disk := range g.spec.Clone().Disks {
			if indexTarget(g.disks, disk.Target) < 0 {
				list = append(list, virt.PluggedDisk{Target: disk.Target, Serial: disk.Serial, Source: disk.Source, Defined: true,
					Tune: disk.Tune, BlockIO: disk.BlockIO, Discard: disk.Discard})
			}
		}
		return nil
	})
	return list, err
}

// ResizeDisk implements virt.DiskResizer. The file stays as it is: the size is remembered.
func (d *Driver) ResizeDisk(ctx context.Context, id, target string, bytes uint64) error {
	return d.onGuest(ctx, "ResizeDisk", "resize disk of guest", id, func(g *guest) error {
		_, err := g.diskAt(target)
		size := g.sizes[target]
		switch {
		case err != nil:
			return err
		case bytes%512 != 0:
			return fmt.Errorf("%w: disk %s: %d bytes are not sectors of 512", virt.ErrInvalid, target, bytes)
		case g.later[target] != diskSize{}:
			return fmt.Errorf("%w: disk %s was copied to a larger source, which the guest sees when it is started again", virt.ErrUnsupported, target)
		case g.alive() && bytes < size.capacity:
			return fmt.Errorf("%w: disk %s would shrink from %d to %d bytes", virt.ErrInvalid, target, size.capacity, bytes)
		}
		size.capacity = bytes
		g.sizes[target] = size
		return nil
	})
}

// diskAt is the disk of a target: live, or of the definition where it is not live.
func (g *guest) diskAt(target string) (*virt.Disk, error) {
	if i := indexTarget(g.disks, target); i >= 0 {
		return &g.disks[i], nil
	}
	if i := indexTarget(g.spec.Disks, target); i >= 0 {
		return &g.spec.Disks[i], nil
	}
	return nil, fmt.Errorf("%w: no disk %s", virt.ErrNotFound, target)
}

// DiskUse implements virt.DiskMeter.
func (d *Driver) DiskUse(ctx context.Context) (list []virt.DiskUse, err error) {
	err = d.call(ctx, "DiskUse", "list use of disks", "", d.locked(ctx, func() error {
		for id, g := range d.hv.guests {
			if !g.alive() {
				continue
			}
			for _, s := range g.report(d.hv.now()).Disks {
				list = append(list, virt.DiskUse{
					ID: id, Target: s.Target, ReadBytes: s.ReadBytes, WrittenBytes: s.WriteBytes,
					Reads: s.ReadRequests, Writes: s.WriteRequests, Flushes: s.WriteRequests / 10,
				})
			}
		}
		return nil
	}))
	return list, err
}

// UnplugDiskByHand takes a disk out of a guest's definition, as virsh detach-disk --config does.
func (h *Hypervisor) UnplugDiskByHand(id, target string) error {
	return h.outside(id, func(g *guest) bool { return indexTarget(g.spec.Disks, target) >= 0 }, func(g *guest) {
		g.undefineDisk(indexTarget(g.spec.Disks, target))
	})
}
