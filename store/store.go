// Package store keeps the agent's state in one SQLite file of the state directory. It implements
// compute.Store and identity.Store.
//
// One connection writes, so Updates run one after the other; a few others read snapshots beside
// it. The database is in WAL mode with synchronous=FULL: a commit is on stable storage when
// Update returns, at the price of one fdatasync of the log. With NORMAL a power failure would
// lose the newest commits, and with them the intent of an operation that has touched the host.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"compute-agent/compute"
)

// maxReaders bounds the connections that read. Each takes up to half a megabyte.
const maxReaders = 3

// Store is an open database. Its methods may be called concurrently.
type Store struct {
	writer *sql.DB
	reader *sql.DB
	lock   *os.File

	mu     sync.Mutex
	closed bool
	users  sync.WaitGroup // Views and Updates under way
}

var _ compute.Store = (*Store)(nil)

// Open opens the database file path, makes it if there is none, and brings its schema up to date.
// It takes the lock file named "lock" in the same directory; while another process has it the
// error is ErrLocked and names that process. A database of a newer schema is ErrNewer, one that
// is damaged or empty ErrCorrupt; both are left as they are.
func Open(path string) (*Store, error) {
	s, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return s, nil
}

func open(path string) (_ *Store, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	lock, err := acquireLock(filepath.Join(filepath.Dir(path), "lock"))
	if err != nil {
		return nil, err
	}
	s := &Store{lock: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	ctx := context.Background()
	if err := prepare(ctx, path); err != nil {
		return nil, err
	}
	if s.writer, err = connect(path, 1, writerPragmas, readWrite); err != nil {
		return nil, err
	}
	if s.reader, err = connect(path, maxReaders, readerPragmas, readWrite); err != nil {
		return nil, err
	}
	return s, errors.Join(s.writer.PingContext(ctx), s.reader.PingContext(ctx))
}

// Close waits for the Views and Updates under way, moves the log into the database file and frees
// the lock. Closing again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	s.users.Wait()
	if again {
		return nil
	}
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	errs = append(errs, releaseLock(s.lock))
	return errors.Join(errs...)
}

// use says that a View or Update begins; the caller calls s.users.Done at its end.
func (s *Store) use() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.users.Add(1)
	return nil
}

// View runs fn on one snapshot; see compute.Store.
func (s *Store) View(ctx context.Context, fn func(compute.Reader) error) error {
	return s.view(ctx, func(r reader) error { return fn(r) })
}

// Update runs fn in one transaction; see compute.Store. If fn fails its error is returned as it
// is. When ctx ends before the commit nothing is kept.
func (s *Store) Update(ctx context.Context, fn func(compute.Writer) error) error {
	return s.update(ctx, func(w writer) error { return fn(w) })
}

func (s *Store) view(ctx context.Context, fn func(reader) error) error {
	if err := s.use(); err != nil {
		return err
	}
	defer s.users.Done()
	return transact(ctx, s.reader, &sql.TxOptions{ReadOnly: true}, func(tx *sql.Tx) error { return fn(reader{tx}) })
}

func (s *Store) update(ctx context.Context, fn func(writer) error) error {
	if err := s.use(); err != nil {
		return err
	}
	defer s.users.Done()
	return transact(ctx, s.writer, nil, func(tx *sql.Tx) error { return fn(writer{reader{tx}}) })
}

// transact waits for a connection until ctx ends, and runs fn and the commit on it.
func transact(ctx context.Context, db *sql.DB, opts *sql.TxOptions, fn func(*sql.Tx) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return explain("begin transaction", err)
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	// The statements take microseconds. To watch ctx would cost a goroutine for each, and leave
	// open whether an interrupted commit happened.
	tx, err := conn.BeginTx(context.WithoutCancel(ctx), opts)
	if err != nil {
		return explain("begin transaction", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing to do after a commit; also when fn panics
	if err := fn(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return explain("commit", tx.Commit())
}
