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

// novaQuestion is what nova-network's iptables driver knows of the instances of a host.
type novaQuestion struct {
	Conf struct {
		AllowSameNet *bool `json:"allow_same_net_traffic"`
		IPv6         bool  `json:"use_ipv6"`
	} `json:"conf"`
	Instances      []novaInstance        `json:"instances"`
	SecurityGroups map[string][]novaRule `json:"security_groups"`
	Provider       []novaRule            `json:"provider_rules"`
	Steps          []json.RawMessage     `json:"steps"`

	filtered []int // IDs of the instances that have been spawned
}

type novaInstance struct {
	ID      int      `json:"id"`
	Deleted bool     `json:"deleted"`
	Groups  []string `json:"security_groups"`
	VIFs    []struct {
		ID      string       `json:"id"`
		MAC     string       `json:"mac"`
		Subnets []novaSubnet `json:"subnets"`
	} `json:"vifs"`
}

type novaSubnet struct {
	CIDR       string   `json:"cidr"`
	DHCPServer string   `json:"dhcp_server"`
	Gateway    string   `json:"gateway"`
	IPs        []string `json:"ips"`
	Version    int      `json:"version"`
}

type novaRule struct {
	CIDR     string  `json:"cidr"`
	From     *int    `json:"from_port"`
	To       *int    `json:"to_port"`
	Protocol *string `json:"protocol"`
	Grantee  string  `json:"grantee_group"`
}

type novaStep struct {
	Op       string     `json:"op"`
	Instance int        `json:"instance"`
	Group    string     `json:"group"`
	Rules    []novaRule `json:"rules"`
}

func novaFirewall(question []byte) ([]FirewallStep, error) {
	var q novaQuestion
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	var out []FirewallStep
	for i, raw := range q.Steps {
		var steps []novaStep // what is applied at once
		if err := json.Unmarshal(raw, &steps); err != nil {
			var single novaStep
			if err := json.Unmarshal(raw, &single); err != nil {
				return nil, fmt.Errorf("step %d: %w", i, err)
			}
			steps = []novaStep{single}
		}
		var names []string
		for _, s := range steps {
			if err := q.apply(s); err != nil {
				return nil, fmt.Errorf("step %d: %w", i, err)
			}
			names = append(names, s.Op)
		}
		state, err := q.state()
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
		out = append(out, FirewallStep{Step: strings.Join(names, " + "), state: state})
	}
	return out, nil
}

func (q *novaQuestion) apply(s novaStep) error {
	switch s.Op {
	case "spawn":
		if !slices.Contains(q.filtered, s.Instance) {
			q.filtered = append(q.filtered, s.Instance)
		}
	case "unfilter":
		q.filtered = slices.DeleteFunc(q.filtered, func(id int) bool { return id == s.Instance })
	case "rules":
		q.SecurityGroups[s.Group] = s.Rules
	case "provider":
		q.Provider = s.Rules
	case "defer_on", "defer_off": // what is between them is one step
	case "refresh_instance", "refresh_members", "refresh_rules", "refresh_provider": // the answer is always fresh
	case "init_host", "metadata": // address translation, which is not the firewall's
	default:
		return fmt.Errorf("op %q is not known", s.Op)
	}
	return nil
}

func (q *novaQuestion) state() (firewall.State, error) {
	s := firewall.State{Profile: firewall.ProfileNova, AsOpenStack: true}
	for _, n := range q.Instances {
		if !slices.Contains(q.filtered, n.ID) {
			continue
		}
		ports, err := q.ports(n)
		if err != nil {
			return s, fmt.Errorf("instance %d: %w", n.ID, err)
		}
		s.Ports = append(s.Ports, ports...)
	}
	for id, rules := range q.SecurityGroups {
		g := firewall.Group{ID: id}
		for i, r := range rules {
			if err := appendNovaRule(&g.Rules, r, id+"."+strconv.Itoa(i)); err != nil {
				return s, fmt.Errorf("security group %s: rule %d: %w", id, i, err)
			}
		}
		if err := q.members(&g); err != nil {
			return s, fmt.Errorf("security group %s: %w", id, err)
		}
		s.Groups = append(s.Groups, g)
	}
	for i, r := range q.Provider {
		if err := appendNovaRule(&s.Provider, r, "provider."+strconv.Itoa(i)); err != nil {
			return s, fmt.Errorf("provider rule %d: %w", i, err)
		}
	}
	return s, nil
}

// ports are the interfaces of an instance. Nova has one chain for all of them, so each lets in what any of its networks has.
func (q *novaQuestion) ports(n novaInstance) ([]firewall.Port, error) {
	var all firewall.Port
	for _, v := range n.VIFs {
		for _, net := range v.Subnets {
			if err := q.addNet(&all, net); err != nil {
				return nil, err
			}
		}
	}
	var out []firewall.Port
	for _, v := range n.VIFs {
		p := firewall.Port{ID: v.ID, Device: "tap" + v.ID[:min(11, len(v.ID))], Groups: n.Groups,
			DHCPServers: all.DHCPServers, Routers: all.Routers, SameNet: all.SameNet}
		var err error
		if p.MAC, err = net.ParseMAC(v.MAC); err != nil {
			return nil, fmt.Errorf("mac: %w", err)
		}
		for _, subnet := range v.Subnets {
			if subnet.Version == 6 && !q.Conf.IPv6 {
				continue
			}
			ips, err := addresses(subnet.IPs)
			if err != nil {
				return nil, fmt.Errorf("ips: %w", err)
			}
			p.FixedIPs = append(p.FixedIPs, ips...)
		}
		out = append(out, p)
	}
	return out, nil
}

func (q *novaQuestion) addNet(p *firewall.Port, n novaSubnet) error {
	if n.DHCPServer != "" {
		a, err := netip.ParseAddr(n.DHCPServer)
		if err != nil {
			return fmt.Errorf("dhcp_server: %w", err)
		}
		if !slices.Contains(p.DHCPServers, a) {
			p.DHCPServers = append(p.DHCPServers, a)
		}
	}
	if n.Version == 6 && n.Gateway != "" {
		a, err := netip.ParseAddr(n.Gateway)
		if err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
		p.Routers = append(p.Routers, a)
	}
	if q.Conf.AllowSameNet == nil || *q.Conf.AllowSameNet {
		c, err := netip.ParsePrefix(n.CIDR)
		if err != nil {
			return fmt.Errorf("cidr: %w", err)
		}
		p.SameNet = append(p.SameNet, c)
	}
	return nil
}

// members are the addresses of all instances of a group that are not deleted, on whatever host.
func (q *novaQuestion) members(g *firewall.Group) error {
	for _, n := range q.Instances {
		if n.Deleted || !slices.Contains(n.Groups, g.ID) {
			continue
		}
		for _, v := range n.VIFs {
			for _, subnet := range v.Subnets {
				ips, err := addresses(subnet.IPs)
				if err != nil {
					return fmt.Errorf("member: %w", err)
				}
				for _, ip := range ips {
					g.Members = append(g.Members, netip.PrefixFrom(ip, ip.BitLen()))
				}
			}
		}
	}
	return nil
}

// appendNovaRule adds a rule as nova-network's driver understood it: of an IPv6 rule for ICMP neither type nor code, and nothing of
// one that has neither CIDR nor group. A group is asked in both families.
func appendNovaRule(to *[]firewall.Rule, r novaRule, id string) error {
	out := firewall.Rule{ID: id, Direction: firewall.Ingress, Ethertype: firewall.IPv4, RemoteGroup: r.Grantee}
	if r.Protocol != nil {
		out.Protocol = strings.ToLower(*r.Protocol)
	}
	if r.CIDR == "" && r.Grantee == "" {
		return nil
	}
	var err error
	if out.Remote, err = prefixOf(r.CIDR); err != nil {
		return fmt.Errorf("cidr: %w", err)
	}
	if out.Remote.IsValid() && out.Remote.Addr().Is6() {
		out.Ethertype = firewall.IPv6
	}
	wild := func(n *int) bool { return n == nil || *n == -1 }
	switch {
	case out.Protocol == "icmp":
		if out.Ethertype == firewall.IPv4 && !wild(r.From) {
			if out.ICMPType, err = octet("from_port", r.From); err != nil {
				return err
			}
			if !wild(r.To) {
				out.ICMPCode, err = octet("to_port", r.To)
			}
		}
	case out.Protocol != "" && !wild(r.From):
		out.Ports, err = portRange("port", r.From, r.To)
	}
	if err != nil {
		return err
	}
	*to = append(*to, out)
	if r.Grantee != "" {
		out.Ethertype, out.ID = firewall.IPv6, id+".6"
		out.ICMPType, out.ICMPCode = nil, nil
		*to = append(*to, out)
	}
	return nil
}
