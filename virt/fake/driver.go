package fake

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"compute-agent/internal/fanout"
	"compute-agent/virt"
)

// Driver is one connection to a Hypervisor. Beyond virt.Driver it is a virt.Pauser, a
// virt.ConsoleLogger, a virt.ConsoleFinder, a virt.Screenshotter, a virt.PCILister, a virt.NICPlugger, and all that package virt asks of disks.
type Driver struct {
	hv     *Hypervisor
	host   Options
	events *fanout.Hub[virt.Event]
	once   sync.Once
	gone   chan struct{} // closed when the driver is closed or dead
	held   chan struct{} // closed when copies of disks may end; nil when they may; Hypervisor.mu guards it
}

var (
	_ virt.Driver         = (*Driver)(nil)
	_ virt.Pauser         = (*Driver)(nil)
	_ virt.ConsoleLogger  = (*Driver)(nil)
	_ virt.ConsoleFinder  = (*Driver)(nil)
	_ virt.Screenshotter  = (*Driver)(nil)
	_ virt.MachineTeller  = (*Driver)(nil)
	_ virt.PCILister      = (*Driver)(nil)
	_ virt.NICPlugger     = (*Driver)(nil)
	_ virt.MetadataSetter = (*Driver)(nil)
	_ virt.DiskPlugger    = (*Driver)(nil)
	_ virt.DiskResizer    = (*Driver)(nil)
	_ virt.DiskCopier     = (*Driver)(nil)
	_ virt.DiskMeter      = (*Driver)(nil)
	_ virt.SecretKeeper   = (*Driver)(nil)
)

// Hypervisor returns what the driver is connected to.
func (d *Driver) Hypervisor() *Hypervisor { return d.hv }

// Kill ends the driver as if the process that holds it were killed; see Die.
func (d *Driver) Kill() {
	d.once.Do(func() {
		close(d.gone)
		d.hv.mu.Lock()
		d.hv.drop(d)
		d.hv.mu.Unlock()
		d.events.Close()
	})
}

// Close implements virt.Driver.
func (d *Driver) Close() error {
	d.Kill()
	return nil
}

// call runs one method: op and id name it in errors, and effect is what it does when no fault
// strikes first.
func (d *Driver) call(ctx context.Context, method, op, id string, effect func() error) error {
	d.hv.mu.Lock()
	d.hv.calls[method]++
	d.hv.calls[""]++
	d.hv.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return wrap(op, id, err)
	}
	if err := d.strike(ctx, method, id, Before); err != nil {
		return wrap(op, id, err)
	}
	if err := effect(); err != nil {
		return wrap(op, id, err)
	}
	return wrap(op, id, d.strike(ctx, method, id, After))
}

// usable says why a call cannot begin.
func (d *Driver) usable(ctx context.Context) error {
	select {
	case <-d.gone:
		return errClosed
	default:
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return nil
}

// locked returns an effect that runs at the hypervisor, alone. It does not run once the driver is
// gone or the connection is lost.
func (d *Driver) locked(ctx context.Context, effect func() error) func() error {
	return func() error {
		d.hv.mu.Lock()
		defer d.hv.mu.Unlock()
		if err := d.usable(ctx); err != nil {
			return err
		}
		if d.hv.lost {
			return errLost
		}
		return effect()
	}
}

// onGuest runs a method that is about one guest.
func (d *Driver) onGuest(ctx context.Context, method, op, id string, effect func(*guest) error) error {
	return d.call(ctx, method, op, id, d.locked(ctx, func() error {
		g, err := d.hv.find(id)
		if err != nil {
			return err
		}
		return effect(g)
	}))
}

// Host implements virt.Driver.
func (d *Driver) Host(ctx context.Context) (virt.Host, error) {
	var host virt.Host
	err := d.call(ctx, "Host", "describe host", "", d.locked(ctx, func() error {
		host = d.describe()
		return nil
	}))
	return host, err
}

func (d *Driver) describe() virt.Host {
	const reserve = 512 // MiB that the host itself takes
	used := uint64(reserve)
	for _, g := range d.hv.guests {
		used += g.report(d.hv.now()).ResidentKiB / 1024
	}
	free := uint64(0)
	if used < d.host.MemoryMiB {
		free = d.host.MemoryMiB - used
	}
	return virt.Host{
		Hostname: d.host.Hostname, Hypervisor: "QEMU", HypervisorVersion: 7002022, LibraryVersion: 9000000,
		VirtType: d.host.VirtType, Arch: "x86_64", Emulator: emulator,
		CPU: virt.HostCPU{
			Model: "Skylake-Server-IBRS", Vendor: "Intel", Sockets: 1, Cores: d.host.CPUs, Threads: 1,
			Features: []string{"aes", "avx2", "vmx"},
		},
		CPUs: d.host.CPUs - d.hv.offline.Len(), MemoryMiB: d.host.MemoryMiB, FreeMemoryMiB: free, Cells: onlineOf(d.host.Cells, d.hv.offline),
		Supported: d.host.kinds(), Machines: d.host.machineTypes(), Capabilities: d.host.capabilities(),
	}
}

// Create implements virt.Driver.
func (d *Driver) Create(ctx context.Context, spec virt.Spec) error {
	return d.call(ctx, "Create", "create guest", spec.ID, func() error {
		if err := spec.ValidateForCreate(); err != nil {
			return err
		}
		sizes, err := inspectFiles(spec)
		if err != nil {
			return err
		}
		return d.locked(ctx, func() error { return d.create(spec, sizes) })()
	})
}

// Remake implements virt.Driver.
func (d *Driver) Remake(ctx context.Context, spec virt.Spec) error {
	return d.call(ctx, "Remake", "make guest again", spec.ID, func() error {
		if err := spec.ValidateForCreate(); err != nil {
			return err
		}
		sizes, err := inspectFiles(spec)
		if err != nil {
			return err
		}
		return d.locked(ctx, func() error { return d.remake(spec, sizes) })()
	})
}

func (d *Driver) remake(spec virt.Spec, sizes map[string]diskSize) error {
	if id, taken := d.hv.names[spec.Name]; taken && id != spec.ID {
		return fmt.Errorf("%w: a guest named %s, with ID %s", virt.ErrExists, spec.Name, id)
	}
	old := d.hv.guests[spec.ID]
	if old == nil {
		return d.create(spec, sizes)
	}
	old.transient = false
	if old.state != virt.PowerShutdown {
		d.hv.end(old, virt.EventStopped, "destroyed")
	}
	d.hv.remove(old)
	err := d.create(spec, sizes)
	if err != nil {
		d.hv.add(old)
	}
	return err
}

func (d *Driver) create(spec virt.Spec, sizes map[string]diskSize) error {
	if err := d.hv.admit(spec); err != nil {
		return err
	}
	if err := d.host.support(spec); err != nil {
		return err
	}
	if err := errors.Join(d.hv.checkPins(spec), d.hv.checkPCI(spec)); err != nil {
		return err
	}
	if err := d.hv.openDisks(spec); err != nil {
		return err
	}
	machine := virt.Host{Machines: d.host.machineTypes()}.CanonicalMachine(spec.Arch, spec.Machine)
	g := &guest{spec: spec.Clone(), machine: machine, sizes: sizes, copies: map[string]*diskCopy{}, later: map[string]diskSize{}, changed: make(chan struct{})}
	if err := g.print(""); err != nil {
		return err
	}
	d.hv.add(g)
	g.enter(virt.PowerPaused, "starting up", d.hv.now())
	d.hv.publish(virt.EventStarted, spec.ID, "booted")
	d.hv.publish(virt.EventPaused, spec.ID, "paused")
	return nil
}

// Start implements virt.Driver.
func (d *Driver) Start(ctx context.Context, id string) error {
	return d.onGuest(ctx, "Start", "start guest", id, func(g *guest) error {
		switch g.state {
		case virt.PowerRunning:
			return nil
		case virt.PowerPaused:
			return d.resume(g)
		case virt.PowerSuspended:
			return errSuspended
		}
		if err := errors.Join(d.hv.openDisks(g.spec), d.hv.checkPCI(g.spec)); err != nil {
			return err
		}
		if err := g.greet(); err != nil {
			return err
		}
		g.enter(virt.PowerRunning, "booted", d.hv.now())
		d.hv.publish(virt.EventStarted, id, "booted")
		return nil
	})
}

var errSuspended = fmt.Errorf("%w: the guest's operating system is asleep", virt.ErrInvalidState)

// resume runs the vCPUs of a guest whose process is there; h.mu is held.
func (d *Driver) resume(g *guest) error {
	if !g.booted {
		if err := g.greet(); err != nil {
			return err
		}
	}
	g.enter(virt.PowerRunning, "unpaused", d.hv.now())
	d.hv.publish(virt.EventResumed, g.spec.ID, "unpaused")
	return nil
}

// Destroy implements virt.Driver.
func (d *Driver) Destroy(ctx context.Context, id string) error {
	return d.call(ctx, "Destroy", "destroy guest", id, d.locked(ctx, func() error {
		if g := d.hv.guests[id]; g != nil {
			d.hv.destroy(g)
		}
		return nil
	}))
}

// Guest implements virt.Driver.
func (d *Driver) Guest(ctx context.Context, id string) (virt.Guest, error) {
	var found virt.Guest
	err := d.onGuest(ctx, "Guest", "look up guest", id, func(g *guest) error {
		found = g.report(d.hv.now())
		return nil
	})
	return found, err
}

// Guests implements virt.Driver.
func (d *Driver) Guests(ctx context.Context) ([]virt.Guest, error) {
	var all []virt.Guest
	err := d.call(ctx, "Guests", "list guests", "", d.locked(ctx, func() error {
		now := d.hv.now()
		all = make([]virt.Guest, 0, len(d.hv.guests))
		for _, g := range d.hv.guests {
			all = append(all, g.report(now))
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Events implements virt.Driver.
func (d *Driver) Events(ctx context.Context) <-chan virt.Event { return d.events.Subscribe(ctx) }

// Pause implements virt.Pauser.
func (d *Driver) Pause(ctx context.Context, id string) error {
	return d.onGuest(ctx, "Pause", "pause guest", id, func(g *guest) error {
		switch g.state {
		case virt.PowerPaused:
			return nil
		case virt.PowerRunning:
			d.hv.pause(g, "paused")
			return nil
		default:
			return fmt.Errorf("%w: it is %v", virt.ErrInvalidState, g.state)
		}
	})
}

// Unpause implements virt.Pauser.
func (d *Driver) Unpause(ctx context.Context, id string) error {
	return d.onGuest(ctx, "Unpause", "unpause guest", id, func(g *guest) error {
		switch g.state {
		case virt.PowerRunning:
			return nil
		case virt.PowerPaused:
			return d.resume(g)
		default:
			return fmt.Errorf("%w: it is %v", virt.ErrInvalidState, g.state)
		}
	})
}
