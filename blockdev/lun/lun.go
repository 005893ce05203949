// Package lun makes one device of the disks that a volume's paths are, and takes them away again: whatever the fabric, who has found a logical unit goes on
// here. It decides which disk a guest may get, and which may be removed.
package lun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/scsi"
)

// Host is where disks are put together. All methods may be called concurrently, but not for the same volume.
type Host struct {
	SCSI scsi.System
	Maps multipath.Daemon
	// Multipath makes a map of each volume's paths, also of one. Without it a map that is there already is used all the same.
	Multipath bool
	// Enforce refuses volumes that no map can be made of (enforce_multipath); otherwise one path is used as it is. So does a volume's own
	// EnforceMultipath.
	Enforce bool
	Log     *slog.Logger
}

// Path is a disk that a volume is there as.
type Path struct {
	scsi.Device
	At string // where it is, for people, such as a portal; empty for the disk's own name
}

func (p Path) where() string { return cmp.Or(p.At, p.Name) }

// Wanted is a volume that paths are to be.
type Wanted struct {
	Info connector.Info
	// Known is the identity that the disk must have; empty for the one that Info names, if it names one.
	Known connector.Identity
	// Whose says where another disk is that has the same identity, and whether that is a way to the volume: if not, the volume is refused. Nil where
	// nobody can tell: then it is refused when somebody holds the other.
	Whose func(scsi.Device) (where string, ours bool)
}

// Attach scans for a logical unit at its addresses, all at once, and returns its device: the disk known, or, with known empty, the one that Info
// names, if it names one. What it found and does not return it takes away again, unless it was there before. Paths that fail are left out as
// long as one works; the error is that of the first of them, and NoDevice before Unreachable.
func (h Host) Attach(ctx context.Context, info connector.Info, known connector.Identity, addresses []scsi.Address) (connector.Device, error) {
	if h.enforced(info) {
		if err := h.Maps.Check(ctx); err != nil {
			return connector.Device{}, err
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(addresses), func(a scsi.Address) bool {
		_, found, err := h.SCSI.Find(a)
		return found || err != nil
	})
	paths, err := h.scan(ctx, addresses)
	var device connector.Device
	if err == nil {
		device, err = h.Assemble(ctx, Wanted{Info: info, Known: known}, paths)
	}
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		var vain []scsi.Device
		for _, p := range paths {
			if slices.Contains(fresh, p.Address) {
				vain = append(vain, p.Device)
			}
		}
		err = errors.Join(err, h.TakeAway(clean, vain, h.SCSI.Remove))
	}
	return device, err
}

// cleanUp bounds what has to be done after a failure.
const cleanUp = 2 * time.Minute

func (h Host) enforced(info connector.Info) bool { return h.Enforce || info.EnforceMultipath }

// scan attaches the disks at the addresses.
func (h Host) scan(ctx context.Context, addresses []scsi.Address) ([]Path, error) {
	disks := make([]scsi.Device, len(addresses))
	failed := make([]error, len(addresses))
	var wg sync.WaitGroup
	for i, a := range addresses {
		wg.Go(func() { disks[i], failed[i] = h.Scan(ctx, a) })
	}
	wg.Wait()
	var there []Path
	for i, d := range disks {
		if failed[i] == nil {
			there = append(there, Path{Device: d})
		}
	}
	if len(there) > 0 {
		for i, err := range failed {
			if err != nil {
				h.log().WarnContext(ctx, "A path to a volume is not there", "address", addresses[i].String(), "cause", err)
			}
		}
		return there, nil
	}
	return nil, worst(failed)
}

// worst is the error that tells most: that the disk is held or another one before that there is none, and that before all others.
func worst(errs []error) error {
	for _, reason := range []connector.Reason{connector.InUse, connector.IdentityMismatch, connector.NoDevice} {
		for _, err := range errs {
			var e *connector.Error
			if errors.As(err, &e) && e.Reason == reason {
				return err
			}
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return &connector.Error{Reason: connector.Unreachable, Rule: "no path leads to the volume"}
}

// Scan returns the disk that is at an address now, as scsi.System.Attach does. A path that an earlier volume's map still holds is taken out of that map.
func (h Host) Scan(ctx context.Context, a scsi.Address) (scsi.Device, error) {
	d, err := h.SCSI.Attach(ctx, a)
	if reason(err) == connector.InUse {
		if stale, found, _ := h.SCSI.Find(a); found && stale.Name != "" {
			d = stale
		}
	} else if err != nil {
		return d, err
	}
	m, mapped, lost := h.Maps.Of(d.Name)
	if lost != nil || !mapped || m.WWID == scsi.MapName(d.Identity) || err == nil && m.WWID == h.SCSI.WWID(d) {
		return d, errors.Join(err, lost)
	}
	if refused := h.Maps.Release(ctx, m, d.Name); refused != nil {
		return scsi.Device{}, errors.Join(err, refused)
	}
	return h.SCSI.Attach(ctx, a)
}

// Assemble makes one device of the paths, of which there is at least one, when all are the volume. It takes nothing away when it fails.
func (h Host) Assemble(ctx context.Context, w Wanted, paths []Path) (connector.Device, error) {
	if err := check(w, paths); err != nil {
		return connector.Device{}, err
	}
	if err := h.checkTwins(w, paths); err != nil {
		return connector.Device{}, err
	}
	return h.device(ctx, w.Info, paths)
}

// check refuses paths that are not the volume, or not all the same.
func check(w Wanted, paths []Path) error {
	first := paths[0]
	for _, p := range paths {
		if p.Identity != first.Identity || len(paths) > 1 && p.Identity == "" {
			return &connector.Error{Reason: connector.IdentityMismatch, Field: p.where(), Value: named(p.Identity),
				Rule: fmt.Sprintf("the paths lead to different disks: at %s it is %s", first.where(), named(first.Identity))}
		}
		if err := right(w, p.Device); err != nil {
			return err
		}
		switch {
		case p.Bytes == 0:
			return &connector.Error{Reason: connector.BadSize, Field: p.Name, Value: "0", Rule: "the disk is empty: its target has none behind it, or is not ready"}
		case p.Bytes != first.Bytes:
			return uneven(p, first)
		}
	}
	return nil
}

// uneven is how two paths differ in size.
func uneven(p, first Path) error {
	return &connector.Error{Reason: connector.BadSize, Field: p.where(), Value: fmt.Sprint(p.Bytes),
		Rule: fmt.Sprintf("all paths must have one size in bytes: at %s it is %d", first.where(), first.Bytes)}
}

func named(id connector.Identity) string {
	if id == "" {
		return "without a name"
	}
	return string(id)
}

// right checks a disk against what is known of it, or what the storage system says.
func right(w Wanted, d scsi.Device) error {
	if err := connector.CheckIdentity(d.Name, d.Identity, w.Known); err != nil {
		return err
	}
	if w.Info.WWID != "" && !scsi.SameWWID(d.Identity, w.Info.WWID) {
		return &connector.Error{Reason: connector.IdentityMismatch, Field: d.Name, Value: string(d.Identity),
			Rule: fmt.Sprintf("the storage system says that the volume is %s", w.Info.WWID)}
	}
	return nil
}

// checkTwins refuses a disk that is there at other addresses as well, when those are not ways to the volume, or held there by others than its map: whoever
// writes there and a guest would know nothing of each other, multipath would make one map of both, and udev's links would lead now to one and now to the
// other.
func (h Host) checkTwins(w Wanted, paths []Path) error {
	twins, err := h.SCSI.Namesakes(paths[0].Identity)
	if err != nil {
		return err
	}
	for _, d := range twins {
		ours := slices.ContainsFunc(paths, func(p Path) bool { return p.Address == d.Address })
		if ours || d.Name == "" {
			continue
		}
		if w.Whose == nil {
			err = h.checkUnused(d, paths[0])
		} else if where, is := w.Whose(d); !is && d.State == scsi.Running {
			err = &connector.Error{Reason: connector.IdentityMismatch, Field: paths[0].Name, Value: named(d.Identity),
				Rule: fmt.Sprintf("%s (%s) says the same of itself and is not this volume's", where, d.Name)}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkUnused refuses a twin that somebody holds.
func (h Host) checkUnused(d scsi.Device, of Path) error {
	maps := h.mapsOf(d)
	err := h.SCSI.CheckFree(d.Name, maps...)
	for _, m := range maps {
		err = errors.Join(err, h.checkHost(m))
	}
	if err != nil {
		return fmt.Errorf("%s is the disk %s too: %w", d.Name, of.Name, err)
	}
	return nil
}

// mapsOf are the kernel's names of the multipath maps of a disk: those that carry its own WWID.
func (h Host) mapsOf(d scsi.Device) []string {
	m, found, err := h.Maps.Of(d.Name)
	if err != nil || !found || m.WWID != h.SCSI.WWID(d) {
		return nil
	}
	return []string{m.Device}
}

// checkHost refuses a map that the host itself uses: by a mount, swap or another map. Else it may be the volume's guest that has it, which goes on while
// another path comes.
func (h Host) checkHost(device string) error {
	holders, err := h.SCSI.Holders(device)
	if err != nil {
		return err
	}
	for _, holder := range holders {
		other := holder.Kind == scsi.HeldByMap && !strings.HasPrefix(holder.UUID, "CRYPT-")
		if other || holder.Kind == scsi.HeldByMount || holder.Kind == scsi.HeldBySwap {
			return &connector.Error{Reason: connector.InUse, Field: device, Rule: "it is held by " + holder.String()}
		}
	}
	return nil
}

// device is the map of the disks, or one of them.
func (h Host) device(ctx context.Context, info connector.Info, disks []Path) (connector.Device, error) {
	m, found, err := h.Maps.Of(disks[0].Name)
	wwid := m.WWID
	if h.Multipath || h.enforced(info) {
		wwid = h.SCSI.WWID(disks[0].Device)
		if err := h.Maps.CheckMap(wwid, disks[0].Identity); err != nil {
			return connector.Device{}, err
		}
		m, err = h.Maps.Make(ctx, wwid, names(disks))
		found = err == nil
		if err != nil && !h.enforced(info) && ctx.Err() == nil {
			h.log().WarnContext(ctx, "A volume has no multipath map: one path is used", "disk", disks[0].Name, "cause", err)
			err = nil
		}
	}
	if err == nil && found {
		err = h.Maps.CheckMap(wwid, disks[0].Identity)
	}
	if err != nil {
		return connector.Device{}, err
	}
	device := connector.Device{Format: "raw", Identity: disks[0].Identity, Bytes: disks[0].Bytes, Paths: names(disks)}
	if !found {
		device.Path = h.path(disks)
		return device, nil
	}
	if m.Bytes != device.Bytes {
		if m, err = h.Maps.Resize(ctx, m); err != nil {
			return connector.Device{}, err
		}
	}
	device.Path, device.Map, device.Paths, device.Bytes = h.SCSI.Path(m.Device), m.Name, slices.Sorted(slices.Values(m.Paths)), m.Bytes
	return device, nil
}

// path is that of one of the disks: of the one that udev's link by identity leads to, which is one of them.
func (h Host) path(disks []Path) string {
	for _, d := range disks {
		if path := h.SCSI.Path(d.Name); path != h.SCSI.Node(d.Name) {
			return path
		}
	}
	return h.SCSI.Node(disks[0].Name)
}

func names(disks []Path) []string {
	out := make([]string, len(disks))
	for i, d := range disks {
		out[i] = d.Name
	}
	return out
}

func (h Host) log() *slog.Logger {
	if h.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return h.Log
}
