package scsi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/uevent"
)

// bounded runs what the kernel may keep waiting for a dead path, no longer than ctx lasts. What was begun goes on without us.
func bounded(ctx context.Context, what string, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}

// Scan asks the kernel to look for one logical unit, and returns when it has. That it is not there is no error. One that is there already is left as
// it is.
func (s System) Scan(ctx context.Context, a Address) error {
	return s.scan(ctx, a.Host, fmt.Sprintf("%d %d %d", a.Channel, a.Target, a.LUN))
}

// ScanAll asks for a LUN on all targets of a host: for a host whose targets are not known, and no other. It finds disks that nobody asked for.
func (s System) ScanAll(ctx context.Context, host int, lun uint64) error {
	return s.scan(ctx, host, fmt.Sprintf("- - %d", lun))
}

func (s System) scan(ctx context.Context, host int, what string) error {
	file := s.sys("class/scsi_host", "host"+strconv.Itoa(host), "scan")
	return bounded(ctx, fmt.Sprintf("scan of %q on host%d", what, host), func() error { return s.Kernel.Write(file, what) })
}

// Rescan makes the kernel read the disk's size and names anew.
func (s System) Rescan(ctx context.Context, a Address) error {
	return bounded(ctx, fmt.Sprintf("rescan of SCSI device %v", a), func() error {
		return s.Kernel.Write(s.device(a)+"/rescan", "1")
	})
}

// Delete removes the device and returns when it is gone, for udev too. It does not ask who holds it: Remove does. One that is not there is removed.
func (s System) Delete(ctx context.Context, a Address) error {
	watch, err := s.Kernel.Watch()
	if err != nil {
		return err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	watch.Only(uevent.Device(a.String()), uevent.Below(a.String()))
	d, _, _ := s.Find(a)
	err = bounded(ctx, fmt.Sprintf("removal of SCSI device %v", a), func() error {
		return s.Kernel.Write(s.device(a)+"/delete", "1")
	})
	if err != nil && !gone(err) {
		return err
	}
	// The next disk gets the same number, and must not be taken for this one by what udev has of it.
	err = watch.Until(ctx, func() (bool, error) {
		return !exists(s.device(a)) && (d.Number == "" || !s.HasUdev() || !s.udev(d.Number).there), nil
	})
	if err != nil {
		return fmt.Errorf("SCSI device %v does not go: %w", a, err)
	}
	return nil
}

// Remove deletes a disk that nobody holds, after its buffers are written out if anything was ever written to it. The error is InUse, and nothing
// is done, when somebody holds it.
func (s System) Remove(ctx context.Context, d Device) error {
	if d.Name != "" {
		if err := s.CheckFree(d.Name); err != nil {
			return err
		}
		if err := s.Flush(ctx, d.Name); err != nil && d.State == Running {
			return err
		}
	}
	return s.Delete(ctx, d.Address)
}

// CheckFree returns InUse when somebody holds a block device besides the maps that are named.
func (s System) CheckFree(name string, but ...string) error {
	who, busy, err := s.Busy(name, but...)
	if err != nil {
		return err
	}
	if busy {
		return &connector.Error{Reason: connector.InUse, Field: name, Rule: "it is held by " + who}
	}
	return nil
}

// Flush writes out what is in the buffers of a block device that was written to.
func (s System) Flush(ctx context.Context, name string) error {
	if !s.written(name) {
		return nil
	}
	err := bounded(ctx, "flush of "+name, func() error { return s.Kernel.Flush(s.Node(name)) })
	if err != nil && gone(err) {
		return nil
	}
	return err
}

// statWrites is the field of a block device's stat that counts writes done (Documentation/block/stat.rst).
const statWrites = 4

func (s System) written(name string) bool {
	text, err := readText(s.Sys, "block", name, "stat")
	if err != nil {
		return false
	}
	fields := strings.Fields(text)
	return len(fields) <= statWrites || fields[statWrites] != "0"
}

// Await waits until the disk at the address can be used: its block device is there, and udev has done with it.
func (s System) Await(ctx context.Context, watch *uevent.Watch, a Address) (Device, error) {
	var d Device
	err := watch.Until(ctx, func() (bool, error) {
		var found bool
		var err error
		d, found, err = s.Find(a)
		return found && d.Name != "" && s.Settled(d.Name), err
	})
	if err != nil {
		return Device{}, fmt.Errorf("SCSI device %v: %w", a, err)
	}
	return d, nil
}

// Attach returns the disk that is at the address now. One that the kernel knew before is read anew: arrays give LUN numbers to other volumes, and
// the kernel goes on with the old one's size and names. If it has become another it is removed and scanned for again, or, when somebody holds it,
// refused with InUse. The error is NoDevice when there is no disk.
func (s System) Attach(ctx context.Context, a Address) (Device, error) {
	watch, err := s.Kernel.Watch()
	if err != nil {
		return Device{}, err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	watch.Only(uevent.Below(a.String()))
	old, found, err := s.Find(a)
	if err != nil {
		return Device{}, err
	}
	if found {
		if d, same, err := s.renew(ctx, old); same || err != nil {
			return d, err
		}
	}
	if err := s.Scan(ctx, a); err != nil {
		return Device{}, err
	}
	if !exists(s.device(a)) { // the kernel has asked the target, which has answered or not
		return Device{}, &connector.Error{Reason: connector.NoDevice, Field: "lun", Value: LUNInPath(a.LUN), Rule: fmt.Sprintf("there is no disk at SCSI address %v", a)}
	}
	return s.Await(ctx, watch, a)
}

// renew reads a device anew and says whether it is still the same disk, alive. One that is not is removed.
func (s System) renew(ctx context.Context, old Device) (Device, bool, error) {
	rescan := s.Rescan(ctx, old.Address)
	d, found, err := s.Find(old.Address)
	if err != nil || !found {
		return Device{}, false, err
	}
	if rescan == nil && d.State == Running && d.Name != "" && d.Identity == old.Identity && d.Bytes > 0 && s.consistent(d) {
		return d, true, nil
	}
	err = s.Remove(ctx, d)
	var refused *connector.Error
	switch {
	case !errors.As(err, &refused) || refused.Reason != connector.InUse:
	case d.Identity == old.Identity && s.consistent(d):
		err = &connector.Error{Reason: connector.Unreachable, Field: d.Name, Rule: fmt.Sprintf("the disk's state is %s, its size %d", d.State, d.Bytes), Err: rescan}
	default:
		refused.Rule += fmt.Sprintf("; it was %s and is %s now", text(old.Identity), text(d.Identity))
	}
	return Device{}, false, err
}

func text(id connector.Identity) string {
	if id == "" {
		return "without a name"
	}
	return string(id)
}
