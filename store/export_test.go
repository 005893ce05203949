package store

import (
	"context"
	"database/sql"
	"testing"
)

// WriterPragma asks or sets a pragma of the connection that writes.
func (s *Store) WriterPragma(t *testing.T, pragma string) (value string) {
	t.Helper()
	if err := s.writer.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// Migrate applies one more migration to the newest schema.
func Migrate(ctx context.Context, path, step string) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	return withMigrationConn(path, readWrite, func(db *sql.DB) error { return migrate(ctx, db, append(steps, step)) })
}
