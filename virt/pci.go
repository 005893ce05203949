package virt

import "context"

// PCILister is the ability to tell of the host's PCI devices and of the guests that have some.
// EventHostDevices says that devices came or went.
type PCILister interface {
	// PCIDevices lists all PCI devices of the host, those in use too, in the order of their
	// addresses. A host without PCI has none.
	PCIDevices(ctx context.Context) ([]HostPCI, error)
	// PCIOwners says which devices the guests are defined with: their addresses, in order, by the
	// guest's ID. Guests without devices are left out.
	PCIOwners(ctx context.Context) (map[string][]string, error)
}

// HostPCI is one function of a PCI device of the host.
type HostPCI struct {
	Address   string // 0000:81:00.0
	VendorID  string // four hexadecimal digits, lower case
	ProductID string
	Class     int    // class, subclass and programming interface: 0x020000 is an Ethernet controller
	Node      int    // NUMA node; -1 when it is not known
	MaxVFs    int    // how many virtual functions it can have; 0 for one that is no physical function
	Parent    string // of a virtual function: the address of its physical function
	VDPA      bool   // of a virtual function: it is a vDPA device
	Driver    string // of the host's kernel; empty for none
	Netdev    string // network interface that the host's kernel has for it; empty for none
}

// PCIAddresses are those of all PCI devices of the host that the guest gets: for itself, and as network interfaces.
func (s Spec) PCIAddresses() []string {
	var all []string
	for _, p := range s.PCI {
		all = append(all, p.Address)
	}
	for _, n := range s.NICs {
		if n.Attach.Address != "" {
			all = append(all, n.Attach.Address)
		}
	}
	return all
}
