package store

import (
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"compute-agent/compute"
)

// The reasons why a store does not open, to be tested with errors.Is. Nothing was changed when
// one of them is returned.
var (
	ErrLocked  = errors.New("another agent uses this state directory")
	ErrNewer   = errors.New("the database was written by a newer compute-agent")
	ErrCorrupt = errors.New("the database is damaged")
	ErrClosed  = errors.New("the store is closed")
)

// codeOf returns SQLite's extended result code of err, 0 if it is not SQLite's.
func codeOf(err error) int {
	var failure *sqlite.Error
	if errors.As(err, &failure) {
		return failure.Code()
	}
	return 0
}

func isDuplicate(err error) bool {
	code := codeOf(err)
	return code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}

func isDangling(err error) bool { return codeOf(err) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY }

// isDamage says whether SQLite found the file itself to be wrong.
func isDamage(err error) bool {
	code := codeOf(err) & 0xff
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// explain gives an error of SQLite the kind that it has for the core's callers.
func explain(subject string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		return missing(subject)
	}
	switch codeOf(err) & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR:
		return &compute.Failure{Kind: compute.ErrUnavailable, Subject: subject, Reason: "the database cannot be written or read", Err: err}
	}
	if isDamage(err) {
		return fmt.Errorf("%s: %w: %w", subject, ErrCorrupt, err)
	}
	return fmt.Errorf("%s: %w", subject, err)
}

func missing(subject string) error {
	return &compute.Failure{Kind: compute.ErrNotFound, Subject: subject, Reason: "not found"}
}
