package firewall

import (
	"context"
	"fmt"
	"strings"

	"compute-agent/internal/command"
)

// Counter is a rule of the agent as the kernel holds it, with what it has matched.
type Counter struct {
	Ethertype Ethertype `json:"ethertype"`
	Table     string    `json:"table"`
	Chain     string    `json:"chain"`
	Packets   uint64    `json:"packets"`
	Bytes     uint64    `json:"bytes"`
	Rule      string    `json:"rule"`
}

// Counters reads the agent's rules of this network namespace with their counters, in the order in which iptables prints them. Nothing
// is changed. Packets of a known connection count at the rule that lets all of them pass.
func (f *Firewall) Counters(ctx context.Context) ([]Counter, error) {
	var out []Counter
	for _, family := range []struct {
		program string
		e       Ethertype
	}{{"iptables", IPv4}, {"ip6tables", IPv6}} {
		text, err := f.run.Run(ctx, command.Cmd{Name: f.program(family.program, "save"), Args: []string{"-c"}, MaxOutput: maxSave})
		if err != nil {
			return nil, fmt.Errorf("firewall: %w", err)
		}
		table := ""
		for text := range strings.Lines(string(text)) {
			text = strings.TrimSpace(text)
			if strings.HasPrefix(text, "*") {
				table = text[1:]
			}
			if c, ok := counterOf(text); ok {
				c.Ethertype, c.Table = family.e, table
				out = append(out, c)
			}
		}
	}
	return out, nil
}

// counterOf reads [packets:bytes] -A CHAIN rule.
func counterOf(text string) (c Counter, ok bool) {
	if !strings.HasPrefix(text, "[") {
		return c, false
	}
	if _, err := fmt.Sscanf(text, "[%d:%d]", &c.Packets, &c.Bytes); err != nil {
		return c, false
	}
	_, rule, found := strings.Cut(text, "] -A "+own)
	if !found {
		return c, false
	}
	c.Chain, c.Rule, _ = strings.Cut(rule, " ")
	c.Chain = own + c.Chain
	return c, true
}
