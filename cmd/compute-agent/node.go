package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"compute-agent/compute"
	"compute-agent/store"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

// newNodeCommand tells of the host as an OpenStack sees it.
func newNodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Tell of this host as an OpenStack sees it",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNodeShowCommand())
	return cmd
}

func newNodeShowCommand() *cobra.Command {
	return tells(&cobra.Command{
		Use:   "show",
		Short: "Print what the host has and what servers claim of it",
		Long: "Prints the node in two shapes: Nova's ComputeNode, and the resource provider of the placement service with its\n" +
			"inventories, usages and traits. Reads the database and asks the hypervisor, with the same configuration as the\n" +
			"agent; the agent need not run, and is not disturbed where it does.",
		Args: cobra.NoArgs,
	}, func(ctx context.Context, cmd *cobra.Command, c *Config, _ []string, output string) error {
		r, err := reportNode(ctx, c, cmd.ErrOrStderr())
		if err != nil {
			return exitError{exitFailed, err}
		}
		return printNode(cmd.OutOrStdout(), output, r)
	})
}

func reportNode(ctx context.Context, c *Config, log io.Writer) (compute.NodeReport, error) {
	limits, err := capacity(c)
	if err != nil {
		return compute.NodeReport{}, err
	}
	facts, err := gatherFacts(ctx, c, log, nil)
	if err != nil {
		return compute.NodeReport{}, err
	}
	return limits.Report(facts)
}

// gatherFacts reads the database and asks the hypervisor. also may read more of the database; it is not called on a host
// on which no agent has run, which has no servers.
func gatherFacts(ctx context.Context, c *Config, log io.Writer, also func(compute.Reader) error) (facts compute.NodeFacts, err error) {
	err = store.Peek(ctx, filepath.Join(c.StateDir, databaseFile), func(tx compute.Reader) error {
		if also == nil {
			return facts.Read(tx)
		}
		return errors.Join(facts.Read(tx), also(tx))
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return facts, err
	}
	id, err := os.ReadFile(filepath.Join(c.StateDir, "compute_id"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return facts, err
	}
	facts.ID = strings.TrimSpace(string(id))
	guests, err := guestOptions(c)
	if err != nil {
		return facts, err
	}
	facts.Options = guests.Options
	if facts.Storage, err = storageOf(c.StateDir); err != nil {
		return facts, err
	}
	driver, err := openDriver(ctx, c, newLogger(log, c))
	if err != nil {
		return facts, err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	if facts.Host, err = driver.Host(ctx); err != nil {
		return facts, err
	}
	if facts.Guests, err = driver.Guests(ctx); err != nil {
		return facts, err
	}
	return facts, facts.ReadDevices(ctx, driver)
}

// storageOf looks at the file system of the instances, or, before the first start, at the one that they will be on.
func storageOf(stateDir string) (compute.Storage, error) {
	for dir := filepath.Join(stateDir, instancesDir); ; dir = filepath.Dir(dir) {
		var st syscall.Statfs_t
		err := syscall.Statfs(dir, &st)
		switch {
		case err == nil:
			size := uint64(st.Bsize)
			return compute.Storage{TotalBytes: st.Blocks * size, FreeBytes: st.Bavail * size}, nil
		case !errors.Is(err, fs.ErrNotExist) || dir == "/":
			return compute.Storage{}, fmt.Errorf("look at the file system of %s: %w", dir, err)
		}
	}
}

func printNode(w io.Writer, output string, r compute.NodeReport) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	_, err := io.WriteString(w, nodeTable(r)+"\n"+inventoryTable(append([]compute.Provider{r.Provider}, r.DeviceProviders...))+"\n"+"Traits: "+strings.Join(r.Provider.Traits, " ")+"\n")
	return err
}

func nodeTable(r compute.NodeReport) string {
	n := r.ComputeNode
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"ComputeNode", "value"})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, WidthMax: 90, WidthMaxEnforcer: wrapLines}})
	topology := n.CPUInfo.Topology
	for _, row := range []table.Row{
		{"uuid", cmp.Or(n.UUID, "none: no agent has started here")},
		{"hypervisor", fmt.Sprintf("%s %s on %s", n.Hypervisor, dotted(n.Version), n.Hostname)},
		{"cpu_info", fmt.Sprintf("%s %s %s: %d cells, %d sockets of %d cores of %d threads", n.CPUInfo.Arch, n.CPUInfo.Vendor, n.CPUInfo.Model,
			topology.Cells, topology.Sockets, topology.Cores, topology.Threads)},
		{"vcpus", fmt.Sprintf("%d, %d used", n.VCPUs, n.VCPUsUsed)},
		{"memory_mb", fmt.Sprintf("%d, %d used", n.MemoryMiB, n.MemoryMiBUsed)},
		{"local_gb", fmt.Sprintf("%d, %d used, disk_available_least %d", n.DiskGiB, n.DiskGiBUsed, n.DiskAvailableLeast)},
		{"servers", fmt.Sprintf("%d, %d with work under way", n.RunningVMs, n.Workload)},
		{"supported_instances", supportedText(n.SupportedInstances)},
	} {
		t.AppendRow(row)
	}
	for _, line := range n.CellLines() {
		t.AppendRow(table.Row{"numa_topology", line})
	}
	for _, line := range n.DeviceLines() {
		t.AppendRow(table.Row{"pci_devices", line})
	}
	return t.Render()
}

func supportedText(list [][3]string) string {
	var kinds []string
	for _, k := range list {
		kinds = append(kinds, strings.Join(k[:], "/"))
	}
	return strings.Join(kinds, " ")
}

// inventoryTable has the node first, and then its devices.
func inventoryTable(providers []compute.Provider) string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"resource class", "total", "reserved", "allocation ratio", "used"})
	for at, p := range providers {
		for _, class := range slices.Sorted(maps.Keys(p.Inventories)) {
			i, name := p.Inventories[class], class
			if at > 0 {
				name += " of " + p.Name
			}
			t.AppendRow(table.Row{name, i.Total, i.Reserved, i.Ratio, p.Usages[class]})
		}
	}
	return t.Render()
}
