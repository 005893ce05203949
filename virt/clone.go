package virt

import (
	"slices"

	"compute-agent/internal/cpuset"
)

// Clone returns a Spec that shares no memory with s, for drivers that have to keep one.
func (s Spec) Clone() Spec {
	s.CPU.Features, s.CPU.PhysAddr = slices.Clone(s.CPU.Features), clone(s.CPU.PhysAddr)
	s.Placement = s.Placement.clone()
	s.Boot.Devices = slices.Clone(s.Boot.Devices)
	s.Features.PMU = clone(s.Features.PMU)
	s.Encryption = clone(s.Encryption)
	s.Disks = each(s.Disks, Disk.clone)
	s.NICs = each(s.NICs, func(n NIC) NIC {
		n.Bandwidth = clone(n.Bandwidth)
		return n
	})
	s.Shares, s.Serial, s.Graphics, s.Inputs = slices.Clone(s.Shares), slices.Clone(s.Serial), each(s.Graphics, Graphics.clone), slices.Clone(s.Inputs)
	s.Video, s.TPM, s.RNG, s.IOMMU = clone(s.Video), clone(s.TPM), clone(s.RNG), clone(s.IOMMU)
	s.PCI, s.Mediated, s.NVDIMMs = slices.Clone(s.PCI), slices.Clone(s.Mediated), slices.Clone(s.NVDIMMs)
	s.PerfEvents = slices.Clone(s.PerfEvents)
	s.Metadata.Ports = each(s.Metadata.Ports, func(p PortMetadata) PortMetadata {
		p.IPs = slices.Clone(p.IPs)
		return p
	})
	return s
}

func (g Graphics) clone() Graphics {
	g.SPICE.PlaybackCompression = clone(g.SPICE.PlaybackCompression)
	return g
}

func (d Disk) clone() Disk {
	d.Backing = slices.Clone(d.Backing)
	if n := clone(d.Source.Network); n != nil {
		n.Hosts, n.Auth = slices.Clone(n.Hosts), clone(n.Auth)
		d.Source.Network = n
	}
	d.Unit, d.Key = clone(d.Unit), clone(d.Key)
	return d
}

func (p *Placement) clone() *Placement {
	if p == nil {
		return nil
	}
	return &Placement{
		VCPUs:    each(p.VCPUs, cpuset.Set.Clone),
		Floating: p.Floating.Clone(),
		Emulator: p.Emulator.Clone(),
		Realtime: p.Realtime.Clone(), RealtimePriority: p.RealtimePriority,
		Cells: each(p.Cells, func(c GuestCell) GuestCell {
			c.VCPUs, c.Distances = c.VCPUs.Clone(), slices.Clone(c.Distances)
			return c
		}),
	}
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

func each[T any](list []T, f func(T) T) []T {
	list = slices.Clone(list)
	for i := range list {
		list[i] = f(list[i])
	}
	return list
}
