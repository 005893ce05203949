// Package target runs storage servers for tests: an iSCSI target (tgtd) and NBD servers (qemu-nbd), on loopback addresses, as processes of the test that end with
// it and leave nothing behind.
package target

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ISCSI is a tgtd of its own: no other of this host is touched.
type ISCSI struct {
	Portal string // host:port
	dir    string
	tids   map[string]int
	users  map[string]bool
}

// LUN is one logical unit of an ISCSI.
type LUN struct {
	IQN    string
	Number int    // from 1: tgtd's controller is 0
	File   string // that holds its contents
	// SCSIID is the T10 designator of its page 83h, and Serial page 80h: who it says it is. Empty for tgtd's own, which is made of target and number.
	SCSIID, Serial string
}

// StartISCSI starts a target without LUNs at a free port of 127.0.0.1. The test ends it.
func StartISCSI(t testing.TB) *ISCSI {
	t.Helper()
	dir, err := os.MkdirTemp("", "tgt-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &ISCSI{Portal: freePort(t), dir: dir, tids: map[string]int{}, users: map[string]bool{}}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("tgtd", "-f", "--iscsi", "portal="+s.Portal)
	cmd.Env = s.env()
	cmd.Stdout, cmd.Stderr = log, log
	start(t, cmd)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out, err := s.admin("--mode", "sys", "--op", "show")
		if err == nil && strings.Contains(out, s.Portal) || err == nil && answers(s.Portal) {
			return s
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("tgtd does not answer: %v: %s; it said: %s", err, out, said)
		}
	}
}

func answers(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// start starts a server that is killed when the test ends, or dies.
func start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, ended := make(chan error), make(chan struct{})
	go func() { // the kernel ties the death signal to the thread that started the process, and this one lives as long
		runtime.LockOSThread()
		started <- cmd.Start()
		if cmd.Process != nil {
			_ = cmd.Wait()
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
}

// freePort is an address of 127.0.0.1 where nobody listens.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (s *ISCSI) env() []string {
	return []string{"TGT_IPC_SOCKET=" + filepath.Join(s.dir, "socket"), "PATH=" + os.Getenv("PATH")}
}

// admin runs tgtadm.
func (s *ISCSI) admin(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "tgtadm", append([]string{"--lld", "iscsi"}, args...)...)
	cmd.Env = s.env()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *ISCSI) must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.admin(args...)
	if err != nil {
		t.Fatalf("tgtadm %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// tid is the number of the target, which is made where it is not there yet.
func (s *ISCSI) tid(t testing.TB, iqn string) string {
	t.Helper()
	if n, ok := s.tids[iqn]; ok {
		return strconv.Itoa(n)
	}
	s.tids[iqn] = len(s.tids) + 1
	id := strconv.Itoa(s.tids[iqn])
	s.must(t, "--mode", "target", "--op", "new", "--tid", id, "-T", iqn)
	s.must(t, "--mode", "target", "--op", "bind", "--tid", id, "-I", "ALL")
	return id
}

// Add makes a LUN, and its target where that is new.
func (s *ISCSI) Add(t testing.TB, l LUN) {
	t.Helper()
	id, number := s.tid(t, l.IQN), strconv.Itoa(l.Number)
	s.must(t, "--mode", "logicalunit", "--op", "new", "--tid", id, "--lun", number, "-b", l.File)
	var params []string
	if l.SCSIID != "" {
		params = append(params, "scsi_id="+l.SCSIID)
	}
	if l.Serial != "" {
		params = append(params, "scsi_sn="+l.Serial)
	}
	if len(params) > 0 {
		s.must(t, "--mode", "logicalunit", "--op", "update", "--tid", id, "--lun", number, "--params", strings.Join(params, ","))
	}
}

// Remove takes a LUN away; its target stays.
func (s *ISCSI) Remove(t testing.TB, iqn string, number int) {
	t.Helper()
	s.must(t, "--mode", "logicalunit", "--op", "delete", "--tid", s.tid(t, iqn), "--lun", strconv.Itoa(number))
}

// Login lets only this user into a target.
func (s *ISCSI) Login(t testing.TB, iqn, user, password string) {
	t.Helper()
	if !s.users[user] {
		s.users[user] = true
		s.must(t, "--mode", "account", "--op", "new", "--user", user, "--password", password)
	}
	s.must(t, "--mode", "account", "--op", "bind", "--tid", s.tid(t, iqn), "--user", user)
}

// Sessions lists who is logged in, as "iqn of the target, iqn of the initiator".
func (s *ISCSI) Sessions(t testing.TB) []string {
	t.Helper()
	var target string
	var out []string
	for line := range strings.Lines(s.must(t, "--mode", "target", "--op", "show")) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "Target "); ok {
			_, target, _ = strings.Cut(name, ": ")
		}
		if name, ok := strings.CutPrefix(line, "Initiator: "); ok {
			name, _, _ = strings.Cut(name, " ")
			out = append(out, fmt.Sprintf("%s, %s", target, name))
		}
	}
	return out
}

// Blank makes a file of so many bytes in a directory that QEMU's user may read.
func Blank(t testing.TB, bytes int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "compute-agent-target-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "volume")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, bytes); err != nil {
		t.Fatal(err)
	}
	return file
}
