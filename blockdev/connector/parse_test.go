package connector

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"compute-agent/internal/golden"
)

// TestParse has one file for each shape of Cinder's and os-brick's; nfs-recorded is what a Cinder sent, with other paths.
func TestParse(t *testing.T) {
	for name, raw := range examples(t) {
		t.Run(name, func(t *testing.T) {
			info, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			golden.Assert(t, filepath.Join("testdata/parsed", name+".json"), golden.JSON(t, info))
		})
	}
}

func examples(t testing.TB) map[string]Raw {
	t.Helper()
	paths, err := filepath.Glob("testdata/info/*.json")
	if err != nil || len(paths) < len(parsers) {
		t.Fatalf("only %d examples, %v", len(paths), err)
	}
	out := map[string]Raw{}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(p), ".json")] = raw
	}
	return out
}

// faults are fields of data that make an example wrong: the field that the error names, and a part of the sentence.
var faults = map[string][]struct{ fields, field, rule string }{
	"iscsi-lvm": {
		{`"target_portal": null`, "data.target_portal", "missing"},
		{`"target_portal": "192.0.2.10"`, "data.target_portal", "host:port"},
		{`"target_portal": "192.0.2.10:0"`, "data.target_portal", "host:port"},
		{`"target_portal": "192.0.2.10:65536"`, "data.target_portal", "host:port"},
		{`"target_portal": "192.0.2.10:+326"`, "data.target_portal", "host:port"},
		{`"target_portal": "192.0.2.10:"`, "data.target_portal", "host:port"},
		{`"target_portal": "fd00::1:3260"`, "data.target_portal", "brackets"},
		{`"target_portal": "[192.0.2.10]:3260"`, "data.target_portal", "host:port"},
		{`"target_portal": "[fe80::1%eth0]:3260"`, "data.target_portal", "host:port"},
		{`"target_portal": "0.0.0.0:3260"`, "data.target_portal", "host:port"},
		{`"target_portal": "224.0.0.1:3260"`, "data.target_portal", "host:port"},
		{`"target_portal": "256.0.0.1:3260"`, "data.target_portal", "host:port"},
		{`"target_portal": "a b:3260"`, "data.target_portal", "host:port"},
		{`"target_portal": "-p:3260"`, "data.target_portal", "host:port"},
		{`"target_portal": "a\n:3260"`, "data.target_portal", "host:port"},
		{`"target_portal": "../x:3260"`, "data.target_portal", "host:port"},
		{`"target_portal": 3260`, "data.target_portal", "must be a string"},
		{`"target_iqn": null`, "data.target_iqn", "missing"},
		{`"target_iqn": ""`, "data.target_iqn", "iSCSI name"},
		{`"target_iqn": "iqn.2010-10.org.openstack:a/b"`, "data.target_iqn", "iSCSI name"},
		{`"target_iqn": "iqn.2010-10.org.openstack:a\u0000"`, "data.target_iqn", "iSCSI name"},
		{`"target_iqn": "iqn.2010-10.org.openstack:a,b"`, "data.target_iqn", "iSCSI name"},
		{`"target_iqn": "iqn.10.org"`, "data.target_iqn", "iSCSI name"},
		{`"target_iqn": "eui.123"`, "data.target_iqn", "iSCSI name"},
		{`"target_iqn": "iqn.2010-10.org.` + strings.Repeat("a", 223) + `"`, "data.target_iqn", "iSCSI name"},
		{`"target_lun": -1`, "data.target_lun", "from 0 to 16383"},
		{`"target_lun": 16384`, "data.target_lun", "from 0 to 16383"},
		{`"target_lun": 1.5`, "data.target_lun", "integer"},
		{`"target_lun": "0x1"`, "data.target_lun", "integer"},
		{`"target_lun": "+1"`, "data.target_lun", "integer"},
		{`"target_lun": {}`, "data.target_lun", "integer"},
		{`"target_discovered": "yes"`, "data.target_discovered", "true or false"},
		{`"auth_method": "SRP"`, "data.auth_method", "one of CHAP"},
		{`"auth_method": null`, "data.auth_method", "missing"},
		{`"auth_username": null`, "data.auth_username", "missing"},
		{`"auth_username": "a\nnode.startup = automatic"`, "data.auth_username", "control characters"},
		{`"auth_password": null`, "data.auth_password", "missing"},
		{`"auth_password": ""`, "data.auth_password", "1 to 255"},
		{`"auth_password": 7`, "data.auth_password", "string"},
		{`"auth_password": "secret\n"`, "data.auth_password", "control characters"},
		{`"discovery_auth_method": "x"`, "data.discovery_auth_method", "one of"},
		{`"discovery_auth_method": "CHAP"`, "data.discovery_auth_username", "missing"},
		{`"discovery_auth_username": "x"`, "data.discovery_auth_method", "missing"},
		{`"addressing_mode": "SAM4"`, "data.addressing_mode", "one of SAM"},
		{`"access_mode": "rx"`, "data.access_mode", "one of rw, ro"},
		{`"encrypted": "False"`, "data.encrypted", "true or false"},
		{`"discard": 1`, "data.discard", "true or false"},
		{`"cacheable": []`, "data.cacheable", "true or false"},
		{`"enforce_multipath": "no"`, "data.enforce_multipath", "true or false"},
		{`"logical_block_size": 513`, "data.logical_block_size", "power of two"},
		{`"logical_block_size": "256"`, "data.logical_block_size", "from 512"},
		{`"logical_block_size": 8192`, "data.physical_block_size", "smaller than logical"},
		{`"physical_block_size": 4194304`, "data.physical_block_size", "to 2097152"},
		{`"wwn": "6001"`, "data.wwn", "identity"},
		{`"wwn": ""`, "data.wwn", "identity"},
		{`"wwn": "naa.600140500000000000000000000000zz"`, "data.wwn", "identity"},
		{`"format": "qcow2"`, "data.format", "one of raw"},
		{`"qos_specs": "fast"`, "data.qos_specs", "object"},
		{`"qos_specs": {"total_bytes_sec": "fast"}`, "data.qos_specs.total_bytes_sec", "integer"},
		{`"qos_specs": {"total_bytes_sec": -1}`, "data.qos_specs.total_bytes_sec", "integer"},
		{`"qos_specs": {"total_bytes_sec": 1000000000000001}`, "data.qos_specs.total_bytes_sec", "integer"},
		{`"qos_specs": {"total_bytes_sec": 1, "read_bytes_sec": 1}`, "data.qos_specs.total_bytes_sec", "exclude"},
		{`"qos_specs": {"total_iops_sec": 1, "write_iops_sec": 1}`, "data.qos_specs.total_iops_sec", "exclude"},
		{`"qos_specs": {"read_iops_sec_max": 10}`, "data.qos_specs.read_iops_sec_max", "burst"},
		{`"qos_specs": {"read_iops_sec": 11, "read_iops_sec_max": 10}`, "data.qos_specs.read_iops_sec_max", "burst"},
		{`"qos_specs": {"size_iops_sec": 10}`, "data.qos_specs.size_iops_sec", "operations"},
		{`"qos_specs": {"consumer": "me", "specs": {}}`, "data.qos_specs.consumer", "one of front-end"},
		{`"qos_specs": {"consumer": "both", "specs": {"total_iops_sec": "x"}}`, "data.qos_specs.specs.total_iops_sec", "integer"},
	},
	"iscsi-paths": {
		{`"target_portals": []`, "data.target_portals", "not empty"},
		{`"target_portals": null`, "data.target_portals", "not empty"},
		{`"target_portals": "192.0.2.10:3260"`, "data.target_portals", "must be a list"},
		{`"target_portals": ["192.0.2.10:3260", null]`, "data.target_portals[1]", "missing"},
		{`"target_portals": ["192.0.2.10:3260", "x"]`, "data.target_portals[1]", "host:port"},
		{`"target_portals": ["192.0.2.10:3260"]`, "data.target_iqns", "4 for 1"},
		{`"target_iqns": ["iqn.2001-04.com.example:a", 1, 2, 3]`, "data.target_iqns[1]", "string"},
		{`"target_luns": [1, 2]`, "data.target_luns", "2 for 4"},
		{`"target_luns": [1, 2, 3, "four"]`, "data.target_luns[3]", "integer"},
		{`"target_luns": 1`, "data.target_luns", "list"},
		{`"target_portals": [` + strings.Repeat(`"192.0.2.10:3260",`, most) + `"192.0.2.10:3260"]`, "data.target_portals", "longer than 256"},
	},
	"fc-zones": {
		{`"target_wwn": null`, "data.target_wwn", "missing"},
		{`"target_wwn": []`, "data.target_wwn", "not empty"},
		{`"target_wwn": "500a0981891b8dc"`, "data.target_wwn", "16 hexadecimal"},
		{`"target_wwn": "../../sys/block/sd"`, "data.target_wwn", "16 hexadecimal"},
		{`"target_wwn": ["500a0981891b8dcg"]`, "data.target_wwn[0]", "16 hexadecimal"},
		{`"target_lun": [1, 2, 3]`, "data.target_luns", "3 for 2"},
		{`"target_lun": "x"`, "data.target_lun", "integer"},
		{`"initiator_target_map": []`, "data.initiator_target_map", "object"},
		{`"initiator_target_map": {"host1": []}`, "data.initiator_target_map", "16 hexadecimal"},
		{`"initiator_target_map": {"21000024ff30441c": "500a0981891b8dc5"}`, "data.initiator_target_map.21000024ff30441c", "list"},
		{`"initiator_target_map": {"21000024ff30441c": ["x"]}`, "data.initiator_target_map.21000024ff30441c[0]", "16 hexadecimal"},
		{`"initiator_target_lun_map": {"21000024ff30441c": [["500a0981891b8dc5"]]}`, "data.initiator_target_lun_map.21000024ff30441c[0]", "target and its LUN"},
		{`"initiator_target_lun_map": {"21000024ff30441c": [["500a0981891b8dc5", 99999]]}`, "data.initiator_target_lun_map.21000024ff30441c[0][1]", "integer"},
		{`"initiator_target_lun_map": {"21000024ff30441c": [[null, 1]]}`, "data.initiator_target_lun_map.21000024ff30441c[0][0]", "missing"},
	},
	"nvmeof-1": {
		{`"nqn": null`, "data.nqn", "missing"},
		{`"nqn": "nqn.2014-08.org.x:a,traddr=1.2.3.4"`, "data.nqn", "qualified name"},
		{`"nqn": "nqn.2014-08.org.` + strings.Repeat("x", 223) + `"`, "data.nqn", "223 bytes"},
		{`"target_portal": "a,b"`, "data.target_portal", "IP address"},
		{`"target_portal": null`, "data.target_portal", "missing"},
		{`"target_port": 0`, "data.target_port", "1 to 65535"},
		{`"target_port": "many"`, "data.target_port", "1 to 65535"},
		{`"transport_type": null`, "data.transport_type", "missing"},
		{`"transport_type": "loop"`, "data.transport_type", "one of tcp"},
		{`"transport_type": "fc"`, "data.target_portal", "Fibre Channel"},
		{`"ns_id": 0`, "data.ns_id", "from 1"},
		{`"ns_id": 4294967295`, "data.ns_id", "from 1"},
		{`"volume_nguid": "x"`, "data.volume_nguid", "UUID"},
		{`"host_nqn": "me"`, "data.host_nqn", "qualified name"},
	},
	"nvmeof-2": {
		{`"target_nqn": ""`, "data.target_nqn", "qualified name"},
		{`"portals": null`, "data.portals", "not empty"},
		{`"portals": []`, "data.portals", "not empty"},
		{`"portals": [["192.0.2.20", 4420]]`, "data.portals[0]", "address, port and transport"},
		{`"portals": ["192.0.2.20"]`, "data.portals[0]", "address, port and transport"},
		{`"portals": [["192.0.2.20", 4420, "udp"]]`, "data.portals[0][2]", "one of tcp"},
		{`"portals": [["192.0.2.20", 99999, "tcp"]]`, "data.portals[0][1]", "1 to 65535"},
		{`"portals": [["", 4420, "tcp"]]`, "data.portals[0][0]", "IP address"},
		{`"vol_uuid": "e1fc1d2b-1a66"`, "data.vol_uuid", "UUID"},
		{`"volume_replicas": {}`, "data.volume_replicas", "list"},
		{`"volume_replicas": ["x"]`, "data.volume_replicas[0]", "object"},
		{`"volume_replicas": [{"nqn": "x"}]`, "data.volume_replicas[0].nqn", "qualified name"},
	},
	"nfs-options": {
		{`"export": null`, "data.export", "missing"},
		{`"export": "/vol"`, "data.export", "host:/path"},
		{`"export": "fd00::1:/vol"`, "data.export", "brackets"},
		{`"export": "host:/vol/../etc"`, "data.export", "without . and .."},
		{`"export": "host:/vol//x"`, "data.export", "doubled"},
		{`"export": "host:/a b"`, "data.export", "characters"},
		{`"export": "host:/a\u0000"`, "data.export", "characters"},
		{`"export": "-o bind:/x"`, "data.export", "host"},
		{`"name": null`, "data.name", "missing"},
		{`"name": "../etc/shadow"`, "data.name", "no slash"},
		{`"name": ".."`, "data.name", "name of a file"},
		{`"name": "a\nb"`, "data.name", "no control"},
		{`"name": "` + strings.Repeat("x", 256) + `"`, "data.name", "255 bytes"},
		{`"options": "-o exec"`, "data.options", "exec"},
		{`"options": "-o vers=4,suid"`, "data.options", "suid"},
		{`"options": "-t ext4"`, "data.options", "-t"},
		{`"options": "vers=4 --bind"`, "data.options", "--bind"},
		{`"options": "vers=4;id"`, "data.options", "4;id"},
		{`"options": "vers=$(id)"`, "data.options", "vers"},
		{`"options": "addr=1.2.3.4"`, "data.options", "addr"},
		{`"format": "vmdk"`, "data.format", "raw, qcow2"},
	},
	"rbd": {
		{`"name": null`, "data.name", "missing"},
		{`"name": "volumes"`, "data.name", "pool/image"},
		{`"name": "a/b/c"`, "data.name", "pool/image"},
		{`"name": "volumes/v:conf=/etc/shadow"`, "data.name", "pool/image"},
		{`"name": "volumes/v@snap"`, "data.name", "pool/image"},
		{`"hosts": ["a b", "c"]`, "data.hosts[0]", "IP address"},
		{`"hosts": "192.0.2.30"`, "data.hosts", "list"},
		{`"ports": ["6789"]`, "data.ports", "1 for 2"},
		{`"ports": ["6789", "x"]`, "data.ports[1]", "1 to 65535"},
		{`"auth_enabled": "yes"`, "data.auth_enabled", "true or false"},
		{`"auth_username": null`, "data.auth_username", "missing"},
		{`"auth_username": "client:admin"`, "data.auth_username", "Ceph"},
		{`"secret_uuid": "x"`, "data.secret_uuid", "UUID"},
		{`"secret_type": "volume"`, "data.secret_type", "one of ceph"},
		{`"cluster_name": "../x"`, "data.cluster_name", "Ceph"},
		{`"keyring": "secret\u0000"`, "data.keyring", "keyring"},
	},
	"nbd": {
		{`"host": null`, "data.host", "missing"},
		{`"host": "a/b"`, "data.host", "IP address"},
		{`"port": 70000`, "data.port", "1 to 65535"},
		{`"export": "a\nb"`, "data.export", "255 visible"},
	},
	"local": {
		{`"device_path": null`, "data.device_path", "missing"},
		{`"device_path": "dev/sda"`, "data.device_path", "absolute"},
		{`"device_path": "/dev/../etc/passwd"`, "data.device_path", "without . and .."},
		{`"device_path": "/etc/passwd"`, "data.device_path", "below /dev"},
		{`"device_path": "/dev"`, "data.device_path", "below /dev"},
		{`"device_path": "/dev/sd\u0000a"`, "data.device_path", "characters"},
	},
	"file-limits": {
		{`"device_path": "/"`, "data.device_path", "absolute"},
		{`"device_path": "/dev/sda"`, "data.device_path", "not below"},
		{`"device_path": "/proc"`, "data.device_path", "not below"},
		{`"device_path": "/var/lib/volumes/../../x"`, "data.device_path", "without . and .."},
	},
}

func TestParseRefuses(t *testing.T) {
	good := examples(t)
	for name, list := range faults {
		for _, f := range list {
			t.Run(name+" "+short(f.fields), func(t *testing.T) {
				checkRefused(t, with(t, good[name], f.fields), f.field, f.rule)
			})
		}
	}
	for text, field := range map[string]string{
		``:                             "connection_info",
		`null`:                         "connection_info",
		`[]`:                           "connection_info",
		`{`:                            "connection_info",
		strings.Repeat(" ", maxInfo+1): "connection_info",
		`{}`:                           "driver_volume_type",
		`{"driver_volume_type": 1}`:    "driver_volume_type",
		`{"driver_volume_type": "aoe", "data": {}}`:                                                                 "driver_volume_type",
		`{"driver_volume_type": "nfs", "data": []}`:                                                                 "data",
		`{"driver_volume_type": "local", "access_mode": "x", "data": {"device_path": "/dev/sda"}}`:                  "access_mode",
		`{"driver_volume_type": "local", "qos_specs": {"total_iops_sec": []}, "data": {"device_path": "/dev/sda"}}`: "qos_specs.total_iops_sec",
		`{"driver_volume_type": "iscsi", "target_iqn": "iqn.2001-04.com.example:a"}`:                                "target_portal",
	} {
		checkRefused(t, Raw(text), field, "")
	}
}

func TestParseNamesTheTypesThatAreKnown(t *testing.T) {
	_, err := Parse(Raw(`{"driver_volume_type": "aoe", "data": {}}`))
	const want = `driver_volume_type="aoe": it must be one of fibre_channel, file, iscsi, iser, local, nbd, nfs, nvmeof, rbd`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestParseKnowsNoReplicatedVolumes(t *testing.T) {
	_, err := Parse(with(t, examples(t)["nvmeof-2"], `"volume_replicas": [{}, {}]`))
	var e *Error
	if !errors.As(err, &e) || e.Reason != Unsupported || e.Field != "data.volume_replicas" {
		t.Errorf("got %v, want that it is unsupported", err)
	}
}

// with puts fields into an example's data.
func with(t *testing.T, raw Raw, fields string) Raw {
	t.Helper()
	var info, change map[string]any
	if err := errors.Join(json.Unmarshal(raw, &info), json.Unmarshal([]byte("{"+fields+"}"), &change)); err != nil {
		t.Fatal(err)
	}
	for key, value := range change {
		info["data"].(map[string]any)[key] = value
	}
	out, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func checkRefused(t *testing.T, raw Raw, field, rule string) {
	t.Helper()
	info, err := Parse(raw)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%s: got %+v, %v; want an *Error", short(string(raw)), info, err)
	}
	if e.Reason != InvalidInfo || e.Field != field || !strings.Contains(e.Rule, rule) {
		t.Errorf("%s of field %s: %v; want %s of %s: ...%s...", e.Reason, e.Field, err, InvalidInfo, field, rule)
	}
	if info.Type != "" {
		t.Errorf("an Info comes with the error: %+v", info)
	}
	if strings.Contains(err.Error(), "secret") && strings.HasSuffix(field, "password") {
		t.Errorf("the error shows a password: %v", err)
	}
}

func TestWWID(t *testing.T) {
	for written, want := range map[string]string{
		"naa.60014051234567890123456789abcdef":            "naa.60014051234567890123456789abcdef",
		"360014051234567890123456789ABCDEF":               "naa.60014051234567890123456789abcdef",
		"60014051234567890123456789abcdef":                "naa.60014051234567890123456789abcdef",
		"0x5000c50015ea71ac":                              "naa.5000c50015ea71ac",
		"35000c50015ea71ac":                               "naa.5000c50015ea71ac",
		"50:00:c5:00:15:ea:71:ac":                         "naa.5000c50015ea71ac",
		"2001b4d2000000001":                               "eui.001b4d2000000001",
		"eui.001b4d2000000001":                            "eui.001b4d2000000001",
		"b2134f8e93784d2baf125dfe7c9a84bc":                "eui.b2134f8e93784d2baf125dfe7c9a84bc",
		"uuid.E1FC1D2B1A664F5F8A8A0D2A2A7E6B3C":           "uuid.e1fc1d2b-1a66-4f5f-8a8a-0d2a2a7e6b3c",
		"t10.ATA     ST3500 9QM":                          "t10.ATA     ST3500 9QM",
		"t10.ATA\n":                                       "",
		"uuid.x":                                          "",
		"naa.6":                                           "",
		"../../etc/passwd":                                "",
		"360014051234567890123456789abcdef0":              "",
		":::::::::::::::::::::::::::::::::::::::::::::::": "",
	} {
		got, fault := wwid(written)
		if got != want && want != "" || (fault == "") != (want != "") {
			t.Errorf("%q is %q, %q; want %q", written, got, fault, want)
		}
	}
}

// TestErrorsAreShort: what is hostile is quoted and cut.
func TestErrorsAreShort(t *testing.T) {
	long, err := json.Marshal(strings.Repeat("\x1b", 5000))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Parse(Raw(fmt.Sprintf(`{"driver_volume_type": %s}`, long)))
	if text := fmt.Sprint(err); len(text) > 700 || strings.Contains(text, "\x1b") {
		t.Errorf("the error has %d bytes: %q", len(text), text)
	}
}

// FuzzParse: whatever comes, there is an answer that can be shown, and what is accepted can be named to programs and the kernel.
func FuzzParse(f *testing.F) {
	for _, raw := range examples(f) {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		info, err := Parse(raw)
		var e *Error
		if err != nil {
			if !errors.As(err, &e) || strings.ContainsFunc(err.Error(), unicode.IsControl) || len(err.Error()) > 2000 {
				t.Fatalf("error %q", err)
			}
			return
		}
		checkNames(t, info)
		again, err := Parse(raw)
		if err != nil || golden.JSON(t, again) != golden.JSON(t, info) {
			t.Fatalf("a second reading says %+v, %v; the first %+v", again, err, info)
		}
	})
}

// checkNames fails for a name that does not go where it has to.
func checkNames(t *testing.T, info Info) {
	t.Helper()
	names := []string{info.Path, info.WWID, info.Format}
	if i := info.ISCSI; i != nil {
		for _, target := range i.Targets {
			names = append(names, target.Portal, target.IQN)
			if target.LUN < 0 || target.LUN > maxLUN || !strings.Contains(target.Portal, ":") {
				t.Fatalf("target %+v", target)
			}
		}
		if len(i.Targets) == 0 {
			t.Fatal("no target")
		}
	}
	if n := info.NVMe; n != nil {
		names = append(names, n.NQN, n.HostNQN, n.UUID, n.NGUID)
		for _, p := range n.Portals {
			names = append(names, p.Address)
		}
	}
	if n := info.NFS; n != nil {
		names = append(names, n.Export, n.Name, n.Options)
		if strings.Contains(n.Name, "/") {
			t.Fatalf("name %q", n.Name)
		}
	}
	if r := info.RBD; r != nil {
		names = append(names, r.Pool, r.Image, r.User, r.Cluster)
	}
	for _, n := range names {
		if strings.ContainsFunc(n, unicode.IsControl) || strings.Contains(n, "..") && strings.Contains(n, "/../") {
			t.Fatalf("name %q of %+v", n, info)
		}
	}
}
