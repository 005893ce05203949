package store

import (
	"path/filepath"
	"testing"

	"compute-agent/compute"
)

func TestPeekReadsBesideTheAgentAndAfterIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(w compute.Writer) error {
		return w.PutFlavor(compute.Flavor{ID: "1", Name: "tiny"})
	})
	if err != nil {
		t.Fatal(err)
	}
	peek := func(when string) {
		t.Helper()
		err := Peek(t.Context(), path, func(r compute.Reader) error {
			f, err := r.Flavor("1")
			if err == nil && f.Name != "tiny" {
				t.Errorf("%s: flavor 1 is %q", when, f.Name)
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	peek("while the store is open")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	peek("after it was closed")
	if s, err = Open(path); err != nil {
		t.Fatalf("open after peeking: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPeekRefusesWhatIsNotADatabase(t *testing.T) {
	err := Peek(t.Context(), filepath.Join(t.TempDir(), "agent.db"), func(compute.Reader) error { return nil })
	if err == nil {
		t.Fatal("no error for a missing file")
	}
}
