package compute

import (
	"context"
	"errors"
	"time"

	"compute-agent/virt"
)

// watch follows the driver's events and compares everything at a long interval, until the manager
// closes.
func (m *Manager) watch(events <-chan virt.Event) {
	ticker := time.NewTicker(m.opt.AuditInterval)
	defer ticker.Stop()
	for {
		select {
		case <-m.closing:
			return
		case <-ticker.C:
			m.auditSoon()
		case ev, ok := <-events:
			if !ok {
				return
			}
			m.handle(ev)
		}
	}
}

func (m *Manager) handle(ev virt.Event) {
	switch ev.Kind {
	case virt.EventConnectionLost:
		m.log.Warn("connection to the hypervisor lost", "reason", ev.Reason)
		m.setLost(true)
	case virt.EventConnectionBack:
		m.log.Info("connection to the hypervisor is back", "reason", ev.Reason)
		m.setLost(false)
		m.back.raise()
		m.auditSoon()
		m.spawn(func() { m.opt.Consoles.recheck(m.base) })
	case virt.EventStopped:
		m.opt.Consoles.guestGone(ev.ID)
		m.syncAfter(ev.ID, m.opt.SettleTime)
	case virt.EventCrashed, virt.EventUndefined:
		m.opt.Consoles.guestGone(ev.ID)
		m.syncSoon(ev.ID)
	case virt.EventDeviceRemoved, virt.EventDeviceKept:
	case virt.EventHostDevices:
		if len(m.opt.Capacity.PCI.Specs) > 0 {
			m.auditSoon() // it tells whom that concerns
		}
	case virt.EventPanicked:
		m.logger(ev.ID, "").Warn("the guest's kernel panicked", "reason", ev.Reason)
		m.syncSoon(ev.ID)
	default:
		m.syncSoon(ev.ID)
	}
}

// auditSoon audits in the background, once for all who ask while an audit is still to begin.
func (m *Manager) auditSoon() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.auditing {
		return
	}
	m.auditing = true
	m.wg.Go(func() {
		m.audits.Lock() // one after the other
		defer m.audits.Unlock()
		m.mu.Lock()
		m.auditing = false // what happens from here on asks for another one
		m.mu.Unlock()
		m.audit()
	})
}

// audit compares all servers with all guests, and looks closer where they differ.
func (m *Manager) audit() {
	if m.opt.HostNetwork != nil {
		m.opt.HostNetwork.Audit()
	}
	if _, _, err := m.learnHost(); err != nil {
		m.log.Warn("audit: the hypervisor does not answer", "error", err)
		return
	}
	if err := m.learnDevices(); err != nil {
		m.log.Warn("audit: cannot list the host's PCI devices; what it had before counts", "error", err)
	}
	in, err := m.takeInventory(m.base)
	if err != nil || !in.listed {
		m.log.Warn("audit: cannot compare", "error", err)
		return
	}
	if err := m.settleOlder(m.base); err != nil {
		m.log.Warn("audit: cannot settle the hardware of older servers", "error", err)
	}
	for _, v := range plan(in, m.opt.Policy) {
		switch v.does {
		case correct, missing:
			m.syncSoon(v.id)
		case unknown:
			if !m.cameSince(v.id) && m.firstSeen(v.id) {
				m.report(v)
			}
		}
	}
	m.auditClaims(in)
}

// cameSince says whether a guest whose server was not in the inventory has one now: the store was read before the
// guests were listed.
func (m *Manager) cameSince(id string) bool {
	_, err := m.Server(m.base, id)
	return !errors.Is(err, ErrNotFound)
}

// firstSeen says whether an unknown guest has not been reported before.
func (m *Manager) firstSeen(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := m.unknown[id]
	m.unknown[id] = true
	return !seen
}

// syncAfter reads a guest's state after a while; syncSoon at once. Either waits for the operation that
// is under way on its server, and several requests while one waits are one.
func (m *Manager) syncAfter(id string, wait time.Duration) {
	if wait <= 0 {
		m.syncSoon(id)
		return
	}
	m.spawn(func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			m.syncSoon(id)
		case <-m.closing:
		}
	})
}

func (m *Manager) syncSoon(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.syncing[id] {
		return
	}
	m.syncing[id] = true
	m.wg.Go(func() {
		unlock, err := m.locks.Lock(m.base, id)
		m.mu.Lock()
		delete(m.syncing, id) // events from here on ask for another look
		m.mu.Unlock()
		if err != nil {
			return
		}
		defer unlock()
		m.sync(id)
	})
}

// retrySync is when a guest is looked at again whose state could not be read. The return of a lost
// connection does not wait for it.
const retrySync = 30 * time.Second

// sync brings a server's record in line with its guest as it is now. The server's lock is held, so
// that no operation is in the middle of anything; one that has been accepted will look itself.
func (m *Manager) sync(id string) {
	s, err := m.Server(m.base, id)
	if errors.Is(err, ErrNotFound) || (err == nil && s.Task != TaskNone) {
		return
	}
	guest, ok := m.look(id)
	if err != nil || !ok {
		m.syncAfter(id, retrySync)
		return
	}
	v := planServer(s, guest.State, m.opt.Policy)
	if v.does == adopt {
		return
	}
	if !m.recordAtLast(id, v) {
		return
	}
	log := m.logger(id, "").With("power", guest.State.String(), "reason", guest.Reason)
	if v.note != "" {
		log.Warn("the guest changed by itself", "note", v.note)
	} else {
		log.Info("the guest changed by itself")
	}
	if v.out.stop {
		m.enforceStop(id)
	}
}

// recordAtLast does not give up while the store fails, but when the manager closes: no other event would tell of it.
func (m *Manager) recordAtLast(id string, v verdict) bool {
	for n := 0; ; n++ {
		err := m.store.Update(m.base, func(tx Writer) error { return m.record(tx, id, v.sees, v.out) })
		if err == nil {
			return true
		}
		m.logger(id, "").Error("cannot record the guest's state; trying again", "error", err)
		if m.pause(m.base, nil, n) != nil {
			return false
		}
	}
}

// record stores a guest's state and what follows from it, unless an operation was accepted
// meanwhile: that looks itself when it ends.
func (m *Manager) record(tx Writer, id string, sees virt.PowerState, out outcome) error {
	s, err := tx.Server(id)
	if errors.Is(err, ErrNotFound) || (err == nil && s.Task != TaskNone) {
		return nil
	}
	if err != nil {
		return err
	}
	s.Power, s.Updated = sees, m.now()
	if out.vm != "" {
		if err := become(&s, out.vm); err != nil {
			return err
		}
	}
	return tx.UpdateServer(s)
}

// enforceStop stops a guest that runs though its server is stopped, by an operation as any other.
func (m *Manager) enforceStop(id string) {
	idle := func(s Server) error {
		if s.Task != TaskNone {
			return &Failure{Kind: ErrConflict, Subject: "server " + id, Reason: "an operation is under way"}
		}
		return nil
	}
	m.spawn(func() {
		err := m.begin(m.base, id, OpStop, nil, idle)
		if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, context.Canceled) {
			m.logger(id, "").Warn("cannot stop a guest that should not run", "error", err)
		}
	})
}
