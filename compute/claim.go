package compute

import (
	"fmt"
	"math"
	"sync"

	"compute-agent/virt"
)

// Capacity says how much of the host servers may claim. A ratio of zero means its default. The
// names and defaults are Nova's.
type Capacity struct {
	CPUAllocationRatio    float64 // claimed vCPUs per online logical CPU; default 4.0
	RAMAllocationRatio    float64 // default 1.0
	DiskAllocationRatio   float64 // default 1.0
	ReservedHostCPUs      int
	ReservedHostMemoryMiB int // reserved_host_memory_mb; DefaultReservedMemoryMiB is Nova's default
	ReservedHostDiskMiB   int // reserved_host_disk_mb
}

// DefaultReservedMemoryMiB is Nova's default of reserved_host_memory_mb.
const DefaultReservedMemoryMiB = 512

func (c Capacity) withDefaults() Capacity {
	for ratio, def := range map[*float64]float64{&c.CPUAllocationRatio: 4, &c.RAMAllocationRatio: 1, &c.DiskAllocationRatio: 1} {
		if *ratio == 0 {
			*ratio = def
		}
	}
	return c
}

// resource is one row of the ledger.
type resource struct {
	name, unit      string
	total, reserved int
	ratio           float64
}

// limit is how much may be claimed in all: (total - reserved) * ratio, as placement counts.
func (r resource) limit() int {
	return int(math.Floor(float64(max(0, r.total-r.reserved)) * r.ratio))
}

// ledger counts what servers claim of the host. Its lock is short: nothing is done under it but
// sums. The store has the same claims; the ledger is what decides.
type ledger struct {
	capacity Capacity

	mu     sync.Mutex
	known  bool // the host's size
	totals Claim
	claims map[string]Claim
	used   Claim
}

func newLedger(c Capacity) *ledger {
	return &ledger{capacity: c.withDefaults(), claims: map[string]Claim{}}
}

// size tells the ledger how large the host is.
func (l *ledger) size(h virt.Host, st Storage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = true
	l.totals = Claim{VCPUs: h.CPUs, MemoryMiB: int(h.MemoryMiB), DiskGiB: int(st.TotalBytes >> 30)}
}

// restore puts a stored claim into the ledger, also where the host has become too small for it.
func (l *ledger) restore(c Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(c)
}

// take adds a claim, or says which resource is short: how much was asked and how much is free. A
// server that has a claim keeps the old one and needs room only for the difference.
func (l *ledger) take(c Claim) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		return &Failure{Kind: ErrUnavailable, Reason: "the size of the host is not known yet"}
	}
	for i, r := range l.resources() {
		asked := c.amounts()[i]
		free := r.limit() - l.used.amounts()[i] + l.claims[c.ServerID].amounts()[i]
		if asked > free {
			return &Failure{Kind: ErrNoCapacity, Field: r.name, Reason: fmt.Sprintf(
				"%d %s asked, %d free (the host has %d, %d reserved, allocation ratio %g, %d claimed)",
				asked, r.unit, max(0, free), r.total, r.reserved, r.ratio, l.used.amounts()[i])}
		}
	}
	l.put(c)
	return nil
}

// release frees a server's claim; one that has none is fine.
func (l *ledger) release(serverID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(serverID)
}

// state returns the host's totals and the sum of all claims.
func (l *ledger) state() (totals, used Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals, l.used
}

func (l *ledger) put(c Claim) {
	l.drop(c.ServerID)
	l.claims[c.ServerID] = c
	l.used.VCPUs += c.VCPUs
	l.used.MemoryMiB += c.MemoryMiB
	l.used.DiskGiB += c.DiskGiB
}

func (l *ledger) drop(serverID string) {
	c := l.claims[serverID]
	delete(l.claims, serverID)
	l.used.VCPUs -= c.VCPUs
	l.used.MemoryMiB -= c.MemoryMiB
	l.used.DiskGiB -= c.DiskGiB
}

// resources are the ledger's rows, in the order of Claim.amounts.
func (l *ledger) resources() [3]resource {
	c := l.capacity
	return [3]resource{
		{"vCPU", "vCPUs", l.totals.VCPUs, c.ReservedHostCPUs, c.CPUAllocationRatio},
		{"memory", "MiB", l.totals.MemoryMiB, c.ReservedHostMemoryMiB, c.RAMAllocationRatio},
		{"disk", "GiB", l.totals.DiskGiB, (c.ReservedHostDiskMiB + 1023) / 1024, c.DiskAllocationRatio},
	}
}

func (c Claim) amounts() [3]int { return [3]int{c.VCPUs, c.MemoryMiB, c.DiskGiB} }

// claimOf is what a server of the flavor takes. A flavor without a disk size gets the image's.
func claimOf(serverID string, f Flavor, img Image) Claim {
	disk := f.DiskGiB
	if disk == 0 {
		disk = gibibytes(img.VirtualSize)
	}
	return Claim{ServerID: serverID, VCPUs: f.VCPUs, MemoryMiB: f.MemoryMiB, DiskGiB: disk + f.EphemeralGiB + (f.SwapMiB+1023)/1024}
}

// gibibytes rounds up.
func gibibytes(bytes int64) int { return int((bytes + 1<<30 - 1) >> 30) }
