package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

func renderFeatures(d *libvirtxml.Domain, s *virt.Spec) {
	f := &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}}
	d.Features = f
	if s.Features.HyperV {
		f.HyperV = hyperV(s.Features.HyperVVendor)
	}
	if s.Features.HideHypervisor {
		f.KVM = &libvirtxml.DomainFeatureKVM{Hidden: state(true)}
	}
	if s.Features.PMU != nil {
		f.PMU = state(*s.Features.PMU)
	}
	if s.Features.VMCoreInfo {
		f.VMCoreInfo = &libvirtxml.DomainFeatureState{}
	}
	if size := s.Features.TCGCacheMiB; size > 0 {
		f.TCG = &libvirtxml.DomainFeatureTCG{TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: uint(size)}}
	}
	if s.Features.IOAPIC != "" {
		f.IOAPIC = &libvirtxml.DomainFeatureIOAPIC{Driver: s.Features.IOAPIC}
	}
}

// spinlockRetries is how often a guest tries a lock before it tells the hypervisor: the number that KVM's
// maintainers certified Windows with, and Nova's.
const spinlockRetries = 8191

// hyperV is Nova's list of enlightenments. The ones that need an Intel processor or a host of its own kind
// (evmcs, reenlightenment), which Nova once had, are left out as it leaves them out now.
func hyperV(vendor string) *libvirtxml.DomainFeatureHyperV {
	on := state(true)
	h := &libvirtxml.DomainFeatureHyperV{
		Relaxed:     on,
		VAPIC:       on,
		Spinlocks:   &libvirtxml.DomainFeatureHyperVSpinlocks{DomainFeatureState: *on, Retries: spinlockRetries},
		VPIndex:     on,
		Runtime:     on,
		Synic:       on,
		Reset:       on,
		Frequencies: on,
		TLBFlush:    &libvirtxml.DomainFeatureHyperVTLBFlush{DomainFeatureState: *on},
		IPI:         on,
	}
	if vendor != "" {
		h.VendorId = &libvirtxml.DomainFeatureHyperVVendorId{DomainFeatureState: *on, Value: vendor}
	}
	return h
}

// renderPerf names what the host's kernel is to count.
func renderPerf(d *libvirtxml.Domain, s *virt.Spec) {
	if len(s.PerfEvents) == 0 {
		return
	}
	d.Perf = &libvirtxml.DomainPerf{}
	for _, event := range s.PerfEvents {
		d.Perf.Events = append(d.Perf.Events, libvirtxml.DomainPerfEvent{Name: event, Enabled: "yes"})
	}
}

func state(on bool) *libvirtxml.DomainFeatureState {
	return &libvirtxml.DomainFeatureState{State: onOff(on)}
}
