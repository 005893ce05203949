package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"compute-agent/network"
	"compute-agent/network/firewall"
	"compute-agent/neutron"
)

// networkOptions is what an operator can choose about networks.
type networkOptions struct {
	Enabled    bool
	Interfaces map[string]string
	Filtering  bool
	Below      string
	LocalIP    string
	Group      string
	Peers      []string
	Domain     string
	Variant    string
	Default    string
	VLANRanges map[string]string
	VNIRange   string
	MTU        int
}

func (n *networkOptions) keys() []key {
	return []key{
		{name: "networks", initial: "true", value: truth(&n.Enabled),
			doc: "Whether the agent has a network service: networks, security groups, DHCP, metadata and routers, for which it must be\n" +
				"root. Without it servers have no network interfaces."},
		{name: "physical_interface_mappings", initial: "", value: pairs(&n.Interfaces, physicalInterface),
			doc: "Interfaces of the host that flat and VLAN networks use, by the operator's name (provider:physical_network):\n" +
				"physnet1:eth1, physnet2:eth2. A flat network's bridge takes the interface's addresses and routes with it."},
		{name: "tenant_network_type", initial: "local", value: choice(&n.Default, "local", "vlan", "vxlan"),
			doc: "What networks are whose user says nothing of it: local, on this host alone; vlan, of network_vlan_ranges; or vxlan, of vni_range."},
		{name: "network_vlan_ranges", initial: "", value: pairs(&n.VLANRanges, vlanRange),
			doc: "VLANs for networks that say none, by physical network: physnet1:100:199."},
		{name: "vni_range", initial: "1:16777215", value: text(&n.VNIRange, numberRange(1<<24-1)),
			doc: "VNIs for VXLANs that say none."},
		{name: "global_physnet_mtu", initial: "1500", value: whole(&n.MTU, 576, 65535),
			doc: "MTU of the physical networks and of the one that carries VXLANs, in bytes."},
		{name: "vlan_filtering_bridge", initial: "false", value: truth(&n.Filtering),
			doc: "Whether all VLAN networks of an interface share one VLAN-filtering bridge, instead of a VLAN device and a bridge each."},
		{name: "vxlan_local_ip", initial: "", value: text(&n.LocalIP, orEmpty(ipAddress)),
			doc: "Address of this host that VXLANs send from. Empty: the kernel's choice."},
		{name: "vxlan_group", initial: "", value: text(&n.Group, orEmpty(ipAddress)),
			doc: "Multicast group of VXLANs, in which the other hosts are too; needs vxlan_interface. Either this or vxlan_peers."},
		{name: "vxlan_interface", initial: "", value: text(&n.Below, orEmpty(interfaceName)),
			doc: "Interface that VXLANs send through. Empty: the kernel's choice."},
		{name: "vxlan_peers", initial: "", value: list(&n.Peers, ipAddress),
			doc: "Addresses of the other hosts of VXLANs, with commas between them."},
		{name: "dns_domain", initial: "openstacklocal", value: text(&n.Domain, orEmpty(plainWord)),
			doc: "Domain that guests are told by DHCP, on networks that have none of their own. Empty: none."},
		{name: "iptables", initial: "auto", value: choice(&n.Variant, "auto", "nft", "legacy"),
			doc: "Which of the host's iptables loads the filters: nft, legacy, or auto: what the host calls iptables."},
	}
}

// physicalInterface reads an entry of physical_interface_mappings, with a colon as Neutron has it.
func physicalInterface(s string) (name, device string, err error) {
	name, device, _ = strings.Cut(strings.ReplaceAll(s, "=", ":"), ":")
	if plainWord(name) != nil || interfaceName(device) != nil {
		return "", "", fmt.Errorf("must be entries such as physnet1:eth1 with commas between them")
	}
	return name, device, nil
}

// vlanRange reads an entry of network_vlan_ranges, spelled as Neutron's.
func vlanRange(s string) (name, numbers string, err error) {
	name, numbers, _ = strings.Cut(strings.ReplaceAll(s, "=", ":"), ":")
	if plainWord(name) != nil || numberRange(4094)(numbers) != nil {
		return "", "", errors.New("must be entries such as physnet1:100:199 with commas between them, of VLANs from 1 to 4094")
	}
	return name, numbers, nil
}

// numberRange accepts FIRST:LAST, from 1 up to most.
func numberRange(most int) func(string) error {
	return func(s string) error {
		if r := rangeOf(s); r.First < 1 || r.Last < r.First || r.Last > most {
			return fmt.Errorf("must be a range such as 100:199, from 1 to %d", most)
		}
		return nil
	}
}

// rangeOf is zero for what is no range.
func rangeOf(s string) (r neutron.Numbers) {
	first, last, _ := strings.Cut(s, ":")
	var err [2]error
	r.First, err[0] = strconv.Atoi(first)
	r.Last, err[1] = strconv.Atoi(last)
	if errors.Join(err[:]...) != nil {
		return neutron.Numbers{}
	}
	return r
}

// provider is what networks can be made of.
func (n *networkOptions) provider() (neutron.Provider, error) {
	p := neutron.Provider{
		Default: network.Type(n.Default), Physical: map[string]int{}, VLANs: map[string]neutron.Numbers{}, VNIs: rangeOf(n.VNIRange), MTU: n.MTU,
	}
	if a := address(n.LocalIP); a.Is6() {
		p.Overhead = 70 // IPv6's header is that much longer
	}
	for name := range n.Interfaces {
		p.Physical[name] = n.MTU
	}
	for name, numbers := range n.VLANRanges {
		if n.Interfaces[name] == "" {
			return p, fmt.Errorf("network_vlan_ranges: %s is not in physical_interface_mappings", name)
		}
		p.VLANs[name] = rangeOf(numbers)
	}
	return p, nil
}

func interfaceName(s string) error {
	if plainWord(s) != nil || len(s) > 15 {
		return errors.New("must be the name of an interface: at most 15 letters, digits, dots, dashes or underscores")
	}
	return nil
}

// variant is the iptables to use.
func (n *networkOptions) variant() firewall.Variant {
	if n.Variant == "auto" {
		return firewall.VariantDefault
	}
	return firewall.Variant(n.Variant)
}

// site is what the networks have to know of the host.
func (n *networkOptions) site() (neutron.Site, error) {
	vxlan := neutron.VXLAN{Interface: n.Below, Local: address(n.LocalIP), Group: address(n.Group)}
	for _, p := range n.Peers {
		vxlan.Peers = append(vxlan.Peers, address(p))
	}
	switch {
	case n.Group != "" && !vxlan.Group.IsMulticast():
		return neutron.Site{}, fmt.Errorf("vxlan_group: %s is no multicast address", n.Group)
	case n.Group != "" && (len(n.Peers) > 0 || n.Below == ""):
		return neutron.Site{}, errors.New("vxlan_group: needs vxlan_interface, and no vxlan_peers")
	}
	return neutron.Site{Interfaces: n.Interfaces, Filtering: n.Filtering, VXLAN: vxlan, Domain: n.Domain}, nil
}

// address is one that a setting has checked; empty is none.
func address(text string) netip.Addr {
	a, _ := netip.ParseAddr(text)
	return a
}
