package guest

import (
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/virt"
)

// placement is where the guest runs on the host: Placed is what its claim got when the server was created,
// nil for one that may run anywhere; Cells are the host's as they are configured now. A pinned vCPU runs on its
// pCPU, one that floats in a guest with cells on the shared CPUs of its host cell.
func (d *definition) placement() error {
	placed, host, c := d.r.Placed, d.r.Cells, d.r.NUMA
	if placed == nil {
		d.spec.Placement = floating(host, c)
		_, err := d.r.numa().Constraints()
		return err
	}
	p := &virt.Placement{VCPUs: make([]cpuset.Set, max(0, d.r.Flavor.VCPUs))}
	for i := range placed.Cells {
		cell := host.Cell(placed.Cells[i].ID)
		if cell == nil {
			return lostPlace("host cell %d is gone", placed.Cells[i].ID)
		}
		if err := spread(p.VCPUs, &placed.Cells[i], cell); err != nil {
			return err
		}
	}
	var err error
	if p.Realtime, _, err = d.r.numa().RealtimeVCPUs(); err != nil {
		return err
	}
	p.RealtimePriority = d.r.Options.RealtimePriority
	p.Emulator = emulator(placed, host, p, c)
	p.Cells = guestCells(placed, host)
	d.spec.Placement = p
	return nil
}

// floating is the place of a guest without cells: the shared CPUs where the operator has named some.
func floating(host numa.Host, c numa.Config) *virt.Placement {
	switch {
	case c.SharedSet != nil:
		return &virt.Placement{Floating: shared(host, c)}
	case c.PinSet != nil:
		return &virt.Placement{Floating: *c.PinSet}
	}
	return nil
}

// shared is cpu_shared_set as far as it is online.
func shared(host numa.Host, c numa.Config) cpuset.Set {
	if len(host.Cells) == 0 {
		return *c.SharedSet
	}
	var s cpuset.Set
	for i := range host.Cells {
		s = s.Union(host.Cells[i].Shared)
	}
	return s
}

// spread writes the CPUs of a guest cell's vCPUs into vcpus.
func spread(vcpus []cpuset.Set, guest *numa.GuestCell, cell *numa.HostCell) error {
	for _, pin := range guest.Pins {
		if pin.VCPU < len(vcpus) {
			vcpus[pin.VCPU] = cpuset.Of(pin.PCPU)
		}
	}
	for vcpu := range guest.Shared.All {
		if cell.Shared.Empty() {
			return lostPlace("host cell %d has no CPUs for vCPUs that float any more", cell.ID)
		}
		if vcpu < len(vcpus) {
			vcpus[vcpu] = cell.Shared
		}
	}
	return nil
}

// emulator is the CPUs of the hypervisor's own threads: by default wherever the guest's vCPUs run that are not
// in real time.
func emulator(placed *numa.Guest, host numa.Host, p *virt.Placement, c numa.Config) cpuset.Set {
	var cpus cpuset.Set
	switch {
	case placed.EmulatorThreads == numa.EmulatorIsolate:
		for i := range placed.Cells {
			cpus = cpus.Union(placed.Cells[i].Reserved)
		}
	case placed.EmulatorThreads == numa.EmulatorShare && c.SharedSet != nil:
		return shared(host, c)
	default:
		for vcpu, on := range p.VCPUs {
			if !p.Realtime.Has(vcpu) {
				cpus = cpus.Union(on)
			}
		}
	}
	return cpus
}

// guestCells are the cells that the guest sees, as far from each other as the host cells that they lie in.
func guestCells(placed *numa.Guest, host numa.Host) []virt.GuestCell {
	cells := make([]virt.GuestCell, len(placed.Cells))
	for i := range placed.Cells {
		g := &placed.Cells[i]
		cells[i] = virt.GuestCell{VCPUs: g.VCPUs(), MemoryMiB: uint64(g.MemoryMiB), HostCell: g.ID}
		if numa.Huge(g.PageKiB) {
			cells[i].PageKiB = g.PageKiB
		}
		if len(placed.Cells) > 1 {
			cells[i].Distances = distances(placed, host, g.ID)
		}
	}
	return cells
}

// distances are those from one host cell to all that the guest lies in; nil where the host does not say.
func distances(placed *numa.Guest, host numa.Host, from int) []int {
	cell := host.Cell(from)
	if len(cell.Distances) != len(host.Cells) {
		return nil
	}
	list := make([]int, len(placed.Cells))
	for i := range placed.Cells {
		for j := range host.Cells {
			if host.Cells[j].ID == placed.Cells[i].ID {
				list[i] = cell.Distances[j]
			}
		}
	}
	return list
}
