package plan

import (
	"encoding/json"
	"fmt"
	"strings"

	"compute-agent/network/firewall"
)

// FirewallStep is what a host's firewall holds after a step of a question.
type FirewallStep struct {
	Step  string `json:"step"`
	state firewall.State
	rules firewall.RuleSet
}

// Firewall answers what the firewall would load for ports and security groups: for the state that the question begins with
// and after each of its steps. The question is what Neutron's iptables driver is given (ports, security_groups,
// extra_members, steps) or nova-network's (instances, security_groups, provider_rules, conf, steps), or an object that has it as
// "input".
func Firewall(question []byte) ([]FirewallStep, error) {
	states, err := firewallStates(question)
	if err != nil {
		return nil, err
	}
	for i := range states {
		if states[i].rules, err = firewall.Generate(states[i].state); err != nil {
			return nil, fmt.Errorf("step %d, %s: %w", i, states[i].Step, err)
		}
	}
	return states, nil
}

func firewallStates(question []byte) ([]FirewallStep, error) {
	var q struct {
		Input     json.RawMessage
		Instances json.RawMessage
	}
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	if q.Input != nil {
		return firewallStates(q.Input)
	}
	if q.Instances != nil {
		return novaFirewall(question)
	}
	return neutronFirewall(question)
}

// Text is the step for a person, and for ipset restore, iptables-restore, ip6tables-restore and nft -f, part by part.
func (s FirewallStep) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# step: %s\n", s.Step)
	for _, part := range []struct{ program, text string }{
		{"ipset restore", firewall.SetsText(s.rules.Sets)},
		{"iptables-restore", firewall.Text(s.rules.IPv4)},
		{"ip6tables-restore", firewall.Text(s.rules.IPv6)},
		{"nft -f", s.rules.Guard},
	} {
		if part.text != "" {
			fmt.Fprintf(&b, "# %s\n%s", part.program, part.text)
		}
	}
	return b.String()
}

// MarshalJSON has each program's text as a list of lines.
func (s FirewallStep) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"step":           s.Step,
		"ipset_save":     lines(firewall.SetsText(s.rules.Sets)),
		"iptables_save":  lines(firewall.Text(s.rules.IPv4)),
		"ip6tables_save": lines(firewall.Text(s.rules.IPv6)),
		"nft":            lines(s.rules.Guard),
	})
}

func lines(text string) []string {
	if text == "" {
		return []string{}
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
