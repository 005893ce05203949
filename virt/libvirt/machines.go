package libvirt

import (
	"cmp"
	"slices"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// Machines lists the machine types out of libvirt's capabilities, each once, with what is an alias of it. A
// type that is known under its alias alone is one too.
func Machines(caps *libvirtxml.Caps) []virt.MachineType {
	var machines machineList
	for _, g := range caps.Guests {
		machines.add(g.Arch.Name, g.Arch.Machines)
		for _, d := range g.Arch.Domains {
			machines.add(g.Arch.Name, d.Machines) // where a virt type has an emulator of its own
		}
	}
	slices.SortFunc(machines, func(a, b virt.MachineType) int {
		return cmp.Or(cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Name, b.Name))
	})
	return machines
}

type machineList []virt.MachineType

func (l *machineList) add(arch string, machines []libvirtxml.CapsGuestMachine) {
	for _, m := range machines {
		known := l.find(arch, cmp.Or(m.Canonical, m.Name))
		known.MaxVCPUs = max(known.MaxVCPUs, m.MaxCPUs)
		if m.Canonical != "" && !slices.Contains(known.Aliases, m.Name) {
			known.Aliases = append(known.Aliases, m.Name)
		}
	}
}

// find returns the machine type, new if it is not there yet.
func (l *machineList) find(arch, name string) *virt.MachineType {
	for i := range *l {
		if m := &(*l)[i]; m.Arch == arch && m.Name == name {
			return m
		}
	}
	*l = append(*l, virt.MachineType{Arch: arch, Name: name})
	return &(*l)[len(*l)-1]
}
