// Package libvirt runs guests with libvirt and QEMU. It implements the contract of package virt, with all of its abilities.
//
// Render makes the domain XML and is pure. Everything else goes through one connection, which session.go
// opens, reconnect.go keeps, and call.go bounds: libvirt's calls know no context, so each runs in a
// goroutine of its own, and the caller leaves it behind when the context ends.
package libvirt

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	lv "libvirt.org/go/libvirt"

	"compute-agent/internal/fanout"
	"compute-agent/virt"
)

// Options say how to reach libvirt and how patient to be with it. The zero value of a field is its
// default.
type Options struct {
	// URI is libvirt's address of the hypervisor. Default: qemu:///system.
	URI string
	// VirtType is the domain type that Host reports as this host's: "kvm", "qemu", or "auto" (the
	// default): kvm when /dev/kvm opens and libvirt offers it, else qemu.
	VirtType string
	// Logger gets what no caller hears of: connections lost and back, calls that outlive their
	// context. Default: slog.Default().
	Logger *slog.Logger
	// KeepAlive is how often an idle connection is probed, in whole seconds; a connection that misses
	// KeepAliveMisses probes is given up. Default: 5 s and 3.
	KeepAlive       time.Duration
	KeepAliveMisses int
	// CallTimeout bounds every method, whatever its context says; for Stop, Grace is added, and
	// CopyDisk has no other bound than its context. Default: 2 minutes.
	CallTimeout time.Duration
	// ReconnectWait is how long a call made while the connection is lost waits for it to come back.
	// Default: 5 s.
	ReconnectWait time.Duration
	// CopyBytes is how much of a disk is copied per second at most, each copy by itself. Default: no limit.
	CopyBytes uint64
}

func (o Options) withDefaults() Options {
	set(&o.URI, "qemu:///system")
	set(&o.VirtType, "auto")
	set(&o.KeepAlive, 5*time.Second)
	set(&o.KeepAliveMisses, 3)
	set(&o.CallTimeout, 2*time.Minute)
	set(&o.ReconnectWait, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func set[T comparable](field *T, byDefault T) {
	var zero T
	if *field == zero {
		*field = byDefault
	}
}

// Driver is a connection to libvirt that outlives libvirt's daemon.
type Driver struct {
	opt   Options
	log   *slog.Logger
	hub   *fanout.Hub[virt.Event]
	jobs  *fanout.Hub[diskJob]
	calls callList
	turns turns

	copies copySet

	statsPatience time.Duration

	virtType string // decided by Open: kvm or qemu
	emulator string

	closing context.Context // ended by Close
	close   context.CancelFunc
	kept    chan struct{} // closed when the connection is no longer kept

	mu      sync.Mutex
	current *session      // nil while there is no connection
	changed chan struct{} // closed, and made anew, when current changes
	lost    int           // how often the connection was lost
	since   time.Time     // when current last changed
}

var (
	_ virt.Driver         = (*Driver)(nil)
	_ virt.Pauser         = (*Driver)(nil)
	_ virt.ConsoleLogger  = (*Driver)(nil)
	_ virt.ConsoleFinder  = (*Driver)(nil)
	_ virt.Screenshotter  = (*Driver)(nil)
	_ virt.PCILister      = (*Driver)(nil)
	_ virt.NICPlugger     = (*Driver)(nil)
	_ virt.MetadataSetter = (*Driver)(nil)
	_ virt.DiskPlugger    = (*Driver)(nil)
	_ virt.DiskResizer    = (*Driver)(nil)
	_ virt.DiskCopier     = (*Driver)(nil)
	_ virt.DiskMeter      = (*Driver)(nil)
	_ virt.SecretKeeper   = (*Driver)(nil)
)

// maxBacklog is how many events a reader may fall behind.
const maxBacklog = 4096

// Open connects to libvirt. It fails with ErrUnavailable when libvirt does not answer before ctx ends,
// and with ErrUnsupported when VirtType asks for what this host does not offer.
func Open(ctx context.Context, opt Options) (*Driver, error) {
	opt = opt.withDefaults()
	if err := startEventLoop(); err != nil {
		return nil, failure("start libvirt's event loop", "", err)
	}
	d := &Driver{
		opt: opt, log: opt.Logger, statsPatience: defaultStatsPatience,
		hub: fanout.New(maxBacklog, func() virt.Event {
			return virt.Event{Kind: virt.EventConnectionBack, Reason: "reader too slow", Time: time.Now()}
		}),
		jobs: fanout.New(maxBacklog, func() diskJob { return diskJob{} }),
		kept: make(chan struct{}), changed: make(chan struct{}), since: time.Now(),
	}
	d.closing, d.close = context.WithCancel(context.Background())
	s, err := d.connect(ctx)
	if err != nil {
		d.close()
		return nil, failure("connect to", opt.URI, err)
	}
	d.setCurrent(s)
	go d.keep(s)
	if err := d.chooseVirtType(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close implements virt.Driver. It waits a moment for the connection to close, but not for calls that
// do not return.
func (d *Driver) Close() error {
	d.close()
	d.hub.Close() // wakes the calls that wait for events
	d.jobs.Close()
	<-d.kept
	return nil
}

// Events implements virt.Driver.
func (d *Driver) Events(ctx context.Context) <-chan virt.Event { return d.hub.Subscribe(ctx) }

// Status is what the driver knows about its connection and its calls, for reports.
type Status struct {
	URI       string
	VirtType  string
	Connected bool
	Since     time.Time // when it became or ceased to be connected
	Lost      int       // how often the connection was lost
	Calls     []Call    // under way, oldest first
}

// Status reports on the driver itself. It asks nobody and does not block.
func (d *Driver) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Status{
		URI: d.opt.URI, VirtType: d.virtType, Connected: d.current != nil, Since: d.since, Lost: d.lost,
		Calls: d.calls.list(),
	}
}

var eventLoop struct {
	once sync.Once
	err  error
}

// startEventLoop starts libvirt's event loop, once for the process and for good. It has to be there
// before the first connection: events and keepalive depend on it, and without it nothing complains.
func startEventLoop() error {
	eventLoop.once.Do(func() {
		if eventLoop.err = lv.EventRegisterDefaultImpl(); eventLoop.err == nil {
			go runEventLoop()
		}
	})
	return eventLoop.err
}

func runEventLoop() {
	for {
		if err := lv.EventRunDefaultImpl(); err != nil {
			slog.Error("libvirt's event loop failed", "error", err)
			time.Sleep(time.Second) // the loop must go on, but not spin
		}
	}
}
