package attach

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"compute-agent/blockdev/connector"
)

// Leftover is a volume that the agent connected, or began to, and that nobody wants any more: what a crash left, or a Disconnect that failed.
type Leftover struct {
	VolumeID string
	Info     connector.Info   // without secrets
	Device   connector.Device // zero when it is not known what there is
	Since    time.Time
}

// String is the leftover for a person.
func (l Leftover) String() string {
	parts := []string{string(l.Info.Type), lunOf(l.Info)}
	if path := below(l.Device).Path; path != "" {
		parts = append(parts, "device "+path)
	}
	if len(l.Device.Paths) > 0 {
		parts = append(parts, "over "+strings.Join(l.Device.Paths, " "))
	}
	if l.Device.Crypt != "" {
		parts = append(parts, "decrypted as "+l.Device.Crypt)
	}
	return "volume " + l.VolumeID + ": " + strings.Join(parts, ", ")
}

// Stale returns what is left of volumes that are not among those that are wanted, in the order of their IDs. What others than this agent made is never
// among them, another agent's neither: it is told by what this one wrote down before it touched the host.
func (h *Host) Stale(_ context.Context, wanted []connector.Request) ([]Leftover, error) {
	found := map[string]Leftover{}
	for _, rec := range h.all() {
		found[rec.VolumeID] = Leftover{VolumeID: rec.VolumeID, Info: rec.Info, Device: rec.Device, Since: rec.Since}
	}
	for _, r := range wanted {
		delete(found, r.VolumeID)
	}
	out := make([]Leftover, 0, len(found))
	for _, id := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[id])
	}
	return out, nil
}

// Clean takes leftovers away, as Disconnect does. One that was connected again since it was found stays. What cannot be taken away is in the error and is
// tried again later, and the others go all the same.
func (h *Host) Clean(ctx context.Context, leftovers []Leftover) error {
	var failures []error
	for _, l := range leftovers {
		if err := h.clean(ctx, l.VolumeID, func(rec record) bool { return rec.Since.Equal(l.Since) }); err != nil {
			h.tryAgain(l.VolumeID)
			failures = append(failures, fmt.Errorf("%v: %w", l, err))
		}
	}
	return errors.Join(failures...)
}

// clean takes a volume away, if its record is still what it has to be.
func (h *Host) clean(ctx context.Context, volumeID string, still func(record) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	unlock, err := h.locks.Lock(ctx, "volume "+volumeID)
	if err != nil {
		return err
	}
	defer unlock()
	rec, known := h.get(volumeID)
	if !known || !still(rec) {
		return nil
	}
	if err := h.end(volumeID); err != nil {
		return err
	}
	lun, err := h.locks.Lock(ctx, lunOf(rec.Info))
	if err != nil {
		return err
	}
	defer lun()
	return h.takeAway(ctx, rec)
}
