package compute_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/compute"
	"compute-agent/guest"
	"compute-agent/neutron"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// bound are the ports of servers, past the agent's fate.
func (w *world) bound() []neutron.Port {
	w.t.Helper()
	return slices.DeleteFunc(w.ports(), func(p neutron.Port) bool { return p.DeviceID == "" })
}

// plugged are the MACs that a server's guest has, live and in its definition: nothing else may be.
func (w *world) plugged(id string) (macs []string) {
	w.t.Helper()
	driver := w.hv.Open(fake.Options{})
	defer func() { _ = driver.Close() }()
	list, err := driver.NICs(context.Background(), id)
	if errors.Is(err, virt.ErrNotFound) {
		return nil
	}
	w.must(err)
	state := w.guests()[id].State
	for _, n := range list {
		if !n.Defined || n.Live != (state != virt.PowerShutdown) {
			w.t.Errorf("the %v guest has half a NIC: %+v", state, n)
		}
		macs = append(macs, n.MAC)
	}
	return macs
}

// auditInterfaces compares the ports of servers with the NICs of their guests and of the stored definitions, and says
// what a hard reboot would change.
func (w *world) auditInterfaces() {
	w.t.Helper()
	for _, s := range w.servers() {
		if _, there := w.guests()[s.ID]; !there && s.VM == compute.Error {
			continue // it was never built, or is about to be deleted
		}
		ports, err := w.Interfaces(context.Background(), s.ID)
		w.must(err)
		var wanted, defined []string
		for _, p := range ports {
			wanted = append(wanted, p.MAC)
		}
		made := w.definition(s.ID)
		for _, n := range made.NICs {
			defined = append(defined, n.MAC)
		}
		if made.ID == "" {
			continue
		}
		if !slices.Equal(wanted, defined) {
			w.t.Errorf("the ports of the server have %v, its definition %v", wanted, defined)
		}
		w.wakesUnchanged(s)
		if _, there := w.guests()[s.ID]; there {
			if has := w.plugged(s.ID); !slices.Equal(wanted, has) {
				w.t.Errorf("the ports of the server have %v, its guest %v", wanted, has)
			}
		}
	}
}

// wakesUnchanged says what a hard reboot would change.
func (w *world) wakesUnchanged(s compute.Server) {
	w.t.Helper()
	now, _, err := w.Define(s)
	w.must(err)
	if changes := guest.Changes(w.definition(s.ID), now); len(changes) > 0 {
		w.t.Errorf("a hard reboot would change %v", changes)
	}
}

func attachOne(w *world, id string) error {
	_, err := w.AttachInterface(w.agent.fate.life, id, compute.RequestedNetwork{NetworkID: networkID})
	return err
}

func attachPort(w *world, id string) error {
	_, err := w.AttachInterface(w.agent.fate.life, id, compute.RequestedNetwork{PortID: portID})
	return err
}

// attached is an active server with two interfaces.
func attached(w *world) string {
	id := active(w)
	w.must(attachPort(w, id))
	w.must(attachOne(w, id))
	return id
}

// detachAll detaches the port that was there before.
func detachAll(w *world, id string) error {
	return w.DetachInterface(w.t.Context(), id, portID)
}

func TestInterfaces(t *testing.T) {
	for name, state := range map[string]func(*world) string{"active": active, "stopped": stopped, "without guest": func(w *world) string {
		id := gone(w)
		w.until(id, func(s compute.Server) bool { return s.Power == virt.PowerNoState })
		return id
	}} {
		t.Run(name, func(t *testing.T) {
			w := withNetworks(t)
			id := state(w)
			p, err := w.AttachInterface(t.Context(), id, compute.RequestedNetwork{NetworkID: networkID, FixedIP: netip.MustParseAddr("10.0.0.99"), Tag: "blue"})
			w.must(err)
			if p.DeviceID != id || !p.Made || p.Tag != "blue" || p.FixedIPs[0].Address.String() != "10.0.0.99" || p.Index != 0 {
				t.Errorf("port %+v", p)
			}
			w.must(attachPort(w, id))
			w.audit()
			w.auditInterfaces()
			if got := w.definition(id).NICs; name != "without guest" && (len(got) != 2 || got[1].MAC != "fa:16:3e:00:00:01" || got[1].Model != "virtio" || got[1].MTU != 1500) {
				t.Errorf("the definition has %+v", got)
			}
			if got := w.definition(id).Metadata.Ports; name != "without guest" && (len(got) != 2 || got[0].IPs[0].Address != "10.0.0.99") {
				t.Errorf("the metadata tell of %+v", got)
			}
			w.must(w.DetachInterface(t.Context(), id, p.ID))
			w.await(id)
			w.must(w.DetachInterface(t.Context(), id, portID))
			w.await(id)
			w.audit()
			w.auditInterfaces()
			if left := w.bound(); len(left) > 0 {
				t.Errorf("ports of the server: %+v", left)
			}
			ports, err := w.Interfaces(t.Context(), id)
			if err != nil || len(ports) > 0 {
				t.Errorf("interfaces %+v, %v", ports, err)
			}
		})
	}
}

// A guest that was made again, cold, has what was plugged in.
func TestInterfacesSurviveHardReboot(t *testing.T) {
	w := withNetworks(t)
	id := attached(w)
	w.must(w.RebootServer(t.Context(), id, compute.Reboot{Hard: true}))
	w.await(id)
	w.auditInterfaces()
	if n := len(w.plugged(id)); n != 2 {
		t.Errorf("the guest has %d NICs", n)
	}
}

// TestGuestKeepsInterface detaches an interface from guests that do not let go: they keep it, and so does the server.
func TestGuestKeepsInterface(t *testing.T) {
	for name, hinder := range map[string]func(*world, string){
		"it does not listen": func(w *world, id string) { w.hv.SetHearing(id, 0) },
		"it is paused": func(w *world, id string) {
			w.must(w.PauseServer(w.t.Context(), id))
			w.await(id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.connects = true
			w.options = func(o *compute.Options) { o.DetachTimeout, o.DetachAttempts = 5*time.Millisecond, 3 }
			w.boot(nil)
			id := attached(w)
			hinder(w, id)
			w.must(detachAll(w, id))
			s := w.await(id)
			if s.VM == compute.Error || s.Fault != nil {
				t.Errorf("the server is %s with fault %+v", s.VM, s.Fault)
			}
			w.audit()
			w.auditInterfaces()
			if n := len(w.bound()); n != 2 {
				t.Errorf("the server has %d ports", n)
			}
		})
	}
}

// TestHardRebootOverDetach ends the wait for a guest that does not let go: the server keeps its interface.
func TestHardRebootOverDetach(t *testing.T) {
	for name, command := range map[string]func(w *world, id string) error{
		"hard reboot": func(w *world, id string) error { return w.RebootServer(w.t.Context(), id, compute.Reboot{Hard: true}) },
		"delete":      func(w *world, id string) error { return w.DeleteServer(w.t.Context(), id) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.connects = true
			w.options = func(o *compute.Options) { o.DetachTimeout = time.Hour }
			w.boot(nil)
			id := attached(w)
			w.hv.SetHearing(id, 0)
			w.must(detachAll(w, id))
			if err := attachOne(w, id); !errors.Is(err, compute.ErrConflict) || !strings.Contains(err.Error(), "detaching_interface") {
				t.Errorf("error is %v", err)
			}
			w.must(command(w, id))
			w.must(w.Idle(t.Context()))
			w.audit()
			w.auditInterfaces()
			if want := 2 * len(w.servers()); len(w.bound()) != want {
				t.Errorf("%d ports of servers, want %d", len(w.bound()), want)
			}
		})
	}
}

func TestAttachRefused(t *testing.T) {
	w := withNetworks(t)
	id := attached(w)
	other := active(w)
	for name, c := range map[string]struct {
		server string
		want   compute.RequestedNetwork
		kind   error
	}{
		"no such network":      {id, compute.RequestedNetwork{NetworkID: portID}, compute.ErrInvalid},
		"no such port":         {id, compute.RequestedNetwork{PortID: networkID}, compute.ErrInvalid},
		"port of another":      {other, compute.RequestedNetwork{PortID: portID}, compute.ErrConflict},
		"address of another":   {other, compute.RequestedNetwork{NetworkID: networkID, FixedIP: netip.MustParseAddr("10.0.0.5")}, compute.ErrConflict},
		"address of elsewhere": {other, compute.RequestedNetwork{NetworkID: networkID, FixedIP: netip.MustParseAddr("203.0.113.7")}, compute.ErrInvalid},
		"no such server":       {networkID, compute.RequestedNetwork{NetworkID: networkID}, compute.ErrNotFound},
	} {
		_, err := w.AttachInterface(t.Context(), c.server, c.want)
		if !errors.Is(err, c.kind) {
			t.Errorf("%s: error is %v, want %v", name, err, c.kind)
		}
	}
	for name, port := range map[string]string{"no such port": networkID, "port of another": portID} {
		if err := w.DetachInterface(t.Context(), other, port); !errors.Is(err, compute.ErrNotFound) {
			t.Errorf("detach: %s: error is %v, want ErrNotFound", name, err)
		}
	}
	w.audit()
	w.auditInterfaces()
	if n := len(w.bound()); n != 2 {
		t.Errorf("%d ports are servers', want 2", n)
	}
}

// TestAttachFails has the hypervisor refuse: the port that was made goes, and the user is told why.
func TestAttachFails(t *testing.T) {
	w := withNetworks(t)
	id := active(w)
	w.hv.Inject(fake.Fault{Method: "PlugNIC", Do: fake.Fail(virt.ErrNoCapacity)})
	err := attachOne(w, id)
	if !errors.Is(err, compute.ErrAttach) || !strings.Contains(err.Error(), "lacks a resource") {
		t.Errorf("error is %v", err)
	}
	if s := w.await(id); s.VM != compute.Active || s.Fault != nil {
		t.Errorf("the server is %s with fault %+v", s.VM, s.Fault)
	}
	w.audit()
	w.auditInterfaces()
	if n := len(w.bound()); n != 0 {
		t.Errorf("%d ports are left", n)
	}
}
