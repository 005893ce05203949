-- What the core keeps. Columns hold what is looked up, ordered or constrained; record holds the
-- rest as JSON. A record has no field that a column has.

CREATE TABLE servers (
    number      INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice: the guest's name is made of it
    id          TEXT    NOT NULL UNIQUE,
    vm_state    TEXT    NOT NULL,
    task_state  TEXT    NOT NULL,
    power_state INTEGER NOT NULL,
    user_data   BLOB, -- up to 64 KiB, so not in the record, where it would be base64
    record      TEXT    NOT NULL
) STRICT;

CREATE TABLE claims (
    seq        INTEGER PRIMARY KEY,
    server_id  TEXT    NOT NULL UNIQUE REFERENCES servers (id) ON DELETE CASCADE,
    vcpus      INTEGER NOT NULL,
    memory_mib INTEGER NOT NULL,
    disk_gib   INTEGER NOT NULL
) STRICT;

-- A server with an operation under way cannot be deleted, and has no second one.
CREATE TABLE operations (
    seq       INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    server_id TEXT NOT NULL UNIQUE REFERENCES servers (id),
    args      BLOB,
    record    TEXT NOT NULL
) STRICT;

CREATE TABLE flavors (
    id     TEXT NOT NULL PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE images (
    seq    INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE keypairs (
    seq     INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    name    TEXT NOT NULL,
    record  TEXT NOT NULL,
    UNIQUE (user_id, name)
) STRICT;
