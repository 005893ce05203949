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
	Info     connector.Info   // without secrets; its Type is empty for a map whose connection is gone
	Device   connector.Device // zero when it is not known what there is
	Map      string           // that decrypts it; empty for none
	Since    time.Time
}

// String is the leftover for a person.
func (l Leftover) String() string {
	var parts []string
	if l.Info.Type != "" {
		parts = append(parts, fmt.Sprintf("%s, %s", l.Info.Type, lunOf(l.Info)))
	}
	if path := below(l.Device).Path; path != "" {
		parts = append(parts, "device "+path)
	}
	if len(l.Device.Paths) > 0 {
		parts = append(parts, "over "+strings.Join(l.Device.Paths, " "))
	}
	if l.Map != "" {
		parts = append(parts, "decrypted as "+l.Map)
	}
	return "volume " + l.VolumeID + ": " + strings.Join(parts, ", ")
}

// Stale returns what is left of volumes that are not among those that are wanted, in the order of their IDs. What others than the agent made is never
// among them: it is told by what the agent wrote down, and by the names of the maps that only it makes.
func (h *Host) Stale(_ context.Context, wanted []connector.Request) ([]Leftover, error) {
	found := map[string]Leftover{}
	for _, rec := range h.all() {
		found[rec.VolumeID] = Leftover{VolumeID: rec.VolumeID, Info: rec.Info, Device: rec.Device, Map: rec.Device.Crypt, Since: rec.Since}
	}
	if h.opt.Cipher != nil {
		list, err := h.opt.Cipher.Maps()
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			l := found[m.VolumeID]
			l.VolumeID, l.Map = m.VolumeID, m.Name
			found[m.VolumeID] = l
		}
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

// Clean takes leftovers away, as Disconnect does. One that was connected again since it was found stays. What cannot be taken away is in the error, and
// the others go all the same.
func (h *Host) Clean(ctx context.Context, leftovers []Leftover) error {
	var failures []error
	for _, l := range leftovers {
		if err := h.clean(ctx, l); err != nil {
			failures = append(failures, fmt.Errorf("%v: %w", l, err))
		}
	}
	return errors.Join(failures...)
}

func (h *Host) clean(ctx context.Context, l Leftover) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	unlock, err := h.locks.Lock(ctx, "volume "+l.VolumeID)
	if err != nil {
		return err
	}
	defer unlock()
	rec, known := h.get(l.VolumeID)
	switch {
	case known && rec.Since.Equal(l.Since):
		unlock, err := h.locks.Lock(ctx, lunOf(rec.Info))
		if err != nil {
			return err
		}
		defer unlock()
		return h.takeAway(ctx, rec)
	case !known && l.Info.Type == "" && h.opt.Cipher != nil:
		return h.opt.Cipher.Close(ctx, l.VolumeID)
	}
	return nil
}
