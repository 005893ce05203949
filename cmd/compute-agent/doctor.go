package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/user"
	"path/filepath"
	"strings"

	"compute-agent/internal/command"

	"github.com/jedib0t/go-pretty/v6/table"
	wrap "github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// status is what doctor thinks of one thing.
type status string

const (
	statusOK      status = "ok"
	statusWarning status = "warning" // works, but not as it should
	statusFailure status = "failure" // servers cannot run, or the agent cannot start
)

// verdict is the outcome of one check.
type verdict struct {
	Status status `json:"status"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"` // what to do about it
}

func ok(format string, args ...any) verdict {
	return verdict{Status: statusOK, Detail: fmt.Sprintf(format, args...)}
}

func warning(remedy, format string, args ...any) verdict {
	return verdict{statusWarning, fmt.Sprintf(format, args...), remedy}
}

func failure(remedy, format string, args ...any) verdict {
	return verdict{statusFailure, fmt.Sprintf(format, args...), remedy}
}

// finding is a verdict with the name of its check.
type finding struct {
	Name string `json:"name"`
	verdict
}

// patient is the host that doctor looks at, with the means of looking.
type patient struct {
	root   string // where the host's file system is; "/" but for tests and containers
	config *Config
	runner command.Runner

	hypervisor hypervisor
	openFiles  func() (uint64, error)        // limit of open files of a process
	clock      func() (synced bool, e error) // whether the kernel believes that its clock is right
	lookupUser func(name string) (*user.User, []string, error)
	made       func(context.Context) (links, namespaces []string, err error) // that bear an agent's mark
}

// path is where one of the host's absolute paths is.
func (p *patient) path(elem ...string) string {
	return filepath.Join(p.root, filepath.Join(elem...))
}

// checks are what doctor looks at, in the order in which it tells of it.
func (p *patient) checks() []struct {
	name string
	run  func(context.Context) verdict
} {
	return []struct {
		name string
		run  func(context.Context) verdict
	}{
		{"cpu virtualisation", p.checkCPU},
		{"kvm device", p.checkKVMDevice},
		{"libvirt connection", p.checkLibvirt},
		{"libvirt version", p.checkLibvirtVersion},
		{"qemu version", p.checkQEMUVersion},
		{"guest type", p.checkVirtType},
		{"pci devices", p.checkPCI},
		{"uefi firmware", p.checkUEFI},
		{"tpm emulator", p.checkTPM},
		{"virtlogd", p.checkVirtlogd},
		{"programs", p.checkPrograms},
		{"iptables", p.checkIPTables},
		{"state directory", p.checkStateDir},
		{"qemu access", p.checkQEMUAccess},
		{"free disk", p.checkDisk},
		{"leftover files", p.checkLeftovers},
		{"networks", p.checkNetworks},
		{"volumes", p.checkVolumes},
		{"configuration file", p.checkConfigFile},
		{"api address", p.checkAPIAddress},
		{"metrics address", p.checkMetricsAddress},
		{"consoles", p.checkConsoles},
		{"vnc tls", p.checkVNCTLS},
		{"memory", p.checkMemory},
		{"huge pages", p.checkHugePages},
		{"numa nodes", p.checkNUMA},
		{"cgroup controllers", p.checkCgroups},
		{"open files", p.checkOpenFiles},
		{"clock", p.checkClock},
	}
}

// examine runs all checks.
func (p *patient) examine(ctx context.Context) []finding {
	var out []finding
	for _, c := range p.checks() {
		out = append(out, finding{c.name, c.run(ctx)})
	}
	return out
}

func newDoctorCommand() *cobra.Command {
	var root string
	cmd := tells(&cobra.Command{
		Use:   "doctor",
		Short: "Say whether this host is fit, and what to do where it is not",
		Long: "Looks at the host as the agent will use it with the same configuration, and changes nothing.\n" +
			"Exits with 1 if a check fails; warnings do not count.",
		Args: cobra.NoArgs,
	}, func(ctx context.Context, cmd *cobra.Command, c *Config, _ []string, output string) error {
		p := newPatient(ctx, root, c)
		defer p.hypervisor.close()
		return report(cmd.OutOrStdout(), output, p.examine(ctx))
	})
	cmd.Flags().StringVar(&root, "root", "/", "`directory` at which the host's /proc, /sys, /dev and /run are found, for a\nlook out of a container")
	return cmd
}

func newPatient(ctx context.Context, root string, c *Config) *patient {
	p := &patient{
		root:       root,
		config:     c,
		runner:     command.Exec{},
		hypervisor: openHypervisor(ctx, c),
		openFiles:  openFileLimit,
		clock:      clockSynced,
		lookupUser: lookupUser,
	}
	p.made = p.madeNetworks
	return p
}

func openFileLimit() (uint64, error) {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return limit.Max, err
}

func clockSynced() (bool, error) {
	var t unix.Timex // all zero: asks, and changes nothing
	state, err := unix.Adjtimex(&t)
	return state != unix.TIME_ERROR, err
}

func lookupUser(name string) (*user.User, []string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, nil, err
	}
	groups, err := u.GroupIds()
	return u, groups, err
}

// report prints the findings. The error carries the exit code when something failed.
func report(w io.Writer, format string, findings []finding) error {
	failed := 0
	for _, f := range findings {
		if f.Status == statusFailure {
			failed++
		}
	}
	print := printTable
	if format == "json" {
		print = printJSON
	}
	if err := print(w, findings, failed == 0); err != nil {
		return exitError{exitFailed, err}
	}
	if failed > 0 {
		return exitError{exitFailed, nil}
	}
	return nil
}

func printJSON(w io.Writer, findings []finding, fit bool) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Fit    bool      `json:"fit"`
		Checks []finding `json:"checks"`
	}{fit, findings})
}

// wrapLines wraps at words and keeps the line ends that are there.
func wrapLines(s string, width int) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = wrap.WrapSoft(l, width)
	}
	return strings.Join(lines, "\n")
}

func printTable(w io.Writer, findings []finding, fit bool) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"check", "status", "detail"})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 3, WidthMax: 90, WidthMaxEnforcer: wrapLines}})
	for _, f := range findings {
		detail := f.Detail
		if f.Remedy != "" {
			detail += "\n-> " + f.Remedy
		}
		t.AppendRow(table.Row{f.Name, f.Status, detail})
	}
	verdict := "This host is fit."
	if !fit {
		verdict = "This host is NOT fit: see the failures."
	}
	_, err := fmt.Fprintf(w, "%s\n%s\n", strings.TrimRight(t.Render(), "\n"), verdict)
	return err
}
