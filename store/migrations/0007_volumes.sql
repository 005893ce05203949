-- The volume service, and the volumes of servers. What another record refers to cannot be deleted; a server's block devices go with it.
-- Block devices and identities refer to volumes by name only: the service that has them may be another host's.

CREATE TABLE qos_specs (
    seq    INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    name   TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE volume_types (
    seq    INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    name   TEXT NOT NULL UNIQUE,
    qos_id TEXT REFERENCES qos_specs (id),
    record TEXT NOT NULL
) STRICT;

CREATE INDEX volume_types_by_qos ON volume_types (qos_id);

CREATE TABLE volumes (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    project_id TEXT NOT NULL,
    type_id    TEXT REFERENCES volume_types (id),
    record     TEXT NOT NULL
) STRICT;

CREATE INDEX volumes_by_type ON volumes (type_id);

CREATE TABLE snapshots (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    volume_id  TEXT NOT NULL REFERENCES volumes (id),
    project_id TEXT NOT NULL,
    record     TEXT NOT NULL
) STRICT;

CREATE INDEX snapshots_by_volume ON snapshots (volume_id);

CREATE TABLE volume_attachments (
    seq       INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    volume_id TEXT NOT NULL REFERENCES volumes (id),
    server_id TEXT NOT NULL, -- empty: of a host
    record    TEXT NOT NULL
) STRICT;

CREATE INDEX volume_attachments_by_volume ON volume_attachments (volume_id);

CREATE TABLE block_devices (
    seq       INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    volume_id TEXT NOT NULL, -- empty: it is yet to be made
    name      TEXT NOT NULL, -- empty: it is yet to be chosen
    position  INTEGER NOT NULL,
    record    TEXT NOT NULL
) STRICT;

CREATE INDEX block_devices_by_server ON block_devices (server_id);
CREATE UNIQUE INDEX block_device_volumes ON block_devices (server_id, volume_id) WHERE volume_id <> '';
CREATE UNIQUE INDEX block_device_names ON block_devices (server_id, name) WHERE name <> '';

CREATE TABLE volume_identities (
    volume_id TEXT NOT NULL PRIMARY KEY,
    identity  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- LUNs of a fixed backend that hold what a deleted volume had.
CREATE TABLE used_luns (
    backend TEXT NOT NULL,
    lun     TEXT NOT NULL,
    record  TEXT NOT NULL,
    PRIMARY KEY (backend, lun)
) STRICT, WITHOUT ROWID;
