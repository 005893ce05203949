package main

import (
	"encoding/json"
	"fmt"
	"io"

	"compute-agent/plan"

	"github.com/spf13/cobra"
)

func newPlanFirewallCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "firewall",
		Short: "What the firewall would load for ports and security groups, for iptables, ipset and nft",
		Long: "Reads one JSON object from standard input: ports and security groups as Neutron's iptables driver is given them (ports,\n" +
			"security_groups, extra_members, steps), or instances as nova-network's is (instances, security_groups, provider_rules,\n" +
			"conf, steps). Writes what would be loaded before the first step and after each: text for ipset restore, iptables-restore,\n" +
			"ip6tables-restore and nft -f, or JSON with the same lines.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output must be text or json, not %q", output)
			}
			question, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxQuestion))
			if err != nil {
				return exitError{exitFailed, err}
			}
			steps, err := plan.Firewall(question)
			if err != nil {
				return exitError{exitFailed, err}
			}
			return writeFirewall(cmd.OutOrStdout(), output, steps)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`format`: text or json")
	return cmd
}

func writeFirewall(w io.Writer, output string, steps []plan.FirewallStep) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(map[string]any{"steps": steps})
	}
	for _, s := range steps {
		if _, err := io.WriteString(w, s.Text()); err != nil {
			return err
		}
	}
	return nil
}
