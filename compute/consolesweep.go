package compute

import (
	"context"
	"time"
)

// retrySweep is when expired tokens are swept again after the store failed.
const retrySweep = time.Minute

// Start sweeps tokens that have expired, now and as they do.
func (s *ConsoleService) Start() { s.sweep() }

// Close ends all connections and stops sweeping. Tokens stay good for the next start.
func (s *ConsoleService) Close() {
	s.mu.Lock()
	s.closed = true
	if s.stop != nil && s.stop() {
		s.sweeps.Done() // it will not run
	}
	s.stop = nil
	for id, watches := range s.watches {
		for w := range watches {
			close(w.ended)
		}
		delete(s.watches, id)
	}
	s.mu.Unlock()
	s.sweeps.Wait()
}

// sweepAt sweeps at a time, unless a sweep is to come anyway: that one finds out when the next is needed.
func (s *ConsoleService) sweepAt(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.stop != nil {
		return
	}
	s.sweeps.Add(1)
	s.stop = s.opt.After(max(at.Sub(s.now()), 0), func() {
		defer s.sweeps.Done()
		s.mu.Lock()
		s.stop = nil
		s.mu.Unlock()
		s.sweep()
	})
}

// sweep removes expired tokens, of which nothing is needed any more.
func (s *ConsoleService) sweep() {
	var next time.Time
	err := s.opt.Store.Update(context.Background(), func(tx Writer) error {
		if err := tx.ExpireConsoleTokens(s.now()); err != nil {
			return err
		}
		var err error
		next, err = tx.NextConsoleExpiry()
		return err
	})
	if err != nil {
		s.log.Warn("cannot remove expired console tokens; trying again", "error", err)
		next = s.now().Add(retrySweep)
	}
	if !next.IsZero() {
		s.sweepAt(next)
	}
}
