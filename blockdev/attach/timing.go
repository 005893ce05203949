package attach

import (
	"context"
	"sync"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

// Timing is how long one operation took.
type Timing struct {
	Operation string // connect, disconnect or extend
	VolumeID  string
	Type      connector.Type
	All       time.Duration
	// Programs is how long at least one program ran for it that a Measured runner ran: what is left of All is waiting, for the kernel or for others, and our own.
	Programs time.Duration
	Err      error
}

type meterKey struct{}

// meter counts the time in which one or more programs run.
type meter struct {
	mu      sync.Mutex
	running int
	since   time.Time
	total   time.Duration
}

func (m *meter) start(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running++; m.running == 1 {
		m.since = now
	}
}

func (m *meter) stop(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running--; m.running == 0 {
		m.total += now.Sub(m.since)
	}
}

func (m *meter) spent() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

// Measured runs programs and counts their time for the operation of a Host that they run in.
type Measured struct{ Runner command.Runner }

// Run implements command.Runner.
func (r Measured) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	m, ok := ctx.Value(meterKey{}).(*meter)
	if !ok {
		return r.Runner.Run(ctx, c)
	}
	m.start(time.Now())
	defer func() { m.stop(time.Now()) }()
	return r.Runner.Run(ctx, c)
}

// limit bounds an operation whose caller does not: longer than any that still comes to an end, with the longest waits that an operator can set.
const limit = 30 * time.Minute

// begin starts the clock of an operation.
func (h *Host) begin(ctx context.Context, operation string, r connector.Request) (context.Context, func(error)) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	if h.opt.Observe == nil {
		return ctx, func(error) { cancel() }
	}
	m, started := &meter{}, time.Now()
	return context.WithValue(ctx, meterKey{}, m), func(err error) {
		cancel()
		h.opt.Observe(Timing{Operation: operation, VolumeID: r.VolumeID, Type: r.Info.Type, All: time.Since(started), Programs: m.spent(), Err: err})
	}
}
