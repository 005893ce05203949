package store_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"compute-agent/compute"
)

// A process that writes is killed again and again, each time a little later: right when it opens
// the store the first time, and at some moment after so many commits. Whatever it said was
// committed is there, and every server came with its claim and operation or not at all.
func TestKilledWriterLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	promised := map[int64]bool{}
	for _, commits := range []int{0, 0, 1, 2, 5, 20, 100, 300} {
		t.Run(fmt.Sprintf("after %d commits", commits), func(t *testing.T) {
			for _, n := range killWriter(t, path, commits) {
				if promised[n] {
					t.Errorf("number %d was given twice", n)
				}
				promised[n] = true
			}
			checkAfterCrash(t, path, promised)
		})
	}
	if len(promised) < 428 {
		t.Errorf("only %d commits were promised in all", len(promised))
	}
}

// killWriter lets a child write, kills it after so many commits, and returns all numbers that it
// promised.
func killWriter(t *testing.T, path string, commits int) (promised []int64) {
	t.Helper()
	cmd, stdout := child(t, "write", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := lines(stdout)
	if first := <-said; first != "begin" {
		t.Errorf("the child said %q", first)
	}
	for len(promised) < commits {
		promised = append(promised, number(t, <-said))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for line := range said { // what it said before it died
		promised = append(promised, number(t, line))
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	return promised
}

func number(t *testing.T, line string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		t.Fatalf("the child said %q", line)
	}
	return n
}

func checkAfterCrash(t *testing.T, path string, promised map[int64]bool) {
	t.Helper()
	s := openAt(t, path)
	view(t, s, func(r compute.Reader) error {
		servers, err := r.Servers()
		if err != nil {
			return err
		}
		claims, err := r.Claims()
		if err != nil {
			return err
		}
		operations, err := r.Operations()
		if err != nil {
			return err
		}
		if len(claims) != len(servers) || len(operations) != len(servers) {
			t.Errorf("%d servers, %d claims, %d operations", len(servers), len(claims), len(operations))
		}
		found := map[int64]bool{}
		for _, server := range servers {
			found[server.Number] = true
		}
		for n := range promised {
			if !found[n] {
				t.Errorf("server number %d was committed and is gone", n)
			}
		}
		return nil
	})
}
