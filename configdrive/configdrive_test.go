package configdrive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	Seed:             []byte("0123456789abcdef"),
}

var plain = Drive{ID: "0b3c2b66-6a4e-4c1c-9a1f-8a5d7d7a3c11", Number: 1, Name: "a", Hostname: "a", AvailabilityZone: "nova",
	ProjectID: "p", Flavor: "f", RootDevice: "vda", Seed: []byte("x")}

func TestDocuments(t *testing.T) {
	for name, d := range map[string]Drive{"full": full, "plain": plain} {
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
