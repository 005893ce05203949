package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name string
		cmd  Cmd
		want string
	}{
		{"output", Cmd{Name: "printf", Args: []string{"%s|", "a b", "$HOME;`id`"}}, "a b|$HOME;`id`|"},
		{"input", Cmd{Name: "cat", Stdin: strings.NewReader("hello")}, "hello"},
		{"directory", Cmd{Name: "pwd", Dir: "/"}, "/\n"},
		{"environment", Cmd{Name: "/bin/sh", Args: []string{"-c", "echo $LC_ALL $SECRET_OF_THE_AGENT"}}, "C\n"},
		{"more environment", Cmd{Name: "/bin/sh", Args: []string{"-c", "echo $LC_ALL $MORE"}, Env: []string{"MORE=a b"}}, "C a b\n"},
		{"exactly the limit", Cmd{Name: "printf", Args: []string{"1234"}, MaxOutput: 4}, "1234"},
		{"limits", Cmd{Name: "/bin/sh", Args: []string{"-c", "ulimit -v; ulimit -t"},
			Limits: Limits{AddressSpace: 1 << 30, CPU: 1500 * time.Millisecond}}, "1048576\n2\n"},
		{"nobody", Cmd{Name: "id", Args: []string{"-u"}, Nobody: true}, nobodyOrSelf()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("SECRET_OF_THE_AGENT", "leaked")
			got, err := Exec{}.Run(t.Context(), c.cmd)
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	for _, c := range []struct {
		name string
		cmd  Cmd
		code int
		want string
		is   error
	}{
		{"exit code and last line", Cmd{Name: "sh", Args: []string{"-c", "echo first >&2; echo second >&2; exit 3"}},
			3, "sh: exit status 3: second", nil},
		{"no such program", Cmd{Name: "no-such-program"}, -1, "no-such-program: executable file not found in $PATH", exec.ErrNotFound},
		{"no such program under limits", Cmd{Name: "/no/such", Limits: Limits{CPU: time.Second}}, -1, "/no/such: stat /no/such: no such file or directory", fs.ErrNotExist},
		{"too much output", Cmd{Name: "cat", Args: []string{"/dev/zero"}, MaxOutput: 10}, -1, "cat: " + ErrOutput.Error(), ErrOutput},
		{"secret", Cmd{Name: "sh", Args: []string{"-c", "echo password >&2; exit 1"}, Secret: true}, 1, "sh: exit status 1", nil},
		{"died of a signal", Cmd{Name: "sh", Args: []string{"-c", "kill -9 $$"}}, -1, "sh: signal: killed", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := Exec{}.Run(t.Context(), c.cmd)
			var failure *Error
			if !errors.As(err, &failure) {
				t.Fatalf("got %q, %v; want an *Error", out, err)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v does not wrap %v", err, c.is)
			}
			// A program that writes too much dies of its broken pipe, with or without a code of its own.
			if !errors.Is(c.is, ErrOutput) && failure.ExitCode != c.code {
				t.Errorf("exit code %d, want %d", failure.ExitCode, c.code)
			}
			if !strings.HasPrefix(err.Error(), c.want) || (c.cmd.Secret && strings.Contains(err.Error(), "password")) {
				t.Errorf("message %q, want %q", err, c.want)
			}
		})
	}
}

func TestContextKillsTheWholeGroup(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Exec{}.Run(ctx, Cmd{Name: "sh", Args: []string{"-c", "sh -c 'echo $$; exec sleep 1000' > \"$0\"; true", fifo}})
		done <- err
	}()
	// The grandchild holds the fifo open while it lives: reading to the end waits for its death.
	in, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	line := make([]byte, 16)
	if _, err := in.Read(line); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if n, err := in.Read(line); n != 0 || err == nil {
		t.Errorf("the grandchild still holds its output: %d bytes, %v", n, err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	tl := &tail{max: 8}
	for _, s := range []string{"abc\n", "a long line that goes", " on\r\nend\n"} {
		if n, err := tl.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := tl.lastLine(); got != "end" {
		t.Errorf("last line %q", got)
	}
	if len(tl.data) > 8 {
		t.Errorf("keeps %d bytes", len(tl.data))
	}
}

// nobodyOrSelf is the user that id prints under Nobody: only root can become another.
func nobodyOrSelf() string {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Sprintln(uid)
	}
	return fmt.Sprintln(nobody)
}
