package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"compute-agent/compute"
	"compute-agent/store"
)

// many is the number of servers of the product's target.
const many = 1000

// openWithMany opens a store that holds many servers, each with a kilobyte of user data.
func openWithMany(tb testing.TB) (s *store.Store, path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "agent.db")
	s, err := store.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	err = s.Update(context.Background(), func(w compute.Writer) error {
		for i := range many {
			server := fullServer(uuid.NewString())
			server.Name = fmt.Sprintf("server-%d", i)
			server.UserData = make([]byte, 1024)
			if _, err := w.InsertServer(server); err != nil {
				return err
			}
			if err := w.PutClaim(compute.Claim{ServerID: server.ID, VCPUs: 1, MemoryMiB: 64}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s, path
}

func listServers(tb testing.TB, s compute.Store) (all []compute.Server) {
	tb.Helper()
	err := s.View(context.Background(), func(r compute.Reader) (err error) {
		all, err = r.Servers()
		return err
	})
	if err != nil || len(all) != many {
		tb.Fatalf("%d servers, %v", len(all), err)
	}
	return all
}

// BenchmarkList1000 is the store's part of listing 1,000 servers with details; AndJSON adds the
// cost of saying them in JSON.
func BenchmarkList1000(b *testing.B) {
	s, _ := openWithMany(b)
	b.ReportAllocs()
	for b.Loop() {
		listServers(b, s)
	}
}

func BenchmarkList1000AndJSON(b *testing.B) {
	s, _ := openWithMany(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(listServers(b, s)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen1000(b *testing.B) {
	s, path := openWithMany(b)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := store.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		listServers(b, s)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkShow(b *testing.B) {
	s, _ := openWithMany(b)
	id := listServers(b, s)[many/2].ID
	b.ReportAllocs()
	for b.Loop() {
		err := s.View(context.Background(), func(r compute.Reader) error {
			_, err := r.Server(id)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJournal is what one step of an operation costs: the step's name and the server's task
// state, on stable storage.
func BenchmarkJournal(b *testing.B) {
	s, _ := openWithMany(b)
	server := listServers(b, s)[0]
	op := compute.Operation{ID: "o", ServerID: server.ID, Kind: compute.OpCreate, Started: noon}
	b.ReportAllocs()
	for b.Loop() {
		err := s.Update(context.Background(), func(w compute.Writer) error {
			if err := w.UpdateServer(server); err != nil {
				return err
			}
			return w.PutOperation(op)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
