package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
)

const secretBytes = 32

// Grant says what a token is issued for.
type Grant struct {
	User    User
	Methods []string // what the request authenticated with
	Scoped  bool
	// Parent is the token that the request authenticated with, nil when it was a password. The new
	// token ends when the parent does and is in its audit chain.
	Parent *Token
}

// Issue makes a token and returns its secret, which is kept nowhere: the store has its SHA-256.
func (s *Service) Issue(ctx context.Context, g Grant) (secret string, t Token, err error) {
	s.sweepNowAndThen(ctx)
	now := s.now()
	t = Token{
		UserID: g.User.ID, Scoped: g.Scoped,
		Methods:  slices.Clone(g.Methods),
		AuditIDs: []string{newAuditID()},
		Issued:   now,
		Expires:  now.Add(s.lifetime),
	}
	if g.Parent != nil {
		t.descendFrom(*g.Parent)
	}
	secret = newSecret(secretBytes)
	t.Hash = hashOf(secret)
	if err := s.store.PutToken(ctx, t); err != nil {
		return "", Token{}, err
	}
	return secret, t, nil
}

// descendFrom gives t what keystone's rescoped tokens have of their parent.
func (t *Token) descendFrom(parent Token) {
	for _, m := range parent.Methods {
		if !slices.Contains(t.Methods, m) {
			t.Methods = append(t.Methods, m)
		}
	}
	if n := len(parent.AuditIDs); n > 0 {
		t.AuditIDs = append(t.AuditIDs, parent.AuditIDs[n-1])
	}
	if parent.Expires.Before(t.Expires) {
		t.Expires = parent.Expires
	}
}

// Verify returns the token that secret belongs to, and its user. ErrUnauthorized if there is none,
// or not any more.
func (s *Service) Verify(ctx context.Context, secret string) (Token, User, error) {
	if !isSecret(secret) {
		return Token{}, User{}, ErrUnauthorized
	}
	t, err := s.store.Token(ctx, hashOf(secret))
	if err == nil && !s.now().Before(t.Expires) {
		err = ErrUnauthorized
	}
	var user User
	if err == nil {
		user, err = s.store.User(ctx, t.UserID)
	}
	if errors.Is(err, ErrNotFound) {
		err = ErrUnauthorized
	}
	if err != nil {
		return Token{}, User{}, err
	}
	return t, user, nil
}

// Revoke ends a token. ErrNotFound if there is none.
func (s *Service) Revoke(ctx context.Context, secret string) error {
	return s.store.DeleteToken(ctx, hashOf(secret))
}

// Sweep removes the expired tokens and says how many. Issue does it from time to time.
func (s *Service) Sweep(ctx context.Context) (int64, error) {
	return s.store.DeleteExpiredTokens(ctx, s.now())
}

// sweepNowAndThen keeps the table of tokens short. A failure is no reason to refuse a login: if
// the store is broken, storing the token will say so.
func (s *Service) sweepNowAndThen(ctx context.Context) {
	now := s.now()
	s.mu.Lock()
	due := now.Sub(s.swept) >= sweepInterval
	if due {
		s.swept = now
	}
	s.mu.Unlock()
	if due {
		_, _ = s.Sweep(ctx)
	}
}

// newAuditID makes 16 random bytes in base64url, as keystone's are.
func newAuditID() string { return newSecret(16) }

func newSecret(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// isSecret says whether a string can be a token at all, before it costs a look into the store.
func isSecret(s string) bool { return len(s) == base64.RawURLEncoding.EncodedLen(secretBytes) }

func hashOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
