package neutron

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"compute-agent/network/firewall"
)

// Protocol numbers that rules are checked by.
const (
	protocolICMP   = 1
	protocolICMPv6 = 58
)

// protocols are the names that Neutron's API takes.
var protocols = map[string]int{
	"any": 0, "hopopt": 0, "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6-encap": 41, "ipv6-route": 43,
	"ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60,
	"ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132, "udplite": 136,
}

// onlyIPv6 are the protocols that IPv4 has not.
var onlyIPv6 = []int{41, 43, 44, protocolICMPv6, 59, 60}

// withPorts are the protocols whose packets have ports.
var withPorts = []int{6, 17, 33, 132, 136}

// Check says what is wrong with a group's own words.
func (g *SecurityGroup) Check() error { return checkWords(g.Name, g.Description, g.Tags) }

// Check says what is wrong with a rule, and brings it into the form that Neutron keeps: what is everything is not said.
func (r *Rule) Check() error {
	if err := checkText("description", r.Description); err != nil {
		return err
	}
	if r.Direction != firewall.Ingress && r.Direction != firewall.Egress {
		return invalid("direction", string(r.Direction), "it must be ingress or egress")
	}
	if r.Ethertype != firewall.IPv4 && r.Ethertype != firewall.IPv6 {
		return failed("SecurityGroupRuleInvalidEtherType", Invalid, "ethertype", string(r.Ethertype), "it must be IPv4 or IPv6")
	}
	protocol, err := r.checkProtocol()
	if err != nil {
		return err
	}
	if err := r.checkPorts(protocol); err != nil {
		return err
	}
	return r.checkRemote()
}

func (r *Rule) checkProtocol() (int, error) {
	r.Protocol = strings.ToLower(r.Protocol)
	n, err := r.number()
	if err != nil {
		return 0, err
	}
	if r.Ethertype == firewall.IPv4 && slices.Contains(onlyIPv6, n) {
		return 0, failed("SecurityGroupEthertypeConflictWithProtocol", Invalid, "protocol", r.Protocol, "it is not for ethertype IPv4")
	}
	if r.Ethertype == firewall.IPv6 {
		switch r.Protocol {
		case "icmp", "icmpv6":
			r.Protocol = "ipv6-icmp"
		case "1":
			r.Protocol = "58"
		}
		if n == protocolICMP {
			n = protocolICMPv6
		}
	}
	return n, nil
}

// number is the protocol's; 0 for all.
func (r *Rule) number() (int, error) {
	if r.Protocol == "" {
		return 0, nil
	}
	if n, known := protocols[r.Protocol]; known {
		return n, nil
	}
	n, err := strconv.ParseUint(r.Protocol, 10, 8)
	if err != nil {
		return 0, failed("SecurityGroupRuleInvalidProtocol", Invalid, "protocol", r.Protocol, "it must be a number from 0 to 255 or one of %s",
			strings.Join(slices.Sorted(maps.Keys(protocols)), ", "))
	}
	r.Protocol = strconv.FormatUint(n, 10)
	return int(n), nil
}

func (r *Rule) checkPorts(protocol int) error {
	if r.PortMin == nil && r.PortMax == nil {
		return nil
	}
	switch {
	case r.Protocol == "":
		return failed("SecurityGroupProtocolRequiredWithPorts", Invalid, "protocol", "", "it must be given with a range of ports")
	case slices.Contains(withPorts, protocol):
		return r.checkRange()
	case protocol == protocolICMP || protocol == protocolICMPv6:
		return r.checkICMP(protocol)
	}
	return failed("SecurityGroupInvalidProtocolForPort", Invalid, "protocol", r.Protocol, "it has no ports: only tcp, udp, dccp, sctp and udplite have")
}

func (r *Rule) checkRange() error {
	const most = 65535
	for field, port := range map[string]*int{"port_range_min": r.PortMin, "port_range_max": r.PortMax} {
		if port != nil && (*port < 1 || *port > most) {
			return failed("SecurityGroupInvalidPortValue", Invalid, field, number(*port), "a port is from 1 to %d", most)
		}
	}
	if r.PortMin == nil || r.PortMax == nil || *r.PortMin > *r.PortMax {
		return failed("SecurityGroupInvalidPortRange", Invalid, "port_range_min", "", "both ends of the range are needed, the lower one first")
	}
	if *r.PortMin == 1 && *r.PortMax == most {
		r.PortMin, r.PortMax = nil, nil
	}
	return nil
}

func (r *Rule) checkICMP(protocol int) error {
	for field, value := range map[string]*int{"port_range_min": r.PortMin, "port_range_max": r.PortMax} {
		if value != nil && (*value < 0 || *value > 255) {
			return failed("SecurityGroupInvalidIcmpValue", Invalid, field, number(*value), "an ICMP type or code is from 0 to 255")
		}
	}
	if r.PortMin == nil {
		return failed("SecurityGroupMissingIcmpType", Invalid, "port_range_max", number(*r.PortMax), "an ICMP code needs its type, port_range_min")
	}
	if *r.PortMin == 255 && protocol == protocolICMP {
		return failed("SecurityGroupInvalidIcmpValue", Invalid, "port_range_min", "255", "iptables takes this type for any type")
	}
	return nil
}

func (r *Rule) checkRemote() error {
	if r.RemoteGroup != "" && r.Remote != (netip.Prefix{}) {
		return failed("SecurityGroupMultipleRemoteEntites", Invalid, "remote_ip_prefix", r.Remote.String(), "only one of it and remote_group_id may be given")
	}
	if r.Remote == (netip.Prefix{}) {
		return nil
	}
	r.Remote = r.Remote.Masked()
	if err := checkPrefix("remote_ip_prefix", r.Remote); err != nil {
		return err
	}
	if r.Remote.Addr().Is4() != (r.Ethertype == firewall.IPv4) {
		return failed("SecurityGroupRuleParameterConflict", Invalid, "remote_ip_prefix", r.Remote.String(), "it is not of ethertype %s", r.Ethertype)
	}
	return nil
}

// same says whether two rules, both checked, let the same through.
func (r *Rule) same(o *Rule) bool {
	mine, _ := r.number()
	other, _ := o.number()
	return r.Direction == o.Direction && r.Ethertype == o.Ethertype && mine == other && equal(r.PortMin, o.PortMin) && equal(r.PortMax, o.PortMax) &&
		r.RemoteGroup == o.RemoteGroup && r.remote() == o.remote()
}

func equal(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }

// remote is the prefix; that of all addresses is none.
func (r *Rule) remote() netip.Prefix {
	if r.Remote.IsValid() && r.Remote.Bits() == 0 {
		return netip.Prefix{}
	}
	return r.Remote
}

// Add adds a rule, checked, to the group.
func (g *SecurityGroup) Add(r Rule) error {
	for i := range g.Rules {
		if g.Rules[i].same(&r) {
			return failed("SecurityGroupRuleExists", Conflict, "", "", "security group rule already exists: rule %s", g.Rules[i].ID)
		}
	}
	g.Rules = append(slices.Clone(g.Rules), r)
	return nil
}
