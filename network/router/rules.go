package router

import (
	"cmp"
	"net/netip"
	"slices"

	"compute-agent/network/firewall"
)

// Rules are what a router's namespace holds: tables nat (IPv4), filter and raw.
type Rules struct{ IPv4, IPv6 []firewall.Table }

const (
	sourceChain  = "cagent-source"  // of PREROUTING, table raw
	dnatChain    = "cagent-dnat"    // of PREROUTING, table nat
	snatChain    = "cagent-snat"    // of POSTROUTING, table nat
	forwardChain = "cagent-forward" // of FORWARD, table filter
)

// Generate makes the rules of a router; they are the same whatever the order of its Inside and FloatingIPs. The error is of Validate.
func Generate(r Router) (Rules, error) {
	if err := r.Validate(); err != nil {
		return Rules{}, err
	}
	r.FloatingIPs = slices.SortedFunc(slices.Values(r.FloatingIPs), func(a, b FloatingIP) int { return a.Address.Compare(b.Address) })
	return Rules{
		IPv4: []firewall.Table{source(), r.nat(), r.filter(firewall.IPv4)},
		IPv6: []firewall.Table{source(), r.filter(firewall.IPv6)},
	}, nil
}

// source drops what comes by a device by which its source is not reached: guests and neighbours with false addresses. The
// routing table tells, which knows what is behind static routes too.
func source() firewall.Table {
	return table("raw", chained{"PREROUTING", sourceChain, []string{`-m rpfilter --invert -m comment --comment "false source" -j DROP`}})
}

// nat leads floating IPs to where they belong, and gives what leaves an address of the outside. What goes from one inside network
// to another keeps its addresses, unless it was sent to a floating IP: its answer has to come back this way.
func (r *Router) nat() firewall.Table {
	if !r.SNAT.IsValid() && len(r.FloatingIPs) == 0 {
		return table("nat")
	}
	var in []string
	out := []string{"! -o " + r.Outside + " -m conntrack ! --ctstate DNAT -j RETURN"}
	for _, f := range r.FloatingIPs {
		in = append(in, "-d "+f.Address.String()+"/32 "+f.comment()+"-j DNAT --to-destination "+f.Fixed.String())
		out = append(out, "-s "+f.Fixed.String()+"/32 "+f.comment()+"-j SNAT --to-source "+f.Address.String())
	}
	gateway := "-j MASQUERADE --random-fully"
	if r.SNAT.IsValid() {
		gateway = "-j SNAT --to-source " + r.SNAT.String() + " --random-fully"
	}
	if len(in) > 0 {
		for _, p := range r.inside() {
			out = append(out, "-s "+p.String()+" ! -o "+r.Outside+` -m comment --comment "to a floating ip" `+gateway)
		}
	}
	if r.SNAT.IsValid() {
		out = append(out, "-o "+r.Outside+` -m comment --comment "no floating ip" `+gateway)
	}
	return table("nat", chained{"PREROUTING", dnatChain, in}, chained{"POSTROUTING", snatChain, out})
}

func (f FloatingIP) comment() string {
	return `-m comment --comment "floating ip ` + f.Address.String() + `" `
}

// inside are the IPv4 subnets of the cloud's networks, in order.
func (r *Router) inside() []netip.Prefix {
	var out []netip.Prefix
	for _, i := range r.Inside {
		for _, p := range i.Prefixes {
			if p.Addr().Is4() {
				out = append(out, p.Masked())
			}
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(out)
}

// filter lets in from outside, where addresses are translated, only what is for a floating IP. IPv6 is routed both ways.
func (r *Router) filter(e firewall.Ethertype) firewall.Table {
	rules := []string{"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-m conntrack --ctstate INVALID -j DROP"}
	if e == firewall.IPv4 && r.SNAT.IsValid() {
		from := "-i " + r.Outside
		rules = append(rules, from+" -m conntrack --ctstate DNAT -j ACCEPT", from+` -m comment --comment "no floating ip" -j DROP`)
	}
	return table("filter", chained{"FORWARD", forwardChain, rules})
}

// chained is a chain of ours with the built-in one that comes to it.
type chained struct {
	hook, name string
	rules      []string
}

func table(name string, chains ...chained) firewall.Table {
	t := firewall.Table{Name: name}
	for _, c := range chains {
		if len(c.rules) > 0 {
			t.Hooks = append(t.Hooks, firewall.Hook{Chain: c.hook, Rule: "-j " + c.name})
			t.Chains = append(t.Chains, firewall.Chain{Name: c.name, Rules: c.rules})
		}
	}
	return t
}
