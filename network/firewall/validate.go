package firewall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ErrInvalid is in the chain of every error about a State that makes no sense. The message names port or group, field
// and rule.
var ErrInvalid = errors.New("invalid firewall state")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

const (
	maxDevice = 15 // IFNAMSIZ without its zero
	maxID     = 64
)

// Validate says what is wrong with a State, the first thing that is. Whatever passes can be loaded: no text of it can
// be anything but what it is in a rule.
func (s *State) Validate() error {
	if s.Profile != ProfileNeutron && s.Profile != ProfileNova {
		return invalid("profile %.40q is not known", s.Profile)
	}
	groups := make(map[string]*Group, len(s.Groups))
	for i := range s.Groups {
		g := &s.Groups[i]
		if err := g.validate(); err != nil {
			return err
		}
		if groups[g.ID] != nil {
			return invalid("group %s is there twice", g.ID)
		}
		groups[g.ID] = g
	}
	for i := range s.Groups {
		for _, r := range s.Groups[i].Rules {
			if r.RemoteGroup != "" && groups[r.RemoteGroup] == nil {
				return invalid("group %s: rule %s: remote group: %.40q is not known", s.Groups[i].ID, r.ID, r.RemoteGroup)
			}
		}
	}
	for _, d := range s.Devices {
		if err := checkDevice(d.Name); err != nil {
			return invalid("device: %v", err)
		}
		if d.VLAN > 4094 {
			return invalid("device %s: vlan: %d: 1 to 4094 are wanted", d.Name, d.VLAN)
		}
	}
	for _, name := range s.Closed {
		if err := checkDevice(name); err != nil {
			return invalid("closed device: %v", err)
		}
	}
	for i := range s.Provider {
		if err := s.Provider[i].validate(); err != nil {
			return fmt.Errorf("provider: %w", err)
		}
	}
	return s.validatePorts(groups)
}

func (s *State) validatePorts(groups map[string]*Group) error {
	ids, devices := map[string]bool{}, map[string]string{}
	for i := range s.Ports {
		p := &s.Ports[i]
		if err := p.validate(groups); err != nil {
			return err
		}
		if ids[p.ID] {
			return invalid("port %s is there twice", p.ID)
		}
		if other, taken := devices[p.Device]; taken {
			return invalid("port %s: device: %s is port %s's", p.ID, p.Device, other)
		}
		ids[p.ID], devices[p.Device] = true, p.ID
	}
	return nil
}

func (p *Port) validate(groups map[string]*Group) error {
	if err := checkID(p.ID); err != nil {
		return invalid("port: id: %v", err)
	}
	if err := checkDevice(p.Device); err != nil {
		return invalid("port %s: device: %v", p.ID, err)
	}
	if p.Bridge != "" {
		if err := checkDevice(p.Bridge); err != nil {
			return invalid("port %s: bridge: %v", p.ID, err)
		}
	}
	if p.Zone != 0 && p.Bridge == "" {
		return invalid("port %s: zone: needs a bridge", p.ID)
	}
	if p.VLAN > 4094 || p.VLAN != 0 && p.Bridge == "" {
		return invalid("port %s: vlan: %d: 1 to 4094 in a bridge are wanted", p.ID, p.VLAN)
	}
	if err := checkMAC(p.MAC); err != nil {
		return invalid("port %s: mac: %v", p.ID, err)
	}
	for _, list := range []struct {
		field string
		ips   []netip.Addr
	}{{"fixed ip", p.FixedIPs}, {"dhcp server", p.DHCPServers}, {"router", p.Routers}} {
		for _, ip := range list.ips {
			if err := checkAddr(ip); err != nil {
				return invalid("port %s: %s: %v", p.ID, list.field, err)
			}
		}
	}
	for _, a := range p.AddressPairs {
		if err := checkPair(a); err != nil {
			return invalid("port %s: allowed address pair: %v", p.ID, err)
		}
	}
	for _, n := range p.SameNet {
		if err := checkPrefix(n); err != nil {
			return invalid("port %s: same net: %v", p.ID, err)
		}
	}
	return p.validateGroups(groups)
}

func (p *Port) validateGroups(groups map[string]*Group) error {
	for i, id := range p.Groups {
		g := groups[id]
		if g == nil {
			return invalid("port %s: security group: %.40q is not known", p.ID, id)
		}
		if slices.Contains(p.Groups[:i], id) {
			return invalid("port %s: security group: %s is there twice", p.ID, id)
		}
		if g.Stateless != groups[p.Groups[0]].Stateless {
			return invalid("port %s: security group: %s and %s are not both stateful or both stateless", p.ID, p.Groups[0], id)
		}
	}
	return nil
}

func checkPair(a AddressPair) error {
	if a.MAC != nil {
		if err := checkMAC(a.MAC); err != nil {
			return fmt.Errorf("mac: %w", err)
		}
	}
	return checkPrefix(a.Prefix)
}

func (g *Group) validate() error {
	if err := checkID(g.ID); err != nil {
		return invalid("group: id: %v", err)
	}
	for i := range g.Rules {
		if err := g.Rules[i].validate(); err != nil {
			return fmt.Errorf("group %s: %w", g.ID, err)
		}
	}
	for _, m := range g.Members {
		if err := checkPrefix(m); err != nil {
			return invalid("group %s: member: %v", g.ID, err)
		}
	}
	return nil
}

func (r *Rule) validate() error {
	if err := checkID(r.ID); err != nil {
		return invalid("rule: id: %v", err)
	}
	if r.Direction != Ingress && r.Direction != Egress {
		return invalid("rule %s: direction: %.40q is neither ingress nor egress", r.ID, r.Direction)
	}
	if r.Ethertype != IPv4 && r.Ethertype != IPv6 {
		return invalid("rule %s: ethertype: %.40q is neither IPv4 nor IPv6", r.ID, r.Ethertype)
	}
	protocol, err := protocolOf(r.Protocol, r.Ethertype)
	if err != nil {
		return invalid("rule %s: protocol: %v", r.ID, err)
	}
	if err := r.validatePorts(protocol); err != nil {
		return err
	}
	if !r.Remote.IsValid() && r.Remote != (netip.Prefix{}) {
		return invalid("rule %s: remote: no prefix", r.ID)
	}
	if r.Remote.IsValid() {
		if err := checkPrefix(r.Remote); err != nil {
			return invalid("rule %s: remote: %v", r.ID, err)
		}
		if !r.Ethertype.of(r.Remote.Addr()) {
			return invalid("rule %s: remote: %s is not %s", r.ID, r.Remote, r.Ethertype)
		}
		if r.RemoteGroup != "" {
			return invalid("rule %s: remote: a prefix and a group at once", r.ID)
		}
	}
	return nil
}

func (r *Rule) validatePorts(protocol uint8) error {
	for _, f := range []struct {
		field string
		ports *PortRange
	}{{"ports", r.Ports}, {"source ports", r.SourcePorts}} {
		switch {
		case f.ports == nil:
		case !hasPorts(protocol):
			return invalid("rule %s: %s: protocol %q has no ports", r.ID, f.field, r.Protocol)
		case f.ports.Min > f.ports.Max:
			return invalid("rule %s: %s: %d is more than %d", r.ID, f.field, f.ports.Min, f.ports.Max)
		}
	}
	switch {
	case r.ICMPCode != nil && r.ICMPType == nil:
		return invalid("rule %s: icmp code: without a type", r.ID)
	case r.ICMPType == nil:
	case !isICMP(protocol):
		return invalid("rule %s: icmp type: protocol %q has none", r.ID, r.Protocol)
	case *r.ICMPType == 255 && protocol == protoICMP:
		return invalid("rule %s: icmp type: 255 is any type to iptables", r.ID)
	}
	return nil
}

// checkID lets UUIDs pass and the names of tests and tools; nothing that means something in a rule or in a shell.
func checkID(id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("%.80q: 1 to %d characters are wanted", id, maxID)
	}
	return checkLetters(id)
}

func checkDevice(name string) error {
	if name == "" || len(name) > maxDevice {
		return fmt.Errorf("%.40q: 1 to %d characters are wanted", name, maxDevice)
	}
	if name[0] == '-' || name[0] == '.' {
		return fmt.Errorf("%q begins with %q", name, name[:1])
	}
	return checkLetters(name)
}

func checkLetters(s string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if bad := strings.Trim(s, letters); bad != "" {
		return fmt.Errorf("%.80q: only letters, digits, dots, dashes and underscores are wanted", s)
	}
	return nil
}

func checkMAC(mac net.HardwareAddr) error {
	switch {
	case len(mac) != 6:
		return fmt.Errorf("%q has not 6 bytes", mac.String())
	case mac[0]&1 != 0:
		return fmt.Errorf("%s is a group's address", mac)
	case mac.String() == "00:00:00:00:00:00":
		return fmt.Errorf("%s is nobody's", mac)
	}
	return nil
}

func checkAddr(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("no address")
	case a.Is4In6():
		return fmt.Errorf("%s is an IPv4 address in IPv6's form", a)
	case a.Zone() != "":
		return fmt.Errorf("%.60q has a zone", a.String())
	case a.IsUnspecified(), a.IsMulticast():
		return fmt.Errorf("%s is no address of a port", a)
	}
	return nil
}

func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("no prefix")
	case p.Addr().Is4In6():
		return fmt.Errorf("%s is an IPv4 prefix in IPv6's form", p)
	}
	return nil
}
