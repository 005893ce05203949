// Package keylock gives one lock for each key, and none for keys that nobody holds.
package keylock

import (
	"context"
	"sync"
)

// Map holds the locks. Its zero value is ready; it must not be copied after use.
type Map[K comparable] struct {
	mu    sync.Mutex
	locks map[K]*lock
}

// lock is held by whoever has taken the token out of slot. users counts holder and waiters.
type lock struct {
	slot  chan struct{}
	users int
}

// Lock waits for the lock of key and returns the function that gives it back, which must be called
// once. When ctx ends first it returns the context's cause and holds nothing.
func (m *Map[K]) Lock(ctx context.Context, key K) (unlock func(), err error) {
	l := m.join(key)
	select {
	case <-ctx.Done():
		m.leave(key, l)
		return nil, context.Cause(ctx)
	case <-l.slot:
		return func() {
			l.slot <- struct{}{}
			m.leave(key, l)
		}, nil
	}
}

func (m *Map[K]) join(key K) *lock {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.locks[key]
	if l == nil {
		if m.locks == nil {
			m.locks = map[K]*lock{}
		}
		l = &lock{slot: make(chan struct{}, 1)}
		l.slot <- struct{}{}
		m.locks[key] = l
	}
	l.users++
	return l
}

func (m *Map[K]) leave(key K, l *lock) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(m.locks, key)
	}
}
