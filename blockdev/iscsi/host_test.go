package iscsi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/scsi/scsitest"
	"compute-agent/internal/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a host with open-iscsi, and the targets that it can reach. Its iscsiadm is strict: it reads the records that the connector wrote, and has
// the exit codes of the real one.
type host struct {
	t      *testing.T
	kernel *scsitest.Kernel
	scsi   scsi.System
	etc    string
	c      *Connector

	mu       sync.Mutex
	targets  map[string]*target // by IQN
	deaf     map[string]bool    // portals that do not answer
	next     int
	commands []string
	logins   int
	fail     func(args string) error

	stepping sync.Mutex // of onStep
	onStep   func()
	counted  bool
}

// target is what is told of it at all of its portals.
type target struct {
	portals        []string
	user, password string
	disks          map[uint64]scsitest.Disk
}

const (
	iqnA    = "iqn.2026-11.lab:a"
	portal1 = "192.0.2.1:3260"
	portal2 = "192.0.2.2:3260"
	portal6 = "[2001:db8::1]:3260"
	secret  = "not to be seen"
)

func newHost(t *testing.T, change ...func(*Options)) *host {
	t.Helper()
	h := &host{t: t, etc: t.TempDir(), targets: map[string]*target{}, deaf: map[string]bool{}}
	h.scsi, h.kernel = scsitest.New(t, "testdata/host.txtar")
	if err := os.WriteFile(filepath.Join(h.etc, "iscsid.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	o := Options{SCSI: h.scsi, Etc: []string{h.etc}, Runner: h, Dial: h.dial, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, f := range change {
		f(&o)
	}
	h.c = New(o)
	return h
}

const conf = `# what Debian has, in part
iscsid.startup = /bin/systemctl start iscsid.socket
node.startup = automatic
node.leading_login = No
#node.session.auth.authmethod = CHAP
node.session.timeo.replacement_timeout = 120
node.conn[0].timeo.login_timeout = 15
node.session.initial_login_retry_max = 8
discovery.sendtargets.iscsi.MaxRecvDataSegmentLength = 32768
node.session.nr_sessions = 4
node.session.scan = auto
`

func (h *host) dial(_ context.Context, _, address string) (net.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.deaf[address] {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	_ = b.Close()
	return a, nil
}

// Run is iscsiadm.
func (h *host) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	line := c.Name + " " + strings.Join(c.Args, " ")
	h.commands = append(h.commands, line)
	if strings.Contains(line, secret) {
		h.t.Errorf("a secret is in the arguments: %s", line)
	}
	if err := ctx.Err(); err != nil {
		return nil, &command.Error{Program: c.Name, ExitCode: -1, Err: err}
	}
	if h.fail != nil {
		if err := h.fail(line); err != nil {
			return nil, err
		}
	}
	h.stepped()
	words := arguments(c.Args)
	switch {
	case c.Name != "iscsiadm":
		return nil, &command.Error{Program: c.Name, ExitCode: -1, Err: exec.ErrNotFound}
	case words["-m"] == "node" && words["--login"] != "":
		return nil, h.login(words)
	case words["-m"] == "session" && words["--logout"] != "":
		return nil, h.logout("session" + words["-r"])
	case strings.HasPrefix(words["-m"], "discovery") && words["-o"] == "nonpersistent":
		return h.discovery(words)
	}
	return nil, exit(7)
}

// step sets what is called at each command and each write.
func (h *host) step(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.counted {
		h.kernel.After(func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.stepped()
		})
	}
	h.counted, h.onStep = true, do
}

func (h *host) stepped() {
	if h.onStep != nil {
		h.onStep()
	}
}

func arguments(args []string) map[string]string {
	words := map[string]string{}
	for i, arg := range args {
		words[arg] = "yes"
		if !strings.HasPrefix(arg, "--") && i+1 < len(args) {
			words[arg] = args[i+1]
		}
	}
	return words
}

func exit(code int) error {
	return &command.Error{Program: "iscsiadm", ExitCode: code, Err: fmt.Errorf("exit status %d", code)}
}

// record reads the settings of a record; nil when there is none.
func (h *host) record(parts ...string) map[string]string {
	text, err := os.ReadFile(filepath.Join(append([]string{h.etc}, parts...)...))
	if err != nil {
		return nil
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, is := strings.Cut(line, "="); is {
			settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return settings
}

func fileName(portal string) string {
	host, port, _ := net.SplitHostPort(portal)
	return host + "," + port
}

func (h *host) login(words map[string]string) error {
	record := h.record("nodes", words["-T"], fileName(words["-p"]))
	if record == nil {
		return exit(exitNothingFound)
	}
	t := h.targets[words["-T"]]
	switch {
	case t == nil || !slices.Contains(t.portals, words["-p"]) || record["node.session.scan"] != "manual":
		return exit(exitTimeout)
	case t.user != "" && (record["node.session.auth.username"] != t.user || record["node.session.auth.password"] != t.password):
		return exit(exitAuthFailed)
	}
	for _, s := range h.sessions() {
		if s.IQN == words["-T"] && s.Portal == words["-p"] && s.Interface == words["-I"] {
			h.t.Errorf("second login of %v", s)
			return exit(exitSessionExists)
		}
	}
	h.logins++
	h.open(record)
	return nil
}

// open makes a session, as the kernel does.
func (h *host) open(record map[string]string) {
	h.next++
	name, number := fmt.Sprintf("session%d", h.next), fmt.Sprintf("host%d", h.next)
	dir := "sys/devices/platform/" + number + "/" + name + "/iscsi_session/" + name
	connection := fmt.Sprintf("sys/class/iscsi_connection/connection%d:0", h.next)
	for file, text := range map[string]string{
		dir + "/targetname": record["node.name"], dir + "/ifacename": record["iface.iscsi_ifacename"], dir + "/state": "LOGGED_IN", dir + "/target_id": "0",
		dir + "/device": "-> ../../../" + name, connection + "/persistent_address": record["node.conn[0].address"],
		connection + "/persistent_port": record["node.conn[0].port"], "sys/class/scsi_host/" + number + "/scan": "",
	} {
		h.kernel.Set(file, text)
	}
	h.kernel.Set("sys/class/iscsi_session/"+name, "-> ../../devices/platform/"+number+"/"+name+"/iscsi_session/"+name)
	for lun, disk := range h.targets[record["node.name"]].disks {
		h.kernel.Put(scsi.Address{Host: h.next, LUN: lun}, disk)
	}
}

func (h *host) logout(name string) error {
	if _, err := os.Lstat(filepath.Join(h.scsi.Sys, "class/iscsi_session", name)); err != nil {
		return exit(exitSessionNotFound)
	}
	number := "host" + strings.TrimPrefix(name, "session")
	devices, _ := filepath.Glob(filepath.Join(h.scsi.Sys, "bus/scsi/devices", strings.TrimPrefix(name, "session")+":*"))
	if state, _ := os.ReadFile(filepath.Join(h.scsi.Sys, "class/iscsi_session", name, "state")); string(state) == "FAILED" {
		for _, device := range devices {
			h.vanish(device)
		}
	} else if len(devices) > 0 {
		h.t.Errorf("logout of %s with %d disks", name, len(devices))
	}
	h.kernel.Unset("sys/class/iscsi_session/" + name)
	h.kernel.Unset("sys/class/iscsi_connection/connection" + strings.TrimPrefix(name, "session") + ":0")
	h.kernel.Unset("sys/devices/platform/" + number)
	h.kernel.Unset("sys/class/scsi_host/" + number)
	return nil
}

// vanish takes a disk away with its session.
func (h *host) vanish(device string) {
	blocks, _ := filepath.Glob(device + "/block/*")
	for _, block := range blocks {
		h.kernel.Unset("sys/block/" + filepath.Base(block))
		h.kernel.Unset("sys/class/block/" + filepath.Base(block))
	}
	h.kernel.Unset("sys/bus/scsi/devices/" + filepath.Base(device))
}

func (h *host) discovery(words map[string]string) ([]byte, error) {
	if h.deaf[words["-p"]] {
		return nil, exit(exitPDUTimeout)
	}
	record := map[string]string{}
	if words["-m"] == "discoverydb" {
		if record = h.record("send_targets", fileName(words["-p"]), "st_config"); record == nil {
			return nil, exit(6)
		}
	}
	out := "a line that makes no sense\n"
	for iqn, t := range h.targets {
		if t.user != "" && record["discovery.sendtargets.auth.password"] != t.password {
			return nil, exit(exitAuthFailed)
		}
		for _, portal := range t.portals {
			out += portal + ",1 " + iqn + "\n"
		}
	}
	return []byte(out), nil
}

// sessions are those of sysfs, read without the package's own reader.
func (h *host) sessions() []Session {
	dirs, _ := filepath.Glob(filepath.Join(h.scsi.Sys, "class/iscsi_session/*"))
	var found []Session
	for _, dir := range dirs {
		read := func(parts ...string) string {
			text, _ := os.ReadFile(filepath.Join(parts...))
			return string(text)
		}
		connection := filepath.Join(h.scsi.Sys, "class/iscsi_connection/connection"+strings.TrimPrefix(filepath.Base(dir), "session")+":0")
		found = append(found, Session{
			IQN: read(dir, "targetname"), Interface: read(dir, "ifacename"),
			Portal: net.JoinHostPort(read(connection, "persistent_address"), read(connection, "persistent_port")),
		})
	}
	return found
}

// left lists what a volume may have left: sessions, disks, files of open-iscsi.
func (h *host) left() []string {
	var found []string
	for _, pattern := range []string{
		h.scsi.Sys + "/class/iscsi_session/*", h.scsi.Sys + "/bus/scsi/devices/*", h.etc + "/nodes/*", h.etc + "/send_targets/*", h.etc + "/.compute-agent*",
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			h.t.Fatal(err)
		}
		found = append(found, files...)
	}
	return found
}

// clean fails the test when anything is left.
func (h *host) clean() {
	h.t.Helper()
	if left := h.left(); len(left) > 0 {
		h.t.Errorf("left: %q", left)
	}
}

func (h *host) put(iqn string, t *target) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.targets[iqn] = t
}

// called returns the commands that match.
func (h *host) called(expression string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.commands), func(line string) bool { return !regexp.MustCompile(expression).MatchString(line) })
}
