package identity_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"compute-agent/identity"
	"compute-agent/store"
)

// fixture is a service on a real store with a clock that a test moves.
type fixture struct {
	*identity.Service
	path     string
	store    *store.Store
	now      time.Time
	admin    identity.User
	password string
}

// newFixture opens a service that has its admin.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	b := emptyFixture(t)
	var err error
	b.admin, err = b.EnsureAdmin(t.Context(), func(_ identity.User, password string) error {
		b.password = password
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func emptyFixture(t *testing.T) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.db")
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &fixture{path: path, store: s, now: time.Date(2025, 1, 2, 3, 4, 5, 678901234, time.FixedZone("x", 3600))}
	b.Service = identity.New(identity.Options{Store: s, Clock: func() time.Time { return b.now }})
	b.MakeCheap()
	return b
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func (b *fixture) byName() identity.Credential {
	return identity.Credential{UserName: "admin", Domain: identity.Domain{Name: "Default"}, Password: b.password}
}

func (b *fixture) issue(t *testing.T, g identity.Grant) (string, identity.Token) {
	t.Helper()
	secret, token, err := b.Issue(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	return secret, token
}

func TestEnsureAdminMakesOneOnce(t *testing.T) {
	b := newFixture(t)
	if len(b.password) < 20 || len(b.admin.ID) != 32 || len(b.admin.ProjectID) != 32 || b.admin.ID == b.admin.ProjectID {
		t.Errorf("password %q, admin %+v", b.password, b.admin)
	}
	if d := cmp.Diff([]string{"admin", "member", "reader"}, b.admin.Roles); d != "" {
		t.Error(d)
	}
	again, err := b.EnsureAdmin(t.Context(), func(identity.User, string) error {
		t.Error("the password was published again")
		return nil
	})
	if d := cmp.Diff(b.admin, again); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestEnsureAdminKeepsNoPasswordThatWasNotPublished(t *testing.T) {
	b := emptyFixture(t)
	failure := errors.New("disk full")
	var lost string
	_, err := b.EnsureAdmin(t.Context(), func(_ identity.User, password string) error {
		lost = password
		return failure
	})
	wantError(t, "failed publishing", err, failure)
	_, err = b.Login(t.Context(), identity.Credential{UserName: "admin", Password: lost})
	wantError(t, "login with the lost password", err, identity.ErrUnauthorized)
	admin, err := b.EnsureAdmin(t.Context(), func(_ identity.User, password string) error {
		b.password = password
		return nil
	})
	if err != nil || b.password == lost {
		t.Errorf("%v, password %q after %q", err, b.password, lost)
	}
	got, err := b.Login(t.Context(), b.byName())
	if d := cmp.Diff(admin, got); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestLogin(t *testing.T) {
	b := newFixture(t)
	domain := func(id, name string) identity.Domain { return identity.Domain{ID: id, Name: name} }
	for name, c := range map[string]struct {
		credential identity.Credential
		want       error
	}{
		"by name and domain's name": {identity.Credential{UserName: "admin", Domain: domain("", "Default"), Password: b.password}, nil},
		"by name and domain's ID":   {identity.Credential{UserName: "admin", Domain: domain("default", ""), Password: b.password}, nil},
		"by ID":                     {identity.Credential{UserID: b.admin.ID, Password: b.password}, nil},
		"another domain":            {identity.Credential{UserName: "admin", Domain: domain("", "default"), Password: b.password}, identity.ErrUnauthorized},
		"wrong password":            {identity.Credential{UserName: "admin", Password: b.password + "x"}, identity.ErrUnauthorized},
		"no password":               {identity.Credential{UserName: "admin"}, identity.ErrUnauthorized},
		"endless password":          {identity.Credential{UserName: "admin", Password: strings.Repeat(b.password, 1000)}, identity.ErrUnauthorized},
		"unknown name":              {identity.Credential{UserName: "nobody", Password: b.password}, identity.ErrUnauthorized},
		"unknown ID":                {identity.Credential{UserID: "nobody", Password: b.password}, identity.ErrUnauthorized},
		"no user":                   {identity.Credential{Password: b.password}, identity.ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := b.Login(t.Context(), c.credential)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			want := identity.User{}
			if c.want == nil {
				want = b.admin
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// An unknown user's login does the same work as a known one's: the same cost of hashing, after
// waiting for the same cores.
func TestUnknownUserCostsAsMuch(t *testing.T) {
	if cost, err := identity.NobodyCost(); cost != identity.PasswordCost || err != nil {
		t.Errorf("cost %d, %v; want %d", cost, err, identity.PasswordCost)
	}
	b := newFixture(t)
	for _, name := range []string{"admin", "nobody"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		service := identity.New(identity.Options{Store: b.store})
		release := service.OccupyCores()
		_, err := service.Login(ctx, identity.Credential{UserName: name, Password: "x"})
		wantError(t, name, err, context.Canceled)
		release()
	}
}

func TestPasswordOf72BytesIsWhole(t *testing.T) {
	b := newFixture(t)
	longest := strings.Repeat("p", 72)
	if err := b.SetPassword(t.Context(), b.admin.ID, longest); err != nil {
		t.Fatal(err)
	}
	b.password = longest
	if _, err := b.Login(t.Context(), b.byName()); err != nil {
		t.Error(err)
	}
	b.password += "x" // bcrypt alone would not see it
	_, err := b.Login(t.Context(), b.byName())
	wantError(t, "one byte more", err, identity.ErrUnauthorized)
}

func TestSetPassword(t *testing.T) {
	b := newFixture(t)
	secret, _ := b.issue(t, identity.Grant{User: b.admin, Methods: []string{identity.MethodPassword}})
	for _, bad := range []string{"", strings.Repeat("p", 73)} {
		wantError(t, fmt.Sprintf("%d bytes", len(bad)), b.SetPassword(t.Context(), b.admin.ID, bad), identity.ErrInvalid)
	}
	wantError(t, "unknown user", b.SetPassword(t.Context(), "nobody", "x"), identity.ErrNotFound)
	if _, _, err := b.Verify(t.Context(), secret); err != nil {
		t.Error("before:", err)
	}
	if err := b.SetPassword(t.Context(), b.admin.ID, "new"); err != nil {
		t.Fatal(err)
	}
	_, err := b.Login(t.Context(), b.byName())
	wantError(t, "old password", err, identity.ErrUnauthorized)
	_, _, err = b.Verify(t.Context(), secret)
	wantError(t, "old token", err, identity.ErrUnauthorized)
	b.password = "new"
	if _, err := b.Login(t.Context(), b.byName()); err != nil {
		t.Error("new password:", err)
	}
}

func TestFailedLoginsAreThrottled(t *testing.T) {
	b := newFixture(t)
	wrong := b.byName()
	wrong.Password = "wrong"
	for range 10 {
		_, err := b.Login(t.Context(), wrong)
		wantError(t, "wrong password", err, identity.ErrUnauthorized)
	}
	_, err := b.Login(t.Context(), b.byName())
	wantError(t, "right password after 10 wrong ones", err, identity.ErrRateLimited)
	var throttled *identity.Throttled
	if !errors.As(err, &throttled) || throttled.RetryAfter != 5*time.Second {
		t.Errorf("error %v, want one to retry after 5 s", err)
	}
	if _, err := b.Login(t.Context(), identity.Credential{UserID: b.admin.ID, Password: b.password}); err != nil {
		t.Error("another name:", err)
	}
	b.now = b.now.Add(throttled.RetryAfter)
	for range 12 { // right ones do not count
		if _, err := b.Login(t.Context(), b.byName()); err != nil {
			t.Fatal("after waiting:", err)
		}
	}
	_, err = b.Login(t.Context(), wrong)
	wantError(t, "wrong password", err, identity.ErrUnauthorized)
	_, err = b.Login(t.Context(), wrong)
	wantError(t, "wrong password again", err, identity.ErrRateLimited)
}

// However many right logins come at once, none counts against another.
func TestManyRightLoginsAtOnce(t *testing.T) {
	b := newFixture(t)
	release := b.OccupyCores()
	results := make(chan error)
	const logins = 40
	for range logins {
		go func() {
			_, err := b.Login(t.Context(), b.byName())
			results <- err
		}()
	}
	release()
	for range logins {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestMadeUpNamesTakeBoundedMemory(t *testing.T) {
	b := emptyFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // before the hashing
	for i := range 4 * identity.ThrottleSlots {
		_, err := b.Login(ctx, identity.Credential{UserName: fmt.Sprint("user", i)})
		wantError(t, "ended context", err, context.Canceled)
	}
	if n := b.Slots(); n < identity.ThrottleSlots/2 || n > identity.ThrottleSlots {
		t.Errorf("%d names are remembered, want at most %d", n, identity.ThrottleSlots)
	}
}

func TestToken(t *testing.T) {
	b := newFixture(t)
	secret, token := b.issue(t, identity.Grant{User: b.admin, Methods: []string{identity.MethodPassword}, Scoped: true})
	if raw, err := base64.RawURLEncoding.DecodeString(secret); len(raw) != 32 || err != nil {
		t.Errorf("secret %q is not 32 bytes in base64url", secret)
	}
	issued := b.now.UTC().Truncate(time.Microsecond)
	want := identity.Token{Hash: token.Hash, UserID: b.admin.ID, Scoped: true, Methods: []string{"password"},
		AuditIDs: token.AuditIDs, Issued: issued, Expires: issued.Add(12 * time.Hour)}
	if d := cmp.Diff(want, token); d != "" {
		t.Error(d)
	}
	if len(token.AuditIDs) != 1 || len(token.AuditIDs[0]) != 22 {
		t.Errorf("audit IDs %v", token.AuditIDs)
	}
	got, user, err := b.Verify(t.Context(), secret)
	if d := cmp.Diff(token, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if d := cmp.Diff(b.admin, user); d != "" {
		t.Error(d)
	}
	other, _ := b.issue(t, identity.Grant{User: b.admin})
	if other == secret {
		t.Error("two tokens have the same secret")
	}
}

func TestTokenExpires(t *testing.T) {
	b := newFixture(t)
	secret, token := b.issue(t, identity.Grant{User: b.admin})
	b.now = token.Expires.Add(-time.Microsecond)
	if _, _, err := b.Verify(t.Context(), secret); err != nil {
		t.Error("just before:", err)
	}
	b.now = token.Expires
	_, _, err := b.Verify(t.Context(), secret)
	wantError(t, "when it expires", err, identity.ErrUnauthorized)
}

func TestTokenLifetimeIsAnOption(t *testing.T) {
	b := newFixture(t)
	b.Service = identity.New(identity.Options{Store: b.store, TokenLifetime: time.Minute})
	_, token := b.issue(t, identity.Grant{User: b.admin})
	if got := token.Expires.Sub(token.Issued); got != time.Minute {
		t.Errorf("lifetime %s", got)
	}
}

func TestVerifyRefuses(t *testing.T) {
	b := newFixture(t)
	secret, token := b.issue(t, identity.Grant{User: b.admin})
	for name, s := range map[string]string{
		"nothing":        "",
		"another":        strings.Repeat("A", len(secret)),
		"with a tail":    secret + "A",
		"without a tail": secret[:len(secret)-1],
		"the hash":       base64.RawURLEncoding.EncodeToString(token.Hash),
		"very long":      strings.Repeat("A", 1<<20),
		"NUL":            "\x00",
	} {
		_, _, err := b.Verify(t.Context(), s)
		wantError(t, name, err, identity.ErrUnauthorized)
	}
}

func TestRevoke(t *testing.T) {
	b := newFixture(t)
	secret, _ := b.issue(t, identity.Grant{User: b.admin})
	other, _ := b.issue(t, identity.Grant{User: b.admin})
	if err := b.Revoke(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.Verify(t.Context(), secret)
	wantError(t, "revoked", err, identity.ErrUnauthorized)
	wantError(t, "revoked again", b.Revoke(t.Context(), secret), identity.ErrNotFound)
	if _, _, err := b.Verify(t.Context(), other); err != nil {
		t.Error("the other token:", err)
	}
}

// A token that was got with a token ends with it, says both methods, and is in its audit chain.
func TestTokenFromAToken(t *testing.T) {
	b := newFixture(t)
	_, first := b.issue(t, identity.Grant{User: b.admin, Methods: []string{identity.MethodPassword}})
	b.now = b.now.Add(time.Hour)
	_, second := b.issue(t, identity.Grant{User: b.admin, Methods: []string{identity.MethodToken}, Scoped: true, Parent: &first})
	_, third := b.issue(t, identity.Grant{User: b.admin, Methods: []string{identity.MethodToken}, Scoped: true, Parent: &second})
	for name, token := range map[string]identity.Token{"second": second, "third": third} {
		if !token.Expires.Equal(first.Expires) {
			t.Errorf("%s: expires %s, the first %s", name, token.Expires, first.Expires)
		}
		if d := cmp.Diff([]string{"token", "password"}, token.Methods); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if len(token.AuditIDs) != 2 || token.AuditIDs[0] == first.AuditIDs[0] || token.AuditIDs[1] != first.AuditIDs[0] {
			t.Errorf("%s: audit IDs %v after %v", name, token.AuditIDs, first.AuditIDs)
		}
	}
}

func TestExpiredTokensAreSweptByAndBy(t *testing.T) {
	b := newFixture(t)
	b.issue(t, identity.Grant{User: b.admin})
	b.issue(t, identity.Grant{User: b.admin})
	b.now = b.now.Add(identity.DefaultTokenLifetime)
	b.issue(t, identity.Grant{User: b.admin}) // sweeps
	if n, err := b.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("%d expired tokens were left, %v", n, err)
	}
	b.now = b.now.Add(identity.DefaultTokenLifetime)
	if n, err := b.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("%d tokens were swept, %v; want 1", n, err)
	}
}

// What is on disk does not help to log in.
func TestStoreHoldsNoSecrets(t *testing.T) {
	b := newFixture(t)
	secret, _ := b.issue(t, identity.Grant{User: b.admin})
	for _, name := range []string{b.path, b.path + "-wal"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for what, s := range map[string]string{"the password": b.password, "the token": secret} {
			if strings.Contains(string(text), s) {
				t.Errorf("%s holds %s", name, what)
			}
		}
	}
}

func TestOwns(t *testing.T) {
	u := identity.User{ProjectID: "1", ProjectName: "admin"}
	for _, c := range []struct {
		project identity.Project
		want    bool
	}{
		{identity.Project{ID: "1"}, true},
		{identity.Project{Name: "admin", Domain: identity.Domain{ID: "default"}}, true},
		{identity.Project{Name: "admin", Domain: identity.Domain{Name: "Default"}}, true},
		{identity.Project{ID: "2"}, false},
		{identity.Project{ID: "1", Name: "other"}, false},
		{identity.Project{Name: "other"}, false},
		{identity.Project{Name: "admin", Domain: identity.Domain{ID: "other"}}, false},
		{identity.Project{}, false},
	} {
		if got := u.Owns(c.project); got != c.want {
			t.Errorf("Owns(%+v) = %v", c.project, got)
		}
	}
}

func TestRoleIDsAreKeystoneLikeAndDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, role := range []string{identity.RoleAdmin, identity.RoleMember, identity.RoleReader} {
		id := identity.RoleID(role)
		if len(id) != 32 || seen[id] || id != identity.RoleID(role) {
			t.Errorf("role %s has ID %s", role, id)
		}
		seen[id] = true
	}
}
