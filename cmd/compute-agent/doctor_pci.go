package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"

	"compute-agent/pci"
)

// checkPCI says whether the host has the PCI devices that the configuration gives to servers, and can give any.
func (p *patient) checkPCI(context.Context) verdict {
	if len(p.config.PCIDeviceSpecs) == 0 {
		return ok("pci_device_spec is not set: servers get none")
	}
	devices, err := pci.Discover(os.DirFS(p.path("sys")))
	if err != nil {
		return failure("Look at what lspci says.", "%v", err)
	}
	allowed, unmet, err := p.allowedPCI(devices)
	if err != nil {
		return failure("Correct pci_device_spec.", "%v", err)
	}
	groups, err := os.ReadDir(p.path("sys/kernel/iommu_groups"))
	switch {
	case err != nil || len(groups) == 0:
		return failure("Turn on the IOMMU in the host's firmware and, with intel_iommu=on, for Linux.", "no IOMMU: guests cannot have devices")
	case len(unmet) > 0:
		return warning("Compare it with lspci -nn, or take it out.", "no device of this host is meant by %s", strings.Join(unmet, " and "))
	}
	return ok("%d that servers may get", len(allowed))
}

// allowedPCI lists the devices that servers may get, and the entries of pci_device_spec and pci_alias that mean none.
func (p *patient) allowedPCI(devices []pci.Device) (allowed []pci.Allowed, unmet []string, err error) {
	for _, text := range p.config.PCIDeviceSpecs {
		specs, err := pci.ParseSpecs([]string{text})
		if err != nil {
			return nil, nil, err
		}
		list, err := pci.Allow(specs, devices)
		if err != nil {
			return nil, nil, err
		}
		if len(list) == 0 {
			unmet = append(unmet, text)
		}
		allowed = append(allowed, list...)
	}
	aliases, err := pci.ParseAliases(p.config.PCIAliases)
	if err != nil {
		return nil, nil, err
	}
	var v pci.Inventory
	v.Update(allowed)
	for _, name := range slices.Sorted(maps.Keys(aliases)) {
		requests, err := aliases.Requests(name+":1", "")
		if err != nil {
			return nil, nil, err
		}
		if pci.Short(v.Pools(), requests, nil, nil) != nil {
			unmet = append(unmet, "alias "+name)
		}
	}
	return allowed, unmet, nil
}
