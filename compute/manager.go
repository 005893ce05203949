package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"compute-agent/internal/keylock"
	"compute-agent/virt"
)

// Options are what a Manager works with. Store, Driver and Disks are required; a zero duration or
// number gets the default that its comment names.
type Options struct {
	Store  Store
	Driver virt.Driver
	Disks  Disks
	// Networks keeps the ports of servers, and HostNetwork makes the host ready for them; without either servers get none.
	Networks    *NetworkService
	HostNetwork *HostNetwork
	// Volumes is the volume service and VolumeHost connects volumes to this host; VolumeService is what of the service belongs into the transaction of
	// a server's operation. Without all three servers get no volumes.
	Volumes       Volumes
	VolumeHost    VolumeHost
	VolumeService *VolumeService
	// Consoles ends connections to the consoles of guests that end; nil when there are none.
	Consoles *ConsoleService
	// Blobs is told of image bytes that a deleted server no longer names; nil for nobody.
	Blobs Blobs

	NodeID   string // UUID of this host, see LoadNodeID
	Version  string // of the agent, for the domains' metadata
	Capacity Capacity
	Guests   GuestOptions
	Policy   PowerPolicy // default PolicyObserve
	// HardwareChanges says what a hard reboot may change; default HardwareRefuse.
	HardwareChanges HardwarePolicy

	MaxBuilds        int           // creates that are carried out at a time; default 10 (max_concurrent_builds)
	BuildTimeout     time.Duration // how long a create waits for a hypervisor that does not answer; default 10 min
	OperationTimeout time.Duration // the same for power operations; default 5 min
	CallTimeout      time.Duration // for one call of the driver; default 2 min
	ShutdownTimeout  time.Duration // that a guest gets to shut itself down; default 60 s (shutdown_timeout)
	ShutdownRetry    time.Duration // after which it is asked again; default 10 s (shutdown_retry_interval)
	DetachTimeout    time.Duration // after which a guest is asked again to let go of a device; default 20 s (device_detach_timeout)
	DetachAttempts   int           // how often it is asked; default 8 (device_detach_attempts)
	AuditInterval    time.Duration // between full comparisons with the hypervisor; default 1 h
	// SettleTime is how long after a guest stopped its state is read: a restart by somebody's hand
	// then does not show. Default 1 s; negative for none.
	SettleTime time.Duration

	PortFree func(address string) bool // whether nobody listens at host:port of this host; default: it is tried

	Logger  *slog.Logger      // default: nothing is logged
	Clock   func() time.Time  // what records say; default time.Now
	Observe func(Observation) // told of every step and operation that ended; may be nil; must not block
}

// Blobs keeps image bytes for as long as somebody names them. *Library is one.
type Blobs interface {
	// Release removes the bytes with this SHA-256 if no image, server or volume in the making names them.
	Release(ctx context.Context, sha256 string) error
}

// Observation is a step or, with an empty Step, an operation that ended.
type Observation struct {
	Kind OperationKind
	Step string
	Undo bool
	Took time.Duration
	Err  error // nil for success
}

func (o Options) withDefaults() Options {
	for d, def := range map[*time.Duration]time.Duration{
		&o.BuildTimeout: 10 * time.Minute, &o.OperationTimeout: 5 * time.Minute, &o.CallTimeout: 2 * time.Minute,
		&o.ShutdownTimeout: time.Minute, &o.ShutdownRetry: 10 * time.Second, &o.AuditInterval: time.Hour, &o.SettleTime: time.Second,
		&o.DetachTimeout: 20 * time.Second,
	} {
		if *d == 0 {
			*d = def
		}
	}
	if o.MaxBuilds == 0 {
		o.MaxBuilds = 10
	}
	if o.DetachAttempts == 0 {
		o.DetachAttempts = 8
	}
	if o.Policy == "" {
		o.Policy = PolicyObserve
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.PortFree == nil {
		o.PortFree = portFree
	}
	if o.Observe == nil {
		o.Observe = func(Observation) {}
	}
	return o
}

// Manager carries out what users ask of servers. Its methods may be called concurrently, from Start
// to Close.
type Manager struct {
	opt    Options
	store  Store
	driver virt.Driver
	disks  Disks
	log    *slog.Logger
	ledger *ledger

	accepting keylock.Map[string] // held while a command for a server is accepted
	locks     keylock.Map[string] // held by what touches a server's guest or files
	volumes   keylock.Map[string] // held by what connects a volume to the host, or takes it off
	builds    chan struct{}       // has room for MaxBuilds
	back      signal              // the hypervisor answers again

	base    context.Context // of all background work; ended by Close with errParked
	end     context.CancelCauseFunc
	closing chan struct{} // closed first: work that waits for something gives up
	wg      sync.WaitGroup

	choosing sync.Mutex // held while serial ports are chosen, until they are stored

	mu      sync.Mutex
	closed  bool
	started time.Time
	running map[string]*run // by server: the newest operation's goroutine
	syncing map[string]bool // servers whose power state is about to be read
	host    virt.Host       // as it was when the driver last told
	storage Storage
	lost    bool                // the hypervisor did not answer when it was last spoken to
	unknown map[string]bool     // guests that were reported as unknown
	told    map[difference]bool // of the last audit
	settled bool                // no server is left whose hardware is not settled
	// auditing says that an audit is asked for and has not begun.
	auditing bool
	audits   sync.Mutex // held by one

	documents documentCache
}

// Reasons for which an operation's goroutine stops in the middle.
var (
	errSuperseded = errors.New("another operation took its place")
	errParked     = errors.New("the agent stops; the operation goes on at the next start")
)

// New returns a manager that has not begun: nothing on the host or in the store is touched before Start.
func New(opt Options) (*Manager, error) {
	if opt.Store == nil || opt.Driver == nil || opt.Disks == nil {
		return nil, errors.New("compute: Store, Driver and Disks are required")
	}
	if opt.Policy != "" && opt.Policy != PolicyObserve && opt.Policy != PolicyEnforce {
		return nil, fmt.Errorf("compute: power policy %q is not %s or %s", opt.Policy, PolicyObserve, PolicyEnforce)
	}
	if opt.HardwareChanges != "" && opt.HardwareChanges != HardwareRefuse && opt.HardwareChanges != HardwareAccept {
		return nil, fmt.Errorf("compute: hardware policy %q is not %s or %s", opt.HardwareChanges, HardwareRefuse, HardwareAccept)
	}
	opt = opt.withDefaults()
	m := &Manager{
		opt: opt, store: opt.Store, driver: opt.Driver, disks: opt.Disks, log: opt.Logger,
		ledger:  newLedger(opt.Capacity),
		builds:  make(chan struct{}, opt.MaxBuilds),
		closing: make(chan struct{}),
		running: map[string]*run{}, syncing: map[string]bool{}, unknown: map[string]bool{},
	}
	m.base, m.end = context.WithCancelCause(context.Background())
	return m, nil
}

// Close stops accepting commands and lets operations go on until ctx ends; what is not done by then
// stays in the journal, to be resumed at the next start. Guests run on. The store and the driver
// stay open: they are the caller's.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	close(m.closing)
	m.mu.Unlock()

	done := make(chan struct{})
	go func() {
		m.waitOperations()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	m.end(errParked)
	<-done
	m.wg.Wait()
	return nil
}

// waitOperations returns when no operation's goroutine is left.
func (m *Manager) waitOperations() {
	for {
		m.mu.Lock()
		var r *run
		for _, r = range m.running {
			break
		}
		m.mu.Unlock()
		if r == nil {
			return
		}
		<-r.done
	}
}

// Wait returns when no operation is under way on the server, or ctx ends.
func (m *Manager) Wait(ctx context.Context, serverID string) error {
	for {
		m.mu.Lock()
		r := m.running[serverID]
		m.mu.Unlock()
		if r == nil {
			return nil
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// spawn runs fn in the background until it returns; not at all when the manager is closed.
func (m *Manager) spawn(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.wg.Go(fn)
	}
}

// call gives one call of the driver its deadline. It does not end with an operation that was
// superseded, so that no call takes effect behind the back of what comes next.
func (m *Manager) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(m.base, m.opt.CallTimeout)
}

// logger returns a logger for what is done to a server on behalf of a request.
func (m *Manager) logger(serverID, requestID string) *slog.Logger {
	log := m.log
	if serverID != "" {
		log = log.With("server_id", serverID)
	}
	if requestID != "" {
		log = log.With("request_id", requestID)
	}
	return log
}

// signal wakes all who wait for something to happen again.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// next returns a channel that is closed when raise is called next.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
