package image

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"compute-agent/internal/command"
)

func open(t *testing.T, opt Options) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "images[1]*"), opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// add receives an image and puts it into the store at once.
func add(ctx context.Context, s *Store, r io.Reader) (Blob, error) {
	u, err := s.Receive(ctx, r)
	if err != nil {
		return Blob{}, err
	}
	return u.Blob, u.Commit()
}

// inspect receives an image, inspects it, and forgets it.
func inspect(t *testing.T, s *Store, r io.Reader, format string) (Info, error) {
	t.Helper()
	u, err := s.Receive(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Discard()
	return u.Inspect(t.Context(), format)
}

// files lists a store's directory.
func files(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAddKeepsBytesByTheirDigest(t *testing.T) {
	s := open(t, Options{})
	data := bytes.Repeat([]byte("image "), 100_000)
	m, s256, s512 := md5.Sum(data), sha256.Sum256(data), sha512.Sum512(data)
	want := Blob{int64(len(data)), hex.EncodeToString(m[:]), hex.EncodeToString(s256[:]), hex.EncodeToString(s512[:])}
	var inodes []os.FileInfo
	for range 2 { // the second time finds the first's bytes, and leaves them to the guests that run on them
		got, err := add(t.Context(), s, iotest.HalfReader(bytes.NewReader(data)))
		if err != nil || got != want {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		stat, err := os.Stat(filepath.Join(s.dir, want.SHA256))
		if err != nil {
			t.Fatal(err)
		}
		inodes = append(inodes, stat)
	}
	if !os.SameFile(inodes[0], inodes[1]) {
		t.Error("the same bytes took the place of the first")
	}
	if got := files(t, s); !slices.Equal(got, []string{want.SHA256}) {
		t.Errorf("the directory has %v", got)
	}
	stat, err := os.Stat(filepath.Join(s.dir, want.SHA256))
	if err != nil || stat.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v; the hypervisor's user must be able to read it", stat.Mode(), err)
	}
	if stat, err := os.Stat(s.dir); err != nil || stat.Mode().Perm() != 0o711 {
		t.Errorf("%v, %v; the hypervisor's user must be able to pass", stat.Mode(), err)
	}
	file, err := s.Open(want.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := errors.Join(s.Remove(want.SHA256), s.Remove(want.SHA256)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(file); err != nil || !bytes.Equal(got, data) {
		t.Errorf("an open file loses its bytes when it is removed: %d, %v", len(got), err)
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("after Remove: %v, %v", list, err)
	}
	if _, err := s.Open(want.SHA256); !errors.Is(err, ErrNotFound) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestConcurrentUploadsOfTheSameBytes(t *testing.T) {
	s := open(t, Options{})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := add(t.Context(), s, strings.NewReader("the same")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := files(t, s); len(got) != 1 {
		t.Errorf("the directory has %v", got)
	}
}

// devFull is a file on which every write finds the disk full.
func devFull(dir, pattern string) (*os.File, error) {
	name := filepath.Join(dir, strings.TrimSuffix(pattern, "*")+"full")
	if err := os.Symlink("/dev/full", name); err != nil {
		return nil, err
	}
	return os.OpenFile(name, os.O_RDWR, 0)
}

func TestFailedReceiveLeavesNothing(t *testing.T) {
	broken := errors.New("the client went away")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		body   io.Reader
		create func(dir, pattern string) (*os.File, error)
		want   error
	}{
		{"too large", t.Context(), strings.NewReader("123456789"), os.CreateTemp, ErrTooLarge},
		{"endless", t.Context(), endless{}, os.CreateTemp, ErrTooLarge},
		{"broken off", t.Context(), io.MultiReader(strings.NewReader("1234"), iotest.ErrReader(broken)), os.CreateTemp, broken},
		{"cancelled", cancelled, endless{}, os.CreateTemp, context.Canceled},
		{"disk full", t.Context(), strings.NewReader("1234"), devFull, ErrNoSpace},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Options{MaxSize: 8})
			s.create = c.create
			_, err := s.Receive(c.ctx, c.body)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if strings.Contains(fmt.Sprint(err), s.dir) {
				t.Errorf("the message tells a path: %v", err)
			}
			if got := files(t, s); len(got) != 0 {
				t.Errorf("left behind: %v", got)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestExactlyTheLimit(t *testing.T) {
	s := open(t, Options{MaxSize: 8})
	if blob, err := add(t.Context(), s, strings.NewReader("12345678")); err != nil || blob.Size != 8 {
		t.Errorf("%+v, %v", blob, err)
	}
}

func TestDiscardAndOpenStoreSweep(t *testing.T) {
	s := open(t, Options{})
	kept, err := add(t.Context(), s, strings.NewReader("kept"))
	if err != nil {
		t.Fatal(err)
	}
	unwanted, err := s.Receive(t.Context(), strings.NewReader("unwanted"))
	if err != nil {
		t.Fatal(err)
	}
	unwanted.Discard()
	// The agent dies with this one under way.
	if _, err := s.Receive(t.Context(), strings.NewReader("lost")); err != nil {
		t.Fatal(err)
	}
	if got := files(t, s); len(got) != 2 {
		t.Fatalf("the directory has %v", got)
	}
	again, err := OpenStore(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := files(t, again); !slices.Equal(got, []string{kept.SHA256}) {
		t.Errorf("the directory has %v", got)
	}
}

func TestOnlyDigestsAreNames(t *testing.T) {
	s := open(t, Options{})
	outside := filepath.Join(filepath.Dir(s.dir), "secret")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../secret", "/etc/passwd", strings.Repeat("A", 64), strings.Repeat("a", 63), strings.Repeat("a", 60) + "/../"} {
		if _, err := s.Open(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
		if err := s.Remove(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

// qemuImg makes an image with the real program.
func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	_, err := (command.Exec{}).Run(t.Context(), command.Cmd{Name: "qemu-img", Args: args})
	// It times its own hashing to make a LUKS header, and gives up when the kernel's clock is too coarse to tell.
	for tries := 1; err != nil && tries < 20 && strings.Contains(err.Error(), "Unable to get accurate CPU usage"); tries++ {
		_, err = (command.Exec{}).Run(t.Context(), command.Cmd{Name: "qemu-img", Args: args})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// inspectFile uploads a file and inspects it, with qemu-img as it is on this host.
func inspectFile(t *testing.T, path, format string) (Info, error) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	return inspect(t, open(t, Options{MaxVirtualSize: 1 << 40}), file, format)
}

func TestInspectWithQEMU(t *testing.T) {
	dir := t.TempDir()
	backing := filepath.Join(dir, "backing")
	qemuImg(t, "create", "-q", "-f", "raw", backing, "1M")
	for _, c := range []struct {
		name    string
		format  string
		make    []string
		size    int64
		refused string
	}{
		{"qcow2", FormatQCOW2, []string{"-f", "qcow2", "", "10M"}, 10 << 20, ""},
		{"old qcow2", FormatQCOW2, []string{"-f", "qcow2", "-o", "compat=0.10", "", "10M"}, 10 << 20, ""},
		{"small clusters", FormatQCOW2, []string{"-f", "qcow2", "-o", "cluster_size=512", "", "10M"}, 10 << 20, ""},
		{"large clusters", FormatQCOW2, []string{"-f", "qcow2", "-o", "cluster_size=2M", "", "10M"}, 10 << 20, ""},
		{"allocated", FormatQCOW2, []string{"-f", "qcow2", "-o", "preallocation=metadata,compression_type=zstd", "", "10M"}, 10 << 20, ""},
		{"raw", FormatRaw, []string{"-f", "raw", "", "10M"}, 10 << 20, ""},
		{"huge", FormatQCOW2, []string{"-f", "qcow2", "", "2T"}, 0, "more than the"},
		{"backing file", FormatQCOW2, []string{"-f", "qcow2", "-b", backing, "-F", "raw", "", "10M"}, 0, "backing file"},
		{"data file", FormatQCOW2, []string{"-f", "qcow2", "-o", "data_file=" + filepath.Join(dir, "data"), "", "10M"}, 0, "external data file"},
		{"raw data file", FormatQCOW2, []string{"-f", "qcow2", "-o", "data_file_raw=on,data_file=" + filepath.Join(dir, "data"), "", "10M"}, 0, "external data file"},
		{"extended L2", FormatQCOW2, []string{"-f", "qcow2", "-o", "extended_l2=on", "", "10M"}, 0, "extended L2"},
		{"encrypted", FormatQCOW2, []string{"-f", "qcow2", "--object", "secret,id=k,data=password", "-o", "encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10", "", "10M"}, 0, "encrypted"},
		{"qcow2 as raw", FormatRaw, []string{"-f", "qcow2", "", "10M"}, 0, "qcow2"},
		{"raw as qcow2", FormatQCOW2, []string{"-f", "raw", "", "10M"}, 0, "something else"},
		{"VMDK as qcow2", FormatQCOW2, []string{"-f", "vmdk", "", "10M"}, 0, "VMDK"},
		{"VHD as raw", FormatRaw, []string{"-f", "vpc", "-o", "subformat=fixed", "", "10M"}, 0, "VHD"},
		{"VDI as raw", FormatRaw, []string{"-f", "vdi", "", "10M"}, 0, "VDI"},
		{"VHDX as raw", FormatRaw, []string{"-f", "vhdx", "", "10M"}, 0, "VHDX"},
		{"QED as raw", FormatRaw, []string{"-f", "qed", "", "10M"}, 0, "QED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			args := slices.Clone(c.make)
			args[slices.Index(args, "")] = path
			qemuImg(t, append([]string{"create", "-q"}, args...)...)
			info, err := inspectFile(t, path, c.format)
			var refusal *Refusal
			switch {
			case c.refused == "" && (err != nil || info != (Info{c.format, c.size})):
				t.Errorf("%+v, %v", info, err)
			case c.refused != "" && (!errors.As(err, &refusal) || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("got %+v, %v; want a refusal with %q", info, err, c.refused)
			}
		})
	}
}

// Damage that the header does not show: only the walk through the tables finds it.
func TestInspectFindsDamagedTables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "preallocation=full", path, "1M")
	stat, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, stat.Size()-512<<10); err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	if info, err := inspectFile(t, path, FormatQCOW2); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("got %+v, %v; want a refusal", info, err)
	}
}

// runs records what would have run.
type runs struct{ cmds []command.Cmd }

func (r *runs) Run(_ context.Context, c command.Cmd) ([]byte, error) {
	r.cmds = append(r.cmds, c)
	return []byte(`{"format":"qcow2","virtual-size":67108864}`), nil
}

func TestQEMUSeesNothingThatTheHeaderCheckRefuses(t *testing.T) {
	runner := &runs{}
	s := open(t, Options{Runner: runner})
	for _, file := range [][]byte{withBacking("/etc/passwd"), withExtension(extDataFile, "/etc/passwd"), sound(features(1 << 40))} {
		var refusal *Refusal
		if _, err := inspect(t, s, bytes.NewReader(file), FormatQCOW2); !errors.As(err, &refusal) {
			t.Errorf("got %v, want a refusal", err)
		}
	}
	if len(runner.cmds) != 0 {
		t.Errorf("qemu-img was run: %v", runner.cmds)
	}
}

func TestQEMURunsConfined(t *testing.T) {
	runner := &runs{}
	s := open(t, Options{Runner: runner})
	if _, err := inspect(t, s, bytes.NewReader(sound()), FormatQCOW2); err != nil {
		t.Fatal(err)
	}
	if len(runner.cmds) != 2 {
		t.Fatalf("%d programs were run", len(runner.cmds))
	}
	for _, c := range runner.cmds {
		if !c.Nobody || c.Limits.AddressSpace == 0 || c.Limits.CPU == 0 || c.Stdin == nil {
			t.Errorf("not confined: %+v", c)
		}
		if !slices.Contains(c.Args, "driver=qcow2,file.driver=file,file.filename=/dev/stdin") {
			t.Errorf("the format is probed: %v", c.Args)
		}
	}
}

func TestDisagreementIsRefused(t *testing.T) {
	want := Info{FormatQCOW2, 1 << 20}
	for name, out := range map[string]string{
		"format":    `{"format":"raw","virtual-size":1048576}`,
		"size":      `{"format":"qcow2","virtual-size":1048577}`,
		"backing":   `{"format":"qcow2","virtual-size":1048576,"backing-filename":"x"}`,
		"data file": `{"format":"qcow2","virtual-size":1048576,"format-specific":{"data":{"data-file":"x"}}}`,
		"encrypted": `{"format":"qcow2","virtual-size":1048576,"encrypted":true}`,
		"corrupt":   `{"format":"qcow2","virtual-size":1048576,"format-specific":{"data":{"corrupt":true}}}`,
	} {
		var refusal *Refusal
		if err := agree([]byte(out), want); !errors.As(err, &refusal) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	if err := agree([]byte(`{"format":"qcow2","virtual-size":1048576}`), want); err != nil {
		t.Error(err)
	}
}

// fails is a runner whose program runs and fails.
type fails struct{ script string }

func (f fails) Run(ctx context.Context, _ command.Cmd) ([]byte, error) {
	return command.Exec{}.Run(ctx, command.Cmd{Name: "sh", Args: []string{"-c", f.script}})
}

func TestWhatQEMUCannotReadIsRefused(t *testing.T) {
	for script, want := range map[string]string{
		`echo "qemu-img: Could not open 'driver=qcow2,file.filename=/dev/stdin': Bad magic" >&2; exit 1`: "qemu-img cannot read it: Bad magic",
		`echo "out of memory" >&2; exit 1`: "qemu-img cannot read it: out of memory",
		`kill -XCPU $$`:                    "qemu-img cannot read it: signal: CPU time limit exceeded",
	} {
		_, err := inspect(t, open(t, Options{Runner: fails{script}}), bytes.NewReader(sound()), FormatQCOW2)
		var refusal *Refusal
		if !errors.As(err, &refusal) || !strings.HasPrefix(refusal.Reason, want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	u, err := open(t, Options{}).Receive(t.Context(), bytes.NewReader(sound()))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Discard()
	cancel()
	var refusal *Refusal
	if _, err := u.Inspect(cancelled, FormatQCOW2); !errors.Is(err, context.Canceled) || errors.As(err, &refusal) {
		t.Errorf("cancelled: %v", err)
	}
}
