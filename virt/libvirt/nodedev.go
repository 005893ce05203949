package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// PCIDevices implements virt.PCILister: libvirt's node devices with the capability pci, and those that hang on
// them and tell of their driver's network interface or vDPA device.
func (d *Driver) PCIDevices(ctx context.Context) ([]virt.HostPCI, error) {
	result := make(chan []virt.HostPCI, 1)
	err := d.run(ctx, "list PCI devices", "", d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.rpc(ctx, func(conn *lv.Connect) error {
			texts, err := nodeDevices(conn)
			if err != nil {
				return err
			}
			list, err := parseNodeDevices(texts)
			if err == nil {
				result <- list
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return <-result, nil
}

// nodeDevices returns the XML of the devices. One that goes meanwhile is left out.
func nodeDevices(conn *lv.Connect) ([]string, error) {
	devices, err := conn.ListAllNodeDevices(lv.CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV |
		lv.CONNECT_LIST_NODE_DEVICES_CAP_NET | lv.CONNECT_LIST_NODE_DEVICES_CAP_VDPA)
	if err != nil {
		return nil, err
	}
	var texts []string
	for i := range devices {
		text, xmlErr := devices[i].GetXMLDesc(0)
		_ = devices[i].Free() // fails only on what is no device
		switch {
		case xmlErr == nil:
			texts = append(texts, text)
		case !isCode(xmlErr, lv.ERR_NO_NODE_DEVICE):
			err = orFirst(err, xmlErr)
		}
	}
	return texts, err
}

// parseNodeDevices reads node devices in any order.
func parseNodeDevices(texts []string) ([]virt.HostPCI, error) {
	byName := map[string]*virt.HostPCI{}
	var children []libvirtxml.NodeDevice
	for _, text := range texts {
		var device libvirtxml.NodeDevice
		if err := device.Unmarshal(text); err != nil {
			return nil, fmt.Errorf("parse node device: %w", err)
		}
		if device.Capability.PCI == nil {
			children = append(children, device)
			continue
		}
		known, err := parsePCI(&device)
		if err != nil {
			return nil, fmt.Errorf("node device %s: %w", device.Name, err)
		}
		byName[device.Name] = &known
	}
	list := make([]virt.HostPCI, 0, len(byName))
	for _, child := range children {
		adopt(byName[child.Parent], &child)
	}
	for _, known := range byName {
		list = append(list, *known)
	}
	slices.SortFunc(list, func(a, b virt.HostPCI) int { return strings.Compare(a.Address, b.Address) })
	return list, nil
}

// adopt notes what hangs on a PCI device. Of several network interfaces it is the first by name.
func adopt(known *virt.HostPCI, child *libvirtxml.NodeDevice) {
	switch {
	case known == nil:
	case child.Capability.Net != nil:
		if name := child.Capability.Net.Interface; known.Netdev == "" || name < known.Netdev {
			known.Netdev = name
		}
	case strings.HasPrefix(child.Name, "vdpa_"): // libvirtxml knows nothing of the capability
		known.VDPA = known.Parent != ""
	}
}

func parsePCI(device *libvirtxml.NodeDevice) (virt.HostPCI, error) {
	c := device.Capability.PCI
	known := virt.HostPCI{Node: -1}
	var err error
	if known.Address, err = pciAddress(c.Domain, c.Bus, c.Slot, c.Function); err != nil {
		return known, err
	}
	if known.VendorID, err = hexID(c.Vendor.ID); err != nil {
		return known, fmt.Errorf("vendor: %w", err)
	}
	if known.ProductID, err = hexID(c.Product.ID); err != nil {
		return known, fmt.Errorf("product: %w", err)
	}
	class, err := strconv.ParseUint(strings.TrimPrefix(c.Class, "0x"), 16, 24)
	if err != nil {
		return known, fmt.Errorf("class: %q is not a hexadecimal number of 24 bits", c.Class)
	}
	known.Class = int(class)
	if c.NUMA != nil && c.NUMA.Node >= 0 {
		known.Node = c.NUMA.Node
	}
	if device.Driver != nil {
		known.Driver = device.Driver.Name
	}
	for _, sub := range c.Capabilities {
		switch {
		case sub.VirtFunctions != nil:
			known.MaxVFs = max(sub.VirtFunctions.MaxCount, len(sub.VirtFunctions.Address))
		case sub.PhysFunction != nil:
			a := sub.PhysFunction.Address
			if known.Parent, err = pciAddress(a.Domain, a.Bus, a.Slot, a.Function); err != nil {
				return known, fmt.Errorf("physical function: %w", err)
			}
		}
	}
	return known, nil
}

func pciAddress(domain, bus, slot, function *uint) (string, error) {
	if domain == nil || bus == nil || slot == nil || function == nil {
		return "", fmt.Errorf("its address is incomplete")
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", *domain, *bus, *slot, *function), nil
}

func hexID(text string) (string, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 16)
	if err != nil {
		return "", fmt.Errorf("%q is not a hexadecimal number of 16 bits", text)
	}
	return fmt.Sprintf("%04x", n), nil
}

// PCIOwners implements virt.PCILister. libvirt keeps no such list: it is read out of the definitions.
func (d *Driver) PCIOwners(ctx context.Context) (map[string][]string, error) {
	result := make(chan map[string][]string, 1)
	err := d.run(ctx, "list guests with PCI devices", "", d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.rpc(ctx, func(conn *lv.Connect) error {
			owners, err := pciOwners(conn)
			if err == nil {
				result <- owners
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return <-result, nil
}

func pciOwners(conn *lv.Connect) (map[string][]string, error) {
	domains, err := conn.ListAllDomains(0)
	if err != nil {
		return nil, err
	}
	owners := map[string][]string{}
	for i := range domains {
		text, xmlErr := domains[i].GetXMLDesc(0)
		free(&domains[i])
		if isMissing(xmlErr) {
			continue // it went away between the two calls
		}
		if err = orFirst(err, xmlErr); err != nil {
			continue // the others are still to be freed
		}
		id, addresses, parseErr := hostDevices(text)
		err = orFirst(err, parseErr)
		if len(addresses) > 0 {
			owners[id] = addresses
		}
	}
	return owners, err
}

func orFirst(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// hostDevices reads the host's PCI devices out of a domain, network interfaces of type hostdev among them.
func hostDevices(text string) (id string, addresses []string, err error) {
	if !strings.Contains(text, "hostdev") {
		return "", nil, nil // most have none, and parsing takes long
	}
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(text); err != nil {
		return "", nil, fmt.Errorf("parse a domain: %w", err)
	}
	if dom.Devices == nil {
		return dom.UUID, nil, nil
	}
	var found []*libvirtxml.DomainAddressPCI
	for _, h := range dom.Devices.Hostdevs {
		if h.SubsysPCI != nil && h.SubsysPCI.Source != nil {
			found = append(found, h.SubsysPCI.Source.Address)
		}
	}
	for _, nic := range dom.Devices.Interfaces {
		if nic.Source != nil && nic.Source.Hostdev != nil && nic.Source.Hostdev.PCI != nil {
			found = append(found, nic.Source.Hostdev.PCI.Address)
		}
	}
	for _, a := range found {
		if a == nil {
			continue
		}
		address, err := pciAddress(a.Domain, a.Bus, a.Slot, a.Function)
		if err != nil {
			return "", nil, fmt.Errorf("domain %s: %w", dom.UUID, err)
		}
		addresses = append(addresses, address)
	}
	slices.Sort(addresses)
	return dom.UUID, addresses, nil
}

// checkPCI fails with ErrNoCapacity when a device that the Spec names is not there: libvirt would find out when it
// starts the guest, and say so in many ways.
func (c *call) checkPCI(ctx context.Context, devices []string) error {
	if len(devices) == 0 {
		return nil
	}
	return c.rpc(ctx, func(conn *lv.Connect) error {
		for _, address := range devices {
			device, err := conn.LookupDeviceByName("pci_" + strings.NewReplacer(":", "_", ".", "_").Replace(address))
			switch {
			case isCode(err, lv.ERR_NO_NODE_DEVICE):
				return fmt.Errorf("%w: PCI device %s is not there", virt.ErrNoCapacity, address)
			case isUnsupported(err):
				return nil
			case err != nil:
				return err
			}
			_ = device.Free() // fails only on what is no device
		}
		return nil
	})
}
