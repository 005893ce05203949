package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"compute-agent/compute"
	"compute-agent/plan"
)

func newPlanServerCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "server FILE",
		Short: "What making a server on this host would do: its place, claim, disks, network, domain and programs",
		Long: "Reads a server from FILE, in YAML or JSON (- for standard input), goes the whole way of making it, and prints what would\n" +
			"come of it. Reads the database and asks the hypervisor, with the same configuration as the agent; nothing is made and\n" +
			"nothing changed. Exits 1 when the server would be refused.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output must be text or json, not %q", output)
			}
			c, err := configOf(cmd)
			if err != nil {
				return err
			}
			file, err := readServerFile(cmd.InOrStdin(), args[0])
			if err != nil {
				return exitError{exitUsage, err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
			defer cancel()
			p, err := planServer(ctx, c, cmd.ErrOrStderr(), file)
			if err != nil {
				return exitError{exitFailed, err}
			}
			if err := printServerPlan(cmd.OutOrStdout(), output, p); err != nil {
				return err
			}
			if !p.Accepted {
				return exitError{exitFailed, errors.New("the server would be refused")}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`format`: text or json")
	addConfigFlags(cmd.Flags())
	return cmd
}

func readServerFile(stdin io.Reader, path string) (plan.ServerFile, error) {
	in := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return plan.ServerFile{}, err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	f, err := plan.ReadServerFile(in)
	if err != nil {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func planServer(ctx context.Context, c *Config, log io.Writer, file plan.ServerFile) (plan.ServerPlan, error) {
	limits, err := capacity(c)
	if err != nil {
		return plan.ServerPlan{}, err
	}
	var proposal compute.Proposal
	looked := false
	facts, err := gatherFacts(ctx, c, log, func(tx compute.Reader) (err error) {
		looked = true
		proposal, err = file.Proposal(tx)
		return err
	})
	if err != nil {
		return plan.ServerPlan{}, err
	}
	if !looked {
		if proposal, err = file.Proposal(nil); err != nil {
			return plan.ServerPlan{}, err
		}
	}
	if facts.Storage.DirectIO, err = readsDirectly(filepath.Join(c.StateDir, databaseFile)); err != nil {
		return plan.ServerPlan{}, err
	}
	guests, err := guestOptions(c)
	if err != nil {
		return plan.ServerPlan{}, exitError{exitUsage, err}
	}
	forecast, err := limits.Forecast(facts, compute.Outlook{
		Guests: guests, Version: readBuild().Version,
		Dir: filepath.Join(c.StateDir, instancesDir), ImageDir: filepath.Join(c.StateDir, imagesDir), Ephemeral: c.ephemeral(),
	}, proposal)
	if err != nil {
		return plan.ServerPlan{}, err
	}
	return plan.Server(forecast)
}

// readsDirectly tries whether a file on the file system of the instances can be opened around the page cache. The agent
// tries it with a new file; here nothing is made. Where no agent has run yet most file systems can.
func readsDirectly(path string) (bool, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	switch {
	case err == nil:
		return true, file.Close()
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case errors.Is(err, syscall.EINVAL):
		return false, nil
	}
	return false, err
}

func printServerPlan(w io.Writer, output string, p plan.ServerPlan) error {
	if output == "json" {
		return p.WriteJSON(w)
	}
	return p.WriteText(w)
}
