package fake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"compute-agent/virt"
)

func (d crooked) PlugDisk(ctx context.Context, id string, disk virt.Disk) error {
	g, err := d.Guest(ctx, id)
	if err == nil && g.State == virt.PowerShutdown && d.has("stopped guests take no disk") {
		return virt.ErrInvalidState
	}
	err = d.Driver.PlugDisk(ctx, id, disk)
	switch {
	case errors.Is(err, virt.ErrExists) && d.has("a disk replaces one of its target"),
		errors.Is(err, virt.ErrBusy) && d.has("locks are not seen"):
		return nil
	case err == nil && d.has("plugged disks are live only"):
		return d.Hypervisor().UnplugDiskByHand(id, disk.Target)
	}
	return err
}

func (d crooked) UnplugDisk(ctx context.Context, id, target string, opt virt.UnplugOptions) error {
	list, err := d.Disks(ctx, id)
	if err != nil {
		return err
	}
	has := slices.ContainsFunc(list, func(p virt.PluggedDisk) bool { return p.Target == target })
	if !has && d.has("unplugging no disk fails") {
		return virt.ErrNotFound
	}
	err = d.Driver.UnplugDisk(ctx, id, target, opt)
	if errors.Is(err, virt.ErrBusy) && d.has("disks are never let go of") {
		return nil
	}
	return err
}

func (d crooked) ResizeDisk(ctx context.Context, id, target string, bytes uint64) error {
	if d.has("disks do not grow") {
		return nil
	}
	err := d.Driver.ResizeDisk(ctx, id, target, bytes)
	if errors.Is(err, virt.ErrInvalid) && d.has("disks shrink") {
		return nil
	}
	return err
}

func (d crooked) CopyDisk(ctx context.Context, id, target string, to virt.Disk, progress func(done, total uint64)) error {
	if d.has("copies are not used") {
		return nil
	}
	if d.has("copies keep the limits") {
		to.Tune = virt.DiskTune{TotalIOPS: 1000, TotalIOPSMax: 2000, SizeIOPS: 4096}
	}
	if d.has("abandoned copies go on") {
		done := make(chan error, 1)
		go func() { done <- d.Driver.CopyDisk(context.WithoutCancel(ctx), id, target, to, progress) }()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", virt.ErrUnavailable, ctx.Err())
		}
	}
	err := d.Driver.CopyDisk(ctx, id, target, to, progress)
	if d.has("left copies are in the way") && err == nil {
		return virt.ErrBusy
	}
	return err
}

func (d crooked) DiskUse(ctx context.Context) ([]virt.DiskUse, error) {
	list, err := d.Driver.DiskUse(ctx)
	if d.has("use of disks is not told") {
		return nil, err
	}
	return list, err
}

func (d crooked) PutSecret(ctx context.Context, s virt.Secret) error {
	err := d.Driver.PutSecret(ctx, s)
	if err != nil && d.has("secrets are shown") {
		return fmt.Errorf("secret %s: %w", s.Value, err)
	}
	return err
}

func (d crooked) Secrets(ctx context.Context) (map[string]string, error) {
	list, err := d.Driver.Secrets(ctx)
	if d.has("secrets are not listed") {
		return nil, err
	}
	return list, err
}
