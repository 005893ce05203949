// Package attach makes volumes available on this host and takes them away: it chooses the connector by the kind of connection, has encrypted volumes
// decrypted, sees to it that one disk is one volume, and remembers what it has begun, so that what a crash left is found.
package attach

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/keylock"
)

// Cipher undoes the encryption of volumes on the host; *luks.Host is one.
type Cipher interface {
	Open(ctx context.Context, volumeID string, dev connector.Device, c connector.Cipher) (connector.Device, error)
	Close(ctx context.Context, volumeID string) error
	Resize(ctx context.Context, volumeID string, dev connector.Device, c connector.Cipher) (connector.Device, error)
}

// Options are what a Host is made of.
type Options struct {
	// Connectors are those of the kinds of connections that this host can have: for iSCSI the host's initiator or QEMU's, as the operator chose.
	Connectors map[connector.Type]connector.Connector
	Cipher     Cipher // nil where nothing can be decrypted on the host
	// State is a directory of the agent's own for what it has begun. It has to go when the host's connections do: below /run.
	State string
	Facts Facts
	// Observe is told how long each operation took; nil for nobody. It must not block.
	Observe func(Timing)
	Log     *slog.Logger // nil for nowhere
}

// Host connects volumes to this host; it implements compute.VolumeHost. What concerns one volume or one LUN waits for each other, all else goes side by side.
// What it returns besides the context's errors is a *connector.Error where an operator or user can do something about it.
type Host struct {
	opt   Options
	locks keylock.Map[string] // of volumes, and inside them of LUNs

	mu      sync.Mutex
	records map[string]record // by the volume's ID; as in the files

	again again
}

// New makes a Host, which knows what the ones before it began.
func New(opt Options) (*Host, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	records, err := readRecords(opt.State, opt.Log)
	if err != nil {
		return nil, err
	}
	h := &Host{opt: opt, records: records}
	h.again.open()
	return h, nil
}

// Close ends what the Host does by itself, and returns when it has ended.
func (h *Host) Close() { h.again.close() }

// undoLimit bounds what is done to leave nothing behind after a failure.
const undoLimit = 2 * time.Minute

// Connect returns when the volume's device is there and is the disk that it was at the first attachment. It may be called again for a volume that is
// there. When it fails nothing of the attempt is left, unless the volume was there before.
func (h *Host) Connect(ctx context.Context, r connector.Request) (dev connector.Device, err error) {
	ctx, done := h.begin(ctx, "connect", r)
	defer func() { done(err) }()
	c, unlock, err := h.enter(ctx, r)
	if err != nil {
		return connector.Device{}, err
	}
	defer unlock()
	before, known, err := h.clear(ctx, r)
	if err != nil {
		return connector.Device{}, err
	}
	// It is written down before the host is touched.
	if err := h.put(record{VolumeID: r.VolumeID, Info: withoutSecrets(r.Info), Device: before.Device, Since: time.Now()}); err != nil {
		return connector.Device{}, err
	}
	dev, err = h.connect(ctx, c, r)
	if err == nil {
		return dev, nil
	}
	if wasThere := known && !before.Ending && !isZero(before.Device); wasThere {
		return connector.Device{}, err
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if failure := h.disconnect(after, c, r, dev); failure != nil {
		h.opt.Log.Warn("something may be left of a volume that could not be connected", "volume_id", r.VolumeID, "error", failure)
		if failure := h.end(r.VolumeID); failure != nil {
			return connector.Device{}, errors.Join(err, failure)
		}
		h.tryAgain(r.VolumeID)
	}
	return connector.Device{}, err
}

// end notes that a volume is on its way out.
func (h *Host) end(volumeID string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	rec, known := h.records[volumeID]
	if !known {
		return nil
	}
	rec.Ending = true
	return h.write(rec)
}

// enter returns the connector, and holds the volume's lock and its LUN's.
func (h *Host) enter(ctx context.Context, r connector.Request) (connector.Connector, func(), error) {
	if id, err := uuid.Parse(r.VolumeID); err != nil || id.String() != r.VolumeID {
		return nil, nil, &connector.Error{Reason: connector.InvalidInfo, Field: "volume_id", Value: r.VolumeID, Rule: "the ID of a volume must be a UUID"}
	}
	c := h.opt.Connectors[r.Info.Type]
	if c == nil {
		return nil, nil, &connector.Error{Reason: connector.Unsupported, Field: "driver_volume_type", Value: string(r.Info.Type), Rule: "this host connects none of this kind"}
	}
	volume, err := h.locks.Lock(ctx, "volume "+r.VolumeID)
	if err != nil {
		return nil, nil, err
	}
	lun, err := h.locks.Lock(ctx, lunOf(r.Info))
	if err != nil {
		volume()
		return nil, nil, err
	}
	return c, func() { lun(); volume() }, nil
}

// clear looks at what is known of the volume and of its LUN before it is connected: a volume that was somewhere else is taken away there, and a LUN that is another
// volume's is refused, unless that one was on its way out.
func (h *Host) clear(ctx context.Context, r connector.Request) (before record, known bool, err error) {
	lun := lunOf(r.Info)
	before, known = h.get(r.VolumeID)
	if known && lunOf(before.Info) != lun {
		if err := h.takeAway(ctx, before); err != nil {
			return record{}, false, err
		}
		before, known = record{}, false
	}
	for _, other := range h.all() {
		if other.VolumeID == r.VolumeID || lunOf(other.Info) != lun {
			continue
		}
		if !other.Ending {
			return record{}, false, taken(lun, other.VolumeID)
		}
		if err := h.takeAway(ctx, other); err != nil {
			return record{}, false, errors.Join(taken(lun, other.VolumeID), err)
		}
	}
	return before, known, nil
}

func taken(what, volumeID string) error {
	return &connector.Error{Reason: connector.InUse, Field: "volume", Value: volumeID, Rule: "this volume of the host is at the same place: " + what}
}

// connect has the device there, checked and decrypted. With an error it returns as much as there is.
func (h *Host) connect(ctx context.Context, c connector.Connector, r connector.Request) (connector.Device, error) {
	dev, err := c.Connect(ctx, r.Info, r.Known)
	if err != nil {
		return connector.Device{}, err
	}
	if err := check(r, dev); err != nil {
		return dev, err
	}
	if r.Cipher != nil {
		open, err := h.open(ctx, r, dev)
		if err != nil {
			return dev, err
		}
		dev = open
	}
	return dev, h.settle(r, dev)
}

// check is the last look at a disk before a guest gets it.
func check(r connector.Request, dev connector.Device) error {
	if err := connector.CheckIdentity("device", dev.Identity, r.Known); err != nil {
		return err
	}
	if dev.Path != "" && dev.Bytes <= 0 {
		return &connector.Error{Reason: connector.BadSize, Field: "device", Value: dev.Path, Rule: "the disk is empty"}
	}
	// What the storage system says it is can be compared where it is said in the same way.
	kind := func(id string) string { before, _, _ := strings.Cut(id, "."); return before }
	said, found := r.Info.WWID, string(dev.Identity)
	if r.Info.NVMe == nil && said != "" && found != "" && said != found && kind(said) == kind(found) {
		return &connector.Error{Reason: connector.IdentityMismatch, Field: "data.wwn", Value: found, Rule: "another disk is where the volume should be: the storage system says " + said}
	}
	return nil
}

func (h *Host) open(ctx context.Context, r connector.Request, dev connector.Device) (connector.Device, error) {
	if h.opt.Cipher == nil || dev.Path == "" {
		return connector.Device{}, &connector.Error{Reason: connector.Unsupported, Field: "encryption", Value: r.Cipher.Format, Rule: "this host cannot decrypt the volume"}
	}
	return h.opt.Cipher.Open(ctx, r.VolumeID, dev, *r.Cipher)
}

// settle writes down the device, unless its disk is another volume's.
func (h *Host) settle(r connector.Request, dev connector.Device) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, other := range h.records {
		if id == r.VolumeID || dev.Identity == "" || other.Device.Identity != dev.Identity {
			continue
		}
		rule := "it is the disk of volume " + id
		if other.Ending { // somebody may hold it still
			rule += ", which could not be taken away yet"
		}
		return &connector.Error{Reason: connector.IdentityMismatch, Field: "device", Value: string(dev.Identity), Rule: rule}
	}
	rec := h.records[r.VolumeID]
	rec.Device = dev
	return h.write(rec)
}

// Disconnect takes away what Connect made, and nothing else. A device that somebody holds stays, with InUse. What is not there is taken away. A
// connector.Error of any other reason is of a volume that its caller may do without: the Host goes on trying, until it is closed or the volume is connected
// again.
func (h *Host) Disconnect(ctx context.Context, r connector.Request) (err error) {
	if r.Shared {
		return nil
	}
	ctx, done := h.begin(ctx, "disconnect", r)
	defer func() { done(err) }()
	c, unlock, err := h.enter(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	dev := r.Device
	if rec, known := h.get(r.VolumeID); known && isZero(dev) {
		dev = rec.Device
	}
	if err := h.end(r.VolumeID); err != nil {
		return err
	}
	err = h.disconnect(ctx, c, r, dev)
	var failed *connector.Error
	if errors.As(err, &failed) && failed.Reason != connector.InUse && ctx.Err() == nil {
		h.tryAgain(r.VolumeID)
	}
	return err
}

func isZero(d connector.Device) bool { return d.Path == "" && d.Network == nil }

// disconnect closes what decrypts the volume, and takes it away.
func (h *Host) disconnect(ctx context.Context, c connector.Connector, r connector.Request, dev connector.Device) error {
	if h.opt.Cipher != nil {
		if err := h.opt.Cipher.Close(ctx, r.VolumeID); err != nil {
			return err
		}
	}
	if other := h.alsoOf(r.VolumeID, below(dev)); other != "" {
		h.opt.Log.Warn("a volume's device is another's too, and stays", "volume_id", r.VolumeID, "device", dev.Path, "other", other)
	} else if err := c.Disconnect(ctx, r.Info, below(dev)); err != nil {
		return err
	}
	return h.drop(r.VolumeID)
}

// below is the device without what decrypts it.
func below(dev connector.Device) connector.Device {
	if dev.Crypt != "" {
		dev.Path, dev.Crypt, dev.Below = dev.Below, "", ""
	}
	return dev
}

// alsoOf is another volume that has the same device; empty for none.
func (h *Host) alsoOf(volumeID string, dev connector.Device) string {
	if dev.Path == "" {
		return ""
	}
	for _, other := range h.all() {
		if other.VolumeID != volumeID && below(other.Device).Path == dev.Path {
			return other.VolumeID
		}
	}
	return ""
}

// takeAway disconnects what a record tells of.
func (h *Host) takeAway(ctx context.Context, rec record) error {
	c := h.opt.Connectors[rec.Info.Type]
	if c == nil {
		return &connector.Error{Reason: connector.Unsupported, Field: "driver_volume_type", Value: string(rec.Info.Type), Rule: "this host connects none of this kind any more"}
	}
	return h.disconnect(ctx, c, connector.Request{VolumeID: rec.VolumeID, Info: rec.Info}, rec.Device)
}

// Extend makes the host see the size that the volume has now.
func (h *Host) Extend(ctx context.Context, r connector.Request) (dev connector.Device, err error) {
	ctx, done := h.begin(ctx, "extend", r)
	defer func() { done(err) }()
	c, unlock, err := h.enter(ctx, r)
	if err != nil {
		return connector.Device{}, err
	}
	defer unlock()
	old := r.Device
	rec, known := h.get(r.VolumeID)
	if isZero(old) {
		old = rec.Device
	}
	dev, err = c.Extend(ctx, r.Info, below(old))
	if err == nil && r.Known != "" {
		err = connector.CheckIdentity("device", dev.Identity, r.Known)
	}
	if err == nil && old.Crypt != "" && r.Cipher != nil && h.opt.Cipher != nil {
		above := dev
		above.Path, above.Crypt, above.Below = old.Path, old.Crypt, dev.Path
		dev, err = h.opt.Cipher.Resize(ctx, r.VolumeID, above, *r.Cipher)
	}
	if err != nil {
		return connector.Device{}, err
	}
	if known {
		rec.Device = dev
		err = h.put(rec)
	}
	return dev, err
}

// lunOf names the place of a volume, whichever way leads there.
func lunOf(info connector.Info) string { return info.Place() }
