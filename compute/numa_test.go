package compute_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// twoCells is a host of two cells, each with 4 cores of 2 threads, 8 GiB, and 1024 pages of 2 MiB.
func twoCells() fake.Options {
	return fake.Options{Cells: fake.Cells(2, fake.CellShape{Cores: 4, Threads: 2, MemoryMiB: 8192, HugePages: map[int]int{2048: 1024}})}
}

// onCells starts an agent on a host of two cells whose CPUs 2-7 and 10-15 are for pinning.
func onCells(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.pin()
	w.boot(nil)
	return w
}

// pin makes the world's host one of two cells, and its flavor one of pinned vCPUs on huge pages.
func (w *world) pin() {
	w.host = twoCells()
	w.options = func(o *compute.Options) { o.Capacity.NUMA = pinnedSets() }
	w.extra = map[string]string{"hw:cpu_policy": "dedicated", "hw:mem_page_size": "large"}
}

func pinnedSets() numa.Config {
	shared, dedicated := cpuset.Of(0, 1, 8, 9), cpuset.Range(2, 7).Union(cpuset.Range(10, 15))
	return numa.Config{SharedSet: &shared, DedicatedSet: &dedicated}
}

// flavor stores a flavor with extra specs "key=value" and returns its ID.
func (w *world) flavor(vcpus, memoryMiB int, extra ...string) string {
	w.t.Helper()
	f := compute.Flavor{Name: strings.Join(extra, " "), VCPUs: vcpus, MemoryMiB: memoryMiB, DiskGiB: 1, ExtraSpecs: map[string]string{}}
	for _, e := range extra {
		key, value, _ := strings.Cut(e, "=")
		f.ExtraSpecs[key] = value
	}
	f.ID = cmp.Diff(compute.Flavor{}, f) // any two that differ have different ones
	w.must(w.agent.store.Update(w.t.Context(), func(tx compute.Writer) error { return tx.PutFlavor(f) }))
	return f.ID
}

// build makes a server of a flavor and waits until it runs.
func (w *world) build(flavorID string) compute.Server {
	w.t.Helper()
	r := request()
	r.FlavorID = flavorID
	s, err := w.CreateServer(w.t.Context(), r)
	w.must(err)
	if s = w.await(s.ID); s.VM != compute.Active {
		w.t.Fatalf("server is %s: %+v", s.VM, s.Fault)
	}
	return s
}

func (w *world) place(id string) *virt.Placement {
	w.t.Helper()
	spec, err := w.hv.Spec(id)
	w.must(err)
	return spec.Placement
}

func TestPinnedServer(t *testing.T) {
	w := onCells(t)
	flavor := w.flavor(4, 1024, "hw:numa_nodes=2", "hw:cpu_policy=dedicated", "hw:mem_page_size=large")
	first := w.build(flavor)
	want := &virt.Placement{
		VCPUs:    []cpuset.Set{cpuset.Of(2), cpuset.Of(3), cpuset.Of(10), cpuset.Of(11)},
		Emulator: cpuset.Of(2, 3, 10, 11),
		Cells: []virt.GuestCell{
			{VCPUs: cpuset.Of(0, 1), MemoryMiB: 512, HostCell: 0, PageKiB: 2048, Distances: []int{10, 20}},
			{VCPUs: cpuset.Of(2, 3), MemoryMiB: 512, HostCell: 1, PageKiB: 2048, Distances: []int{20, 10}},
		},
	}
	if diff := cmp.Diff(want, w.place(first.ID)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	second := w.build(flavor)
	if got := w.place(second.ID).Emulator; !got.Equal(cpuset.Of(4, 5, 12, 13)) {
		t.Errorf("the second server is on %v", got)
	}
	w.must(w.DeleteServer(t.Context(), first.ID))
	w.waitAll()
	third := w.build(flavor)
	if got := w.place(third.ID).Emulator; !got.Equal(cpuset.Of(2, 3, 10, 11)) {
		t.Errorf("the third server is on %v, not where the first has gone from", got)
	}
	w.waitAll()
	w.audit()
}

// TestPlaceSurvives makes a guest again in every way there is: it never moves.
func TestPlaceSurvives(t *testing.T) {
	w := onCells(t)
	flavor := w.flavor(2, 512, "hw:cpu_policy=dedicated")
	first, second := w.build(flavor), w.build(flavor)
	was := w.place(second.ID)
	w.must(w.DeleteServer(t.Context(), first.ID)) // a new fit would take its place
	w.waitAll()
	for name, act := range map[string]func(){
		"hard reboot": func() { w.must(w.RebootServer(t.Context(), second.ID, compute.Reboot{Hard: true})) },
		"start of a vanished guest": func() {
			w.must(errors.Join(w.hv.UndefineByHand(second.ID), w.hv.DestroyByHand(second.ID)))
			w.untilVM(second.ID, compute.Stopped)
			w.must(w.StartServer(t.Context(), second.ID))
		},
		"restart of the agent": func() {
			w.stop()
			w.boot(nil)
			w.must(w.RebootServer(t.Context(), second.ID, compute.Reboot{Hard: true}))
		},
	} {
		act()
		w.waitAll()
		if diff := cmp.Diff(was, w.place(second.ID)); diff != "" {
			t.Errorf("%s (-before +after)\n%s", name, diff)
		}
	}
	third := w.build(flavor)
	if got := w.place(third.ID).Emulator; got.IntersectLen(was.Emulator) > 0 {
		t.Errorf("a server was put on %v, next to one on %v", got, was.Emulator)
	}
}

func TestNoRoomInCells(t *testing.T) {
	w := onCells(t)
	r := request()
	r.FlavorID = w.flavor(7, 512, "hw:cpu_policy=dedicated")
	_, err := w.CreateServer(t.Context(), r)
	var failure *compute.Failure
	if !errors.As(err, &failure) || !errors.Is(err, compute.ErrNoCapacity) || failure.Field != "NUMA" || !strings.Contains(err.Error(), "7 asked, 6") {
		t.Errorf("error %v", err)
	}
	if len(w.servers()) > 0 {
		t.Error("the server was stored")
	}
}

func TestWrongExtraSpecs(t *testing.T) {
	w := onCells(t)
	for text, class := range map[string]string{
		"hw:cpu_policy=pinned":          "InvalidCPUAllocationPolicy",
		"hw:numa_nodes=0":               "InvalidNUMANodesNumber",
		"hw:mem_page_size=2XB":          "MemoryPageSizeInvalid",
		"hw:cpu_max_sockets=x":          "InvalidRequest",
		"hw:cpu_thread_policy=isolate":  "CPUThreadPolicyConfigurationInvalid",
		"hw:emulator_threads_policy=no": "InvalidEmulatorThreadsPolicy",
	} {
		r := request()
		r.FlavorID = w.flavor(2, 512, text)
		_, err := w.CreateServer(t.Context(), r)
		var failure *compute.Failure
		var wrong *numa.Error
		key, _, _ := strings.Cut(text, "=")
		if !errors.As(err, &failure) || !errors.Is(err, compute.ErrInvalid) || failure.Field != "flavorRef" || !strings.Contains(failure.Reason, key) {
			t.Errorf("%s: error %v", text, err)
		}
		if !errors.As(err, &wrong) || wrong.Class != class {
			t.Errorf("%s: Nova's name of it is %+v, want %s", text, wrong, class)
		}
	}
	if len(w.servers()) > 0 {
		t.Error("a server was stored")
	}
}

func TestConfigurationForAnotherHost(t *testing.T) {
	set := cpuset.Of(14, 15, 16)
	for name, config := range map[string]numa.Config{
		"cpu_shared_set":      {SharedSet: &set},
		"cpu_dedicated_set":   {DedicatedSet: &set},
		"reserved_huge_pages": {Reserved: map[int]map[int]int{0: {1048576: 1}}},
	} {
		w := newWorld(t)
		w.host = twoCells()
		w.options = func(o *compute.Options) { o.Capacity.NUMA = config }
		w.prepare(newFate())
		var wrong *numa.Error
		if err := w.Start(t.Context()); !errors.As(err, &wrong) || wrong.Key != name {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// logText is a log that may be read while it is written.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logText) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

// TestPCPUGoesOffline takes a pCPU away under a pinned server: its operator is told once, and nobody else
// gets the pCPU, also when it comes back.
func TestPCPUGoesOffline(t *testing.T) {
	w := onCells(t)
	var log logText
	w.stop()
	sets := w.options
	w.options = func(o *compute.Options) {
		sets(o)
		logTo(&log)(o)
	}
	w.boot(nil)
	flavor := w.flavor(2, 512, "hw:cpu_policy=dedicated")
	first := w.build(flavor)
	w.hv.SetOffline(cpuset.Of(3))
	for range 3 {
		w.Audit()
	}
	told := strings.Count(log.String(), "pCPU 3, which it is pinned to, is offline")
	if told != 1 || !strings.Contains(log.String(), first.ID) {
		t.Errorf("told %d times:\n%s", told, &log)
	}
	w.stop() // a restart is no reason to refuse the configuration
	w.boot(nil)
	var pinned cpuset.Set
	for range 4 {
		pinned = pinned.Union(w.place(w.build(flavor).ID).Emulator)
	}
	if pinned.Has(2) || pinned.Has(3) {
		t.Errorf("servers were pinned to %v; the first is on 2-3", pinned)
	}
	w.must(w.RebootServer(t.Context(), first.ID, compute.Reboot{Hard: true}))
	if s := w.await(first.ID); s.VM != compute.Error || !strings.Contains(s.Fault.Message, "pCPU 3 is offline") {
		t.Errorf("rebooted without its pCPU it is %s: %+v", s.VM, s.Fault)
	}
	w.hv.SetOffline(cpuset.Set{})
	w.Audit()
	w.must(w.RebootServer(t.Context(), first.ID, compute.Reboot{Hard: true}))
	if s := w.await(first.ID); s.VM != compute.Active || !w.place(first.ID).Emulator.Equal(cpuset.Of(2, 3)) {
		t.Errorf("rebooted with its pCPU it is %s on %v", s.VM, w.place(first.ID).Emulator)
	}
	w.build(flavor)
	r := request()
	r.FlavorID = flavor
	if s, err := w.CreateServer(t.Context(), r); !errors.Is(err, compute.ErrNoCapacity) {
		t.Errorf("error %v, server on %v: pCPU 3 is the first server's", err, w.place(s.ID))
	}
	w.must(w.DeleteServer(t.Context(), first.ID))
	w.waitAll()
	if got := w.place(w.build(flavor).ID).Emulator; !got.Equal(cpuset.Of(2, 3)) {
		t.Errorf("the last server is on %v", got)
	}
}

// TestAuditNamesDifferences makes store, ledger and guests differ, and wants each named and put right.
func TestAuditNamesDifferences(t *testing.T) {
	w := onCells(t)
	var log logText
	w.stop()
	sets := w.options
	w.options = func(o *compute.Options) {
		sets(o)
		logTo(&log)(o)
	}
	w.boot(nil)
	flavor := w.flavor(2, 512, "hw:cpu_policy=dedicated")
	lost, changed := w.build(flavor), w.build(flavor)
	w.Audit()
	if strings.Contains(log.String(), "audit found") {
		t.Errorf("differences where there are none:\n%s", &log)
	}
	claim := w.claims()[changed.ID]
	claim.MemoryMiB, claim.NUMA = 256, nil
	w.must(w.agent.store.Update(t.Context(), func(tx compute.Writer) error {
		return errors.Join(tx.DeleteClaim(compute.ClaimKey{ServerID: lost.ID}), tx.PutClaim(claim))
	}))
	w.Audit()
	for id, what := range map[string]string{
		lost.ID:    "it had no claim",
		changed.ID: "another claim than the stored one was counted",
	} {
		found := false
		for line := range strings.Lines(log.String()) {
			found = found || strings.Contains(line, what) && strings.Contains(line, id)
		}
		if !found {
			t.Errorf("not told: %s:\n%s", what, &log)
		}
	}
	if !strings.Contains(log.String(), "its guest has 2 vCPUs and 512 MiB; it claims 2 and 256") {
		t.Errorf("not told of the guest:\n%s", &log)
	}
	if left := w.Differences(); len(left) != 1 || !strings.Contains(left[0], "its guest has") {
		t.Errorf("left is %q; only the guest cannot be put right", left)
	}
	log.Reset()
	w.Audit()
	if strings.Contains(log.String(), "audit found") {
		t.Errorf("told again:\n%s", &log)
	}
}
