package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"compute-agent/virt"
)

// SetPCI replaces the host's PCI devices, as plugging and unplugging does. Guests keep what they have.
func (h *Hypervisor) SetPCI(devices ...virt.HostPCI) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pci = slices.Clone(devices)
	slices.SortFunc(h.pci, func(a, b virt.HostPCI) int { return strings.Compare(a.Address, b.Address) })
	if !h.lost {
		h.publish(virt.EventHostDevices, "", "changed")
	}
}

// PCIDevices implements virt.PCILister.
func (d *Driver) PCIDevices(ctx context.Context) ([]virt.HostPCI, error) {
	var list []virt.HostPCI
	err := d.call(ctx, "PCIDevices", "list PCI devices", "", d.locked(ctx, func() error {
		list = slices.Clone(d.hv.pci)
		return nil
	}))
	return list, err
}

// PCIOwners implements virt.PCILister.
func (d *Driver) PCIOwners(ctx context.Context) (map[string][]string, error) {
	owners := map[string][]string{}
	err := d.call(ctx, "PCIOwners", "list guests with PCI devices", "", d.locked(ctx, func() error {
		for id, g := range d.hv.guests {
			if devices := g.spec.PCIAddresses(); len(devices) > 0 {
				slices.Sort(devices)
				owners[id] = devices
			}
		}
		return nil
	}))
	return owners, err
}

// checkPCI refuses devices that are not there or that a living guest has; h.mu is held.
func (h *Hypervisor) checkPCI(s virt.Spec) error {
	for _, address := range s.PCIAddresses() {
		if !slices.ContainsFunc(h.pci, func(d virt.HostPCI) bool { return d.Address == address }) {
			return fmt.Errorf("%w: PCI device %s is not there", virt.ErrNoCapacity, address)
		}
		for _, other := range h.guests {
			if other.spec.ID != s.ID && other.alive() && slices.Contains(other.spec.PCIAddresses(), address) {
				return fmt.Errorf("%w: PCI device %s is in use by guest %s", virt.ErrNoCapacity, address, other.spec.ID)
			}
		}
	}
	return nil
}
