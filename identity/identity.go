// Package identity knows who may use the agent's own API: users with passwords, and the tokens
// that they log in for. The words and rules are those of OpenStack's identity service, keystone,
// as far as its clients can see them; the wire form is the front door's.
package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// The kinds of error, to be tested with errors.Is.
var (
	ErrUnauthorized = errors.New("unauthorized")          // 401; does not say what was wrong
	ErrRateLimited  = errors.New("too many failures")     // 429; a *Throttled says how long to wait
	ErrInvalid      = errors.New("invalid credential")    // 400; a password that cannot be set
	ErrNotFound     = errors.New("not found in identity") // 404
	ErrExists       = errors.New("exists in identity")    // 409
)

// Throttled is the ErrRateLimited of a name with too many failed logins.
type Throttled struct{ RetryAfter time.Duration }

func (t *Throttled) Error() string {
	return fmt.Sprintf("too many failed logins, try again in %s", t.RetryAfter.Round(time.Second))
}

// Is makes errors.Is(err, ErrRateLimited) true.
func (t *Throttled) Is(target error) bool { return target == ErrRateLimited }

// The one domain, as keystone's bootstrap names it.
const (
	DomainID   = "default"
	DomainName = "Default"
)

// The roles of keystone's default policies; each includes the ones after it.
const (
	RoleAdmin  = "admin"
	RoleMember = "member"
	RoleReader = "reader"
)

// RoleID returns the ID of a role, 32 hex digits like all of keystone's, made of its name.
func RoleID(name string) string {
	sum := sha256.Sum256([]byte("role " + name))
	return hex.EncodeToString(sum[:16])
}

// User is someone who can log in, with the one project that the login is good for.
type User struct {
	ID          string // 32 hex digits
	Name        string
	DomainID    string // of the user and of the project
	ProjectID   string // 32 hex digits
	ProjectName string
	Roles       []string // on the project
	// PasswordHash is bcrypt's.
	PasswordHash []byte
	Created      time.Time
}

// Domain names a domain by ID or by name; the zero Domain is the default one.
type Domain struct{ ID, Name string }

func (d Domain) isDefault() bool {
	return (d.ID == "" || d.ID == DomainID) && (d.Name == "" || d.Name == DomainName)
}

// Project names a project by ID, or by name and domain.
type Project struct {
	ID, Name string
	Domain   Domain
}

// Owns says whether p is the user's project.
func (u User) Owns(p Project) bool {
	if p.ID == "" && p.Name == "" {
		return false
	}
	return (p.ID == "" || p.ID == u.ProjectID) && (p.Name == "" || p.Name == u.ProjectName) && p.Domain.isDefault()
}

// The ways to authenticate, in keystone's words.
const (
	MethodPassword = "password"
	MethodToken    = "token"
)

// Token is a right to act as a user for a time. Its secret is not part of it.
type Token struct {
	Hash     []byte // SHA-256 of the secret
	UserID   string
	Scoped   bool     // to the user's project; an unscoped token only serves to get a scoped one
	Methods  []string // how the user authenticated for it and for the ones that it came from
	AuditIDs []string // its own, and the one of the first in its chain if it came from another
	Issued   time.Time
	Expires  time.Time
}

// Store keeps users and tokens. A record that is not there is ErrNotFound.
type Store interface {
	// CreateUser adds a user. ErrExists if the ID, or the name in the domain, is taken.
	CreateUser(ctx context.Context, u User) error
	// SetPasswordHash changes a user's password and removes the user's tokens.
	SetPasswordHash(ctx context.Context, userID string, hash []byte) error
	User(ctx context.Context, id string) (User, error)
	UserByName(ctx context.Context, domainID, name string) (User, error)
	PutToken(ctx context.Context, t Token) error
	Token(ctx context.Context, hash []byte) (Token, error)
	// DeleteToken is ErrNotFound when there is none.
	DeleteToken(ctx context.Context, hash []byte) error
	// DeleteExpiredTokens removes those that expire at now or before, and says how many.
	DeleteExpiredTokens(ctx context.Context, now time.Time) (int64, error)
}
