package attach

import (
	"context"
	"sync"
	"time"
)

// again is what is tried again and again until it is done.
type again struct {
	base context.Context
	stop context.CancelFunc
	all  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	volume map[string]bool // on their way
}

func (a *again) open() {
	a.base, a.stop = context.WithCancel(context.Background())
	a.volume = map[string]bool{}
}

func (a *again) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	a.all.Wait()
}

// begin says whether a volume is not on its way yet and is from now on.
func (a *again) begin(volumeID string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.volume[volumeID] {
		return false
	}
	a.volume[volumeID] = true
	a.all.Add(1)
	return true
}

func (a *again) end(volumeID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.volume, volumeID)
	a.all.Done()
}

// The pauses between attempts to take a volume away: its target may be back in a moment, or never.
const (
	firstPause   = 5 * time.Second
	longestPause = 10 * time.Minute
)

// tryAgain takes a volume away that could not be, beside all else. Nothing on the host tells that it can be now, so that it is tried at longer and longer
// intervals. It ends when the volume is gone, or is wanted again.
func (h *Host) tryAgain(volumeID string) {
	if !h.again.begin(volumeID) {
		return
	}
	go func() {
		defer h.again.end(volumeID)
		ctx := h.again.base
		for pause := firstPause; ; pause = min(2*pause, longestPause) {
			rec, known := h.get(volumeID)
			if !known || !rec.Ending {
				return
			}
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			limited, cancel := context.WithTimeout(ctx, undoLimit) // who wants the volume again waits for this
			err := h.clean(limited, volumeID, func(rec record) bool { return rec.Ending })
			cancel()
			if err != nil && ctx.Err() == nil {
				h.opt.Log.Warn("a volume that nobody needs is still on the host", "volume_id", volumeID, "error", err)
			}
		}
	}()
}
