package neutron

import (
	"cmp"
	"slices"
	"strings"

	"compute-agent/internal/pattern"
	"compute-agent/network"
	"compute-agent/network/dhcp"
)

// VNICNormal is the vnic_type of a port that says none.
const VNICNormal = string(network.VNICNormal)

// IsGuestPort says whether a device owner is a server: Nova puts "compute:" before the availability zone.
func IsGuestPort(owner string) bool { return strings.HasPrefix(owner, "compute:") }

// IsServicePort says whether a device owner is the cloud itself, such as a router: such ports have no filter.
func IsServicePort(owner string) bool { return strings.HasPrefix(owner, "network:") }

var dnsLabel = pattern.New(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// IsDNSLabel says whether a name can be a host's in a DNS zone.
func IsDNSLabel(name string) bool { return dnsLabel.MatchString(name) }

// CheckGroups says whether a port can be in these groups at once.
func (p *Port) CheckGroups(groups []SecurityGroup) error {
	if len(groups) > 0 && !p.PortSecurity {
		return failed("PortSecurityAndIPRequiredForSecurityGroups", Invalid, "security_groups", groups[0].ID, "a port with port security off has none")
	}
	for i, g := range groups {
		if g.Stateless != groups[0].Stateless {
			return failed("SecurityGroupConflict", Conflict, "security_groups", g.ID, "group %s is not of its kind: all are stateful or all stateless", groups[0].ID)
		}
		if slices.ContainsFunc(groups[:i], func(o SecurityGroup) bool { return o.ID == g.ID }) {
			return invalid("security_groups", g.ID, "it is there twice")
		}
	}
	return nil
}

// CheckAddresses says whether the device that has the port may have its addresses.
func (p *Port) CheckAddresses(subnets []Subnet) error {
	for _, ip := range p.FixedIPs {
		i := slices.IndexFunc(subnets, func(s Subnet) bool { return s.ID == ip.SubnetID })
		if i < 0 {
			continue
		}
		if err := subnets[i].permits(ip.Address, p.DeviceOwner); err != nil {
			return err
		}
	}
	return nil
}

// Check says what is wrong with a port but for its groups and fixed IPs, and brings MACs into their canonical form.
func (p *Port) Check() (err error) {
	if err := checkWords(p.Name, p.Description, p.Tags); err != nil {
		return err
	}
	for field, value := range map[string]string{"device_id": p.DeviceID, "device_owner": p.DeviceOwner} {
		if err := checkText(field, value); err != nil {
			return err
		}
	}
	if p.MAC != "" {
		if p.MAC, err = CanonicalMAC("mac_address", p.MAC); err != nil {
			return err
		}
	}
	if p.DNSName != "" && !IsDNSLabel(strings.ToLower(p.DNSName)) {
		return invalid("dns_name", p.DNSName, "it must be one label of a DNS name: at most 63 letters, digits and dashes")
	}
	if len(p.VNICType) > 0 && !slices.Contains(vnicTypes, p.VNICType) {
		return invalid("binding:vnic_type", p.VNICType, "it must be one of %s", strings.Join(vnicTypes, ", "))
	}
	if err := p.checkPairs(); err != nil {
		return err
	}
	return p.checkOptions()
}

// vnicTypes are those of Neutron; which of them the host has is asked when a port is bound.
var vnicTypes = []string{"normal", "macvtap", "direct", "baremetal", "direct-physical", "virtio-forwarder", "smart-nic", "vdpa", "accelerator-direct",
	"accelerator-direct-physical", "remote-managed"}

func (p *Port) checkPairs() (err error) {
	switch {
	case len(p.AddressPairs) > maxPairs:
		return failed("AddressPairExhausted", Invalid, "allowed_address_pairs", "", "%d are more than %d", len(p.AddressPairs), maxPairs)
	case len(p.AddressPairs) > 0 && !p.PortSecurity:
		return failed("AddressPairAndPortSecurityRequired", Conflict, "allowed_address_pairs", "", "a port with port security off needs none")
	}
	pairs := slices.Clone(p.AddressPairs)
	for i := range pairs {
		pair := &pairs[i]
		if err := checkPrefix("allowed_address_pairs", pair.Prefix); err != nil {
			return err
		}
		if pair.MAC != "" {
			if pair.MAC, err = CanonicalMAC("allowed_address_pairs", pair.MAC); err != nil {
				return err
			}
		}
		if slices.Contains(pairs[:i], *pair) {
			return failed("DuplicateAddressPairInRequest", Invalid, "allowed_address_pairs", pair.Prefix.String(), "it is there twice")
		}
	}
	p.AddressPairs = pairs
	return nil
}

func (p *Port) checkOptions() error {
	if len(p.ExtraDHCP) > maxOptions {
		return invalid("extra_dhcp_opts", "", "%d are more than %d", len(p.ExtraDHCP), maxOptions)
	}
	for i, o := range p.ExtraDHCP {
		told := dhcp.Option(o)
		if err := told.Validate(); err != nil {
			return invalid("extra_dhcp_opts", o.Name, "%v", err)
		}
		if slices.ContainsFunc(p.ExtraDHCP[:i], func(other DHCPOption) bool { return other.Name == o.Name && other.IPv6 == o.IPv6 }) {
			return invalid("extra_dhcp_opts", o.Name, "it is there twice")
		}
	}
	return nil
}

// BindingOn is the VIF type with which a host gives a guest the port. others are the network's ports: macvtaps and a bridge cannot share
// an interface.
func (p *Port) BindingOn(n Network, others []Port) (string, error) {
	refuse := func(rule string, args ...any) (string, error) {
		return "", failed("PortBindingError", Conflict, "binding:vnic_type", p.VNICType, rule, args...)
	}
	vif := network.VIFTap
	switch network.VNIC(p.VNICType) {
	case "", network.VNICNormal:
	case network.VNICMacvtap:
		vif = network.VIFMacvtap
		switch {
		case n.Type != network.Flat && n.Type != network.VLAN:
			return refuse("a macvtap needs a flat or vlan network, and %s is a %s one", n.ID, n.Type)
		case p.PortSecurity:
			return refuse("what goes through a macvtap cannot be filtered: port security must be off")
		}
	default:
		return refuse("the host has no such interfaces")
	}
	for _, o := range others {
		bridged := IsServicePort(o.DeviceOwner) || network.VIF(o.VIFType) == network.VIFTap
		if vif == network.VIFMacvtap && bridged || vif == network.VIFTap && network.VIF(o.VIFType) == network.VIFMacvtap {
			return refuse("port %s of network %s is a %s, and macvtaps and a bridge cannot share an interface", o.ID, n.ID, cmp.Or(o.VIFType, "bridge's"))
		}
	}
	return string(vif), nil
}
