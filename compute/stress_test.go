package compute_test

import (
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"compute-agent/compute"
)

func logTo(out io.Writer) func(*compute.Options) {
	return func(o *compute.Options) { o.Logger = slog.New(slog.NewTextHandler(out, nil)) }
}

// TestRandomCommands lets several users do at once whatever comes to their mind, while others play
// with the guests by hand. In the end store and host agree.
func TestRandomCommands(t *testing.T) {
	w := started(t, nil)
	var ids []string
	for range 6 {
		ids = append(ids, active(w))
	}
	var wg sync.WaitGroup
	for seed := range 8 {
		wg.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(seed), 1))
			for range 40 {
				act(t, w, dice.IntN(12), ids[dice.IntN(len(ids))])
			}
		})
	}
	wg.Wait()
	w.waitAll()
	w.stop()
	w.boot(nil)
	w.waitAll()
	w.audit()
}

func act(t *testing.T, w *world, what int, id string) {
	ctx := t.Context()
	var err error
	switch what {
	case 0:
		err = w.StartServer(ctx, id)
	case 1:
		err = w.StopServer(ctx, id)
	case 2:
		err = w.PauseServer(ctx, id)
	case 3:
		err = w.UnpauseServer(ctx, id)
	case 4:
		err = w.RebootServer(ctx, id, compute.Reboot{})
	case 5:
		err = w.RebootServer(ctx, id, compute.Reboot{Hard: true})
	case 6:
		err = w.Wait(ctx, id)
	case 7:
		_ = w.hv.Crash(id)
	case 8:
		_ = w.hv.StartByHand(id)
	case 9:
		_ = w.hv.PauseByHand(id)
	case 10:
		_ = w.hv.UndefineByHand(id)
	case 11:
		_, err = w.Servers(ctx)
	}
	if err != nil && !errors.Is(err, compute.ErrConflict) {
		t.Error(err)
	}
}
