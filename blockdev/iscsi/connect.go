package iscsi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/lun"
	"compute-agent/blockdev/scsi"
)

// cleanUp bounds what has to be done after a failure, when the caller waits no more.
const cleanUp = 2 * time.Minute

// disk is a volume by one way.
type disk struct {
	way
	scsi.Device
}

// Connect implements connector.Connector. Ways that do not work are logged, and left out as long as one does.
func (c *Connector) Connect(ctx context.Context, info connector.Info, known connector.Identity) (connector.Device, error) {
	info.EnforceMultipath = info.EnforceMultipath || c.Enforce
	v, err := c.parse(info)
	if err != nil {
		return connector.Device{}, err
	}
	unlock, err := c.lock(ctx, v)
	if err != nil {
		return connector.Device{}, err
	}
	defer unlock()
	many, err := c.wantsMany(ctx, info)
	if err != nil {
		return connector.Device{}, err
	}
	if !many {
		return c.connect(ctx, v, v.ways, false, known)
	}
	ways, err := c.complete(ctx, v)
	if err != nil {
		return connector.Device{}, err
	}
	return c.connect(ctx, v, ways, true, known)
}

// wantsMany says whether all ways are to be used. Without multipathd it is the first that works, unless the volume must not be without.
func (c *Connector) wantsMany(ctx context.Context, info connector.Info) (bool, error) {
	if !c.Multipath {
		if info.EnforceMultipath {
			return false, &connector.Error{Reason: connector.NoMultipath, Field: "enforce_multipath", Value: "true", Rule: "this host is not to use multipath"}
		}
		return false, nil
	}
	err := c.luns.Maps.Check(ctx)
	if err != nil && !info.EnforceMultipath {
		c.Log.WarnContext(ctx, "A volume gets one path: multipathd does not run", "cause", err)
		return false, nil
	}
	return err == nil, err
}

// connect leaves nothing behind when it fails but what was there before.
func (c *Connector) connect(ctx context.Context, v volume, ways []way, many bool, known connector.Identity) (connector.Device, error) {
	for _, w := range ways {
		c.hold(w.path)
	}
	before, err := c.present(ctx, v, "")
	var disks []disk
	if err == nil {
		disks, err = c.reach(ctx, ways, many, v.info.ISCSI.Auth)
	}
	var dev connector.Device
	if err == nil {
		dev, err = c.assemble(ctx, v, disks, many, known)
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	if err != nil {
		if failure := c.undo(after, v, before); failure != nil {
			c.Log.WarnContext(ctx, "Disks of a volume that cannot be connected stay", "cause", failure)
		}
	}
	for _, w := range ways {
		if failure := c.letGo(after, w.path); failure != nil {
			c.Log.WarnContext(ctx, "An iSCSI session that nobody needs stays", "portal", w.portal(), "target", w.iqn, "cause", failure)
		}
	}
	return dev, err
}

// assemble makes one device of the disks, when all are the volume.
func (c *Connector) assemble(ctx context.Context, v volume, disks []disk, many bool, known connector.Identity) (connector.Device, error) {
	luns := c.luns
	luns.Multipath = many
	return luns.Assemble(ctx, lun.Wanted{Info: v.info, Known: known, Whose: func(d scsi.Device) (string, bool) { return c.whose(v, d) }}, asPaths(disks))
}

func asPaths(disks []disk) []lun.Path {
	var paths []lun.Path
	for _, d := range disks {
		paths = append(paths, lun.Path{Device: d.Device, At: d.portal()})
	}
	return paths
}

// whose says where a disk is, and whether that is a way to the volume.
func (c *Connector) whose(v volume, d scsi.Device) (where string, ours bool) {
	where = fmt.Sprintf("SCSI device %v", d.Address)
	all, err := sessions(c.SCSI.Sys, "")
	if err != nil {
		return where, false
	}
	for _, s := range all {
		if address(s, d.Address.LUN) == d.Address {
			return fmt.Sprintf("LUN %s of %s", scsi.LUNInPath(d.Address.LUN), s.IQN),
				slices.ContainsFunc(v.ways, func(w way) bool { return w.iqn == s.IQN && w.lun == d.Address.LUN })
		}
	}
	return where, false
}

// undo takes away the disks that are there and were not before.
func (c *Connector) undo(ctx context.Context, v volume, before []disk) error {
	disks, err := c.present(ctx, v, "")
	if err != nil {
		return err
	}
	return c.takeAway(ctx, slices.DeleteFunc(disks, func(d disk) bool {
		return slices.ContainsFunc(before, func(old disk) bool { return old.Address == d.Address && old.Identity == d.Identity })
	}))
}

// reach returns the volume by all ways that work, or by the first that does.
func (c *Connector) reach(ctx context.Context, ways []way, many bool, auth *connector.CHAP) ([]disk, error) {
	if many {
		return c.reachAll(ctx, ways, auth)
	}
	var failures []error
	for _, w := range ways {
		d, err := c.reachOne(ctx, w, auth)
		if err == nil {
			return []disk{d}, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, why(ctx, ways, failures)
}

// errLeft is why a way is given up that takes longer than others.
var errLeft = errors.New("another way works, and this one takes too long")

func (c *Connector) reachAll(ctx context.Context, ways []way, auth *connector.CHAP) ([]disk, error) {
	type result struct {
		i    int
		disk disk
		err  error
	}
	each, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	results := make(chan result)
	for i, w := range ways {
		go func() {
			d, err := c.reachOne(each, w, auth)
			results <- result{i, d, err}
		}()
	}
	found := make([]disk, len(ways))
	var failures []error
	for range ways {
		r := <-results
		if r.err != nil {
			failures = append(failures, r.err)
			continue
		}
		found[r.i] = r.disk
		defer time.AfterFunc(c.Straggler, func() { giveUp(errLeft) }).Stop()
	}
	disks := slices.DeleteFunc(found, func(d disk) bool { return d.Name == "" })
	if len(disks) == 0 || ctx.Err() != nil {
		return nil, why(ctx, ways, failures)
	}
	for _, err := range failures {
		c.Log.WarnContext(ctx, "A volume is there without one of its paths", "target", ways[0].iqn, "cause", err)
	}
	return disks, nil
}

// reachOne logs in by a way, if need be, and returns the disk that is there.
func (c *Connector) reachOne(ctx context.Context, w way, auth *connector.CHAP) (disk, error) {
	s, err := c.enter(ctx, w.path, auth)
	if err != nil {
		return disk{}, err
	}
	d, err := c.attach(ctx, w, address(s, w.lun))
	return disk{way: w, Device: d}, err
}

// attach scans for the disk. A target that has just been told of a LUN may not show it at once, and says nothing when it does.
func (c *Connector) attach(ctx context.Context, w way, a scsi.Address) (scsi.Device, error) {
	pause := time.Second
	for tries := c.Scans; ; tries-- {
		d, err := c.scan(ctx, a)
		var refused *connector.Error
		if !errors.As(err, &refused) || refused.Reason != connector.NoDevice {
			return d, err
		}
		refused.Field, refused.Value = "target_lun", scsi.LUNInPath(w.lun)
		refused.Rule = fmt.Sprintf("target %s has no such disk at %s", w.iqn, w.portal())
		if tries <= 1 {
			return d, err
		}
		select {
		case <-ctx.Done():
			return d, err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// scan does not end with ctx, for the kernel's does not: a disk would appear after it was looked for to be taken away. One that is only late is
// left to come.
func (c *Connector) scan(ctx context.Context, a scsi.Address) (scsi.Device, error) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Device)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errLeft) {
			cancel()
		}
	})()
	d, err := c.luns.Scan(limited, a)
	if err != nil && limited.Err() != nil {
		err = &connector.Error{
			Reason: connector.Unreachable, Field: "target_lun", Value: scsi.LUNInPath(a.LUN),
			Rule: fmt.Sprintf("the disk at SCSI address %v did not come in %v", a, c.Device), Err: err,
		}
	}
	return d, err
}

// reasons are in the order of what is worth telling when ways fail for different ones.
var reasons = []connector.Reason{connector.Unsupported, connector.InvalidInfo, connector.AuthFailed, connector.InUse, connector.NoDevice}

// why makes one error of those of all ways.
func why(ctx context.Context, ways []way, failures []error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var causes []string
	for _, err := range failures {
		causes = append(causes, err.Error())
	}
	if len(failures) == 1 {
		return failures[0]
	}
	e := &connector.Error{Reason: connector.Unreachable, Field: "target_iqn", Value: ways[0].iqn, Rule: "no way to the volume works: " + strings.Join(causes, "; ")}
	for _, reason := range reasons {
		for _, err := range failures {
			var refused *connector.Error
			if errors.As(err, &refused) && refused.Reason == reason {
				e.Reason = reason
				if reason == connector.Unsupported { // it is not about this way or that
					return err
				}
				return e
			}
		}
	}
	return e
}
