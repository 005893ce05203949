package nvmeof

import "sync"

// scans lets those who ask at the same time share one look at sysfs: an event wakes all who wait, and 50 volumes on their way would read all of each other's
// controllers at every one.
type scans struct {
	turn sync.Mutex // held while one looks
	mu   sync.Mutex
	next *scan // that has not begun
}

type scan struct {
	users       int // who wait for it
	done        chan struct{}
	controllers []Controller
	err         error
}

// do returns what a look finds that began after do was called. The controllers are shared: nobody writes to them.
func (s *scans) do(look func() ([]Controller, error)) ([]Controller, error) {
	s.mu.Lock()
	mine := s.next
	first := mine == nil
	if first {
		mine = &scan{done: make(chan struct{})}
		s.next = mine
	}
	mine.users++
	s.mu.Unlock()
	if first {
		s.turn.Lock()
		s.mu.Lock()
		s.next = nil
		s.mu.Unlock()
		mine.controllers, mine.err = look()
		s.turn.Unlock()
		close(mine.done)
	}
	<-mine.done
	return mine.controllers, mine.err
}
