package neutron

import (
	"time"

	"compute-agent/network/firewall"
)

// DefaultRules are those of a project's default group: its members may reach everybody, and each other. Each gets an ID of newID.
func DefaultRules(groupID string, newID func() string, now time.Time) []Rule {
	rules := append(EgressRules(newID, now), EgressRules(newID, now)...)
	for i := range rules[2:] {
		rules[2+i].Direction, rules[2+i].RemoteGroup = firewall.Ingress, groupID
	}
	return rules
}

// EgressRules are those that every new group has: its members may reach everybody.
func EgressRules(newID func() string, now time.Time) []Rule {
	rules := make([]Rule, 0, 2)
	for _, family := range []firewall.Ethertype{firewall.IPv4, firewall.IPv6} {
		rules = append(rules, Rule{ID: newID(), Direction: firewall.Egress, Ethertype: family, Created: now, Updated: now})
	}
	return rules
}
