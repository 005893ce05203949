package fake

import (
	"errors"

	"compute-agent/virt"
)

// What happens to guests without the agent's doing. A guest that is not there, or not in a state
// for it, makes these return an error.

// Crash ends a guest's process, as kill -9 does: it is PowerShutdown with Reason "crashed", as
// libvirt counts it.
func (h *Hypervisor) Crash(id string) error {
	return h.outside(id, (*guest).alive, func(g *guest) { h.end(g, virt.EventCrashed, "crashed") })
}

// Panic makes a guest's kernel panic and its vCPUs halt: PowerCrashed.
func (h *Hypervisor) Panic(id string) error {
	return h.outside(id, (*guest).runs, func(g *guest) {
		g.enter(virt.PowerCrashed, "panicked", h.now())
		h.publish(virt.EventPanicked, id, "panicked")
	})
}

// GuestShutdown makes a guest's operating system shut down of its own accord.
func (h *Hypervisor) GuestShutdown(id string) error {
	return h.outside(id, (*guest).runs, func(g *guest) { h.end(g, virt.EventStopped, "shutdown") })
}

// GuestSleep makes a guest's operating system suspend to memory; GuestWake wakes it.
func (h *Hypervisor) GuestSleep(id string) error {
	return h.outside(id, (*guest).runs, func(g *guest) {
		g.enter(virt.PowerSuspended, "guest suspended", h.now())
		h.publish(virt.EventSuspended, id, "guest suspended")
	})
}

// GuestWake wakes a guest that sleeps.
func (h *Hypervisor) GuestWake(id string) error {
	sleeps := func(g *guest) bool { return g.state == virt.PowerSuspended }
	return h.outside(id, sleeps, func(g *guest) {
		g.enter(virt.PowerRunning, "wakeup", h.now())
		h.publish(virt.EventStarted, id, "wakeup")
	})
}

// IOError pauses a guest whose disk failed it.
func (h *Hypervisor) IOError(id string) error {
	return h.outside(id, (*guest).runs, func(g *guest) { h.pause(g, "I/O error") })
}

// StartByHand does what virsh start does.
func (h *Hypervisor) StartByHand(id string) error {
	stopped := func(g *guest) bool { return !g.alive() }
	return h.outside(id, stopped, func(g *guest) {
		g.enter(virt.PowerRunning, "booted", h.now())
		h.publish(virt.EventStarted, id, "booted")
	})
}

// PauseByHand does what virsh suspend does.
func (h *Hypervisor) PauseByHand(id string) error {
	return h.outside(id, (*guest).runs, func(g *guest) { h.pause(g, "paused") })
}

// DestroyByHand does what virsh destroy does: it ends a guest and keeps its definition.
func (h *Hypervisor) DestroyByHand(id string) error {
	present := func(g *guest) bool { return g.state != virt.PowerShutdown }
	return h.outside(id, present, func(g *guest) { h.end(g, virt.EventStopped, "destroyed") })
}

// UndefineByHand does what virsh undefine does. A guest that runs meanwhile runs on, and is gone when
// it stops.
func (h *Hypervisor) UndefineByHand(id string) error {
	defined := func(g *guest) bool { return !g.transient }
	return h.outside(id, defined, func(g *guest) {
		g.transient = true
		if g.state == virt.PowerShutdown {
			h.remove(g)
		}
		h.publish(virt.EventUndefined, id, "removed")
	})
}

// LoseConnection makes the hypervisor unreachable to all drivers until RestoreConnection: their
// calls fail with ErrUnavailable, and what happens meanwhile sends no events.
func (h *Hypervisor) LoseConnection() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost {
		return
	}
	h.lost = true
	h.publish(virt.EventConnectionLost, "", "connection lost")
	for _, g := range h.guests {
		g.announce() // so that those who wait for it notice
	}
}

// RestoreConnection ends what LoseConnection began.
func (h *Hypervisor) RestoreConnection() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.lost {
		return
	}
	h.lost = false
	h.publish(virt.EventConnectionBack, "", "connection restored")
}

func (h *Hypervisor) outside(id string, possible func(*guest) bool, act func(*guest)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	g, err := h.find(id)
	if err != nil {
		return wrap("play with guest", id, err)
	}
	if !possible(g) {
		return &virt.Error{Op: "play with guest", Subject: id, Kind: virt.ErrInvalidState, Err: errors.New("it is " + g.state.String())}
	}
	act(g)
	return nil
}

func (g *guest) runs() bool { return g.state == virt.PowerRunning }

// end stops a guest's execution, by whatever cause; h.mu is held.
func (h *Hypervisor) end(g *guest, kind virt.EventKind, reason string) {
	g.enter(virt.PowerShutdown, reason, h.now())
	if g.transient {
		h.remove(g)
	}
	h.publish(kind, g.spec.ID, reason)
}

// destroy ends a guest and removes its definition; h.mu is held.
func (h *Hypervisor) destroy(g *guest) {
	wasDefined := !g.transient
	if g.state != virt.PowerShutdown {
		h.end(g, virt.EventStopped, "destroyed")
	}
	if wasDefined {
		h.remove(g)
		h.publish(virt.EventUndefined, g.spec.ID, "removed")
	}
}

// pause stops a running guest's vCPUs; h.mu is held.
func (h *Hypervisor) pause(g *guest, reason string) {
	g.enter(virt.PowerPaused, reason, h.now())
	h.publish(virt.EventPaused, g.spec.ID, reason)
}
