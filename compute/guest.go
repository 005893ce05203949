package compute

import (
	"context"
	"errors"
	"fmt"

	"compute-agent/pci"
	"compute-agent/virt"
)

// hostInfo returns what the driver said of the host, asking it if it has not said anything yet.
func (m *Manager) hostInfo() (virt.Host, Storage, error) {
	m.mu.Lock()
	host, storage := m.host, m.storage
	m.mu.Unlock()
	if host.Arch != "" {
		return host, storage, nil
	}
	return m.learnHost()
}

// machine is what Specs depend on beside their servers.
func (m *Manager) machine() (machine, error) {
	host, storage, err := m.hostInfo()
	return machine{host: host, storage: storage, guests: m.opt.Guests, version: m.opt.Version, numa: m.opt.Capacity.NUMA}, err
}

// learnHost asks driver and file system how large the host is, and tells the ledger.
func (m *Manager) learnHost() (virt.Host, Storage, error) {
	ctx, cancel := m.call()
	defer cancel()
	storage, err := m.disks.Storage(ctx)
	if err != nil {
		return virt.Host{}, Storage{}, fmt.Errorf("look at the disks' file system: %w", err)
	}
	host, err := m.driver.Host(ctx)
	m.setLost(err != nil)
	if err != nil {
		return virt.Host{}, Storage{}, err
	}
	if err := m.sizeLedger(host, storage); err != nil {
		return virt.Host{}, Storage{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.host, m.storage = host, storage
	return host, storage, nil
}

// sizeLedger tells the ledger what the host has. The first time, a configuration that is not one for this host is
// an error; later a part of the host may have gone, and the rest goes on.
func (m *Manager) sizeLedger(host virt.Host, storage Storage) error {
	c := m.ledger.capacity
	size, err := c.measure(host, storage)
	if err != nil {
		if m.ledger.sized() {
			m.log.Warn("the hypervisor describes the host in a way that cannot be true; what it said before counts", "error", err)
			return nil
		}
		m.log.Warn("the hypervisor describes the host in a way that cannot be true; no server gets NUMA cells", "error", err)
	}
	if !m.ledger.sized() {
		if err := c.checkHost(host, size, m.ledger.pinned()); err != nil {
			return err
		}
	} else if !size.online.Equal(m.ledger.balance().host.online) {
		m.auditSoon() // CPUs came or went: it tells whom that concerns
	}
	m.ledger.size(size)
	return nil
}

// learnDevices asks the driver which PCI devices the host has, where servers may get any, and tells the ledger.
func (m *Manager) learnDevices() error {
	specs := m.ledger.capacity.PCI.Specs
	if len(specs) == 0 {
		m.ledger.show(nil)
		return nil
	}
	lister, can := m.driver.(virt.PCILister)
	if !can {
		return errNoPCI
	}
	ctx, cancel := m.call()
	defer cancel()
	list, err := lister.PCIDevices(ctx)
	if errors.Is(err, virt.ErrUnsupported) {
		return errNoPCI
	}
	if err != nil {
		return err
	}
	found, err := m.ledger.capacity.PCI.allowed(list)
	if err == nil {
		m.ledger.show(found)
	}
	return err
}

// errNoPCI is a configuration that is not for this hypervisor.
var errNoPCI = &pci.Error{Class: "PciConfigInvalidSpec", Key: "pci_device_spec", Rule: "this hypervisor does not tell of the host's PCI devices"}

// listOwners asks the driver which devices the guests have; nil where servers may get none.
func (m *Manager) listOwners() (map[string][]string, error) {
	lister, can := m.driver.(virt.PCILister)
	if !can || len(m.ledger.capacity.PCI.Specs) == 0 {
		return nil, nil
	}
	ctx, cancel := m.call()
	defer cancel()
	return lister.PCIOwners(ctx)
}

// createGuest makes a server's guest, its vCPUs stopped, once the store knows what of. One that is there already is
// ended and made again of that; its firmware's variables and its TPM's state stay.
func (w *work) createGuest(ctx context.Context) error {
	if err := w.readyVolumes(ctx); err != nil {
		return err
	}
	spec, claim, err := w.m.define(w.server)
	if err != nil {
		return err
	}
	return w.createAs(ctx, spec, claim)
}

// createAs makes a server's guest of a Spec whose volumes are on the host.
func (w *work) createAs(ctx context.Context, spec virt.Spec, claim Claim) error {
	if err := w.keepWhole(ctx, &spec); err != nil {
		return err
	}
	if err := w.wire(ctx); err != nil {
		return err
	}
	err := w.m.driverCall(func(ctx context.Context) error { return w.m.createFrom(ctx, spec) })
	if err == nil {
		w.m.ledger.allocate(spec.ID)
	}
	return w.m.orLost(err, claim)
}

// keepWhole stores what a guest is about to be made of, its serial ports chosen.
func (w *work) keepWhole(ctx context.Context, spec *virt.Spec) error {
	if err := w.m.leaveSerialPorts(spec); err != nil {
		return err
	}
	if lacksSerialPort(*spec) {
		w.m.choosing.Lock() // until what is chosen is stored
		defer w.m.choosing.Unlock()
		if err := w.m.chooseSerialPorts(ctx, spec); err != nil {
			return err
		}
	}
	return w.keepDefinition(ctx, *spec)
}

func (m *Manager) createFrom(ctx context.Context, spec virt.Spec) error {
	err := m.driver.Create(ctx, spec)
	if !errors.Is(err, virt.ErrExists) {
		return err
	}
	if _, lookErr := m.driver.Guest(ctx, spec.ID); lookErr != nil {
		return errors.Join(err, ignoreNotFound(lookErr)) // another guest has its name
	}
	return m.driver.Remake(ctx, spec)
}

// orLost says in place of err that the pCPUs that a guest is pinned to are offline, or that a device of its has
// gone, if that is so.
func (m *Manager) orLost(err error, claim Claim) error {
	if err == nil || claim.NUMA == nil && claim.PCI == nil || transient(err) {
		return err
	}
	if _, _, hostErr := m.learnHost(); hostErr != nil || m.learnDevices() != nil {
		return err
	}
	b := m.ledger.balance()
	if claim.NUMA != nil {
		if off := pinnedTo(*claim.NUMA).Minus(b.host.online); !off.Empty() {
			return lostPlace(err, "pCPU %v is offline", off)
		}
	}
	for _, d := range claim.PCI {
		if b.stock.Entry(d.Address).Gone {
			return lostPlace(err, "PCI device %v, which it has, has gone", d.Address)
		}
	}
	return err
}

// startGuest runs a server's guest as it is, and makes it first if it is not there.
func (w *work) startGuest(ctx context.Context) error {
	if err := w.wire(ctx); err != nil {
		return err
	}
	if err := w.readyVolumes(ctx); err != nil {
		return err
	}
	if err := w.repoint(ctx); err != nil {
		return err
	}
	start := func(ctx context.Context) error { return w.m.driver.Start(ctx, w.op.ServerID) }
	err := w.m.driverCall(start)
	if !errors.Is(err, virt.ErrNotFound) {
		return err
	}
	if err := w.createGuest(ctx); err != nil {
		return err
	}
	return w.m.driverCall(start)
}

func (m *Manager) destroyGuest(id string) error {
	return m.driverCall(func(ctx context.Context) error { return m.driver.Destroy(ctx, id) })
}

func (m *Manager) driverCall(fn func(context.Context) error) error {
	ctx, cancel := m.call()
	defer cancel()
	return fn(ctx)
}

// stopGuest asks a guest to shut down and forces it after the grace; one that is not there is stopped.
// It ends early when ctx does, with the guest as it then is.
func (m *Manager) stopGuest(ctx context.Context, id string, grace bool) error {
	opt := virt.StopOptions{}
	if grace {
		opt = virt.StopOptions{Grace: m.opt.ShutdownTimeout, Retry: m.opt.ShutdownRetry}
	}
	ctx, cancel := context.WithTimeout(ctx, opt.Grace+m.opt.CallTimeout)
	defer cancel()
	return ignoreNotFound(m.driver.Stop(ctx, id, opt))
}

func ignoreNotFound(err error) error {
	if errors.Is(err, virt.ErrNotFound) {
		return nil
	}
	return err
}
