package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
)

// reader implements compute.Reader on a transaction, writer compute.Writer.
type reader struct{ tx *sql.Tx }
type writer struct{ reader }

// row is what *sql.Row and *sql.Rows have in common.
type row interface{ Scan(dest ...any) error }

// get reads the one record that query finds.
func get[T any](r reader, subject string, scan func(row) (T, error), query string, args ...any) (T, error) {
	v, err := scan(r.tx.QueryRowContext(context.Background(), query, args...))
	return v, explain(subject, err)
}

// list reads all records that query finds.
func list[T any](r reader, subject string, scan func(row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := r.tx.QueryContext(context.Background(), query, args...)
	if err != nil {
		return nil, explain(subject, err)
	}
	defer func() { _ = rows.Close() }() // its error is in rows.Err
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, explain(subject, err)
		}
		all = append(all, v)
	}
	return all, explain(subject, rows.Err())
}

// exec changes records and says how many.
func (w writer) exec(query string, args ...any) (int64, error) {
	result, err := w.tx.ExecContext(context.Background(), query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func encode(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

func decode(record []byte, v any) error {
	if err := json.Unmarshal(record, v); err != nil {
		return fmt.Errorf("%w: unreadable record: %w", ErrCorrupt, err)
	}
	return nil
}
