package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

func renderVCPUs(d *libvirtxml.Domain, s *virt.Spec) {
	d.VCPU = &libvirtxml.DomainVCPU{Value: uint(s.VCPUs)}
	if s.Placement != nil && len(s.Placement.VCPUs) == 0 {
		d.VCPU.CPUSet = s.Placement.Floating.String()
	}
	d.IOThreads = uint(s.IOThreads)
}

// renderCPU renders mode "none" as a bare topology: libvirt then leaves the model to QEMU.
func renderCPU(d *libvirtxml.Domain, s *virt.Spec) {
	d.CPU = &libvirtxml.DomainCPU{
		Match:    "exact",
		Topology: &libvirtxml.DomainCPUTopology{Sockets: s.CPU.Sockets, Cores: s.CPU.Cores, Threads: s.CPU.Threads},
	}
	if s.CPU.Mode != "none" {
		d.CPU.Mode = s.CPU.Mode
	}
	if s.CPU.Model != "" {
		d.CPU.Model = &libvirtxml.DomainCPUModel{Value: s.CPU.Model}
	}
	if a := s.CPU.PhysAddr; a != nil {
		d.CPU.MaxPhysAddr = &libvirtxml.DomainCPUMaxPhysAddr{Mode: a.Mode, Bits: uint(a.Bits)}
	}
	for _, f := range s.CPU.Features {
		d.CPU.Features = append(d.CPU.Features, libvirtxml.DomainCPUFeature{Name: f.Name, Policy: orElse(f.Policy, "require")})
	}
}
