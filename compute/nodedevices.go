package compute

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"compute-agent/pci"
	"compute-agent/virt"
)

// ReadDevices fills in what the driver tells of PCI devices; nothing, if it is none that does.
func (f *NodeFacts) ReadDevices(ctx context.Context, driver virt.Driver) (err error) {
	lister, can := driver.(virt.PCILister)
	if !can {
		return nil
	}
	f.Devices, err = lister.PCIDevices(ctx)
	if errors.Is(err, virt.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	f.Owners, err = lister.PCIOwners(ctx)
	return err
}

// DeviceLines tells of the PCI devices that servers may get, a line for each, for people.
func (n NovaNode) DeviceLines() []string {
	var lines []string
	for _, e := range n.devices {
		node := "unknown"
		if e.Node != nil {
			node = fmt.Sprint(*e.Node)
		}
		line := fmt.Sprintf("%v %s:%s %s, NUMA node %s: %v", e.Address, e.VendorID, e.ProductID, e.Type, node, e)
		if e.Gone {
			line += ", gone from the host"
		}
		lines = append(lines, line)
	}
	return lines
}

// pciPools are the free devices as Nova's PciDevicePoolList.
func pciPools(pools []pci.Pool) novaObject {
	objects := []novaObject{}
	for _, p := range pools {
		var node any // null: not known
		if p.Node != nil {
			node = *p.Node
		}
		objects = append(objects, newNovaObject("PciDevicePool", "1.1", map[string]any{
			"vendor_id": p.VendorID, "product_id": p.ProductID, "numa_node": node, "count": p.Count, "tags": p.Tags}))
	}
	return newNovaObject("PciDevicePoolList", "1.1", map[string]any{"objects": objects})
}

// deviceProviders are the devices whose spec names a resource class or traits, as Nova reports them to placement: a
// provider for each physical function, which its virtual functions belong to, or for each device without one.
func deviceProviders(hostname string, s stock) []Provider {
	byName := map[string]Provider{}
	for _, a := range s.Addresses() {
		e := s.Entry(a)
		if e.Spec.ResourceClass == "" && len(e.Spec.Traits) == 0 || e.Gone {
			continue
		}
		if e.Parent != nil {
			a = *e.Parent
		}
		name := hostname + "_" + strings.ToUpper(a.String())
		p, known := byName[name]
		if !known {
			p = Provider{Name: name, Inventories: map[string]Inventory{}, Usages: map[string]int{}}
		}
		class := resourceClass(e.Spec.ResourceClass, e.Device)
		n := p.Inventories[class].Total + 1
		p.Inventories[class] = Inventory{Total: n, MinUnit: 1, MaxUnit: n, StepSize: 1, Ratio: 1}
		p.Usages[class] += map[bool]int{true: 1}[e.Owner != ""]
		p.Traits = deviceTraits(append(p.Traits, e.Spec.Traits...))
		byName[name] = p
	}
	var list []Provider
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list = append(list, byName[name])
	}
	return list
}

var notInNames = regexp.MustCompile(`[^0-9A-Z]+`)

// custom is a name of one's own as placement takes it.
func custom(name string) string {
	if strings.HasPrefix(name, "CUSTOM_") {
		return name
	}
	return "CUSTOM_" + notInNames.ReplaceAllString(name, "_")
}

// resourceClass is the class of a device: its spec's, or one that is made of vendor and product.
func resourceClass(name string, d pci.Device) string {
	name = strings.ToUpper(name)
	switch {
	case name == "":
		return strings.ToUpper("CUSTOM_PCI_" + d.VendorID + "_" + d.ProductID)
	case slices.Contains([]string{"PCI_DEVICE", "SRIOV_NET_VF", "VGPU", "PGPU", "FPGA"}, name):
		return name // placement's own
	}
	return custom(name)
}

var standardTrait = regexp.MustCompile(`^(HW|COMPUTE|STORAGE|MISC|OWNER)_`)

// deviceTraits are the traits of a provider of devices.
func deviceTraits(names []string) []string {
	set := map[string]bool{"COMPUTE_MANAGED_PCI_DEVICE": true}
	for _, name := range names {
		if name = strings.ToUpper(name); !standardTrait.MatchString(name) {
			name = custom(name)
		}
		set[name] = true
	}
	return slices.Sorted(maps.Keys(set))
}
