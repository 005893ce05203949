package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"compute-agent/cinder"
	"compute-agent/internal/keylock"
)

// VolumeOptions are what a VolumeService works with. Store is required; volumes need at least one backend, and Keys where they are to be encrypted.
type VolumeOptions struct {
	Store Store
	// Backends are where volumes can be, by the names that volume types choose them by (volume_backend_name).
	Backends map[string]VolumeBackend
	Quotas   *cinder.Quotas // nil for Cinder's
	// DefaultType is the name of the type of volumes that name none; default __DEFAULT__, which is made when it is not there.
	DefaultType string
	// ImageDir has the bytes of images, by their SHA-256. Blobs is told of those that no volume needs any more; nil for nobody.
	ImageDir string
	Blobs    Blobs
	Keys     *VolumeKeys
	// InUse is told of a volume that has grown while a server has it; the answer to it is Extended. It may wait for its turn, stores the request and returns, and may
	// be asked again.
	// *Manager gives it. May be nil where no server has volumes.
	InUse   func(ctx context.Context, serverID, volumeID string) error
	Workers int              // how many volumes are made, copied, deleted at a time; default 4
	Timeout time.Duration    // for one of these; default 6 h
	Clock   func() time.Time // default time.Now
	Logger  *slog.Logger     // default: nothing is logged
}

func (o VolumeOptions) withDefaults() VolumeOptions {
	if o.Quotas == nil {
		o.Quotas = &cinder.DefaultQuotas
	}
	if o.DefaultType == "" {
		o.DefaultType = cinder.DefaultTypeName
	}
	if o.Workers == 0 {
		o.Workers = 4
	}
	if o.Timeout == 0 {
		o.Timeout = 6 * time.Hour
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// VolumeService keeps volumes, snapshots and volume types, and implements Volumes. A command is one transaction; what takes time begins after the answer, and
// the record's status is its journal: what is creating, downloading, extending or deleting when the agent dies is gone on with at the next Start. Its
// methods may be called concurrently, from Start to Close.
type VolumeService struct {
	opt    VolumeOptions
	store  Store
	quotas cinder.Quotas
	log    *slog.Logger

	locks   keylock.Map[string] // by the ID of the volume or snapshot that is worked on
	slots   chan struct{}       // has room for Workers
	changes signal              // raised after each commit

	base context.Context // of all background work; ended by Close with errParked
	end  context.CancelCauseFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	busy   int    // goroutines that work
	idle   signal // raised when there is none
}

// NewVolumeService returns the service of what is in a store. It does nothing before Start.
func NewVolumeService(opt VolumeOptions) *VolumeService {
	opt = opt.withDefaults()
	s := &VolumeService{opt: opt, store: opt.Store, quotas: *opt.Quotas, log: opt.Logger, slots: make(chan struct{}, opt.Workers)}
	s.base, s.end = context.WithCancelCause(context.Background())
	return s
}

// Start makes the default volume type where there is none, and goes on with what was under way when the agent ended.
func (s *VolumeService) Start(ctx context.Context) error {
	var volumes []cinder.Volume
	var snapshots []cinder.Snapshot
	err := s.change(ctx, func(tx Writer) (err error) {
		if err := s.ensureDefaultType(tx); err != nil {
			return err
		}
		if volumes, err = tx.Volumes(); err != nil {
			return err
		}
		snapshots, err = tx.Snapshots()
		return err
	})
	if err != nil {
		return fmt.Errorf("start the volume service: %w", err)
	}
	for _, v := range volumes {
		if v.UnderWay() {
			s.begin(v.ID, s.workVolume)
		}
	}
	for _, snap := range snapshots {
		if snap.UnderWay() {
			s.begin(snap.ID, s.workSnapshot)
		}
	}
	return nil
}

// Close ends the service. What is under way is cut off, and gone on with at the next Start. Store and backends stay open: they are the caller's.
func (s *VolumeService) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end(errParked)
	s.wg.Wait()
}

// Idle waits until nothing is under way here.
func (s *VolumeService) Idle(ctx context.Context) error {
	for {
		idle := s.idle.next()
		s.mu.Lock()
		busy := s.busy
		s.mu.Unlock()
		if busy == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// background runs what Close cuts off and Idle waits for.
func (s *VolumeService) background(work func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.busy++
	s.wg.Go(func() {
		defer s.ended()
		work()
	})
}

// begin works on a record in the background.
func (s *VolumeService) begin(id string, work func(ctx context.Context, id string)) {
	s.background(func() {
		unlock, err := s.locks.Lock(s.base, id)
		if err != nil {
			return // closed
		}
		defer unlock()
		select {
		case s.slots <- struct{}{}:
		case <-s.base.Done():
			return
		}
		defer func() { <-s.slots }()
		ctx, cancel := context.WithTimeout(s.base, s.opt.Timeout)
		defer cancel()
		work(ctx, id)
	})
}

func (s *VolumeService) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy--; s.busy == 0 {
		s.idle.raise()
	}
}

func (s *VolumeService) now() time.Time { return s.opt.Clock().UTC() }

// change runs one command, and tells those who wait for it. Not cancelled with the request: a commit must not be in doubt.
func (s *VolumeService) change(ctx context.Context, command func(Writer) error) error {
	err := s.store.Update(context.WithoutCancel(ctx), command)
	s.changes.raise()
	return err
}

// view reads.
func viewVolumes[T any](ctx context.Context, s *VolumeService, read func(Reader) (T, error)) (v T, err error) {
	err = s.store.View(ctx, func(r Reader) error {
		v, err = read(r)
		return err
	})
	return v, err
}

// VolumeQuotas are how much a project may have.
func (s *VolumeService) VolumeQuotas() cinder.Quotas { return s.quotas }

// VolumeUsage is what a project has.
func (s *VolumeService) VolumeUsage(ctx context.Context, projectID string) (cinder.Usage, error) {
	return viewVolumes(ctx, s, func(r Reader) (cinder.Usage, error) { return usageOf(r, projectID) })
}

func usageOf(r Reader, projectID string) (cinder.Usage, error) {
	volumes, err := r.Volumes()
	if err != nil {
		return cinder.Usage{}, err
	}
	snapshots, err := r.Snapshots()
	return cinder.UsageOf(projectID, volumes, snapshots), err
}

// Pools are the places where volumes can be, in the order of their names, with what is free there.
func (s *VolumeService) Pools(ctx context.Context) ([]cinder.Pool, error) {
	pools := s.measure(ctx)
	return viewVolumes(ctx, s, func(r Reader) ([]cinder.Pool, error) { return s.count(r, pools, "") })
}

// measure asks the backends, all at once.
func (s *VolumeService) measure(ctx context.Context) []cinder.Pool {
	names := slices.Sorted(maps.Keys(s.opt.Backends))
	pools := make([]cinder.Pool, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			p, err := s.opt.Backends[name].Pool(ctx)
			p.Backend, p.Up = name, err == nil
			if err != nil {
				p.Problem = err.Error()
				s.log.WarnContext(ctx, "a backend of volumes is down", "backend", name, "error", err)
			}
			pools[i] = p
		})
	}
	wg.Wait()
	return pools
}

// count adds what the records say of pools that were measured: what is about to be taken is not free.
func (s *VolumeService) count(r Reader, measured []cinder.Pool, projectID string) ([]cinder.Pool, error) {
	volumes, err := r.Volumes()
	if err != nil {
		return nil, err
	}
	used, err := r.UsedLUNs()
	if err != nil {
		return nil, err
	}
	pools := slices.Clone(measured)
	for i := range pools {
		p := &pools[i]
		for _, v := range volumes {
			if v.Backend == p.Backend {
				p.AllocatedGiB += max(v.SizeGiB, v.NewGiB)
				p.FreeGiB -= float64(v.Pending())
			}
		}
		if placer, is := s.opt.Backends[p.Backend].(VolumePlacer); is {
			*p = placer.Left(*p, projectID, volumes, used)
		}
	}
	return pools, nil
}

// backendOf is where a volume is.
func (s *VolumeService) backendOf(v cinder.Volume) (VolumeBackend, error) {
	b := s.opt.Backends[v.Backend]
	if b == nil {
		return nil, &Failure{Kind: ErrUnavailable, Subject: "volume " + v.ID, Reason: fmt.Sprintf("its backend %q is not configured", v.Backend)}
	}
	return b, nil
}

// notFound gives the error of a look-up Cinder's name.
func notFound(class, what, id string, err error) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	return cinder.Refuse(class, cinder.NotFound, "", "", "%s %s could not be found", what, id)
}
