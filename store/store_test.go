package store_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"compute-agent/compute"
	"compute-agent/store"
	"compute-agent/virt"
)

var noon = time.Date(2025, 3, 4, 12, 0, 0, 123456789, time.UTC)

// fullServer is a server with every field set but its number.
func fullServer(id string) compute.Server {
	return compute.Server{
		ID: id, GuestNames: "guest-%x", Name: "web \"<1>\" ü", Description: "front", UserID: "u", ProjectID: "p", UserName: "user", ProjectName: "project",
		VM: compute.Active, Task: compute.TaskPausing, Power: virt.PowerRunning,
		Flavor: fullFlavor("1", "tiny"), ImageID: "img",
		Image:    compute.ImageRef{Name: "cirros", Checksum: "abc", Format: "qcow2", Properties: map[string]string{"hw_disk_bus": "virtio"}},
		Hardware: map[string]string{"hw_machine_type": "pc-i440fx-7.2"},
		Keypair:  &compute.Keypair{UserID: "u", Name: "k", Type: "ssh", PublicKey: "ssh-ed25519 AAAA", Fingerprint: "00:11", Created: noon},
		Rescue: &compute.Rescue{ImageID: "aid", Stable: true, ConfigDrive: true, Made: new(fullDefinition(id)),
			Image: compute.ImageRef{Name: "aid", Checksum: "def", Format: "raw", Properties: map[string]string{"hw_rescue_bus": "usb"}}},
		UserData: []byte{0, 1, 0xff}, Metadata: map[string]string{"a": "b"}, ConfigDrive: true, ConfigDriveFormat: "vfat", GuestPassword: "Kx+=",
		AccessIPv4: netip.MustParseAddr("192.0.2.5"), AccessIPv6: netip.MustParseAddr("2001:db8::5"),
		Created: noon, Updated: noon.Add(1), Launched: noon.Add(2), Terminated: noon.Add(3),
		Fault: &compute.Fault{Code: 500, Message: "m", Details: "d", Created: noon},
	}
}

func open(t *testing.T) *store.Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "agent.db"))
}

func openAt(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func update(t *testing.T, s compute.Store, fn func(compute.Writer) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, s compute.Store, fn func(compute.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// insert adds a server and returns it with its number.
func insert(t *testing.T, s compute.Store, server compute.Server) compute.Server {
	t.Helper()
	update(t, s, func(w compute.Writer) (err error) {
		server, err = w.InsertServer(server)
		return err
	})
	return server
}

// wantServers checks which servers there are, oldest first.
func wantServers(t *testing.T, s compute.Store, want ...string) {
	t.Helper()
	got := []string{}
	view(t, s, func(r compute.Reader) error {
		all, err := r.Servers()
		for _, server := range all {
			got = append(got, server.ID)
		}
		return err
	})
	if !slices.Equal(got, want) {
		t.Errorf("servers %v, want %v", got, want)
	}
}

// insertAnd is an Update that adds server a with a claim, and then does end.
func insertAnd(end func() error) func(compute.Writer) error {
	return func(w compute.Writer) error {
		_, err := w.InsertServer(fullServer("a"))
		return errors.Join(err, w.PutClaim(compute.Claim{ServerID: "a"}), end())
	}
}

func TestUpdateKeepsNothingOnAnError(t *testing.T) {
	s := open(t)
	mine := errors.New("mine")
	err := s.Update(context.Background(), insertAnd(func() error { return mine }))
	if !errors.Is(err, mine) {
		t.Errorf("error %v, want the function's", err)
	}
	wantServers(t, s)
}

func TestUpdateKeepsNothingAfterItsContextEnded(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Update(ctx, insertAnd(func() error { cancel(); return nil })); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	wantServers(t, s)
	if err := s.Update(ctx, insertAnd(func() error { return nil })); !errors.Is(err, context.Canceled) {
		t.Errorf("begun with a cancelled context: %v, want context.Canceled", err)
	}
	wantServers(t, s)
}

func TestUpdateKeepsNothingOnAPanic(t *testing.T) {
	s := open(t)
	func() {
		defer func() {
			if got := recover(); got != "mine" {
				t.Errorf("recovered %v, want the function's panic", got)
			}
		}()
		_ = s.Update(context.Background(), insertAnd(func() error { panic("mine") }))
	}()
	wantServers(t, s)
	insert(t, s, fullServer("b")) // the store still works
	wantServers(t, s, "b")
}

func TestUpdateSeesItsOwnChangesAndTheNewestState(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	update(t, s, func(w compute.Writer) error {
		if _, err := w.Server("a"); err != nil {
			t.Error("the last Update's server:", err)
		}
		_, err := w.InsertServer(fullServer("b"))
		if err != nil {
			return err
		}
		if _, err := w.Server("b"); err != nil {
			t.Error("this Update's server:", err)
		}
		return nil
	})
}

// A refused statement is not the end of the transaction: fn may go on.
func TestUpdateGoesOnAfterARefusal(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	update(t, s, func(w compute.Writer) error {
		if _, err := w.InsertServer(fullServer("a")); !errors.Is(err, compute.ErrExists) {
			t.Errorf("error %v, want ErrExists", err)
		}
		_, err := w.InsertServer(fullServer("b"))
		return err
	})
	wantServers(t, s, "a", "b")
}

func TestViewIsOneSnapshot(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	view(t, s, func(r compute.Reader) error {
		before, err := r.Servers()
		if err != nil {
			return err
		}
		insert(t, s, fullServer("b"))
		after, err := r.Servers()
		if len(before) != 1 || len(after) != 1 {
			t.Errorf("a View saw %d servers, then %d", len(before), len(after))
		}
		return err
	})
	wantServers(t, s, "a", "b")
}

func TestViewReturnsTheFunctionsError(t *testing.T) {
	s := open(t)
	mine := errors.New("mine")
	if err := s.View(context.Background(), func(compute.Reader) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("error %v, want the function's", err)
	}
}

func TestReaderEndsWithItsView(t *testing.T) {
	s := open(t)
	var kept compute.Reader
	view(t, s, func(r compute.Reader) error { kept = r; return nil })
	if _, err := kept.Servers(); err == nil {
		t.Error("a Reader was used after its View")
	}
}

func TestCloseEndsEverything(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, err := store.Open(filepath.Join(t.TempDir(), "agent.db"))
	if err != nil {
		t.Fatal(err)
	}
	insert(t, s, fullServer("a"))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error("closed again:", err)
	}
	if err := s.Update(context.Background(), func(compute.Writer) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update after Close: %v, want ErrClosed", err)
	}
	if err := s.View(context.Background(), func(compute.Reader) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("View after Close: %v, want ErrClosed", err)
	}
}

func TestCloseWaitsForAnUpdateUnderWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	update(t, s, func(w compute.Writer) error {
		go func() { closed <- s.Close() }()
		for s.View(context.Background(), func(compute.Reader) error { return nil }) == nil { // until Close has begun
		}
		_, err := w.InsertServer(fullServer("a"))
		return err
	})
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	wantServers(t, openAt(t, path), "a")
}

// Two claims always hold 100 together; writers move one between them, readers look. A lost update
// or a mixed snapshot breaks a sum.
func TestManyWritersAndReaders(t *testing.T) {
	const writers, readers, rounds = 4, 4, 50
	s := open(t)
	insert(t, s, fullServer("a"))
	insert(t, s, fullServer("b"))
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.PutClaim(compute.Claim{ServerID: "a", VCPUs: 100}), w.PutClaim(compute.Claim{ServerID: "b"}))
	})
	move := func(w compute.Writer) error {
		claims, err := w.Claims()
		if err != nil {
			return err
		}
		claims[0].VCPUs--
		claims[1].VCPUs++
		return errors.Join(w.PutClaim(claims[0]), w.PutClaim(claims[1]))
	}
	look := func(r compute.Reader) error {
		claims, err := r.Claims()
		if err == nil && claims[0].VCPUs+claims[1].VCPUs != 100 {
			t.Errorf("%d + %d vCPUs", claims[0].VCPUs, claims[1].VCPUs)
		}
		return err
	}
	var all sync.WaitGroup
	run := func(n int, fn func() error) {
		for range n {
			all.Go(func() {
				for range rounds {
					if err := fn(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	run(writers, func() error { return s.Update(context.Background(), move) })
	run(readers, func() error { return s.View(context.Background(), look) })
	all.Wait()
	view(t, s, func(r compute.Reader) error {
		claims, err := r.Claims()
		if want := 100 - writers*rounds; claims[0].VCPUs != want {
			t.Errorf("%d vCPUs are left, want %d", claims[0].VCPUs, want)
		}
		return err
	})
}

func TestEveryCommitIsSynced(t *testing.T) {
	s := open(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "secure_delete": "1"} {
		if got := s.WriterPragma(t, pragma); got != want {
			t.Errorf("%s = %s, want %s", pragma, got, want)
		}
	}
}

func TestFullDatabaseIsUnavailable(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	s.WriterPragma(t, "max_page_count(1)") // SQLite makes that the present size
	big := fullServer("b")
	big.UserData = make([]byte, 1<<20)
	err := s.Update(context.Background(), func(w compute.Writer) error {
		_, err := w.InsertServer(big)
		return err
	})
	if !errors.Is(err, compute.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
	wantServers(t, s, "a")
	s.WriterPragma(t, "max_page_count(1000000)")
	insert(t, s, big)
	wantServers(t, s, "a", "b")
}
