-- What a server's guest was last made of: the driver's Spec as JSON. Apart from the server's record, which every list
-- reads.

CREATE TABLE definitions (
    server_id TEXT NOT NULL PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    spec      TEXT NOT NULL
) STRICT;
