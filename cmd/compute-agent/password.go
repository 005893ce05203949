package main

import (
	"context"
	"fmt"
	"net"

	"compute-agent/identity"

	"github.com/spf13/cobra"
)

func newResetPasswordCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset-admin-password",
		Short: "Give the user admin a new password and write it to clouds.yaml",
		Long: "Gives the user admin a new random password, or the configured admin_password, writes it to clouds.yaml\n" +
			"in the state directory, and ends the admin's logins. The agent must be stopped; guests run on.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(cmd)
			if err != nil {
				return err
			}
			file, err := resetPassword(cmd.Context(), c)
			if err != nil {
				return exitError{exitState, err}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The new password is in %s.\n", file)
			return err
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}

// resetPassword returns the file that the new password is in.
func resetPassword(ctx context.Context, c *Config) (file string, err error) {
	db, err := openStore(c)
	if err != nil {
		return "", err
	}
	defer func() {
		if closeErr := db.Close(); err == nil {
			err = closeErr
		}
	}()
	address, err := net.ResolveTCPAddr("tcp", c.Listen)
	if err != nil {
		return "", err
	}
	a := access{c, c.publicURL(address)}
	id := identity.New(identity.Options{Store: db})
	admin, err := id.EnsureAdmin(ctx, a.write)
	if err != nil {
		return "", err
	}
	return a.path(), a.reset(ctx, id, admin, c.AdminPassword)
}
