package store

import "testing"

// WriterPragma asks or sets a pragma of the connection that writes.
func (s *Store) WriterPragma(t *testing.T, pragma string) (value string) {
	t.Helper()
	if err := s.writer.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}
