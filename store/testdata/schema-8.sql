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
CREATE TABLE used_luns (
    backend TEXT NOT NULL,
    lun     TEXT NOT NULL,
    record  TEXT NOT NULL,
    PRIMARY KEY (backend, lun)
) STRICT, WITHOUT ROWID;
CREATE TABLE console_tokens (
    seq       INTEGER PRIMARY KEY,
    hash      TEXT NOT NULL UNIQUE,
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    expires   INTEGER NOT NULL, -- nanoseconds since 1970
    record    TEXT NOT NULL
) STRICT;
CREATE INDEX console_tokens_by_server ON console_tokens (server_id);
CREATE INDEX console_tokens_by_expiry ON console_tokens (expires);
INSERT INTO servers VALUES (1, 'a', 'active', 'pausing', 1, X'0001FF', '{"GuestNames":"guest-%x","Name":"web \"\u003c1\u003e\" ü","Description":"front","AccessIPv4":"192.0.2.5","AccessIPv6":"2001:db8::5","UserID":"u","ProjectID":"p","UserName":"user","ProjectName":"project","Flavor":{"ID":"1","Name":"tiny","Description":"d","VCPUs":1,"MemoryMiB":64,"DiskGiB":2,"EphemeralGiB":3,"SwapMiB":4,"Public":true,"Disabled":true,"RXTXFactor":1.5,"ExtraSpecs":{"hw:cpu_policy":"shared"}},"ImageID":"img","Image":{"Name":"cirros","Checksum":"abc","Format":"qcow2","Properties":{"hw_disk_bus":"virtio"}},"Hardware":{"hw_machine_type":"pc-i440fx-7.2"},"Keypair":{"UserID":"u","Name":"k","Type":"ssh","PublicKey":"ssh-ed25519 AAAA","Fingerprint":"00:11","Created":"2025-03-04T12:00:00.123456789Z"},"Metadata":{"a":"b"},"ConfigDrive":true,"ConfigDriveFormat":"vfat","Rescue":{"ImageID":"aid","Image":{"Name":"aid","Checksum":"def","Format":"raw","Properties":{"hw_rescue_bus":"usb"}},"Stable":true,"ConfigDrive":true,"Made":{"ID":"a","Name":"instance-00000001","Title":"web \"\u003c1\u003e\" ü","VirtType":"qemu","Arch":"x86_64","Emulator":"","Machine":"pc-i440fx-7.2","VCPUs":2,"MemoryMiB":64,"CPU":{"Mode":"custom","Model":"Nehalem","Features":[{"Name":"vmx","Policy":"disable"}],"Sockets":2,"Cores":1,"Threads":1,"PhysAddr":null},"CPUTime":{"Shares":0,"Period":0,"Quota":0},"Placement":{"VCPUs":[[4],[5]],"Floating":[],"Emulator":[4,5],"Realtime":[],"RealtimePriority":0,"Cells":[{"VCPUs":[0,1],"MemoryMiB":64,"HostCell":1,"PageKiB":2048,"Distances":[10]}]},"Memory":{"FileBacked":false,"Shared":false,"Discard":false,"Memfd":false,"Locked":false,"Unshared":false},"IOThreads":0,"Firmware":{"UEFI":true,"SecureBoot":false,"Stateless":false,"BootMenu":false},"Boot":{"Devices":null,"Kernel":"","Initrd":"","CommandLine":""},"Features":{"HideHypervisor":false,"HyperV":false,"HyperVVendor":"","PMU":false,"VMCoreInfo":false,"TCGCacheMiB":0,"IOAPIC":""},"Clock":{"LocalTime":false,"HPET":false,"CatchUp":false,"HyperV":false},"SMBIOS":{"Serial":""},"Encryption":null,"Disks":[{"Source":{"File":"/i/disk","Device":"","Network":null},"Format":"qcow2","Backing":[{"Path":"/b","Format":"raw"}],"Unstated":false,"Target":"vda","Bus":"virtio","Kind":"","ReadOnly":false,"Shared":false,"Cache":"","IO":"","Discard":"","DetectZeroes":"","Serial":"","WWN":"","Boot":1,"Tune":{"TotalBytes":0,"ReadBytes":0,"WriteBytes":0,"TotalIOPS":0,"ReadIOPS":0,"WriteIOPS":0,"TotalBytesMax":0,"ReadBytesMax":0,"WriteBytesMax":0,"TotalIOPSMax":0,"ReadIOPSMax":0,"WriteIOPSMax":0,"SizeIOPS":0},"BlockIO":{"Logical":0,"Physical":0},"Unit":null,"Key":null,"Packed":false,"Alias":""}],"NICs":[{"MAC":"fa:16:3e:00:00:01","Model":"virtio","Attach":{"Type":"ethernet","Bridge":"","Port":"","Device":"","Mode":"","Socket":"","Address":"","VLAN":0,"Profile":"","Existing":false,"Managed":false},"Target":"tap1","MTU":0,"Driver":"","Queues":0,"RxRing":0,"TxRing":0,"Bandwidth":null,"Packed":false,"Boot":0,"DisableROM":false,"Alias":""}],"Shares":null,"Serial":[{"Type":"pty","Host":"","Port":0,"Path":"","Log":"/i/console.log","AppendLog":true}],"Channels":{"GuestAgent":false,"GuestAgentSocket":"","SPICE":false},"Graphics":null,"Video":null,"Inputs":null,"Sound":"","USB":{"Controller":"","RedirectedPorts":0},"SCSI":"","TPM":null,"RNG":{"Source":"/dev/urandom","Bytes":0,"Period":0},"Watchdog":"","PCI":null,"Mediated":null,"NVDIMMs":null,"IOMMU":null,"Balloon":{"None":false,"Period":10000000000,"AutoDeflate":false,"FreePageReporting":false},"RootPorts":0,"PerfEvents":null,"Metadata":{"Package":"","Name":"web","Created":"2025-03-04T12:00:00.123456789Z","Flavor":{"ID":"","Name":"","MemoryMiB":0,"DiskGiB":0,"EphemeralGiB":0,"SwapMiB":0,"VCPUs":0},"UserID":"","UserName":"","ProjectID":"","Project":"","RootType":"","RootID":"","Ports":null}}},"GuestPassword":"Kx+=","Created":"2025-03-04T12:00:00.123456789Z","Updated":"2025-03-04T12:00:00.12345679Z","Launched":"2025-03-04T12:00:00.123456791Z","Terminated":"2025-03-04T12:00:00.123456792Z","Fault":{"Code":500,"Message":"m","Details":"d","Created":"2025-03-04T12:00:00.123456789Z"}}');
INSERT INTO sqlite_sequence VALUES ('servers', 1);
INSERT INTO operations VALUES (1, 'o', 'a', X'7B2278223A20317D', '{"Kind":"create","RequestID":"req-1","Step":"disk","Undoing":true,"Cause":"full","Started":"2025-03-04T12:00:00.123456789Z"}');
INSERT INTO flavors VALUES ('1', 'tiny', '{"Description":"d","VCPUs":1,"MemoryMiB":64,"DiskGiB":2,"EphemeralGiB":3,"SwapMiB":4,"Public":true,"Disabled":true,"RXTXFactor":1.5,"ExtraSpecs":{"hw:cpu_policy":"shared"}}');
INSERT INTO images VALUES (1, 'i', '{"Name":"cirros","ProjectID":"p","Status":"killed","Visibility":"public","Protected":true,"DiskFormat":"qcow2","ContainerFormat":"bare","MinDiskGiB":1,"MinRAMMiB":2,"Size":1099511627776,"VirtualSize":2199023255552,"MD5":"m","SHA256":"s","SHA512":"l","Tags":["a","b"],"Properties":{"k":"v"},"Problem":"full","Created":"2025-03-04T12:00:00.123456789Z","Updated":"2025-03-04T12:00:00.12345679Z"}');
INSERT INTO keypairs VALUES (1, 'u', 'k', '{"Type":"ssh","PublicKey":"ssh-ed25519 AAAA","Fingerprint":"00:11","Created":"2025-03-04T12:00:00.123456789Z"}');
INSERT INTO users VALUES ('u', 'default', 'admin', X'68617368', '{"ProjectID":"p","ProjectName":"admin","Roles":["admin","member"],"Created":"2025-03-04T12:00:00.123456789Z"}');
INSERT INTO tokens VALUES (X'74', 'u', 1741093200123456, '{"Scoped":true,"Methods":["password","token"],"AuditIDs":["x","y"],"Issued":"2025-03-04T12:00:00.123456Z"}');
INSERT INTO claims VALUES (1, 'a', 'resize', 'o', 1, 2, 3, '{"Cells":[{"ID":1,"Shared":[2],"Dedicated":[0,1],"MemoryMiB":512,"PageKiB":2048,"CPUPolicy":"mixed","ThreadPolicy":"require","Pins":[{"VCPU":0,"PCPU":65},{"VCPU":1,"PCPU":66}],"Reserved":[64]}],"EmulatorThreads":"isolate"}', '[{"Address":"0001:3b:02.7","VendorID":"8086","ProductID":"154c","Class":131072,"Type":"type-VF","Node":0,"Parent":"0000:3b:00.0","Driver":"iavf","Netdev":"ens1f0v1","Alias":"nic","Managed":true}]');
INSERT INTO definitions VALUES ('a', '{"Arch":"x86_64","Balloon":{"Period":10000000000},"CPU":{"Cores":1,"Features":[{"Name":"vmx","Policy":"disable"}],"Mode":"custom","Model":"Nehalem","Sockets":2,"Threads":1},"Disks":[{"Backing":[{"Format":"raw","Path":"/b"}],"Boot":1,"Bus":"virtio","Format":"qcow2","Source":{"File":"/i/disk"},"Target":"vda"}],"Features":{"PMU":false},"Firmware":{"UEFI":true},"ID":"a","Machine":"pc-i440fx-7.2","MemoryMiB":64,"Metadata":{"Created":"2025-03-04T12:00:00.123456789Z","Name":"web"},"NICs":[{"Attach":{"Type":"ethernet"},"MAC":"fa:16:3e:00:00:01","Model":"virtio","Target":"tap1"}],"Name":"instance-00000001","Placement":{"Cells":[{"Distances":[10],"HostCell":1,"MemoryMiB":64,"PageKiB":2048,"VCPUs":[0,1]}],"Emulator":[4,5],"VCPUs":[[4],[5]]},"RNG":{"Source":"/dev/urandom"},"Serial":[{"AppendLog":true,"Log":"/i/console.log","Type":"pty"}],"Title":"web \"\u003c1\u003e\" ü","VCPUs":2,"VirtType":"qemu"}');
INSERT INTO networks VALUES (1, 'n', 'p', '{"AdminUp":true,"Created":"2025-03-04T12:00:00.123456789Z","DNSDomain":"example.org.","Default":true,"Description":"d","External":true,"MTU":1450,"Name":"net ü","Physical":"physnet1","PortSecurity":true,"Revision":2,"Segment":7,"Shared":true,"Tags":["a"],"Type":"vxlan","Updated":"2025-03-04T12:00:00.12345679Z","Zone":65535}');
INSERT INTO subnets VALUES (1, 's', 'n', 'p', '{"AddressMode":"slaac","CIDR":"2001:db8::/64","Created":"2025-03-04T12:00:00.123456789Z","DHCP":true,"DNS":["2001:db8::53"],"Description":"d","Gateway":"2001:db8::1","Name":"sub","Pools":[{"First":"2001:db8::2","Last":"2001:db8::ff"}],"RAMode":"dhcpv6-stateless","Revision":2,"Routes":[{"To":"2001:db8:1::/48","Via":"2001:db8::9"}],"ServiceTypes":["compute:nova"],"Tags":["a"],"Updated":"2025-03-04T12:00:00.12345679Z"}');
INSERT INTO security_groups VALUES (1, 'g', 'p', 'default', '{"Created":"2025-03-04T12:00:00.123456789Z","Description":"d","Revision":2,"Rules":[{"Created":"2025-03-04T12:00:00.123456789Z","Description":"d","Direction":"ingress","Ethertype":"IPv4","ID":"r","PortMax":0,"PortMin":0,"Protocol":"icmp","Remote":"10.0.0.0/8","RemoteGroup":"other","Revision":1,"Updated":"2025-03-04T12:00:00.12345679Z"}],"Stateless":true,"Tags":["a"],"Updated":"2025-03-04T12:00:00.12345679Z"}');
INSERT INTO ports VALUES (1, 'p', 'n', 'p', 'device', 'fa:16:3e:00:00:01', '{"AddressPairs":[{"MAC":"fa:16:3e:00:00:02","Prefix":"10.0.0.0/24"}],"AdminUp":true,"Created":"2025-03-04T12:00:00.123456789Z","DNSName":"web","Description":"d","DeviceOwner":"compute:nova","ExtraDHCP":[{"IPv6":true,"Name":"tftp-server","Value":"10.0.0.1"}],"FixedIPs":[{"Address":"2001:db8::5","SubnetID":"s"}],"Index":1,"Made":true,"Name":"port","PortSecurity":true,"Queues":2,"Revision":2,"SecurityGroups":["g"],"Status":"BUILD","Tag":"nic1","Tags":["a"],"Updated":"2025-03-04T12:00:00.12345679Z","VIFType":"tap","VNICType":"normal"}');
INSERT INTO ports VALUES (2, 'own', 'n', 'p', '', 'fa:16:3e:01:00:01', '{"FixedIPs":[{"Address":"10.0.0.1","SubnetID":"s"}]}');
INSERT INTO ports VALUES (3, 'gw', 'n', 'p', '', 'fa:16:3e:01:00:02', '{"FixedIPs":[{"Address":"10.0.0.2","SubnetID":"s"}]}');
INSERT INTO fixed_ips VALUES ('n', X'00000000000000000000FFFF0A000001', 's', 'own');
INSERT INTO fixed_ips VALUES ('n', X'00000000000000000000FFFF0A000002', 's', 'gw');
INSERT INTO fixed_ips VALUES ('n', X'20010DB8000000000000000000000005', 's', 'p');
INSERT INTO port_groups VALUES ('p', 'g');
INSERT INTO routers VALUES (1, 'r', 'p', 'gw', '{"AdminUp":true,"Created":"2025-03-04T12:00:00.123456789Z","Description":"d","Gateway":"n","Name":"router","Revision":2,"Routes":[{"To":"10.1.0.0/16","Via":"10.0.0.7"}],"SNAT":true,"Tags":["a"],"Updated":"2025-03-04T12:00:00.12345679Z"}');
INSERT INTO floating_ips VALUES (1, 'f', 'p', 'n', 'own', 'p', 'r', '{"Address":"192.0.2.7","Created":"2025-03-04T12:00:00.123456789Z","Description":"d","Fixed":"10.0.0.5","Revision":2,"Tags":["a"],"Updated":"2025-03-04T12:00:00.12345679Z"}');
INSERT INTO qos_specs VALUES (1, 'q', 'limit q', '{"Consumer":"front-end","Created":"2025-03-04T12:00:00.123456789Z","Specs":{"total_iops_sec":"100"}}');
INSERT INTO volume_types VALUES (1, 't', 'fast t', 'q', '{"Created":"2025-03-04T12:00:00.123456789Z","Description":"d","Encryption":{"Cipher":"aes-xts-plain64","ID":"e","KeySize":256,"Location":"front-end","Provider":"luks"},"ExtraSpecs":{"volume_backend_name":"lvm"},"Projects":["p"],"Public":true,"Updated":"2025-03-04T12:00:00.12345679Z"}');
INSERT INTO volumes VALUES (1, 'v', 'p', 't', '{"Awaited":["server"],"Backend":"local","Before":"in-use","Bootable":true,"Created":"2025-03-04T12:00:00.123456789Z","Description":"d","Encryption":{"Cipher":"aes-xts-plain64","ID":"e","KeySize":256,"Location":"front-end","Provider":"luks"},"ImageID":"i","ImageMetadata":{"os_type":"linux"},"ImageSHA256":"sum","KeyID":"key","LUN":"lun1","Metadata":{"k":"v"},"Multiattach":true,"Name":"data ü","NewGiB":3,"Problem":"full","ReadOnly":true,"SizeGiB":2,"SnapshotID":"sn","SourceID":"other","Status":"extending","Updated":"2025-03-04T12:00:00.12345679Z","UserID":"u"}');
INSERT INTO snapshots VALUES (1, 'sn', 'v', 'p', '{"Created":"2025-03-04T12:00:00.123456789Z","Description":"d","Metadata":{"k":"v"},"Name":"before","Problem":"full","SizeGiB":2,"Status":"available","Updated":"2025-03-04T12:00:00.12345679Z","UserID":"u"}');
INSERT INTO volume_attachments VALUES (1, 'at', 'v', 'a', '{"Attached":"2025-03-04T12:00:00.123456789Z","Created":"2025-03-04T12:00:00.123456788Z","Detached":"2025-03-04T12:00:00.123456791Z","Device":"/dev/vdb","Host":"h","Mode":"rw","Status":"attached"}');
INSERT INTO block_devices VALUES (1, 'bd', 'a', 'v', 'vdb', 1, '{"Attached":true,"AttachmentID":"at","BootIndex":0,"Bus":"virtio","Connection":{"driver_volume_type":"iscsi","data":{"auth_password":"secret"}},"DeleteOnTermination":true,"Device":{"Below":"/dev/dm-0","Bytes":2147483648,"Crypt":"crypt-v","Format":"raw","Identity":"naa.6001405","Map":"mpatha","Network":{"Hosts":[{"Host":"::1","Port":3260}],"Initiator":"iqn.2026-11.org.example:me","Name":"iqn.2026-11.org.example:x/1","Protocol":"iscsi","Secret":"uuid","Usage":"iscsi","User":"u"},"Path":"/dev/dm-1","Paths":["/dev/sda"]},"Encryption":{"Cipher":"aes-xts-plain64","ID":"e","KeySize":256,"Location":"front-end","Provider":"luks"},"Image":{"hw_disk_bus":"scsi"},"Kind":"disk","Multiattach":true,"ReadOnly":true,"Replaces":"vdc","SizeGiB":2,"Source":{"Blank":true,"ImageID":"i","SnapshotID":"sn","TypeID":"t"},"Tag":"database"}');
INSERT INTO volume_identities VALUES ('v', 'naa.6001405');
INSERT INTO used_luns VALUES ('array', 'lun1', '{"ProjectID":"p","Since":"2025-03-04T12:00:00.123456789Z","VolumeID":"v"}');
INSERT INTO console_tokens VALUES (1, 'h', 'a', 1741090200123456789, '{"Created":"2025-03-04T12:00:00.123456789Z","Port":1,"ProjectID":"p","Type":"serial"}');
PRAGMA user_version = 8;
PRAGMA application_id = 1128359796;
