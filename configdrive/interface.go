package configdrive

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Interface is one of the server's network interfaces, as the network service has bound it.
type Interface struct {
	ID      string // the port's UUID
	Name    string // of the interface on the host; empty for one by its number
	Type    string // of the binding: bridge, ovs, tap...
	MAC     string
	MTU     int    // of the network; 0 for one that is not known
	Network string // its UUID
	// Subnets are those that it has addresses of, in the order of its addresses.
	Subnets  []Subnet
	Floating []netip.Addr // that lead to it

	// What the guest finds the device by: Nova tells of those that have a tag or a VLAN.
	Tag     string
	VLAN    int    // 0 for none
	Trusted bool   // a virtual function that may do more than others
	Bus     string // pci, usb...; empty for one that has no name in these documents
	Address string // on the bus; empty for one that is not known
}

// Subnet is a range of addresses with those that an interface has of it.
type Subnet struct {
	CIDR    netip.Prefix
	Gateway netip.Addr // the zero Addr for none
	DNS     []netip.Addr
	Routes  []Route // beside that to the gateway
	DHCP    bool    // guests ask for their addresses
	// AddressMode is ipv6_address_mode: slaac, dhcpv6-stateful, dhcpv6-stateless; empty for none.
	AddressMode string
	Addresses   []netip.Addr
}

// Route leads to other networks.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// networkData is OpenStack's network_data.json.
type networkData struct {
	Links    []linkData    `json:"links"`
	Networks []addressData `json:"networks"`
	Services []serviceData `json:"services"`
}

type linkData struct {
	ID   string `json:"id"`
	VIF  string `json:"vif_id"`
	Type string `json:"type"`
	MTU  *int   `json:"mtu"`
	MAC  string `json:"ethernet_mac_address"`
}

// addressData is a way for a guest to come by an address. Of one that it asks for, no more is told.
type addressData struct {
	ID       string         `json:"id"`
	Type     string         `json:"type"`
	Link     string         `json:"link"`
	Address  string         `json:"ip_address,omitempty"`
	Netmask  string         `json:"netmask,omitempty"`
	Routes   *[]routeData   `json:"routes,omitempty"`
	Network  string         `json:"network_id"`
	Services *[]serviceData `json:"services,omitempty"`
}

type routeData struct {
	Network string `json:"network"`
	Netmask string `json:"netmask"`
	Gateway string `json:"gateway"`
}

type serviceData struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

// networkData is what nova.virt.netutils.get_network_metadata makes of the same interfaces: of each those that have subnets, with the
// first subnet of IPv4 and the first of IPv6. Of no interfaces it is an empty document.
func (d Drive) networkData() any {
	if len(d.Interfaces) == 0 {
		return struct{}{}
	}
	data := networkData{Links: []linkData{}, Networks: []addressData{}, Services: []serviceData{}}
	for i := range d.Interfaces {
		if nic := &d.Interfaces[i]; len(nic.Subnets) > 0 {
			data.add(nic)
		}
	}
	return data
}

func (data *networkData) add(nic *Interface) {
	link := nic.link(len(data.Links))
	data.Links = append(data.Links, link)
	for _, subnet := range []*Subnet{nic.first(netip.Addr.Is4), nic.first(netip.Addr.Is6)} {
		if subnet == nil || len(subnet.Addresses) == 0 {
			continue
		}
		network := subnet.data()
		network.ID = fmt.Sprintf("network%d", len(data.Networks))
		network.Link, network.Network = link.ID, nic.Network
		data.Networks = append(data.Networks, network)
		for _, service := range subnet.services() {
			if !slices.Contains(data.Services, service) {
				data.Services = append(data.Services, service)
			}
		}
	}
}

// exposedTypes are the bindings that guests are told of (nova.network.model.LEGACY_EXPOSED_VIF_TYPES). All others are "phy".
var exposedTypes = []string{"bridge", "dvs", "hw_veb", "hyperv", "ovs", "tap", "vhostuser", "vif"}

func (nic *Interface) link(number int) linkData {
	link := linkData{ID: cmp.Or(nic.Name, fmt.Sprintf("interface%d", number)), VIF: nic.ID, Type: "phy", MAC: nic.MAC}
	if slices.Contains(exposedTypes, nic.Type) {
		link.Type = nic.Type
	}
	// A DHCP server tells it.
	if nic.MTU != 0 && !slices.ContainsFunc(nic.Subnets, func(s Subnet) bool { return s.DHCP }) {
		link.MTU = &nic.MTU
	}
	return link
}

// first is the first subnet of a family; nil for none.
func (nic *Interface) first(family func(netip.Addr) bool) *Subnet {
	i := slices.IndexFunc(nic.Subnets, func(s Subnet) bool { return family(s.CIDR.Addr()) })
	if i < 0 {
		return nil
	}
	return &nic.Subnets[i]
}

// data is how a guest comes by its first address of the subnet.
func (s *Subnet) data() addressData {
	family := "ipv4"
	if s.CIDR.Addr().Is6() {
		family = "ipv6"
	}
	switch {
	case s.AddressMode != "":
		family += "_" + s.AddressMode
	case s.DHCP:
		return addressData{Type: family + "_dhcp"}
	}
	routes, services := s.routes(), s.services()
	return addressData{Type: family, Address: s.Addresses[0].String(), Netmask: netmask(s.CIDR), Routes: &routes, Services: &services}
}

func (s *Subnet) routes() []routeData {
	routes := []routeData{}
	if s.Gateway.IsValid() {
		zero := netip.IPv4Unspecified()
		if s.Gateway.Is6() {
			zero = netip.IPv6Unspecified()
		}
		routes = append(routes, routeData{zero.String(), zero.String(), s.Gateway.String()})
	}
	for _, r := range s.Routes {
		routes = append(routes, routeData{r.To.Masked().Addr().String(), netmask(r.To), r.Via.String()})
	}
	return routes
}

func (s *Subnet) services() []serviceData {
	services := []serviceData{}
	for _, addr := range s.DNS {
		services = append(services, serviceData{"dns", addr.String()})
	}
	return services
}

// netmask is a prefix's length written as an address.
func netmask(p netip.Prefix) string {
	ones := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if p.Addr().Is6() {
		ones = netip.AddrFrom16([16]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})
	}
	mask, _ := ones.Prefix(p.Bits()) // of a valid prefix, always
	return mask.Addr().String()
}

// deviceData is an entry of devices in meta_data.json.
type deviceData struct {
	VLAN    int      `json:"vlan,omitempty"`
	Trusted *bool    `json:"vf_trusted,omitempty"`
	Type    string   `json:"type"`
	MAC     string   `json:"mac,omitempty"`
	Serial  string   `json:"serial,omitempty"`
	Bus     string   `json:"bus"`
	Address string   `json:"address"`
	Tags    []string `json:"tags,omitempty"`
}

// devices are the interfaces and the disks that a guest is told of as devices, in a version of the documents.
func (d Drive) devices(since func(string) bool) *[]deviceData {
	devices := []deviceData{}
	for i := range d.Interfaces {
		nic := &d.Interfaces[i]
		device := deviceData{Type: "nic", MAC: nic.MAC, Bus: cmp.Or(nic.Bus, "none"), Address: cmp.Or(nic.Address, "none")}
		if nic.Tag != "" {
			device.Tags = []string{nic.Tag}
		}
		if since(ocata) {
			device.VLAN = nic.VLAN
		}
		if since(rocky) {
			device.Trusted = &nic.Trusted
		}
		if nic.Tag != "" || nic.VLAN != 0 && since(ocata) {
			devices = append(devices, device)
		}
	}
	for _, v := range d.Volumes {
		if v.Tag != "" {
			devices = append(devices, deviceData{Type: "disk", Serial: v.ID, Bus: cmp.Or(v.Bus, "none"), Address: "none", Tags: []string{v.Tag}})
		}
	}
	return &devices
}

// localIPv4 is the first address; nil for none.
func (d Drive) localIPv4() *string {
	for i := range d.Interfaces {
		for _, s := range d.Interfaces[i].Subnets {
			for _, addr := range s.Addresses {
				if text := addr.String(); addr.Is4() {
					return &text
				}
			}
		}
	}
	return nil
}

// publicIPv4 is the first floating IP; empty for none.
func (d Drive) publicIPv4() string {
	for i := range d.Interfaces {
		for _, addr := range d.Interfaces[i].Floating {
			return addr.String()
		}
	}
	return ""
}
