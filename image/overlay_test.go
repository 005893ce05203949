package image

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"compute-agent/internal/command"
)

// makeBase makes an image of 10 MiB with text at its start.
func makeBase(t *testing.T, format string) Base {
	t.Helper()
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	if err := errors.Join(os.WriteFile(raw, []byte("the image"), 0o600), os.Truncate(raw, 10*mib)); err != nil {
		t.Fatal(err)
	}
	if format == FormatRaw {
		return Base{raw, FormatRaw}
	}
	path := filepath.Join(dir, "image")
	qemuImg(t, "convert", "-f", "raw", "-O", format, raw, path)
	return Base{path, format}
}

// imgInfo is what qemu-img says of a disk.
type imgInfo struct {
	Format      string `json:"format"`
	VirtualSize int64  `json:"virtual-size"`
	Backing     string `json:"backing-filename"`
	BackingFmt  string `json:"backing-filename-format"`
}

func infoOf(t *testing.T, path string) imgInfo {
	t.Helper()
	out, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: "qemu-img", Args: []string{"info", "-f", "qcow2", "--output=json", path}})
	if err != nil {
		t.Fatal(err)
	}
	var info imgInfo
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}
	return info
}

// content reads the first bytes of a disk as a guest would.
func content(t *testing.T, path string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "content")
	qemuImg(t, "dd", "-f", "qcow2", "-O", "raw", "bs=512", "count=1", "if="+path, "of="+out)
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(data), "\x00")
	return text
}

func TestMakeOverlay(t *testing.T) {
	for _, c := range []struct {
		name, format string
		asked, want  int64
	}{
		{"of qcow2, larger", FormatQCOW2, 1 << 30, 1 << 30},
		{"of raw, larger", FormatRaw, 1 << 30, 1 << 30},
		{"the image's size", FormatQCOW2, 0, 10 * mib},
		{"exactly the image's size", FormatRaw, 10 * mib, 10 * mib},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := makeBase(t, c.format)
			path := filepath.Join(t.TempDir(), "disk")
			// What an agent that was killed has left.
			if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := MakeOverlay(t.Context(), command.Exec{}, path, base, c.asked); err != nil {
				t.Fatal(err)
			}
			if got, want := infoOf(t, path), (imgInfo{"qcow2", c.want, base.Path, c.format}); got != want {
				t.Errorf("made %+v, want %+v", got, want)
			}
			if got := content(t, path); got != "the image" {
				t.Errorf("the disk begins with %q", got)
			}
			stat, err := os.Stat(path)
			if err != nil || stat.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v; want mode 0600", stat.Mode(), err)
			}
			if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the temporary file stays: %v", err)
			}
		})
	}
}

func TestMakeOverlayAgainKeepsWhatTheGuestWrote(t *testing.T) {
	base := makeBase(t, FormatQCOW2)
	path := filepath.Join(t.TempDir(), "disk")
	overlay := func() {
		t.Helper()
		if err := MakeOverlay(t.Context(), command.Exec{}, path, base, 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	overlay()
	write := command.Cmd{Name: "qemu-io", Args: []string{"-f", "qcow2", "-c", "write -P 0x67 0 9", path}}
	if _, err := (command.Exec{}).Run(t.Context(), write); err != nil {
		t.Fatal(err)
	}
	overlay()
	if got := content(t, path); got != "ggggggggg" {
		t.Errorf("the disk begins with %q", got)
	}
	if data, err := os.ReadFile(base.Path); err != nil || strings.Contains(string(data), "ggggggggg") {
		t.Errorf("the guest wrote into the image: %v", err)
	}
}

func TestMakeOverlayRefuses(t *testing.T) {
	base, other := makeBase(t, FormatQCOW2), makeBase(t, FormatQCOW2)
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := MakeOverlay(t.Context(), command.Exec{}, there, other, 0); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign")
	if err := os.WriteFile(foreign, []byte("somebody's file"), 0o600); err != nil {
		t.Fatal(err)
	}
	hostile := Base{filepath.Join(dir, "hostile"), FormatQCOW2}
	if err := os.WriteFile(hostile.Path, withBacking("/etc/passwd"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	for _, c := range []struct {
		name string
		path string
		base Base
		size int64
		is   func(error) bool
	}{
		{"smaller than the image", filepath.Join(dir, "new"), base, 10*mib - 1, func(err error) bool { return errors.Is(err, ErrTooSmall) }},
		{"another image's disk is there", there, base, 0, func(err error) bool { return errors.Is(err, fs.ErrExist) }},
		{"a disk of another size is there", there, other, 1 << 30, func(err error) bool { return errors.Is(err, fs.ErrExist) }},
		{"a file that is no disk is there", foreign, base, 0, func(err error) bool { return strings.Contains(err.Error(), "damaged") }},
		{"no image", filepath.Join(dir, "new"), Base{filepath.Join(dir, "none"), FormatRaw}, 0, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
		{"an image with a backing file", filepath.Join(dir, "new"), hostile, 0, func(err error) bool { return errors.As(err, &refusal) }},
		{"a qcow2 image as raw", filepath.Join(dir, "new"), Base{base.Path, FormatRaw}, 0, func(err error) bool { return errors.As(err, &refusal) }},
		{"relative path", "disk", base, 0, func(err error) bool { return strings.Contains(err.Error(), "absolute") }},
		{"no directory", filepath.Join(dir, "none", "disk"), base, 0, func(err error) bool { return err != nil }},
	} {
		if err := MakeOverlay(t.Context(), command.Exec{}, c.path, c.base, c.size); err == nil || !c.is(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	after, err := os.ReadDir(dir)
	if err != nil || len(after) != len(before) {
		t.Errorf("files before %v, after %v, %v", before, after, err)
	}
	if got, err := os.ReadFile(foreign); err != nil || string(got) != "somebody's file" {
		t.Errorf("somebody's file: %q, %v", got, err)
	}
}

// halfway writes half a disk and fails as qemu-img does.
type halfway struct {
	t      *testing.T
	stderr string
}

func (h halfway) Run(_ context.Context, c command.Cmd) ([]byte, error) {
	if i := slices.Index(c.Args, "-f"); i < 0 || c.Args[i+1] != FormatQCOW2 || !slices.Contains(c.Args, "-F") {
		h.t.Errorf("a format is probed: %v", c.Args)
	}
	if err := os.WriteFile(c.Args[len(c.Args)-2], []byte("half"), 0o644); err != nil {
		h.t.Error(err)
	}
	return nil, &command.Error{Program: c.Name, ExitCode: 1, Stderr: h.stderr, Err: errors.New("exit status 1")}
}

func TestFailedOverlayLeavesNothing(t *testing.T) {
	base := makeBase(t, FormatRaw)
	dir := t.TempDir()
	err := MakeOverlay(t.Context(), halfway{t, "qemu-img: disk: Could not write qcow2 header: No space left on device"}, filepath.Join(dir, "disk"), base, 0)
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v, want %v", err, ErrNoSpace)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func BenchmarkMakeOverlay(b *testing.B) {
	dir := b.TempDir()
	base := Base{filepath.Join(dir, "base"), FormatRaw}
	if err := errors.Join(os.WriteFile(base.Path, nil, 0o600), os.Truncate(base.Path, 64*mib)); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, "disk")
	for b.Loop() {
		if err := errors.Join(MakeOverlay(b.Context(), command.Exec{}, path, base, 1<<30), os.Remove(path)); err != nil {
			b.Fatal(err)
		}
	}
}
