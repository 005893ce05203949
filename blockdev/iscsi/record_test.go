package iscsi

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/golden"
)

func testRecords(t *testing.T) records {
	t.Helper()
	h := newHost(t)
	write(t, filepath.Join(h.etc, "ifaces/eth1"), "iface.iscsi_ifacename = eth1\niface.net_ifacename = eth1\niface.transport_name = tcp\n")
	return records{dirs: []string{h.etc, filepath.Join(h.etc, "none")}, login: 30 * time.Second}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRecord(t *testing.T) {
	chap := &connector.CHAP{Method: "CHAP", User: "user", Password: "pass word"}
	for name, c := range map[string]struct {
		path path
		auth *connector.CHAP
	}{
		"plain":     {path{"192.0.2.1", 3260, iqnA, "default"}, nil},
		"chap":      {path{"2001:db8::1", 3261, iqnA, "default"}, chap},
		"iser":      {path{"192.0.2.1", 3260, iqnA, "iser"}, nil},
		"interface": {path{"192.0.2.1", 3260, iqnA, "eth1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := testRecords(t)
			for range 2 { // a record that is there is replaced
				if err := r.write(c.path, c.auth); err != nil {
					t.Fatal(err)
				}
			}
			file := r.file(c.path)
			golden.Assert(t, "testdata/record/"+name+".golden", read(t, file))
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("its mode is %v, %v", info.Mode(), err)
			}
			if paths := r.paths(iqnA, c.path.iface); len(paths) != 1 || paths[0] != c.path {
				t.Errorf("found again: %v", paths)
			}
			if err := errors.Join(r.remove(c.path), r.remove(c.path)); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(r.root("nodes")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestRecordValues is the rule for what a record can hold: a password with a line in it would be two settings.
func TestRecordValues(t *testing.T) {
	for name, c := range map[string]struct {
		chap connector.CHAP
		want string
	}{
		"line in password": {connector.CHAP{Method: "CHAP", User: "u", Password: "x\nnode.startup = automatic"}, `auth_password="***"`},
		"space at the end": {connector.CHAP{Method: "CHAP", User: "u", Password: "x "}, `auth_password="***"`},
		"too long":         {connector.CHAP{Method: "CHAP", User: "u", Password: connector.Secret(strings.Repeat("x", 256))}, `auth_password="***"`},
		"no password":      {connector.CHAP{Method: "CHAP", User: "u"}, `auth_password="***"`},
		"line in user":     {connector.CHAP{Method: "CHAP", User: "u\rv", Password: "x"}, `auth_username="u\rv"`},
	} {
		r := testRecords(t)
		err := r.write(path{"192.0.2.1", 3260, iqnA, "default"}, &c.chap)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecordOfNoInterface(t *testing.T) {
	for _, name := range []string{"eth7", "../nodes", ""} {
		err := testRecords(t).write(path{"192.0.2.1", 3260, iqnA, name}, nil)
		var refused *connector.Error
		if !errors.As(err, &refused) || refused.Reason != connector.Unsupported {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestRecordsOfOthers are kept where nothing has to be logged in at, and replaced where it has: iscsiadm would log in by both.
func TestRecordsOfOthers(t *testing.T) {
	r := testRecords(t)
	p := path{"192.0.2.1", 3260, iqnA, "default"}
	discovered := r.file(p) + ",1/default"
	another := filepath.Join(r.root("nodes"), iqnA, "192.0.2.10,3260,1/default")
	write(t, discovered, "node.startup = automatic\n")
	write(t, another, "node.startup = automatic\n")
	if err := r.remove(p); err != nil || !r.others(p) || len(r.paths(iqnA, "default")) > 0 {
		t.Errorf("removed: %v", err)
	}
	if err := r.write(p, nil); err != nil {
		t.Fatal(err)
	}
	if exists(discovered) || r.others(p) || !exists(another) {
		t.Error("the record of the portal is not the only one")
	}
	if err := r.remove(p); err != nil || !exists(another) {
		t.Errorf("removed: %v", err)
	}
	write(t, r.file(p), "node.startup = automatic\n")
	if err := r.remove(p); err != nil || !exists(r.file(p)) || !r.others(p) {
		t.Errorf("somebody else's was removed: %v", err)
	}
}

func TestInitiatorName(t *testing.T) {
	dir := t.TempDir()
	if name, err := InitiatorName(dir); name != "" || err != nil {
		t.Errorf("without a file: %q, %v", name, err)
	}
	write(t, filepath.Join(dir, "initiatorname.iscsi"), "## DO NOT EDIT\n# InitiatorName=iqn.old\nInitiatorName=iqn.1993-08.org.debian:01:e17ffe9a2336\n")
	if name, err := InitiatorName(dir); name != "iqn.1993-08.org.debian:01:e17ffe9a2336" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
}
