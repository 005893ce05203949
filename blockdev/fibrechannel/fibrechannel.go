// Package fibrechannel connects volumes that are logical units behind Fibre Channel ports, fibre_channel in Cinder's words: the host's adapters have found the
// array's ports, and the kernel is asked for one LUN at each of them.
package fibrechannel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/lun"
	"compute-agent/blockdev/scsi"
)

// Options are how to connect. The zero value of all but LUN has its default.
type Options struct {
	LUN lun.Host
	// NoWildcard forbids scans of all targets of an adapter, which find disks that nobody asked for. They are the last resort when none of the array's
	// ports is known to any of the host's (os-brick's enable_wildcard_scan, which is on).
	NoWildcard bool
	// Patience is how long ports may take to come, and LUNs to be shown; DefaultPatience when zero.
	Patience time.Duration
	// Interval is how often is looked for them meanwhile; DefaultInterval when zero.
	Interval time.Duration
	Log      *slog.Logger
}

// Defaults: os-brick looks three times, two seconds apart.
const (
	DefaultPatience = 6 * time.Second
	DefaultInterval = time.Second
)

// Connector implements connector.Connector. What there is is in sysfs.
type Connector struct {
	o Options

	mu     sync.Mutex
	wanted map[scsi.Address]bool // what is connected or about to be: a wildcard finds it too, and must not take it for what nobody asked for
}

// New returns a connector.
func New(o Options) *Connector {
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Connector{o: o, wanted: map[scsi.Address]bool{}}
}

var _ connector.Connector = (*Connector)(nil)

// Connect implements connector.Connector. A port that is not there is left out as long as another is; the error is Unreachable when none is, and NoDevice when
// the array shows no LUN at any that is.
func (c *Connector) Connect(ctx context.Context, info connector.Info, known connector.Identity) (connector.Device, error) {
	if info.FC == nil {
		return connector.Device{}, &connector.Error{Reason: connector.InvalidInfo, Field: "driver_volume_type", Value: string(info.Type), Rule: "it must be fibre_channel"}
	}
	if err := c.check(); err != nil {
		return connector.Device{}, err
	}
	patient, cancel := context.WithTimeoutCause(ctx, c.o.Patience, fmt.Errorf("not there after %v", c.o.Patience))
	defer cancel()
	for {
		last := patient.Err() != nil // asked once: the last attempt does more than the others, and must not be left out
		device, err := c.connect(ctx, info, known, last)
		var e *connector.Error
		if err == nil || !errors.As(err, &e) || e.Reason != connector.NoDevice && e.Reason != connector.Unreachable || last {
			return device, err
		}
		if err := c.pause(patient); err != nil && ctx.Err() != nil {
			return connector.Device{}, context.Cause(ctx)
		}
	}
}

// pause waits until it is time to look again: at an event of a device, or, because the kernel tells of no change of a port's state, after the interval.
func (c *Connector) pause(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Interval)
	defer cancel()
	watch, err := c.o.LUN.SCSI.Kernel.Watch()
	if err != nil {
		return err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	asked := 0          // the first time before any event
	return watch.Until(ctx, func() (bool, error) {
		asked++
		return asked > 1, nil
	})
}

// check says whether there is any port at all.
func (c *Connector) check() error {
	wwpns, _, err := WWNs(c.o.LUN.SCSI.Sys)
	if err == nil && len(wwpns) == 0 {
		err = &connector.Error{Reason: connector.Unsupported, Field: "driver_volume_type", Value: string(connector.FibreChannel), Rule: "no Fibre Channel port of this host is online"}
	}
	return err
}

// connect is one attempt; the last may scan what is not known.
func (c *Connector) connect(ctx context.Context, info connector.Info, known connector.Identity, last bool) (connector.Device, error) {
	r, err := c.reach(info.FC, false)
	if err != nil {
		return connector.Device{}, err
	}
	if len(r.addresses) == 0 && last && !c.o.NoWildcard {
		if r, err = c.wildcard(ctx, info, known, r); err != nil {
			return connector.Device{}, err
		}
	}
	if len(r.addresses) == 0 {
		return connector.Device{}, &connector.Error{Reason: connector.Unreachable, Field: "target_wwn", Value: wwpns(info.FC), Rule: "no port of this host that may reach them sees any of these ports"}
	}
	c.want(r.addresses, true)
	device, err := c.o.LUN.Attach(ctx, info, known, r.addresses)
	if err != nil {
		c.want(r.addresses, false)
	}
	return device, err
}

func (c *Connector) want(addresses []scsi.Address, wanted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range addresses {
		if wanted {
			c.wanted[a] = true
		} else {
			delete(c.wanted, a)
		}
	}
}

func (c *Connector) isWanted(a scsi.Address) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wanted[a]
}

func (c *Connector) reach(info *connector.FCInfo, all bool) (reached, error) {
	ports, err := Ports(c.o.LUN.SCSI.Sys)
	if err != nil {
		return reached{}, err
	}
	seen, err := remotes(c.o.LUN.SCSI.Sys)
	if err != nil {
		return reached{}, err
	}
	return reach(info, ports, seen, all)
}

// wildcard scans all targets of the hosts that may reach the volume. What comes of it is the volume only if it is at the volume's targets, or has its
// identity; all else that it found is removed again.
func (c *Connector) wildcard(ctx context.Context, info connector.Info, known connector.Identity, r reached) (reached, error) {
	before, err := c.o.LUN.SCSI.Devices()
	if err != nil {
		return r, err
	}
	for host, luns := range r.hosts {
		for _, lun := range luns {
			c.o.Log.WarnContext(ctx, "No port of the volume's array is known: all targets are scanned", "host", host, "lun", scsi.LUNInPath(lun))
			if err := c.o.LUN.SCSI.ScanAll(ctx, host, lun); err != nil {
				return r, err
			}
		}
	}
	if r, err = c.reach(info.FC, false); err != nil {
		return r, err
	}
	after, err := c.o.LUN.SCSI.Devices()
	if err != nil {
		return r, err
	}
	var failed []error
	for _, d := range after {
		luns, ours := r.hosts[d.Address.Host]
		old := slices.ContainsFunc(before, func(b scsi.Device) bool { return b.Address == d.Address })
		switch {
		case !ours || !slices.Contains(luns, d.Address.LUN) || slices.Contains(r.addresses, d.Address):
		case known != "" && d.Identity == known || known == "" && scsi.SameWWID(d.Identity, info.WWID):
			r.addresses = append(r.addresses, d.Address)
		case !old && !c.isWanted(d.Address):
			failed = append(failed, c.o.LUN.SCSI.Remove(ctx, d))
		}
	}
	return r, errors.Join(failed...)
}

func wwpns(info *connector.FCInfo) string {
	var names []string
	for _, t := range info.Targets {
		names = append(names, t.WWPN)
	}
	return strings.Join(names, ",")
}

// volume is what is known of one that was connected.
func (c *Connector) volume(info connector.Info, dev connector.Device) (lun.Volume, error) {
	if info.FC == nil {
		return lun.Volume{}, &connector.Error{Reason: connector.InvalidInfo, Field: "driver_volume_type", Value: string(info.Type), Rule: "it must be fibre_channel"}
	}
	r, err := c.reach(info.FC, true)
	return lun.Volume{Addresses: r.addresses, Identity: dev.Identity, WWID: info.WWID}, err
}

// Disconnect implements connector.Connector. Disks at ports that have gone, and whose removal the kernel has put off (dev_loss_tmo), go too.
func (c *Connector) Disconnect(ctx context.Context, info connector.Info, dev connector.Device) error {
	v, err := c.volume(info, dev)
	if err != nil {
		return err
	}
	if err := c.o.LUN.Detach(ctx, v); err != nil {
		return err
	}
	c.want(v.Addresses, false)
	return nil
}

// Extend implements connector.Connector.
func (c *Connector) Extend(ctx context.Context, info connector.Info, dev connector.Device) (connector.Device, error) {
	v, err := c.volume(info, dev)
	if err != nil {
		return dev, err
	}
	return c.o.LUN.Extend(ctx, v, dev)
}
