package store_test

import (
	"context"
	"testing"
	"time"

	"compute-agent/identity"
)

func fullUser(id, name string) identity.User {
	return identity.User{ID: id, Name: name, DomainID: "default", ProjectID: "p", ProjectName: "admin",
		Roles: []string{"admin", "member"}, PasswordHash: []byte("hash"), Created: noon}
}

func fullToken(hash, userID string) identity.Token {
	issued := noon.Truncate(time.Microsecond)
	return identity.Token{Hash: []byte(hash), UserID: userID, Scoped: true, Methods: []string{"password", "token"},
		AuditIDs: []string{"x", "y"}, Issued: issued, Expires: issued.Add(time.Hour)}
}

func TestUsers(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	for _, u := range []identity.User{fullUser("u", "admin"), fullUser("v", "other")} {
		if err := s.CreateUser(ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.User(ctx, "u")
	want(t, got, err, fullUser("u", "admin"))
	got, err = s.UserByName(ctx, "default", "other")
	want(t, got, err, fullUser("v", "other"))
	wantError(t, "taken ID", s.CreateUser(ctx, fullUser("u", "third")), identity.ErrExists)
	wantError(t, "taken name", s.CreateUser(ctx, fullUser("w", "admin")), identity.ErrExists)
	_, err = s.User(ctx, "w")
	wantError(t, "unknown ID", err, identity.ErrNotFound)
	_, err = s.UserByName(ctx, "elsewhere", "admin")
	wantError(t, "another domain", err, identity.ErrNotFound)
}

func TestSetPasswordHashEndsTheUsersTokens(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	for _, id := range []string{"u", "v"} {
		if err := s.CreateUser(ctx, fullUser(id, id)); err != nil {
			t.Fatal(err)
		}
		if err := s.PutToken(ctx, fullToken("token of "+id, id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetPasswordHash(ctx, "u", []byte("new")); err != nil {
		t.Fatal(err)
	}
	changed := fullUser("u", "u")
	changed.PasswordHash = []byte("new")
	got, err := s.User(ctx, "u")
	want(t, got, err, changed)
	_, err = s.Token(ctx, []byte("token of u"))
	wantError(t, "the user's token", err, identity.ErrNotFound)
	token, err := s.Token(ctx, []byte("token of v"))
	want(t, token, err, fullToken("token of v", "v"))
	wantError(t, "unknown user", s.SetPasswordHash(ctx, "w", nil), identity.ErrNotFound)
}

func TestTokens(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	if err := s.CreateUser(ctx, fullUser("u", "u")); err != nil {
		t.Fatal(err)
	}
	wantError(t, "unknown user", s.PutToken(ctx, fullToken("t", "w")), identity.ErrNotFound)
	early, late := fullToken("early", "u"), fullToken("late", "u")
	late.Expires = early.Expires.Add(time.Microsecond)
	for _, token := range []identity.Token{early, late} {
		if err := s.PutToken(ctx, token); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		now  time.Time
		want int64
	}{{early.Expires.Add(-time.Microsecond), 0}, {early.Expires, 1}, {early.Expires, 0}} {
		n, err := s.DeleteExpiredTokens(ctx, c.now)
		want(t, n, err, c.want)
	}
	_, err := s.Token(ctx, early.Hash)
	wantError(t, "expired token", err, identity.ErrNotFound)
	got, err := s.Token(ctx, late.Hash)
	want(t, got, err, late)
	if err := s.DeleteToken(ctx, late.Hash); err != nil {
		t.Error(err)
	}
	wantError(t, "deleted again", s.DeleteToken(ctx, late.Hash), identity.ErrNotFound)
}
