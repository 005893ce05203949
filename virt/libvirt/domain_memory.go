package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

const kibPerMiB = 1024

// renderMemory leaves room for persistent memory beside the ordinary: each piece of it takes a slot, and
// the slots and the maximum have to be stated.
func renderMemory(d *libvirtxml.Domain, s *virt.Spec) {
	memory := uint(s.MemoryMiB * kibPerMiB)
	d.Memory = &libvirtxml.DomainMemory{Value: memory}
	if len(s.NVDIMMs) == 0 {
		return
	}
	d.MaximumMemory = &libvirtxml.DomainMaxMemory{Value: memory, Slots: uint(len(s.NVDIMMs))}
	for _, n := range s.NVDIMMs {
		d.MaximumMemory.Value += uint(n.SizeKiB)
	}
}

// labelKiB is the part of a persistent memory that holds its labels, as in Nova.
const labelKiB = 2048

// renderNVDIMMs gives the guest persistent memory on its first cell. Writes of the guest reach the host's
// device, so it is shared.
func renderNVDIMMs(d *libvirtxml.Domain, s *virt.Spec) {
	for _, n := range s.NVDIMMs {
		d.Devices.Memorydevs = append(d.Devices.Memorydevs, libvirtxml.DomainMemorydev{
			Model: "nvdimm", Access: "shared",
			Source: &libvirtxml.DomainMemorydevSource{
				Path:      n.Path,
				AlignSize: &libvirtxml.DomainMemorydevSourceAlignsize{Value: n.AlignKiB},
				PMem:      &libvirtxml.DomainMemorydevSourcePMem{},
			},
			Target: &libvirtxml.DomainMemorydevTarget{
				Size:  &libvirtxml.DomainMemorydevTargetSize{Value: uint(n.SizeKiB)},
				Node:  &libvirtxml.DomainMemorydevTargetNode{},
				Label: &libvirtxml.DomainMemorydevTargetLabel{Size: &libvirtxml.DomainMemorydevTargetSize{Value: labelKiB}},
			},
		})
	}
}

// renderMemoryBacking says what the memory is made of. Files are filled when the guest starts, so that
// their directory cannot run full under it.
func renderMemoryBacking(d *libvirtxml.Domain, s *virt.Spec) {
	m, pages := s.Memory, hugepages(s.Placement)
	if (m == virt.Memory{}) && pages == nil {
		return
	}
	b := &libvirtxml.DomainMemoryBacking{MemoryHugePages: pages}
	d.MemoryBacking = b
	if m.Unshared {
		b.MemoryNosharepages = &libvirtxml.DomainMemoryNosharepages{}
	}
	if m.Locked {
		b.MemoryLocked = &libvirtxml.DomainMemoryLocked{}
	}
	switch {
	case m.FileBacked:
		b.MemorySource = &libvirtxml.DomainMemorySource{Type: "file"}
		b.MemoryAllocation = &libvirtxml.DomainMemoryAllocation{Mode: "immediate"}
	case m.Memfd:
		b.MemorySource = &libvirtxml.DomainMemorySource{Type: "memfd"}
	}
	if m.Shared {
		b.MemoryAccess = &libvirtxml.DomainMemoryAccess{Mode: "shared"}
	}
	if m.Discard {
		b.MemoryDiscard = &libvirtxml.DomainMemoryDiscard{}
	}
}

// hugepages asks for the page sizes of the guest's cells; nil when all are on ordinary pages.
func hugepages(p *virt.Placement) *libvirtxml.DomainMemoryHugepages {
	if p == nil {
		return nil
	}
	var pages []libvirtxml.DomainMemoryHugepage
	for i, c := range p.Cells {
		if c.PageKiB > 0 {
			pages = append(pages, libvirtxml.DomainMemoryHugepage{Size: uint(c.PageKiB), Unit: "KiB", Nodeset: cpuset.Of(i).String()})
		}
	}
	if pages == nil {
		return nil
	}
	return &libvirtxml.DomainMemoryHugepages{Hugepages: pages}
}
