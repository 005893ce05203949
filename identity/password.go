package identity

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/bcrypt"
)

// passwordCost makes one check take about 75 ms of a core of 2023; every command of the openstack
// client logs in anew, so more would be felt.
const passwordCost = bcrypt.DefaultCost

// maxPassword is all that bcrypt looks at; a longer one is refused, not cut.
const maxPassword = 72

// nobodyHash belongs to no password. The login of an unknown user is checked against it, so that
// it takes as long as a known one's.
const nobodyHash = "$2a$10$FIy2KTUJMqczZnIHAobd9.ST.EFhYVAc5ZC4ADI6zAiGowqKQrMCW"

// Credential is what a password login names: the user by ID, or by name and domain.
type Credential struct {
	UserID   string
	UserName string
	Domain   Domain
	Password string
}

// throttleKey is what failures are counted for.
func (c Credential) throttleKey() string {
	if c.UserID != "" {
		return "id " + c.UserID
	}
	return "name " + c.UserName
}

// Login returns the user of a right credential. A wrong one is ErrUnauthorized, whatever is wrong
// with it and after the same time; too many wrong ones for a name in a short time make it
// ErrRateLimited for a while, right or wrong.
func (s *Service) Login(ctx context.Context, c Credential) (User, error) {
	// The core comes first: logins that wait for one would count as failed meanwhile, and many right
	// ones at once would lock each other out.
	release, err := s.reserveCore(ctx)
	if err != nil {
		return User{}, err
	}
	defer release()
	attempt, err := s.throttle.begin(c.throttleKey(), s.clock())
	if err != nil {
		return User{}, err
	}
	user, err := s.login(ctx, c)
	if !errors.Is(err, ErrUnauthorized) {
		attempt.forgive()
	}
	return user, err
}

func (s *Service) login(ctx context.Context, c Credential) (User, error) {
	user, err := s.find(ctx, c)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, err
	}
	hash := s.nobody
	if known {
		hash = user.PasswordHash
	}
	if !matches(hash, c.Password) || !known {
		return User{}, ErrUnauthorized
	}
	return user, nil
}

func (s *Service) find(ctx context.Context, c Credential) (User, error) {
	if c.UserID != "" {
		return s.store.User(ctx, c.UserID)
	}
	if !c.Domain.isDefault() {
		return User{}, ErrNotFound
	}
	return s.store.UserByName(ctx, DomainID, c.UserName)
}

// matches compares password with hash, which fills a core for a while.
func matches(hash []byte, password string) bool {
	fits := len(password) <= maxPassword
	if !fits {
		password = password[:maxPassword]
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && fits
}

func (s *Service) hash(ctx context.Context, password string) ([]byte, error) {
	if password == "" || len(password) > maxPassword {
		return nil, fmt.Errorf("password: %w: it must have 1 to %d bytes", ErrInvalid, maxPassword)
	}
	release, err := s.reserveCore(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return bcrypt.GenerateFromPassword([]byte(password), s.cost)
}

// reserveCore waits for a free core.
func (s *Service) reserveCore(ctx context.Context) (release func(), err error) {
	select {
	case s.hashing <- struct{}{}:
		return func() { <-s.hashing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
