package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/store"
)

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "agent.db"))
	insert(t, s, fullServer("a"))
	seen := []string{}
	for name := range files(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		seen = append(seen, name)
	}
	if len(seen) != 4 {
		t.Errorf("files %v; want the database, its log and index, and the lock", seen)
	}
}

func TestPathMayHaveAnyCharacter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c%20d#e&mode=memory'\"")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.db")
	insert(t, openAt(t, path), fullServer("a"))
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.db")
	cmd, stdout := child(t, "hold", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := lines(stdout)
	if first := <-said; first != "open" {
		t.Fatalf("the child said %q", first)
	}
	_, err := store.Open(path)
	wantError(t, "while another process has it", err, store.ErrLocked)
	for _, part := range []string{filepath.Join(dir, "lock"), fmt.Sprintf("process %d", cmd.Process.Pid)} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("the error %q does not name %s", err, part)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	s := openAt(t, path)
	_, err = store.Open(path)
	wantError(t, "while this process has it", err, store.ErrLocked)
	wantServers(t, s) // and the first goes on
}

func TestUnusableDirectory(t *testing.T) {
	_, err := store.Open(filepath.Join(t.TempDir(), "none", "agent.db"))
	wantError(t, "no directory", err, fs.ErrNotExist)
}

func TestReadOnlyDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	dir := t.TempDir()
	for _, when := range []string{"empty", "with a database"} {
		before := files(t, dir)
		cmd, stdout := child(t, "readonly", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(stdout)
		if err := errors.Join(err, cmd.Wait()); err == nil {
			t.Errorf("%s: the child ended well", when)
		}
		want := fmt.Sprintf("open database %[1]s/agent.db: use state directory: open %[1]s/lock: read-only file system\n", dir)
		if d := cmp.Diff(want, string(said)); d != "" || err != nil {
			t.Errorf("%s: %v %s", when, err, d)
		}
		if d := cmp.Diff(before, files(t, dir)); d != "" {
			t.Error("files changed:", d)
		}
		openAndClose(t, filepath.Join(dir, "agent.db"))
	}
}

// damage makes a file that is no sound database of this program. It gets the bytes of a sound one
// with some servers.
var damage = map[string]struct {
	of   func(sound []byte) []byte
	kind error
	says string
}{
	"empty":         {func([]byte) []byte { return nil }, store.ErrCorrupt, "0 bytes"},
	"short":         {func(b []byte) []byte { return b[:40] }, store.ErrCorrupt, "40 bytes"},
	"text":          {func([]byte) []byte { return []byte(strings.Repeat("not a database\n", 100)) }, store.ErrCorrupt, "not an SQLite database"},
	"truncated":     {func(b []byte) []byte { return b[:len(b)/2] }, store.ErrCorrupt, ""},
	"one page less": {func(b []byte) []byte { return b[:len(b)-4096] }, store.ErrCorrupt, ""},
	"header only":   {func(b []byte) []byte { return b[:100] }, store.ErrCorrupt, ""},
	"zeros inside":  {func(b []byte) []byte { clear(b[4096:]); return b }, store.ErrCorrupt, ""},
	"noise inside": {func(b []byte) []byte {
		for i := 4096; i < len(b); i++ {
			b[i] = byte(i * 7)
		}
		return b
	}, store.ErrCorrupt, ""},
	"another program's": {func(b []byte) []byte { copy(b[68:], "Xyz!"); return b }, nil, "another program"},
}

func TestDamagedDatabaseIsLeftAlone(t *testing.T) {
	soundPath := filepath.Join(t.TempDir(), "agent.db")
	s, err := store.Open(soundPath)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		insert(t, s, fullServer(fmt.Sprint("s", i)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(soundPath)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "agent.db")
			if err := os.WriteFile(path, c.of(append([]byte(nil), sound...)), 0o600); err != nil {
				t.Fatal(err)
			}
			before := files(t, dir)
			s, err := store.Open(path)
			if err == nil {
				t.Fatal("it opened", s.Close())
			}
			if c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("error %v, want %v", err, c.kind)
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q, want it to have %q and %q", err, path, c.says)
			}
			after := files(t, dir)
			if after["agent.db"] != before["agent.db"] || after["agent.db-wal"] != "" {
				t.Error("the database was changed")
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			openAndClose(t, path) // what is left beside it does not keep from beginning anew
		})
	}
}

// After a crash the newest commits are in the log only. They are not moved into a damaged file.
func TestDamagedDatabaseKeepsItsLog(t *testing.T) {
	live := t.TempDir()
	openAndClose(t, filepath.Join(live, "agent.db"))
	s := openAt(t, filepath.Join(live, "agent.db"))
	insert(t, s, fullServer("a"))
	crashed := files(t, live)
	if len(crashed["agent.db-wal"]) == 0 {
		t.Fatal("there is no log")
	}
	for name, c := range map[string]struct {
		db   string
		want error
	}{
		"sound":   {crashed["agent.db"], nil},
		"damaged": {crashed["agent.db"][:8192] + strings.Repeat("x", len(crashed["agent.db"])-8192), store.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "agent.db")
			for file, text := range map[string]string{path: c.db, path + "-wal": crashed["agent.db-wal"]} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s, err := store.Open(path)
			wantError(t, "open", err, c.want)
			if err == nil {
				wantServers(t, s, "a")
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			after := files(t, dir)
			if after["agent.db"] != c.db || after["agent.db-wal"] != crashed["agent.db-wal"] {
				t.Error("the database or its log was changed")
			}
		})
	}
}

func TestDatabaseOutOfWALModeGoesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	openAndClose(t, path)
	execSQL(t, path, "PRAGMA journal_mode = DELETE") // as a copy by VACUUM INTO is
	if got := openAt(t, path).WriterPragma(t, "journal_mode"); got != "wal" {
		t.Errorf("journal mode %s", got)
	}
}

// A log without its database may hold commits that were promised.
func TestLogWithoutDatabaseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.db")
	if err := os.WriteFile(path+"-wal", []byte("commits"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(path)
	wantError(t, "log without database", err, store.ErrCorrupt)
	if got := files(t, dir)["agent.db-wal"]; got != "commits" {
		t.Errorf("the log is %q now", got)
	}
}

// A first start that was killed leaves a draft.
func TestHalfMadeDatabaseIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.db")
	for _, name := range []string{"agent.db.new", "agent.db.new-wal", "agent.db.new-shm", "agent.db.new-journal"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openAndClose(t, path)
	for name := range files(t, dir) {
		if strings.Contains(name, ".new") {
			t.Errorf("%s is left", name)
		}
	}
}

// A record that is not what it should be is an error of the one who reads it, not a zero value.
func TestUnreadableRecordIsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	s := openAt(t, path)
	insert(t, s, fullServer("a"))
	execSQL(t, path, `UPDATE servers SET record = '{"Name": 1}'`)
	err := s.View(t.Context(), func(r compute.Reader) error {
		_, err := r.Servers()
		return err
	})
	wantError(t, "unreadable record", err, store.ErrCorrupt)
}

// The arguments of an operation may hold a password, which the store forgets with the operation.
func TestDeletedOperationLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, "agent.db"))
	if err != nil {
		t.Fatal(err)
	}
	insert(t, s, fullServer("a"))
	op := fullOperation("o", "a")
	op.Args = []byte(`"correct horse"`)
	update(t, s, func(w compute.Writer) error { return w.PutOperation(op) })
	update(t, s, func(w compute.Writer) error { return w.DeleteOperation("o") })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range files(t, dir) {
		if strings.Contains(text, "correct horse") {
			t.Errorf("%s still has it", name)
		}
	}
}

// files reads all files of dir.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

func openAndClose(t *testing.T, path string) {
	t.Helper()
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// execSQL changes a database behind the store's back.
func execSQL(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), text)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
