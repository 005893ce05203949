package luks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/uevent"
	"compute-agent/internal/command"
)

const (
	volumeID = "5f3c1a52-7f0e-4d55-9d1f-5d0a3a3ed0b1"
	otherID  = "6a9c1a52-7f0e-4d55-9d1f-5d0a3a3ed0b2"
)

// world is a host of which only what these tests ask for is there: block devices sdb and sdc, and a cryptsetup that makes and removes maps in sysfs
// as the kernel shows them (drivers/md/dm-sysfs.c).
type world struct {
	t     *testing.T
	root  string
	calls []string
	input string
	fail  int    // exit code of the next program
	held  string // device that somebody has open
	next  int
}

func newWorld(t *testing.T) (*world, *Host) {
	w := &world{t: t, root: t.TempDir()}
	w.put("proc/self/mountinfo", "")
	w.put("proc/swaps", "")
	for i, name := range []string{"sdb", "sdc"} {
		w.put("sys/block/"+name+"/size", "65536\n")
		w.put("sys/block/"+name+"/dev", fmt.Sprintf("8:%d\n", 16*(i+1)))
		w.put("dev/"+name, "")
		w.link("sys/class/block/"+name, "../../block/"+name)
	}
	return w, &Host{System: scsi.System{Sys: w.path("sys"), Dev: w.path("dev"), Proc: w.path("proc"), RunUdev: w.path("run"), Kernel: w}, Run: w}
}

func (w *world) path(p string) string { return filepath.Join(w.root, p) }

func (w *world) put(path, text string) {
	w.t.Helper()
	path = w.path(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) link(path, target string) {
	w.t.Helper()
	path = w.path(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		w.t.Fatal(err)
	}
}

// begins writes what a device begins with.
func (w *world) begins(name string, data []byte) string {
	w.put("dev/"+name, string(data))
	return w.path("dev/" + name)
}

func (w *world) addMap(name, id, below string) {
	device := fmt.Sprintf("dm-%d", w.next)
	w.next++
	w.put("sys/block/"+device+"/dm/name", name+"\n")
	w.put("sys/block/"+device+"/dm/uuid", id+"\n")
	w.put("sys/block/"+device+"/size", "61440\n")
	w.put("sys/block/"+device+"/dev", "253:"+device[3:]+"\n")
	w.put("sys/block/"+device+"/slaves/.keep", "")
	w.put("dev/"+device, "")
	w.link("sys/class/block/"+device, "../../block/"+device)
	_ = os.Remove(w.path("sys/block/" + device + "/slaves/.keep"))
	if below != "" {
		w.put("sys/block/"+device+"/slaves/"+below, "")
		w.link("sys/block/"+below+"/holders/"+device, "../../"+device)
	}
}

func (w *world) removeMap(name string) {
	files, _ := filepath.Glob(w.path("sys/block/*/dm/name"))
	for _, f := range files {
		if data, _ := os.ReadFile(f); strings.TrimSpace(string(data)) == name {
			dir := filepath.Dir(filepath.Dir(f))
			holders, _ := filepath.Glob(w.path("sys/block/*/holders/" + filepath.Base(dir)))
			for _, h := range holders {
				_ = os.Remove(h)
			}
			_ = os.RemoveAll(dir)
		}
	}
}

// Run implements command.Runner.
func (w *world) Run(_ context.Context, c command.Cmd) ([]byte, error) {
	w.calls = append(w.calls, strings.ReplaceAll(strings.Join(append([]string{c.Name}, c.Args...), " "), w.root, ""))
	if w.fail != 0 {
		return nil, &command.Error{Program: c.Name, ExitCode: w.fail, Err: fmt.Errorf("exit status %d", w.fail)}
	}
	if c.Stdin != nil {
		var b bytes.Buffer
		_, _ = b.ReadFrom(c.Stdin)
		w.input = b.String()
	}
	last := c.Args[len(c.Args)-1]
	switch c.Args[0] {
	case "open":
		device := c.Args[len(c.Args)-2]
		id := "CRYPT-PLAIN-" + last
		if c.Args[2] != "plain" {
			id = w.headerOf(device).dmUUID() + last
		}
		w.addMap(last, id, filepath.Base(device))
	case "close":
		w.removeMap(last)
	}
	return nil, nil
}

func (w *world) headerOf(path string) Contents {
	f, err := os.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	found, err := Header(f)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// The kernel, of which nothing is needed but who holds a device.

func (w *world) Write(string, string) error { return fs.ErrPermission }
func (w *world) Flush(string) error         { return nil }
func (w *world) Number(string) string       { return "" }
func (w *world) Exclusive(node string) error {
	if filepath.Base(node) == w.held {
		return scsi.ErrHeld
	}
	return nil
}

func (w *world) Watch() (*uevent.Watch, error) {
	watch, _ := uevent.Fed()
	return watch, nil
}

func (w *world) maps(h *Host) string {
	maps, err := h.Maps()
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, m := range maps {
		out = append(out, m.Name+" on "+m.Below)
	}
	return strings.Join(out, ", ")
}

func reason(err error) connector.Reason {
	var e *connector.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func TestOpenAndClose(t *testing.T) {
	for _, c := range []struct {
		cipher connector.Cipher
		data   []byte
		call   string
	}{
		{connector.Cipher{Format: FormatLUKS, Key: key}, fixture(t, "luks1.header"), "cryptsetup open --type luks1 --key-file=- -- /dev/sdb crypt-" + volumeID},
		{connector.Cipher{Format: FormatLUKS2, Key: key}, fixture(t, "luks2.header"), "cryptsetup open --type luks2 --key-file=- -- /dev/sdb crypt-" + volumeID},
		{connector.Cipher{Format: FormatPlain, Cipher: "aes-xts-plain64", KeySize: 256, Key: key}, nil,
			"cryptsetup open --type plain --key-file=- --cipher aes-xts-plain64 --key-size 256 -- /dev/sdb crypt-" + volumeID},
	} {
		t.Run(c.cipher.Format, func(t *testing.T) {
			w, h := newWorld(t)
			below := connector.Device{Path: w.begins("sdb", c.data), Format: "raw", Identity: "naa.6", Bytes: 32 << 20}
			want := connector.Device{Path: w.path("dev/mapper/crypt-" + volumeID), Format: "raw", Identity: "naa.6", Bytes: 30 << 20,
				Crypt: "crypt-" + volumeID, Below: below.Path}
			for range 2 { // the second time it is there
				got, err := h.Open(t.Context(), volumeID, below, c.cipher)
				if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("got %+v, %v; want %+v", got, err, want)
				}
			}
			if len(w.calls) != 1 || w.calls[0] != c.call || w.input != key {
				t.Errorf("calls %q, input %q", w.calls, w.input)
			}
			for range 2 { // the second time it is gone
				if err := h.Close(t.Context(), volumeID); err != nil {
					t.Fatal(err)
				}
			}
			if got := w.maps(h); got != "" || len(w.calls) != 2 || w.calls[1] != "cryptsetup close -- crypt-"+volumeID {
				t.Errorf("maps %q, calls %q", got, w.calls)
			}
		})
	}
}

// TestOpenAfterCrash: a map of the volume's name that is made of something else is closed, and the right one is opened; but not while it is held.
func TestOpenAfterCrash(t *testing.T) {
	two := fixture(t, "luks2.header")
	right := "CRYPT-LUKS2-844ef3b78146493cb324f5fda1f92cd1-crypt-" + volumeID
	for _, c := range []struct {
		name, uuid, below string
		calls             int
	}{
		{"the right one", right, "sdb", 0},
		{"another device", right, "sdc", 2},
		{"a device that is gone", right, "", 2},
		{"another header", strings.Replace(right, "844e", "0000", 1), "sdb", 2},
		{"another type", "CRYPT-PLAIN-crypt-" + volumeID, "sdb", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, h := newWorld(t)
			dev := connector.Device{Path: w.begins("sdb", two)}
			w.addMap("crypt-"+volumeID, c.uuid, c.below)
			w.addMap("crypt-"+otherID, c.uuid, "sdc")
			if c.calls > 0 {
				w.held = "dm-0"
				_, err := h.Open(t.Context(), volumeID, dev, connector.Cipher{Format: FormatLUKS2, Key: key})
				if reason(err) != connector.InUse || len(w.calls) != 0 {
					t.Fatalf("held: %v, %q", err, w.calls)
				}
				w.held = ""
			}
			_, err := h.Open(t.Context(), volumeID, dev, connector.Cipher{Format: FormatLUKS2, Key: key})
			if err != nil || len(w.calls) != c.calls || !strings.Contains(w.maps(h), "crypt-"+volumeID+" on sdb") || !strings.Contains(w.maps(h), "crypt-"+otherID+" on sdc") {
				t.Errorf("%v, calls %q, maps %s", err, w.calls, w.maps(h))
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	luks := connector.Cipher{Format: FormatLUKS, Key: key}
	plain := connector.Cipher{Format: FormatPlain, Key: key}
	one := fixture(t, "luks1.header")
	for _, c := range []struct {
		name   string
		id     string
		data   []byte
		cipher connector.Cipher
		fail   int
		held   string
		reason connector.Reason
		want   string
	}{
		{"a wrong key", volumeID, one, luks, exitNoPermission, "", connector.AuthFailed, "the volume's key does not open it"},
		{"a blank volume", volumeID, nil, luks, 0, "", connector.InvalidInfo, "is blank"},
		{"a volume with data", volumeID, []byte("data"), luks, 0, "", connector.InvalidInfo, "is foreign"},
		{"plain over LUKS", volumeID, one, plain, 0, "", connector.InvalidInfo, "LUKS header"},
		{"a damaged header", volumeID, patched(one, 7, 9), luks, 0, "", "", "damaged"},
		{"held by another", volumeID, one, luks, 0, "sdb", connector.InUse, "held"},
		{"an ID that is a path", "../" + volumeID, one, luks, 0, "", connector.InvalidInfo, "UUID"},
		{"an ID in another form", strings.ToUpper(volumeID), one, luks, 0, "", connector.InvalidInfo, "UUID"},
		{"no key", volumeID, one, connector.Cipher{Format: FormatLUKS}, 0, "", connector.InvalidInfo, "key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, h := newWorld(t)
			w.fail, w.held = c.fail, c.held
			got, err := h.Open(t.Context(), c.id, connector.Device{Path: w.begins("sdb", c.data)}, c.cipher)
			if err == nil || reason(err) != c.reason || !strings.Contains(err.Error(), c.want) || got.Path != "" || strings.Contains(err.Error(), key) {
				t.Errorf("got %+v, %v; want %s, %q", got, err, c.reason, c.want)
			}
			if w.maps(h) != "" || c.fail == 0 && len(w.calls) != 0 {
				t.Errorf("maps %s, calls %q", w.maps(h), w.calls)
			}
		})
	}
	w, h := newWorld(t)
	if _, err := h.Open(t.Context(), volumeID, connector.Device{Path: w.path("dev/sdz")}, luks); reason(err) != connector.NoDevice {
		t.Errorf("no device: %v", err)
	}
}

func TestCloseRefuses(t *testing.T) {
	w, h := newWorld(t)
	w.addMap("crypt-"+volumeID, "CRYPT-LUKS1-x", "sdb")
	w.addMap("crypt-"+otherID, "mpath-x", "sdc")
	w.held = "dm-0"
	if err := h.Close(t.Context(), volumeID); reason(err) != connector.InUse || len(w.calls) != 0 {
		t.Errorf("held: %v", err)
	}
	w.held, w.fail = "", exitBusy // somebody came between
	if err := h.Close(t.Context(), volumeID); reason(err) != connector.InUse {
		t.Errorf("busy: %v", err)
	}
	w.fail = exitWrongDevice // somebody else closed it
	if err := h.Close(t.Context(), volumeID); err != nil {
		t.Errorf("gone: %v", err)
	}
	if err := h.Close(t.Context(), otherID); reason(err) != connector.InUse || !strings.Contains(err.Error(), "none of cryptsetup's") {
		t.Errorf("another's map: %v", err)
	}
	if err := h.Close(t.Context(), "x"); reason(err) != connector.InvalidInfo {
		t.Errorf("no ID: %v", err)
	}
}

func TestResize(t *testing.T) {
	w, h := newWorld(t)
	cipher := connector.Cipher{Format: FormatLUKS2, Key: key}
	if _, err := h.Resize(t.Context(), volumeID, connector.Device{}, cipher); reason(err) != connector.NoDevice {
		t.Errorf("not open: %v", err)
	}
	w.addMap("crypt-"+volumeID, "CRYPT-LUKS2-x", "sdb")
	got, err := h.Resize(t.Context(), volumeID, connector.Device{Below: "/dev/sdb", Bytes: 1}, cipher)
	if err != nil || got.Bytes != 30<<20 || got.Path != w.path("dev/mapper/crypt-"+volumeID) || got.Below != "/dev/sdb" || w.input != key {
		t.Errorf("got %+v, %v", got, err)
	}
	if len(w.calls) != 1 || w.calls[0] != "cryptsetup resize --key-file=- -- crypt-"+volumeID {
		t.Errorf("%q", w.calls)
	}
}
