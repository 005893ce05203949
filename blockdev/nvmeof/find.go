package nvmeof

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/uevent"
)

// await waits until the namespace's disk can be used, and returns it when it is the right one.
func (c *Connector) await(ctx context.Context, s subsystem, info connector.Info, known connector.Identity) (connector.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Options.DeviceWait)
	defer cancel()
	watch, err := c.System.Kernel.Watch()
	if err != nil {
		return connector.Device{}, err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	watch.Glance(unasked)
	look := &look{c: c, s: s, info: info, watch: watch}
	if err := watch.Until(ctx, func() (bool, error) { return look.again(ctx) }); err != nil {
		if ctx.Err() != nil {
			err = look.explain(err)
		}
		return connector.Device{}, err
	}
	return c.device(look.found, look.controllers, info, known)
}

// look is one search for a namespace.
type look struct {
	c           *Connector
	s           subsystem
	info        connector.Info
	watch       *uevent.Watch
	only        []string // what events have in them that are waited for
	scanned     bool
	controllers []Controller
	found       Namespace
	missing     string // why it is not found yet
}

// again looks whether the namespace is there now. Subsystems tell of new namespaces, but not all do, and not always at once: the first look that does not
// find it asks the kernel to ask.
func (l *look) again(ctx context.Context) (bool, error) {
	for {
		if l.missing == notYet && !l.up() {
			return false, nil // which costs two files, and not all of the subsystem's
		}
		done, err := l.once(ctx)
		if done || err != nil || !l.narrow() {
			return done, err
		}
		// An event that came before the watch was told of it has to be looked for.
	}
}

// notYet is what a disk lacks that has nothing to wait for but itself.
const notYet = "the disk has not come up"

// up says whether the disk that was found has come up, or has gone.
func (l *look) up() bool {
	_, err := l.c.System.Bytes(l.found.Disk)
	return err != nil || l.c.System.Settled(l.found.Disk)
}

// unasked is how often is looked when no event comes: a path's ANA state changes without one, and what udev says of a disk is the operator's to change.
const unasked = 2 * time.Second

// narrow has the watch wake this look for what is missing and nothing else, and says whether that is new.
func (l *look) narrow() bool {
	only := []string{uevent.Device(l.found.Disk)}
	if l.missing != notYet {
		only = l.signs()
	}
	if slices.Equal(only, l.only) {
		return false
	}
	l.only = only
	l.watch.Only(only...)
	return true
}

// signs are what events have in them that tell of a namespace: udev's have the name that it has for ever (ID_WWN), the kernel's only the disk's number, which
// nobody can know before. Controllers, which come and go, are few.
func (l *look) signs() []string {
	controllers := uevent.Subsystem("nvme")
	switch n := l.info.NVMe; {
	case !l.c.System.HasUdev():
	case n.UUID != "": // a namespace without a UUID shows its NGUID as one, and has it in its name without dashes
		return []string{controllers, strings.ToLower(n.UUID), strings.ReplaceAll(strings.ToLower(n.UUID), "-", "")}
	case n.NGUID != "":
		return []string{controllers, strings.ReplaceAll(strings.ToLower(n.NGUID), "-", "")}
	}
	return []string{"nvme"}
}

func (l *look) once(ctx context.Context) (bool, error) {
	var err error
	if l.controllers, err = l.c.spaces(l.s); err != nil {
		return false, err
	}
	found := disks(l.controllers, func(n Namespace) bool { return n.matches(*l.info.NVMe) })
	switch {
	case len(found) == 0:
		l.missing = "the subsystem shows no such namespace"
		return false, l.scan(ctx)
	case len(found) > 1 && NativeMultipath(l.c.System.Sys):
		return false, noDevice(l.s.NQN, fmt.Sprintf("%d namespaces of the subsystem could be the volume, and nothing says which", len(found)))
	}
	// Without native multipath there may be a disk for each controller: any does.
	for _, l.found = range found {
		if l.unready() == "" {
			break
		}
	}
	if why := l.unready(); why != "" {
		l.missing = why
		return false, nil
	}
	now, err := l.c.identityOf(ctx, l.controllers, l.found)
	if err != nil {
		l.missing = err.Error()
		return false, nil //nolint:nilerr // the path may come back; explain has the error
	}
	if now != "" && now != l.found.Identity {
		l.missing = fmt.Sprintf("the namespace is %s at the subsystem, and the host knows it as %s", now, l.found.Identity)
		l.scanned = false
		return false, l.scan(ctx)
	}
	return true, nil
}

// unready says what the disk lacks before it can be used; empty for nothing.
func (l *look) unready() string {
	var states []string
	usable := false
	for _, k := range l.controllers {
		for _, n := range k.Spaces {
			if n.Disk == l.found.Disk {
				usable = usable || k.State == Live && n.usable()
				states = append(states, strings.TrimSpace(k.portal()+" "+k.State+" "+n.ANA))
			}
		}
	}
	size, err := l.c.System.Bytes(l.found.Disk)
	switch {
	case !usable:
		return "no path to the namespace can be used: " + strings.Join(states, ", ")
	case err == nil && size == 0:
		return "the disk " + l.found.Disk + " has no bytes"
	case err != nil, !l.c.System.Settled(l.found.Disk):
		return notYet
	}
	return ""
}

func (l *look) scan(ctx context.Context) error {
	if l.scanned {
		return nil
	}
	l.scanned = true
	return l.c.rescan(ctx, l.controllers)
}

// explain says why the namespace was not found in time.
func (l *look) explain(cause error) error {
	e := &connector.Error{Reason: connector.NoDevice, Field: "nqn", Value: short(l.s.NQN), Rule: l.missing, Err: cause}
	if size, err := l.c.System.Bytes(l.found.Disk); err == nil && size == 0 {
		e.Reason = connector.BadSize
	}
	return e
}

// rescan makes the kernel ask the subsystem for its namespaces anew, by all controllers that can. It does not wait for what comes of it.
func (c *Connector) rescan(ctx context.Context, controllers []Controller) error {
	return bounded(ctx, func() error {
		var failures []error
		for _, k := range controllers {
			if k.State != Live {
				continue
			}
			if err := c.Kernel.Write(c.sys("class/nvme", k.Name, "rescan_controller"), "1"); err != nil && !gone(err) {
				failures = append(failures, fmt.Errorf("rescan of %s: %w", k.Name, err))
			}
		}
		return errors.Join(failures...)
	})
}

// bounded runs what the kernel may keep waiting for a target that is away, no longer than ctx lasts. What was begun goes on without us.
func bounded(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ask asks the subsystem itself about a namespace, by the first controller that answers. What sysfs has is what the kernel remembers.
func (c *Connector) ask(ctx context.Context, controllers []Controller, n Namespace, cns uint8) ([]byte, error) {
	failure := fmt.Errorf("no controller shows %s", n.Disk)
	for _, k := range controllers {
		if !k.shows(n.Disk) {
			continue
		}
		var data []byte
		failure = bounded(ctx, func() error {
			got, err := c.Kernel.Identify(filepath.Join(c.System.Dev, k.Name), n.NSID, cns)
			if err == nil {
				data = got
			}
			return err
		})
		if failure == nil {
			return data, nil
		}
	}
	return nil, failure
}

// identityOf is what the subsystem says that the namespace is now; empty where it does not say, as those before NVMe 1.3.
func (c *Connector) identityOf(ctx context.Context, controllers []Controller, n Namespace) (connector.Identity, error) {
	data, err := c.ask(ctx, controllers, n, cnsDescriptors)
	var status StatusError
	if errors.As(err, &status) && status.unknownField() {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return describe(data), nil
}

func (c *Connector) sizeOf(ctx context.Context, controllers []Controller, n Namespace) (int64, error) {
	data, err := c.ask(ctx, controllers, n, cnsNamespace)
	if err != nil {
		return 0, &connector.Error{Reason: connector.Unreachable, Field: "device", Value: n.Disk, Rule: "the subsystem does not say how large the namespace is", Err: err}
	}
	return geometry(data)
}

// device is the disk as it is handed over, when it is the one that was promised.
func (c *Connector) device(n Namespace, controllers []Controller, info connector.Info, known connector.Identity) (connector.Device, error) {
	if err := connector.CheckIdentity(n.Disk, n.Identity, known); err != nil {
		return connector.Device{}, err
	}
	named := info.NVMe.UUID != "" || info.NVMe.NGUID != ""
	if info.WWID != "" && !named && !scsi.SameWWID(n.Identity, info.WWID) {
		return connector.Device{}, connector.CheckIdentity(n.Disk, n.Identity, connector.Identity(info.WWID))
	}
	size, err := c.System.Bytes(n.Disk)
	if err != nil {
		return connector.Device{}, err
	}
	dev := connector.Device{Path: c.path(n), Format: "raw", Identity: n.Identity, Bytes: size}
	for _, k := range controllers {
		for _, p := range k.Spaces {
			if p.Disk == n.Disk && p.Path != n.Disk {
				dev.Paths = append(dev.Paths, p.Path)
			}
		}
	}
	slices.Sort(dev.Paths)
	return dev, nil
}

// path is the file to use the disk by: udev's link of its identity, so that a path that is kept never becomes that of another disk; where there is none, the
// kernel's own name.
func (c *Connector) path(n Namespace) string {
	link := filepath.Join(c.System.Dev, "disk/by-id", "nvme-"+strings.ReplaceAll(string(n.Identity), "/", ""))
	if c.System.Name(link) == n.Disk {
		return link
	}
	return c.System.Node(n.Disk)
}
