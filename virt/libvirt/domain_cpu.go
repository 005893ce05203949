package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

func renderVCPUs(d *libvirtxml.Domain, s *virt.Spec) {
	d.VCPU = &libvirtxml.DomainVCPU{Placement: "static", Value: uint(s.VCPUs)}
	if s.Placement != nil && len(s.Placement.VCPUs) == 0 {
		d.VCPU.CPUSet = s.Placement.Floating.String()
	}
}

// renderCPU renders mode "none" as a bare topology: libvirt then leaves the model to QEMU.
func renderCPU(d *libvirtxml.Domain, s *virt.Spec) {
	d.CPU = &libvirtxml.DomainCPU{
		Topology: &libvirtxml.DomainCPUTopology{
			Sockets: s.CPU.Sockets, Cores: s.CPU.Cores, Threads: s.CPU.Threads,
		},
	}
	switch s.CPU.Mode {
	case "none":
	case "custom":
		d.CPU.Mode, d.CPU.Match = "custom", "exact"
		d.CPU.Model = &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: s.CPU.Model}
	default:
		d.CPU.Mode = s.CPU.Mode
	}
}
