package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// tellPatience is how long a command that tells of the host may ask it.
const tellPatience = 2 * time.Minute

// tells finishes a command that tells of the host as a table or as JSON: run gets the agent's configuration, and
// output is one of the two.
func tells(cmd *cobra.Command, run func(ctx context.Context, cmd *cobra.Command, c *Config, args []string, output string) error) *cobra.Command {
	var output string
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if output != "table" && output != "json" {
			return fmt.Errorf("--output must be table or json, not %q", output)
		}
		c, err := configOf(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), tellPatience)
		defer cancel()
		return run(ctx, cmd, c, args, output)
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`format`: table or json")
	addConfigFlags(cmd.Flags())
	return cmd
}
