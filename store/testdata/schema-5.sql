CREATE TABLE servers (
    number      INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice: the guest's name is made of it
    id          TEXT    NOT NULL UNIQUE,
    vm_state    TEXT    NOT NULL,
    task_state  TEXT    NOT NULL,
    power_state INTEGER NOT NULL,
    user_data   BLOB, -- up to 64 KiB, so not in the record, where it would be base64
    record      TEXT    NOT NULL
) STRICT;
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
CREATE TABLE "claims" (
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
CREATE TABLE definitions (
    server_id TEXT NOT NULL PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    spec      TEXT NOT NULL
) STRICT;
INSERT INTO servers VALUES (1, 'a', 'active', 'pausing', 1, X'0001FF', '{"GuestNames":"guest-%x","Name":"web \"\u003c1\u003e\" ü","Description":"front","UserID":"u","ProjectID":"p","UserName":"user","ProjectName":"project","Flavor":{"ID":"1","Name":"tiny","Description":"d","VCPUs":1,"MemoryMiB":64,"DiskGiB":2,"EphemeralGiB":3,"SwapMiB":4,"Public":true,"Disabled":true,"RXTXFactor":1.5,"ExtraSpecs":{"hw:cpu_policy":"shared"}},"ImageID":"img","Image":{"Name":"cirros","Checksum":"abc","Format":"qcow2","Properties":{"hw_disk_bus":"virtio"}},"Hardware":{"hw_machine_type":"pc-i440fx-7.2"},"Keypair":{"UserID":"u","Name":"k","Type":"ssh","PublicKey":"ssh-ed25519 AAAA","Fingerprint":"00:11","Created":"2025-03-04T12:00:00.123456789Z"},"Metadata":{"a":"b"},"ConfigDrive":true,"ConfigDriveFormat":"vfat","Created":"2025-03-04T12:00:00.123456789Z","Updated":"2025-03-04T12:00:00.12345679Z","Launched":"2025-03-04T12:00:00.123456791Z","Terminated":"2025-03-04T12:00:00.123456792Z","Fault":{"Code":500,"Message":"m","Details":"d","Created":"2025-03-04T12:00:00.123456789Z"}}');
INSERT INTO sqlite_sequence VALUES ('servers', 1);
INSERT INTO operations VALUES (1, 'o', 'a', X'7B2278223A20317D', '{"Kind":"create","RequestID":"req-1","Step":"disk","Undoing":true,"Cause":"full","Started":"2025-03-04T12:00:00.123456789Z"}');
INSERT INTO flavors VALUES ('1', 'tiny', '{"Description":"d","VCPUs":1,"MemoryMiB":64,"DiskGiB":2,"EphemeralGiB":3,"SwapMiB":4,"Public":true,"Disabled":true,"RXTXFactor":1.5,"ExtraSpecs":{"hw:cpu_policy":"shared"}}');
INSERT INTO images VALUES (1, 'i', '{"Name":"cirros","ProjectID":"p","Status":"killed","Visibility":"public","Protected":true,"DiskFormat":"qcow2","ContainerFormat":"bare","MinDiskGiB":1,"MinRAMMiB":2,"Size":1099511627776,"VirtualSize":2199023255552,"MD5":"m","SHA256":"s","SHA512":"l","Tags":["a","b"],"Properties":{"k":"v"},"Problem":"full","Created":"2025-03-04T12:00:00.123456789Z","Updated":"2025-03-04T12:00:00.12345679Z"}');
INSERT INTO keypairs VALUES (1, 'u', 'k', '{"Type":"ssh","PublicKey":"ssh-ed25519 AAAA","Fingerprint":"00:11","Created":"2025-03-04T12:00:00.123456789Z"}');
INSERT INTO users VALUES ('u', 'default', 'admin', X'68617368', '{"ProjectID":"p","ProjectName":"admin","Roles":["admin","member"],"Created":"2025-03-04T12:00:00.123456789Z"}');
INSERT INTO tokens VALUES (X'74', 'u', 1741093200123456, '{"Scoped":true,"Methods":["password","token"],"AuditIDs":["x","y"],"Issued":"2025-03-04T12:00:00.123456Z"}');
INSERT INTO claims VALUES (1, 'a', 'resize', 'o', 1, 2, 3, '{"Cells":[{"ID":1,"Shared":[2],"Dedicated":[0,1],"MemoryMiB":512,"PageKiB":2048,"CPUPolicy":"mixed","ThreadPolicy":"require","Pins":[{"VCPU":0,"PCPU":65},{"VCPU":1,"PCPU":66}],"Reserved":[64]}],"EmulatorThreads":"isolate"}', '[{"Address":"0001:3b:02.7","VendorID":"8086","ProductID":"154c","Class":131072,"Type":"type-VF","Node":0,"Parent":"0000:3b:00.0","Driver":"iavf","Netdev":"ens1f0v1","Alias":"nic","Managed":true}]');
INSERT INTO definitions VALUES ('a', '{"Arch":"x86_64","Balloon":{"Period":10000000000},"CPU":{"Cores":1,"Features":[{"Name":"vmx","Policy":"disable"}],"Mode":"custom","Model":"Nehalem","Sockets":2,"Threads":1},"Disks":[{"Backing":[{"Format":"raw","Path":"/b"}],"Boot":1,"Bus":"virtio","Format":"qcow2","Source":{"File":"/i/disk"},"Target":"vda"}],"Features":{"PMU":false},"Firmware":{"UEFI":true},"ID":"a","Machine":"pc-i440fx-7.2","MemoryMiB":64,"Metadata":{"Created":"2025-03-04T12:00:00.123456789Z","Name":"web"},"NICs":[{"Attach":{"Type":"ethernet"},"MAC":"fa:16:3e:00:00:01","Model":"virtio","Target":"tap1"}],"Name":"instance-00000001","Placement":{"Cells":[{"Distances":[10],"HostCell":1,"MemoryMiB":64,"PageKiB":2048,"VCPUs":[0,1]}],"Emulator":[4,5],"VCPUs":[[4],[5]]},"RNG":{"Source":"/dev/urandom"},"Serial":[{"AppendLog":true,"Log":"/i/console.log","Type":"pty"}],"Title":"web \"\u003c1\u003e\" ü","VCPUs":2,"VirtType":"qemu"}');
PRAGMA user_version = 5;
PRAGMA application_id = 1128359796;
