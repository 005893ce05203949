// Package fake is a hypervisor of guests that are only remembered: no process runs. An operator
// selects it to try the agent on a host without KVM, and tests use it to make the agent's
// hypervisor fail, hang or die at any moment (see Fault) and to play the outside world (see
// Hypervisor.Crash and the following).
//
// It refuses what libvirt with QEMU refuses, in the same states and with the same kinds of error,
// and passes the same suite. It touches no other file than the console logs and sockets that Specs name.
package fake

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"compute-agent/internal/cpuset"
	"compute-agent/internal/fanout"
	"compute-agent/virt"
)

// Hypervisor holds the guests. It outlives the drivers that are opened on it, as libvirtd outlives
// the agent, so that a restart of the agent can be played on the same guests.
type Hypervisor struct {
	mu      sync.Mutex
	now     func() time.Time
	guests  map[string]*guest // by ID
	names   map[string]string // ID by name
	hearing map[string]int
	drivers []*Driver
	lost    bool // no driver reaches it
	faults  []*Injection
	calls   map[string]int
	offline cpuset.Set // logical CPUs
	pci     []virt.HostPCI
	secrets map[string]virt.Secret // by UUID
}

// NewHypervisor returns a hypervisor without guests.
func NewHypervisor() *Hypervisor {
	return &Hypervisor{
		now:     time.Now,
		guests:  map[string]*guest{},
		names:   map[string]string{},
		hearing: map[string]int{},
		calls:   map[string]int{},
		secrets: map[string]virt.Secret{},
	}
}

// SetClock replaces time.Now as what guests' CPU time and I/O are computed from.
func (h *Hypervisor) SetClock(now func() time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = now
}

// Options describe the host that a driver reports. Zero values get defaults.
type Options struct {
	Hostname  string // default "fake"
	VirtType  string // "kvm" or "qemu"; default "qemu"
	CPUs      int    // default 16
	MemoryMiB uint64 // default 65,536; a guest larger than it is refused with ErrNoCapacity
	// Cells are the NUMA nodes, whose sums are then CPUs and MemoryMiB; see the function Cells. Default
	// one with all of both.
	Cells []virt.Cell
	// MachineVersion is the newest of the machine types, which pc and q35 stand for; default 7.2.
	MachineVersion string
}

func (o Options) withDefaults() Options {
	if o.Hostname == "" {
		o.Hostname = "fake"
	}
	if o.VirtType == "" {
		o.VirtType = "qemu"
	}
	if o.Cells != nil {
		o.CPUs, o.MemoryMiB = 0, 0
	}
	for _, c := range o.Cells {
		o.CPUs += len(c.CPUs)
		o.MemoryMiB += uint64(c.MemoryKiB / 1024)
	}
	if o.CPUs == 0 {
		o.CPUs = 16
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 65536
	}
	if o.Cells == nil {
		o.Cells = oneCell(o.CPUs, int(o.MemoryMiB))
	}
	return o
}

// lostEvents is how many events a reader may fall behind before it is told to list the guests.
const lostEvents = 4096

// Open connects a driver to the hypervisor. Several may be open at once.
func (h *Hypervisor) Open(o Options) *Driver {
	d := &Driver{
		hv:   h,
		host: o.withDefaults(),
		gone: make(chan struct{}),
		events: fanout.New(lostEvents, func() virt.Event {
			return virt.Event{Kind: virt.EventConnectionBack, Reason: "events were lost", Time: time.Now()}
		}),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drivers = append(h.drivers, d)
	return d
}

// New returns a driver on a hypervisor of its own; see Driver.Hypervisor.
func New(o Options) *Driver { return NewHypervisor().Open(o) }

// publish tells every driver of an event; h.mu is held, so that all see the same order.
func (h *Hypervisor) publish(kind virt.EventKind, id, reason string) {
	h.send(virt.Event{Kind: kind, ID: id, Reason: reason})
}

// publishDevice tells of a guest's device; h.mu is held.
func (h *Hypervisor) publishDevice(kind virt.EventKind, id, device string) {
	h.send(virt.Event{Kind: kind, ID: id, Device: device})
}

func (h *Hypervisor) send(e virt.Event) {
	if h.lost && e.ID != "" {
		return
	}
	e.Time = h.now()
	for _, d := range h.drivers {
		d.events.Publish(e)
	}
}

// drop forgets a driver that was closed or died.
func (h *Hypervisor) drop(d *Driver) {
	h.drivers = slices.DeleteFunc(h.drivers, func(other *Driver) bool { return other == d })
}

// find returns the guest with an ID; h.mu is held.
func (h *Hypervisor) find(id string) (*guest, error) {
	if g := h.guests[id]; g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("%w: no guest with this ID", virt.ErrNotFound)
}

func (h *Hypervisor) add(g *guest) {
	h.guests[g.spec.ID] = g
	h.names[g.spec.Name] = g.spec.ID
}

func (h *Hypervisor) remove(g *guest) {
	delete(h.guests, g.spec.ID)
	delete(h.names, g.spec.Name)
	g.announce()
}
