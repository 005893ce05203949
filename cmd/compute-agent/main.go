// Compute-agent turns a Linux KVM host into a compute node.
//
// Exit codes: 0 done; 1 failed; 2 the command line or the configuration is wrong; 3 the state
// directory cannot be used (another agent has it, it is from a newer version, it cannot be written);
// 4 stopped by force before operations under way were finished or parked.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// The exit codes. The systemd unit does not restart after 2 and 3: a restart would not help.
const (
	exitFailed = 1
	exitUsage  = 2
	exitState  = 3
	exitForced = 4
)

const programName = "compute-agent"

func main() { os.Exit(run(context.Background(), os.Args[1:])) }

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit exitError
	if !errors.As(err, &exit) {
		exit = exitError{exitUsage, err} // what cobra itself returns is about the command line
	}
	if exit.err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", programName, exit.err)
	}
	return exit.code
}

// exitError is an error with the exit code that it leads to.
type exitError struct {
	code int
	err  error // nil when what there was to say has been said
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           programName,
		Short:         "Turns a Linux KVM host into a compute node",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServeCommand(), newConfigCommand(), newDoctorCommand(), newVersionCommand(),
		newResetPasswordCommand(), newPlanCommand(), newNodeCommand(), newFirewallCommand(), newNetworkCommand(),
		newServerCommand(), newConsoleCommand(), newVolumeCommand())
	return root
}

// configOf reads the configuration of a command that has the configuration's flags.
func configOf(cmd *cobra.Command) (*Config, error) {
	c, err := loadConfig(cmd.Flags(), os.Environ())
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	return c, nil
}
