package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"compute-agent/compute"
	"compute-agent/console/consolelog"

	"github.com/spf13/cobra"
)

// logReading is what `console log` is told.
type logReading struct {
	server string
	raw    bool
	consolelog.Options
}

func newConsoleLogCommand() *cobra.Command {
	var l logReading
	cmd := &cobra.Command{
		Use:   "log SERVER",
		Short: "Print what a server wrote to its serial console, and follow it",
		Long: "Prints the console log of a server: what it wrote to its first serial port, as far as it is kept (virtlogd keeps four files of\n" +
			"2 MiB, see max_size and max_backups in virtlogd.conf). --offset counts bytes from the oldest that is kept. With -f it goes on with what is written from then on,\n" +
			"until the server is deleted. On a terminal, escape sequences and control characters of the guest are left out, unless --raw.\n" +
			"SERVER is an ID or a name. Asks the running agent, with clouds.yaml in the state directory, and reads the file on this host.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if l.Offset < 0 {
				return fmt.Errorf("--offset %d: must not be below 0", l.Offset)
			}
			c, err := configOf(cmd)
			if err != nil {
				return err
			}
			l.server = args[0]
			if err := l.run(cmd.Context(), c, cmd.OutOrStdout()); err != nil {
				return exitError{exitFailed, err}
			}
			return nil
		},
	}
	cmd.Flags().Int64Var(&l.Offset, "offset", 0, "first `byte` that is printed")
	cmd.Flags().IntVarP(&l.Lines, "lines", "n", -1, "`number` of lines, the last ones; -1 for all")
	cmd.Flags().BoolVarP(&l.Follow, "follow", "f", false, "go on with what the server writes, until it is deleted")
	cmd.Flags().BoolVar(&l.raw, "raw", false, "print also on a terminal what the server wrote as it is: only for a server that you trust with your terminal")
	cmd.MarkFlagsMutuallyExclusive("offset", "lines")
	addConfigFlags(cmd.Flags())
	return cmd
}

func (l *logReading) run(ctx context.Context, c *Config, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	defer stop()
	server, err := l.find(ctx, c)
	if err != nil {
		return err
	}
	l.Path = compute.FilesIn(filepath.Join(c.StateDir, instancesDir), "", server).ConsoleLog
	filter := consolelog.NewFilter(out)
	w := io.Writer(filter)
	if l.raw || !isTerminal(out) {
		w = out
	}
	err = consolelog.Copy(ctx, w, l.Options)
	if l.Follow && errors.Is(err, context.Canceled) { // who follows ends it so
		err = nil
	}
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w: the console logs are root's", err)
	}
	return errors.Join(err, filter.Flush())
}

// find asks for the server, whose ID is part of a path: it is the agent's, not what the user wrote.
func (l *logReading) find(ctx context.Context, c *Config) (compute.Server, error) {
	cl, err := openAPI(ctx, c)
	if err != nil {
		return compute.Server{}, err
	}
	id, err := cl.server(ctx, l.server)
	if err != nil {
		return compute.Server{}, err
	}
	var answer struct{ Server struct{ ID string } }
	err = cl.do(ctx, http.MethodGet, "/servers/"+id, nil, &answer)
	return compute.Server{ID: answer.Server.ID}, err
}
