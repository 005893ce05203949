package compute

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"compute-agent/numa"
	"compute-agent/pci"
	"compute-agent/virt"
)

// inventory is everything that is there at start.
type inventory struct {
	servers    []Server // their states
	operations []Operation
	guests     []virt.Guest
	listed     bool                // the hypervisor answered; without it guests is unknown, not empty
	files      []string            // IDs of servers that have files
	owners     map[string][]string // addresses of PCI devices by guest; nil where servers get none
}

// verdict is what the start decides about one server, guest or set of files.
type verdict struct {
	id   string // of server or guest
	does verdictKind
	step string          // at which an operation goes on
	op   Operation       // that goes on
	sees virt.PowerState // the guest's state
	out  outcome         // of the power policy
	note string          // for the log
}

type verdictKind string

const (
	adopt       verdictKind = "adopt"           // the guest is as the store says: nothing to do
	resume      verdictKind = "resume"          // the operation goes on at its step
	undoing     verdictKind = "undo"            // the operation's undoing goes on at its step
	correct     verdictKind = "correct"         // the guest is in another state than was stored
	missing     verdictKind = "missing guest"   // the server had a guest, and it is gone
	unknown     verdictKind = "unknown guest"   // not ours: reported, never touched
	orphanFiles verdictKind = "files of nobody" // reported, never touched
)

// plan pairs what is stored with what is there. It is pure; the order is that of the inventory.
func plan(in inventory, policy PowerPolicy) []verdict {
	var out []verdict
	guests := map[string]virt.Guest{}
	for _, g := range in.guests {
		guests[g.ID] = g
	}
	journal := map[string]Operation{}
	for _, op := range in.operations {
		journal[op.ServerID] = op
	}
	known := map[string]bool{}
	for _, s := range in.servers {
		known[s.ID] = true
		if op, busy := journal[s.ID]; busy {
			out = append(out, planOperation(op))
		} else if in.listed {
			out = append(out, planServer(s, guests[s.ID].State, policy))
		}
	}
	for _, g := range in.guests {
		if !known[g.ID] {
			out = append(out, verdict{id: g.ID, does: unknown, sees: g.State, note: "guest " + g.Name + " belongs to no server"})
		}
	}
	for _, id := range in.files {
		if !known[id] {
			out = append(out, verdict{id: id, does: orphanFiles, note: "files belong to no server"})
		}
	}
	return out
}

func planOperation(op Operation) verdict {
	v := verdict{id: op.ServerID, does: resume, step: op.Step, op: op, note: string(op.Kind)}
	if op.Undoing {
		v.does = undoing
	}
	return v
}

// planServer compares a server that nothing is under way on with its guest.
func planServer(s Server, sees virt.PowerState, policy PowerPolicy) verdict {
	out := policy.decide(s.VM, sees)
	v := verdict{id: s.ID, does: adopt, sees: sees, out: out, note: out.warn}
	switch {
	case sees == virt.PowerNoState && s.Power != virt.PowerNoState:
		v.does = missing
	case sees != s.Power || out.stop || (out.vm != "" && out.vm != s.VM):
		v.does = correct
	}
	return v
}

// Start finds out what was under way when the agent ended and what became of the guests since,
// and goes on with it: see plan. It returns when all servers show what is, and operations have been
// taken up; they go on in the background. A hypervisor that does not answer is no error: what
// needs it waits until it does.
func (m *Manager) Start(ctx context.Context) error {
	m.mu.Lock()
	m.started = m.now()
	m.mu.Unlock()
	if err := m.restoreClaims(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := m.learnAtStart(); err != nil {
		return fmt.Errorf("the configuration is not for this host: %w", err)
	}
	// Before the listing, so that no change falls between the two.
	events := m.driver.Events(m.base)
	if m.opt.HostNetwork != nil {
		m.opt.HostNetwork.SyncSoon() // guests that run have their taps; after a restart of the host nobody has
	}
	in, err := m.takeInventory(ctx)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := m.settleOlder(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	verdicts := plan(in, m.opt.Policy)
	if err := m.apply(ctx, verdicts); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if in.listed {
		m.auditClaims(in)
	}
	m.spawn(func() { m.watch(events) })
	return nil
}

// learnAtStart asks what the host has. The error is that of a configuration that is not for it, a *numa.Error or a
// *pci.Error.
func (m *Manager) learnAtStart() error {
	_, _, err := m.learnHost()
	if err == nil {
		err = m.learnDevices()
	}
	if wrong, is := errors.AsType[*numa.Error](err); is {
		return wrong
	}
	if wrong, is := errors.AsType[*pci.Error](err); is {
		return wrong
	}
	if err != nil {
		m.log.Warn("the hypervisor does not answer yet", "error", err)
	}
	return nil
}

// restoreClaims fills the ledger from the store, before anything else: nothing that is claimed is free.
func (m *Manager) restoreClaims(ctx context.Context) error {
	return m.store.View(ctx, func(tx Reader) error {
		claims, err := tx.Claims()
		for _, c := range claims {
			m.ledger.restore(c)
		}
		return err
	})
}

func (m *Manager) takeInventory(ctx context.Context) (inventory, error) {
	var in inventory
	err := m.store.View(ctx, func(tx Reader) (err error) {
		if in.servers, err = tx.ServerStates(); err != nil {
			return err
		}
		in.operations, err = tx.Operations()
		return err
	})
	if err != nil {
		return in, err
	}
	if in.files, err = m.disks.List(ctx); err != nil {
		return in, err
	}
	guests, err := m.listGuests()
	if err != nil {
		m.log.Warn("cannot list the guests; waiting for the hypervisor", "error", err)
		return in, nil
	}
	if in.owners, err = m.listOwners(); err != nil {
		m.log.Warn("cannot list the guests' PCI devices; waiting for the hypervisor", "error", err)
		return in, nil
	}
	in.guests, in.listed = guests, true
	return in, nil
}

// apply stores all corrections in one transaction, reports what is strange, and takes up what was
// under way.
func (m *Manager) apply(ctx context.Context, verdicts []verdict) error {
	changed := slices.DeleteFunc(slices.Clone(verdicts), func(v verdict) bool { return v.does != correct && v.does != missing })
	if len(changed) > 0 {
		err := m.store.Update(ctx, func(tx Writer) error {
			for _, v := range changed {
				if err := m.record(tx, v.id, v.sees, v.out); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	count := map[verdictKind]int{}
	for _, v := range verdicts {
		count[v.does]++
		m.report(v)
		switch {
		case v.does == resume || v.does == undoing:
			m.launch(v.op)
		case v.out.stop:
			m.enforceStop(v.id)
		}
	}
	m.log.Info("servers restored", "adopted", count[adopt], "resumed", count[resume], "undoing", count[undoing],
		"corrected", count[correct], "missing_guests", count[missing], "unknown_guests", count[unknown], "orphan_files", count[orphanFiles])
	return nil
}

func (m *Manager) report(v verdict) {
	log := m.logger(v.id, v.op.RequestID)
	switch v.does {
	case adopt:
	case resume, undoing:
		log.Info("operation goes on", "operation", v.note, "step", v.step, "undoing", v.does == undoing)
	case unknown:
		m.firstSeen(v.id)
		log.Warn("unknown guest; it is left alone", "note", v.note, "power", v.sees.String())
	case orphanFiles:
		log.Warn("unknown files; they are left alone", "note", v.note)
	default:
		if v.note != "" {
			log.Warn("server corrected", "verdict", string(v.does), "power", v.sees.String(), "note", v.note)
		}
	}
}
