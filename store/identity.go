package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"compute-agent/compute"
	"compute-agent/identity"
)

var _ identity.Store = (*Store)(nil)

type userRecord struct {
	*identity.User
	ID, DomainID, Name, PasswordHash column `json:",omitempty"`
}

func scanUser(r row) (identity.User, error) {
	var u identity.User
	var record []byte
	if err := r.Scan(&u.ID, &u.DomainID, &u.Name, &u.PasswordHash, &record); err != nil {
		return identity.User{}, err
	}
	err := decode(record, &userRecord{User: &u})
	return u, err
}

const selectUsers = "SELECT id, domain_id, name, password_hash, record FROM users"

// CreateUser implements identity.Store.
func (s *Store) CreateUser(ctx context.Context, u identity.User) error {
	subject := "user " + u.Name
	record, err := encode(userRecord{User: &u})
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	err = s.update(ctx, func(w writer) error {
		_, err := w.exec("INSERT INTO users (id, domain_id, name, password_hash, record) VALUES (?, ?, ?, ?, ?)",
			u.ID, u.DomainID, u.Name, u.PasswordHash, record)
		return err
	})
	return explainIdentity(subject, err)
}

// SetPasswordHash implements identity.Store.
func (s *Store) SetPasswordHash(ctx context.Context, userID string, hash []byte) error {
	err := s.update(ctx, func(w writer) error {
		n, err := w.exec("UPDATE users SET password_hash = ? WHERE id = ?", hash, userID)
		if err == nil && n == 0 {
			err = identity.ErrNotFound
		}
		if err != nil {
			return err
		}
		_, err = w.exec("DELETE FROM tokens WHERE user_id = ?", userID)
		return err
	})
	return explainIdentity("user "+userID, err)
}

// User implements identity.Store.
func (s *Store) User(ctx context.Context, id string) (identity.User, error) {
	return viewIdentity(ctx, s, "user "+id, scanUser, selectUsers+" WHERE id = ?", id)
}

// UserByName implements identity.Store.
func (s *Store) UserByName(ctx context.Context, domainID, name string) (identity.User, error) {
	return viewIdentity(ctx, s, "user "+name, scanUser, selectUsers+" WHERE domain_id = ? AND name = ?", domainID, name)
}

type tokenRecord struct {
	*identity.Token
	Hash, UserID, Expires column `json:",omitempty"`
}

func scanToken(r row) (identity.Token, error) {
	var t identity.Token
	var expires int64
	var record []byte
	if err := r.Scan(&t.Hash, &t.UserID, &expires, &record); err != nil {
		return identity.Token{}, err
	}
	t.Expires = time.UnixMicro(expires).UTC()
	err := decode(record, &tokenRecord{Token: &t})
	return t, err
}

// PutToken implements identity.Store. ErrNotFound if there is no such user.
func (s *Store) PutToken(ctx context.Context, t identity.Token) error {
	record, err := encode(tokenRecord{Token: &t})
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	err = s.update(ctx, func(w writer) error {
		_, err := w.exec("INSERT INTO tokens (hash, user_id, expires, record) VALUES (?, ?, ?, ?)",
			t.Hash, t.UserID, t.Expires.UnixMicro(), record)
		return err
	})
	return explainIdentity("token of user "+t.UserID, err)
}

// Token implements identity.Store.
func (s *Store) Token(ctx context.Context, hash []byte) (identity.Token, error) {
	return viewIdentity(ctx, s, "token", scanToken, "SELECT hash, user_id, expires, record FROM tokens WHERE hash = ?", hash)
}

// DeleteToken implements identity.Store.
func (s *Store) DeleteToken(ctx context.Context, hash []byte) error {
	err := s.update(ctx, func(w writer) error {
		n, err := w.exec("DELETE FROM tokens WHERE hash = ?", hash)
		if err == nil && n == 0 {
			err = identity.ErrNotFound
		}
		return err
	})
	return explainIdentity("token", err)
}

// DeleteExpiredTokens implements identity.Store.
func (s *Store) DeleteExpiredTokens(ctx context.Context, now time.Time) (n int64, err error) {
	err = s.update(ctx, func(w writer) error {
		n, err = w.exec("DELETE FROM tokens WHERE expires <= ?", now.UnixMicro())
		return err
	})
	return n, explainIdentity("expired tokens", err)
}

func viewIdentity[T any](ctx context.Context, s *Store, subject string, scan func(row) (T, error), query string, args ...any) (v T, err error) {
	err = s.view(ctx, func(r reader) error {
		v, err = get(r, subject, scan, query, args...)
		return err
	})
	return v, explainIdentity(subject, err)
}

// explainIdentity gives an error the kind that package identity has for it.
func explainIdentity(subject string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, compute.ErrNotFound), errors.Is(err, identity.ErrNotFound), isDangling(err):
		return fmt.Errorf("%s: %w", subject, identity.ErrNotFound)
	case isDuplicate(err):
		return fmt.Errorf("%s: %w", subject, identity.ErrExists)
	}
	return explain(subject, err)
}
