// Package inside helps tests that run in the lab's machine: it runs the agent, uses its API as a user
// would, and looks at guests past the agent's back.
package inside

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	program   = "/lab/compute-agent"
	tinyGuest = "/lab/tiny.qcow2"
	listen    = "127.0.0.1:8774"
	// patience is for whatever the agent does that takes seconds: emulation is slow, and more so on a busy
	// machine.
	patience = 3 * time.Minute
)

// Agent is a running agent that has an image of the tiny guest.
type Agent struct {
	*process
	t     testing.TB
	dir   string
	image string // ID
}

// process is the agent's, which may be killed and started again.
type process struct {
	cmd     *exec.Cmd
	ended   chan error // how it ended
	log     *log
	token   string
	earlier strings.Builder // what those before it logged
	killed  bool            // and no other was started
}

// Start runs an agent and ends it with the test; what the test made there it must have deleted. Lines of
// configuration go before those of the lab, by which guests are emulated.
func Start(t testing.TB, config ...string) *Agent {
	t.Helper()
	a := &Agent{t: t, dir: t.TempDir(), process: &process{}}
	for dir := a.dir; dir != os.TempDir(); dir = filepath.Dir(dir) { // QEMU is another user
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	a.configure(config)
	a.run()
	t.Cleanup(a.stop)
	a.logIn()
	a.image = a.upload(tinyGuest)
	return a
}

// In is the same agent for a subtest, which then answers for what it makes.
func (a *Agent) In(t testing.TB) *Agent {
	sub := *a
	sub.t = t
	return &sub
}

func (a *Agent) configure(lines []string) {
	values := map[string]string{"networks": "false", "state_dir": a.dir + "/state", "run_dir": a.dir + "/run", "listen": listen, "metrics_listen": `""`, "console_listen": "127.0.0.1:0", "log_format": "text",
		"virt_type": "qemu", "vnc_listen": `""`, "shutdown_timeout": "0"}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ": ")
		values[key] = value
	}
	var file strings.Builder
	for key, value := range values {
		fmt.Fprintf(&file, "%s: %s\n", key, value)
	}
	if err := os.WriteFile(a.dir+"/config.yaml", []byte(file.String()), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// run starts the process and returns when it serves.
func (a *Agent) run() {
	a.t.Helper()
	if a.log != nil {
		a.earlier.WriteString(a.log.String())
	}
	ended := make(chan error, 1)
	a.ended, a.log, a.killed = ended, &log{waits: map[string]chan string{}}, false
	a.cmd = exec.Command(program, "serve", "--config", a.dir+"/config.yaml")
	a.cmd.Stderr = a.log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	cmd := a.cmd
	go func() { ended <- cmd.Wait() }()
	a.Logs("msg=ready")
}

// stop ends the process, which must end well.
func (a *Agent) stop() {
	if !a.killed {
		a.end()
	}
	if a.t.Failed() {
		a.t.Logf("the agent's log, without its requests:\n%s", regexp.MustCompile(`(?m)^.* msg=Request .*\n`).ReplaceAllString(a.Log(), ""))
	}
}

func (a *Agent) end() {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Error(err)
	}
	if err := <-a.ended; err != nil {
		a.t.Errorf("the agent ended with %v", err)
	}
}

// Log is all that the agent has logged since the test began.
func (a *Agent) Log() string { return a.earlier.String() + a.log.String() }

// Kill ends the process at once (SIGKILL), and Again starts another one.
func (a *Agent) Kill() {
	a.t.Helper()
	if err := a.cmd.Process.Kill(); err != nil {
		a.t.Fatal(err)
	}
	if err := <-a.ended; err == nil {
		a.t.Error("the agent ended before it was killed")
	}
	a.killed = true
}

// Again starts the agent after it was killed.
func (a *Agent) Again() {
	a.t.Helper()
	a.run()
	a.logIn()
}

// Restart ends the agent as the host does when it stops a service, and starts it again.
func (a *Agent) Restart() {
	a.t.Helper()
	a.end()
	a.killed = true
	a.Again()
}

// Logs returns the first line of the agent's log with that text, and waits for it.
func (a *Agent) Logs(text string) string {
	a.t.Helper()
	found := a.log.await(text)
	select {
	case line := <-found:
		return line
	case err := <-a.ended:
		a.ended <- err
		a.t.Fatalf("the agent ended: %v\n%s", err, a.log)
	case <-time.After(patience):
		a.t.Fatalf("the agent does not log %q in %v:\n%s", text, patience, a.log)
	}
	return ""
}

// Connected are the files in which the agent has written down what is connected to the host.
func (a *Agent) Connected() []string {
	found, err := filepath.Glob(a.dir + "/run/volumes-*/connected/*")
	if err != nil {
		a.t.Error(err)
	}
	return found
}

// log is what the agent says.
type log struct {
	mu    sync.Mutex
	text  bytes.Buffer
	waits map[string]chan string // who waits for a line with this text
}

// await gives the first line, old or new, that has the text.
func (l *log) await(text string) <-chan string {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make(chan string, 1)
	l.waits[text] = found
	l.look()
	return found
}

// Write takes a part of the log.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	l.look()
	return len(p), nil
}

// look gives lines to those who wait for them.
func (l *log) look() {
	for text, found := range l.waits {
		for line := range strings.Lines(l.text.String()) {
			if strings.HasSuffix(line, "\n") && strings.Contains(line, text) {
				found <- strings.TrimSpace(line)
				delete(l.waits, text)
				break
			}
		}
	}
}

// String is the log so far.
func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
