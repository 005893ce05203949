package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

// mounts stands for mount(8) and umount(8) of a kernel without NFS: it keeps a table of mounts and what was run. What an export holds is put into the
// directory when it is mounted.
type mounts struct {
	proc  string
	table map[string]string // where: what
	files map[string]string // of every export
	busy  bool
	fail  error
	seal  error
	seals []string // exports
	ran   []string
}

func newNFS(t *testing.T) (*NFS, *mounts) {
	t.Helper()
	dir := t.TempDir()
	m := &mounts{proc: filepath.Join(dir, "proc"), table: map[string]string{}, files: map[string]string{"volume-1": "12345678", "volume-2": "1234"}}
	if err := os.MkdirAll(filepath.Join(m.proc, "self"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.write()
	answer := func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		_ = server.Close()
		return client, nil
	}
	return &NFS{Run: m, Base: filepath.Join(dir, "mnt"), Options: "soft", Users: filepath.Join(dir, "users"), Proc: m.proc, Dial: answer, Seal: m.sealed}, m
}

func (m *mounts) write() {
	text := "22 27 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n"
	for where, what := range m.table {
		text += fmt.Sprintf("90 27 0:50 / %s rw,relatime shared:50 - nfs4 %s rw,vers=4.2\n", where, what)
	}
	if err := os.WriteFile(filepath.Join(m.proc, "self/mountinfo"), []byte(text), 0o600); err != nil {
		panic(err)
	}
}

func (m *mounts) sealed(dir string) error {
	m.seals = append(m.seals, m.table[dir])
	return m.seal
}

// Run implements command.Runner.
func (m *mounts) Run(_ context.Context, c command.Cmd) ([]byte, error) {
	m.ran = append(m.ran, c.Name+" "+strings.Join(c.Args[:len(c.Args)-1], " "))
	where := c.Args[len(c.Args)-1]
	switch {
	case m.fail != nil:
		return nil, m.fail
	case c.Name == "umount" && m.busy:
		return nil, &command.Error{Program: c.Name, ExitCode: 32, Err: errors.New("exit status 32"), Stderr: "umount: target is busy."}
	case c.Name == "umount":
		delete(m.table, where)
		for name := range m.files {
			_ = os.RemoveAll(filepath.Join(where, name))
		}
	default:
		m.table[where] = c.Args[len(c.Args)-2]
		for name, text := range m.files {
			if err := os.WriteFile(filepath.Join(where, name), []byte(text), 0o600); err != nil {
				return nil, err
			}
		}
	}
	m.write()
	return nil, nil
}

func nfsInfo(name, options string) connector.Info {
	return connector.Info{Type: connector.NFS, NFS: &connector.NFSInfo{Export: "server:/vol/a", Name: name, Options: options}}
}

// TestNFSExportIsMountedOnce: for two volumes of an export, and until the last of them goes, also when the agent restarts in between.
func TestNFSExportIsMountedOnce(t *testing.T) {
	c, m := newNFS(t)
	one, two := nfsInfo("volume-1", "vers=4.1"), nfsInfo("volume-2", "")
	dev, err := c.Connect(t.Context(), one, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(c.dir(*one.NFS), "volume-1"); dev.Path != want || dev.Bytes != 8 || dev.Format != "raw" || dev.Identity != "" {
		t.Errorf("device %+v, want %s", dev, want)
	}
	for range 2 {
		if _, err := c.Connect(t.Context(), two, ""); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"mount -t nfs -o nosuid,nodev,noexec,soft,vers=4.1 -- server:/vol/a"}; !slices.Equal(m.ran, want) {
		t.Errorf("ran %q, want %q", m.ran, want)
	}
	again := &NFS{Run: m, Base: c.Base, Users: c.Users, Proc: c.Proc, Dial: c.Dial, Seal: c.Seal}
	for range 2 {
		if err := again.Disconnect(t.Context(), one, dev); err != nil {
			t.Fatal(err)
		}
		if len(m.table) != 1 {
			t.Fatal("the export is gone, and a volume uses it")
		}
	}
	for range 2 {
		if err := again.Disconnect(t.Context(), two, connector.Device{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.table) != 0 {
		t.Errorf("mounts are left: %v", m.table)
	}
	for _, dir := range []string{c.Base, c.Users} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%s has %v, %v", dir, left, err)
		}
	}
}

func TestNFSBusyExportStays(t *testing.T) {
	c, m := newNFS(t)
	info := nfsInfo("volume-1", "")
	if _, err := c.Connect(t.Context(), info, ""); err != nil {
		t.Fatal(err)
	}
	m.busy = true
	isReason(t, c.Disconnect(t.Context(), info, connector.Device{}), connector.InUse, "busy", "server:/vol/a")
	m.busy = false
	if err := c.Disconnect(t.Context(), info, connector.Device{}); err != nil || len(m.table) != 0 {
		t.Errorf("a second time: %v, mounts %v", err, m.table)
	}
}

func TestNFSRefusals(t *testing.T) {
	for name, c2 := range map[string]struct {
		sabotage func(*testing.T, *NFS, *mounts)
		info     connector.Info
		reason   connector.Reason
		says     string
	}{
		"file not there": {nil, nfsInfo("volume-3", ""), connector.NoDevice, "volume-3"},
		"file empty":     {func(_ *testing.T, _ *NFS, m *mounts) { m.files["empty"] = "" }, nfsInfo("empty", ""), connector.BadSize, "empty"},
		"mount fails": {func(_ *testing.T, _ *NFS, m *mounts) {
			m.fail = &command.Error{Program: "mount", ExitCode: 32, Err: errors.New("access denied")}
		}, nfsInfo("volume-1", ""), connector.Unreachable, "cannot be mounted"},
		"server does not answer": {func(_ *testing.T, c *NFS, _ *mounts) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
		}, nfsInfo("volume-1", ""), connector.Unreachable, "server:2049"},
		"server at another port": {func(_ *testing.T, c *NFS, _ *mounts) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
		}, nfsInfo("volume-1", "vers=4,port=20049"), connector.Unreachable, "server:20049"},
		"another's mount": {func(t *testing.T, c *NFS, m *mounts) {
			dir := c.dir(*nfsInfo("", "").NFS)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			m.table[dir] = "elsewhere:/x"
			m.write()
		}, nfsInfo("volume-1", ""), connector.InUse, "elsewhere:/x"},
	} {
		t.Run(name, func(t *testing.T) {
			c, m := newNFS(t)
			if c2.sabotage != nil {
				c2.sabotage(t, c, m)
			}
			foreign := len(m.table)
			_, err := c.Connect(t.Context(), c2.info, "")
			isReason(t, err, c2.reason, c2.says)
			if len(m.table) != foreign {
				t.Errorf("mounts are left: %v", m.table)
			}
			if left, err := os.ReadDir(c.Users); err != nil || len(left) != 0 {
				t.Errorf("users are left: %v, %v", left, err)
			}
		})
	}
}

// TestNFSFollowsNoLink: a server may put a link in the place of a file at any time, also between the look at it and the hypervisor's open.
func TestNFSFollowsNoLink(t *testing.T) {
	c, m := newNFS(t)
	m.seal = unix.EINVAL
	var refused *connector.Error
	_, err := c.Connect(t.Context(), nfsInfo("volume-1", ""), "")
	if !errors.As(err, &refused) || refused.Reason != connector.Unsupported || len(m.table) != 0 {
		t.Errorf("%v, %v is mounted", err, m.table)
	}
	m.seal, m.seals = nil, nil
	for _, name := range []string{"volume-1", "volume-2"} { // the second finds it mounted, as an earlier agent may have
		if _, err := c.Connect(t.Context(), nfsInfo(name, ""), ""); err != nil {
			t.Fatal(err)
		}
	}
	if export := "server:/vol/a"; !slices.Equal(m.seals, []string{export, export}) {
		t.Errorf("sealed are %q", m.seals)
	}
}
