package compute

import (
	"fmt"
	"slices"
	"sync"

	"compute-agent/hwprops"
	"compute-agent/numa"
	"compute-agent/pci"
	"compute-agent/virt"
)

// PCIConfig says which of the host's PCI devices servers may get, and by which names flavors ask for them.
type PCIConfig struct {
	Specs   []pci.Spec  // [pci]device_spec
	Aliases pci.Aliases // [pci]alias
}

// allowed are those of the host's devices that servers may get.
func (c PCIConfig) allowed(list []virt.HostPCI) ([]pci.Allowed, error) {
	devices, err := DevicesOf(list)
	if err != nil {
		return nil, err
	}
	return pci.Allow(c.Specs, devices)
}

// DevicesOf is the host's PCI devices as its hypervisor describes them, in the terms of package pci. It fails when
// the description cannot be true. Devices that are pci.Beyond are left out.
func DevicesOf(list []virt.HostPCI) ([]pci.Device, error) {
	devices := make([]pci.Device, 0, len(list))
	for _, d := range list {
		if pci.Beyond(d.Address) {
			continue
		}
		device, err := deviceOf(d)
		if err != nil {
			return nil, fmt.Errorf("PCI device %s: %w", d.Address, err)
		}
		devices = append(devices, device)
	}
	return devices, pci.Check(devices)
}

func deviceOf(d virt.HostPCI) (device pci.Device, err error) {
	device = pci.Device{VendorID: d.VendorID, ProductID: d.ProductID, Class: d.Class, Type: pci.TypePCI, Driver: d.Driver, Netdev: d.Netdev}
	if device.Address, err = pci.ParseAddress(d.Address); err != nil {
		return device, err
	}
	if d.Node >= 0 {
		device.Node = &d.Node
	}
	switch {
	case d.Parent != "":
		parent, err := pci.ParseAddress(d.Parent)
		if err != nil {
			return device, fmt.Errorf("physical function: %w", err)
		}
		device.Parent, device.Type = &parent, pci.TypeVF
		if d.VDPA {
			device.Type = pci.TypeVDPA
		}
	case d.MaxVFs > 0:
		device.Type = pci.TypePF
	}
	return device, nil
}

// ClaimedDevice is a PCI device of a claim, as it was when it was claimed.
type ClaimedDevice struct {
	pci.Device
	Alias   string // by which the flavor asked for it
	Managed bool   // libvirt takes it from its host driver and gives it back
}

// deviceRequests are the PCI devices that a server asks for by its flavor; nil for none.
func (c Capacity) deviceRequests(r numa.Request) ([]pci.Request, error) {
	text, asks := r.ExtraSpecs["pci_passthrough:alias"]
	if !asks {
		return nil, nil
	}
	affinity, err := hwprops.Source{ExtraSpecs: r.ExtraSpecs, Properties: r.Properties}.PCIAffinity()
	if err != nil {
		return nil, err
	}
	return c.PCI.Aliases.Requests(text, affinity)
}

// stock is the host's devices at one moment with who has them. It is never changed but replaced.
type stock struct {
	*pci.Inventory
	pools func() []pci.Pool // of what is free; counted when first asked for
}

func newStock(v *pci.Inventory) stock { return stock{v, sync.OnceValue(v.Pools)} }

// with is the stock with devices in the hands of a server.
func (s stock) with(serverID string, devices []ClaimedDevice, state pci.State) (stock, error) {
	if len(devices) == 0 {
		return s, nil
	}
	next := s.Clone()
	list := make([]pci.Allowed, len(devices))
	for i, d := range devices {
		list[i] = pci.Allowed{Device: d.Device}
	}
	if err := next.Restore(serverID, list, state); err != nil {
		return s, err
	}
	return newStock(next), nil
}

// without is the stock with devices of a server given back.
func (s stock) without(serverID string, devices []ClaimedDevice) stock {
	if len(devices) == 0 {
		return s
	}
	next := s.Clone()
	next.Release(serverID, addressesOf(devices))
	return newStock(next)
}

func addressesOf(devices []ClaimedDevice) []pci.Address {
	list := make([]pci.Address, len(devices))
	for i, d := range devices {
		list[i] = d.Address
	}
	return list
}

// choose picks the devices of the requests for a guest in cells, nil for one without.
func (s stock) choose(serverID string, requests []pci.Request, host, cells []pci.Cell) ([]ClaimedDevice, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	taken, err := s.Clone().Claim(serverID, requests, host, cells)
	if err != nil {
		return nil, &Failure{Kind: ErrNoCapacity, Field: "PCI", Reason: err.Error()}
	}
	var list []ClaimedDevice
	for i, addresses := range taken {
		for _, a := range addresses {
			e := s.Entry(a)
			list = append(list, ClaimedDevice{Device: e.Device, Alias: requests[i].Alias, Managed: e.Spec.Managed})
		}
	}
	return list, nil
}

// PCIDemand is what a guest asks of a host's PCI devices, as package numa sees it.
type PCIDemand struct {
	Pools    []pci.Pool
	Requests []pci.Request
	Host     []pci.Cell // all cells of the host
}

var _ numa.Devices = (*PCIDemand)(nil)

// NewPCIDemand is the demand of a guest on a host. It is nil where there is nothing to think of: no devices, and
// none asked for.
func NewPCIDemand(pools []pci.Pool, requests []pci.Request, host numa.Host) *PCIDemand {
	if len(pools) == 0 && len(requests) == 0 {
		return nil
	}
	return &PCIDemand{pools, requests, pciCells(host)}
}

func pciCells(host numa.Host) []pci.Cell {
	cells := make([]pci.Cell, len(host.Cells))
	for i := range host.Cells {
		cells[i] = pciCell(&host.Cells[i])
	}
	return cells
}

func pciCell(c *numa.HostCell) pci.Cell { return pci.Cell{ID: c.ID, Socket: c.Socket} }

// Wanted implements numa.Devices.
func (d *PCIDemand) Wanted() bool { return len(d.Requests) > 0 }

// InCell implements numa.Devices.
func (d *PCIDemand) InCell(id int) int {
	n := 0
	for _, p := range d.Pools {
		if p.Node != nil && *p.Node == id {
			n += p.Count
		}
	}
	return n
}

// Satisfied implements numa.Devices.
func (d *PCIDemand) Satisfied(cells []*numa.HostCell) bool { return d.shortIn(cells) == nil }

// Short implements numa.Devices.
func (d *PCIDemand) Short(cells []*numa.HostCell) string {
	if short := d.shortIn(cells); short != nil {
		return short.Error()
	}
	return ""
}

// Farther is the same demand with policy preferred; see numa.Devices.
func (d *PCIDemand) Farther() (numa.Devices, numa.Change) {
	far := *d
	far.Requests = slices.Clone(d.Requests)
	for i := range far.Requests {
		far.Requests[i].Affinity = pci.AffinityPreferred
	}
	return &far, numa.Change{Setting: "hw:pci_numa_affinity_policy", Value: pci.AffinityPreferred}
}

func (d *PCIDemand) shortIn(cells []*numa.HostCell) *pci.Shortage {
	chosen := make([]pci.Cell, len(cells))
	for i, c := range cells {
		chosen[i] = pciCell(c)
	}
	return pci.Short(d.Pools, d.Requests, d.Host, chosen)
}

// CellsOf are the host's cells that a guest was placed in.
func (d *PCIDemand) CellsOf(placed numa.Guest) []pci.Cell {
	var cells []pci.Cell
	for i := range placed.Cells {
		for _, c := range d.Host {
			if c.ID == placed.Cells[i].ID {
				cells = append(cells, c)
			}
		}
	}
	return cells
}

// guestDevices are a claim's devices in the terms of the driver.
func guestDevices(devices []ClaimedDevice) (list []virt.PCIDevice) {
	for _, d := range devices {
		list = append(list, virt.PCIDevice{Address: d.Address.String(), Managed: d.Managed})
	}
	return list
}
