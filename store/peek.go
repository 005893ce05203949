package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"compute-agent/compute"
)

// Peek runs fn on a snapshot of the database file path without the agent's lock and without
// changing a record: for commands that look at a host while its agent may be running. It fails if
// the database does not have this program's schema.
func Peek(ctx context.Context, path string, fn func(compute.Reader) error) (err error) {
	if err := checkHeader(path); err != nil {
		return err
	}
	steps, err := migrations()
	if err != nil {
		return err
	}
	// Not read-only: after a crash even a reader has to take the log into account.
	db, err := connect(path, 1, readerPragmas, readWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	switch version, err := schemaVersion(ctx, db); {
	case err != nil:
		return err
	case version != len(steps):
		return fmt.Errorf("the database has schema version %d, this program's is %d", version, len(steps))
	}
	return transact(ctx, db, &sql.TxOptions{ReadOnly: true}, func(tx *sql.Tx) error { return fn(reader{tx}) })
}
