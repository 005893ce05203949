package compute_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"compute-agent/compute"
	"compute-agent/virt"
)

// scenario is one kind of operation on a server in a state.
type scenario struct {
	name    string
	prepare func(w *world) string // makes the server; empty: the operation makes one
	act     func(w *world, id string) error
	before  compute.VMState   // of a server on which the operation was not accepted
	after   compute.VMState   // of one on which it was done; Deleted: it is gone
	failed  []compute.VMState // where a step's failure may leave it
	ports   bool              // the server has ports
	volumes bool              // the server has volumes, or gets some
	stride  int               // how many points lie between two deaths of a pair; 0 for pairStride
}

func active(w *world) string { return w.create().ID }

func stopped(w *world) string {
	id := active(w)
	w.must(w.StopServer(w.t.Context(), id))
	return w.await(id).ID
}

func paused(w *world) string {
	id := active(w)
	w.must(w.PauseServer(w.t.Context(), id))
	return w.await(id).ID
}

// gone is a stopped server whose guest somebody removed.
func gone(w *world) string {
	id := stopped(w)
	w.must(w.hv.UndefineByHand(id))
	return id
}

// wired is a server with ports, wiredGone one whose guest somebody removed.
func wired(w *world) string {
	s, err := w.CreateServer(w.t.Context(), connected())
	w.must(err)
	return w.await(s.ID).ID
}

func wiredGone(w *world) string {
	id := wired(w)
	w.must(w.StopServer(w.t.Context(), id))
	w.await(id)
	w.must(w.hv.UndefineByHand(id))
	return id
}

var scenarios = []scenario{
	{name: "create with ports", ports: true, act: func(w *world, _ string) error {
		_, err := w.CreateServer(w.t.Context(), connected())
		return err
	}, after: compute.Active, failed: []compute.VMState{compute.Error}},
	{name: "delete with ports", ports: true, prepare: wired, before: compute.Active, after: compute.Deleted, failed: []compute.VMState{compute.Error},
		act: func(w *world, id string) error { return w.DeleteServer(w.t.Context(), id) }},
	{name: "start without guest, with ports", ports: true, prepare: wiredGone, before: compute.Stopped, after: compute.Active,
		failed: []compute.VMState{compute.Stopped}, act: func(w *world, id string) error { return w.StartServer(w.t.Context(), id) }},
	{name: "create", act: func(w *world, _ string) error {
		_, err := w.CreateServer(w.t.Context(), request())
		return err
	}, after: compute.Active, failed: []compute.VMState{compute.Error}},
	{name: "delete", prepare: active, before: compute.Active, after: compute.Deleted, failed: []compute.VMState{compute.Error},
		act: func(w *world, id string) error { return w.DeleteServer(w.t.Context(), id) }},
	{name: "delete stopped", prepare: stopped, before: compute.Stopped, after: compute.Deleted, failed: []compute.VMState{compute.Error},
		act: func(w *world, id string) error { return w.DeleteServer(w.t.Context(), id) }},
	{name: "start", prepare: stopped, before: compute.Stopped, after: compute.Active, failed: []compute.VMState{compute.Stopped},
		act: func(w *world, id string) error { return w.StartServer(w.t.Context(), id) }},
	{name: "start without guest", prepare: gone, before: compute.Stopped, after: compute.Active, failed: []compute.VMState{compute.Stopped},
		act: func(w *world, id string) error { return w.StartServer(w.t.Context(), id) }},
	{name: "stop", prepare: active, before: compute.Active, after: compute.Stopped, failed: []compute.VMState{compute.Active},
		act: func(w *world, id string) error { return w.StopServer(w.t.Context(), id) }},
	{name: "reboot soft", prepare: active, before: compute.Active, after: compute.Active,
		failed: []compute.VMState{compute.Active, compute.Error, compute.Stopped},
		act:    func(w *world, id string) error { return w.RebootServer(w.t.Context(), id, compute.Reboot{}) }},
	{name: "reboot hard", prepare: active, before: compute.Active, after: compute.Active,
		failed: []compute.VMState{compute.Active, compute.Error, compute.Stopped},
		act:    func(w *world, id string) error { return w.RebootServer(w.t.Context(), id, compute.Reboot{Hard: true}) }},
	{name: "pause", prepare: active, before: compute.Active, after: compute.Paused, failed: []compute.VMState{compute.Active},
		act: func(w *world, id string) error { return w.PauseServer(w.t.Context(), id) }},
	{name: "pause stopped", prepare: stopped, before: compute.Stopped, after: compute.Paused, failed: []compute.VMState{compute.Stopped},
		act: func(w *world, id string) error { return w.PauseServer(w.t.Context(), id) }},
	{name: "unpause", prepare: paused, before: compute.Paused, after: compute.Active, failed: []compute.VMState{compute.Paused},
		act: func(w *world, id string) error { return w.UnpauseServer(w.t.Context(), id) }},
	{ports: true, name: "attach interface", prepare: active, before: compute.Active, after: compute.Active, failed: []compute.VMState{compute.Active},
		act: attachOne},
	{ports: true, name: "attach port paused", prepare: paused, before: compute.Paused, after: compute.Paused, failed: []compute.VMState{compute.Paused},
		act: attachPort},
	{volumes: true, stride: 4, name: "create with volumes", act: func(w *world, _ string) error {
		_, err := w.CreateServer(w.t.Context(), bootVolume())
		return err
	}, after: compute.Active, failed: []compute.VMState{compute.Error}},
	{volumes: true, stride: 4, name: "delete with volumes", prepare: bootsFromVolume, before: compute.Active, after: compute.Deleted,
		failed: []compute.VMState{compute.Error}, act: func(w *world, id string) error { return w.DeleteServer(w.t.Context(), id) }},
	{volumes: true, stride: 4, name: "start with volumes", prepare: storingRebooted, before: compute.Stopped, after: compute.Active,
		failed: []compute.VMState{compute.Stopped}, act: func(w *world, id string) error { return w.StartServer(w.t.Context(), id) }},
	{volumes: true, stride: 4, name: "attach volume", prepare: active, before: compute.Active, after: compute.Active, failed: []compute.VMState{compute.Active},
		act: attachISCSI},
	{volumes: true, stride: 4, name: "detach volume", prepare: storing, before: compute.Active, after: compute.Active, failed: []compute.VMState{compute.Active},
		act: func(w *world, id string) error { return w.DetachVolume(w.t.Context(), id, fileVolume) }},
	{volumes: true, stride: 4, name: "swap volume", prepare: storing, before: compute.Active, after: compute.Active, failed: []compute.VMState{compute.Active},
		act: func(w *world, id string) error { return w.SwapVolume(w.t.Context(), id, fileVolume, otherVolume) }},
	{volumes: true, stride: 4, name: "extend volume", prepare: storing, before: compute.Active, after: compute.Active, failed: []compute.VMState{compute.Active},
		act: grow},
	{volumes: true, ports: true, stride: otherStride, name: "rebuild", prepare: wiredStoring, before: compute.Active, after: compute.Active,
		failed: []compute.VMState{compute.Active, compute.Error}, act: rebuild},
	{volumes: true, stride: otherStride, name: "rescue", prepare: storing, before: compute.Active, after: compute.Rescued,
		failed: []compute.VMState{compute.Active}, act: rescue},
	{volumes: true, stride: otherStride, name: "unrescue", prepare: rescuedStoring, before: compute.Rescued, after: compute.Active,
		failed: []compute.VMState{compute.Rescued}, act: func(w *world, id string) error { return w.UnrescueServer(w.t.Context(), id) }},
	{ports: true, name: "detach interface", prepare: attached, before: compute.Active, after: compute.Active, failed: []compute.VMState{compute.Active},
		act: detachAll},
}

// pairs is how many points lie between two deaths of a pair.
func (sc scenario) pairs() int { return max(pairStride, sc.stride) }

// stage makes a world with the scenario's server, whose agent then has the fate.
func (sc scenario) stage(t *testing.T, f *fate) (*world, string) {
	t.Helper()
	w := newWorld(t)
	w.blanks, w.connects = true, sc.ports
	w.plug()
	if sc.volumes {
		w.storage = newStorage(t, w.hv)
	}
	w.boot(nil)
	var id string
	if sc.prepare != nil {
		id = sc.prepare(w)
	}
	w.stop()
	f.sleep(true)
	w.boot(f)
	f.sleep(false)
	return w, id
}

// perform does the scenario's operation until it has ended or the agent is dead, and ends the agent.
// It says whether the operation was accepted.
func (sc scenario) perform(w *world, id string) (accepted bool) {
	w.t.Helper()
	err := sc.act(w, id)
	w.waitAll()
	left := w.kill()
	return err == nil || len(left.operations) > 0 || (sc.prepare == nil && len(left.servers) > 0)
}

// recover starts a fresh agent, that nothing happens to, and lets it go on.
func (w *world) recover() {
	w.t.Helper()
	w.boot(nil)
	w.waitAll()
}

// state is the VM state of the only server, Deleted if there is none.
func (w *world) vmState() compute.VMState {
	w.t.Helper()
	servers := w.servers()
	switch len(servers) {
	case 0:
		return compute.Deleted
	case 1:
		return servers[0].VM
	}
	w.t.Fatalf("%d servers", len(servers))
	return ""
}

// expect checks the end state, that store and host agree, and that nothing is left when the server
// is deleted.
func (w *world) expect(where string, states ...compute.VMState) {
	w.t.Helper()
	w.waitAll()
	if got := w.vmState(); !slices.Contains(states, got) {
		w.t.Errorf("%s: the server ended in %q, not in one of %q", where, got, states)
	}
	w.audit()
	if !strings.Contains(where, "removing rescue files") {
		w.auditExtra()
	}
	w.auditInterfaces()
	if w.storage != nil {
		w.auditVolumes()
	}
	for _, s := range w.servers() {
		w.must(w.DeleteServer(w.t.Context(), s.ID))
	}
	w.waitAll()
	if n := len(w.servers()) + len(w.guests()) + len(w.claims()) + len(w.files()); n > 0 {
		w.t.Errorf("%s: %d things are left after the server was deleted", where, n)
	}
	if w.connects {
		w.must(w.hostNetwork.Sync(w.t.Context()))
		if ports, left := w.ports(), w.wires.list(); len(ports) != 1 || len(left) > 0 {
			w.t.Errorf("%s: after the server was deleted there are ports %+v, and on the host %q", where, ports, left)
		}
	}
	if w.storage != nil {
		w.auditVolumes()
		if n := len(w.volumes()); n != 3 && !strings.Contains(where, "failure before deleting a volume") { // as in Nova, it then stays
			w.t.Errorf("%s: after the server was deleted there are %d volumes", where, n)
		}
	}
	if free := w.freeDevices(); free != len(pciDevices())-1 {
		w.t.Errorf("%s: %d PCI devices are free after the server was deleted", where, free)
	}
	if w.t.Failed() {
		w.t.Fatalf("failed at %s", where)
	}
}

// outcomes are the states that a scenario may end in, when nothing but its agent's death got in its way.
func (sc scenario) outcome(accepted bool) compute.VMState {
	switch {
	case accepted:
		return sc.after
	case sc.prepare == nil:
		return compute.Deleted
	}
	return sc.before
}

// TestCrashAtEveryPoint kills the agent before and after each of its effects on store, hypervisor and
// files, in each kind of operation, and checks what the next start makes of it.
func TestCrashAtEveryPoint(t *testing.T) {
	total := new(atomic.Int64)
	t.Run("operations", func(t *testing.T) {
		for _, sc := range scenarios {
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				n := sc.eachDeath(t, 1, func(t *testing.T, w *world, accepted bool, where string) {
					w.recover()
					w.expect(where, sc.outcome(accepted))
				})
				total.Add(int64(n))
			})
		}
	})
	t.Logf("crash suite: %d operations killed at %d points in all, all recovered", len(scenarios), total.Load())
}

// eachDeath does the scenario again and again, with a death at each of its points, or every stride-th,
// and returns how many it has. then gets the world without an agent.
func (sc scenario) eachDeath(t *testing.T, stride int, then func(t *testing.T, w *world, accepted bool, where string)) int {
	for k := 1; ; k += stride {
		f := newFate()
		f.dieAt = k
		var hits []string
		t.Run(strconv.Itoa(k), func(t *testing.T) {
			w, id := sc.stage(t, f)
			accepted := sc.perform(w, id)
			if hits = f.hits(); len(hits) > 0 {
				then(t, w, accepted, hits[0])
			}
		})
		if len(hits) == 0 || t.Failed() {
			return k - 1
		}
	}
}

// TestCrashDuringRecovery kills the agent that recovers from a kill, at each of its points too.
func TestCrashDuringRecovery(t *testing.T) {
	total := new(atomic.Int64)
	t.Run("operations", func(t *testing.T) {
		for _, sc := range scenarios {
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				sc.recoveries(t, total)
			})
		}
	})
	t.Logf("crash suite: %d pairs of kills (every %s), all recovered", total.Load(), ordinal(pairStride))
}

// recoveries goes through all pairs of a first and a second death.
func (sc scenario) recoveries(t *testing.T, total *atomic.Int64) {
	for second := 1; ; second += sc.pairs() {
		reached := 0
		sc.eachDeath(t, sc.pairs(), func(t *testing.T, w *world, accepted bool, where string) {
			f := newFate()
			f.dieAt = second
			w.boot(f)
			w.waitAll()
			w.kill()
			if hits := f.hits(); len(hits) > 0 {
				reached++
				where += ", then " + hits[0]
			}
			w.recover()
			w.expect(where, sc.outcome(accepted))
		})
		total.Add(int64(reached))
		if reached == 0 || t.Failed() {
			return
		}
	}
}

var errBroken = fmt.Errorf("%w: broken for a test", virt.ErrInvalid)

// TestFailureAtEveryPoint makes each effect fail once: what was done is undone, or the server shows
// what its guest is.
func TestFailureAtEveryPoint(t *testing.T) {
	total := new(atomic.Int64)
	t.Run("operations", func(t *testing.T) {
		for _, sc := range scenarios {
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				total.Add(int64(sc.eachFailure(t, 1, 0)))
			})
		}
	})
	t.Logf("crash suite: %d failures, all undone", total.Load())
}

// TestCrashAfterFailure makes an effect fail and kills the agent at each point from there on: most of
// them are in the middle of undoing.
func TestCrashAfterFailure(t *testing.T) {
	total := new(atomic.Int64)
	t.Run("operations", func(t *testing.T) {
		for _, sc := range scenarios {
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				for later := 1; ; later += sc.pairs() {
					n := sc.eachFailure(t, sc.pairs(), later)
					total.Add(int64(n))
					if n == 0 || t.Failed() {
						return
					}
				}
			})
		}
	})
	t.Logf("crash suite: %d failures with a kill while they were undone (every %s), all recovered", total.Load(), ordinal(pairStride))
}

// eachFailure does the scenario with a failure at each of its points and, if later is not zero, a
// death that many points after it. It returns how often all of that was reached.
func (sc scenario) eachFailure(t *testing.T, stride, later int) (reached int) {
	wanted := 1
	if later > 0 {
		wanted = 2
	}
	for k := 1; ; k += stride {
		f := newFate()
		f.failAt, f.failWith = k, errBroken
		if later > 0 {
			f.dieAt = k + later
		}
		var hits []string
		t.Run(fmt.Sprintf("%d+%d", k, later), func(t *testing.T) {
			w, id := sc.stage(t, f)
			accepted := sc.perform(w, id)
			hits = f.hits()
			w.recover()
			w.expect(strings.Join(hits, ", then "), append(slices.Clone(sc.failed), sc.outcome(accepted))...)
		})
		if len(hits) == wanted {
			reached++
		}
		if len(hits) == 0 || t.Failed() {
			return reached
		}
	}
}

func ordinal(stride int) string {
	if stride == 1 {
		return "one"
	}
	return fmt.Sprintf("%d. point, the race detector makes them slow", stride)
}
