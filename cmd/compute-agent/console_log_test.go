package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"compute-agent/compute"
)

// logOf is the program with a log of the server one, and what the log has.
func logOf(t *testing.T, text string) (path string, program func(args ...string) *exec.Cmd) {
	t.Helper()
	state, _ := consoleHost(t)
	path = compute.FilesIn(filepath.Join(state, instancesDir), "", compute.Server{ID: "id-1"}).ConsoleLog
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path, func(args ...string) *exec.Cmd {
		return &exec.Cmd{Path: self, Args: append([]string{programName, "console", "log", "--state-dir", state}, args...),
			Env: append(os.Environ(), "COMPUTE_AGENT_CONFIG="+os.DevNull)}
	}
}

func TestConsoleLog(t *testing.T) {
	path, program := logOf(t, "new\x1b[31m\nnewest\n")
	if err := os.WriteFile(path+".0", []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		out  string
		says string
		code int
	}{
		{[]string{"one"}, "old\nnew\x1b[31m\nnewest\n", "", 0},
		{[]string{"one", "--lines", "1"}, "newest\n", "", 0},
		{[]string{"one", "--offset", "2"}, "d\nnew\x1b[31m\nnewest\n", "", 0},
		{[]string{"one", "--offset", "100"}, "", "", 0},
		{[]string{"one", "--offset", "-1"}, "", "--offset -1: must not be below 0", exitUsage},
		{[]string{"one", "--offset", "1", "--lines", "1"}, "", "[lines offset]", exitUsage},
		{[]string{"three"}, "", `no server has the name "three"`, exitFailed},
		{[]string{"blind"}, "", "there is no console log at", exitFailed},
	} {
		cmd := program(c.args...)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		_ = cmd.Run() // the code says it
		if out.String() != c.out || !strings.Contains(errOut.String(), c.says) || cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("%v: exit code %d, %q: %s", c.args, cmd.ProcessState.ExitCode(), out.String(), errOut.String())
		}
	}
}

func TestConsoleLogFollows(t *testing.T) {
	for name, end := range map[string]func(path string, program *os.Process) error{
		"until the server is deleted": func(path string, _ *os.Process) error { return os.RemoveAll(filepath.Dir(path)) },
		"until it is interrupted":     func(_ string, program *os.Process) error { return program.Signal(syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			path, program := logOf(t, "first\n")
			cmd := program("-f", "one")
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			awaitText(t, out, "first\n")
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err == nil {
				_, err = f.WriteString("second\n")
				_ = f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			awaitText(t, out, "second\n")
			if err := end(path, cmd.Process); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What the guest wrote does nothing to the operator's terminal.
func TestConsoleLogOnTerminal(t *testing.T) {
	_, program := logOf(t, "a\x1b]0;title\x07\x1b[31mb\n")
	for raw, want := range map[string]string{"--raw=false": "ab\r\n", "--raw": "a\x1b]0;title\x07\x1b[31mb\r\n"} {
		user, _ := onTerminal(t, program(raw, "one"))
		got, _ := io.ReadAll(user) // until the program has ended, which is an error of the terminal
		if string(got) != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}
