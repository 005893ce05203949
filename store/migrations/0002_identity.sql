-- Users of the agent's own API and their tokens.

CREATE TABLE users (
    id            TEXT NOT NULL PRIMARY KEY,
    domain_id     TEXT NOT NULL,
    name          TEXT NOT NULL,
    password_hash BLOB NOT NULL,
    record        TEXT NOT NULL,
    UNIQUE (domain_id, name)
) STRICT;

CREATE TABLE tokens (
    hash    BLOB    NOT NULL PRIMARY KEY, -- SHA-256 of the secret
    user_id TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires INTEGER NOT NULL, -- microseconds since 1970
    record  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_by_expiry ON tokens (expires);
CREATE INDEX tokens_by_user ON tokens (user_id);
