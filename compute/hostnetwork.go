package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"compute-agent/network/fabric"
	"compute-agent/neutron"
)

// HostNetwork makes the host have what the records of the network service ask of it. All who ask while it is being done are
// served together by the next round, so that a hundred servers at once are few rounds, and what one round could not do is tried again
// by itself.
type HostNetwork struct {
	store  Store
	fabric Fabric
	site   neutron.Site
	log    *slog.Logger

	base context.Context // ended by Close
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	busy   bool
	next   *round // that nobody has begun; nil if nobody asked
	told   string // the problem that was logged last
	failed int    // rounds in a row
}

// round is one time that the host is made what the records say.
type round struct {
	done chan struct{}
	err  error
}

// NewHostNetwork returns the host's networks, of which nothing is touched before the first Sync. The logger may be nil for none.
func NewHostNetwork(store Store, f Fabric, site neutron.Site, log *slog.Logger) *HostNetwork {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &HostNetwork{store: store, fabric: f, site: site, log: log}
	n.base, n.end = context.WithCancel(context.Background())
	return n
}

// Close ends what is under way. What the host has stays, and guests keep their networks.
func (n *HostNetwork) Close() {
	n.end()
	n.wg.Wait()
}

// Sync makes the host what the records say now, and returns when it is, or ctx ends. The error is that of all ports; see
// PortsSynced for those of a server.
func (n *HostNetwork) Sync(ctx context.Context) error {
	r := n.ask()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// SyncSoon is Sync in the background.
func (n *HostNetwork) SyncSoon() { n.ask() }

// Audit makes Sync, in the background, look at all that is on the host, also at what nobody tells of when it changes.
func (n *HostNetwork) Audit() {
	n.fabric.Resync()
	n.ask()
}

// SyncPorts is Sync, and its error only what concerns the ports with these IDs.
func (n *HostNetwork) SyncPorts(ctx context.Context, ports []neutron.Port) error {
	return concerning(n.Sync(ctx), ports)
}

// concerning is what of an error of Sync keeps these ports from working: their own errors, and whatever is no port's.
func concerning(err error, ports []neutron.Port) error {
	ours := map[string]bool{}
	for _, p := range ports {
		ours[p.ID] = true
	}
	var errs []error
	for _, e := range joined(err) {
		if port, is := errors.AsType[*fabric.PortError](e); !is || ours[port.Port] {
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}

// joined are the errors of an errors.Join, and of those in it.
func joined(err error) []error {
	if err == nil {
		return nil
	}
	list, is := err.(interface{ Unwrap() []error })
	if _, message := err.(*Failure); !is || message {
		return []error{err}
	}
	var out []error
	for _, e := range list.Unwrap() {
		out = append(out, joined(e)...)
	}
	return out
}

// ask returns the round that begins after now.
func (n *HostNetwork) ask() *round {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = &round{done: make(chan struct{})}
	}
	r := n.next
	if n.base.Err() != nil {
		r.err = errParked
		close(r.done)
		n.next = nil
		return r
	}
	if !n.busy {
		n.busy = true
		n.wg.Go(n.run)
	}
	return r
}

// run does rounds for as long as somebody asks.
func (n *HostNetwork) run() {
	for {
		n.mu.Lock()
		r := n.next
		n.next = nil
		if r == nil {
			n.busy = false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		r.err = n.once()
		close(r.done)
		n.note(r.err)
	}
}

// once is one round. It ends by itself: every program that it runs has its limit.
func (n *HostNetwork) once() error {
	var records neutron.Records
	err := n.store.View(n.base, func(tx Reader) (err error) {
		records, err = networkRecords(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the networks: %w", err)
	}
	want, problems := neutron.Plan(records, n.site)
	problems = errors.Join(problems, n.fabric.Apply(n.base, want))
	return errors.Join(problems, n.setStatus(records.Ports, problems))
}

// setStatus writes down which ports work, as Neutron's agents do: those that are bound and were done.
func (n *HostNetwork) setStatus(ports []neutron.Port, problems error) error {
	found := map[string]neutron.Status{}
	for _, p := range ports {
		if is := statusOf(p, problems); is != p.Status {
			found[p.ID] = is
		}
	}
	if len(found) == 0 || n.base.Err() != nil {
		return nil
	}
	err := n.store.Update(n.base, func(tx Writer) error {
		for id, is := range found {
			p, err := tx.Port(id)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			p.Status = is
			if err := errors.Join(err, tx.PutPort(p)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the status of ports: %w", err)
	}
	return nil
}

func statusOf(p neutron.Port, problems error) neutron.Status {
	switch {
	case p.DeviceID == "" || !p.AdminUp:
		return neutron.StatusDown
	case p.DeviceOwner == neutron.OwnerFloatingIP: // an address that no interface has
		return neutron.StatusNone
	case concerning(problems, []neutron.Port{p}) != nil:
		return neutron.StatusError
	}
	return neutron.StatusActive
}

// networkRecords reads all of the network service.
func networkRecords(tx Reader) (r neutron.Records, err error) {
	read := func(fill func() error) {
		if err == nil {
			err = fill()
		}
	}
	read(func() (err error) { r.Networks, err = tx.Networks(); return err })
	read(func() (err error) { r.Subnets, err = tx.Subnets(); return err })
	read(func() (err error) { r.Ports, err = tx.Ports(); return err })
	read(func() (err error) { r.Groups, err = tx.SecurityGroups(); return err })
	read(func() (err error) { r.Routers, err = tx.Routers(); return err })
	read(func() (err error) { r.FloatingIPs, err = tx.FloatingIPs(); return err })
	return r, err
}

// note logs a problem once, and sees to it that what failed is tried again: after a second, and later up to a minute.
func (n *HostNetwork) note(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.base.Err() != nil {
		return
	}
	if err == nil {
		if n.failed > 0 {
			n.log.Info("the host's networks are as they should be again")
		}
		n.failed, n.told = 0, ""
		return
	}
	if err.Error() != n.told {
		n.told = err.Error()
		n.log.Error("the host's networks are not all as they should be", "error", err)
	}
	n.failed++
	time.AfterFunc(min(time.Minute, time.Second<<min(n.failed-1, 6)), func() {
		if n.base.Err() == nil {
			n.ask()
		}
	})
}
