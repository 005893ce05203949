package store_test

import (
	"errors"
	"testing"
	"time"

	"compute-agent/compute"
	"compute-agent/store"
	"compute-agent/virt"
)

func fullConsoleToken(hash, server string) compute.ConsoleToken {
	return compute.ConsoleToken{Hash: hash, ServerID: server, ProjectID: "p", Type: virt.ConsoleSerial, Port: 1, Created: noon, Expires: noon.Add(10 * time.Minute)}
}

func TestConsoleTokens(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	insert(t, s, fullServer("b"))
	first, second, other := fullConsoleToken("1", "a"), fullConsoleToken("2", "a"), fullConsoleToken("3", "b")
	first.Expires = noon.Add(time.Minute)
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.PutConsoleToken(first), w.PutConsoleToken(second), w.PutConsoleToken(other))
	})
	view(t, s, func(r compute.Reader) error {
		got, err := r.ConsoleToken("1")
		want(t, got, err, first)
		_, err = r.ConsoleToken("4")
		wantError(t, "a token that is not there", err, compute.ErrNotFound)
		list, err := r.ConsoleTokens("a")
		want(t, list, err, []compute.ConsoleToken{first, second})
		next, err := r.NextConsoleExpiry()
		want(t, next, err, first.Expires)
		return nil
	})
	update(t, s, func(w compute.Writer) error { return w.ExpireConsoleTokens(first.Expires.Add(-1)) })
	hasTokens(t, s, "a", first, second)
	update(t, s, func(w compute.Writer) error { return w.ExpireConsoleTokens(first.Expires) })
	hasTokens(t, s, "a", second)
	hasTokens(t, s, "b", other)
	update(t, s, func(w compute.Writer) error { return w.DeleteConsoleTokens("a") })
	hasTokens(t, s, "a")
	hasTokens(t, s, "b", other)
	update(t, s, func(w compute.Writer) error { return w.DeleteServer("b") })
	view(t, s, func(r compute.Reader) error {
		next, err := r.NextConsoleExpiry()
		want(t, next, err, time.Time{})
		return nil
	})
}

func TestConsoleTokenNeedsAServer(t *testing.T) {
	s := open(t)
	err := s.Update(t.Context(), func(w compute.Writer) error { return w.PutConsoleToken(fullConsoleToken("1", "a")) })
	wantError(t, "a token of no server", err, compute.ErrNotFound)
}

func hasTokens(t *testing.T, s *store.Store, server string, tokens ...compute.ConsoleToken) {
	t.Helper()
	view(t, s, func(r compute.Reader) error {
		list, err := r.ConsoleTokens(server)
		want(t, list, err, tokens)
		return nil
	})
}
