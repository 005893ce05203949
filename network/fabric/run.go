package fabric

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"compute-agent/internal/command"
	"compute-agent/network"
	"compute-agent/network/dhcp"
	"compute-agent/network/firewall"
	"compute-agent/network/metadata"
	"compute-agent/network/router"
)

// Options are what a Fabric works with.
type Options struct {
	Host    network.Host
	Runner  command.Runner
	Variant firewall.Variant
	// Dir is for the files of DHCP servers. All users must be able to enter it: dnsmasq is not root.
	Dir      string
	Metadata metadata.Source
	Logger   *slog.Logger // default: nothing is logged
}

// Fabric makes a host's networks what is wanted, and puts right what others change. Its methods may be called at the same time.
type Fabric struct {
	opt      Options
	os       network.OS
	firewall *firewall.Firewall
	links    *network.Keeper
	dhcp     *dhcp.Supervisor
	routers  *router.Routers
	metadata *metadata.Service
	claimed  net.Listener
	filters  atomic.Uint64 // that were put right
	stale    atomic.Bool   // what is remembered of the host is to be read
	mended   chan struct{} // a link was made again, and what runs on links has to be looked at

	mu    sync.Mutex // held while something is changed
	want  State
	asked bool
	// generation is that of the rules when they were last as wanted.
	generation uint32
	open       bool // they could not be put right when somebody else had changed them

	end  context.CancelFunc // of what puts things right
	busy sync.WaitGroup
}

// ErrServed says that another agent has the networks of this network namespace: each would take away what the other made.
var ErrServed = errors.New("another agent serves the networks of this host")

// claim is an abstract socket, of which a network namespace has one of each name, for as long as its process lives.
const claim = "@compute-agent-networks"

// Open returns the Fabric of the network namespace in which it is called. Nothing is touched before the first Apply.
func Open(opt Options) (*Fabric, error) {
	claimed, err := net.ListenUnix("unix", &net.UnixAddr{Name: claim, Net: "unix"})
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, ErrServed
	}
	if err != nil {
		return nil, fmt.Errorf("claim the networks of this host: %w", err)
	}
	f, err := openClaimed(opt)
	if err != nil {
		return nil, errors.Join(err, claimed.Close())
	}
	f.claimed = claimed
	return f, nil
}

func openClaimed(opt Options) (*Fabric, error) {
	opt.Runner = limited{opt.Runner}
	if opt.Host.Run != nil {
		opt.Host.Run = limited{opt.Host.Run}
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(opt.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("directory of the networks: %w", err)
	}
	f := &Fabric{opt: opt, os: opt.Host, mended: make(chan struct{}, 1)}
	f.firewall = firewall.New(opt.Runner, opt.Variant, firewall.Kernel{})
	f.links = network.NewKeeper(opt.Host, f.repaired)
	f.routers = router.New(opt.Host, opt.Runner, opt.Variant, func(err error) { opt.Logger.Error("router advertisements", "error", err) })
	f.metadata = metadata.New(metadata.Options{Source: opt.Metadata, Host: opt.Host, Logger: opt.Logger})
	var err error
	f.dhcp, err = dhcp.New(dhcp.Options{Dir: opt.Dir, Run: opt.Runner, Host: opt.Host, Report: f.restarted})
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	f.end = end
	if err := f.keep(ctx); err != nil {
		end()
		return nil, err
	}
	return f, nil
}

// repairLimit is how long one look at what others changed may take: who asks for something waits for it.
const repairLimit = 3 * time.Minute

// programLimit is how long a program may take. None takes longer than seconds, and what holds one up holds up all networks of the host.
const programLimit = time.Minute

var errHangs = fmt.Errorf("it does not end within %s", programLimit)

// limited ends programs that hang.
type limited struct{ command.Runner }

// Run implements command.Runner.
func (l limited) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, programLimit, errHangs)
	defer cancel()
	return l.Runner.Run(ctx, c)
}

// keep puts links and filters right when the kernel tells that somebody changed them.
func (f *Fabric) keep(ctx context.Context) error {
	links, err := f.opt.Host.Watch(ctx)
	if err != nil {
		return err
	}
	f.busy.Go(func() {
		if err := f.links.Run(ctx, links); ctx.Err() == nil {
			f.opt.Logger.Error("links of the host are not watched any more", "error", err)
		}
	})
	rules, err := firewall.Watch(ctx)
	if err != nil {
		return err
	}
	f.busy.Go(func() { f.guard(ctx, rules) })
	f.busy.Go(func() { f.mend(ctx) })
	return nil
}

// settle is how long after a change of rules by somebody else they are looked at: whoever loads them anew does it in several steps.
const settle = 200 * time.Millisecond

// retry is how long after rules could not be put right it is tried again.
const retry = 2 * time.Second

// guard loads the filters again when somebody else has changed rules.
func (f *Fabric) guard(ctx context.Context, rules <-chan struct{}) {
	var again <-chan time.Time
	for {
		select {
		case _, more := <-rules:
			if !more && ctx.Err() == nil {
				f.opt.Logger.Error("rules of the host are not watched any more")
			}
			if !more {
				return
			}
		case <-again:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return
		}
		select {
		case <-rules: // told of by the same look
		default:
		}
		again = nil
		if !f.reload(ctx) {
			again = time.After(retry)
		}
	}
}

// reload looks at the rules, and says whether they are as they should be.
func (f *Fabric) reload(ctx context.Context) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, repairLimit)
	defer cancel()
	is, err := firewall.Generation()
	if !f.asked || err == nil && is == f.generation && !f.open {
		return true // it was this Fabric that changed them
	}
	if !f.open {
		f.opt.Logger.Info("somebody else changed rules of the host; those of the ports are looked at")
		f.filters.Add(1)
	}
	f.firewall.Resync()
	open, err := f.refill(ctx)
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) && !f.open {
		f.opt.Logger.Error("rules that somebody else changed cannot be put right", "error", err)
	}
	f.open = open
	return !open
}

// refill loads the filters that were lost, and says whether it could not. Ports that can be neither filtered nor closed are then unplugged
// until they can be.
func (f *Fabric) refill(ctx context.Context) (open bool, err error) {
	have, err := f.os.Links(ctx)
	if err != nil {
		return true, err
	}
	refused, err := f.filter(ctx, have, f.want)
	if err == nil && f.open {
		return false, f.link(ctx, have, f.want, refused)
	}
	if err == nil || len(each[*firewall.ClosedError](err)) > 0 { // all others are filtered
		return false, err
	}
	var lost []string
	for _, p := range f.want.Firewall.Ports {
		if l, there := have.Links[p.Device]; there && l.Mark.ID != "" && l.Master != "" && !p.Unfiltered {
			lost = append(lost, p.Device)
		}
	}
	return true, errors.Join(err, f.links.Unplug(context.WithoutCancel(ctx), lost)) // which only asks the kernel
}

func (f *Fabric) repaired(made []network.Change, err error) {
	for _, c := range made {
		f.opt.Logger.Warn("a link of the host was not as it should be; it is put right", "change", c.String())
	}
	if err != nil {
		f.opt.Logger.Error("a link of the host cannot be put right", "error", err)
	}
	if len(made) > 0 {
		select {
		case f.mended <- struct{}{}:
		default: // it will be looked at
		}
	}
}

// mend looks after what runs on links that were made again: a device that is new has neither floating IPs nor listeners.
func (f *Fabric) mend(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.mended:
		}
		f.look(ctx)
	}
}

func (f *Fabric) look(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, repairLimit)
	defer cancel()
	if err := f.serve(limited, f.want); err != nil && ctx.Err() == nil {
		f.opt.Logger.Error("what runs for networks cannot be put right", "error", err)
	}
}

func (f *Fabric) restarted(network string, err error) {
	if err != nil {
		f.opt.Logger.Error("a network's DHCP server ended and cannot be started again yet", "network_id", network, "error", err)
		return
	}
	f.opt.Logger.Warn("a network's DHCP server ended and runs again", "network_id", network)
}

// Close ends what puts things right, and the metadata service. What was applied stays: guests keep their networks, and their DHCP servers.
func (f *Fabric) Close() {
	f.end()
	f.busy.Wait()
	f.metadata.Close()
	f.routers.Close()
	f.dhcp.Close()
	_ = f.claimed.Close()
}

// Resync makes the next Apply read what it else remembers of the host. It waits for none that is under way.
func (f *Fabric) Resync() { f.stale.Store(true) }

// forget is what Resync asked for.
func (f *Fabric) forget() {
	if f.stale.Swap(false) {
		f.firewall.Resync()
		f.routers.Resync()
	}
}

// Repairs counts what was put right: changes of links that somebody else had made, rules that somebody else had changed, and DHCP servers
// that had ended by themselves.
func (f *Fabric) Repairs() (links, filters, servers uint64) {
	return f.links.Repairs(), f.filters.Load(), f.dhcp.Restarts()
}

// Leases are the addresses that guests of a network have from its DHCP server.
func (f *Fabric) Leases(networkID string) ([]dhcp.Lease, error) { return f.dhcp.Leases(networkID) }

// filterBridges makes the kernel show bridged packets to iptables.
func (f *Fabric) filterBridges(ctx context.Context) error {
	for _, family := range []string{"iptables", "ip6tables"} {
		path := filepath.Join(f.opt.Host.Proc, "sys/net/bridge/bridge-nf-call-"+family)
		if err := f.turnOn(ctx, path); err != nil {
			return fmt.Errorf("bridged packets do not pass %s: %w", family, err)
		}
	}
	return nil
}

func (f *Fabric) turnOn(ctx context.Context, path string) error {
	is, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) { // nobody else has needed the module yet
		if _, err := f.opt.Runner.Run(ctx, command.Cmd{Name: "modprobe", Args: []string{"br_netfilter"}}); err != nil {
			return err
		}
		is, err = os.ReadFile(path)
	}
	if err != nil || len(is) > 0 && is[0] == '1' {
		return err
	}
	return os.WriteFile(path, []byte("1\n"), 0) // which is there
}
