package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"

	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/store"
	"compute-agent/virt/fake"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){programName: main})
}

// TestScripts runs the program as its users do. Beside testscript's own commands the scripts have
//
//	await PATTERN       waits until the agent tells systemd something that matches; the first
//	                    submatch, if there is one, is then in $match
//	signal NAME         sends a signal to the newest background program
//	get URL STATUS      requests a URL and checks the answer's status; its body goes to stdout
//	login FILE STATUS   logs in with a clouds.yaml
//	hang URL            sends half of a request and leaves it there
//	certificate C KEY   makes a certificate for 127.0.0.1 that vouches for itself
//	newer-schema FILE   makes a database look as if a later version had written it
//	store-server FILE ID NAME [MACHINE]
//	                    puts a server into a database; with a machine type also what its guest was made of
func TestScripts(t *testing.T) {
	// The tests may have been started with SIGHUP ignored (nohup), which programs inherit and the agent
	// respects. One that is handled here is not ignored there.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangup) })
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setUpScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":        await,
			"signal":       sendSignal,
			"get":          get,
			"login":        login,
			"hang":         hang,
			"certificate":  certificate,
			"newer-schema": newerSchema,
			"store-server": storeServer,
			"use-lun":      useLUN,
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
	})
}

// patience is how long a script waits for what must happen.
const patience = 30 * time.Second

type notifySocket struct{}

func setUpScript(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "notify") // short: a socket's path has at most 107 bytes
	if err != nil {
		return err
	}
	env.Defer(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	env.Defer(func() { _ = socket.Close() })
	env.Values[notifySocket{}] = socket
	env.Setenv("NOTIFY_SOCKET", path)
	env.Setenv("COMPUTE_AGENT_CONFIG", os.DevNull) // not the one of this host
	env.Setenv("COMPUTE_AGENT_CONSOLE_LISTEN", "127.0.0.1:0")
	return nil
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await PATTERN")
	}
	pattern := regexp.MustCompile(args[0])
	socket := ts.Value(notifySocket{}).(*net.UnixConn)
	ts.Check(socket.SetReadDeadline(time.Now().Add(patience)))
	for buf := make([]byte, 4096); ; {
		n, err := socket.Read(buf)
		if err != nil {
			ts.Fatalf("the agent did not say %s: %v", pattern, err)
		}
		if m := pattern.FindSubmatch(buf[:n]); m != nil {
			if len(m) > 1 {
				ts.Setenv("match", string(m[1]))
			}
			return
		}
	}
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "HUP": syscall.SIGHUP}
	programs := ts.BackgroundCmds()
	if neg || len(args) != 1 || signals[args[0]] == nil || len(programs) == 0 {
		ts.Fatalf("usage: signal TERM|USR1|HUP, with a program in the background")
	}
	ts.Check(programs[len(programs)-1].Process.Signal(signals[args[0]]))
}

var client = &http.Client{Timeout: patience}

func get(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: get URL STATUS")
	}
	request(ts, client, "GET", args[0], nil, args[1])
}

func request(ts *testscript.TestScript, client *http.Client, method, url string, content []byte, status string) {
	req, err := http.NewRequest(method, url, bytes.NewReader(content))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(req)
	ts.Check(err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	ts.Check(err)
	if strconv.Itoa(answer.StatusCode) != status {
		ts.Fatalf("status %s, want %s: %s", answer.Status, status, body)
	}
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
}

func login(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: login FILE STATUS")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if mode := info.Mode().Perm(); mode != 0o600 {
		ts.Fatalf("%s has mode %04o", args[0], mode)
	}
	var file clouds
	ts.Check(yaml.Unmarshal([]byte(ts.ReadFile(args[0])), &file))
	auth := file.Clouds[cloudName].Auth
	client := client
	if ca := file.Clouds[cloudName].CACert; ca != "" {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(ts.ReadFile(ca)))
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
		client = &http.Client{Timeout: patience, Transport: transport}
	}
	type object = map[string]any
	body, err := json.Marshal(object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{
			"name": auth.Username, "password": auth.Password, "domain": object{"name": auth.UserDomain},
		}}},
		"scope": object{"project": object{"name": auth.ProjectName, "domain": object{"name": auth.ProjectDomain}}},
	}})
	ts.Check(err)
	request(ts, client, "POST", auth.URL+"/auth/tokens", body, args[1])
}

// hang returns when the agent is waiting for the rest.
func hang(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hang URL")
	}
	u, err := url.Parse(args[0])
	ts.Check(err)
	conn, err := net.Dial("tcp", u.Host)
	ts.Check(err)
	ts.Defer(func() { _ = conn.Close() })
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n", u.Path, u.Host)
	ts.Check(err)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	ts.Check(err)
	if !strings.Contains(answer, "100 Continue") {
		ts.Fatalf("answer %q", answer)
	}
}

func certificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: certificate CERTIFICATE KEY")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for i, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: private}} {
		ts.Check(os.WriteFile(ts.MkAbs(args[i]), pem.EncodeToMemory(block), 0o600))
	}
}

// newerSchema writes SQLite's user_version (header, offset 60), where the store keeps its schema's.
func newerSchema(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: newer-schema FILE")
	}
	if _, err := os.Stat(ts.MkAbs(args[0]) + "-wal"); err == nil {
		ts.Fatalf("%s has a log: it was not closed", args[0])
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	_, err = f.WriteAt(binary.BigEndian.AppendUint32(nil, 9999), 60)
	ts.Check(err)
	ts.Check(f.Close())
}

// useLUN stores that a LUN holds what a deleted volume had.
func useLUN(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: use-lun FILE LUN PROJECT VOLUME")
	}
	db, err := store.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	used := cinder.UsedLUN{Backend: fixedBackend, LUN: args[1], ProjectID: args[2], VolumeID: args[3], Since: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	ts.Check(db.Update(context.Background(), func(tx compute.Writer) error { return tx.PutUsedLUN(used) }))
	ts.Check(db.Close())
}

// storeServer stores what an agent has of a server that it made with its defaults on the fake driver's host.
func storeServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: store-server FILE ID NAME [MACHINE]")
	}
	db, err := store.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	server := compute.Server{
		ID: args[1], Name: args[2], VM: compute.Active, Flavor: compute.Flavor{VCPUs: 1, MemoryMiB: 64},
		Image: compute.ImageRef{Format: "raw", Checksum: "0123"},
	}
	ts.Check(db.Update(context.Background(), func(tx compute.Writer) error {
		if len(args) == 3 {
			_, err := tx.InsertServer(server)
			return err
		}
		server.Hardware = map[string]string{"hw_machine_type": args[3]}
		stored, err := tx.InsertServer(server)
		if err != nil {
			return err
		}
		var facts compute.HardwareFacts
		facts.Server = stored
		driver := fake.New(fake.Options{})
		facts.Host, err = driver.Host(context.Background())
		if err != nil {
			return err
		}
		facts.Files = compute.FilesIn("/state/instances", "/state/images", stored)
		guests, err := guestOptions(newConfig())
		if err != nil {
			return err
		}
		spec, err := (compute.Capacity{}).Define(facts, guests)
		return errors.Join(err, driver.Close(), tx.PutDefinition(stored.ID, spec))
	}))
	ts.Check(db.Close())
}

func TestScriptsCoverTheCommands(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var all strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, cmd := range newRoot().Commands() {
		if !strings.Contains(all.String(), programName+" "+cmd.Name()) {
			t.Errorf("no script runs %s %s", programName, cmd.Name())
		}
	}
}
