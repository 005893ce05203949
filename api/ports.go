package api

import (
	"net"
	"net/netip"

	"compute-agent/neutron"
)

var portResource = &resource{
	name: "port", plural: "ports", path: "ports", class: "PortNotFound", missing: "Port %s could not be found.",
	attributes: withStandard(map[string]trait{
		"network_id": creatable, "admin_state_up": settable, "mac_address": settable, "fixed_ips": settable | compound,
		"device_id": settable, "device_owner": settable, "security_groups": settable, "port_security_enabled": settable,
		"allowed_address_pairs": settable | compound, "extra_dhcp_opts": settable | compound, "status": 0, "tags": creatable | compound,
		"binding:vnic_type": settable, "binding:host_id": settable | adminSets | adminSees,
		"binding:profile":  settable | adminSets | adminSees | compound,
		"binding:vif_type": adminSees, "binding:vif_details": adminSees | compound,
	}),
	required: []string{"network_id"},
	list:     (*records).portViews,
	show: func(r *records, id string) (view, error) {
		p, err := r.api.Backend.Port(r.ctx(), id)
		return viewOf(p, err, r.portView)
	},
	create:     (*records).createPort,
	update:     (*records).updatePort,
	remove:     func(r *records, id string) error { return r.api.Backend.DeletePort(r.ctx(), id) },
	visible:    func(r *records, v view) bool { return r.ofOwnNetwork(v) },
	owns:       func(r *records, v view) bool { return r.ofOwnNetwork(v) },
	restricted: (*records).restrictedOfPort,
	tag: func(r *records, id string, change func(*[]string)) error {
		_, err := r.api.Backend.UpdatePort(r.ctx(), id, func(p *neutron.Port) error { change(&p.Tags); return nil })
		return err
	},
}

func (r *records) portViews() ([]view, error) {
	all, err := r.api.Backend.Ports(r.ctx())
	return viewsOf(all, err, r.portView)
}

type (
	pairView struct {
		Address string `json:"ip_address"`
		MAC     string `json:"mac_address"`
	}
	dhcpOptionView struct {
		Name    string `json:"opt_name"`
		Value   string `json:"opt_value"`
		Version int    `json:"ip_version"`
	}
)

func (r *records) portView(p neutron.Port) view {
	return r.addBinding(p, standard{p.ID, p.ProjectID, p.Description, p.Tags, p.Revision, p.Created, p.Updated}.add(view{
		"name": p.Name, "network_id": p.NetworkID, "admin_state_up": p.AdminUp, "mac_address": p.MAC, "fixed_ips": fixedIPViews(p.FixedIPs),
		"device_id": p.DeviceID, "device_owner": p.DeviceOwner, "status": string(p.Status), "security_groups": orNone(p.SecurityGroups),
		"port_security_enabled": p.PortSecurity,
		"allowed_address_pairs": listOf(p.AddressPairs, func(pair neutron.AddressPair) pairView {
			v := pairView{pairAddress(pair.Prefix), pair.MAC}
			if v.MAC == "" {
				v.MAC = p.MAC
			}
			return v
		}),
		"extra_dhcp_opts": listOf(p.ExtraDHCP, func(o neutron.DHCPOption) dhcpOptionView {
			v := dhcpOptionView{o.Name, o.Value, 4}
			if o.IPv6 {
				v.Version = 6
			}
			return v
		}),
	}))
}

// pairAddress is a prefix as it was given: an address alone is without its length.
func pairAddress(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// addBinding tells where a port is bound: here, if it is.
func (r *records) addBinding(p neutron.Port, v view) view {
	v["binding:vnic_type"], v["binding:profile"] = p.VNICType, map[string]any{}
	if p.VNICType == "" {
		v["binding:vnic_type"] = "normal"
	}
	v["binding:vif_type"], v["binding:host_id"], v["binding:vif_details"] = "unbound", "", map[string]any{}
	if p.VIFType != "" {
		v["binding:vif_type"], v["binding:host_id"] = p.VIFType, r.api.Hostname
		v["binding:vif_details"] = map[string]any{"port_filter": p.PortSecurity, "connectivity": "l2"}
	}
	return v
}

// restrictedOfPort are the attributes that are for the network's owner: what could pose as another port, or filter less. A MAC address is
// changed by admins alone, and only they can make a port of the cloud itself: stricter than Neutron, which lets a network's owner.
func (r *records) restrictedOfPort(before view, in item) []string {
	v := before
	if v == nil {
		v = in.values
	}
	if r.caller.admin {
		return nil
	}
	var names []string
	if before != nil && in.has("mac_address") {
		names = append(names, "mac_address")
	}
	if owner, _ := in.values["device_owner"].(string); neutron.IsServicePort(owner) {
		names = append(names, "device_owner")
	}
	if r.ofOwnNetwork(v) {
		return names
	}
	return append(names, networkOwnersOnly(before, in)...)
}

// networkOwnersOnly are the attributes of a port on a shared network that its user cannot choose.
func networkOwnersOnly(before view, in item) []string {
	var names []string
	for _, name := range []string{"allowed_address_pairs", "port_security_enabled"} {
		if in.has(name) {
			names = append(names, name)
		}
	}
	if before == nil && in.says("mac_address") {
		names = append(names, "mac_address")
	}
	if before != nil && in.has("fixed_ips") {
		return append(names, "fixed_ips")
	}
	ips, _ := in.values["fixed_ips"].([]any)
	for _, ip := range ips {
		if mentions(ip, "ip_address") {
			return append(names, "fixed_ips:ip_address")
		}
	}
	return names
}

type portBody struct {
	Name           optional[string]        `json:"name"`
	Description    optional[string]        `json:"description"`
	ProjectID      string                  `json:"project_id"`
	NetworkID      string                  `json:"network_id"`
	AdminUp        optional[boolean]       `json:"admin_state_up"`
	MAC            optional[string]        `json:"mac_address"`
	FixedIPs       optional[[]fixedIPBody] `json:"fixed_ips"`
	DeviceID       optional[string]        `json:"device_id"`
	DeviceOwner    optional[string]        `json:"device_owner"`
	SecurityGroups optional[[]string]      `json:"security_groups"`
	PortSecurity   optional[boolean]       `json:"port_security_enabled"`
	Pairs          optional[[]struct {
		Address cidr   `json:"ip_address"`
		MAC     string `json:"mac_address"`
	}] `json:"allowed_address_pairs"`
	ExtraDHCP optional[[]struct {
		Name    string  `json:"opt_name"`
		Value   *string `json:"opt_value"` // null takes the option away
		Version integer `json:"ip_version"`
	}] `json:"extra_dhcp_opts"`
	VNICType optional[string] `json:"binding:vnic_type"`
	HostID   optional[string] `json:"binding:host_id"`
	Tags     []string         `json:"tags"`
}

// change applies what is given. Port security is left out: a request for a port has it apart.
func (b portBody) change(p *neutron.Port) {
	b.Name.set(&p.Name)
	b.Description.set(&p.Description)
	b.DeviceID.set(&p.DeviceID)
	b.DeviceOwner.set(&p.DeviceOwner)
	b.VNICType.set(&p.VNICType)
	setBool(b.AdminUp, &p.AdminUp)
	if b.MAC.value != "" {
		p.MAC = canonicalMAC(b.MAC.value)
	}
	if b.FixedIPs.given {
		p.FixedIPs = fixedIPsOf(b.FixedIPs.value)
	}
	if b.SecurityGroups.given {
		p.SecurityGroups = orNone(b.SecurityGroups.value)
	}
	if b.Pairs.given {
		p.AddressPairs = nil
		for _, pair := range b.Pairs.value {
			p.AddressPairs = append(p.AddressPairs, neutron.AddressPair{Prefix: pair.Address.Prefix, MAC: canonicalMAC(pair.MAC)})
		}
	}
	b.changeDHCP(p)
}

// changeDHCP adds, replaces and takes away options by their names, as Neutron does.
func (b portBody) changeDHCP(p *neutron.Port) {
	for _, given := range b.ExtraDHCP.value {
		var left []neutron.DHCPOption
		for _, o := range p.ExtraDHCP {
			if o.Name != given.Name || o.IPv6 != (given.Version == 6) {
				left = append(left, o)
			}
		}
		if given.Value != nil {
			left = append(left, neutron.DHCPOption{Name: given.Name, Value: *given.Value, IPv6: given.Version == 6})
		}
		p.ExtraDHCP = left
	}
}

// canonicalMAC is lower case, with colons.
func canonicalMAC(s string) string {
	mac, err := net.ParseMAC(s)
	if err != nil { // the schema has checked it
		return s
	}
	return mac.String()
}

func (r *records) createPort(in item) (view, error) {
	var b portBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	n := r.network(b.NetworkID)
	if !r.seesNetwork(n) {
		return nil, networkResource.none(b.NetworkID)
	}
	if !r.caller.mine(n.ProjectID) && !n.Shared {
		return nil, notAuthorized("rule:create_port")
	}
	if err := r.checkPortRefers(b); err != nil {
		return nil, err
	}
	req := neutron.PortRequest{Port: neutron.Port{NetworkID: b.NetworkID, ProjectID: b.ProjectID, AdminUp: true, Tags: b.Tags}}
	b.change(&req.Port)
	if b.PortSecurity.given {
		req.Secured = (*bool)(&b.PortSecurity.value)
	}
	p, err := r.api.Backend.CreatePort(r.ctx(), req)
	return viewOf(p, err, r.portView)
}

func (r *records) updatePort(id string, in item) (view, error) {
	var b portBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	if err := r.checkPortRefers(b); err != nil {
		return nil, err
	}
	p, err := r.api.Backend.UpdatePort(r.ctx(), id, func(p *neutron.Port) error {
		b.change(p)
		setBool(b.PortSecurity, &p.PortSecurity)
		return nil
	})
	return viewOf(p, err, r.portView)
}

// checkPortRefers refuses what a port of the caller may not refer to: groups of others, other hosts.
func (r *records) checkPortRefers(b portBody) error {
	if host := b.HostID.value; host != "" && host != r.api.Hostname {
		return invalidInput("binding:host_id '%s' is not this host, '%s'", shorten(host), r.api.Hostname)
	}
	for _, id := range b.SecurityGroups.value {
		if _, err := r.find(groupResource, id); err != nil {
			return err
		}
	}
	return nil
}
