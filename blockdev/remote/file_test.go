package remote

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

func fileInfo(path, format string) connector.Info {
	return connector.Info{Type: connector.File, Path: path, Format: format}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	c := Files{Dirs: []string{"/nonexistent", dir}}
	raw, qcow2 := filepath.Join(dir, "raw"), filepath.Join(dir, "sub", "disk.qcow2")
	if err := os.Mkdir(filepath.Dir(qcow2), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-f", "raw", raw, "1M"}, {"-f", "qcow2", qcow2, "3M"}} {
		if _, err := (command.Exec{}).Run(t.Context(), command.Cmd{Name: "qemu-img", Args: append([]string{"create", "-q"}, args...)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []connector.Device{{Path: raw, Format: "raw", Bytes: 1 << 20}, {Path: qcow2, Format: "qcow2", Bytes: 3 << 20}} {
		got, err := c.Connect(t.Context(), fileInfo(want.Path, want.Format), "")
		if err != nil || got.Path != want.Path || got.Format != want.Format || got.Bytes != want.Bytes || got.Identity != "" {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	// The same file as raw is raw: nobody looks into it.
	if got, err := c.Connect(t.Context(), fileInfo(qcow2, ""), ""); err != nil || got.Format != "raw" || got.Bytes == 3<<20 {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.Truncate(raw, 2<<20); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Extend(t.Context(), fileInfo(raw, ""), connector.Device{}); err != nil || got.Bytes != 2<<20 {
		t.Errorf("extended: %+v, %v", got, err)
	}
}

// header is a qcow2 header of a disk of 1 MiB.
func header(change func([]byte)) []byte {
	h := make([]byte, qcow2Header)
	binary.BigEndian.PutUint32(h, qcow2Magic)
	binary.BigEndian.PutUint32(h[4:], 3)
	binary.BigEndian.PutUint64(h[24:], 1<<20)
	change(h)
	return h
}

func TestFileRefusals(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	c := Files{Dirs: []string{dir}}
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "file"), []byte("x"))
	write(in("empty"), nil)
	write(in("text"), []byte("this is no disk of any format that QEMU knows, and long enough to hold a header"))
	write(in("short"), []byte("QFI\xfb"))
	write(in("backed"), header(func(h []byte) { binary.BigEndian.PutUint64(h[8:], 512) }))
	write(in("external"), header(func(h []byte) { binary.BigEndian.PutUint64(h[72:], externalData) }))
	write(in("version"), header(func(h []byte) { h[7] = 9 }))
	write(in("large"), header(func(h []byte) { h[24] = 0xff }))
	write(in("none"), header(func(h []byte) { binary.BigEndian.PutUint64(h[24:], 0) }))
	for link, to := range map[string]string{"link": filepath.Join(outside, "file"), "dirlink": outside, "inside": "text"} {
		if err := os.Symlink(to, in(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(in("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c2 := range []struct {
		path, format string
		reason       connector.Reason
		says         string
	}{
		{filepath.Join(outside, "file"), "", connector.InvalidInfo, "only be below " + dir},
		{dir, "", connector.InvalidInfo, "only be below"},
		{in("../" + filepath.Base(outside) + "/file"), "", connector.InvalidInfo, "only be below"},
		{in("nothing"), "", connector.NoDevice, "not there"},
		{in("link"), "", connector.InvalidInfo, "not a regular file"},
		{in("dirlink/file"), "", connector.InvalidInfo, "has a link"},
		{in("inside"), "", connector.InvalidInfo, "not a regular file"},
		{in("fifo"), "", connector.InvalidInfo, "regular file"},
		{in("empty"), "", connector.BadSize, "empty"},
		{in("text"), "qcow2", connector.InvalidInfo, "is not qcow2"},
		{in("short"), "qcow2", connector.InvalidInfo, "too short"},
		{in("backed"), "qcow2", connector.InvalidInfo, "backing file"},
		{in("external"), "qcow2", connector.InvalidInfo, "another file"},
		{in("version"), "qcow2", connector.InvalidInfo, "is not qcow2"},
		{in("large"), "qcow2", connector.InvalidInfo, "size"},
		{in("none"), "qcow2", connector.BadSize, "empty"},
	} {
		_, err := c.Connect(t.Context(), fileInfo(c2.path, c2.format), "")
		isReason(t, err, c2.reason, c2.says)
	}
	_, err := Files{}.Connect(t.Context(), fileInfo(in("text"), ""), "")
	isReason(t, err, connector.InvalidInfo, "no directory")
}
