// Package fanout gives every reader a stream of its own of what one writer publishes, and never
// makes the writer wait.
package fanout

import (
	"context"
	"sync"
)

// Hub hands values to its subscribers in the order in which they were published.
type Hub[T any] struct {
	limit int
	lost  func() T

	mu     sync.Mutex
	subs   map[*sub[T]]struct{}
	closed bool
	done   chan struct{}
}

// New returns a hub whose readers may fall behind by limit values. One that falls further behind
// gets the value of lost in the place of everything that it has not read.
func New[T any](limit int, lost func() T) *Hub[T] {
	return &Hub[T]{limit: limit, lost: lost, subs: map[*sub[T]]struct{}{}, done: make(chan struct{})}
}

type sub[T any] struct {
	mu    sync.Mutex
	queue []T
	wake  chan struct{} // holds one token when the queue may have something
}

// Subscribe returns a stream of what is published from now on. It is closed when ctx ends or the
// hub is closed.
func (h *Hub[T]) Subscribe(ctx context.Context) <-chan T {
	out := make(chan T)
	s := &sub[T]{wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || ctx.Err() != nil {
		close(out)
		return out
	}
	h.subs[s] = struct{}{}
	go h.serve(ctx, s, out)
	return out
}

// Publish hands v to every subscriber. It does not block.
func (h *Hub[T]) Publish(v T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		s.put(v, h.limit, h.lost)
	}
}

// Close ends all streams and refuses new ones. Closing twice is allowed.
func (h *Hub[T]) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.done)
	}
}

func (h *Hub[T]) serve(ctx context.Context, s *sub[T], out chan<- T) {
	defer close(out)
	defer h.remove(s)
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.done:
			return
		case <-s.wake:
		}
		for v, ok := s.take(); ok; v, ok = s.take() {
			select {
			case <-ctx.Done():
				return
			case <-h.done:
				return
			case out <- v:
			}
		}
	}
}

func (h *Hub[T]) remove(s *sub[T]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
}

func (s *sub[T]) put(v T, limit int, lost func() T) {
	s.mu.Lock()
	if len(s.queue) >= limit {
		clear(s.queue)
		s.queue = append(s.queue[:0], lost())
	} else {
		s.queue = append(s.queue, v)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sub[T]) take() (v T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return v, false
	}
	v = s.queue[0]
	s.queue = s.queue[1:]
	return v, true
}
