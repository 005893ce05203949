package compute_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"compute-agent/compute"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

func started(t *testing.T, options func(*compute.Options)) *world {
	t.Helper()
	w := newWorld(t)
	w.options = options
	w.boot(nil)
	return w
}

func TestLifeOfAServer(t *testing.T) {
	w := started(t, nil)
	ctx := compute.WithRequestID(t.Context(), "req-1")
	s, err := w.CreateServer(ctx, request())
	w.must(err)
	if s.VM != compute.Building || s.Task != compute.TaskScheduling || s.Number != 1 || s.GuestName() != "instance-00000001" {
		t.Errorf("accepted as %+v", s)
	}
	s = w.await(s.ID)
	if s.VM != compute.Active || s.Power != virt.PowerRunning || s.Task != compute.TaskNone || s.Launched.IsZero() || s.Keypair == nil {
		t.Errorf("built as %+v", s)
	}
	for _, step := range []struct {
		act  func(context.Context, string) error
		want compute.VMState
	}{
		{w.PauseServer, compute.Paused}, {w.UnpauseServer, compute.Active},
		{w.StopServer, compute.Stopped}, {w.StartServer, compute.Active},
		{func(ctx context.Context, id string) error { return w.RebootServer(ctx, id, compute.Reboot{}) }, compute.Active},
		{func(ctx context.Context, id string) error { return w.RebootServer(ctx, id, compute.Reboot{Hard: true}) }, compute.Active},
	} {
		w.must(step.act(ctx, s.ID))
		if got := w.await(s.ID); got.VM != step.want {
			t.Errorf("server is %s, want %s", got.VM, step.want)
		}
		w.audit()
	}
	w.must(w.DeleteServer(ctx, s.ID))
	w.must(w.Wait(ctx, s.ID))
	if _, err := w.Server(ctx, s.ID); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("a deleted server: %v", err)
	}
	w.audit()
}

func TestAdminPasswordIsNotKept(t *testing.T) {
	w := started(t, nil)
	req := request()
	req.AdminPassword = "correct-horse-battery"
	s, err := w.CreateServer(t.Context(), req)
	w.must(err)
	if w.await(s.ID).VM != compute.Active {
		t.Fatal("not built")
	}
	for _, s := range w.servers() {
		if strings.Contains(fmt.Sprintf("%+v", s), req.AdminPassword) {
			t.Error("the server's record holds the password")
		}
	}
	if len(w.operations()) > 0 {
		t.Error("the journal is not empty")
	}
}

func TestCreateRefuses(t *testing.T) {
	w := started(t, nil)
	for name, c := range map[string]struct {
		change func(*compute.CreateRequest)
		kind   error
		field  string
	}{
		"unknown image":  {func(r *compute.CreateRequest) { r.ImageID = "nothing" }, compute.ErrInvalid, "imageRef"},
		"unknown flavor": {func(r *compute.CreateRequest) { r.FlavorID = "nothing" }, compute.ErrInvalid, "flavorRef"},
		"unknown key":    {func(r *compute.CreateRequest) { r.KeyName = "nothing" }, compute.ErrInvalid, "key_name"},
		"other's key":    {func(r *compute.CreateRequest) { r.UserID = "other" }, compute.ErrInvalid, "key_name"},
		"name":           {func(r *compute.CreateRequest) { r.Name = "a\x00" }, compute.ErrInvalid, "name"},
		"user data":      {func(r *compute.CreateRequest) { r.UserData = make([]byte, 50000) }, compute.ErrInvalid, "user_data"},
		"too large":      {func(r *compute.CreateRequest) { r.FlavorID = "huge" }, compute.ErrNoCapacity, "memory"},
		"not this host":  {func(r *compute.CreateRequest) { r.FlavorID = "speaker" }, compute.ErrInvalid, "flavorRef"}, // which QEMU 7.2 lacks
	} {
		w.must(w.agent.store.Update(t.Context(), func(tx compute.Writer) error {
			return errors.Join(
				tx.PutFlavor(compute.Flavor{ID: "huge", Name: "huge", VCPUs: 1, MemoryMiB: 1 << 20, DiskGiB: 1}),
				tx.PutFlavor(compute.Flavor{ID: "speaker", Name: "speaker", VCPUs: 1, MemoryMiB: 64, DiskGiB: 1, ExtraSpecs: map[string]string{"hw:sound_model": "pcspk"}}))
		}))
		r := request()
		c.change(&r)
		_, err := w.CreateServer(t.Context(), r)
		t.Run(name, func(t *testing.T) { wantFailure(t, err, c.kind, c.field) })
	}
	if n := len(w.servers()) + len(w.claims()) + len(w.files()); n > 0 {
		t.Errorf("%d things are left of refused servers", n)
	}
	w.audit()
}

func TestManyCreatesNeverOversell(t *testing.T) {
	w := started(t, func(o *compute.Options) { o.Capacity.CPUAllocationRatio = 0.5 }) // 8 of the fake's 16 CPUs
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := w.CreateServer(t.Context(), request()); err != nil && !errors.Is(err, compute.ErrNoCapacity) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.waitAll()
	if n := len(w.guests()); n != 8 {
		t.Errorf("%d guests, want 8", n)
	}
	w.audit()
}

// failingRunner fails a program.
func failingDisk(err error) func(*compute.Options) {
	return func(o *compute.Options) { o.Disks = brokenDisks{o.Disks, err} }
}

type brokenDisks struct {
	compute.Disks
	err error
}

func (d brokenDisks) Make(ctx context.Context, s compute.Server, on compute.Attached, secret compute.Secrets) error {
	return errors.Join(d.Disks.Make(ctx, s, on, secret), d.err)
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		options func(*compute.Options)
		fault   func(*world)
		says    string
	}{
		"disk full":            {failingDisk(fmt.Errorf("write /state/secret: %w", syscall.ENOSPC)), nil, "no space is left on the host"},
		"hypervisor refuses":   {nil, failing("Create", virt.ErrUnsupported), "cannot do what the flavor or image asks"},
		"no memory":            {nil, failing("Start", virt.ErrNoCapacity), "lacks a resource"},
		"image bytes are gone": {nil, func(w *world) { w.must(os.RemoveAll(w.blobs)) }, "its bytes are not there"},
	} {
		t.Run(name, func(t *testing.T) {
			w := started(t, c.options)
			if c.fault != nil {
				c.fault(w)
			}
			s := w.create()
			if s.VM != compute.Error || s.Fault == nil || s.Fault.Code != 500 || !strings.Contains(s.Fault.Message, c.says) {
				t.Errorf("server %s, fault %+v; want one that says %q", s.VM, s.Fault, c.says)
			}
			if s.Fault != nil && strings.Contains(s.Fault.Message, "/") {
				t.Errorf("the user sees a path: %s", s.Fault.Message)
			}
			if n := len(w.guests()) + len(w.claims()) + len(w.files()); n > 0 {
				t.Errorf("%d things are left of a server that failed", n)
			}
			w.audit()
			w.must(w.DeleteServer(t.Context(), s.ID))
			w.waitAll()
			if len(w.servers()) > 0 {
				t.Error("the failed server cannot be deleted")
			}
		})
	}
}

func failing(method string, kind error) func(*world) {
	return func(w *world) {
		w.hv.Inject(fake.Fault{Method: method, Do: fake.Fail(&virt.Error{Op: "test", Kind: kind})})
	}
}

func TestCommandDuringOperationIsAConflict(t *testing.T) {
	w := started(t, nil)
	id := active(w)
	hang := w.hv.Inject(fake.Fault{Method: "Stop", Do: fake.Hang})
	w.must(w.StopServer(t.Context(), id))
	<-hang.Struck()
	for name, act := range map[string]func(context.Context, string) error{"pause": w.PauseServer, "start": w.StartServer, "stop": w.StopServer} {
		if err := act(t.Context(), id); !errors.Is(err, compute.ErrConflict) {
			t.Errorf("%s: error %v, want a conflict", name, err)
		}
	}
	ways, err := w.UnderWay(t.Context())
	w.must(err)
	if len(ways) != 1 || ways[0].Kind != compute.OpStop || ways[0].Step != "stop" || ways[0].ServerID != id {
		t.Errorf("under way: %+v", ways)
	}
	// A delete interrupts it.
	w.must(w.DeleteServer(t.Context(), id))
	if err := w.DeleteServer(t.Context(), id); err != nil && !errors.Is(err, compute.ErrNotFound) { // it may be gone by now
		t.Errorf("a second delete: %v", err)
	}
	w.must(w.Wait(t.Context(), id))
	w.audit()
	if len(w.servers()) > 0 {
		t.Error("the server is still there")
	}
}

func TestHardRebootTakesTheSoftOnesPlace(t *testing.T) {
	w := started(t, nil)
	id := active(w)
	hang := w.hv.Inject(fake.Fault{Method: "Stop", Do: fake.Hang})
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{}))
	<-hang.Struck()
	if err := w.RebootServer(t.Context(), id, compute.Reboot{}); !errors.Is(err, compute.ErrConflict) {
		t.Errorf("second soft reboot: error %v, want a conflict", err)
	}
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
	if s := w.await(id); s.VM != compute.Active || s.Power != virt.PowerRunning {
		t.Errorf("server is %s, %s", s.VM, s.Power)
	}
	w.audit()
}

// stuckDisks makes files until its context ends.
type stuckDisks struct {
	compute.Disks
	stuck chan struct{}
}

func (d stuckDisks) Make(ctx context.Context, _ compute.Server, _ compute.Attached, _ compute.Secrets) error {
	d.stuck <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func TestDeleteInterruptsABuild(t *testing.T) {
	stuck := make(chan struct{}, 1)
	w := started(t, func(o *compute.Options) {
		o.MaxBuilds = 1
		o.Disks = stuckDisks{o.Disks, stuck}
	})
	var ids []string
	for range 2 {
		s, err := w.CreateServer(t.Context(), request())
		w.must(err)
		ids = append(ids, s.ID)
	}
	<-stuck // one builds, the other waits for its turn
	for _, id := range ids {
		w.must(w.DeleteServer(t.Context(), id))
	}
	for _, id := range ids {
		w.must(w.Wait(t.Context(), id))
	}
	w.audit()
	if n := len(w.servers()); n > 0 {
		t.Errorf("%d servers are left", n)
	}
}

func TestConnectionLostDuringCreate(t *testing.T) {
	for _, method := range []string{"Create", "Start"} {
		for _, when := range []fake.Moment{fake.Before, fake.After} {
			w := started(t, nil)
			lost := make(chan struct{})
			w.hv.Inject(fake.Fault{Method: method, When: when, Do: fake.Fail(&virt.Error{Op: "test", Kind: virt.ErrUnavailable}), OnStrike: func() {
				w.hv.LoseConnection()
				close(lost)
			}})
			s, err := w.CreateServer(t.Context(), request())
			w.must(err)
			<-lost
			w.hv.RestoreConnection()
			if s = w.await(s.ID); s.VM != compute.Active {
				t.Errorf("connection lost at %s: the server is %s, %+v", method, s.VM, s.Fault)
			}
			w.audit()
			w.stop()
		}
	}
}

// When the hypervisor stays away for too long the build fails; what is on the host is removed when it
// is back, and the claim lasts until then.
func TestBuildIsUndoneWhenTheHypervisorIsBack(t *testing.T) {
	w := started(t, func(o *compute.Options) { o.BuildTimeout = time.Nanosecond })
	w.hv.Inject(fake.Fault{Method: "Start", Do: fake.Fail(&virt.Error{Op: "test", Kind: virt.ErrUnavailable}), OnStrike: w.hv.LoseConnection})
	s, err := w.CreateServer(t.Context(), request())
	w.must(err)
	w.until(s.ID, func(compute.Server) bool { ops := w.operations(); return len(ops) == 1 && ops[0].Undoing })
	if len(w.claims()) != 1 {
		t.Error("the claim is gone before the guest is")
	}
	w.hv.RestoreConnection()
	s = w.await(s.ID)
	if s.VM != compute.Error || s.Fault == nil || !strings.Contains(s.Fault.Message, "did not answer") {
		t.Errorf("server %s, fault %+v", s.VM, s.Fault)
	}
	w.audit()
	if n := len(w.guests()) + len(w.claims()) + len(w.files()); n > 0 {
		t.Errorf("%d things are left", n)
	}
}

func TestCloseParksWhatCannotEnd(t *testing.T) {
	w := started(t, nil)
	id := active(w)
	w.hv.LoseConnection()
	w.must(w.DeleteServer(t.Context(), id))
	w.stop()
	w.hv.RestoreConnection()
	w.boot(nil)
	w.waitAll()
	w.audit()
	if len(w.servers()) > 0 {
		t.Error("the delete was forgotten")
	}
}

func TestCloseRefusesNewWork(t *testing.T) {
	w := started(t, nil)
	id := active(w)
	w.must(w.Close(t.Context()))
	if _, err := w.CreateServer(t.Context(), request()); !errors.Is(err, compute.ErrUnavailable) {
		t.Errorf("create: %v", err)
	}
	if err := w.StopServer(t.Context(), id); !errors.Is(err, compute.ErrUnavailable) {
		t.Errorf("stop: %v", err)
	}
}

func TestTheOutsideWorldIsObserved(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*world) string
		happens func(*fake.Hypervisor, string) error
		want    compute.VMState
		power   virt.PowerState
	}{
		{"killed", active, (*fake.Hypervisor).Crash, compute.Stopped, virt.PowerShutdown},
		{"panicked", active, (*fake.Hypervisor).Panic, compute.Stopped, virt.PowerCrashed},
		{"shut down by its user", active, (*fake.Hypervisor).GuestShutdown, compute.Stopped, virt.PowerShutdown},
		{"virsh destroy", active, (*fake.Hypervisor).DestroyByHand, compute.Stopped, virt.PowerShutdown},
		{"virsh suspend", active, (*fake.Hypervisor).PauseByHand, compute.Paused, virt.PowerPaused},
		{"I/O error", active, (*fake.Hypervisor).IOError, compute.Paused, virt.PowerPaused},
		{"virsh start", stopped, (*fake.Hypervisor).StartByHand, compute.Active, virt.PowerRunning},
		{"virsh destroy and undefine", active, func(hv *fake.Hypervisor, id string) error {
			return errors.Join(hv.UndefineByHand(id), hv.DestroyByHand(id))
		}, compute.Stopped, virt.PowerNoState},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := started(t, nil)
			id := c.prepare(w)
			stops := w.hv.Calls("Stop") + w.hv.Calls("Destroy")
			w.must(c.happens(w.hv, id))
			w.until(id, func(s compute.Server) bool { return s.VM == c.want && s.Power == c.power })
			w.audit()
			if w.hv.Calls("Stop")+w.hv.Calls("Destroy") != stops {
				t.Error("the agent stopped a guest")
			}
			if c.want == compute.Stopped { // whatever happened, start brings it back
				w.must(w.StartServer(t.Context(), id))
				if s := w.await(id); s.VM != compute.Active {
					t.Errorf("started again it is %s", s.VM)
				}
				w.audit()
			}
		})
	}
}

func TestWhatHappensWithoutConnectionIsFound(t *testing.T) {
	w := started(t, nil)
	id := active(w)
	w.hv.LoseConnection()
	w.must(w.hv.Crash(id))
	w.hv.RestoreConnection()
	w.untilVM(id, compute.Stopped)
	w.audit()
}

func TestEnforceStopsWhatShouldNotRun(t *testing.T) {
	w := started(t, func(o *compute.Options) { o.Policy = compute.PolicyEnforce })
	id := stopped(w)
	stop := w.hv.Calls("Stop")
	w.must(w.hv.StartByHand(id))
	w.until(id, func(s compute.Server) bool {
		return w.hv.Calls("Stop") > stop && s.Task == compute.TaskNone && s.Power == virt.PowerShutdown
	})
	w.must(w.Wait(t.Context(), id))
	w.audit()
}

func TestUnknownGuestIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	other := w.hv.Open(fake.Options{})
	spec := virt.Spec{ID: "11111111-2222-3333-4444-555555555555", Name: "somebody-elses", VirtType: "qemu", Arch: "x86_64", Machine: "pc",
		VCPUs: 1, MemoryMiB: 64, CPU: virt.CPU{Mode: "none", Sockets: 1, Cores: 1, Threads: 1}}
	w.must(other.Create(t.Context(), spec))
	w.must(other.Start(t.Context(), spec.ID))
	var log bytes.Buffer
	w.options = logTo(&log)
	w.boot(nil)
	w.hv.LoseConnection()
	w.hv.RestoreConnection()
	n, err := w.Node(t.Context())
	w.must(err)
	if n.RunningServers != 1 || n.Servers != 0 || !n.Up {
		t.Errorf("node %+v", n)
	}
	w.stop()
	if g := w.guests()[spec.ID]; g.State != virt.PowerRunning {
		t.Errorf("the guest is %s", g.State)
	}
	if n := strings.Count(log.String(), "somebody-elses"); n != 1 {
		t.Errorf("reported %d times, want once:\n%s", n, &log)
	}
	w.must(other.Destroy(t.Context(), spec.ID))
}

func TestJournalOfAnotherVersion(t *testing.T) {
	for name, op := range map[string]compute.Operation{
		"unknown step": {Kind: compute.OpCreate, Step: "teleport"},
		"unknown kind": {Kind: "teleport", Step: "beam"},
	} {
		t.Run(name, func(t *testing.T) {
			w := started(t, nil)
			id := active(w)
			op.ID, op.ServerID = "99999999-2222-3333-4444-555555555555", id
			w.must(w.agent.store.Update(t.Context(), func(tx compute.Writer) error {
				s, err := tx.Server(id)
				s.Task = "teleporting"
				return errors.Join(err, tx.UpdateServer(s), tx.PutOperation(op))
			}))
			w.stop()
			w.boot(nil)
			s := w.await(id)
			if s.VM != compute.Error || s.Fault == nil || !strings.Contains(s.Fault.Message, "another version") {
				t.Errorf("server %s, fault %+v", s.VM, s.Fault)
			}
			w.must(w.DeleteServer(t.Context(), id))
			w.waitAll()
			w.audit()
			if len(w.servers()) > 0 {
				t.Error("it cannot be deleted")
			}
		})
	}
}

func TestConsoleOutput(t *testing.T) {
	w := started(t, nil)
	id := active(w)
	path := filepath.Join(w.state, "instances", id, "console.log")
	w.must(os.WriteFile(path, []byte("one\n\xff\x00two\nthree\n"), 0o600))
	for lines, want := range map[int]string{-1: "one\n\uFFFD\x00two\nthree\n", 1: "three\n", 0: ""} {
		if got, err := w.ConsoleOutput(t.Context(), id, lines); err != nil || got != want {
			t.Errorf("%d lines: %q, %v; want %q", lines, got, err, want)
		}
	}
	if _, err := w.ConsoleOutput(t.Context(), "nothing", 1); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("unknown server: %v", err)
	}
	w.must(errors.Join(w.hv.DestroyByHand(id), w.hv.UndefineByHand(id)))
	if _, err := w.ConsoleOutput(t.Context(), id, 1); !errors.Is(err, compute.ErrConflict) {
		t.Errorf("no guest: %v", err)
	}
}

func TestUpdateServer(t *testing.T) {
	w := started(t, nil)
	id := active(w)
	name, bad := "new <name>", "a\nb"
	s, err := w.UpdateServer(t.Context(), id, compute.ServerChange{Name: &name})
	if err != nil || s.Name != name {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := w.UpdateServer(t.Context(), id, compute.ServerChange{Name: &bad}); !errors.Is(err, compute.ErrInvalid) {
		t.Errorf("bad name: %v", err)
	}
}

func TestDeleteReleasesTheImage(t *testing.T) {
	released := &releases{}
	w := started(t, func(o *compute.Options) { o.Blobs = released })
	s := w.create()
	if len(released.list) > 0 {
		t.Error("released while the server uses it")
	}
	w.must(w.DeleteServer(t.Context(), s.ID))
	w.must(w.Wait(t.Context(), s.ID))
	if len(released.list) != 1 || released.list[0] != s.Image.Checksum {
		t.Errorf("released %v, want %s", released.list, s.Image.Checksum)
	}
}

type releases struct{ list []string }

func (r *releases) Release(_ context.Context, sha string) error {
	r.list = append(r.list, sha)
	return nil
}

func TestNodeID(t *testing.T) {
	dir := t.TempDir()
	first, err := compute.LoadNodeID(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := compute.LoadNodeID(dir); err != nil || again != first {
		t.Errorf("second time %q, %v; want %q", again, err, first)
	}
	if err := os.WriteFile(filepath.Join(dir, "compute_id"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := compute.LoadNodeID(dir); err == nil {
		t.Error("a damaged ID was accepted")
	}
}

// TestCrashWhenSuperseded kills an agent at each point while one operation takes another's place.
func TestCrashWhenSuperseded(t *testing.T) {
	for name, c := range map[string]struct {
		act     func(*world) (id string, accepted bool)
		accept  compute.VMState
		instead []compute.VMState
	}{
		"delete over create": {func(w *world) (string, bool) {
			s, err := w.CreateServer(t.Context(), request())
			if err != nil {
				return "", false
			}
			return s.ID, w.DeleteServer(t.Context(), s.ID) == nil
		}, compute.Deleted, []compute.VMState{compute.Active, compute.Deleted}},
		"delete over stop": {func(w *world) (string, bool) {
			id := w.servers()[0].ID
			_ = w.StopServer(t.Context(), id)
			return id, w.DeleteServer(t.Context(), id) == nil
		}, compute.Deleted, []compute.VMState{compute.Active, compute.Stopped, compute.Deleted}},
		"hard reboot over soft": {func(w *world) (string, bool) {
			id := w.servers()[0].ID
			_ = w.RebootServer(t.Context(), id, compute.Reboot{})
			return id, w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}) == nil
		}, compute.Active, []compute.VMState{compute.Active}},
	} {
		t.Run(name, func(t *testing.T) {
			points := 0
			for hits := []string{""}; len(hits) > 0 && !t.Failed(); points++ {
				f := newFate()
				f.dieAt = points + 1
				sc := scenario{}
				if !strings.Contains(name, "create") {
					sc.prepare = active
				}
				w, _ := sc.stage(t, f)
				_, accepted := c.act(w)
				w.waitAll()
				w.kill()
				hits = f.hits()
				w.recover()
				ends := c.instead
				if accepted { // of this death alone: the two operations meet at another point each time
					ends = []compute.VMState{c.accept}
				}
				w.expect(strings.Join(hits, ""), ends...)
				w.stop()
			}
			t.Logf("crash suite: %s killed at %d points, all recovered", name, points-1)
		})
	}
}
