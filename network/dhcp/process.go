package dhcp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a dnsmasq of the agent's, started by this agent or by one before it. It is held by a pidfd, so that no other process is ever
// taken for it.
type process struct {
	pid  int
	conf string // the path of its --conf-file
	fd   *os.File
	gone chan struct{} // closed when it has ended
	left chan struct{} // closed when nobody waits for it any more
}

const confArgument = "--conf-file="

// find are the running dnsmasqs whose configuration is below dir. A dnsmasq forks for TCP; those are left out.
func find(proc, dir string, uid int) ([]*process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var out []*process
	parents := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || readConf(proc, pid, dir, uid) == "" {
			continue
		}
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			continue // it has ended
		}
		conf := readConf(proc, pid, dir, uid) // what it is, now that nothing else can become it
		if conf == "" {
			_ = unix.Close(fd)
			continue
		}
		parents[pid] = parentOf(proc, pid)
		out = append(out, &process{pid: pid, conf: conf, fd: os.NewFile(uintptr(fd), "pidfd"), gone: make(chan struct{}), left: make(chan struct{})})
	}
	var main []*process
	for _, p := range out {
		if _, forked := parents[parents[p.pid]]; forked {
			_ = p.fd.Close()
			continue
		}
		main = append(main, p)
	}
	return main, nil
}

// readConf is the path of a dnsmasq's configuration below dir; empty for any other process, and for one of another user, who can
// call a process what he likes.
func readConf(proc string, pid int, dir string, uid int) string {
	at := filepath.Join(proc, strconv.Itoa(pid))
	text, err := os.ReadFile(filepath.Join(at, "cmdline"))
	if err != nil {
		return ""
	}
	args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	if len(args) != 2 || filepath.Base(args[0]) != program {
		return ""
	}
	conf, ok := strings.CutPrefix(args[1], confArgument)
	if !ok || !strings.HasPrefix(conf, dir+"/") {
		return ""
	}
	info, err := os.Stat(at)
	if err != nil {
		return ""
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || owner.Uid != 0 && int(owner.Uid) != uid {
		return ""
	}
	return conf
}

// parentOf is the process's parent, from the fourth field of its stat; the second may hold anything, in brackets.
func parentOf(proc string, pid int) int {
	text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// wait returns when the process has ended (true) or was let go of.
func (p *process) wait() bool {
	defer close(p.left)
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return false
	}
	err = conn.Read(func(fd uintptr) bool {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, 0)
		return n > 0 && err == nil
	})
	if err != nil {
		return false
	}
	close(p.gone)
	return true
}

// letGo ends wait, and leaves the process running.
func (p *process) letGo() {
	_ = p.fd.Close()
	<-p.left
}

func (p *process) signal(s unix.Signal) error {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil // it has ended, which wait tells
	}
	return sent
}

const stopWithin = 5 * time.Second

// stop ends the process.
func (p *process) stop(ctx context.Context) error {
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := p.signal(s); err != nil {
			return fmt.Errorf("%s %d: signal %s: %w", program, p.pid, s, err)
		}
		patience, cancel := context.WithTimeout(ctx, stopWithin)
		select {
		case <-p.gone:
			cancel()
			return nil
		case <-patience.Done():
			cancel()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s %d does not end", program, p.pid)
}

// inode tells namespaces apart.
type inode struct{ dev, ino uint64 }

func inodeOf(path string) (inode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return inode{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, fs.ErrInvalid
	}
	return inode{stat.Dev, stat.Ino}, nil
}
