// Package multipath makes one block device of the paths to a disk, by the host's multipathd: it asks for the map of a disk by its WWID, waits for it, resizes
// it and takes it away. What there is it reads from sysfs, where the UUID of a map is mpath- and the WWID; multipathd tells which paths work.
package multipath

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/uevent"
	"compute-agent/internal/command"
	"compute-agent/internal/pattern"
)

// Daemon is a host's multipathd. All methods may be called concurrently.
type Daemon struct {
	SCSI     scsi.System
	Commands command.Runner
	// Patience is how long a map may take to appear after its paths are there; os-brick waits 10 seconds.
	Patience time.Duration
}

// DefaultPatience is that of Daemons that say none.
const DefaultPatience = 10 * time.Second

// Map is a disk with its paths.
type Map struct {
	WWID   string
	Name   string   // of device-mapper: the WWID, or what the operator's configuration calls it
	Device string   // of the kernel: dm-0
	Paths  []string // block devices
	Bytes  int64
	ready  bool
}

const uuidPrefix = "mpath-"

// Maps returns those of the host in no particular order. One that goes while it is read is left out.
func (d Daemon) Maps() ([]Map, error) {
	entries, err := os.ReadDir(d.block())
	if err != nil {
		return nil, fmt.Errorf("multipath maps: %w", err)
	}
	var maps []Map
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "dm-") {
			if m, ok := d.read(e.Name()); ok {
				maps = append(maps, m)
			}
		}
	}
	return maps, nil
}

func (d Daemon) block(parts ...string) string {
	return filepath.Join(append([]string{d.SCSI.Sys, "block"}, parts...)...)
}

// read returns the map that a device of device-mapper is, unless it is another's.
func (d Daemon) read(device string) (Map, bool) {
	uuid, err := os.ReadFile(d.block(device, "dm/uuid"))
	wwid, ours := strings.CutPrefix(strings.TrimSpace(string(uuid)), uuidPrefix)
	if err != nil || !ours {
		return Map{}, false
	}
	name, _ := os.ReadFile(d.block(device, "dm/name"))
	suspended, _ := os.ReadFile(d.block(device, "dm/suspended"))
	slaves, err := os.ReadDir(d.block(device, "slaves"))
	if err != nil {
		return Map{}, false
	}
	m := Map{WWID: wwid, Name: strings.TrimSpace(string(name)), Device: device}
	for _, s := range slaves {
		m.Paths = append(m.Paths, s.Name())
	}
	if m.Bytes, err = d.SCSI.Bytes(device); err != nil {
		return Map{}, false
	}
	m.ready = strings.TrimSpace(string(suspended)) != "1" && m.Bytes > 0 && len(m.Paths) > 0
	return m, true
}

// Find returns the map of a disk.
func (d Daemon) Find(wwid string) (Map, bool, error) {
	maps, err := d.Maps()
	if err != nil {
		return Map{}, false, err
	}
	i := slices.IndexFunc(maps, func(m Map) bool { return m.WWID == wwid })
	if i < 0 {
		return Map{}, false, nil
	}
	return maps[i], true, nil
}

// Of returns the map that a block device is a path of.
func (d Daemon) Of(path string) (Map, bool, error) {
	holders, err := os.ReadDir(d.block(path, "holders"))
	if errors.Is(err, fs.ErrNotExist) {
		return Map{}, false, nil
	}
	if err != nil {
		return Map{}, false, fmt.Errorf("multipath map of %s: %w", path, err)
	}
	for _, h := range holders {
		if m, ok := d.read(h.Name()); ok {
			return m, true, nil
		}
	}
	return Map{}, false, nil
}

// CheckMap refuses, with IdentityMismatch, a disk whose WWID has a map of another disk's paths: a disk has several names and chooses them, the kernel
// knows it by one, and multipathd makes maps by udev's, which may be that of somebody else's disk. No map is no fault.
func (d Daemon) CheckMap(wwid string, identity connector.Identity) error {
	m, found, err := d.Find(wwid)
	if err != nil || !found {
		return err
	}
	for _, path := range m.Paths {
		disk, there, err := d.SCSI.Block(path)
		if err != nil {
			return err
		}
		if there && disk.Identity != identity {
			return &connector.Error{Reason: connector.IdentityMismatch, Field: path, Value: string(disk.Identity),
				Rule: fmt.Sprintf("multipath map %s stands for this disk, and is not one of %q", m.Name, identity)}
		}
	}
	return nil
}

// Check returns NoMultipath unless multipathd answers.
func (d Daemon) Check(ctx context.Context) error {
	if _, err := d.ask(ctx, "show", "daemon"); err != nil {
		return &connector.Error{Reason: connector.NoMultipath, Rule: "multipathd does not answer", Err: err}
	}
	return nil
}

// wwidForm is of the WWIDs that can be told to multipathd, whose commands are words, and be kept in its file of WWIDs.
var wwidForm = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._:+=@-]{0,255}$`)

// Make returns the map of the paths to the disk with that WWID (scsi.System.WWID), and makes it if it is not there. It tells multipathd that the disk
// is wanted, which it would otherwise leave alone while there is only one path (find_multipaths yes) or it is not known (strict). All paths that
// multipathd accepts are in the map, unless that takes too long; at least one is. udev has made its links. The error is NoMultipath when no map comes.
func (d Daemon) Make(ctx context.Context, wwid string, paths []string) (Map, error) {
	if !wwidForm.MatchString(wwid) {
		return Map{}, &connector.Error{Reason: connector.NoMultipath, Field: "WWID", Value: wwid, Rule: "multipath has no name for the disk"}
	}
	watch, err := d.SCSI.Kernel.Watch()
	if err != nil {
		return Map{}, err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	ctx, cancel := context.WithTimeoutCause(ctx, d.patience(), fmt.Errorf("not there after %v", d.patience()))
	defer cancel()
	accepted, said, err := d.want(ctx, wwid, paths)
	if err != nil {
		return Map{}, err
	}
	var m Map
	usable := false
	err = watch.Until(ctx, func() (bool, error) {
		now, found, err := d.Find(wwid)
		m, usable = now, found && now.ready && d.SCSI.Settled(now.Device)
		// A map's first uevent comes before it has a table, and leaves no links.
		return usable && holds(m, accepted) && d.SCSI.Path(m.Device) != d.SCSI.Node(m.Device), err
	})
	if err != nil && !usable {
		return Map{}, &connector.Error{Reason: connector.NoMultipath, Field: "map", Value: wwid, Rule: "multipathd makes none of the paths" + said, Err: err}
	}
	return m, nil
}

// holds says whether the map has all of the paths.
func holds(m Map, paths []string) bool {
	return !slices.ContainsFunc(paths, func(path string) bool { return !slices.Contains(m.Paths, path) })
}

// want tells multipathd of the disk and of those of its paths that are in no map, and returns those that it takes. said is what multipathd said other
// than ok.
func (d Daemon) want(ctx context.Context, wwid string, paths []string) (accepted []string, said string, err error) {
	m, found, err := d.Find(wwid)
	if err != nil {
		return nil, "", err
	}
	if !found {
		if _, err := d.Commands.Run(ctx, command.Cmd{Name: "multipath", Args: []string{"-a", wwid}}); err != nil {
			return nil, "", &connector.Error{Reason: connector.NoMultipath, Field: "WWID", Value: wwid, Rule: "multipath does not take it", Err: err}
		}
	}
	for _, path := range paths {
		if slices.Contains(m.Paths, path) {
			continue
		}
		answer, err := d.ask(ctx, "add", "path", path)
		if err != nil {
			// One that it is about to take because of the kernel's event it does not take twice: the map comes all the same.
			if stopped := d.Check(ctx); stopped != nil {
				return nil, "", stopped
			}
			said += fmt.Sprintf("; of %s it says %q", path, err)
		} else if answer != okay {
			said += fmt.Sprintf("; of %s it says %q", path, answer)
			continue
		}
		accepted = append(accepted, path)
	}
	return accepted, said, nil
}

const okay = "ok"

// ask gives multipathd a command and returns its answer.
func (d Daemon) ask(ctx context.Context, words ...string) (string, error) {
	out, err := d.Commands.Run(ctx, command.Cmd{Name: "multipathd", Args: words})
	return strings.TrimSpace(string(out)), err
}

// Path is a path as multipathd sees it.
type Path struct {
	Device  string // sda
	Usable  bool   // the kernel sends I/O to it
	Checker string // ready, faulty, ghost... of multipathd's last look
}

// Paths returns the paths of a map with their states.
func (d Daemon) Paths(ctx context.Context, m Map) ([]Path, error) {
	text, err := d.ask(ctx, "show", "map", m.WWID, "json")
	if err != nil {
		return nil, fmt.Errorf("paths of multipath map %s: %w", m.Name, err)
	}
	paths, err := parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("paths of multipath map %s: %w", m.Name, err)
	}
	return paths, nil
}

// parse reads multipathd's JSON, version 0 of its format.
func parse(data []byte) ([]Path, error) {
	var reply struct {
		Map struct {
			Groups []struct {
				Paths []struct {
					Dev string `json:"dev"`
					DM  string `json:"dm_st"`
					Chk string `json:"chk_st"`
				} `json:"paths"`
			} `json:"path_groups"`
		} `json:"map"`
		Major *int `json:"major_version"`
	}
	if err := json.Unmarshal(data, &reply); err != nil {
		return nil, err
	}
	if reply.Major == nil || *reply.Major != 0 {
		return nil, errors.New("multipathd's JSON is not of version 0")
	}
	var paths []Path
	for _, group := range reply.Map.Groups {
		for _, p := range group.Paths {
			paths = append(paths, Path{Device: p.Dev, Usable: p.DM == "active", Checker: p.Chk})
		}
	}
	return paths, nil
}

// Resize makes the map as large as its paths are, which must have been read anew and agree.
func (d Daemon) Resize(ctx context.Context, m Map) (Map, error) {
	want, err := d.agreed(m)
	if err != nil || want == m.Bytes {
		return m, err
	}
	watch, err := d.SCSI.Kernel.Watch()
	if err != nil {
		return m, err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	answer, err := d.ask(ctx, "resize", "map", m.WWID)
	if err == nil && answer != okay {
		err = fmt.Errorf("multipathd says %q", answer)
	}
	if err != nil {
		return m, fmt.Errorf("resize of multipath map %s: %w", m.Name, err)
	}
	err = watch.Until(ctx, func() (bool, error) {
		now, found, err := d.Find(m.WWID)
		if err == nil && !found {
			err = fs.ErrNotExist
		}
		if found {
			m = now
		}
		return m.Bytes == want, err
	})
	if err != nil {
		return m, fmt.Errorf("resize of multipath map %s to %d bytes: %w", m.Name, want, err)
	}
	return m, nil
}

// agreed is the size that all paths have.
func (d Daemon) agreed(m Map) (int64, error) {
	var size int64
	for i, path := range m.Paths {
		bytes, err := d.SCSI.Bytes(path)
		if err != nil {
			return 0, fmt.Errorf("path %s of multipath map %s: %w", path, m.Name, err)
		}
		if i > 0 && bytes != size || bytes == 0 {
			return 0, &connector.Error{Reason: connector.BadSize, Field: path, Value: fmt.Sprint(bytes),
				Rule: fmt.Sprintf("all paths of multipath map %s must have one size, another has %d bytes", m.Name, size)}
		}
		size = bytes
	}
	return size, nil
}

// inUseRetries is how often multipath tries again, a second apart, when udev's programs look at a map that is to go.
const inUseRetries = "3"

// inUseGlances is how often the agent tries: multipath itself gives up at once when it is opened before it looks.
const inUseGlances = 6

// Remove takes the map away, with the maps of its partitions, and lets multipathd forget its paths, so that they can be removed. The error is InUse, and
// nothing is done, when somebody holds it. A map without working paths fails the I/O that it has queued. The paths stay.
func (d Daemon) Remove(ctx context.Context, m Map) error {
	if !wwidForm.MatchString(m.WWID) {
		return &connector.Error{Reason: connector.Unsupported, Field: "WWID", Value: m.WWID, Rule: "a multipath map with such a name is not the agent's"}
	}
	if err := d.SCSI.CheckFree(m.Device); err != nil {
		return err
	}
	watch, err := d.SCSI.Kernel.Watch()
	if err != nil {
		return err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	if err := d.flush(ctx, watch, m); err != nil {
		return err
	}
	// Without the WWID multipathd makes no map of a path that comes up again before it is removed.
	_, _ = d.Commands.Run(ctx, command.Cmd{Name: "multipath", Args: []string{"-w", m.WWID}})
	for _, path := range m.Paths {
		d.Forget(ctx, path)
	}
	err = watch.Until(ctx, func() (bool, error) {
		now, found, err := d.Find(m.WWID)
		return !found || now.Device != m.Device, err
	})
	if err != nil {
		return fmt.Errorf("multipath map %s does not go: %w", m.Name, err)
	}
	return nil
}

// flush removes the map. udev's programs look at a map that was just written to, and may do so several times: they are waited for.
func (d Daemon) flush(ctx context.Context, watch *uevent.Watch, m Map) error {
	for n := 1; ; n++ {
		_, err := d.Commands.Run(ctx, command.Cmd{Name: "multipath", Args: []string{"-R", inUseRetries, "-f", m.WWID}})
		if err == nil {
			return nil
		}
		if _, found, _ := d.Find(m.WWID); !found {
			return nil
		}
		if held := d.SCSI.CheckFree(m.Device); held != nil || n == inUseGlances || ctx.Err() != nil {
			return errors.Join(held, fmt.Errorf("multipath map %s: %w", m.Name, err))
		}
		glance(ctx, watch)
	}
}

// glance waits for an event, or a second at most.
func glance(ctx context.Context, watch *uevent.Watch) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	asked := 0 // the first time before any event
	_ = watch.Until(ctx, func() (bool, error) {
		asked++
		return asked > 1, nil
	})
}

// Forget tells multipathd that a path is no more. One that does not run has nothing to forget.
func (d Daemon) Forget(ctx context.Context, path string) { _, _ = d.ask(ctx, "del", "path", path) }

func (d Daemon) patience() time.Duration {
	if d.Patience > 0 {
		return d.Patience
	}
	return DefaultPatience
}

// Release takes a path out of a map that it does not belong into any more, because its LUN was given to another disk; a map of no other path goes
// with it. The error is InUse when the map has no other path and somebody holds it.
func (d Daemon) Release(ctx context.Context, m Map, path string) error {
	if len(m.Paths) < 2 {
		return d.Remove(ctx, m)
	}
	watch, err := d.SCSI.Kernel.Watch()
	if err != nil {
		return err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	d.Forget(ctx, path)
	err = watch.Until(ctx, func() (bool, error) {
		now, found, err := d.Of(path)
		return !found || now.Device != m.Device, err
	})
	if err != nil {
		return fmt.Errorf("path %s of multipath map %s: %w", path, m.Name, err)
	}
	return nil
}
