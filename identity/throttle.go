package identity

import (
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A name may fail burst times at once, and then once in each refill.
const (
	failureBurst  = 10
	failureRefill = 5 * time.Second
)

// throttleSlots bounds the memory that made-up names can take. Names share a slot by a hash with
// a secret seed, so nobody can choose a name that locks out another's.
const throttleSlots = 1024

// throttle counts failed logins.
type throttle struct {
	seed maphash.Seed

	mu    sync.Mutex
	slots map[uint64]*rate.Limiter
}

func newThrottle() *throttle {
	return &throttle{seed: maphash.MakeSeed(), slots: map[uint64]*rate.Limiter{}}
}

// attempt is a login that counts as failed until it is forgiven. Counting first keeps many logins
// at once from passing the limit together.
type attempt struct {
	now         time.Time
	reservation *rate.Reservation
}

// begin counts a login of name, or refuses it with a *Throttled.
func (t *throttle) begin(name string, now time.Time) (attempt, error) {
	slot := maphash.String(t.seed, name) % throttleSlots
	t.mu.Lock()
	limiter := t.slots[slot]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Every(failureRefill), failureBurst)
		t.slots[slot] = limiter
	}
	t.mu.Unlock()
	r := limiter.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return attempt{}, &Throttled{RetryAfter: wait}
	}
	return attempt{now, r}, nil
}

// forgive takes the login off the count.
func (a attempt) forgive() { a.reservation.CancelAt(a.now) }
