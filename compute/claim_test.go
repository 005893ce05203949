package compute

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"compute-agent/internal/cpuset"
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
	if b := l.balance(); b.used != (amounts{}) || b.sum != (sizes{}) {
		t.Errorf("left in the ledger: %+v", b)
	}
}

// TestCellsAreNeverOversold lets 64 goroutines claim and free pinned guests on huge pages with PCI devices, more than
// there is room for, for servers of their own, for resizes and for guests that arrive: no pCPU and no device has two
// owners, and no more pages are in use than there are.
func TestCellsAreNeverOversold(t *testing.T) {
	const pages = 16
	l := movingLedger(t)
	start := l.balance()
	var owners [16]atomic.Int64
	var devices [5]atomic.Int64
	var inUse [2]atomic.Int64
	var placed, refused atomic.Int64
	hold := func(c Claim, sign int64) {
		cell := c.NUMA.Cells[0]
		if inUse[cell.ID].Add(sign*int64(cell.MemoryMiB/2)) > pages {
			t.Errorf("more than %d pages of cell %d are in use", pages, cell.ID)
		}
		for _, pin := range cell.Pins {
			if owners[pin.PCPU].Add(sign) > 1 {
				t.Errorf("pCPU %d has two owners", pin.PCPU)
			}
		}
		for _, d := range c.PCI {
			if devices[d.Address.Slot].Add(sign) > 1 {
				t.Errorf("device %v has two owners", d.Address)
			}
		}
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			r := numa.Request{VCPUs: 1 + i%4, MemoryMiB: 4 << (i % 3), ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated", "hw:mem_page_size": "2MB"}}
			if i%2 == 0 {
				r.ExtraSpecs["pci_passthrough:alias"] = []string{"gpu:1", "near:1"}[i/2%2]
			}
			kind := []ClaimKind{ClaimOwn, ClaimResize, ClaimIncoming}[i%3]
			for range 50 {
				c, err := l.take(Claim{ServerID: fmt.Sprint(i / 3), Kind: kind, VCPUs: r.VCPUs, MemoryMiB: r.MemoryMiB}, r)
				if err != nil {
					refused.Add(1)
					continue
				}
				placed.Add(1)
				hold(c, +1)
				runtime.Gosched()
				hold(c, -1)
				l.abort(c.Key())
			}
		})
	}
	wg.Wait()
	if placed.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d placed, %d refused: the test proves nothing", placed.Load(), refused.Load())
	}
	if diff := differ(start, l.balance()); diff != "" {
		t.Errorf("left in the ledger: %s", diff)
	}
}

func cores(first, n int) (list []cpuset.Set) {
	for cpu := first; cpu < first+n; cpu++ {
		list = append(list, cpuset.Of(cpu))
	}
	return list
}
