package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"compute-agent/virt/libvirt"

	"github.com/spf13/cobra"
)

// version is set by the linker for a release: -ldflags '-X main.version=1.0.0'.
var version string

// build says what this binary was made from.
type build struct {
	Version  string // of the release, or of the module
	Revision string // of the source; empty when it was built outside a checkout
	Modified bool   // the checkout had changes that no revision holds
	Time     string // of the revision
	Go       string
}

func readBuild() build {
	b := build{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is a few lines, each with its end.
func (b build) String() string {
	out := fmt.Sprintf("%s %s\n", programName, b.Version)
	if b.Revision != "" {
		changed := ""
		if b.Modified {
			changed = " with local changes"
		}
		out += fmt.Sprintf("revision %s%s, %s\n", b.Revision, changed, b.Time)
	}
	return out + fmt.Sprintf("built with %s for %s/%s\n", b.Go, runtime.GOOS, runtime.GOARCH)
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of the agent and of the libvirt library",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			library, err := libvirt.LibraryVersion()
			if err != nil {
				return exitError{exitFailed, err}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%slibvirt library %s\n", readBuild(), dotted(library))
			return err
		},
	}
}
