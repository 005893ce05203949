package virt

import "slices"

// MachineType is a machine that guests of one architecture can be.
type MachineType struct {
	Arch    string   // x86_64
	Name    string   // as it stays under upgrades of the hypervisor: pc-i440fx-7.2
	Aliases []string // names that stand for it until then: pc
	// MaxVCPUs is the hypervisor's limit; 0 when it does not tell.
	MaxVCPUs int
}

// MachineType finds a machine type of an architecture by its name or an alias; nil when the host does not have it
// or does not tell.
func (h Host) MachineType(arch, machine string) *MachineType {
	for i := range h.Machines {
		m := &h.Machines[i]
		if m.Arch == arch && (m.Name == machine || slices.Contains(m.Aliases, machine)) {
			return m
		}
	}
	return nil
}

// CanonicalMachine is the name under which a machine type stays the same when the hypervisor is upgraded: pc is
// pc-i440fx-7.2 today. A machine type that the host does not know is its own.
func (h Host) CanonicalMachine(arch, machine string) string {
	if m := h.MachineType(arch, machine); m != nil {
		return m.Name
	}
	return machine
}
