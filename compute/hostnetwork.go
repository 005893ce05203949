package compute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
	next   *round      // that nobody has begun; nil if nobody asked
	told   string      // the problem that was logged last
	failed int         // rounds in a row
	again  *time.Timer // when what failed is tried again; nil if nothing is to be
}

// roundLimit is how long one round may take. Whatever hangs then, the round ends with an error that says at what, and another one tries.
const roundLimit = 10 * time.Minute

// round is one time that the host is made what the records say.
type round struct {
	done   chan struct{}
	err    error            // all that went wrong
	fatal  error            // what kept it from being done at all
	broken map[string]error // ports that do not work, by ID
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
	n.mu.Lock() // so that none begins when they are waited for
	n.end()
	n.later(0, nil)
	n.mu.Unlock()
	n.wg.Wait()
}

// later has something done once, after a while, instead of what was to be done later until now.
func (n *HostNetwork) later(after time.Duration, do func()) {
	if n.again != nil {
		n.again.Stop()
	}
	n.again = nil
	if do != nil {
		n.again = time.AfterFunc(after, do)
	}
}

// Sync makes the host what the records say now, and returns when it is, or ctx ends. The error is all that went wrong.
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

// SyncPorts is Sync for who wants to use these ports: the error is what keeps one of them from working, whatever is wrong elsewhere.
func (n *HostNetwork) SyncPorts(ctx context.Context, ports []neutron.Port) error {
	r := n.ask()
	select {
	case <-r.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var errs []error
	for _, p := range ports {
		errs = append(errs, r.broken[p.ID])
	}
	return errors.Join(append(errs, r.fatal)...)
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
		r.err, r.fatal = errParked, errParked
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
		n.do(r)
		close(r.done)
		n.note(r.err)
	}
}

// do is one round.
func (n *HostNetwork) do(r *round) {
	ctx, cancel := context.WithTimeout(n.base, roundLimit)
	defer cancel()
	var records neutron.Records
	r.fatal = n.store.View(ctx, func(tx Reader) (err error) {
		records, err = NetworkRecords(tx)
		return err
	})
	if r.fatal != nil {
		r.fatal = fmt.Errorf("read the networks: %w", r.fatal)
		r.err = r.fatal
		return
	}
	want, problems := neutron.Plan(records, n.site)
	applied := n.fabric.Apply(ctx, want)
	r.broken = brokenPorts(records.Ports, want, problems, applied)
	r.err = errors.Join(problems, applied, n.setStatus(records.Ports, r.broken))
}

// brokenPorts says which of the ports that are bound to this host do not work, and why: what could not be applied of them, or that no
// sense could be made of them.
func brokenPorts(ports []neutron.Port, want fabric.State, problems, applied error) map[string]error {
	broken := map[string]error{}
	planned := map[string]bool{}
	for _, p := range want.Ports {
		planned[p.ID] = true
	}
	for _, p := range ports {
		if p.OfServer() && !planned[p.ID] {
			broken[p.ID] = &fabric.PortError{Port: p.ID, Err: cmp.Or(problems, errNotPlanned)}
		}
	}
	for _, e := range fabric.PortErrors(applied) {
		broken[e.Port] = e
	}
	return broken
}

var errNotPlanned = errors.New("it is not for this host")

// setStatus writes down which ports work, as Neutron's agents do: those that somebody has and that were done.
func (n *HostNetwork) setStatus(ports []neutron.Port, broken map[string]error) error {
	found := map[string]neutron.Status{}
	for _, p := range ports {
		if is := statusOf(p, broken[p.ID]); is != p.Status {
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

func statusOf(p neutron.Port, broken error) neutron.Status {
	switch {
	case p.DeviceOwner == neutron.OwnerFloatingIP: // an address that no interface has
		return neutron.StatusNone
	case p.DeviceID == "" || !p.AdminUp:
		return neutron.StatusDown
	case broken != nil:
		return neutron.StatusError
	}
	return neutron.StatusActive
}

// NetworkRecords reads all of the network service.
func NetworkRecords(tx Reader) (r neutron.Records, err error) {
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

// maxProblems is how many are logged of one round: what keeps a thousand ports from working says so a thousand times.
const maxProblems = 20

// brief is the beginning of an error of many lines.
func brief(text string) string {
	lines := strings.Split(text, "\n")
	if len(lines) <= maxProblems {
		return text
	}
	return fmt.Sprintf("%s\nand %d more", strings.Join(lines[:maxProblems], "\n"), len(lines)-maxProblems)
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
		n.later(0, nil)
		return
	}
	if err.Error() != n.told {
		n.told = err.Error()
		n.log.Error("the host's networks are not all as they should be", "error", brief(n.told))
	}
	n.failed++
	n.later(min(time.Minute, time.Second<<min(n.failed-1, 6)), func() { n.ask() })
}
