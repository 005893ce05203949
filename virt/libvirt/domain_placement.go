package libvirt

import (
	"cmp"

	"libvirt.org/go/libvirtxml"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// renderTuning limits the guest's use of CPUs and pins its threads to pCPUs.
func renderTuning(d *libvirtxml.Domain, s *virt.Spec) {
	tune := &libvirtxml.DomainCPUTune{}
	limited := limit(tune, s.CPUTime)
	pinned := s.Placement != nil && pin(tune, s.Placement, s.IOThreads)
	if limited || pinned {
		d.CPUTune = tune
	}
}

// limit says whether there is a limit.
func limit(tune *libvirtxml.DomainCPUTune, t virt.CPUTime) bool {
	if t.Shares > 0 {
		tune.Shares = &libvirtxml.DomainCPUTuneShares{Value: uint(t.Shares)}
	}
	if t.Period > 0 {
		tune.Period = &libvirtxml.DomainCPUTunePeriod{Value: uint64(t.Period)}
	}
	if t.Quota != 0 {
		tune.Quota = &libvirtxml.DomainCPUTuneQuota{Value: int64(t.Quota)}
	}
	return t != virt.CPUTime{}
}

// pin says whether any thread is bound.
func pin(tune *libvirtxml.DomainCPUTune, p *virt.Placement, iothreads int) bool {
	for vcpu, cpus := range p.VCPUs {
		if !cpus.Empty() {
			tune.VCPUPin = append(tune.VCPUPin, libvirtxml.DomainCPUTuneVCPUPin{VCPU: uint(vcpu), CPUSet: cpus.String()})
		}
	}
	if emulator := p.Emulator.String(); emulator != "" {
		tune.EmulatorPin = &libvirtxml.DomainCPUTuneEmulatorPin{CPUSet: emulator}
		for thread := range iothreads {
			tune.IOThreadPin = append(tune.IOThreadPin, libvirtxml.DomainCPUTuneIOThreadPin{IOThread: uint(thread + 1), CPUSet: emulator})
		}
	}
	if !p.Realtime.Empty() {
		priority := cmp.Or(p.RealtimePriority, 1) // which is Nova's
		tune.VCPUSched = []libvirtxml.DomainCPUTuneVCPUSched{{VCPUs: p.Realtime.String(), Scheduler: "fifo", Priority: &priority}}
	}
	return tune.VCPUPin != nil || tune.EmulatorPin != nil || tune.VCPUSched != nil
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
		cell := libvirtxml.DomainCell{ID: &id, CPUs: c.VCPUs.String(), Memory: uint(c.MemoryMiB * kibPerMiB)}
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
