package router

import (
	"math/rand/v2"
	"time"
)

// When advertisements are sent (RFC 4861, 6.2 and 10).
const (
	maxInterval        = 600 * time.Second // MaxRtrAdvInterval
	minInterval        = 200 * time.Second // MinRtrAdvInterval
	maxInitialInterval = 16 * time.Second  // MAX_INITIAL_RTR_ADVERT_INTERVAL
	initially          = 3                 // MAX_INITIAL_RTR_ADVERTISEMENTS
	minDelay           = 3 * time.Second   // MIN_DELAY_BETWEEN_RAS
	maxAnswerDelay     = 500 * time.Millisecond
	retryDelay         = time.Second // of what could not be sent
)

// schedule says when the next advertisement is to be sent. All are to all nodes: a flood of solicitations makes no flood of answers.
type schedule struct {
	next, last time.Time
	sent       int // since begin
	random     func(time.Duration) time.Duration
}

func newSchedule(now time.Time) *schedule {
	return &schedule{next: now, random: func(d time.Duration) time.Duration { return rand.N(d) }}
}

// begin is that there is something new to say.
func (s *schedule) begin(now time.Time) {
	s.sent = 0
	s.sooner(now)
}

// solicited is that a guest asks.
func (s *schedule) solicited(now time.Time) { s.sooner(now.Add(s.random(maxAnswerDelay))) }

// sooner is never less than the delay after the last one, and never later than was said before.
func (s *schedule) sooner(at time.Time) {
	if earliest := s.last.Add(minDelay); !s.last.IsZero() && at.Before(earliest) {
		at = earliest
	}
	if at.Before(s.next) {
		s.next = at
	}
}

func (s *schedule) done(now time.Time) {
	s.last = now
	s.sent++
	wait := minInterval + s.random(maxInterval-minInterval)
	if s.sent < initially {
		wait = min(wait, maxInitialInterval)
	}
	s.next = now.Add(wait)
}

func (s *schedule) failed(now time.Time) { s.next = now.Add(retryDelay) }
