package compute_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"compute-agent/compute"
	"compute-agent/network/fabric"
	"compute-agent/neutron"
)

// noRecords is a store without any.
type noRecords struct{ compute.Store }

func (noRecords) View(context.Context, func(compute.Reader) error) error { return nil }

// troubledFabric counts what is asked of it, and does as it is told.
type troubledFabric struct {
	rounds atomic.Int32
	do     func(context.Context) error
}

func (f *troubledFabric) Resync() {}

func (f *troubledFabric) Apply(ctx context.Context, _ fabric.State) error {
	f.rounds.Add(1)
	return f.do(ctx)
}

// Many who find the host's networks broken do not make it try again more often.
func TestHostNetworkRetriesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &troubledFabric{do: func(context.Context) error { return errors.New("broken") }}
		n := compute.NewHostNetwork(noRecords{}, f, neutron.Site{}, nil)
		for range 50 {
			if err := n.Sync(t.Context()); err == nil {
				t.Error("no error")
			}
		}
		f.rounds.Store(0)
		time.Sleep(time.Hour)
		if got := f.rounds.Load(); got < 50 || got > 61 {
			t.Errorf("%d rounds in an hour, want one a minute", got)
		}
		n.Close()
		f.rounds.Store(0)
		time.Sleep(time.Hour)
		if got := f.rounds.Load(); got != 0 {
			t.Errorf("%d rounds after the end", got)
		}
	})
}

// What hangs in a round ends with an error, and is tried again.
func TestHostNetworkRoundIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &troubledFabric{do: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		n := compute.NewHostNetwork(noRecords{}, f, neutron.Site{}, nil)
		defer n.Close()
		if err := n.Sync(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		f.do = func(context.Context) error { return nil }
		if err := n.Sync(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What is wrong with every port of a host is logged once, and not at full length.
func TestHostNetworkLogsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []error
		for i := range 1000 {
			all = append(all, &fabric.PortError{Port: strconv.Itoa(i), Err: errors.New("broken")})
		}
		var log strings.Builder
		f := &troubledFabric{do: func(context.Context) error { return errors.Join(all...) }}
		n := compute.NewHostNetwork(noRecords{}, f, neutron.Site{}, slog.New(slog.NewTextHandler(&log, nil)))
		for range 3 {
			_ = n.Sync(t.Context())
			synctest.Wait()
		}
		n.Close()
		text := log.String()
		if strings.Count(text, "level=ERROR") != 1 || len(text) > 4096 || !strings.Contains(text, "port 0: broken") || !strings.Contains(text, "and 980 more") {
			t.Errorf("%d bytes are logged: %.2000s", len(text), text)
		}
	})
}
