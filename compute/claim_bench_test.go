package compute

import (
	"fmt"
	"testing"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/pci"
)

// pinnedLedger has 500 guests of 2 pinned vCPUs on 8 cells of 160 CPUs.
func pinnedLedger(b *testing.B) *ledger {
	b.Helper()
	l := newLedger(Capacity{NUMA: numa.Config{DedicatedSet: new(cpuset.Set)}})
	host := hostSize{pcpus: 1280, memoryMiB: 8 << 20, diskGiB: 1 << 20}
	for i := range 8 {
		cpus := cpuset.Range(i*160, i*160+159)
		cell := numa.HostCell{ID: i, Dedicated: cpus, MemoryMiB: 1 << 20, Pages: []numa.Pages{{SizeKiB: 4, Total: 1 << 28}}}
		for cpu := range cpus.All {
			if cpu%2 == 0 {
				cell.Siblings = append(cell.Siblings, cpuset.Of(cpu, cpu+1))
			}
		}
		host.cells.Cells = append(host.cells.Cells, cell)
	}
	l.size(host)
	for i := range 500 {
		if _, err := l.take(Claim{ServerID: fmt.Sprint(i), VCPUs: 2, MemoryMiB: 1024}, pinnedRequest()); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

func pinnedRequest() numa.Request {
	return numa.Request{VCPUs: 2, MemoryMiB: 1024, ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated"}}
}

// BenchmarkClaim500 claims a place for one more pinned guest, and gives it back.
func BenchmarkClaim500(b *testing.B) {
	l := pinnedLedger(b)
	for b.Loop() {
		if _, err := l.take(Claim{ServerID: "one more", VCPUs: 2, MemoryMiB: 1024}, pinnedRequest()); err != nil {
			b.Fatal(err)
		}
		l.release("one more")
	}
}

// BenchmarkRefused500 says why there is no place for a guest.
func BenchmarkRefused500(b *testing.B) {
	l := pinnedLedger(b)
	r := pinnedRequest()
	r.VCPUs = 161
	for b.Loop() {
		if _, err := l.take(Claim{ServerID: "too large", VCPUs: 161, MemoryMiB: 1024}, r); err == nil {
			b.Fatal("it fits")
		}
	}
}

// BenchmarkRecount500 counts 500 pinned guests anew, each of which has a virtual function.
func BenchmarkRecount500(b *testing.B) {
	l := pinnedLedger(b)
	parent := pci.Address{Bus: 1}
	found := []pci.Allowed{{Device: pci.Device{Address: parent, Type: pci.TypePF}}}
	for i := range 500 {
		d := pci.Device{Address: pci.Address{Bus: 2 + i/256, Slot: i / 8 % 32, Function: i % 8}, Type: pci.TypeVF, Parent: &parent}
		found = append(found, pci.Allowed{Device: d})
		e := l.entries[ClaimKey{fmt.Sprint(i), ClaimOwn}]
		e.PCI = []ClaimedDevice{{Device: d}}
		l.entries[e.Key()] = e
	}
	l.show(found)
	for b.Loop() {
		l.mu.Lock()
		l.recount()
		l.mu.Unlock()
	}
	if used := l.stock.Owned("499"); len(used) != 1 {
		b.Errorf("the last guest has %v", used)
	}
}
