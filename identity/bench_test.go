package identity_test

import (
	"path/filepath"
	"testing"

	"compute-agent/identity"
	"compute-agent/store"
)

// openBench opens a service with its admin for a benchmark.
func openBench(b *testing.B) (s *identity.Service, admin identity.User, password string) {
	b.Helper()
	db, err := store.Open(filepath.Join(b.TempDir(), "agent.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	s = identity.New(identity.Options{Store: db})
	admin, err = s.EnsureAdmin(b.Context(), func(_ identity.User, p string) error { password = p; return nil })
	if err != nil {
		b.Fatal(err)
	}
	return s, admin, password
}

// BenchmarkLogin is nearly all bcrypt: the price of a guess.
func BenchmarkLogin(b *testing.B) {
	s, _, password := openBench(b)
	for b.Loop() {
		if _, err := s.Login(b.Context(), identity.Credential{UserName: "admin", Password: password}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify is what every request to the API pays.
func BenchmarkVerify(b *testing.B) {
	s, admin, _ := openBench(b)
	secret, _, err := s.Issue(b.Context(), identity.Grant{User: admin})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Verify(b.Context(), secret); err != nil {
			b.Fatal(err)
		}
	}
}
