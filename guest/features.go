package guest

import "compute-agent/virt"

// hiddenVendor is what the leaves of Hyper-V say in a guest that must not notice its hypervisor: anything but
// Microsoft's own word, which NVIDIA's driver looks for.
const hiddenVendor = "1234567890ab"

// features are what the machine has beside its devices, and its time.
func (d *definition) features() {
	windows := d.hw.OSType == "windows"
	f := &d.spec.Features
	f.HideHypervisor, f.PMU = d.hw.HideHypervisor, d.hw.PMU
	f.HyperV = windows && !d.caps.HyperV.Refuses("relaxed") // Windows runs without it too, in emulated guests
	if f.HyperV && f.HideHypervisor {
		f.HyperVVendor = hiddenVendor
	}
	// The device writes into the guest's memory, which the host cannot if that is encrypted.
	f.VMCoreInfo = (d.isX86() || d.arch == "aarch64") && d.spec.Encryption == nil && d.caps.VMCoreInfo != virt.No
	if d.spec.VirtType == "qemu" {
		f.TCGCacheMiB = d.r.Options.TCGCacheMiB
	}
	if d.spec.IOMMU != nil {
		f.IOAPIC = "qemu"
	}
	kvm := d.spec.VirtType == "kvm"
	d.spec.Clock = virt.Clock{CatchUp: d.foreign() && d.r.Host.VirtType == "kvm", LocalTime: windows, HPET: d.hw.HPET && kvm && d.isX86(), HyperV: windows && kvm}
}
