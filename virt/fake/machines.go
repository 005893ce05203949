package fake

import (
	"cmp"
	"context"
	"fmt"

	"compute-agent/virt"
)

// newestMachine is the version that the machine types pc and q35 stand for: that of the QEMU which Host names.
const newestMachine = "7.2"

// machineTypes are those of an x86 QEMU.
func (o Options) machineTypes() []virt.MachineType {
	var list []virt.MachineType
	for _, family := range []struct {
		alias, prefix string
		oldest        int // major version
		maxVCPUs      int
	}{{"pc", "pc-i440fx-", 2, 255}, {"q35", "pc-q35-", 4, 288}} {
		for _, v := range versionsFrom(family.oldest) {
			m := virt.MachineType{Arch: "x86_64", Name: family.prefix + v, MaxVCPUs: family.maxVCPUs}
			if v == cmp.Or(o.MachineVersion, newestMachine) {
				m.Aliases = []string{family.alias}
			}
			list = append(list, m)
			if m.Aliases != nil {
				break // a QEMU of that version has no newer ones
			}
		}
	}
	return list
}

// Machine implements virt.MachineTeller.
func (d *Driver) Machine(ctx context.Context, id string) (machine string, err error) {
	err = d.onGuest(ctx, "Machine", "read machine type", id, func(g *guest) error {
		machine = g.machine
		return nil
	})
	return machine, err
}

// SetMetadata implements virt.MetadataSetter.
func (d *Driver) SetMetadata(ctx context.Context, id string, m virt.Metadata) error {
	return d.onGuest(ctx, "SetMetadata", "set metadata of guest", id, func(g *guest) error {
		if err := m.Validate(); err != nil {
			return err
		}
		g.spec.Metadata = virt.Spec{Metadata: m}.Clone().Metadata
		return nil
	})
}

// versionsFrom are QEMU's from a major version on, as far as this hypervisor goes.
func versionsFrom(oldest int) (versions []string) {
	last := map[int]int{2: 12, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2} // minor versions by major
	for major := oldest; major <= 7; major++ {
		for minor := 0; minor <= last[major]; minor++ {
			versions = append(versions, fmt.Sprintf("%d.%d", major, minor))
		}
	}
	return versions
}
