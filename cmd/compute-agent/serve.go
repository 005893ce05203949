package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
)

func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the agent",
		Long: "Runs the agent until SIGTERM, SIGINT or SIGHUP: it then takes no more requests, lets operations under way\n" +
			"finish for stop_timeout seconds, leaves the rest to the next start, and ends. Guests run on. A second\n" +
			"signal ends it at once. SIGUSR1 writes a report of the running agent (see report_dir).\n\n" +
			"Exit codes: 0 ended as asked, 1 failed, 2 wrong command line or configuration, 3 the state directory\n" +
			"cannot be used (another agent has it, a newer version wrote it, it cannot be written), 4 ended by force.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(cmd)
			if err != nil {
				return err
			}
			limitMemory(c)
			return serve(cmd.Context(), c, newLogger(cmd.ErrOrStderr(), c))
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}

// limitMemory makes Go collect more often as the heap nears the limit, unless the operator has set Go's own
// variable.
func limitMemory(c *Config) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(c.MemoryLimit)
	}
}

// serve runs an agent and hands it the process's signals.
func serve(parent context.Context, c *Config, log *slog.Logger) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if !signal.Ignored(sig) { // as it is under nohup, and in the background of a shell
			signal.Notify(signals, sig)
		}
	}
	defer signal.Stop(signals)

	ctx, stop := context.WithCancel(parent)
	defer stop()
	r := &reporter{config: c, log: log, started: time.Now()}
	defer r.wait()
	ended := make(chan error, 1)
	go func() { ended <- runAgent(ctx, c, log, r) }()
	for {
		select {
		case err := <-ended:
			return err
		case sig := <-signals:
			switch {
			case sig == syscall.SIGUSR1:
				r.deliver(context.WithoutCancel(ctx))
			case ctx.Err() != nil:
				log.Warn("ending by force; what is under way is taken up by the next start", "signal", sig.String())
				return exitError{exitForced, nil}
			default:
				log.Info("stopping", "signal", sig.String(), "limit", c.StopTimeout.String())
				stop()
			}
		}
	}
}

// runAgent runs an agent until ctx ends or it cannot go on.
func runAgent(ctx context.Context, c *Config, log *slog.Logger, r *reporter) error {
	b := readBuild()
	log.Info("starting", "version", b.Version, "revision", b.Revision, "driver", c.Driver, "state_dir", c.StateDir)
	a, err := startAgent(ctx, c, log, r)
	if err != nil {
		if ctx.Err() != nil {
			log.Info("stopped before it was ready", "error", err)
			return nil
		}
		return ended(log, err)
	}
	log.Info("ready", "api", a.url, "metrics", a.metricsURL, "consoles", a.consoles.url, "took", time.Since(r.started).String())
	notify(log, daemon.SdNotifyReady+"\nSTATUS="+a.status())
	debug.FreeOSMemory() // the garbage of the start
	go a.feedWatchdog(ctx)

	var cause error
	select {
	case <-ctx.Done():
	case cause = <-a.failed:
	}
	notify(log, daemon.SdNotifyStopping+"\nSTATUS=Finishing what is under way")
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.StopTimeout)
	defer cancel()
	if err := errors.Join(cause, a.stop(limit)); err != nil {
		return ended(log, err)
	}
	log.Info("stopped")
	return nil
}

// ended logs why the agent cannot go on, and returns the exit code.
func ended(log *slog.Logger, err error) error {
	exit := exitError{exitFailed, err}
	errors.As(err, &exit)
	log.Error("ended", "error", err, "exit_code", exit.code)
	return exitError{exit.code, nil}
}

// notify tells systemd, if it started the agent.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd", "error", err)
	}
}

// feedWatchdog tells systemd that the agent lives, as long as the manager and the driver answer in
// time. That the hypervisor is away is an answer: restarting the agent would not bring it back.
func (a *agent) feedWatchdog(ctx context.Context) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		a.log.Warn("no watchdog", "error", err)
	}
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		if a.alive(ctx, interval/2) {
			notify(a.log, daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			a.log.Error("manager or driver does not answer: systemd is left to restart the agent", "within", (interval / 2).String())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// alive says whether the manager and the driver answer within a time, whatever they answer.
func (a *agent) alive(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, _ = a.manager.Node(ctx) // what they say is the metrics' business
	_, _ = a.driver.Host(ctx)
	return ctx.Err() == nil
}
