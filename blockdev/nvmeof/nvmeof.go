// Package nvmeof makes namespaces of NVMe subsystems over fabrics (TCP, RDMA, Fibre Channel) available on this host: it connects to all portals of a
// subsystem, finds the namespace by the name that it has for ever, and disconnects when nobody wants a namespace of the subsystem any more.
//
// It talks to the kernel itself, by /dev/nvme-fabrics, sysfs and Identify commands, and runs no program but modprobe. What it reads is sysfs as
// drivers/nvme/host of Linux 6.1 has it; what it does is what os-brick's nvmeof connector does, where the comments do not say otherwise.
package nvmeof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/uevent"
	"compute-agent/internal/command"
	"compute-agent/internal/keylock"
)

// Connector is the one for nvmeof. Its fields are not changed after its first use.
type Connector struct {
	System  scsi.System // whatever a block device is, who holds it is found in the same way
	Kernel  Kernel
	Modules command.Runner // runs modprobe
	Etc     string         // /etc: see ThisHost
	Run     string         // a directory of its own, below /run: see notes
	Options Options

	subsystems keylock.Map[string]
	scans      scans
}

var _ connector.Connector = (*Connector)(nil)

// Host is the connector of this host. run is a directory that is the agent's and is empty after each start of the host.
func Host(run string) *Connector {
	return &Connector{System: scsi.Host(), Kernel: linux{fabrics: "/dev/nvme-fabrics"}, Modules: command.Exec{}, Etc: "/etc", Run: run, Options: Defaults}
}

// Options are how connections are made, and how long is waited for them. The kernel counts in seconds; zero leaves a value to it.
type Options struct {
	// KeepAlive is how long a subsystem may be silent before the connection counts as lost.
	KeepAlive time.Duration
	// ReconnectDelay is the time between two attempts to get a lost connection back.
	ReconnectDelay time.Duration
	// ControllerLoss is how long they go on before the kernel gives the controller and, with the last, the disk up; negative for ever.
	ControllerLoss time.Duration
	// FastIOFail is how long I/O waits for a lost connection before it fails, if there is no other path; negative for as long as the controller is there.
	FastIOFail time.Duration
	QueueSize  int

	// ConnectWait is how long a portal may take to answer, and DeviceWait how long the namespace may take to be there after that.
	ConnectWait, DeviceWait time.Duration
	// FlushWait is how long it may take to write a disk's buffers out, and to remove a controller.
	FlushWait time.Duration
}

// Defaults are os-brick's: queues of 128 entries (-Q 128) and controllers that are never given up (-l -1), so that a guest's I/O waits as long as its
// storage is away; and the kernel's of all else, written out (drivers/nvme/host/fabrics.h).
var Defaults = Options{
	KeepAlive: 5 * time.Second, ReconnectDelay: 10 * time.Second, ControllerLoss: -1, QueueSize: 128,
	ConnectWait: 10 * time.Second, DeviceWait: 30 * time.Second, FlushWait: 30 * time.Second,
}

// Connect implements connector.Connector.
func (c *Connector) Connect(ctx context.Context, info connector.Info, known connector.Identity) (connector.Device, error) {
	s, portals, err := c.prepare(ctx, info)
	if err != nil {
		return connector.Device{}, err
	}
	wanted, err := c.begin(ctx, s, *info.NVMe, portals)
	var dev connector.Device
	if err == nil {
		dev, err = c.await(ctx, s, info, known)
	}
	if err == nil {
		return dev, nil
	}
	// A volume that was connected before may have a guest: the next attempt, or Disconnect, goes on from here.
	if mismatch := reasonOf(err) == connector.IdentityMismatch; wanted && !mismatch {
		return connector.Device{}, err
	}
	return connector.Device{}, errors.Join(err, c.abandon(ctx, s, *info.NVMe))
}

// begin notes that a namespace is wanted and sees to it that the subsystem is connected. wanted says whether it was noted before.
func (c *Connector) begin(ctx context.Context, s subsystem, info connector.NVMeInfo, portals []portal) (wanted bool, err error) {
	unlock, err := c.subsystems.Lock(ctx, s.key())
	if err != nil {
		return false, err
	}
	defer unlock()
	notes := c.notes(s)
	wanted = notes.has(usedBy(info))
	if err := notes.add(s, usedBy(info)); err != nil {
		return wanted, err
	}
	return wanted, c.reach(ctx, s, portals)
}

// abandon takes away what a Connect made that failed. It is not cut short with it.
func (c *Connector) abandon(ctx context.Context, s subsystem, info connector.NVMeInfo) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Options.FlushWait)
	defer cancel()
	unlock, err := c.subsystems.Lock(ctx, s.key())
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.notes(s).drop(usedBy(info)); err != nil {
		return err
	}
	return c.release(ctx, s)
}

// Disconnect implements connector.Connector. The connections to the subsystem are there for all of its namespaces: those that were made here go with
// the last that is wanted, if nobody holds another.
func (c *Connector) Disconnect(ctx context.Context, info connector.Info, dev connector.Device) error {
	s, err := c.subsystem(info)
	if err != nil {
		return err
	}
	controllers, err := c.spaces(s)
	if err != nil {
		return err
	}
	for _, n := range disks(controllers, sought(info, dev)) {
		if err := c.quiesce(ctx, controllers, n.Disk); err != nil {
			return err
		}
	}
	unlock, err := c.subsystems.Lock(ctx, s.key())
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.notes(s).drop(usedBy(*info.NVMe)); err != nil {
		return err
	}
	return c.release(ctx, s)
}

// quiesce writes a disk's buffers out when nobody holds it. Nothing can be written to one without a live path, and nothing is lost by it: whoever held it has
// waited for that.
func (c *Connector) quiesce(ctx context.Context, controllers []Controller, disk string) error {
	if err := c.System.CheckFree(disk); err != nil {
		return err
	}
	if !slices.ContainsFunc(controllers, func(k Controller) bool { return k.shows(disk) }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Options.FlushWait)
	defer cancel()
	return c.System.Flush(ctx, disk)
}

// shows says whether I/O to the disk can go by this controller.
func (c Controller) shows(disk string) bool {
	return c.State == Live && slices.ContainsFunc(c.Spaces, func(n Namespace) bool { return n.Disk == disk && n.usable() })
}

// Extend implements connector.Connector. What the size has to be the subsystem itself is asked, and then the kernel is made to look.
func (c *Connector) Extend(ctx context.Context, info connector.Info, dev connector.Device) (connector.Device, error) {
	s, err := c.subsystem(info)
	if err != nil {
		return connector.Device{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Options.DeviceWait)
	defer cancel()
	watch, err := c.System.Kernel.Watch()
	if err != nil {
		return connector.Device{}, err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	controllers, err := c.spaces(s)
	if err != nil {
		return connector.Device{}, err
	}
	found := disks(controllers, sought(info, dev))
	// Without native multipath there may be a disk for each controller.
	at := slices.IndexFunc(found, func(n Namespace) bool { return len(found) == 1 || n.Disk == c.System.Name(dev.Path) })
	if at < 0 {
		return connector.Device{}, noDevice(s.NQN, "the namespace that is to be extended is not there")
	}
	n := found[at]
	watch.Only(uevent.Device(n.Disk))
	want, err := c.sizeOf(ctx, controllers, n)
	if err != nil {
		return connector.Device{}, err
	}
	if err := c.rescan(ctx, controllers); err != nil {
		return connector.Device{}, err
	}
	err = watch.Until(ctx, func() (bool, error) {
		dev.Bytes, err = c.System.Bytes(n.Disk)
		return dev.Bytes == want, err
	})
	if err != nil {
		return connector.Device{}, &connector.Error{Reason: connector.BadSize, Field: "device", Value: n.Disk,
			Rule: fmt.Sprintf("the namespace has %d bytes and the host goes on to see %d", want, dev.Bytes), Err: err}
	}
	return dev, nil
}

// subsystem is the one that the info names, as this host under the right name sees it.
func (c *Connector) subsystem(info connector.Info) (subsystem, error) {
	n := info.NVMe
	if n == nil {
		return subsystem{}, invalid("driver_volume_type", string(info.Type), "the volume is none of an NVMe subsystem")
	}
	if !nqnForm.MatchString(n.NQN) {
		return subsystem{}, invalid("target_nqn", n.NQN, "it must be an NVMe qualified name")
	}
	if n.HostNQN != "" && !nqnForm.MatchString(n.HostNQN) {
		return subsystem{}, invalid("host_nqn", n.HostNQN, "it must be an NVMe qualified name")
	}
	host, err := ThisHost(c.Etc, c.System.Sys)
	if err != nil {
		return subsystem{}, err
	}
	return subsystem{NQN: n.NQN, Host: host.as(n.HostNQN)}, nil
}

// of returns the controllers of a subsystem that are not on their way out, without what they show.
func (c *Connector) of(s subsystem) ([]Controller, error) {
	all, err := c.read(s.NQN, readConnection)
	return s.own(all), err
}

// spaces is of with what they show.
func (c *Connector) spaces(s subsystem) ([]Controller, error) {
	all, err := c.scans.do(s.NQN, func() ([]Controller, error) { return c.read(s.NQN, readController) })
	return s.own(all), err
}

// own are those of a subsystem, as this host under that name sees it.
func (s subsystem) own(all []Controller) []Controller {
	return slices.DeleteFunc(slices.Clone(all), func(k Controller) bool {
		return k.NQN != s.NQN || k.HostNQN != "" && k.HostNQN != s.Host.NQN || k.ending()
	})
}

// sought says which namespace is meant: the one that dev has proved to be, or, when that is not known, the one that the info names.
func sought(info connector.Info, dev connector.Device) func(Namespace) bool {
	return func(n Namespace) bool {
		if dev.Identity != "" {
			return n.Identity == dev.Identity
		}
		return n.matches(*info.NVMe)
	}
}

// disks returns one namespace for each disk, of those that are meant, in the order of the disks' names.
func disks(controllers []Controller, meant func(Namespace) bool) []Namespace {
	var out []Namespace
	for _, k := range controllers {
		for _, n := range k.Spaces {
			if meant(n) && !slices.ContainsFunc(out, func(o Namespace) bool { return o.Disk == n.Disk }) {
				out = append(out, n)
			}
		}
	}
	slices.SortFunc(out, func(a, b Namespace) int { return strings.Compare(a.Disk, b.Disk) })
	return out
}

func invalid(field, value, rule string) error {
	return &connector.Error{Reason: connector.InvalidInfo, Field: field, Value: short(value), Rule: rule}
}

func noDevice(nqn, rule string) error {
	return &connector.Error{Reason: connector.NoDevice, Field: "nqn", Value: short(nqn), Rule: rule}
}

func reasonOf(err error) connector.Reason {
	var e *connector.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
