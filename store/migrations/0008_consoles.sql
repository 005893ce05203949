-- What the tokens of consoles open. The tokens themselves are nowhere.
CREATE TABLE console_tokens (
    seq       INTEGER PRIMARY KEY,
    hash      TEXT NOT NULL UNIQUE,
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    expires   INTEGER NOT NULL, -- nanoseconds since 1970
    record    TEXT NOT NULL
) STRICT;

CREATE INDEX console_tokens_by_server ON console_tokens (server_id);
CREATE INDEX console_tokens_by_expiry ON console_tokens (expires);
