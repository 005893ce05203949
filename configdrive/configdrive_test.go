package configdrive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"compute-agent/internal/command"
	"compute-agent/internal/golden"
)

var full = Drive{
	ID:               "0b3c2b66-6a4e-4c1c-9a1f-8a5d7d7a3c11",
	Number:           42,
	Name:             `web "1" <&> ü`,
	Hostname:         "web-1.novalocal",
	AvailabilityZone: "nova",
	ProjectID:        "9d5d6f0e",
	Flavor:           "m1.small",
	RootDevice:       "vda",
	Ephemeral:        "vdb",
	Swap:             "vdc",
	Key:              &Key{Name: "laptop", Type: "ssh", PublicKey: "ssh-ed25519 AAAA me@laptop\n"},
	Metadata:         map[string]string{"role": "web", "note": "a\nb"},
	UserData:         []byte("#!/bin/sh\necho hello\x00\xff\n"),
	AdminPassword:    "s3cret",
	DedicatedCPUs:    []int{0, 2, 3},
	Seed:             []byte("0123456789abcdef"),
}

var plain = Drive{ID: "0b3c2b66-6a4e-4c1c-9a1f-8a5d7d7a3c11", Number: 1, Name: "a", Hostname: "a", AvailabilityZone: "nova",
	ProjectID: "p", Flavor: "f", RootDevice: "vda", Seed: []byte("x")}

// connected has interfaces of each kind. What Nova made of the same is in testdata/nova_network_data.json.
func connected() Drive {
	d := plain
	d.SecurityGroups = []string{"default", "web"}
	d.Volumes = []Volume{
		{ID: "5d3b1f4f-8a36-4b5e-8a36-52d04b5e8a36", Name: "vdc", Bus: "pci", Tag: "database"}, {ID: "6e4c205a-9b47-4c6f-9b47-63e14c6f9b47", Name: "vdb", Bus: "pci"},
	}
	d.Interfaces = []Interface{
		{
			ID: "b4a3f7c1-52d0-4b5e-8a36-5d3b1f4f8a10", Name: "tapb4a3f7c1-52", Type: "tap", MAC: "fa:16:3e:11:22:33", MTU: 1450,
			Network: "8d2b9c0e-6f0c-4e0a-9a5c-0b6f1c7d3e21", Tag: "inside", Bus: "pci",
			Subnets: []Subnet{
				{CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), DNS: addrs("8.8.8.8"), DHCP: true, Addresses: addrs("10.0.0.7")},
				{CIDR: prefix("2001:db8::/64"), Gateway: addr("2001:db8::1"), DNS: addrs("2001:4860:4860::8888"), DHCP: true,
					AddressMode: "slaac", Addresses: addrs("2001:db8::f816:3eff:fe11:2233")},
			},
			Floating: addrs("203.0.113.9"),
		},
		{
			ID: "c5b4a8d2-63e1-4c6f-9b47-6e4c205a9b21", Type: "bridge", MAC: "fa:16:3e:11:22:34", MTU: 9000,
			Network: "9e3cad1f-701d-4f1b-8b6d-1c702d8e4f32", VLAN: 101,
			Subnets: []Subnet{
				{CIDR: prefix("192.168.4.0/22"), Gateway: addr("192.168.4.1"), DNS: addrs("8.8.8.8", "192.168.4.2"), Addresses: addrs("192.168.5.6", "192.168.5.7"),
					Routes: []Route{{prefix("172.16.0.0/12"), addr("192.168.4.9")}, {prefix("198.51.100.7/32"), addr("192.168.4.10")}}},
				{CIDR: prefix("192.168.8.0/22"), Addresses: addrs("192.168.8.6")},
				{CIDR: prefix("2001:db8:1::/96"), Gateway: addr("fe80::1"), Addresses: addrs("2001:db8:1::6"),
					Routes: []Route{{prefix("2001:db8:2::/48"), addr("2001:db8:1::9")}}},
			},
			Floating: addrs("203.0.113.10"),
		},
		{ID: "d6c5b9e3-74f2-4d70-ac58-7f5d316bac32", Type: "hostdev_physical", MAC: "fa:16:3e:11:22:35", Network: "af4dbe20-812e-4a2c-9c7e-2d813e9f5043"},
		{
			ID: "e7d6caf4-8503-4e81-bd69-806e427cbd43", Type: "macvtap", MAC: "fa:16:3e:11:22:36", MTU: 1500, Tag: "fast", Trusted: true, Bus: "pci", Address: "0000:00:05.0",
			Network: "b05ecf31-923f-4b3d-8d8f-3e924fa06154",
			Subnets: []Subnet{
				{CIDR: prefix("2001:db8:3::/64"), Gateway: addr("2001:db8:3::1"), DHCP: true, AddressMode: "dhcpv6-stateful", Addresses: addrs("2001:db8:3::10")},
				{CIDR: prefix("10.9.0.0/16"), Addresses: addrs("10.9.0.4")},
			},
		},
		{
			ID: "f8e7db05-9614-4f92-8e7a-917f538dce54", Type: "ovs", MAC: "fa:16:3e:11:22:37",
			Network: "c16fd042-a340-4c4e-9e90-4fa350b17265", Subnets: []Subnet{{CIDR: prefix("10.10.0.0/30"), Addresses: addrs("10.10.0.1")}},
		},
	}
	return d
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func addrs(all ...string) (out []netip.Addr) {
	for _, s := range all {
		out = append(out, addr(s))
	}
	return out
}

// TestNetworkDataIsNovas compares with what Nova's get_network_metadata returned for the interfaces of connected.
func TestNetworkDataIsNovas(t *testing.T) {
	nova, err := os.ReadFile("testdata/nova_network_data.json")
	if err != nil {
		t.Fatal(err)
	}
	ours := Documents(connected())["openstack/latest/network_data.json"]
	if got, want := show(t, "ours.json", ours), show(t, "nova.json", nova); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := Documents(plain)["openstack/latest/network_data.json"]; string(got) != "{}" {
		t.Errorf("without an interface: %s", got)
	}
}

func TestDocuments(t *testing.T) {
	for name, d := range map[string]Drive{"full": full, "plain": plain, "connected": connected()} {
		t.Run(name, func(t *testing.T) {
			files := Documents(d)
			var text strings.Builder
			for _, path := range slices.Sorted(maps.Keys(files)) {
				fmt.Fprintf(&text, "== %s\n%s\n", path, show(t, path, files[path]))
			}
			golden.Assert(t, filepath.Join("testdata", name+".golden"), text.String())
		})
	}
}

// show prints JSON with its keys in lines and anything else quoted.
func show(t *testing.T, path string, data []byte) string {
	if !strings.HasSuffix(path, ".json") {
		return fmt.Sprintf("%q", data)
	}
	var document any
	if err := json.Unmarshal(data, &document); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	out, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// readBack lists the drive's files by their Joliet or Rock Ridge names and reads them.
func readBack(t *testing.T, path, names string) map[string][]byte {
	t.Helper()
	isoinfo := func(args ...string) []byte {
		t.Helper()
		out, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: "isoinfo", Args: append([]string{"-i", path, names}, args...)})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	files := map[string][]byte{}
	for _, name := range strings.Fields(string(isoinfo("-f"))) {
		if filepath.Ext(name) != "" || strings.HasSuffix(name, "data") {
			files[strings.TrimPrefix(name, "/")] = isoinfo("-x", name)
		}
	}
	return files
}

func TestWriteReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.config")
	for range 2 { // making it again replaces it
		if err := Write(t.Context(), command.Exec{}, path, ISO9660, full); err != nil {
			t.Fatal(err)
		}
	}
	want := Documents(full)
	for _, names := range []string{"-R", "-J"} {
		got := readBack(t, path, names)
		for name, data := range want {
			if string(got[name]) != string(data) {
				t.Errorf("%s %s: read back %q, want %q", names, name, got[name], data)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d files, want %d: %v", names, len(got), len(want), slices.Sorted(maps.Keys(got)))
		}
	}
	header, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: "isoinfo", Args: []string{"-d", "-i", path}})
	if err != nil || !strings.Contains(string(header), "Volume id: "+Label+"\n") {
		t.Errorf("label: %v\n%s", err, header)
	}
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", stat.Mode(), err)
	}
	onlyFile(t, path)
}

func TestWriteVFATReadsBack(t *testing.T) {
	path, out := filepath.Join(t.TempDir(), "disk.config"), t.TempDir()
	for range 2 {
		if err := Write(t.Context(), command.Exec{}, path, VFAT, full); err != nil {
			t.Fatal(err)
		}
	}
	onlyFile(t, path)
	if _, err := (command.Exec{}).Run(t.Context(), command.Cmd{Name: "mcopy", Args: []string{"-s", "-i", path, "::/", out}}); err != nil {
		t.Fatal(err)
	}
	want := Documents(full) // which all are in the directories that Commands names
	got := 0
	err := filepath.WalkDir(out, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if rel, _ := filepath.Rel(out, name); string(data) != string(want[rel]) {
			t.Errorf("%s: read back %q, want %q", rel, data, want[rel])
		}
		got++
		return err
	})
	if err != nil || got != len(want) {
		t.Errorf("%d files, want %d: %v", got, len(want), err)
	}
	said, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: "blkid", Args: []string{"--probe", "--output", "export", path}})
	if err != nil || !strings.Contains(string(said), "LABEL="+Label+"\n") || !strings.Contains(string(said), "TYPE=vfat\n") {
		t.Errorf("label and type: %v\n%s", err, said)
	}
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o600 || stat.Size() != vfatSize {
		t.Errorf("mode %v, %d bytes, %v; want 0600, %d", stat.Mode(), stat.Size(), err, vfatSize)
	}
	if err := Write(t.Context(), command.Exec{}, path, "ext4", full); err == nil || !strings.Contains(err.Error(), "config_drive_format") {
		t.Errorf("an unknown format: %v", err)
	}
}

// onlyFile sees that nothing but path is left in its directory.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestWriteMakesASeed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.config")
	seedless := full
	seedless.Seed = nil
	seeds := map[string]bool{}
	for range 2 {
		if err := Write(t.Context(), command.Exec{}, path, ISO9660, seedless); err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Seed []byte `json:"random_seed"`
		}
		if err := json.Unmarshal(readBack(t, path, "-R")["openstack/latest/meta_data.json"], &doc); err != nil {
			t.Fatal(err)
		}
		if len(doc.Seed) != seedSize {
			t.Errorf("a seed of %d bytes", len(doc.Seed))
		}
		seeds[string(doc.Seed)] = true
	}
	if len(seeds) != 2 {
		t.Error("two drives have the same seed")
	}
}

// failing runs nothing; it looks at what lies about while the program would run.
type failing struct{ look func() }

var errFailed = errors.New("no such program")

func (f failing) Run(context.Context, command.Cmd) ([]byte, error) {
	f.look()
	return nil, errFailed
}

func TestFailedWriteKeepsTheOldDrive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.config")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What an agent that was killed has left.
	if err := os.MkdirAll(path+".new/tree/stale", 0o700); err != nil {
		t.Fatal(err)
	}
	look := func() {
		stat, err := os.Stat(path + ".new")
		if err != nil || stat.Mode().Perm() != 0o700 {
			t.Errorf("documents in the open: %v, %v", stat, err)
		}
		if _, err := os.Stat(path + ".new/tree/stale"); !os.IsNotExist(err) {
			t.Errorf("stale files would be on the drive: %v", err)
		}
	}
	if err := Write(t.Context(), failing{look}, path, ISO9660, full); !errors.Is(err, errFailed) {
		t.Errorf("got %v, want the program's error", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "old" {
		t.Errorf("old drive: %q, %v", data, err)
	}
	onlyFile(t, path)
}

func BenchmarkWrite(b *testing.B) {
	path := filepath.Join(b.TempDir(), "disk.config")
	for b.Loop() {
		if err := Write(b.Context(), command.Exec{}, path, ISO9660, full); err != nil {
			b.Fatal(err)
		}
	}
}
