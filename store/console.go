package store

import (
	"database/sql"
	"time"

	"compute-agent/compute"
)

const selectConsoleTokens = "SELECT hash, server_id, expires, record FROM console_tokens"

func scanConsoleToken(r row) (t compute.ConsoleToken, err error) {
	var expires int64
	var record []byte
	if err = r.Scan(&t.Hash, &t.ServerID, &expires, &record); err == nil {
		err = decode(record, &t)
	}
	t.Expires = time.Unix(0, expires).UTC()
	return t, err
}

// ConsoleToken implements compute.ConsoleReader.
func (r reader) ConsoleToken(hash string) (compute.ConsoleToken, error) {
	return get(r, "console token", scanConsoleToken, selectConsoleTokens+" WHERE hash = ?", hash)
}

// ConsoleTokens implements compute.ConsoleReader.
func (r reader) ConsoleTokens(serverID string) ([]compute.ConsoleToken, error) {
	return list(r, "list console tokens", scanConsoleToken, selectConsoleTokens+" WHERE server_id = ? ORDER BY seq", serverID)
}

// NextConsoleExpiry implements compute.ConsoleReader.
func (r reader) NextConsoleExpiry() (time.Time, error) {
	var first sql.NullInt64
	err := r.tx.QueryRow("SELECT min(expires) FROM console_tokens").Scan(&first)
	if err != nil || !first.Valid {
		return time.Time{}, explain("next expiry of console tokens", err)
	}
	return time.Unix(0, first.Int64).UTC(), nil
}

// PutConsoleToken implements compute.ConsoleWriter.
func (w writer) PutConsoleToken(t compute.ConsoleToken) error {
	hash, server, expires := t.Hash, t.ServerID, t.Expires.UnixNano()
	t.Hash, t.ServerID, t.Expires = "", "", time.Time{}
	return w.put("console token of server "+server, `INSERT INTO console_tokens (hash, server_id, expires, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (hash) DO UPDATE SET server_id = excluded.server_id, expires = excluded.expires, record = excluded.record`, t, hash, server, expires)
}

// DeleteConsoleToken implements compute.ConsoleWriter.
func (w writer) DeleteConsoleToken(hash string) error {
	return w.remove("console token", "DELETE FROM console_tokens WHERE hash = ?", hash)
}

// DeleteConsoleTokens implements compute.ConsoleWriter.
func (w writer) DeleteConsoleTokens(serverID string) error {
	return w.remove("console tokens of server "+serverID, "DELETE FROM console_tokens WHERE server_id = ?", serverID)
}

// ExpireConsoleTokens implements compute.ConsoleWriter.
func (w writer) ExpireConsoleTokens(now time.Time) error {
	_, err := w.exec("DELETE FROM console_tokens WHERE expires <= ?", now.UnixNano())
	return explain("remove expired console tokens", err)
}
