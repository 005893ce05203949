package plan

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"compute-agent/network/firewall"
)

// neutronQuestion is what Neutron's agent knows of the ports of a host.
type neutronQuestion struct {
	Ports          []neutronPort            `json:"ports"`
	SecurityGroups map[string][]neutronRule `json:"security_groups"`
	// ExtraMembers are members of groups on other hosts: pairs of address and MAC.
	ExtraMembers map[string][][]string `json:"extra_members"`
	Steps        []neutronStep         `json:"steps"`
	// Strict leaves none of the holes that Neutron leaves.
	Strict bool `json:"strict"`
}

type neutronPort struct {
	ID           string   `json:"id"`
	Device       string   `json:"device"`
	Bridge       string   `json:"bridge"`
	Zone         uint16   `json:"zone"`
	MAC          string   `json:"mac_address"`
	FixedIPs     []string `json:"fixed_ips"`
	AddressPairs []struct {
		IP  string `json:"ip_address"`
		MAC string `json:"mac_address"`
	} `json:"allowed_address_pairs"`
	PortSecurity *bool    `json:"port_security_enabled"`
	Groups       []string `json:"security_groups"`
	DHCPServers  []string `json:"dhcp_servers"`
	Routers      []string `json:"routers"`
}

type neutronRule struct {
	ID             string  `json:"id"`
	Direction      string  `json:"direction"`
	Ethertype      string  `json:"ethertype"`
	Protocol       *string `json:"protocol"`
	Min            *int    `json:"port_range_min"`
	Max            *int    `json:"port_range_max"`
	SourceMin      *int    `json:"source_port_range_min"`
	SourceMax      *int    `json:"source_port_range_max"`
	CIDR           string  `json:"cidr"`
	RemoteIPPrefix string  `json:"remote_ip_prefix"` // as the API says it
	SourceIPPrefix string  `json:"source_ip_prefix"` // as the agent is told
	DestIPPrefix   string  `json:"dest_ip_prefix"`   // likewise
	RemoteGroup    string  `json:"remote_group_id"`
	Stateful       *bool   `json:"stateful"`
}

type neutronStep struct {
	Op      string        `json:"op"`
	Port    neutronPort   `json:"port"`
	Group   string        `json:"sg"`
	Rules   []neutronRule `json:"rules"`
	Members [][]string    `json:"members"`
}

func neutronFirewall(question []byte) ([]FirewallStep, error) {
	var q neutronQuestion
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	state, err := q.state()
	if err != nil {
		return nil, err
	}
	out := []FirewallStep{{Step: fmt.Sprintf("prepare %d port(s)", len(q.Ports)), state: state}}
	for i, step := range q.Steps {
		applied, err := q.apply(step)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
		if !applied {
			continue
		}
		if state, err = q.state(); err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
		out = append(out, FirewallStep{Step: step.Op + " " + step.Port.Device, state: state})
	}
	return out, nil
}

// apply changes what is known. Neutron's agent applies it with the next change of a port.
func (q *neutronQuestion) apply(s neutronStep) (applied bool, err error) {
	i := slices.IndexFunc(q.Ports, func(p neutronPort) bool { return p.Device == s.Port.Device })
	switch s.Op {
	case "rules":
		q.SecurityGroups[s.Group] = s.Rules
		return false, nil
	case "members":
		if q.ExtraMembers == nil {
			q.ExtraMembers = map[string][][]string{}
		}
		q.ExtraMembers[s.Group] = s.Members
		return false, nil
	case "prepare", "add", "update":
		if i < 0 {
			q.Ports = append(q.Ports, s.Port)
		} else {
			q.Ports[i] = s.Port
		}
	case "remove", "delete":
		if i >= 0 {
			q.Ports = slices.Delete(slices.Clone(q.Ports), i, i+1)
		}
	default:
		return false, fmt.Errorf("op %q is not known", s.Op)
	}
	return true, nil
}

func (q *neutronQuestion) state() (firewall.State, error) {
	s := firewall.State{AsOpenStack: !q.Strict}
	for i := range q.Ports {
		p, err := q.Ports[i].port()
		if err != nil {
			return s, err
		}
		s.Ports = append(s.Ports, p)
	}
	for id, rules := range q.SecurityGroups {
		g, err := q.group(id, rules)
		if err != nil {
			return s, fmt.Errorf("security group %s: %w", id, err)
		}
		s.Groups = append(s.Groups, g)
	}
	return s, nil
}

func (p *neutronPort) port() (out firewall.Port, err error) {
	out = firewall.Port{ID: p.ID, Device: p.Device, Bridge: p.Bridge, Zone: p.Zone, Groups: p.Groups}
	if out.ID == "" {
		out.ID = p.Device
	}
	out.Unfiltered = p.PortSecurity != nil && !*p.PortSecurity
	if out.MAC, err = net.ParseMAC(p.MAC); err != nil {
		return out, fmt.Errorf("port %s: mac_address: %w", out.ID, err)
	}
	if out.FixedIPs, err = addresses(p.FixedIPs); err != nil {
		return out, fmt.Errorf("port %s: fixed_ips: %w", out.ID, err)
	}
	if out.DHCPServers, err = addresses(p.DHCPServers); err != nil {
		return out, fmt.Errorf("port %s: dhcp_servers: %w", out.ID, err)
	}
	if out.Routers, err = addresses(p.Routers); err != nil {
		return out, fmt.Errorf("port %s: routers: %w", out.ID, err)
	}
	for _, a := range p.AddressPairs {
		pair := firewall.AddressPair{}
		if pair.Prefix, err = prefixOf(a.IP); err != nil {
			return out, fmt.Errorf("port %s: allowed_address_pairs: ip_address: %w", out.ID, err)
		}
		if a.MAC != "" {
			if pair.MAC, err = net.ParseMAC(a.MAC); err != nil {
				return out, fmt.Errorf("port %s: allowed_address_pairs: mac_address: %w", out.ID, err)
			}
		}
		out.AddressPairs = append(out.AddressPairs, pair)
	}
	return out, nil
}

func addresses(texts []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// prefixOf reads an address or a CIDR; empty is none.
func prefixOf(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// group is a group with its members: the ports of the host that are in it, and those that the question adds.
func (q *neutronQuestion) group(id string, rules []neutronRule) (firewall.Group, error) {
	g := firewall.Group{ID: id}
	for i := range rules {
		r, err := rules[i].rule()
		if err != nil {
			return g, fmt.Errorf("rule %d: %w", i, err)
		}
		if r.ID == "" {
			r.ID = id + "." + strconv.Itoa(i)
		}
		g.Stateless = g.Stateless || rules[i].Stateful != nil && !*rules[i].Stateful
		g.Rules = append(g.Rules, r)
	}
	var members []string
	for _, p := range q.Ports {
		if slices.Contains(p.Groups, id) {
			members = append(members, p.FixedIPs...)
			for _, a := range p.AddressPairs {
				members = append(members, a.IP)
			}
		}
	}
	for _, m := range q.ExtraMembers[id] {
		if len(m) > 0 {
			members = append(members, m[0])
		}
	}
	for _, m := range members {
		p, err := prefixOf(m)
		if err != nil {
			return g, fmt.Errorf("member: %w", err)
		}
		g.Members = append(g.Members, p)
	}
	return g, nil
}

func (r *neutronRule) rule() (out firewall.Rule, err error) {
	out = firewall.Rule{ID: r.ID, Direction: firewall.Direction(r.Direction), Ethertype: firewall.Ethertype(r.Ethertype), RemoteGroup: r.RemoteGroup}
	if r.Protocol != nil {
		out.Protocol = *r.Protocol
	}
	remote := r.CIDR
	for _, other := range []string{r.RemoteIPPrefix, r.SourceIPPrefix, r.DestIPPrefix} {
		if remote == "" {
			remote = other
		}
	}
	if out.Remote, err = prefixOf(remote); err != nil {
		return out, fmt.Errorf("cidr: %w", err)
	}
	switch out.Protocol {
	case "icmp", "icmpv6", "icmp6", "ipv6-icmp", "1", "58":
		if out.ICMPType, err = octet("port_range_min", r.Min); err != nil {
			return out, err
		}
		out.ICMPCode, err = octet("port_range_max", r.Max)
		return out, err
	}
	if out.Ports, err = portRange("port_range", r.Min, r.Max); err != nil {
		return out, err
	}
	out.SourcePorts, err = portRange("source_port_range", r.SourceMin, r.SourceMax)
	return out, err
}

func octet(field string, n *int) (*uint8, error) {
	if n == nil {
		return nil, nil
	}
	if *n < 0 || *n > 255 {
		return nil, fmt.Errorf("%s: %d is not from 0 to 255", field, *n)
	}
	small := uint8(*n)
	return &small, nil
}

func portRange(field string, low, high *int) (*firewall.PortRange, error) {
	if low == nil && high == nil {
		return nil, nil
	}
	if low == nil || high == nil {
		return nil, fmt.Errorf("%s: only one end is given", field)
	}
	for _, n := range []int{*low, *high} {
		if n < 0 || n > 65535 {
			return nil, fmt.Errorf("%s: %d is not from 0 to 65535", field, n)
		}
	}
	return &firewall.PortRange{Min: uint16(*low), Max: uint16(*high)}, nil
}
