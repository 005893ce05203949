-- A server may hold several claims, of different kinds, and PCI devices (JSON; NULL for none). operation is the one that took
-- the claim.

CREATE TABLE new_claims (
    seq        INTEGER PRIMARY KEY,
    server_id  TEXT    NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL, -- empty: the server's own
    operation  TEXT    NOT NULL,
    vcpus      INTEGER NOT NULL,
    memory_mib INTEGER NOT NULL,
    disk_gib   INTEGER NOT NULL,
    numa       TEXT,
    pci        TEXT,
    UNIQUE (server_id, kind)
) STRICT;

INSERT INTO new_claims SELECT seq, server_id, '', '', vcpus, memory_mib, disk_gib, numa, NULL FROM claims;
DROP TABLE claims;
ALTER TABLE new_claims RENAME TO claims;
