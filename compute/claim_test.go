package compute

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"compute-agent/numa"
)

func testLedger() *ledger {
	l := newLedger(Capacity{ReservedHostMemoryMiB: 512, ReservedHostDiskMiB: 1500})
	l.size(hostSize{vcpus: 2, memoryMiB: 4096, diskGiB: 100})
	return l
}

func TestLedgerSaysWhatIsShort(t *testing.T) {
	for _, c := range []struct {
		name  string
		claim Claim
		want  string
	}{
		{"fits exactly", Claim{VCPUs: 8, MemoryMiB: 3584, DiskGiB: 98}, ""},
		{"vCPUs", Claim{VCPUs: 9}, "vCPU: 9 vCPUs asked, 8 free (the host has 2, 0 reserved, allocation ratio 4, 0 claimed)"},
		{"memory", Claim{MemoryMiB: 3585}, "memory: 3585 MiB asked, 3584 free (the host has 4096, 512 reserved, allocation ratio 1, 0 claimed)"},
		{"disk", Claim{DiskGiB: 99}, "disk: 99 GiB asked, 98 free (the host has 100, 2 reserved, allocation ratio 1, 0 claimed)"},
	} {
		c.claim.ServerID = c.name
		_, err := testLedger().take(c.claim, numa.Request{})
		if got := errorText(err); got != c.want || (err != nil && !errors.Is(err, ErrNoCapacity)) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestLedgerBeforeTheHostIsKnown(t *testing.T) {
	if _, err := newLedger(Capacity{}).take(Claim{ServerID: "a"}, numa.Request{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v, want unavailable", err)
	}
}

func TestLedgerKeepsStoredClaimsOfAHostThatShrank(t *testing.T) {
	l := testLedger()
	l.restore(Claim{ServerID: "old", VCPUs: 100})
	if _, err := l.take(Claim{ServerID: "new", VCPUs: 1}, numa.Request{}); !errors.Is(err, ErrNoCapacity) {
		t.Errorf("error %v, want no capacity", err)
	}
	l.release("old")
	l.release("old")
	if _, err := l.take(Claim{ServerID: "new", VCPUs: 8}, numa.Request{}); err != nil {
		t.Error(err)
	}
	if _, err := l.take(Claim{ServerID: "new", VCPUs: 8}, numa.Request{}); err != nil {
		t.Errorf("the same claim again: %v", err)
	}
}

func TestLedgerNeverOversells(t *testing.T) {
	l := testLedger()
	var live, most atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			id := fmt.Sprint(i)
			for range 200 {
				if _, err := l.take(Claim{ServerID: id, VCPUs: 1, MemoryMiB: 1}, numa.Request{}); err != nil {
					continue
				}
				n := live.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				live.Add(-1)
				l.release(id)
			}
		})
	}
	wg.Wait()
	if most.Load() > 8 || most.Load() == 0 {
		t.Errorf("%d claims at once, of 8", most.Load())
	}
	if b := l.balance(); b.used != (amounts{}) || b.sum != (Claim{}) {
		t.Errorf("left in the ledger: %+v", b)
	}
}
