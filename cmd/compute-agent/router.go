package main

import (
	"compute-agent/plan"

	"github.com/spf13/cobra"
)

func newPlanRouterCommand() *cobra.Command {
	cmd := newPlanRulesCommand("router", "What a router's namespace would hold, for iptables", func(question []byte) (any, string, error) {
		rules, err := plan.Router(question)
		if err != nil {
			return nil, "", err
		}
		return rules, rules.Text(), nil
	})
	cmd.Long = "Reads one JSON object from standard input: a router with its id, the device to the external network (outside) and the\n" +
		"address that all leaves with (snat), its other devices (inside: device, prefixes) and its floating_ips (address, fixed).\n" +
		"Writes what would be loaded in its namespace: text for iptables-restore and ip6tables-restore, or JSON with the same lines."
	return cmd
}
