package virttest

import (
	"slices"
	"strings"
	"time"

	"compute-agent/virt"
)

var pciPromises = group{"PCI devices", []promise{
	{"PCIDevices lists all PCI devices of the host in the order of their addresses", pciInOrder, pciLister},
	{"EventHostDevices says that devices came or went", pciHotplug, pciDevices},
	{"PCIOwners says which devices the guests are defined with", pciOwners, pciDevices},
	{"ErrNoCapacity when a living guest has the PCI device", pciInUse, pciDevices},
}}

func (e *env) lister() virt.PCILister { return e.Driver.(virt.PCILister) }

func pciInOrder(e *env) {
	if e.SetPCI != nil {
		e.SetPCI(e, twoDevices[1], twoDevices[0])
	}
	list, err := e.lister().PCIDevices(e.within())
	e.ok(err)
	if !slices.IsSortedFunc(list, func(a, b virt.HostPCI) int { return strings.Compare(a.Address, b.Address) }) {
		e.Errorf("not in order: %+v", list)
	}
	for _, d := range list {
		if len(d.Address) != 12 || len(d.VendorID) != 4 || len(d.ProductID) != 4 || d.Node < -1 {
			e.Errorf("a device is %+v", d)
		}
	}
}

var twoDevices = []virt.HostPCI{
	{Address: "0000:01:00.0", VendorID: "10de", ProductID: "20b5", Class: 0x030200, Node: 0},
	{Address: "0000:02:00.0", VendorID: "10de", ProductID: "20b5", Class: 0x030200, Node: -1},
}

func pciHotplug(e *env) {
	events := e.Driver.Events(e.within())
	e.SetPCI(e, twoDevices...)
	late := time.NewTimer(e.Patience)
	defer late.Stop()
	for {
		select {
		case ev := <-events:
			if ev.Kind != virt.EventHostDevices {
				continue
			}
			list, err := e.lister().PCIDevices(e.within())
			e.ok(err)
			if !slices.Equal(list, twoDevices) {
				e.Errorf("after the event the devices are %+v", list)
			}
			return
		case <-late.C:
			e.Fatalf("no event came within %v", e.Patience)
		}
	}
}

// withDevice is a Spec with the first of the two devices.
func (e *env) withDevice() virt.Spec {
	s := e.spec()
	s.PCI = []virt.PCIDevice{{Address: twoDevices[0].Address, Managed: true}}
	return s
}

func pciOwners(e *env) {
	e.SetPCI(e, twoDevices...)
	s := e.create(e.withDevice())
	e.created()
	owners, err := e.lister().PCIOwners(e.within())
	e.ok(err)
	if len(owners) != 1 || !slices.Equal(owners[s.ID], []string{twoDevices[0].Address}) {
		e.Errorf("owners %v, want guest %s with %s", owners, s.ID, twoDevices[0].Address)
	}
}

func pciInUse(e *env) {
	e.SetPCI(e, twoDevices...)
	first, second, nic := e.create(e.withDevice()), e.withDevice(), e.spec()
	e.fails(e.Driver.Create(e.within(), second), virt.ErrNoCapacity)
	e.absent(second.ID)
	nic.NICs = []virt.NIC{{MAC: "fa:16:3e:00:00:01", Attach: virt.Attachment{Type: "hostdev", Address: twoDevices[0].Address}}}
	e.fails(e.Driver.Create(e.within(), nic), virt.ErrNoCapacity)
	e.absent(nic.ID)
	e.ok(e.Driver.Destroy(e.within(), first.ID))
	e.ok(e.Driver.Create(e.within(), second))
}
