package neutron

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"compute-agent/network"
	"compute-agent/network/dhcp"
	"compute-agent/network/firewall"
	"compute-agent/network/metadata"
	"compute-agent/network/router"
)

// What the names of namespaces and devices begin with, as Neutron's do.
const (
	dhcpPrefix, dhcpDevice          = "qdhcp-", "ns-"
	routerPrefix, inside, toOutside = "qrouter-", "qr-", "qg-"
)

// device is a port of the cloud's own as a device in a namespace.
func (p *planner) device(port *Port, prefix string) (network.Device, error) {
	mac, err := net.ParseMAC(port.MAC)
	if err != nil {
		return network.Device{}, err
	}
	d := network.Device{Port: port.ID, Network: port.NetworkID, Name: prefix + first(port.ID), MAC: mac}
	if on := p.networks[port.NetworkID]; on != nil {
		if _, vlan := p.bridge(on); vlan != 0 {
			p.out.Firewall.Devices = append(p.out.Firewall.Devices, firewall.Device{Name: network.TapName(port.ID), VLAN: vlan})
		}
	}
	for _, ip := range port.FixedIPs {
		s := p.subnets[ip.SubnetID]
		if s == nil {
			return d, fmt.Errorf("subnet %s is not known", ip.SubnetID)
		}
		d.Addresses = append(d.Addresses, netip.PrefixFrom(ip.Address, s.CIDR.Bits()))
	}
	return d, nil
}

// answer gives a device the addresses of the metadata service. Of IPv6 only one of a network can have it: two would each find out that it
// is another's already.
func (p *planner) answer(d *network.Device) {
	d.Addresses = append(d.Addresses, netip.PrefixFrom(metadata.Address4, 32))
	if n := p.networks[d.Network]; !p.local6[d.Network] && n.MTU >= minMTU6 {
		p.local6[d.Network] = true
		d.Addresses = append(d.Addresses, netip.PrefixFrom(metadata.Address6, 64))
	}
}

// askers adds the guests of a device's network to who may ask in a place.
func (p *planner) askers(place *metadata.Place, d *network.Device) {
	place.Devices = append(place.Devices, d.Name)
	for _, port := range p.onNet[d.Network] {
		mac, err := net.ParseMAC(port.MAC)
		if port.VIFType == "" || err != nil {
			continue
		}
		who := metadata.Port{ID: port.ID, Device: d.Name, MAC: mac}
		for _, ip := range port.FixedIPs {
			who.Addresses = append(who.Addresses, ip.Address)
		}
		place.Ports = append(place.Ports, who)
	}
}

// dhcp adds a network's namespace with its DHCP server and the metadata service.
func (p *planner) dhcp(n *Network) {
	if len(p.devices[n.ID]) == 0 || !p.here[n.ID] {
		return
	}
	port := p.devices[n.ID][0]
	d, err := p.device(port, dhcpDevice)
	if err != nil {
		p.try(port, err)
		return
	}
	p.answer(&d)
	name := dhcpPrefix + n.ID
	place := metadata.Place{Namespace: name}
	p.askers(&place, &d)
	p.out.Namespaces = append(p.out.Namespaces, network.Namespace{Name: name, Devices: []network.Device{d}})
	p.out.Metadata = append(p.out.Metadata, place)
	p.out.DHCP = append(p.out.DHCP, dhcp.Server{
		Network: n.ID, Namespace: name, Device: d.Name, Domain: strings.TrimSuffix(cmp.Or(n.DNSDomain, p.at.Domain), "."), MTU: n.MTU,
		Subnets: p.served(port), Hosts: p.hosts(n),
	})
}

// served are the subnets that a DHCP port has an address of.
func (p *planner) served(port *Port) (all []dhcp.Subnet) {
	for _, ip := range port.FixedIPs {
		s := p.subnets[ip.SubnetID]
		if s == nil || !s.DHCP {
			continue
		}
		out := dhcp.Subnet{ID: s.ID, CIDR: s.CIDR, Gateway: s.Gateway, Server: ip.Address, DNS: s.DNS, Addresses: s.leases()}
		for _, r := range s.Routes {
			out.Routes = append(out.Routes, dhcp.Route(r))
		}
		if s.RAMode != "" && !p.adviser[s.ID] && s.CIDR.Bits() == 64 {
			out.Advertise, out.SLAAC = true, s.RAMode != Stateful
		}
		all = append(all, out)
	}
	return all
}

// leases says whether DHCP gives addresses of the subnet: of IPv6 also where no mode is set, as Neutron does.
func (s *Subnet) leases() bool {
	return s.DHCP && (s.CIDR.Addr().Is4() || s.AddressMode == Stateful || s.AddressMode == "" && s.RAMode == "")
}

// hosts are the ports of a network that get their addresses by DHCP, those too that nothing of this cloud has.
func (p *planner) hosts(n *Network) (all []dhcp.Host) {
	names := map[string]bool{}
	for _, port := range p.onNet[n.ID] {
		mac, err := net.ParseMAC(port.MAC)
		if err != nil || IsServicePort(port.DeviceOwner) || !port.AdminUp {
			continue
		}
		h := dhcp.Host{Port: port.ID, MAC: mac, Name: hostName(port, names)}
		for _, ip := range port.FixedIPs {
			if s := p.subnets[ip.SubnetID]; s != nil && s.leases() {
				h.Addresses = append(h.Addresses, ip.Address)
			}
		}
		for _, o := range port.ExtraDHCP {
			h.Options = append(h.Options, dhcp.Option(o))
		}
		all = append(all, h)
	}
	return all
}

// router adds a router's namespace.
func (p *planner) router(r *Router) {
	if !r.AdminUp {
		return
	}
	name := routerPrefix + r.ID
	out := router.Router{ID: r.ID, Namespace: name}
	space := network.Namespace{Name: name, Forwarding: true}
	place := metadata.Place{Namespace: name}
	for _, port := range p.devices[r.ID] {
		if !p.here[port.NetworkID] {
			p.try(port, fmt.Errorf("network %s is not on this host", port.NetworkID))
			continue
		}
		if port.DeviceOwner == OwnerGateway {
			d, err := p.device(port, toOutside)
			if err != nil {
				p.try(port, err)
				continue
			}
			p.outside(r, port, &out, &d)
			space.Devices = append(space.Devices, d)
			continue
		}
		d, err := p.device(port, inside)
		if err != nil {
			p.try(port, err)
			continue
		}
		out.Inside = append(out.Inside, p.insideOf(port, d.Name))
		p.answer(&d)
		p.askers(&place, &d)
		space.Devices = append(space.Devices, d)
	}
	for _, route := range r.Routes {
		p.route(&space, r, route)
	}
	if out.Outside != "" {
		out.FloatingIPs = p.floating(r)
	}
	p.out.Namespaces = append(p.out.Namespaces, space)
	p.out.Routers = append(p.out.Routers, out)
	if len(place.Devices) > 0 {
		p.out.Metadata = append(p.out.Metadata, place)
	}
}

// outside is the device to the external network: with the default routes, and ways to the network's other subnets, of which floating
// IPs may be.
func (p *planner) outside(r *Router, port *Port, out *router.Router, d *network.Device) {
	out.Outside = d.Name
	own := map[string]bool{}
	for _, ip := range port.FixedIPs {
		s := p.subnets[ip.SubnetID]
		own[s.ID] = true
		if r.SNAT && ip.Address.Is4() && !out.SNAT.IsValid() {
			out.SNAT = ip.Address
		}
		to := anywhere(ip.Address)
		if s.Gateway.IsValid() && !slices.ContainsFunc(d.Routes, func(route network.Route) bool { return route.To == to }) {
			d.Routes = append(d.Routes, network.Route{To: to, Via: s.Gateway})
		}
	}
	for i := range p.Subnets {
		if s := &p.Subnets[i]; s.NetworkID == port.NetworkID && !own[s.ID] {
			d.Routes = append(d.Routes, network.Route{To: s.CIDR})
		}
	}
}

// anywhere is the destination of a default route in an address's family.
func anywhere(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// insideOf is what a router does by a device to a network of the cloud.
func (p *planner) insideOf(port *Port, device string) router.Inside {
	in := router.Inside{Device: device, MTU: p.networks[port.NetworkID].MTU}
	for _, ip := range port.FixedIPs {
		s := p.subnets[ip.SubnetID]
		in.Prefixes = append(in.Prefixes, s.CIDR)
		if s.RAMode == "" {
			continue
		}
		a := router.Advertisement{Prefix: s.CIDR, SLAAC: s.RAMode != Stateful, Managed: s.RAMode == Stateful, Other: s.RAMode != SLAAC, DNS: s.DNS}
		in.Advertise = append(in.Advertise, a)
	}
	return in
}

// route puts a static route of a router on the device by which its nexthop is reached.
func (p *planner) route(space *network.Namespace, r *Router, route Route) {
	for i := range space.Devices {
		d := &space.Devices[i]
		if slices.ContainsFunc(d.Addresses, func(a netip.Prefix) bool {
			return !a.IsSingleIP() && !a.Addr().IsLinkLocalUnicast() && a.Contains(route.Via)
		}) {
			// It is the user's, and overrides what the external network says.
			d.Routes = slices.DeleteFunc(d.Routes, func(o network.Route) bool { return o.To == route.To })
			d.Routes = append(d.Routes, network.Route{To: route.To, Via: route.Via})
			return
		}
	}
	p.errs = append(p.errs, fmt.Errorf("router %s: route to %s: nexthop %s is not connected", r.ID, route.To, route.Via))
}

// floating are the floating IPs that lead through a router.
func (p *planner) floating(r *Router) (all []router.FloatingIP) {
	for _, f := range p.FloatingIPs {
		if f.RouterID == r.ID && f.Fixed.IsValid() {
			all = append(all, router.FloatingIP{Address: f.Address, Fixed: f.Fixed})
		}
	}
	return all
}
