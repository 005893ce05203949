package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"compute-agent/internal/command"
)

func TestMakeBlank(t *testing.T) {
	const size = 1 << 30
	for _, format := range []FileSystem{Ext2, Ext3, Ext4, XFS, VFAT, NTFS, Swap} {
		t.Run(string(format), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.eph0")
			make := func() error { return MakeBlank(t.Context(), command.Exec{}, path, size, format, "ephemeral0") }
			if err := make(); err != nil {
				t.Fatal(err)
			}
			said, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: "blkid", Args: []string{"--probe", "--output", "export", path}})
			if err != nil || !strings.Contains(string(said), "TYPE="+string(format)+"\n") {
				t.Errorf("blkid says %v\n%s", err, said)
			}
			if format != Swap && !strings.Contains(string(said), "LABEL=ephemeral0\n") {
				t.Errorf("it has no label:\n%s", said)
			}
			stat := statOf(t, path)
			if stat.Size != size || stat.Blocks*512 > size/4 || stat.Mode&0o777 != 0o600 {
				t.Errorf("%d bytes, %d of them in blocks, mode %o; want %d bytes, most without blocks, mode 600", stat.Size, stat.Blocks*512, stat.Mode, size)
			}
			appendTo(t, path, "guest")
			before := statOf(t, path)
			if err := make(); err != nil {
				t.Fatal(err)
			}
			if after := statOf(t, path); after.Ino != before.Ino || after.Mtim != before.Mtim {
				t.Error("making it again made another")
			}
			if err := MakeBlank(t.Context(), command.Exec{}, path, 2*size, format, "ephemeral0"); !errors.Is(err, fs.ErrExist) {
				t.Errorf("another size: %v, want fs.ErrExist", err)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// appendTo writes at the end of a disk without making it longer.
func appendTo(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt([]byte(text), statOf(t, path).Size-int64(len(text)))
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

func statOf(t *testing.T, path string) syscall.Stat_t {
	t.Helper()
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat
}

func TestMakeBlankFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path   string
		size   int64
		format FileSystem
		runner command.Runner
		want   string
	}{
		"no format":        {path, 1 << 20, "btrfs", command.Exec{}, "the format is not known"},
		"relative":         {"disk", 1 << 20, Ext4, command.Exec{}, "not absolute"},
		"a link":           {link, 1 << 20, Ext4, command.Exec{}, "another disk is there"},
		"too small":        {path, 1 << 10, Ext4, command.Exec{}, "mkfs.ext4: exit status 1"},
		"no program":       {path, 1 << 20, Ext4, broken{errors.New("executable file not found")}, "not found"},
		"no room":          {path, 1 << 20, Ext4, broken{syscall.ENOSPC}, ErrNoSpace.Error()},
		"a size of nobody": {path, -1, Ext4, command.Exec{}, "invalid argument"},
	} {
		err := MakeBlank(t.Context(), c.runner, c.path, c.size, c.format, "ephemeral0")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// broken is a runner whose programs all fail.
type broken struct{ err error }

func (b broken) Run(context.Context, command.Cmd) ([]byte, error) { return nil, b.err }

func TestMakeBlankReplacesTheRemainsOfAnAttempt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.swap")
	if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MakeBlank(t.Context(), command.Exec{}, path, 64<<20, Swap, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the remains are there: %v", err)
	}
}

func TestFileSystemFor(t *testing.T) {
	for osType, want := range map[string]FileSystem{"linux": Ext4, "windows": NTFS, "": VFAT, "freebsd": VFAT} {
		if got := FileSystemFor(osType); got != want {
			t.Errorf("os_type=%s: %s, want %s", osType, got, want)
		}
	}
}
