// Package command runs the host's programs: without a shell, in a clean environment, with bounded
// output, and never past the end of their context.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Runner runs programs. Exec is the real one; tests put their own in its place.
type Runner interface {
	// Run runs the program to its end and returns what it wrote to its standard output. Any
	// exit code but zero is an *Error. When ctx ends first the program is killed with all that it
	// started, and the error wraps the context's.
	Run(ctx context.Context, c Cmd) ([]byte, error)
}

// Cmd is a program with what it is given.
type Cmd struct {
	Name  string   // a name to be found in PATH, or an absolute path
	Args  []string // without the name
	Dir   string   // working directory; empty for the agent's own
	Stdin io.Reader
	// Env are more variables of the environment, as NAME=value. Only the program's own user and root can read them.
	Env []string
	// Limits bounds what the program may use, for programs that read hostile input.
	Limits Limits
	// Nobody runs the program as user nobody if the agent is root: for programs that read hostile
	// input through their standard input and need no other file.
	Nobody bool
	// MaxOutput bounds the standard output in bytes; more is an error. Zero means 1 MiB.
	MaxOutput int
	// Secret says that the arguments, the input or Env hold a secret, which the program may repeat: its
	// standard error is then left out of the error.
	Secret bool
}

// Limits are resource limits of a process (setrlimit(2)). Zero leaves one as it is.
type Limits struct {
	AddressSpace uint64        // bytes
	CPU          time.Duration // rounded up to seconds; the program is killed when it is used up
}

// Error is a program that did not do its work.
type Error struct {
	Program  string
	ExitCode int    // -1 if it never started or died of a signal
	Stderr   string // the last line of its standard error
	Err      error
}

// Error returns "program: cause: last line of standard error".
func (e *Error) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("%s: %v", e.Program, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Program, e.Err, e.Stderr)
}

// Unwrap returns the cause: the context's error, an *exec.ExitError, or why it did not start.
func (e *Error) Unwrap() error { return e.Err }

// ErrOutput is the cause when a program wrote more than its MaxOutput.
var ErrOutput = errors.New("wrote more than expected")

const (
	defaultMaxOutput = 1 << 20
	maxStderr        = 4 << 10
	nobody           = 65534 // user nobody and group nogroup on Linux
	// afterKill is how long a killed program's pipes may stay open, held by a process that left
	// its group.
	afterKill = 2 * time.Second
)

// Exec runs programs on this host.
type Exec struct{}

// Run implements Runner.
func (Exec) Run(ctx context.Context, c Cmd) ([]byte, error) {
	path, err := exec.LookPath(c.Name)
	if err != nil {
		return nil, &Error{Program: c.Name, ExitCode: -1, Err: errors.Unwrap(err)}
	}
	stdout := &head{left: c.MaxOutput}
	if c.MaxOutput == 0 {
		stdout.left = defaultMaxOutput
	}
	stderr := &tail{max: maxStderr}
	cmd := c.build(ctx, path)
	cmd.Stdout, cmd.Stderr = stdout, stderr

	// The kernel ties the parent-death signal to the thread that forked, not to the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	switch {
	case stdout.over:
		err = ErrOutput
	case err == nil:
		return stdout.data, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	failure := &Error{Program: c.Name, ExitCode: -1, Err: err}
	if cmd.ProcessState != nil {
		failure.ExitCode = cmd.ProcessState.ExitCode()
	}
	if !c.Secret {
		failure.Stderr = stderr.lastLine()
	}
	return nil, failure
}

// build makes the process: in a group of its own that dies with the context, and killed by the
// kernel if the agent dies, so that no program of a dead agent writes to a live one's files.
func (c Cmd) build(ctx context.Context, path string) *exec.Cmd {
	args := c.Args
	if limits := c.Limits.options(); limits != nil {
		args = append(append(limits, "--", path), args...)
		path = "prlimit"
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = c.Dir
	cmd.Stdin = c.Stdin
	cmd.Env = append([]string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}, c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if c.Nobody && os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = afterKill
	return cmd
}

// options are the limits in the words of prlimit(1), which sets them on itself before it becomes
// the program; set from here they would come after the program's first steps.
func (l Limits) options() []string {
	var out []string
	if l.AddressSpace > 0 {
		out = append(out, "--as="+strconv.FormatUint(l.AddressSpace, 10))
	}
	if l.CPU > 0 {
		seconds := (l.CPU + time.Second - 1) / time.Second
		out = append(out, "--cpu="+strconv.FormatInt(int64(seconds), 10))
	}
	return out
}

// head keeps what is written until it is more than left bytes.
type head struct {
	data []byte
	left int
	over bool
}

func (h *head) Write(p []byte) (int, error) {
	if len(p) > h.left {
		h.over = true
		return 0, ErrOutput
	}
	h.left -= len(p)
	h.data = append(h.data, p...)
	return len(p), nil
}

// tail keeps the last max bytes written.
type tail struct {
	data []byte
	max  int
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p[max(0, len(p)-t.max):]...)
	t.data = t.data[max(0, len(t.data)-t.max):]
	return len(p), nil
}

func (t *tail) lastLine() string {
	text := strings.TrimSpace(string(t.data))
	if i := strings.LastIndexAny(text, "\r\n"); i >= 0 {
		text = text[i+1:]
	}
	return strings.ToValidUTF8(text, "?")
}
