package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// screenshot runs the program without a terminal.
func screenshot(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := &exec.Cmd{Path: self, Args: append([]string{programName, "console", "screenshot"}, args...), Stdout: &stdout, Stderr: &stderr,
		Env: append(os.Environ(), "COMPUTE_AGENT_CONFIG="+os.DevNull)}
	_ = cmd.Run() // the code says it
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

func TestConsoleScreenshot(t *testing.T) {
	const picture = "\x89PNG"
	state, asked := consoleHost(t)
	file := filepath.Join(t.TempDir(), "screen.png")
	if err := os.WriteFile(file, []byte("an older and longer picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, says, code := screenshot(t, "one", "-o", file, "--state-dir", state); code != 0 {
		t.Fatalf("exit code %d: %s", code, says)
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != picture {
		t.Errorf("the file has %q, %v", got, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the file: %v, %v", info, err)
	}
	if asked.String() != "screenshot=full" {
		t.Errorf("asked for %s", asked)
	}
	if out, says, code := screenshot(t, "one", "-o", "-", "--state-dir", state); out != picture || code != 0 {
		t.Errorf("exit code %d, %q: %s", code, out, says)
	}
}

func TestConsoleScreenshotRefuses(t *testing.T) {
	state, _ := consoleHost(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "screen.png")
	for _, c := range []struct {
		args []string
		says string
		code int
	}{
		{[]string{"one"}, `required flag(s) "output" not set`, exitUsage},
		{[]string{"three", "-o", file}, `no server has the name "three"`, exitFailed},
		{[]string{"blind", "-o", file}, "server blind has no screen", exitFailed},
		{[]string{"one", "-o", filepath.Join(dir, "none", "screen.png")}, "--output: open", exitFailed},
		{[]string{"one", "-o", dir}, "--output: rename", exitFailed},
	} {
		_, says, code := screenshot(t, append(c.args, "--state-dir", state)...)
		if !strings.Contains(says, c.says) || code != c.code {
			t.Errorf("%v: exit code %d, want %d: %s", c.args, code, c.code, says)
		}
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if left, err := filepath.Glob(filepath.Join(d, ".*")); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}
