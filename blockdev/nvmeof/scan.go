package nvmeof

import (
	"sync"

	"compute-agent/internal/shared"
)

// scans lets those who ask at the same time for the same subsystem share one look at sysfs: 50 volumes on their way in one subsystem would else each read all
// of the others' namespaces.
type scans struct {
	mu    sync.Mutex
	looks map[string]*scan // by the subsystem's name
}

type scan struct {
	shared.Look[[]Controller]
	users int
}

// do returns what a look finds that began after do was called. The controllers are shared: nobody writes to them.
func (s *scans) do(nqn string, look func() ([]Controller, error)) ([]Controller, error) {
	mine := s.enter(nqn)
	defer s.leave(nqn, mine)
	return mine.Do(look)
}

func (s *scans) enter(nqn string) *scan {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looks == nil {
		s.looks = map[string]*scan{}
	}
	mine := s.looks[nqn]
	if mine == nil {
		mine = &scan{}
		s.looks[nqn] = mine
	}
	mine.users++
	return mine
}

func (s *scans) leave(nqn string, mine *scan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(s.looks, nqn)
	}
}
