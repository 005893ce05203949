package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// applicationID marks the file as this program's (SQLite's header, offset 68): "CAgt".
const applicationID = 0x43416774

// Every connection waits for other programs that have the file open (a backup), and caches at
// most 256 KiB of pages: the kernel's page cache has the rest, and a bigger one made no listing
// of 1,000 servers measurably faster. What is deleted is overwritten, because a finished
// operation's arguments may have held a password.
var connPragmas = []string{"busy_timeout(5000)", "cache_size(-256)", "foreign_keys(1)", "secure_delete(1)"}

// Readers cannot write; the writer syncs the log at every commit, and keeps it small.
var (
	readerPragmas    = slices.Concat(connPragmas, []string{"query_only(1)"})
	writerPragmas    = slices.Concat(connPragmas, []string{"journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(4194304)"})
	migrationPragmas = []string{"busy_timeout(5000)", "synchronous(FULL)", "foreign_keys(0)"}
)

// How SQLite opens a file; neither makes one that is not there.
const (
	readOnly  = "ro"
	readWrite = "rw"
)

// connect prepares a pool of at most limit connections to the existing file path.
func connect(path string, limit int, pragmas []string, mode string) (*sql.DB, error) {
	query := url.Values{"mode": {mode}, "_txlock": {"immediate"}, "_pragma": pragmas}
	name := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(limit)
	db.SetMaxIdleConns(limit)
	return db, nil
}

// prepare makes sure that path is a sound database with the newest schema.
func prepare(ctx context.Context, path string) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	switch _, err = os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return create(ctx, path, steps)
	case err != nil:
		return err
	}
	if err := checkHeader(path); err != nil {
		return err
	}
	// A connection that can write would move the log into the damaged file when it closes.
	err = withMigrationConn(path, readOnly, func(db *sql.DB) error { return checkPages(ctx, db) })
	if err != nil {
		return err
	}
	return withMigrationConn(path, readWrite, func(db *sql.DB) error { return migrate(ctx, db, steps) })
}

// create makes a new database under another name and renames it when it is whole, so that an
// empty or half-made file at path is always damage and never a first start.
func create(ctx context.Context, path string, steps []string) error {
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
		return fmt.Errorf("%w: it is missing, but its log %s-wal is there; put the database back, or move the log away to begin anew",
			ErrCorrupt, path)
	}
	draft := path + ".new"
	for _, leftover := range []string{draft, draft + "-wal", draft + "-shm", draft + "-journal"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f, err := os.OpenFile(draft, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // the log and index inherit the mode
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	err = withMigrationConn(draft, readWrite, func(db *sql.DB) error {
		setup := fmt.Sprintf("PRAGMA journal_mode = WAL; PRAGMA application_id = %d", applicationID)
		if _, err := db.ExecContext(ctx, setup); err != nil {
			return err
		}
		return migrate(ctx, db, steps)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func withMigrationConn(path, mode string, fn func(*sql.DB) error) (err error) {
	db, err := connect(path, 1, migrationPragmas, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return fn(db)
}

// checkHeader reads the file's first bytes without SQLite, which would take an empty file for a
// new database.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	header := make([]byte, 100)
	switch n, err := io.ReadFull(f, header); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it has only %d bytes", ErrCorrupt, n)
	case err != nil:
		return err
	}
	if string(header[:16]) != "SQLite format 3\x00" {
		return fmt.Errorf("%w: it is not an SQLite database", ErrCorrupt)
	}
	if id := binary.BigEndian.Uint32(header[68:]); id != applicationID {
		return fmt.Errorf("it is an SQLite database of another program (application ID %#x)", id)
	}
	return nil
}

// checkPages reads the whole database and checks its structure.
func checkPages(ctx context.Context, db *sql.DB) error {
	var verdict string
	err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict)
	switch {
	case isDamage(err):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case err != nil:
		return fmt.Errorf("check: %w", err)
	case verdict != "ok":
		return fmt.Errorf("%w: %s", ErrCorrupt, verdict)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
