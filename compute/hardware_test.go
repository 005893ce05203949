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
