package nvmeof

import (
	"sync"
	"time"
)

// scans lets those who ask at the same time share one look at sysfs: an event wakes all who wait, and 50 volumes on their way would read all of each other's
// controllers at every one. After a look there is a rest that is longer than it was: while 50 disks come up there are always events, and udev, who makes
// them, needs the processor more.
type scans struct {
	turn sync.Mutex // held while one looks
	rest time.Time  // until when
	mu   sync.Mutex
	next *scan // that has not begun
}

// A look takes less than a millisecond for a few volumes.
const (
	restful     = 3
	longestRest = 100 * time.Millisecond
)

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
		time.Sleep(time.Until(s.rest))
		s.mu.Lock()
		s.next = nil
		s.mu.Unlock()
		began := time.Now()
		mine.controllers, mine.err = look()
		s.rest = time.Now().Add(min(restful*time.Since(began), longestRest))
		s.turn.Unlock()
		close(mine.done)
	}
	<-mine.done
	return mine.controllers, mine.err
}
