package libvirt

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// copySet knows the disks that are being copied by this driver.
type copySet struct {
	mu    sync.Mutex
	disks map[diskJob]bool
}

// take adds a disk; false when it is there already.
func (s *copySet) take(j diskJob) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disks[j] {
		return false
	}
	if s.disks == nil {
		s.disks = map[diskJob]bool{}
	}
	s.disks[j] = true
	return true
}

func (s *copySet) give(j diskJob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.disks, j)
}

// copyLimit is more than any copy takes: its context bounds it.
const copyLimit = 365 * 24 * time.Hour

// progressEvery is how often a copy tells how far it is.
const progressEvery = time.Second

// CopyDisk implements virt.DiskCopier. The guest's turn is taken to begin and to end, not for the time between.
func (d *Driver) CopyDisk(ctx context.Context, id, target string, to virt.Disk, progress func(done, total uint64)) error {
	const op = "copy disk of guest"
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	return d.run(ctx, op, id, copyLimit, func(ctx context.Context, c *call) error {
		job := diskJob{id, target}
		if !d.copies.take(job) {
			return busyCopy(target)
		}
		defer d.copies.give(job)
		done, err := c.beginCopy(ctx, job, to)
		if err == nil && !done {
			if err = c.awaitCopy(ctx, job, progress); err == nil {
				err = c.pivot(ctx, job, to)
			}
			if err != nil {
				c.abandonCopy(ctx, job, to)
			}
		}
		return err
	})
}

func busyCopy(target string) error {
	return fmt.Errorf("%w: disk %s is being copied", virt.ErrBusy, target)
}

// inTurn runs f with the domain in the guest's turn.
func (c *call) inTurn(ctx context.Context, id string, f func(*lv.Domain) error) error {
	give, err := c.d.turns.take(ctx, id)
	if err != nil {
		return unavailable(fmt.Errorf("another call for this guest is under way: %w", err))
	}
	defer give()
	return c.domain(ctx, id, f)
}

// beginCopy begins a copy, or takes on the one that another agent left. It says whether the copy is done already.
func (c *call) beginCopy(ctx context.Context, job diskJob, to virt.Disk) (done bool, err error) {
	err = c.inTurn(ctx, job.id, func(dom *lv.Domain) error {
		disk, live, err := lookUpDisk(dom, job.target)
		switch {
		case err != nil:
			return err
		case !live:
			return fmt.Errorf("%w: the guest does not run with disk %s", virt.ErrInvalidState, job.target)
		}
		to.Target, to.Bus, to.Kind, to.Unit, to.WWN, to.Alias = job.target, disk.Target.Bus, "", nil, "", ""
		if err := to.Validate(); err != nil {
			return err
		}
		if sameSource(sourceOf(disk), to.Source) {
			done = true
			return takeOver(dom, job.target, &to)
		}
		return c.startCopy(dom, disk, &to)
	})
	if err != nil && outcomeUnknown(err) {
		c.abandonCopy(ctx, job, to)
	}
	return done, err
}

// startCopy starts the job in QEMU. That is not told to libvirt as one that must survive the domain: such a job would end with the guest, and
// is begun again then.
func (c *call) startCopy(dom *lv.Domain, disk *libvirtxml.DomainDisk, to *virt.Disk) error {
	if disk.Mirror != nil {
		if !sameSource(readSource(disk.Mirror.Source), to.Source) {
			return busyCopy(to.Target)
		}
		return dom.BlockJobSetSpeed(to.Target, c.d.opt.CopyBytes, lv.DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES)
	}
	if err := checkFiles(&virt.Spec{Disks: []virt.Disk{*to}}); err != nil {
		return err
	}
	info, err := dom.GetBlockInfo(to.Target, 0)
	if err != nil {
		return err
	}
	has, err := sizeOf(to)
	if err == nil && has > 0 && has < info.Capacity {
		err = fmt.Errorf("%w: %d bytes are too few for disk %s of %d", virt.ErrInvalid, has, to.Target, info.Capacity)
	}
	if err != nil {
		return err
	}
	domain, err := parseDomain(dom, 0)
	if err != nil {
		return err
	}
	if _, _, err := unlessUsed(*to)(domain); err != nil {
		return err
	}
	rendered := renderDisk(to)
	if has > info.Capacity && to.Key == nil { // QEMU copies between equals only
		rendered.Source.Slices = &libvirtxml.DomainDiskSlices{Slices: []libvirtxml.DomainDiskSlice{{Type: "storage", Size: uint(info.Capacity)}}}
	}
	element, err := rendered.Marshal()
	if err != nil {
		return err
	}
	limit := &lv.DomainBlockCopyParameters{BandwidthSet: c.d.opt.CopyBytes > 0, Bandwidth: c.d.opt.CopyBytes}
	// What the guest writes goes to both at once: a guest that writes faster than is copied would never let the copy end.
	const how = lv.DOMAIN_BLOCK_COPY_REUSE_EXT | lv.DOMAIN_BLOCK_COPY_TRANSIENT_JOB | lv.DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES
	return dom.BlockCopy(to.Target, element, limit, how)
}

// awaitCopy waits until all is copied, and then what the guest writes goes to both. libvirt's events say when to look; the ticker is for progress.
func (c *call) awaitCopy(ctx context.Context, job diskJob, progress func(done, total uint64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs, events := c.d.jobs.Subscribe(ctx), c.d.hub.Subscribe(ctx)
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		ready, err := c.lookAtCopy(ctx, job, progress)
		if ready || err != nil && (!outcomeUnknown(err) || ctx.Err() != nil || c.d.closing.Err() != nil) {
			return err
		}
		for look := false; !look; {
			select {
			case j, open := <-jobs:
				if !open {
					return c.d.endOf(ctx)
				}
				look = j == job || j == diskJob{}
			case e, open := <-events:
				if !open {
					return c.d.endOf(ctx)
				}
				look = concerns(e, job.id)
			case <-ticker.C:
				look = true
			}
		}
	}
}

// lookAtCopy tells how far a copy is, and says whether all is copied.
func (c *call) lookAtCopy(ctx context.Context, job diskJob, progress func(done, total uint64)) (ready bool, err error) {
	var info *lv.DomainBlockJobInfo
	err = c.domain(ctx, job.id, func(dom *lv.Domain) error {
		state, _, err := dom.GetState()
		if err != nil {
			return err
		}
		if !hasProcess(state) {
			return fmt.Errorf("%w: the guest ended while disk %s was copied", virt.ErrInvalidState, job.target)
		}
		info, err = dom.GetBlockJobInfo(job.target, lv.DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES)
		return err
	})
	if err != nil {
		return false, err
	}
	if info == nil || info.Type != lv.DOMAIN_BLOCK_JOB_TYPE_COPY {
		return false, fmt.Errorf("the copy of disk %s failed, or somebody aborted it; the guest goes on with what it had", job.target)
	}
	progress(info.Cur, info.End)
	return info.Cur == info.End, nil // libvirt says less than all until QEMU says that it is ready
}

// pivot has the guest use what was copied.
func (c *call) pivot(ctx context.Context, job diskJob, to virt.Disk) error {
	return c.inTurn(ctx, job.id, func(dom *lv.Domain) error {
		if err := dom.BlockJobAbort(job.target, lv.DOMAIN_BLOCK_JOB_ABORT_PIVOT); err != nil {
			return err
		}
		return takeOver(dom, job.target, &to)
	})
}

// sizeOf is the size of a disk's source; 0 when only who opens it finds out.
func sizeOf(d *virt.Disk) (bytes uint64, err error) {
	if d.Path() == "" || d.Format != "raw" {
		return 0, nil
	}
	f, err := os.Open(d.Path())
	if err != nil {
		return 0, fmt.Errorf("%w: %w", virt.ErrInvalid, err)
	}
	defer func() { _ = f.Close() }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", virt.ErrInvalid, err)
	}
	return uint64(end), nil
}

// takeOver gives a disk that has its new source what else comes with that.
func takeOver(dom *lv.Domain, target string, to *virt.Disk) error {
	if err := retune(dom, target, to.Tune); err != nil {
		return err
	}
	return redefineDisk(dom, target, to)
}

// retune limits a disk that runs.
func retune(dom *lv.Domain, target string, to virt.DiskTune) error {
	domain, err := parseDomain(dom, 0)
	if err != nil {
		return err
	}
	disk := diskAt(domain, target)
	if disk == nil || readTune(disk.IOTune) == to {
		return nil
	}
	return dom.SetBlockIoTune(target, tuneParameters(to), lv.DOMAIN_AFFECT_LIVE)
}

// tuneParameters names every limit: one that is left out would stay as it is.
func tuneParameters(t virt.DiskTune) *lv.DomainBlockIoTuneParameters {
	return &lv.DomainBlockIoTuneParameters{
		TotalBytesSecSet: true, TotalBytesSec: t.TotalBytes, ReadBytesSecSet: true, ReadBytesSec: t.ReadBytes,
		WriteBytesSecSet: true, WriteBytesSec: t.WriteBytes, TotalIopsSecSet: true, TotalIopsSec: t.TotalIOPS,
		ReadIopsSecSet: true, ReadIopsSec: t.ReadIOPS, WriteIopsSecSet: true, WriteIopsSec: t.WriteIOPS,
		TotalBytesSecMaxSet: true, TotalBytesSecMax: t.TotalBytesMax, ReadBytesSecMaxSet: true, ReadBytesSecMax: t.ReadBytesMax,
		WriteBytesSecMaxSet: true, WriteBytesSecMax: t.WriteBytesMax, TotalIopsSecMaxSet: true, TotalIopsSecMax: t.TotalIOPSMax,
		ReadIopsSecMaxSet: true, ReadIopsSecMax: t.ReadIOPSMax, WriteIopsSecMaxSet: true, WriteIopsSecMax: t.WriteIOPSMax,
		SizeIopsSecSet: true, SizeIopsSec: t.SizeIOPS,
	}
}

// redefineDisk gives a disk of the guest's definition what it was copied to. libvirt itself does that at a pivot, where the definition had
// what the guest ran with, for the source alone; and it takes over that only a part of a larger source was used.
func redefineDisk(dom *lv.Domain, target string, to *virt.Disk) error {
	persistent, err := dom.IsPersistent()
	if err != nil || !persistent {
		return err
	}
	domain, err := parseDomain(dom, lv.DOMAIN_XML_INACTIVE)
	if err != nil {
		return err
	}
	disk := diskAt(domain, target)
	if disk == nil {
		return nil
	}
	is := renderDisk(to)
	disk.Source, disk.Auth, disk.Encryption, disk.BackingStore, disk.Serial = is.Source, is.Auth, is.Encryption, is.BackingStore, to.Serial
	disk.IOTune, disk.BlockIO = is.IOTune, is.BlockIO
	if disk.Driver != nil {
		disk.Driver.Type, disk.Driver.Cache, disk.Driver.IO = to.Format, to.Cache, to.IO
		disk.Driver.Discard, disk.Driver.DetectZeros = to.Discard, to.DetectZeroes
	}
	element, err := disk.Marshal()
	if err != nil {
		return err
	}
	return dom.UpdateDeviceFlags(element, lv.DOMAIN_DEVICE_MODIFY_CONFIG)
}

// abandonCopy ends a copy that failed, also when the caller has gone; not when the driver is closed, because then the agent ends and the next
// one goes on with it.
func (c *call) abandonCopy(ctx context.Context, job diskJob, to virt.Disk) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	for c.d.closing.Err() == nil {
		err := c.domain(ctx, job.id, func(dom *lv.Domain) error { return abortCopy(dom, job.target, &to) })
		switch {
		case err == nil, isMissing(err):
			return
		case outcomeUnknown(err) && ctx.Err() == nil: // it waits for the connection
		default:
			c.d.log.Error("libvirt: a copy of a disk is left under way", "guest", job.id, "disk", job.target, "error", err)
			return
		}
	}
}

// abortCopy ends the copy of a disk to a source, or to any when that is nil.
func abortCopy(dom *lv.Domain, target string, to *virt.Disk) error {
	domain, err := parseDomain(dom, 0)
	if err != nil {
		return err
	}
	disk := diskAt(domain, target)
	if disk == nil || disk.Mirror == nil || to != nil && !sameSource(readSource(disk.Mirror.Source), to.Source) {
		return nil
	}
	err = dom.BlockJobAbort(target, 0)
	if isCode(err, lv.ERR_INVALID_ARG, lv.ERR_OPERATION_INVALID) { // it has ended meanwhile
		return nil
	}
	return err
}

// AbortCopy implements virt.DiskCopier.
func (d *Driver) AbortCopy(ctx context.Context, id, target string) error {
	return d.run(ctx, "abort copy of disk of guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		job := diskJob{id, target}
		if !d.copies.take(job) {
			return busyCopy(target)
		}
		defer d.copies.give(job)
		return c.inTurn(ctx, id, func(dom *lv.Domain) error { return abortCopy(dom, target, nil) })
	})
}
