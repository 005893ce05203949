package fake

import (
	"context"
	"fmt"

	"compute-agent/virt"
)

// diskCopy is a disk's copy under way. It outlives the driver that began it, as one in QEMU does.
type diskCopy struct {
	to    virt.Disk
	size  diskSize // of what it is copied to
	total uint64
	by    *Driver // whose it is; nil for nobody's
}

// HoldCopies keeps the copies that this driver makes from ending until release is called.
func (d *Driver) HoldCopies() (release func()) {
	d.hv.mu.Lock()
	defer d.hv.mu.Unlock()
	held := make(chan struct{})
	d.held = held
	return func() {
		d.hv.mu.Lock()
		defer d.hv.mu.Unlock()
		if d.held == held {
			d.held = nil
			close(held)
		}
	}
}

// CopyDisk implements virt.DiskCopier. No lock is held while it waits.
func (d *Driver) CopyDisk(ctx context.Context, id, target string, to virt.Disk, progress func(done, total uint64)) error {
	return d.call(ctx, "CopyDisk", "copy disk of guest", id, func() error {
		if progress == nil {
			progress = func(uint64, uint64) {}
		}
		size, err := inspectDisk(to)
		if err != nil {
			return err
		}
		var job *diskCopy
		err = d.locked(ctx, func() (err error) {
			job, err = d.beginCopy(id, target, to, size)
			return err
		})()
		if err != nil || job == nil {
			return err
		}
		progress(0, job.total)
		if err = d.awaitCopy(ctx, id, target, job); err == nil {
			progress(job.total, job.total)
			err = d.endCopy(ctx, id, target, job)
		}
		if err != nil {
			d.giveUpCopy(id, target, job)
		}
		return err
	})
}

// giveUpCopy ends a copy that failed. What cannot be reached goes on for nobody.
func (d *Driver) giveUpCopy(id, target string, job *diskCopy) {
	d.hv.mu.Lock()
	defer d.hv.mu.Unlock()
	switch g := d.hv.guests[id]; {
	case g == nil || g.copies[target] != job:
	case d.hv.lost || d.usable(context.Background()) != nil:
		job.by = nil
	default:
		delete(g.copies, target)
	}
}

// beginCopy begins a copy, or takes on one that another driver left. Nil is one that is done; hv.mu is held.
func (d *Driver) beginCopy(id, target string, to virt.Disk, size diskSize) (*diskCopy, error) {
	g, err := d.hv.find(id)
	if err != nil {
		return nil, err
	}
	disk, err := g.diskAt(target)
	if err != nil {
		return nil, err
	}
	changed := exchange(*disk, to)
	if err := changed.Validate(); err != nil {
		return nil, err
	}
	job := g.copies[target]
	switch {
	case !g.alive():
		return nil, fmt.Errorf("%w: it is %v", virt.ErrInvalidState, g.state)
	case job != nil && (job.by == d || !sameSource(job.to.Source, to.Source)):
		return nil, fmt.Errorf("%w: disk %s is being copied", virt.ErrBusy, target)
	case job != nil:
		job.by = d
		return job, nil
	case sameSource(disk.Source, to.Source):
		g.useSource(target, to)
		return nil, nil
	case size.capacity < g.sizes[target].capacity:
		return nil, fmt.Errorf("%w: %d bytes are too few for disk %s of %d", virt.ErrInvalid, size.capacity, target, g.sizes[target].capacity)
	case g.hasSource(changed):
		return nil, fmt.Errorf("%w: the guest has the source as another disk", virt.ErrBusy)
	}
	if err := d.hv.openDisk(id, changed); err != nil {
		return nil, err
	}
	job = &diskCopy{to: to, size: size, total: g.sizes[target].capacity, by: d}
	g.copies[target] = job
	return job, nil
}

// exchange is a disk that runs with another's contents and limits.
func exchange(disk, to virt.Disk) virt.Disk {
	disk.Source, disk.Format, disk.Key, disk.Serial, disk.Backing, disk.Unstated = to.Source, to.Format, to.Key, to.Serial, to.Backing, false
	disk.Tune = to.Tune
	return virt.Spec{Disks: []virt.Disk{disk}}.Clone().Disks[0]
}

// redefine is a disk in a definition as what it was copied to has it.
func redefine(disk, to virt.Disk) virt.Disk {
	disk.BlockIO, disk.Discard, disk.Cache, disk.IO, disk.DetectZeroes = to.BlockIO, to.Discard, to.Cache, to.IO, to.DetectZeroes
	return exchange(disk, to)
}

func sameSource(a, b virt.Source) bool {
	if a.Network == nil || b.Network == nil {
		return a == b
	}
	return a.Network.Protocol == b.Network.Protocol && a.Network.Name == b.Network.Name
}

// awaitCopy waits until the copy may end.
func (d *Driver) awaitCopy(ctx context.Context, id, target string, job *diskCopy) error {
	for {
		held, changed, err := d.copyUnderWay(ctx, id, target, job)
		if err != nil || held == nil {
			return err
		}
		select {
		case <-held:
		case <-changed:
		case <-d.gone:
			return errClosed
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// copyUnderWay returns what a copy waits for; nil when it can end.
func (d *Driver) copyUnderWay(ctx context.Context, id, target string, job *diskCopy) (held, changed <-chan struct{}, err error) {
	err = d.locked(ctx, func() error {
		g, err := d.hv.find(id)
		if err != nil {
			return err
		}
		if g.copies[target] != job {
			return fmt.Errorf("%w: the copy of disk %s was ended; the guest is %v", virt.ErrInvalidState, target, g.state)
		}
		held, changed = d.held, g.changed
		return nil
	})()
	return held, changed, err
}

// endCopy has the guest use what was copied.
func (d *Driver) endCopy(ctx context.Context, id, target string, job *diskCopy) error {
	return d.locked(ctx, func() error {
		g, err := d.hv.find(id)
		if err != nil {
			return err
		}
		if g.copies[target] != job {
			return fmt.Errorf("%w: the copy of disk %s was ended", virt.ErrInvalidState, target)
		}
		delete(g.copies, target)
		g.useSource(target, job.to)
		if job.size.capacity > g.sizes[target].capacity {
			g.later[target] = job.size
		}
		return nil
	})()
}

// useSource exchanges a disk's contents, live and in the definition.
func (g *guest) useSource(target string, to virt.Disk) {
	g.spec = g.spec.Clone()
	if i := indexTarget(g.disks, target); i >= 0 {
		g.disks[i] = exchange(g.disks[i], to)
	}
	if i := indexTarget(g.spec.Disks, target); i >= 0 {
		g.spec.Disks[i] = redefine(g.spec.Disks[i], to)
	}
}

// AbortCopy implements virt.DiskCopier.
func (d *Driver) AbortCopy(ctx context.Context, id, target string) error {
	return d.onGuest(ctx, "AbortCopy", "abort copy of disk of guest", id, func(g *guest) error {
		if job := g.copies[target]; job != nil && job.by == d {
			return fmt.Errorf("%w: disk %s is being copied", virt.ErrBusy, target)
		}
		delete(g.copies, target)
		return nil
	})
}
