package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// newVolumeCommand is about what the API of block storage has no words for.
func newVolumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Look after LUNs that were handed over for volumes",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUsedLUNsCommand(), newCleanLUNCommand())
	return cmd
}

func newUsedLUNsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "used-luns",
		Short: "List the LUNs that hold what deleted volumes had",
		Long: "Lists the LUNs of volume_luns_file that hold what deleted volumes had, with the project that had them: only its volumes get them\n" +
			"before they are clean. Asks the running agent, with clouds.yaml in the state directory.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list struct {
				Used []struct {
					Backend, LUN string
					ProjectID    string `json:"project_id"`
					VolumeID     string `json:"volume_id"`
					Since        time.Time
				} `json:"used_luns"`
			}
			if err := askVolumes(cmd, http.MethodGet, "/used-luns", &list); err != nil {
				return err
			}
			out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			if len(list.Used) > 0 {
				_, _ = fmt.Fprintln(out, "BACKEND\tLUN\tPROJECT\tVOLUME\tSINCE") // Flush has the error
			}
			for _, u := range list.Used {
				_, _ = fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", u.Backend, u.LUN, u.ProjectID, u.VolumeID, u.Since.Format(time.RFC3339))
			}
			return out.Flush()
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}

func newCleanLUNCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clean-lun LUN",
		Short: "Say that a LUN holds nothing any more, so that any project's volumes may have it",
		Long: "Says that a LUN of volume_luns_file holds nothing any more: whoever looks after the array has wiped it. Nothing is written on it. From then\n" +
			"on volumes of any project may have it. Asks the running agent, with clouds.yaml in the state directory.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := url.Values{"backend": {fixedBackend}, "lun": {args[0]}}
			return askVolumes(cmd, http.MethodDelete, "/used-luns?"+names.Encode(), nil)
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}

// askVolumes makes a request of the running agent's block storage API.
func askVolumes(cmd *cobra.Command, method, path string, answer any) error {
	c, err := configOf(cmd)
	if err != nil {
		return err
	}
	cl, err := openAPI(cmd.Context(), c)
	if err == nil && cl.volume == "" {
		err = errors.New("the agent has no block storage API")
	}
	if err == nil {
		_, err = cl.request(cmd.Context(), method, cl.volume+path, nil, answer)
	}
	if err != nil {
		return exitError{exitFailed, err}
	}
	return nil
}
