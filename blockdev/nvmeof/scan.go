package nvmeof

import "sync"

// scans lets those who ask at the same time for the same subsystem share one look at sysfs: 50 volumes on their way in one subsystem would else each read all
// of the others' namespaces.
type scans struct {
	mu    sync.Mutex
	turns map[string]*turn // by the subsystem's name
}

// turn is that of those who ask for one subsystem.
type turn struct {
	one  sync.Mutex // held while one looks
	next *scan      // that has not begun
	all  int        // who ask
}

type scan struct {
	users       int // who wait for it
	done        chan struct{}
	controllers []Controller
	err         error
}

// do returns what a look finds that began after do was called. The controllers are shared: nobody writes to them.
func (s *scans) do(nqn string, look func() ([]Controller, error)) ([]Controller, error) {
	t, mine, first := s.join(nqn)
	defer s.leave(nqn, t)
	if first {
		t.one.Lock()
		s.mu.Lock()
		t.next = nil
		s.mu.Unlock()
		mine.controllers, mine.err = look()
		t.one.Unlock()
		close(mine.done)
	}
	<-mine.done
	return mine.controllers, mine.err
}

// join returns the look that is next, and whether the caller is the one to do it.
func (s *scans) join(nqn string) (t *turn, mine *scan, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turns == nil {
		s.turns = map[string]*turn{}
	}
	if t = s.turns[nqn]; t == nil {
		t = &turn{}
		s.turns[nqn] = t
	}
	t.all++
	if mine, first = t.next, t.next == nil; first {
		mine = &scan{done: make(chan struct{})}
		t.next = mine
	}
	mine.users++
	return t, mine, first
}

func (s *scans) leave(nqn string, t *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.all--; t.all == 0 {
		delete(s.turns, nqn)
	}
}
