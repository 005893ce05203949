package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"compute-agent/plan"
)

// newPlanCommand answers what the agent would decide, without touching a host.
func newPlanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Answer what the agent would decide: questions on standard input, answers on standard output",
		Long: "Reads questions from standard input, one JSON object a line, and writes one JSON object for each: what the\n" +
			"agent would decide about a host and a guest that the question describes. No host is touched.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPlanNUMACommand(), newPlanDomainCommand(), newPlanServerCommand(), newPlanFirewallCommand(), newPlanRouterCommand(),
		newPlanLinesCommand("host-topology", "Which NUMA cells a host offers, from libvirt's capabilities and Nova's options", plan.HostTopology),
		newPlanLinesCommand("claims", "What a host has in use after each of a sequence of claims, by Nova's rules", plan.Claims),
		newPlanLinesCommand("disks", "Where a guest's drives go, by Nova's rules", plan.Disks))
	return cmd
}

func newPlanLinesCommand(name, short string, answer func([]byte) ([]byte, error)) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return planLines(cmd, answer) },
	}
}

func planLines(cmd *cobra.Command, answer func([]byte) ([]byte, error)) error {
	if err := plan.Lines(cmd.OutOrStdout(), cmd.InOrStdin(), answer); err != nil {
		return exitError{exitFailed, err}
	}
	return nil
}

// newPlanRulesCommand answers one question with rules: as JSON, or as the text that the programs which load them take.
func newPlanRulesCommand(name, short string, answer func(question []byte) (value any, text string, err error)) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs}
	output := cmd.Flags().StringP("output", "o", "text", "`format`: text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output != "text" && *output != "json" {
			return fmt.Errorf("--output must be text or json, not %q", *output)
		}
		question, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxQuestion))
		if err != nil {
			return exitError{exitFailed, err}
		}
		value, text, err := answer(question)
		if err != nil {
			return exitError{exitFailed, err}
		}
		if *output == "json" {
			return writeJSON(cmd.OutOrStdout(), value)
		}
		_, err = io.WriteString(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}

func newPlanDomainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "domain",
		Short: "How libvirt is to define a guest: its XML, from what Nova's libvirt driver is given",
		Long: "Reads one JSON object from standard input: a guest as Nova's libvirt driver is given it (conf, host, flavor, image,\n" +
			"instance, network_info, block_device_mapping...), and what has been decided of it before. Writes the domain's XML, or,\n" +
			"for a guest that cannot be defined, {\"error\": {\"class\", \"message\"}} with the name of Nova's exception.",
		Args: cobra.NoArgs,
	}
	file := cmd.Flags().String("capabilities", "", "libvirt's capabilities of the host, a `file`; without them any machine type of QEMU's is good")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var capabilities []byte
		if *file != "" {
			var err error
			if capabilities, err = os.ReadFile(*file); err != nil {
				return exitError{exitUsage, err}
			}
		}
		question, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxQuestion))
		if err != nil {
			return exitError{exitFailed, err}
		}
		xml, err := plan.Domain(question, string(capabilities))
		if refused, is := errors.AsType[*plan.Refusal](err); is {
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), refused.JSON()) // the exit code says it too
		}
		if err != nil {
			return exitError{exitFailed, err}
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), xml)
		return err
	}
	return cmd
}

// maxQuestion bounds what is read of one question, in bytes.
const maxQuestion = 64 << 20

func newPlanNUMACommand() *cobra.Command {
	cmd := newPlanLinesCommand("numa", "Where a guest's vCPUs and memory go", plan.NUMA)
	explain := cmd.Flags().Bool("explain", false, "say in tables why a guest does not fit and what would let it in")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !*explain {
			return planLines(cmd, plan.NUMA)
		}
		return planLines(cmd, func(line []byte) ([]byte, error) {
			text, err := plan.ExplainNUMA(line)
			return []byte(text), err
		})
	}
	return cmd
}
