package neutron

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"compute-agent/network"
	"compute-agent/network/fabric"
	"compute-agent/network/firewall"
)

// Site is a host, as far as the cloud's networks have to know it.
type Site struct {
	// Interfaces are the host's, by the operator's name of the physical network that they are plugged into.
	Interfaces map[string]string
	// Filtering has one VLAN-filtering bridge for each of them instead of a bridge for each network.
	Filtering bool
	VXLAN     VXLAN
	// Elsewhere says that DHCP servers, routers and the metadata service are some other host's.
	Elsewhere bool
	// Domain is that of guests on networks that say none; empty for none.
	Domain string
}

// VXLAN is how the host reaches others. The zero VXLAN reaches nobody.
type VXLAN struct {
	Interface string       // below; empty for the kernel's choice
	Local     netip.Addr   // the host's own address
	Peers     []netip.Addr // the other hosts, or
	Group     netip.Addr   // the multicast group that they are in, which needs Interface
	UDPPort   int          // 0 for IANA's
}

// planner is a plan in the making.
type planner struct {
	Records
	at   Site
	out  fabric.State
	errs []error

	networks map[string]*Network
	subnets  map[string]*Subnet
	groups   map[string]*SecurityGroup
	routers  map[string]*Router
	onNet    map[string][]*Port // ports by network
	inGroup  map[string][]*Port
	devices  map[string][]*Port // the cloud's own ports, by router or network
	here     map[string]bool    // networks that the host has
	filtered map[string]bool    // groups that are in the firewall
	adviser  map[string]bool    // subnets that a router advertises
	local6   map[string]bool    // networks in which somebody has the metadata service's IPv6 address
	// trusted are the senders of what guests believe, by network.
	trusted map[string]senders
}

// senders are addresses from which guests are told theirs, by DHCP and by router advertisements.
type senders struct{ dhcp, routers []netip.Addr }

// Plan is what a host must have for all that is recorded: links and filters of the ports that are bound to it, DHCP servers, routers, and
// where guests find their metadata. The error is all that makes no sense, each as a *fabric.PortError where a port is lost by it; the
// State is then the rest. It is the same whenever the records are.
func Plan(r Records, at Site) (fabric.State, error) {
	p := &planner{
		Records: r, at: at,
		networks: byID(r.Networks, func(n *Network) string { return n.ID }), subnets: byID(r.Subnets, func(s *Subnet) string { return s.ID }),
		groups: byID(r.Groups, func(g *SecurityGroup) string { return g.ID }), routers: byID(r.Routers, func(r *Router) string { return r.ID }),
		onNet: map[string][]*Port{}, inGroup: map[string][]*Port{}, devices: map[string][]*Port{}, here: map[string]bool{}, filtered: map[string]bool{},
		adviser: map[string]bool{}, local6: map[string]bool{}, trusted: map[string]senders{},
	}
	p.index()
	for i := range r.Networks {
		p.network(&r.Networks[i])
	}
	for i := range r.Ports {
		if port := &r.Ports[i]; port.VIFType != "" {
			p.try(port, p.port(port))
		}
	}
	p.firewallGroups()
	if !at.Elsewhere {
		for i := range r.Networks {
			p.dhcp(&r.Networks[i])
		}
		for i := range r.Routers {
			p.router(&r.Routers[i])
		}
	}
	return p.out, errors.Join(p.errs...)
}

func byID[T any](list []T, id func(*T) string) map[string]*T {
	all := make(map[string]*T, len(list))
	for i := range list {
		all[id(&list[i])] = &list[i]
	}
	return all
}

// index finds out which ports are where.
func (p *planner) index() {
	for i := range p.Ports {
		port := &p.Ports[i]
		p.onNet[port.NetworkID] = append(p.onNet[port.NetworkID], port)
		for _, id := range port.SecurityGroups {
			p.inGroup[id] = append(p.inGroup[id], port)
		}
		on := p.networks[port.NetworkID]
		switch {
		case port.VIFType != "":
			p.here[port.NetworkID] = true
		case p.at.Elsewhere || on == nil:
		case port.DeviceOwner == OwnerDHCP && on.AdminUp:
			p.devices[on.ID] = append(p.devices[on.ID], port)
			p.here[on.ID] = true
		case isRouterOwner(port.DeviceOwner):
			if r := p.routers[port.DeviceID]; r != nil && r.AdminUp {
				p.devices[r.ID] = append(p.devices[r.ID], port)
				p.here[on.ID] = true
				p.advises(port)
			}
		}
	}
}

// advises notes of which subnets a router's port sends router advertisements.
func (p *planner) advises(port *Port) {
	for _, ip := range port.FixedIPs {
		if s := p.subnets[ip.SubnetID]; s != nil && port.DeviceOwner == OwnerInterface && s.RAMode != "" {
			p.adviser[s.ID] = true
		}
	}
}

// try notes what is wrong with a port.
func (p *planner) try(port *Port, err error) {
	if err != nil {
		p.errs = append(p.errs, &fabric.PortError{Port: port.ID, Err: err})
	}
}

// network adds a network that the host has; of one that makes no sense it has nothing.
func (p *planner) network(n *Network) {
	if !p.here[n.ID] {
		return
	}
	out := network.Network{ID: n.ID, Type: n.Type, MTU: n.MTU}
	switch n.Type {
	case network.Flat, network.VLAN:
		out.Physical, out.Filtering = p.at.Interfaces[n.Physical], p.at.Filtering
		if out.Physical == "" {
			p.errs = append(p.errs, fmt.Errorf("network %s: the host has no interface for physical network %q", n.ID, n.Physical))
			p.here[n.ID] = false
			return
		}
		if n.Type == network.VLAN {
			out.VLAN = n.Segment
		}
	case network.VXLAN:
		v := p.at.VXLAN
		out.VNI, out.Physical, out.Local, out.Peers, out.Group, out.UDPPort = n.Segment, v.Interface, v.Local, v.Peers, v.Group, v.UDPPort
	}
	p.out.Networks = append(p.out.Networks, out)
	p.trusted[n.ID] = senders{p.dhcpServers(n), p.advertisers(n)}
}

// untagged is the VLAN of a flat network in a VLAN-filtering bridge.
const untagged = 1

// bridge is a network's, with the VLAN in there, if it keeps them apart.
func (p *planner) bridge(n *Network) (name string, vlan uint16) {
	if !p.at.Filtering || n.Type != network.Flat && n.Type != network.VLAN {
		return network.BridgeName(n.ID), 0
	}
	vlan = untagged
	if n.Type == network.VLAN {
		vlan = uint16(n.Segment)
	}
	return network.FilteringName(p.at.Interfaces[n.Physical]), vlan
}

// port adds a guest's port, with its filter.
func (p *planner) port(port *Port) error {
	on := p.networks[port.NetworkID]
	switch {
	case on == nil:
		return fmt.Errorf("network %s is not known", port.NetworkID)
	case !p.here[on.ID]:
		return fmt.Errorf("network %s is not on this host", on.ID)
	}
	mac, err := net.ParseMAC(port.MAC)
	if err != nil {
		return err
	}
	link := network.Port{
		ID: port.ID, Network: on.ID, MAC: mac, VNIC: network.VNIC(port.VNICType), VIF: network.VIF(port.VIFType), Queues: port.Queues,
	}
	if link.VIF == network.VIFMacvtap {
		if port.PortSecurity {
			return errors.New("port security: what goes through a macvtap cannot be filtered")
		}
		if !port.AdminUp {
			return nil // there is no bridge that it could be left out of
		}
		p.out.Ports = append(p.out.Ports, link)
		return nil
	}
	filter, err := p.filter(port, on, mac)
	if err != nil {
		return err
	}
	if !port.AdminUp { // it is there, and leads nowhere
		link.Network, link.MTU = "", on.MTU
		filter.Bridge, filter.Zone, filter.VLAN, filter.Unfiltered, filter.Groups = "", 0, 0, false, nil
	}
	p.out.Ports = append(p.out.Ports, link)
	p.out.Firewall.Ports = append(p.out.Firewall.Ports, filter)
	return nil
}

// filter is what a port's traffic has to pass.
func (p *planner) filter(port *Port, on *Network, mac net.HardwareAddr) (firewall.Port, error) {
	out := firewall.Port{
		ID: port.ID, Device: network.TapName(port.ID), Zone: on.Zone, MAC: mac, Unfiltered: !port.PortSecurity,
		DHCPServers: p.trusted[on.ID].dhcp, Routers: p.trusted[on.ID].routers,
	}
	out.Bridge, out.VLAN = p.bridge(on)
	for _, ip := range port.FixedIPs {
		out.FixedIPs = append(out.FixedIPs, ip.Address)
	}
	if out.Unfiltered {
		return out, nil
	}
	for _, pair := range port.AddressPairs {
		allowed := firewall.AddressPair{Prefix: pair.Prefix}
		if pair.MAC != "" {
			var err error
			if allowed.MAC, err = net.ParseMAC(pair.MAC); err != nil {
				return out, fmt.Errorf("allowed address pair: %w", err)
			}
		}
		out.AddressPairs = append(out.AddressPairs, allowed)
	}
	for _, id := range port.SecurityGroups {
		if p.groups[id] == nil {
			return out, fmt.Errorf("security group %s is not known", id)
		}
	}
	for _, id := range port.SecurityGroups {
		p.filtered[id] = true
	}
	out.Groups = port.SecurityGroups
	return out, nil
}

// dhcpServers are the addresses from which a network's guests are told theirs.
func (p *planner) dhcpServers(n *Network) (all []netip.Addr) {
	for _, port := range p.onNet[n.ID] {
		if port.DeviceOwner != OwnerDHCP {
			continue
		}
		for _, ip := range port.FixedIPs {
			all = append(all, ip.Address)
		}
		if mac, err := net.ParseMAC(port.MAC); err == nil {
			all = append(all, network.LinkLocal(mac)) // of which DHCPv6 comes
		}
	}
	return all
}

// advertisers are the link-local addresses from which router advertisements may come into a network: those of its routers, of its DHCP
// server, and of gateways that are nobody's of the cloud.
func (p *planner) advertisers(n *Network) (all []netip.Addr) {
	for _, port := range p.onNet[n.ID] {
		if port.DeviceOwner != OwnerInterface && port.DeviceOwner != OwnerDHCP {
			continue
		}
		if mac, err := net.ParseMAC(port.MAC); err == nil {
			all = append(all, network.LinkLocal(mac))
		}
	}
	for i := range p.Subnets {
		if s := &p.Subnets[i]; s.NetworkID == n.ID && s.Gateway.IsLinkLocalUnicast() && s.Gateway.Is6() && !slices.Contains(all, s.Gateway) {
			all = append(all, s.Gateway)
		}
	}
	return all
}

// firewallGroups adds the groups that ports are in, and those that their rules name, with the members that rules are about.
func (p *planner) firewallGroups() {
	remote := map[string]bool{}
	for id := range p.filtered {
		for _, r := range p.groups[id].Rules {
			remote[r.RemoteGroup] = true
		}
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		if !p.filtered[g.ID] && !remote[g.ID] {
			continue
		}
		out := firewall.Group{ID: g.ID, Stateless: g.Stateless}
		if remote[g.ID] {
			out.Members = p.members(g)
		}
		if p.filtered[g.ID] {
			for j := range g.Rules {
				if r := &g.Rules[j]; r.RemoteGroup == "" || p.groups[r.RemoteGroup] != nil {
					out.Rules = append(out.Rules, r.filter())
				}
			}
		}
		p.out.Firewall.Groups = append(p.out.Firewall.Groups, out)
	}
}

// members are the addresses that the ports of a group may use, on all hosts.
func (p *planner) members(g *SecurityGroup) (all []netip.Prefix) {
	for _, port := range p.inGroup[g.ID] {
		for _, ip := range port.FixedIPs {
			all = append(all, netip.PrefixFrom(ip.Address, ip.Address.BitLen()))
		}
		for _, pair := range port.AddressPairs {
			all = append(all, pair.Prefix)
		}
	}
	return all
}

// filter is the rule as the firewall knows it.
func (r *Rule) filter() firewall.Rule {
	out := firewall.Rule{ID: r.ID, Direction: r.Direction, Ethertype: r.Ethertype, Protocol: r.Protocol, Remote: r.Remote, RemoteGroup: r.RemoteGroup}
	if r.PortMin == nil {
		return out
	}
	if n, _ := r.number(); n == protocolICMP || n == protocolICMPv6 {
		kind := uint8(*r.PortMin)
		out.ICMPType = &kind
		if r.PortMax != nil {
			code := uint8(*r.PortMax)
			out.ICMPCode = &code
		}
		return out
	}
	out.Ports = &firewall.PortRange{Min: uint16(*r.PortMin), Max: uint16(*r.PortMax)}
	return out
}

// first is what device names are made of.
func first(id string) string {
	const part = 11
	return id[:min(len(id), part)]
}

// hostName is a port's name in its network's DNS: its own, or as Neutron makes it of an address.
func hostName(p *Port, taken map[string]bool) string {
	name := strings.ToLower(p.DNSName)
	if (name == "" || taken[name]) && len(p.FixedIPs) > 0 {
		name = "host-" + strings.NewReplacer(".", "-", ":", "-").Replace(p.FixedIPs[0].Address.String())
	}
	name = strings.TrimSuffix(name, "-") // of an IPv6 address that ends with ::
	if taken[name] {
		return ""
	}
	taken[name] = true
	return name
}
