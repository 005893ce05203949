package main

import (
	"net/http"

	"github.com/spf13/cobra"
)

// newConsoleCommand is about the screens and serial ports of servers.
func newConsoleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Reach the screens and serial ports of servers",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConsoleAttachCommand(), newConsoleLogCommand(), newConsoleRevokeCommand(), newConsoleScreenshotCommand())
	return cmd
}

func newConsoleRevokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke SERVER",
		Short: "Make all console URLs of a server worthless, and end what was opened with them",
		Long: "Makes all URLs that were given out for a server's consoles worthless, and ends the connections that were opened with them.\n" +
			"SERVER is an ID or a name. Asks the running agent, with clouds.yaml in the state directory.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := configOf(cmd)
			if err != nil {
				return err
			}
			cl, err := openAPI(cmd.Context(), c)
			if err != nil {
				return exitError{exitFailed, err}
			}
			id, err := cl.server(cmd.Context(), args[0])
			if err == nil {
				err = cl.do(cmd.Context(), http.MethodDelete, "/servers/"+id+"/remote-consoles", nil, nil)
			}
			if err != nil {
				return exitError{exitFailed, err}
			}
			return nil
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}
