package main

import "github.com/spf13/cobra"

func newConfigCommand() *cobra.Command {
	var defaults bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in effect, with the origin of each value",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if defaults {
				return printDefaults(cmd.OutOrStdout())
			}
			c, err := configOf(cmd)
			if err != nil {
				return err
			}
			return c.printEffective(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&defaults, "defaults", false, "print the documented default file instead")
	addConfigFlags(cmd.Flags())
	return cmd
}
