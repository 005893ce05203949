package main

import (
	"fmt"
	"io"

	"compute-agent/plan"

	"github.com/spf13/cobra"
)

func newPlanRouterCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "router",
		Short: "What a router's namespace would hold, for iptables",
		Long: "Reads one JSON object from standard input: a router with its id, the device to the external network (outside) and the\n" +
			"address that all leaves with (snat), its other devices (inside: device, prefixes) and its floating_ips (address, fixed).\n" +
			"Writes what would be loaded in its namespace: text for iptables-restore and ip6tables-restore, or JSON with the same lines.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output must be text or json, not %q", output)
			}
			question, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxQuestion))
			if err != nil {
				return exitError{exitFailed, err}
			}
			rules, err := plan.Router(question)
			if err != nil {
				return exitError{exitFailed, err}
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), rules)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), rules.Text())
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`format`: text or json")
	return cmd
}
