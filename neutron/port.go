package neutron

import (
	"regexp"
	"slices"
	"strings"

	"compute-agent/network"
)

// VNICNormal is the vnic_type of a port that says none.
const VNICNormal = string(network.VNICNormal)

// IsGuestPort says whether a device owner is a server: Nova puts "compute:" before the availability zone.
func IsGuestPort(owner string) bool { return strings.HasPrefix(owner, "compute:") }

// IsServicePort says whether a device owner is the cloud itself, such as a router: such ports have no filter.
func IsServicePort(owner string) bool { return strings.HasPrefix(owner, "network:") }

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

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

// BindingOn is the VIF type with which a host gives a guest the port.
func (p *Port) BindingOn(n Network) (string, error) {
	switch network.VNIC(p.VNICType) {
	case "", network.VNICNormal:
		return string(network.VIFTap), nil
	case network.VNICMacvtap:
		if n.Type == network.Flat || n.Type == network.VLAN {
			return string(network.VIFMacvtap), nil
		}
		return "", failed("PortBindingError", Conflict, "binding:vnic_type", p.VNICType, "a macvtap needs a flat or vlan network, and %s is a %s one", n.ID, n.Type)
	}
	return "", failed("PortBindingError", Conflict, "binding:vnic_type", p.VNICType, "the host has no such interfaces")
}
