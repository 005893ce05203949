package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultTokenLifetime is how long a token is good for when Options does not say.
const DefaultTokenLifetime = 12 * time.Hour

// sweepInterval is how often issuing a token also removes the expired ones.
const sweepInterval = 10 * time.Minute

// Options of a Service.
type Options struct {
	Store         Store
	Clock         func() time.Time // time.Now if nil
	TokenLifetime time.Duration    // DefaultTokenLifetime if zero
}

// Service logs users in and checks their tokens. Its methods may be called concurrently.
type Service struct {
	store    Store
	clock    func() time.Time
	lifetime time.Duration
	throttle *throttle
	hashing  chan struct{} // bounds the bcrypts at a time, each of which fills a core
	cost     int           // bcrypt's
	nobody   []byte        // what an unknown user's password is checked against; has the cost

	mu    sync.Mutex
	swept time.Time
}

// New returns a Service on opt.Store.
func New(opt Options) *Service {
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.TokenLifetime == 0 {
		opt.TokenLifetime = DefaultTokenLifetime
	}
	return &Service{
		store:    opt.Store,
		clock:    opt.Clock,
		lifetime: opt.TokenLifetime,
		throttle: newThrottle(),
		hashing:  make(chan struct{}, 2),
		cost:     passwordCost,
		nobody:   []byte(nobodyHash),
	}
}

// now is the time as keystone's wire form can say it: UTC, in microseconds.
func (s *Service) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// EnsureAdmin returns the user "admin" of the project "admin". The first time it makes both with a
// random password, which it gives to publish before it stores anything: if publish fails, or the
// agent dies, the next call begins anew with another password, so none is ever lost. The clear
// password is kept nowhere else.
func (s *Service) EnsureAdmin(ctx context.Context, publish func(admin User, password string) error) (User, error) {
	admin, err := s.store.UserByName(ctx, DomainID, "admin")
	if err == nil || !errors.Is(err, ErrNotFound) {
		return admin, err
	}
	password := rand.Text()
	hash, err := s.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	admin = User{
		ID: newID(), Name: "admin", DomainID: DomainID,
		ProjectID: newID(), ProjectName: "admin",
		Roles:        []string{RoleAdmin, RoleMember, RoleReader},
		PasswordHash: hash,
		Created:      s.now(),
	}
	if err := publish(admin, password); err != nil {
		return User{}, fmt.Errorf("publish the admin's password: %w", err)
	}
	return admin, s.store.CreateUser(ctx, admin)
}

// SetPassword changes a user's password and ends the user's tokens. ErrInvalid if it is empty or
// longer than bcrypt's 72 bytes.
func (s *Service) SetPassword(ctx context.Context, userID, password string) error {
	hash, err := s.hash(ctx, password)
	if err != nil {
		return err
	}
	return s.store.SetPasswordHash(ctx, userID, hash)
}

// newID makes an ID in keystone's form.
func newID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}
