package libvirt

import (
	"context"
	"sync"
)

// turns lets the calls that change one guest take effect one after the other. A turn is held until its
// call has really ended, also when its caller has gone: what a late call still does to the guest must not
// mix with the next one.
type turns struct {
	mu sync.Mutex
	of map[string]*turn
}

type turn struct {
	token chan struct{} // holds one while the turn is taken
	users int
}

// take waits for the guest's turn and returns what gives it back.
func (t *turns) take(ctx context.Context, id string) (give func(), err error) {
	q := t.queue(id)
	select {
	case q.token <- struct{}{}:
		return func() {
			<-q.token
			t.leave(id, q)
		}, nil
	case <-ctx.Done():
		t.leave(id, q)
		return nil, ctx.Err()
	}
}

func (t *turns) queue(id string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*turn{}
	}
	q := t.of[id]
	if q == nil {
		q = &turn{token: make(chan struct{}, 1)}
		t.of[id] = q
	}
	q.users++
	return q
}

func (t *turns) leave(id string, q *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(t.of, id)
	}
}
