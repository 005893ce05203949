package compute_test

import (
	"bytes"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
)

// upgraded ends the agent and starts one that gives guests another processor.
func (w *world) upgraded(more func(*compute.Options)) {
	w.t.Helper()
	w.stop()
	w.options = func(o *compute.Options) {
		o.Guests.CPUMode = "maximum"
		if more != nil {
			more(o)
		}
	}
	w.boot(nil)
}

func (w *world) mode(id string) string {
	w.t.Helper()
	spec, err := w.hv.Spec(id)
	w.must(err)
	return spec.CPU.Mode
}

const wasMode = "host-model"

func hardWorld(t *testing.T) (*world, string) {
	t.Helper()
	w := newWorld(t)
	w.boot(nil)
	id := w.create().ID
	if got := w.mode(id); got != wasMode {
		t.Fatalf("the guest has CPU mode %s", got)
	}
	return w, id
}

func TestHardRebootRefusesOtherHardware(t *testing.T) {
	w, id := hardWorld(t)
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true})) // nothing has changed
	if s := w.await(id); s.VM != compute.Active {
		t.Fatalf("server is %+v", s)
	}
	w.upgraded(nil)
	before := w.guests()[id]
	err := w.RebootServer(t.Context(), id, compute.Reboot{Hard: true})
	if !errors.Is(err, compute.ErrConflict) {
		t.Fatalf("error %v, want a conflict", err)
	}
	for _, want := range []string{"CPU: mode host-model -> maximum", `"accept_hardware_changes": true`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not say %q", err, want)
		}
	}
	if diff := cmp.Diff(before.State, w.guests()[id].State); diff != "" || w.mode(id) != wasMode {
		t.Errorf("the guest was touched: %s %s", diff, w.mode(id))
	}
	w.audit()
	// Softly it starts as it is.
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{}))
	if s := w.await(id); s.VM != compute.Active || w.mode(id) != wasMode {
		t.Errorf("after a soft reboot the server is %s with CPU mode %s", s.VM, w.mode(id))
	}
	// Told, it changes, and what it then has is what the next reboot is held against.
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true, AcceptHardwareChanges: true}))
	if s := w.await(id); s.VM != compute.Active || w.mode(id) != "maximum" {
		t.Errorf("after it was accepted the server is %s with CPU mode %s", s.VM, w.mode(id))
	}
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
	w.waitAll()
	w.audit()
}

// TestHardRebootNeedsAHostThatCan: a guest whose machine type is gone with the hypervisor's version runs on.
func TestHardRebootNeedsAHostThatCan(t *testing.T) {
	w, id := hardWorld(t)
	w.stop()
	w.onQEMU("6.2")
	w.boot(nil)
	before := w.guests()[id]
	for _, accept := range []bool{false, true} {
		err := w.RebootServer(t.Context(), id, compute.Reboot{Hard: true, AcceptHardwareChanges: accept})
		if !errors.Is(err, compute.ErrConflict) || !strings.Contains(err.Error(), `"pc-i440fx-7.2": QEMU 7.2.22 has pc, q35, pc-i440fx-6.2`) {
			t.Errorf("error %v, want a conflict that names the machine type and what there is", err)
		}
	}
	w.waitAll()
	if got := w.guests()[id].State; got != before.State || w.mode(id) != wasMode {
		t.Errorf("the guest was touched: it is %s and was %s", got, before.State)
	}
	w.audit()
	w.stop()
	w.onQEMU("7.2")
	w.boot(nil)
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
	if s := w.await(id); s.VM != compute.Active {
		t.Errorf("server is %s", s.VM)
	}
}

func TestOperatorAcceptsOtherHardware(t *testing.T) {
	w, id := hardWorld(t)
	w.upgraded(func(o *compute.Options) { o.HardwareChanges = compute.HardwareAccept })
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
	if s := w.await(id); s.VM != compute.Active || w.mode(id) != "maximum" {
		t.Errorf("server is %s with CPU mode %s", s.VM, w.mode(id))
	}
	w.audit()
}

// A server that is paused when a reboot is refused stays so, also when the refusal comes late: the agent that took the
// reboot on had another configuration.
func TestRefusalLeavesTheGuestAsItIs(t *testing.T) {
	for name, prepare := range map[string]func(*world) string{"active": active, "paused": paused, "stopped": stopped} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.boot(nil)
			id := prepare(w)
			was, vm := w.guests()[id].State, w.servers()[0].VM
			f := newFate()
			f.sleep(true)
			w.stop()
			w.boot(f)
			f.dieAt = 3 // before the operation's first step is entered
			f.sleep(false)
			w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
			w.waitAll()
			w.kill()
			w.upgraded(nil)
			s := w.await(id)
			if got := w.guests()[id].State; got != was || s.VM != vm || w.mode(id) != wasMode {
				t.Errorf("server is %s, its guest %s with CPU mode %s; it was %s and %s", s.VM, got, w.mode(id), vm, was)
			}
			w.audit()
		})
	}
}

// A guest that is gone is made again, with what its server is to keep, whatever else has changed.
func TestLostGuestIsMadeAgain(t *testing.T) {
	for name, act := range map[string]func(*world, string) error{
		"start":       func(w *world, id string) error { return w.StartServer(w.t.Context(), id) },
		"hard reboot": func(w *world, id string) error { return w.RebootServer(w.t.Context(), id, compute.Reboot{Hard: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.boot(nil)
			id := gone(w)
			var log logged
			w.upgraded(func(o *compute.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			w.must(act(w, id))
			if s := w.await(id); s.VM != compute.Active || w.mode(id) != "maximum" {
				t.Errorf("server is %s with CPU mode %s", s.VM, w.mode(id))
			}
			if !strings.Contains(log.String(), "CPU: mode host-model -> maximum") {
				t.Errorf("the log does not tell what has changed:\n%s", log.String())
			}
			w.audit()
		})
	}
}

func keptMachine() map[string]string {
	return map[string]string{
		"hw_machine_type": "pc-i440fx-6.2", "hw_disk_bus": "virtio", "hw_cdrom_bus": "ide", "hw_video_model": "virtio",
		"hw_vif_model": "virtio", "hw_pointer_model": "usbtablet", "hw_input_bus": "usb",
	}
}

// onQEMU is a hypervisor of a version: its machine types pc and q35 are that version's.
func (w *world) onQEMU(version string) { w.host.MachineVersion = version }

// An upgrade of the hypervisor and another configuration change nothing in the guests that there are.
func TestHardwareIsSettledAtCreation(t *testing.T) {
	w := newWorld(t)
	w.onQEMU("6.2")
	w.boot(nil)
	first := w.create()
	if diff := cmp.Diff(keptMachine(), first.Hardware); diff != "" {
		t.Errorf("(-want +settled)\n%s", diff)
	}
	if len(first.Image.Properties) > 0 {
		t.Errorf("the image's own properties became %v", first.Image.Properties)
	}
	w.stop()
	w.onQEMU("7.2")
	w.options = func(o *compute.Options) {
		o.Guests.Machines = map[string]string{"x86_64": "q35"}
		o.Guests.PointerModel, o.Guests.HypervisorNICs = "ps2mouse", true
	}
	w.boot(nil)
	before := w.definition(first.ID)
	w.must(w.RebootServer(t.Context(), first.ID, compute.Reboot{Hard: true}))
	if s := w.await(first.ID); s.VM != compute.Active {
		t.Errorf("server is %+v", s)
	}
	if diff := cmp.Diff(before, w.definition(first.ID)); diff != "" {
		t.Errorf("the hard reboot changed the guest (-before +after)\n%s", diff)
	}
	second := w.create()
	if made := w.definition(second.ID).Machine; made != "pc-q35-7.2" || second.Hardware["hw_pointer_model"] != "" || second.Hardware["hw_cdrom_bus"] != "sata" {
		t.Errorf("a new server has machine type %s and keeps %v", made, second.Hardware)
	}
	w.audit()
}

// Servers of an agent that settled nothing get theirs from the first one that does.
func TestOlderServersAreSettledAtStart(t *testing.T) {
	w := newWorld(t)
	w.onQEMU("6.2")
	w.boot(nil)
	id := w.create().ID
	w.stop()
	w.exec("UPDATE servers SET record = json_remove(record, '$.Hardware')")
	w.onQEMU("7.2") // what its guest runs on is older
	var log logged
	w.options = func(o *compute.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) }
	for range 2 {
		w.boot(nil)
		if diff := cmp.Diff(keptMachine(), w.await(id).Hardware); diff != "" {
			t.Errorf("(-want +settled)\n%s", diff)
		}
		w.stop()
	}
	if n := strings.Count(log.String(), "is settled"); n != 1 {
		t.Errorf("it was logged %d times:\n%s", n, log.String())
	}
}

// A hypervisor that does not answer at start has it done when it is back.
func TestOlderServersAreSettledLater(t *testing.T) {
	w := newWorld(t)
	w.boot(nil)
	id := w.create().ID
	w.stop()
	w.exec(`UPDATE servers SET record = json_set(json_remove(record, '$.Hardware'), '$.Image.Properties', json('{"hw_cdrom_bus": "scsi"}'))`)
	w.hv.LoseConnection()
	w.boot(nil)
	if s := w.await(id); s.Hardware != nil {
		t.Errorf("settled without a host: %v", s.Hardware)
	}
	w.hv.RestoreConnection()
	s := w.until(id, func(s compute.Server) bool { return s.Hardware != nil })
	if s.Hardware["hw_disk_bus"] != "virtio" || s.Hardware["hw_cdrom_bus"] != "scsi" {
		t.Errorf("settled as %v", s.Hardware)
	}
}

// A guest of an agent that did not keep what it was made of is made again without a question.
func TestUnknownDefinitionIsNoSurprise(t *testing.T) {
	w, id := hardWorld(t)
	w.stop()
	w.exec("DELETE FROM definitions")
	w.upgraded(nil)
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
	if s := w.await(id); s.VM != compute.Active || w.mode(id) != "maximum" {
		t.Errorf("server is %s with CPU mode %s", s.VM, w.mode(id))
	}
	w.audit()
}

func TestRebootRefusesWhatItRefusedBefore(t *testing.T) {
	w, id := hardWorld(t)
	w.upgraded(nil)
	w.must(w.DeleteServer(t.Context(), id))
	w.waitAll()
	if err := w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("reboot of a server that is gone: %v", err)
	}
	if spec := w.definition(id); spec.ID != "" {
		t.Errorf("the definition outlived its server: %+v", spec)
	}
	_, err := compute.New(compute.Options{Store: w.agent.store, Driver: w.agent.driver, Disks: struct{ compute.Disks }{}, HardwareChanges: "sometimes"})
	if err == nil || !strings.Contains(err.Error(), `hardware policy "sometimes"`) {
		t.Errorf("an unknown policy: %v", err)
	}
}

// exec changes the database behind a stopped agent's back.
func (w *world) exec(statement string) {
	w.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.state, "agent.db"))
	w.must(err)
	_, err = db.ExecContext(w.t.Context(), statement)
	w.must(errors.Join(err, db.Close()))
}

// logged is a log that is read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
