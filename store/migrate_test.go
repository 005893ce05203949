package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"compute-agent/compute"
	"compute-agent/internal/golden"
	"compute-agent/store"
)

// newest is the schema version of this program. Each version up to it has a file in testdata, the
// dump of a database that the program of that version wrote, with the records of the full*
// functions. The newest one's is made by go test -update; the others never change.
const newest = 8

func dumpFile(version int) string { return fmt.Sprintf("testdata/schema-%d.sql", version) }

// fill writes one of each record.
func fill(t *testing.T, s *store.Store) {
	t.Helper()
	update(t, s, func(w compute.Writer) error {
		_, err := w.InsertServer(fullServer("a"))
		return errors.Join(err,
			w.PutClaim(fullClaim("a")),
			w.PutDefinition("a", fullDefinition("a")),
			w.PutOperation(fullOperation("o", "a")),
			w.PutFlavor(fullFlavor("1", "tiny")),
			w.PutImage(fullImage("i")),
			w.PutKeypair(fullKeypair("u", "k")),
			putNetworks(w), putVolumes(w), w.PutConsoleToken(fullConsoleToken("h", "a")))
	})
	if err := errors.Join(s.CreateUser(t.Context(), fullUser("u", "admin")), s.PutToken(t.Context(), fullToken("t", "u"))); err != nil {
		t.Fatal(err)
	}
}

// checkFilled reads what a program of the version filled in.
func checkFilled(t *testing.T, s *store.Store, version int) {
	t.Helper()
	view(t, s, func(r compute.Reader) error {
		a := fullServer("a")
		a.Number = 1
		if version < 3 {
			a.GuestNames = "" // its dumps were made before it was there
		}
		if version < 4 {
			a.ConfigDriveFormat = ""
		}
		if version < 5 {
			a.Hardware = nil
		}
		if version < 6 {
			a.GuestPassword, a.AccessIPv4, a.AccessIPv6 = "", netip.Addr{}, netip.Addr{}
		}
		if version < 8 {
			a.Rescue = nil
		}
		server, err := r.Server("a")
		want(t, server, err, a)
		claims, err := r.Claims()
		claim := fullClaim("a")
		if version < 3 {
			claim.NUMA = nil // not yet
		}
		if version < 4 {
			claim.Kind, claim.Operation, claim.PCI = compute.ClaimOwn, "", nil
		}
		want(t, claims, err, []compute.Claim{claim})
		definition, err := r.Definition("a")
		if version < 5 {
			wantError(t, "definition", err, compute.ErrNotFound)
		} else {
			want(t, definition, err, fullDefinition("a"))
		}
		operations, err := r.Operations()
		want(t, operations, err, []compute.Operation{fullOperation("o", "a")})
		flavor, err := r.Flavor("1")
		want(t, flavor, err, fullFlavor("1", "tiny"))
		image, err := r.Image("i")
		want(t, image, err, fullImage("i"))
		keypair, err := r.Keypair("u", "k")
		want(t, keypair, err, fullKeypair("u", "k"))
		if version >= 6 {
			checkNetworks(t, r)
		}
		if version >= 7 {
			checkVolumes(t, r, version)
		}
		if version >= 8 {
			consoles, err := r.ConsoleTokens("a")
			want(t, consoles, err, []compute.ConsoleToken{fullConsoleToken("h", "a")})
		}
		return nil
	})
	if version < 2 {
		return // no users yet
	}
	user, err := s.User(t.Context(), "u")
	want(t, user, err, fullUser("u", "admin"))
	token, err := s.Token(t.Context(), []byte("t"))
	want(t, token, err, fullToken("t", "u"))
}

// The dump of the newest version pins the schema and the names in the records: a field that is
// renamed would be lost from the databases that are out there.
func TestStoredFormIsPinned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	fill(t, openAt(t, path))
	golden.Assert(t, dumpFile(newest), dump(t, path))
}

func TestMigrationFromEveryVersion(t *testing.T) {
	fresh := filepath.Join(t.TempDir(), "agent.db")
	openAt(t, fresh)
	for version := 1; version <= newest; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.db")
			text, err := os.ReadFile(dumpFile(version))
			if err != nil {
				t.Fatal(err)
			}
			execSQL(t, path, "PRAGMA journal_mode = WAL;\n"+string(text))
			s := openAt(t, path)
			checkFilled(t, s, version)
			if got, want := schema(t, path), schema(t, fresh); got != want {
				t.Errorf("the schema became\n%s\nand is when new\n%s", got, want)
			}
			if next := insert(t, s, fullServer("b")); next.Number != 2 {
				t.Errorf("the next server has number %d, want 2", next.Number)
			}
		})
	}
}

func TestNewestIsNewest(t *testing.T) {
	if got := open(t).WriterPragma(t, "user_version"); got != fmt.Sprint(newest) {
		t.Errorf("the schema has version %s, the tests think %d", got, newest)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.db")
	openAndClose(t, path)
	for _, version := range []int{newest + 1, 4711, -1} {
		execSQL(t, path, fmt.Sprintf("PRAGMA user_version = %d", version))
		before := files(t, dir)["agent.db"]
		_, err := store.Open(path)
		wantError(t, fmt.Sprint("version ", version), err, store.ErrNewer)
		for _, number := range []int{version, newest} {
			if !strings.Contains(fmt.Sprint(err), fmt.Sprint(" ", number)) {
				t.Errorf("the error %q does not say %d", err, number)
			}
		}
		if files(t, dir)["agent.db"] != before {
			t.Error("the database was changed")
		}
	}
}

// A migration that fails, or leaves references to nothing, changes nothing.
func TestFailedMigrationChangesNothing(t *testing.T) {
	for name, step := range map[string]string{
		"error":              "CREATE TABLE more (id TEXT) STRICT; CREATE TABLE more (id TEXT) STRICT",
		"dangling reference": "CREATE TABLE more (id TEXT) STRICT; INSERT INTO claims VALUES (NULL, 'none', 1, 2, 3, NULL)",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.db")
			openAndClose(t, path)
			before := dump(t, path)
			if err := store.Migrate(t.Context(), path, step); err == nil {
				t.Error("it succeeded")
			}
			if after := dump(t, path); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			openAndClose(t, path)
		})
	}
}

// dump says a database in SQL.
func dump(t *testing.T, path string) string {
	t.Helper()
	db := openSQL(t, path)
	out := []string{schema(t, path)}
	for _, table := range column(t, db, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid") {
		columns := column(t, db, "SELECT 'quote(' || name || ')' FROM pragma_table_info('"+table+"')")
		row := strings.Join(columns, " || ', ' || ")
		for _, values := range column(t, db, "SELECT "+row+" FROM "+table) {
			out = append(out, fmt.Sprintf("INSERT INTO %s VALUES (%s);\n", table, values))
		}
	}
	for _, pragma := range []string{"user_version", "application_id"} {
		out = append(out, fmt.Sprintf("PRAGMA %s = %s;\n", pragma, column(t, db, "PRAGMA "+pragma)[0]))
	}
	return strings.Join(out, "")
}

// schema says a database's tables and indexes in SQL.
func schema(t *testing.T, path string) string {
	t.Helper()
	return strings.Join(column(t, openSQL(t, path),
		"SELECT sql || ';' || char(10) FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'sqlite_sequence' ORDER BY rowid"), "")
}

func openSQL(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// column reads the one column that query gives.
func column(t *testing.T, db *sql.DB, query string) (values []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(query, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			t.Fatal(query, err)
		}
		values = append(values, value)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(query, err)
	}
	return values
}
