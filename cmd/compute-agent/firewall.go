package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"compute-agent/compute"
	"compute-agent/internal/command"
	"compute-agent/network/firewall"
	"compute-agent/neutron"
	"compute-agent/plan"
	"compute-agent/store"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

func newPlanFirewallCommand() *cobra.Command {
	cmd := newPlanRulesCommand("firewall", "What the firewall would load for ports and security groups, for iptables, ipset and nft",
		func(question []byte) (any, string, error) {
			steps, err := plan.Firewall(question)
			var text strings.Builder
			for _, s := range steps {
				text.WriteString(s.Text())
			}
			return map[string]any{"steps": steps}, text.String(), err
		})
	cmd.Long = "Reads one JSON object from standard input: ports and security groups as Neutron's iptables driver is given them (ports,\n" +
		"security_groups, extra_members, steps), or instances as nova-network's is (instances, security_groups, provider_rules,\n" +
		"conf, steps). Writes what would be loaded before the first step and after each: text for ipset restore, iptables-restore,\n" +
		"ip6tables-restore and nft -f, or JSON with the same lines."
	return cmd
}

// newFirewallCommand tells what security groups do.
func newFirewallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "firewall",
		Short: "Tell what security groups let pass, and what they have",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFirewallTraceCommand(), newFirewallShowCommand())
	return cmd
}

func newFirewallTraceCommand() *cobra.Command {
	var port, packet, direction, file, output string
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Name the rule that accepts or drops a packet",
		Long: "Reads the ports and security groups of the agent, or a file as for plan firewall, and says which rule decides about a packet from or to a port, and\n" +
			"which rules match on its way. No packet is sent and no host is touched. The packet is\n\n" +
			"    PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT] [type N[/CODE]] [state NAME] [mac ADDRESS]\n\n" +
			"Its state is new, established, related, invalid or untracked.",
		Example: "  compute-agent firewall trace --port 5f0e --packet 'tcp 10.0.0.5:4444 > 10.0.0.9:22'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output must be text or json, not %q", output)
			}
			trace, err := traceFirewall(cmd, file, port, packet, direction)
			if err != nil {
				if _, told := errors.AsType[exitError](err); told {
					return err
				}
				return exitError{exitFailed, err}
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), trace)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), trace.Text())
			return err
		},
	}
	cmd.Flags().StringVar(&port, "port", "", "`ID` or device of the port")
	cmd.Flags().StringVar(&packet, "packet", "", "the `packet`")
	cmd.Flags().StringVar(&direction, "direction", "", "ingress or egress, if the packet has no address of the port")
	cmd.Flags().StringVar(&file, "file", "", "`file` with ports and security groups, - for standard input; else those of the agent are asked")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`format`: text or json")
	addConfigFlags(cmd.Flags())
	_ = cmd.MarkFlagRequired("port") // both are flags of this command
	_ = cmd.MarkFlagRequired("packet")
	return cmd
}

// traceFirewall asks a file, or without one the records of the agent, which may run.
func traceFirewall(cmd *cobra.Command, file, port, packet, direction string) (plan.FirewallTrace, error) {
	if file != "" {
		question, err := readQuestion(cmd.InOrStdin(), file)
		if err != nil {
			return plan.FirewallTrace{}, err
		}
		return plan.TraceFirewall(question, port, packet, direction)
	}
	c, err := configOf(cmd)
	if err != nil {
		return plan.FirewallTrace{}, err
	}
	site, err := c.Network.site()
	if err != nil {
		return plan.FirewallTrace{}, exitError{exitUsage, err}
	}
	var records neutron.Records
	err = store.Peek(cmd.Context(), filepath.Join(c.StateDir, databaseFile), func(tx compute.Reader) (err error) {
		records, err = compute.NetworkRecords(tx)
		return err
	})
	if err != nil {
		return plan.FirewallTrace{}, exitError{exitState, err}
	}
	want, _ := neutron.Plan(records, site) // what makes no sense is not in it, and then not known
	return plan.TraceState(want.Firewall, port, packet, direction)
}

func readQuestion(stdin io.Reader, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(stdin, maxQuestion))
	}
	return os.ReadFile(file)
}

func writeJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

func newFirewallShowCommand() *cobra.Command {
	var port, variant, output string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the rules that are loaded, with their counters",
		Long:  "Prints the agent's own rules as the kernel holds them, with the packets and bytes that they matched. Nothing is changed.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("--output must be table or json, not %q", output)
			}
			if !slices.Contains([]string{"", "nft", "legacy"}, variant) {
				return fmt.Errorf("--iptables must be nft or legacy, not %q", variant)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			all, err := firewall.New(command.Exec{}, firewall.Variant(variant), nil).Counters(ctx)
			if err != nil {
				return exitError{exitFailed, err}
			}
			counters := countersOf(all, port)
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), counters)
			}
			return printCounters(cmd.OutOrStdout(), counters)
		},
	}
	cmd.Flags().StringVar(&port, "port", "", "`ID` or device of a port: only its rules")
	cmd.Flags().StringVar(&variant, "iptables", "", "nft or legacy, if not what the host calls iptables")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`format`: table or json")
	return cmd
}

// countersOf are those of a port, by its ID in the comments or its device in the names of chains; empty is all.
func countersOf(all []firewall.Counter, port string) []firewall.Counter {
	out := []firewall.Counter{}
	for _, c := range all {
		if port == "" || strings.HasSuffix(c.Chain, "-"+port) || strings.Contains(c.Rule, `"port `+port+" ") {
			out = append(out, c)
		}
	}
	return out
}

func printCounters(w io.Writer, counters []firewall.Counter) error {
	t := table.NewWriter()
	t.AppendHeader(table.Row{"family", "table", "chain", "packets", "bytes", "rule"})
	for _, c := range counters {
		t.AppendRow(table.Row{c.Ethertype, c.Table, c.Chain, c.Packets, c.Bytes, c.Rule})
	}
	_, err := fmt.Fprintln(w, t.Render())
	return err
}
