package compute

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/pci"
)

// movingLedger is the ledger of a small host: two cells of 8 pCPUs with 16 huge pages of 2 MiB, two GPUs in each and
// one of which the cell is not known.
func movingLedger(t testing.TB) *ledger {
	t.Helper()
	specs, err := pci.ParseSpecs([]string{`{"vendor_id": "10de"}`})
	if err != nil {
		t.Fatal(err)
	}
	aliases, err := pci.ParseAliases([]string{`{"name": "gpu", "vendor_id": "10de", "numa_policy": "preferred"}`, `{"name": "near", "vendor_id": "10de", "numa_policy": "required"}`})
	if err != nil {
		t.Fatal(err)
	}
	l := newLedger(Capacity{NUMA: numa.Config{DedicatedSet: new(cpuset.Set)}, PCI: PCIConfig{Specs: specs, Aliases: aliases}})
	host := hostSize{vcpus: 8, pcpus: 16, memoryMiB: 4096, hugeMiB: 64, diskGiB: 100}
	for i := range 2 {
		host.cells.Cells = append(host.cells.Cells, numa.HostCell{ID: i, Dedicated: cpuset.Range(8*i, 8*i+7), Shared: cpuset.Range(100+8*i, 103+8*i), MemoryMiB: 2048,
			Siblings: cores(8*i, 8), Socket: i, Pages: []numa.Pages{{SizeKiB: 4, Total: 1 << 19}, {SizeKiB: 2048, Total: 16}}})
	}
	l.size(host)
	var devices []pci.Device
	for i, node := range []int{0, 0, 1, 1, -1} {
		d := pci.Device{Address: pci.Address{Bus: 0x81, Slot: i}, VendorID: "10de", ProductID: "20b5", Type: pci.TypePCI}
		if node >= 0 {
			d.Node = &node
		}
		devices = append(devices, d)
	}
	found, err := pci.Allow(specs, devices)
	if err != nil {
		t.Fatal(err)
	}
	l.show(found)
	return l
}

// asks are what the servers of the properties ask.
var asks = []map[string]string{
	{},
	{"hw:cpu_policy": "dedicated"},
	{"hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate"},
	{"hw:numa_nodes": "2"},
	{"hw:mem_page_size": "2MB", "hw:cpu_policy": "dedicated"},
	{"pci_passthrough:alias": "gpu:1"},
	{"pci_passthrough:alias": "near:2", "hw:cpu_policy": "dedicated"},
	{"pci_passthrough:alias": "near:1,gpu:1", "hw:mem_page_size": "large", "hw:numa_nodes": "1"},
}

func drawAsk(t *rapid.T) (numa.Request, Claim) {
	r := numa.Request{VCPUs: 2 * rapid.IntRange(1, 2).Draw(t, "half of the vCPUs"), MemoryMiB: 4 * rapid.IntRange(1, 5).Draw(t, "quarter of the MiB"), ExtraSpecs: rapid.SampledFrom(asks).Draw(t, "extra specs")}
	return r, Claim{VCPUs: r.VCPUs, MemoryMiB: r.MemoryMiB, DiskGiB: 1}
}

// TestClaimsNeverOversell plays random lives of servers with claims of all kinds. After each step the ledger is what
// counting anew makes of it, nothing has two owners, and at the end it is as it was.
func TestClaimsNeverOversell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := movingLedger(&silent{})
		start := l.balance()
		servers := []string{"a", "b", "c", "d"}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			key := ClaimKey{rapid.SampledFrom(servers).Draw(t, "server"), rapid.SampledFrom(claimKinds).Draw(t, "kind")}
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0:
				l.abort(key)
				l.abort(key) // again is fine
			case 1:
				to := ClaimOwn
				if _, rebuilding := l.claims()[ClaimKey{key.ServerID, ClaimRebuild}]; key.Kind == ClaimOwn && !rebuilding {
					to = ClaimOutgoing
				}
				l.move(key, to)
				l.move(key, to)
			case 2:
				l.release(key.ServerID)
			case 3:
				l.allocate(key.ServerID)
			default:
				r, c := drawAsk(t)
				c.ServerID, c.Kind = key.ServerID, key.Kind
				before := l.balance()
				if _, err := l.take(c, r); err != nil && (!errors.Is(err, ErrNoCapacity) || differ(before, l.balance()) != "") {
					t.Fatalf("refused with %v; changed: %s", err, differ(before, l.balance()))
				}
			}
			checkLedger(t, l)
		}
		for _, s := range servers {
			l.release(s)
			l.release(s)
		}
		if diff := differ(start, l.balance()); diff != "" {
			t.Fatalf("after all have gone: %s", diff)
		}
	})
}

// silent lets helpers of testing be called where rapid has its own.
type silent struct{ testing.TB }

func (*silent) Helper() {}

// differ says in what two moments of a ledger differ; empty for nothing.
func differ(a, b balance) string {
	switch {
	case a.used != b.used || a.sum != b.sum:
		return fmt.Sprintf("sums %v %v and %v %v", a.used, a.sum, b.used, b.sum)
	case len(compareCells(a.cells, b.cells)) > 0:
		return fmt.Sprintf("cells %+v and %+v", a.cells, b.cells)
	case deviceStates(a.stock) != deviceStates(b.stock):
		return fmt.Sprintf("devices %s and %s", deviceStates(a.stock), deviceStates(b.stock))
	}
	return ""
}

func deviceStates(s stock) string {
	var text strings.Builder
	for _, a := range s.Addresses() {
		fmt.Fprintf(&text, "%v %v; ", a, s.Entry(a))
	}
	return text.String()
}

func checkLedger(t *rapid.T, l *ledger) {
	before := l.balance()
	l.mu.Lock()
	l.recount()
	l.mu.Unlock()
	if diff := differ(before, l.balance()); diff != "" {
		t.Fatalf("counted anew it is something else: %s", diff)
	}
	for i, r := range l.capacity.resources(l.host) {
		if l.used[i] > r.limit() || l.used[i] < 0 {
			t.Fatalf("%d of %d %s are claimed", l.used[i], r.limit(), r.name)
		}
	}
	for _, cell := range l.cells.Cells {
		for _, p := range cell.Pages {
			if p.Free() < 0 {
				t.Fatalf("%d pages of %d KiB are claimed of %d", p.Used, p.SizeKiB, p.Total)
			}
		}
	}
	pcpus, devices := map[int]ClaimKey{}, map[pci.Address]ClaimKey{}
	for key, e := range l.claims() {
		if e.NUMA != nil && e.counted == nil {
			t.Fatalf("the place of %v is not counted", key)
		}
		if e.NUMA != nil {
			for pcpu := range pinnedTo(*e.NUMA).All {
				other, taken := pcpus[pcpu]
				if taken && !mayShare(key, other) {
					t.Fatalf("pCPU %d is claimed by %v and %v", pcpu, key, other)
				}
				pcpus[pcpu] = key
			}
		}
		for _, d := range e.PCI {
			other, taken := devices[d.Address]
			if taken && !mayShare(key, other) {
				t.Fatalf("device %v is claimed by %v and %v", d.Address, key, other)
			}
			devices[d.Address] = key
			if owner := l.stock.Entry(d.Address).Owner; owner != key.ServerID {
				t.Fatalf("device %v of %v is owned by %q", d.Address, key, owner)
			}
		}
	}
	for _, a := range l.stock.Addresses() {
		if _, claimed := devices[a]; !claimed && l.stock.Entry(a).State != pci.Available {
			t.Fatalf("device %v is %v and nobody claims it", a, l.stock.Entry(a))
		}
	}
}

// mayShare says whether two claims are of one guest that is never there twice.
func mayShare(a, b ClaimKey) bool {
	pair := []ClaimKind{a.Kind, b.Kind}
	return a.ServerID == b.ServerID && slices.Contains(pair, ClaimRebuild) && slices.Contains(pair, ClaimOwn)
}

// TestOrderOfClaims puts the same claims into ledgers in different orders: the sums are the same.
func TestOrderOfClaims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := movingLedger(&silent{})
		var claims []Claim
		for i := range rapid.IntRange(1, 8).Draw(t, "claims") {
			r, c := drawAsk(t)
			c.ServerID, c.Kind = fmt.Sprint(i), rapid.SampledFrom(claimKinds).Draw(t, "kind")
			if c, err := l.take(c, r); err == nil {
				claims = append(claims, c)
			}
		}
		other := movingLedger(&silent{})
		for _, c := range rapid.Permutation(claims).Draw(t, "order") {
			other.restore(c)
		}
		if diff := differ(l.balance(), other.balance()); diff != "" {
			t.Fatal(diff)
		}
		for _, c := range rapid.Permutation(claims).Draw(t, "order of leaving") {
			other.abort(c.Key())
		}
		if diff := differ(movingLedger(&silent{}).balance(), other.balance()); diff != "" {
			t.Fatalf("after all have gone: %s", diff)
		}
	})
}

var pinnedGPU = numa.Request{VCPUs: 4, MemoryMiB: 20, ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated", "hw:mem_page_size": "2MB", "pci_passthrough:alias": "near:2"}}

func claimFor(server string, kind ClaimKind) Claim {
	return Claim{ServerID: server, Kind: kind, VCPUs: 4, MemoryMiB: 20, DiskGiB: 2}
}

func mustTake(t *testing.T, l *ledger, c Claim, r numa.Request) Claim {
	t.Helper()
	got, err := l.take(c, r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestResizeOnTheSameHost holds old and new together until one of them goes.
func TestResizeOnTheSameHost(t *testing.T) {
	for _, confirmed := range []bool{true, false} {
		l := movingLedger(t)
		old := mustTake(t, l, claimFor("a", ClaimOwn), pinnedGPU)
		next := mustTake(t, l, claimFor("a", ClaimResize), pinnedGPU)
		if old.NUMA.Cells[0].ID == next.NUMA.Cells[0].ID || old.PCI[0].Address == next.PCI[0].Address {
			t.Errorf("both in one place: %+v and %+v", old, next)
		}
		if _, err := l.take(claimFor("b", ClaimOwn), pinnedGPU); !errors.Is(err, ErrNoCapacity) {
			t.Errorf("between the two: %v", err)
		}
		want := old
		if confirmed {
			l.move(next.Key(), ClaimOwn)
			want = next
			want.Kind = ClaimOwn
		} else {
			l.abort(next.Key())
		}
		if got, _ := l.place("a"); !reflect.DeepEqual(got, want) {
			t.Errorf("confirmed %v: it has %+v, want %+v", confirmed, got, want)
		}
		if got := mustTake(t, l, claimFor("b", ClaimOwn), pinnedGPU); got.NUMA.Cells[0].ID == want.NUMA.Cells[0].ID {
			t.Errorf("confirmed %v: the next server is beside it", confirmed)
		}
	}
}

// TestRebuildOnAFullHost needs no second place, and keeps the first until the new guest is made.
func TestRebuildOnAFullHost(t *testing.T) {
	l := movingLedger(t)
	mustTake(t, l, claimFor("a", ClaimOwn), pinnedGPU)
	mustTake(t, l, claimFor("b", ClaimOwn), pinnedGPU)
	full := l.balance()
	again := mustTake(t, l, claimFor("a", ClaimRebuild), pinnedGPU)
	if diff := differ(full, l.balance()); diff != "" {
		t.Errorf("the same again is counted: %s", diff)
	}
	large := pinnedGPU
	large.VCPUs = 9
	if _, err := l.take(claimFor("a", ClaimRebuild), large); !errors.Is(err, ErrNoCapacity) {
		t.Errorf("more pCPUs than a cell has: %v", err)
	}
	l.abort(again.Key())
	if diff := differ(full, l.balance()); diff != "" {
		t.Errorf("after it was aborted: %s", diff)
	}
	more := numa.Request{VCPUs: 6, MemoryMiB: 30, ExtraSpecs: pinnedGPU.ExtraSpecs}
	c := claimFor("a", ClaimRebuild)
	c.VCPUs, c.MemoryMiB = 6, 30
	c = mustTake(t, l, c, more)
	if b := l.balance(); b.used[rowPCPU] != 10 || b.sum.MemoryMiB != 50 || b.cells.Cells[c.NUMA.Cells[0].ID].Pages[1].Used != 15 {
		t.Errorf("what it takes more is %+v", b)
	}
	l.move(c.Key(), ClaimOwn)
	if got, _ := l.place("a"); got.VCPUs != 6 || l.balance().used[rowPCPU] != 10 {
		t.Errorf("it has %+v", got)
	}
}

// TestMigration takes a server away and back: what leaves is held until it cannot come back, also beside what arrives.
func TestMigration(t *testing.T) {
	l := movingLedger(t)
	own := mustTake(t, l, claimFor("a", ClaimOwn), pinnedGPU)
	l.move(own.Key(), ClaimOutgoing)
	out, _ := l.claims()[ClaimKey{"a", ClaimOutgoing}]
	if !reflect.DeepEqual(out.NUMA, own.NUMA) || !reflect.DeepEqual(out.PCI, own.PCI) {
		t.Errorf("it leaves with %+v", out.Claim)
	}
	in := mustTake(t, l, claimFor("a", ClaimIncoming), pinnedGPU) // it comes back before it was confirmed there
	if in.NUMA.Cells[0].ID == own.NUMA.Cells[0].ID {
		t.Error("what arrives is where what has left is held")
	}
	l.move(in.Key(), ClaimOwn)
	l.abort(out.Key())
	l.move(out.Key(), ClaimOwn) // it is not there any more
	if got, _ := l.place("a"); !reflect.DeepEqual(got.NUMA, in.NUMA) || len(l.claims()) != 1 {
		t.Errorf("it has %+v of %v", got, l.claims())
	}
}

func TestShortOfDevices(t *testing.T) {
	l := movingLedger(t)
	for name, c := range map[string]struct {
		extra       map[string]string
		field, want string
		kind        error
	}{
		"too many": {map[string]string{"pci_passthrough:alias": "gpu:6"}, "PCI", `6 PCI devices of alias "gpu" asked, 5 free, affinity preferred`, ErrNoCapacity},
		"too many, with cells": {map[string]string{"pci_passthrough:alias": "gpu:1,near:5", "hw:numa_nodes": "1"}, "PCI",
			`5 PCI devices of alias "near" asked, 4 free, affinity required`, ErrNoCapacity},
		"too far": {map[string]string{"pci_passthrough:alias": "near:3", "hw:numa_nodes": "1"}, "NUMA",
			`3 PCI devices of alias "near" asked, 5 free, 2 of them near enough to the guest's cells, affinity required; it would fit with hw:pci_numa_affinity_policy=preferred`, ErrNoCapacity},
		"the flavor's policy": {map[string]string{"pci_passthrough:alias": "gpu:3", "hw:numa_nodes": "1", "hw:pci_numa_affinity_policy": "required"}, "NUMA",
			`3 PCI devices of alias "gpu" asked, 5 free, 2 of them near enough to the guest's cells, affinity required`, ErrNoCapacity},
		"unknown alias": {map[string]string{"pci_passthrough:alias": "fpga:1"}, "flavorRef", `alias "fpga" is not configured`, ErrInvalid},
		"no number":     {map[string]string{"pci_passthrough:alias": "gpu"}, "flavorRef", `must be the name of an alias and a number of devices`, ErrInvalid},
		"no policy":     {map[string]string{"pci_passthrough:alias": "gpu:1", "hw:pci_numa_affinity_policy": "near"}, "flavorRef", "hw:pci_numa_affinity_policy", ErrInvalid},
	} {
		_, err := l.take(Claim{ServerID: "a", VCPUs: 1, MemoryMiB: 4}, numa.Request{VCPUs: 1, MemoryMiB: 4, ExtraSpecs: c.extra})
		var failure *Failure
		if !errors.As(err, &failure) || !errors.Is(err, c.kind) || failure.Field != c.field || !strings.Contains(failure.Reason, c.want) || strings.Contains(failure.Reason, "\n") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if len(l.claims()) > 0 {
		t.Errorf("something was claimed: %v", l.claims())
	}
}

func TestDevicesBeforeTheyAreKnown(t *testing.T) {
	l := movingLedger(t)
	fresh := newLedger(l.capacity)
	fresh.size(l.host)
	r := numa.Request{VCPUs: 1, MemoryMiB: 1, ExtraSpecs: map[string]string{"pci_passthrough:alias": "gpu:1"}}
	if _, err := fresh.take(Claim{ServerID: "a", VCPUs: 1, MemoryMiB: 1}, r); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v, want unavailable", err)
	}
	fresh.show(l.found)
	if _, err := fresh.take(Claim{ServerID: "a", VCPUs: 1, MemoryMiB: 1}, r); err != nil {
		t.Error(err)
	}
}
