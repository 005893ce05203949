-- The network service. What another record refers to cannot be deleted. Addresses are 16 bytes, IPv4 ones as IPv6 maps them, so
-- that they sort.

CREATE TABLE networks (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    project_id TEXT NOT NULL,
    record     TEXT NOT NULL
) STRICT;

CREATE TABLE subnets (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    network_id TEXT NOT NULL REFERENCES networks (id),
    project_id TEXT NOT NULL,
    record     TEXT NOT NULL
) STRICT;

CREATE INDEX subnets_by_network ON subnets (network_id);

CREATE TABLE security_groups (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    project_id TEXT NOT NULL,
    name       TEXT NOT NULL,
    record     TEXT NOT NULL
) STRICT;

CREATE INDEX security_groups_by_project ON security_groups (project_id);
CREATE UNIQUE INDEX default_groups ON security_groups (project_id) WHERE name = 'default';

CREATE TABLE ports (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    network_id TEXT NOT NULL REFERENCES networks (id),
    project_id TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    mac        TEXT NOT NULL,
    record     TEXT NOT NULL,
    UNIQUE (network_id, mac)
) STRICT;

CREATE INDEX ports_by_device ON ports (device_id);
CREATE INDEX ports_by_project ON ports (project_id);
CREATE INDEX ports_by_vif ON ports (network_id, record ->> 'VIFType');

-- Indexes of the ports' records: what subnets they have addresses of, and what groups they are in.

CREATE TABLE fixed_ips (
    network_id TEXT NOT NULL,
    address    BLOB NOT NULL,
    subnet_id  TEXT NOT NULL REFERENCES subnets (id),
    port_id    TEXT NOT NULL REFERENCES ports (id) ON DELETE CASCADE,
    PRIMARY KEY (network_id, address)
) STRICT, WITHOUT ROWID;

CREATE INDEX fixed_ips_by_subnet ON fixed_ips (subnet_id);
CREATE INDEX fixed_ips_by_port ON fixed_ips (port_id);

CREATE TABLE port_groups (
    port_id  TEXT NOT NULL REFERENCES ports (id) ON DELETE CASCADE,
    group_id TEXT NOT NULL REFERENCES security_groups (id),
    PRIMARY KEY (port_id, group_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX port_groups_by_group ON port_groups (group_id);

CREATE TABLE routers (
    seq          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    project_id   TEXT NOT NULL,
    gateway_port TEXT REFERENCES ports (id),
    record       TEXT NOT NULL
) STRICT;

CREATE INDEX routers_by_port ON routers (gateway_port);

CREATE TABLE floating_ips (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    project_id TEXT NOT NULL,
    network_id TEXT NOT NULL REFERENCES networks (id),
    own_port   TEXT NOT NULL UNIQUE REFERENCES ports (id),
    port_id    TEXT REFERENCES ports (id), -- that it leads to
    router_id  TEXT REFERENCES routers (id),
    record     TEXT NOT NULL
) STRICT;

CREATE INDEX floating_ips_by_network ON floating_ips (network_id);
CREATE INDEX floating_ips_by_port ON floating_ips (port_id);
CREATE INDEX floating_ips_by_router ON floating_ips (router_id);
