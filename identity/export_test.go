package identity

import (
	"context"

	"golang.org/x/crypto/bcrypt"
)

// PasswordCost and NobodyCost are the costs of checking a known and an unknown user's password.
const PasswordCost = passwordCost

// NobodyCost is a function because the cost is part of the hash.
func NobodyCost() (int, error) { return bcrypt.Cost([]byte(nobodyHash)) }

// MakeCheap makes password checks take no time; the race detector slows them twentyfold.
func (s *Service) MakeCheap() {
	s.cost = bcrypt.MinCost
	hash, err := s.hash(context.Background(), "no one's")
	if err != nil {
		panic(err) // the context never ends
	}
	s.nobody = hash
}

// OccupyCores makes every password check wait until release.
func (s *Service) OccupyCores() (release func()) {
	for range cap(s.hashing) {
		if _, err := s.reserveCore(context.Background()); err != nil {
			panic(err) // the context never ends
		}
	}
	return func() {
		for range cap(s.hashing) {
			<-s.hashing
		}
	}
}

// ThrottleSlots is how many names are told apart.
const ThrottleSlots = throttleSlots

// Slots is how many names the service remembers failures of.
func (s *Service) Slots() int { return len(s.throttle.slots) }
