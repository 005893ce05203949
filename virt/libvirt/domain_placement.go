package libvirt

import (
	"cmp"

	"libvirt.org/go/libvirtxml"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// renderTuning pins vCPUs and the emulator's threads to pCPUs.
func renderTuning(d *libvirtxml.Domain, s *virt.Spec) {
	p := s.Placement
	if p == nil {
		return
	}
	tune := &libvirtxml.DomainCPUTune{}
	for vcpu, cpus := range p.VCPUs {
		if !cpus.Empty() {
			tune.VCPUPin = append(tune.VCPUPin, libvirtxml.DomainCPUTuneVCPUPin{VCPU: uint(vcpu), CPUSet: cpus.String()})
		}
	}
	if !p.Emulator.Empty() {
		tune.EmulatorPin = &libvirtxml.DomainCPUTuneEmulatorPin{CPUSet: p.Emulator.String()}
	}
	if !p.Realtime.Empty() {
		priority := cmp.Or(p.RealtimePriority, 1) // which is Nova's
		tune.VCPUSched = []libvirtxml.DomainCPUTuneVCPUSched{{VCPUs: p.Realtime.String(), Scheduler: "fifo", Priority: &priority}}
	}
	if len(tune.VCPUPin) > 0 || tune.EmulatorPin != nil || tune.VCPUSched != nil {
		d.CPUTune = tune
	}
}

// renderGuestCells gives the guest its NUMA cells and binds the memory of each to one host cell.
func renderGuestCells(d *libvirtxml.Domain, s *virt.Spec) {
	if s.Placement == nil || len(s.Placement.Cells) == 0 {
		return
	}
	numa := &libvirtxml.DomainNuma{}
	tune := &libvirtxml.DomainNUMATune{}
	var nodes cpuset.Set
	for i, c := range s.Placement.Cells {
		id := uint(i)
		cell := libvirtxml.DomainCell{ID: &id, CPUs: c.VCPUs.String(), Memory: uint(c.MemoryMiB), Unit: "MiB"}
		if c.PageKiB > 0 {
			cell.MemAccess = "shared" // for vhost-user and virtiofs, as Nova has it
		}
		cell.Distances = distances(c.Distances)
		numa.Cell = append(numa.Cell, cell)
		nodes.Add(c.HostCell)
		tune.MemNodes = append(tune.MemNodes, libvirtxml.DomainNUMATuneMemNode{
			CellID: id, Mode: "strict", Nodeset: cpuset.Of(c.HostCell).String(),
		})
	}
	tune.Memory = &libvirtxml.DomainNUMATuneMemory{Mode: "strict", Nodeset: nodes.String()}
	d.CPU.Numa = numa
	d.NUMATune = tune
}

func distances(to []int) *libvirtxml.DomainCellDistances {
	if len(to) == 0 {
		return nil
	}
	list := &libvirtxml.DomainCellDistances{}
	for id, d := range to {
		list.Siblings = append(list.Siblings, libvirtxml.DomainCellSibling{ID: uint(id), Value: uint(d)})
	}
	return list
}

// renderMemoryBacking asks for huge pages, cell by cell, and for memory that stays where it is.
func renderMemoryBacking(d *libvirtxml.Domain, s *virt.Spec) {
	var cells []virt.GuestCell
	if s.Placement != nil {
		cells = s.Placement.Cells
	}
	backing := &libvirtxml.DomainMemoryBacking{}
	var pages []libvirtxml.DomainMemoryHugepage
	for i, c := range cells {
		if c.PageKiB > 0 {
			pages = append(pages, libvirtxml.DomainMemoryHugepage{
				Size: uint(c.PageKiB), Unit: "KiB", Nodeset: cpuset.Of(i).String(),
			})
		}
	}
	if pages != nil {
		backing.MemoryHugePages = &libvirtxml.DomainMemoryHugepages{Hugepages: pages}
	}
	if s.Memory.Locked {
		backing.MemoryLocked = &libvirtxml.DomainMemoryLocked{}
	}
	if s.Memory.Unshared {
		backing.MemoryNosharepages = &libvirtxml.DomainMemoryNosharepages{}
	}
	if pages != nil || s.Memory.Locked || s.Memory.Unshared {
		d.MemoryBacking = backing
	}
}
