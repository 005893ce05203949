package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"compute-agent/compute"
	"compute-agent/guest"
	"compute-agent/store"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

// newServerCommand tells of servers what the API does not.
func newServerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Tell of a server what the API does not",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newServerHardwareCommand())
	return cmd
}

func newServerHardwareCommand() *cobra.Command {
	return tells(&cobra.Command{
		Use:   "hardware SERVER",
		Short: "Print what a server's guest was made of, and what a hard reboot would make of it now",
		Long: "Prints the hardware as the guest's operating system sees it: what the guest was last made of, what it would be\n" +
			"made of now, and the differences, which a hard reboot would bring. SERVER is an ID or a name. Reads the database\n" +
			"and asks the hypervisor, with the same configuration as the agent; the agent need not run. Nothing is changed.",
		Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, cmd *cobra.Command, c *Config, args []string, output string) error {
		r, err := reportHardware(ctx, c, args[0], cmd.ErrOrStderr())
		if err != nil {
			return exitError{exitFailed, err}
		}
		return printHardware(cmd.OutOrStdout(), output, r)
	})
}

func reportHardware(ctx context.Context, c *Config, server string, log io.Writer) (r compute.HardwareReport, err error) {
	limits, err := capacity(c)
	if err != nil {
		return r, err
	}
	guests, err := guestOptions(c)
	if err != nil {
		return r, err
	}
	var facts compute.HardwareFacts
	err = store.Peek(ctx, filepath.Join(c.StateDir, databaseFile), func(tx compute.Reader) error { return facts.Read(tx, server) })
	if err != nil {
		return r, err
	}
	facts.Files = compute.FilesIn(filepath.Join(c.StateDir, instancesDir), filepath.Join(c.StateDir, imagesDir), facts.Server)
	if facts.Storage, err = storageOf(c.StateDir); err != nil {
		return r, err
	}
	driver, err := openDriver(ctx, c, newLogger(log, c))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	if facts.Host, err = driver.Host(ctx); err != nil {
		return r, err
	}
	return limits.ReportHardware(facts, guests), nil
}

func printHardware(w io.Writer, output string, r compute.HardwareReport) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	text := fmt.Sprintf("Server %s, %s\n", r.ServerID, strconv.Quote(r.Name)) + hardwareTable(r) + "\n"
	for _, key := range slices.Sorted(maps.Keys(r.Settled)) {
		text += "Settled: " + key + "=" + r.Settled[key] + "\n"
	}
	_, err := io.WriteString(w, text+hardwareVerdict(r))
	return err
}

func hardwareVerdict(r compute.HardwareReport) string {
	switch {
	case r.Problem != "":
		return "No guest can be made now: " + r.Problem + "\n"
	case r.Made == nil:
		return "It is not known what the guest was made of.\n"
	case len(r.Changes) == 0:
		return "A hard reboot changes nothing that the guest can see.\n"
	}
	text := "A hard reboot changes:\n"
	for _, c := range r.Changes {
		text += "  " + c.String() + "\n"
	}
	return text
}

// hardwareTable has a row for each part by its name, and beside what it was what it would be, where that differs.
func hardwareTable(r compute.HardwareReport) string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"part", "made of", "would be made of now"})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, WidthMax: 60, WidthMaxEnforcer: wrapLines}, {Number: 3, WidthMax: 60, WidthMaxEnforcer: wrapLines}})
	made, now := inWords(r.Made), inWords(r.Now)
	names := map[string]bool{}
	for _, p := range slices.Concat(r.Made, r.Now) {
		if names[p.Name] {
			continue
		}
		names[p.Name] = true
		is := now[p.Name]
		if is == made[p.Name] {
			is = "the same"
		}
		t.AppendRow(table.Row{p.Name, cmp.Or(made[p.Name], "-"), cmp.Or(is, "-")})
	}
	return t.Render()
}

// inWords is what parts have, by their names.
func inWords(parts []guest.Part) map[string]string {
	words := map[string]string{}
	for _, p := range parts {
		words[p.Name] = "default"
		if text, told := strings.CutPrefix(p.String(), p.Name+": "); told {
			words[p.Name] = text
		}
	}
	return words
}
