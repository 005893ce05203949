package nvmeof

import (
	"runtime"
	"sync"
	"testing"
)

// TestScansAreShared: who asks while one looks gets what the next look finds, and of all who do there is one.
func TestScansAreShared(t *testing.T) {
	var s scans
	const others = 20
	begun, finish := make(chan struct{}), make(chan struct{})
	looks := 0
	look := func() ([]Controller, error) {
		if looks++; looks == 1 {
			close(begun)
			<-finish
		}
		return make([]Controller, looks), nil
	}
	var all sync.WaitGroup
	ask := func(want int) {
		if got, err := s.do("nqn", look); err != nil || len(got) < want {
			t.Errorf("look %d, %v: it began before it was asked for", len(got), err)
		}
	}
	all.Go(func() { ask(1) })
	<-begun
	for range others {
		all.Go(func() { ask(2) })
	}
	for joined := 0; joined < others; runtime.Gosched() {
		s.mu.Lock()
		if next := s.turns["nqn"].next; next != nil {
			joined = next.users
		}
		s.mu.Unlock()
	}
	close(finish)
	all.Wait()
	if looks != 2 {
		t.Errorf("%d looks", looks)
	}
	if len(s.turns) != 0 {
		t.Errorf("%d subsystems are kept", len(s.turns))
	}
}
