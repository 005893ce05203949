package compute_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"compute-agent/compute"
	"compute-agent/virt/fake"
)

// interposedStore runs next, when it is set, in the place of the next write.
type interposedStore struct {
	compute.Store
	mu   sync.Mutex
	next func(write func() error) error
}

func (s *interposedStore) Update(ctx context.Context, fn func(compute.Writer) error) error {
	write := func() error { return s.Store.Update(ctx, fn) }
	s.mu.Lock()
	next := s.next
	s.next = nil
	s.mu.Unlock()
	if next == nil {
		return write()
	}
	return next(write)
}

func (s *interposedStore) interpose(next func(write func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
}

// slowRemoval removes files when it is allowed to.
type slowRemoval struct {
	compute.Disks
	allowed chan struct{}
}

func (d slowRemoval) Remove(ctx context.Context, id string) error {
	select {
	case <-d.allowed:
		return d.Disks.Remove(ctx, id)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Whoever lists servers knows of a new one before its CreateServer has returned.
func TestDeleteBeforeTheBuildIsLaunched(t *testing.T) {
	allowed := make(chan struct{})
	var store interposedStore
	w := started(t, func(o *compute.Options) {
		o.Disks = slowRemoval{o.Disks, allowed}
		store.Store, o.Store = o.Store, &store
	})
	store.interpose(func(write func() error) error {
		if err := write(); err != nil {
			return err
		}
		return w.DeleteServer(t.Context(), w.servers()[0].ID)
	})
	s, err := w.CreateServer(t.Context(), request())
	w.must(err)
	close(allowed)
	w.must(w.Wait(t.Context(), s.ID))
	w.audit()
	if n := len(w.servers()); n > 0 {
		t.Error("the delete was forgotten")
	}
}

func TestServerCreatedDuringAnAuditIsKnown(t *testing.T) {
	var log bytes.Buffer
	w := started(t, logTo(&log))
	made := make(chan struct{})
	w.hv.Inject(fake.Fault{Method: "Guests", Do: fake.Pass, OnStrike: func() {
		defer close(made)
		w.create()
	}})
	w.hv.LoseConnection()
	w.hv.RestoreConnection()
	<-made
	w.stop()
	if strings.Contains(log.String(), "unknown guest") {
		t.Errorf("its guest was reported as unknown:\n%s", &log)
	}
}

func TestGuestStateIsRecordedWhenTheStoreWritesAgain(t *testing.T) {
	var store interposedStore
	w := started(t, func(o *compute.Options) { store.Store, o.Store = o.Store, &store })
	id := active(w)
	store.interpose(func(func() error) error { return &compute.Failure{Kind: compute.ErrUnavailable, Reason: "test"} })
	w.must(w.hv.Crash(id))
	w.untilVM(id, compute.Stopped)
	w.audit()
}
