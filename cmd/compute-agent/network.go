package main

import (
	"context"
	"fmt"
	"time"

	"compute-agent/network/fabric"

	"github.com/spf13/cobra"
)

// newNetworkCommand looks after what the agent made of the host's networks.
func newNetworkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "network",
		Short: "Look after what the agent made of the host's networks",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNetworkClearCommand())
	return cmd
}

func newNetworkClearCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clear",
		Short: "Take away all that the agent made of the host's networks",
		Long: "Takes away bridges, taps, VLANs, VXLANs, namespaces with their DHCP servers and routers, and the rules of ports and routers:\n" +
			"all that bears the agent's mark, and nothing else. Interfaces get their addresses and routes back. Guests that run lose their\n" +
			"networks. The agent must not run; its next start makes again what its records ask for.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(cmd)
			if err != nil {
				return err
			}
			if _, err := c.Network.site(); err != nil {
				return exitError{exitUsage, err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
			defer cancel()
			f, err := fabric.Open(fabricOptions(c, newLogger(cmd.ErrOrStderr(), c)))
			if err != nil {
				return exitError{exitFailed, err}
			}
			defer f.Close()
			if err := f.Apply(ctx, fabric.State{}); err != nil {
				return exitError{exitFailed, fmt.Errorf("something is left: %w", err)}
			}
			return nil
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}
