package compute_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
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

// shelf is a backend whose volumes are those of a world's storage.
type shelf struct{ *storage }

func (s shelf) Create(_ context.Context, v cinder.Volume, _ compute.VolumeOrigin) error {
	return s.make(v.ID)
}

func (s shelf) Delete(_ context.Context, v cinder.Volume) error {
	if err := os.Remove(filepath.Join(s.dir, v.ID)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s shelf) Extend(context.Context, cinder.Volume, int) error { return nil }

func (s shelf) Snapshot(context.Context, cinder.Snapshot, cinder.Volume) error { return nil }

func (s shelf) DeleteSnapshot(context.Context, cinder.Snapshot, cinder.Volume) error { return nil }

func (s shelf) Connection(_ context.Context, v cinder.Volume, _ connector.Properties) (connector.Raw, error) {
	return s.way(v.ID), nil
}

func (s shelf) Pool(context.Context) (cinder.Pool, error) {
	return cinder.Pool{Kind: "shelf", TotalGiB: 1000, FreeGiB: 1000, Copies: true, LiveCopies: true, LiveExtend: true}, nil
}

// shelved is a world with volumes whose volume service is the agent's own.
type shelved struct {
	*world
	volumes *compute.VolumeService
}

func (w *shelved) begin() {
	w.t.Helper()
	w.boot(nil)
	w.must(w.volumes.Start(w.t.Context()))
}

func (w *shelved) rest() {
	w.t.Helper()
	w.must(w.volumes.Idle(w.t.Context())) // servers are told of all
	w.waitAll()
}

// TestRandomVolumeCommands is TestRandomCommands with volumes: they are created and deleted, extended, copied, attached, exchanged and detached, while
// servers start and stop.
func TestRandomVolumeCommands(t *testing.T) {
	w := &shelved{world: newWorld(t)}
	w.storage = newStorage(t, w.hv)
	w.options = func(o *compute.Options) {
		o.DetachTimeout, o.DetachAttempts = 5*time.Millisecond, 3 // of a paused guest
		w.volumes = compute.NewVolumeService(compute.VolumeOptions{
			Store: o.Store, Backends: map[string]compute.VolumeBackend{"": shelf{w.storage}},
			InUse: func(ctx context.Context, server, volume string) error { return w.ExtendAttached(ctx, server, volume) },
		})
		o.VolumeService, o.Volumes = w.volumes, w.volumes
	}
	w.begin()
	defer func() { w.volumes.Close() }()
	var ids []string
	for range 4 {
		ids = append(ids, active(w.world))
	}
	var wg sync.WaitGroup
	for seed := range 6 {
		wg.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(seed), 2))
			for range 40 {
				id := ids[dice.IntN(len(ids))]
				if what := dice.IntN(22); what < 10 { // a guest that somebody undefines is without its volumes at its next start, as the audit says
					act(t, w.world, what, id)
				} else {
					w.actOnVolumes(dice, what-10, id)
				}
			}
		})
	}
	wg.Wait()
	w.rest()
	w.volumes.Close()
	w.stop()
	w.begin()
	w.rest()
	w.audit()
	w.auditVolumes()
}

func (w *shelved) actOnVolumes(dice *rand.Rand, what int, server string) {
	ctx := w.t.Context()
	all, err := w.volumes.Volumes(ctx)
	if err != nil || len(all) == 0 {
		w.t.Errorf("%d volumes, %v", len(all), err)
		return
	}
	one, other := all[dice.IntN(len(all))], all[dice.IntN(len(all))].ID
	switch what {
	case 0:
		_, err = w.volumes.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: "project", SizeGiB: 1 + dice.IntN(2)})
	case 1:
		_, err = w.volumes.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: "project", SourceID: one.ID})
	case 2:
		_, err = w.volumes.CreateSnapshot(ctx, cinder.SnapshotRequest{ProjectID: "project", VolumeID: one.ID, Force: true})
	case 3:
		var snapshots []cinder.Snapshot
		if snapshots, err = w.volumes.Snapshots(ctx); err == nil && len(snapshots) > 0 {
			err = w.volumes.DeleteSnapshot(ctx, snapshots[dice.IntN(len(snapshots))].ID)
		}
	case 4:
		if one.ID != fileVolume { // one is always there
			err = w.volumes.DeleteVolume(ctx, one.ID, false)
		}
	case 5:
		err = w.volumes.ExtendVolume(ctx, one.ID, one.SizeGiB+1)
	case 6, 7, 8:
		_, err = w.AttachVolume(ctx, server, compute.BlockDeviceRequest{VolumeID: one.ID})
	default:
		var devices []compute.BlockDevice
		if devices, err = w.BlockDevices(ctx, server); err != nil || len(devices) == 0 {
			break
		}
		if d := devices[dice.IntN(len(devices))]; what == 9 {
			err = w.SwapVolume(ctx, server, d.VolumeID, other)
		} else {
			err = w.DetachVolume(ctx, server, d.VolumeID)
		}
	}
	var refused *cinder.Refusal
	if err != nil && !errors.As(err, &refused) && !errors.Is(err, compute.ErrConflict) && !errors.Is(err, compute.ErrNotFound) && !errors.Is(err, compute.ErrInvalid) {
		w.t.Error(err)
	}
}
