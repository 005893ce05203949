package compute_test

import (
	"errors"
	"strings"
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
	w.host = twoCells()
	w.options = func(o *compute.Options) { o.Capacity.NUMA = pinnedSets() }
	w.boot(nil)
	return w
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
		"hard reboot": func() { w.must(w.RebootServer(t.Context(), second.ID, true)) },
		"start of a vanished guest": func() {
			w.must(errors.Join(w.hv.UndefineByHand(second.ID), w.hv.DestroyByHand(second.ID)))
			w.untilVM(second.ID, compute.Stopped)
			w.must(w.StartServer(t.Context(), second.ID))
		},
		"restart of the agent": func() {
			w.stop()
			w.boot(nil)
			w.must(w.RebootServer(t.Context(), second.ID, true))
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
