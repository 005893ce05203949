package guest

import (
	"compute-agent/numa"
	"compute-agent/virt"
)

// memory is how much of it the guest has and what it is made of.
func (d *definition) memory() error {
	s, asks := &d.spec, d.r.numa()
	s.MemoryMiB = uint64(max(0, d.r.Flavor.MemoryMiB))
	realtime, err := d.realtime(asks)
	if err != nil {
		return err
	}
	locked, _, err := asks.LockedMemory()
	if err != nil {
		return err
	}
	// A real-time guest must not wait for a page to be fetched.
	s.Memory = virt.Memory{Locked: locked || realtime, Unshared: realtime}
	if d.r.Options.FileBacked {
		if d.pages() {
			return failed("MemoryPagesUnsupported", "hw:mem_page_size", d.r.Flavor.ExtraSpecs["hw:mem_page_size"], "the host's guests have their memory in files (file_backed_memory)")
		}
		s.Memory.FileBacked, s.Memory.Shared, s.Memory.Discard = true, true, true
	}
	d.shares()
	if s.NVDIMMs = d.r.PMEM; len(s.NVDIMMs) < len(d.hw.PMEM) {
		return failed("PMEMNamespaceConfigInvalid", "hw:pmem", d.r.Flavor.ExtraSpecs["hw:pmem"], "the host has no such persistent memory for the guest")
	}
	return nil
}

// realtime says whether some of the guest's vCPUs are in real time.
func (d *definition) realtime(asks numa.Request) (bool, error) {
	_, realtime, err := asks.RealtimeVCPUs()
	if err != nil || !realtime {
		return false, err
	}
	policy, err := asks.EmulatorThreads()
	if err == nil && policy == numa.EmulatorShare && d.r.NUMA.SharedSet == nil {
		err = failed("RealtimeMaskNotFoundOrInvalid", "hw:emulator_threads_policy", policy, "with hw:cpu_realtime the host needs cpu_shared_set")
	}
	return true, err
}

// pages says whether a size of pages is chosen for any of the guest's cells.
func (d *definition) pages() bool { return d.anyCell(func(pageKiB int) bool { return pageKiB != 0 }) }

func (d *definition) hugePages() bool { return d.anyCell(numa.Huge) }

func (d *definition) anyCell(pages func(pageKiB int) bool) bool {
	if d.r.Placed == nil {
		return false
	}
	for i := range d.r.Placed.Cells {
		if pages(d.r.Placed.Cells[i].PageKiB) {
			return true
		}
	}
	return false
}

// shares are directories of the host. Who serves them maps the guest's memory, which has to be of a kind that
// can be shared.
func (d *definition) shares() {
	s := &d.spec
	s.Shares = d.r.Shares
	if len(s.Shares) == 0 {
		return
	}
	s.Memory.Shared = true
	s.Memory.Memfd = !s.Memory.FileBacked && !d.hugePages()
}

// The policies of encrypted guests, in the bits of AMD's SEV API: no debugging, no sharing of keys, no
// other host; for ES also encrypted registers; for SNP its reserved bit, and hyper-threading allowed.
const (
	policySEV = 0x1 | 0x2 | 0x10 | 0x20
	policyES  = policySEV | 0x4
	policySNP = 0x10000 | 0x20000
)

var encryptionPolicies = map[string]uint32{"amd-sev": policySEV, "amd-sev-es": policyES, "amd-sev-snp": policySNP}

// encryption hides the guest's memory from the host. It needs PCI Express, for virtio devices of version 1.
func (d *definition) encryption() error {
	model := d.hw.MemEncryption
	if model == "" {
		return nil
	}
	policy, known := encryptionPolicies[model]
	switch {
	case !known:
		return failed("Invalid", "hw:mem_encryption_model", model, "must be one of amd-sev, amd-sev-es, amd-sev-snp")
	case d.hw.Firmware != "uefi":
		return failed("FlavorImageConflict", "hw_firmware_type", d.hw.Firmware, "memory encryption needs hw_firmware_type=uefi")
	case !d.isQ35():
		return failed("InvalidMachineType", "hw_machine_type", d.machine, "memory encryption needs a q35 machine type")
	}
	d.spec.Encryption = &virt.MemoryEncryption{Model: model, Policy: policy}
	if sev := d.caps.SEV; sev != nil {
		d.spec.Encryption.CBitPos, d.spec.Encryption.ReducedPhysBits = sev.CBitPos, sev.ReducedPhysBits
	}
	return nil
}
