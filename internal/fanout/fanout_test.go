package fanout

import (
	"context"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const lost = -1

func newHub(limit int) *Hub[int] { return New(limit, func() int { return lost }) }

func TestEveryReaderGetsAllInOrder(t *testing.T) {
	h := newHub(100)
	defer h.Close()
	a, b := h.Subscribe(t.Context()), h.Subscribe(t.Context())
	for i := range 50 {
		h.Publish(i)
	}
	for i := range 50 {
		if got := <-a; got != i {
			t.Fatalf("first reader: got %d, want %d", got, i)
		}
		if got := <-b; got != i {
			t.Fatalf("second reader: got %d, want %d", got, i)
		}
	}
}

func TestSlowReaderIsToldThatItLostSome(t *testing.T) {
	h := newHub(4)
	defer h.Close()
	s := h.Subscribe(t.Context())
	for i := range 20 {
		h.Publish(i)
	}
	read := 0
	for got := range s {
		if got == lost {
			break
		}
		read++
	}
	if read > 5 {
		t.Errorf("%d values were kept for a reader that may fall behind by 4", read)
	}
	const after = 99
	h.Publish(after)
	for got := range s {
		if got == after {
			break
		}
	}
}

func TestStreamsEnd(t *testing.T) {
	h := newHub(4)
	ctx, cancel := context.WithCancel(t.Context())
	byContext, byClose := h.Subscribe(ctx), h.Subscribe(t.Context())
	cancel()
	if _, open := <-byContext; open {
		t.Error("stream is open after its context ended")
	}
	h.Publish(1)
	if got := <-byClose; got != 1 {
		t.Errorf("got %d, want 1", got)
	}
	h.Close()
	h.Close()
	if _, open := <-byClose; open {
		t.Error("stream is open after Close")
	}
	if _, open := <-h.Subscribe(t.Context()); open {
		t.Error("a closed hub gave an open stream")
	}
}
