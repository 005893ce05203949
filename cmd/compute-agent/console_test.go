package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"compute-agent/identity"

	"github.com/coder/websocket"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

const consolePatience = 120 * time.Second

// notes are what several goroutines write down.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// consoleHost is an API with one server, whose serial port says "login: " and then what it was told. What was asked of it is kept.
func consoleHost(t *testing.T) (stateDir string, asked *notes) {
	t.Helper()
	asked = &notes{}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	type object = map[string]any
	answer := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	mux.HandleFunc("POST /identity/v3/auth/tokens", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Subject-Token", "of the API")
		w.WriteHeader(http.StatusCreated)
		endpoint := object{"interface": "public", "url": server.URL + "/compute"}
		answer(w, object{"token": object{"catalog": []any{object{"type": "compute", "endpoints": []any{endpoint}}}}})
	})
	mux.HandleFunc("GET /compute/servers", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, object{"servers": []object{{"id": "id-1", "name": "one"}, {"id": "id-2", "name": "two"}, {"id": "id-3", "name": "two"}, {"id": "id-4", "name": "blind"}}})
	})
	mux.HandleFunc("POST /compute/servers/id-1/remote-consoles", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(asked, r.Body)
		_, _ = fmt.Fprint(asked, " "+r.Header.Get("X-Auth-Token")+" "+r.Header.Get("OpenStack-API-Version"))
		answer(w, object{"remote_console": object{"url": strings.Replace(server.URL, "http", "ws", 1) + "/?token=of-the-console"}})
	})
	for id, picture := range map[string]string{"id-1": "iVBORw==", "id-4": ""} {
		mux.HandleFunc("GET /compute/servers/"+id+"/diagnostics", func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(asked, r.URL.RawQuery)
			answer(w, object{"screenshot": picture})
		})
	}
	for _, id := range []string{"id-1", "id-4"} {
		mux.HandleFunc("GET /compute/servers/"+id, func(w http.ResponseWriter, _ *http.Request) { answer(w, object{"server": object{"id": id}}) })
	}
	mux.HandleFunc("/", serialEcho)
	c := &Config{StateDir: t.TempDir()}
	if err := (access{c, server.URL}).write(identity.User{Name: "admin", ProjectName: "admin"}, "password"); err != nil {
		t.Fatal(err)
	}
	return c.StateDir, asked
}

func serialEcho(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	port := websocket.NetConn(context.Background(), c, websocket.MessageBinary)
	_, _ = io.WriteString(port, "login: ")
	_, _ = io.Copy(port, port)
}

// consoleProgram is the program itself with a terminal of its own.
func consoleProgram(t *testing.T, args ...string) (user *os.File, cmd *exec.Cmd) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(self)
	cmd.Args = append([]string{programName, "console", "attach"}, args...) // by this name it is the program: see TestMain
	cmd.Env = append(os.Environ(), "COMPUTE_AGENT_CONFIG="+os.DevNull)
	return onTerminal(t, cmd)
}

// onTerminal starts a program with a terminal of its own.
func onTerminal(t *testing.T, cmd *exec.Cmd) (*os.File, *exec.Cmd) {
	t.Helper()
	user, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() })
	guard := time.AfterFunc(consolePatience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { guard.Stop() })
	return user, cmd
}

// awaitText reads until there is a text.
func awaitText(t *testing.T, user io.Reader, want string) {
	t.Helper()
	var seen []byte
	for b := make([]byte, 1); !bytes.HasSuffix(seen, []byte(want)); {
		if _, err := user.Read(b); err != nil {
			t.Fatalf("wait for %q: %v; there was %q", want, err, seen)
		}
		seen = append(seen, b[0])
	}
}

func isRaw(t *testing.T, terminal *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO == 0
}

// The terminal is as it was after the escape key, and after the signals that ask a program to end.
func TestConsoleAttach(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(user *os.File, program *os.Process) error
		code int
		says string
	}{
		{"escape key", func(user *os.File, _ *os.Process) error { _, err := user.WriteString("\x01"); return err }, 0, "The console ended: you left the console."},
		{"terminated", func(_ *os.File, program *os.Process) error { return program.Signal(syscall.SIGTERM) }, exitFailed, "terminated signal received"},
		{"hung up", func(_ *os.File, program *os.Process) error { return program.Signal(syscall.SIGHUP) }, exitFailed, "hangup signal received"},
	} {
		t.Run(c.name, func(t *testing.T) {
			state, asked := consoleHost(t)
			user, cmd := consoleProgram(t, "one", "--port", "1", "--escape", "^A", "--state-dir", state)
			awaitText(t, user, "Connected to serial port 1 of one; the escape key is ^A.\r\n")
			awaitText(t, user, "login: ")
			if _, err := user.WriteString("root\x03"); err != nil {
				t.Fatal(err)
			}
			awaitText(t, user, "root\x03")
			if !isRaw(t, user) {
				t.Error("the terminal is not raw")
			}
			if err := c.end(user, cmd.Process); err != nil {
				t.Fatal(err)
			}
			awaitText(t, user, c.says)
			_ = cmd.Wait() // the code says it
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if isRaw(t, user) {
				t.Error("the terminal is still raw")
			}
			want := `{"remote_console":{"port":1,"protocol":"serial","type":"serial"}}` + " of the API compute 2.89"
			if asked.String() != want {
				t.Errorf("asked for %s, want %s", asked, want)
			}
		})
	}
}

func TestConsoleAttachRefuses(t *testing.T) {
	state, _ := consoleHost(t)
	for _, c := range []struct {
		args []string
		says string
		code int
	}{
		{[]string{"three", "--state-dir", state}, `no server has the name "three"`, exitFailed},
		{[]string{"two", "--state-dir", state}, `more than one server has the name "two"`, exitFailed},
		{[]string{"one", "--escape", "^^^", "--state-dir", state}, "--escape:", exitUsage},
		{[]string{"one", "--state-dir", filepath.Join(state, "none")}, "how to log in to the agent", exitFailed},
	} {
		user, cmd := consoleProgram(t, c.args...)
		awaitText(t, user, c.says)
		_, _ = io.Copy(io.Discard, user) // until the program has ended, which is an error of the terminal
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.args, code, c.code)
		}
	}
}
