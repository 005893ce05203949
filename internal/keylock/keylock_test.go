package keylock

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestOneHolderPerKey(t *testing.T) {
	var m Map[string]
	count := map[string]*int{"a": new(int), "b": new(int)}
	var wg sync.WaitGroup
	for i := range 64 {
		key := []string{"a", "b"}[i%2]
		wg.Go(func() {
			for range 100 {
				unlock, err := m.Lock(t.Context(), key)
				if err != nil {
					t.Error(err)
					return
				}
				*count[key]++ // the race detector sees two holders
				unlock()
			}
		})
	}
	wg.Wait()
	if *count["a"] != 3200 || *count["b"] != 3200 {
		t.Errorf("counts %d and %d, want 3200 each", *count["a"], *count["b"])
	}
	if len(m.locks) != 0 {
		t.Errorf("%d locks are left that nobody holds", len(m.locks))
	}
}

func TestKeysDoNotWaitForEachOther(t *testing.T) {
	var m Map[int]
	for key := range 3 {
		unlock, err := m.Lock(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	var m Map[string]
	unlock, err := m.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	because := errors.New("because")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(because)
	if _, err := m.Lock(ctx, "a"); !errors.Is(err, because) {
		t.Errorf("error %v, want the context's cause", err)
	}
	unlock()
	again, err := m.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	again()
	if len(m.locks) != 0 {
		t.Errorf("%d locks are left that nobody holds", len(m.locks))
	}
}
