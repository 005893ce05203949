package shared

import (
	"runtime"
	"sync"
	"testing"
)

// TestLooksAreShared: who asks while one looks gets what the next look finds, and of all who do there is one.
func TestLooksAreShared(t *testing.T) {
	var l Look[int]
	const others = 20
	begun, finish := make(chan struct{}), make(chan struct{})
	looks := 0
	look := func() (int, error) {
		if looks++; looks == 1 {
			close(begun)
			<-finish
		}
		return looks, nil
	}
	var all sync.WaitGroup
	ask := func(want int) {
		if got, err := l.Do(look); err != nil || got < want {
			t.Errorf("look %d, %v: it began before it was asked for", got, err)
		}
	}
	all.Go(func() { ask(1) })
	<-begun
	for range others {
		all.Go(func() { ask(2) })
	}
	for joined := 0; joined < others; runtime.Gosched() {
		l.mu.Lock()
		if l.next != nil {
			joined = l.next.users
		}
		l.mu.Unlock()
	}
	close(finish)
	all.Wait()
	if looks != 2 {
		t.Errorf("%d looks", looks)
	}
}
