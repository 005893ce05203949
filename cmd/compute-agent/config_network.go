package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

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
}

func (n *networkOptions) keys() []key {
	return []key{
		{name: "networks", initial: "true", value: truth(&n.Enabled),
			doc: "Whether the agent has a network service: networks, security groups, DHCP, metadata and routers, for which it must be\n" +
				"root. Without it servers have no network interfaces."},
		{name: "physical_interface_mappings", initial: "", value: pairs(&n.Interfaces, physicalInterface),
			doc: "Interfaces of the host that flat and VLAN networks use, by the operator's name (provider:physical_network):\n" +
				"physnet1:eth1, physnet2:eth2. A flat network's bridge takes the interface's addresses and routes with it."},
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
