package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"compute-agent/compute"
	"compute-agent/virt"
	"compute-agent/virt/libvirt"
)

// reporter writes what an operator needs to see of an agent that behaves oddly: what OpenStack's
// services call a Guru Meditation Report. It takes no lock of the manager, so that it also works
// when something holds one for ever.
type reporter struct {
	config  *Config
	started time.Time
	log     *slog.Logger

	under   sync.WaitGroup // reports being written
	writing sync.Mutex     // one at a time

	mu     sync.Mutex
	store  compute.Store // nil until it is open
	driver virt.Driver   // nil until it is open
}

// watch gives the reporter what it asks.
func (r *reporter) watch(s compute.Store, d virt.Driver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store, r.driver = s, d
}

func (r *reporter) watched() (compute.Store, virt.Driver, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store == nil {
		return nil, nil, errors.New("the agent is still starting")
	}
	return r.store, r.driver, nil
}

// askLimit bounds each question that a report asks of the store and the hypervisor.
const askLimit = 3 * time.Second

// deliver writes a report to a new file in report_dir, or to standard error, and returns at once.
func (r *reporter) deliver(ctx context.Context) {
	r.under.Go(func() {
		r.writing.Lock()
		defer r.writing.Unlock()
		if r.config.ReportDir == "" {
			_ = r.write(ctx, os.Stderr) // nowhere left to tell it
			return
		}
		name, err := r.writeFile(ctx)
		if err != nil {
			r.log.ErrorContext(ctx, "the report goes to standard error", "error", err)
			_ = r.write(ctx, os.Stderr) // nowhere left to tell it
			return
		}
		r.log.InfoContext(ctx, "report written", "file", name)
		notify(r.log, "STATUS=Report in "+name)
	})
}

// wait returns when no report is being written.
func (r *reporter) wait() { r.under.Wait() }

func (r *reporter) writeFile(ctx context.Context) (name string, err error) {
	name = filepath.Join(r.config.ReportDir, "compute-agent-report-"+time.Now().UTC().Format("20060102T150405.000")+".txt")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	return name, errors.Join(r.write(ctx, f), f.Close())
}

// write writes the report. Sections that cannot be had say why. The text is put together first,
// and written at once, so that log lines do not fall into it.
func (r *reporter) write(ctx context.Context, w io.Writer) error {
	var b strings.Builder
	for _, section := range []struct {
		title string
		fill  func(context.Context, *strings.Builder) error
	}{
		{"Version", r.version},
		{"Operations under way", r.operations},
		{"Hypervisor", r.hypervisor},
		{"Memory", r.memory},
		{"Open files", r.files},
		{"Configuration", func(_ context.Context, w *strings.Builder) error { return r.config.printEffective(w) }},
		{"Goroutines", func(_ context.Context, w *strings.Builder) error { return pprof.Lookup("goroutine").WriteTo(w, 2) }},
	} {
		fmt.Fprintf(&b, "==== %s\n", section.title)
		if err := section.fill(ctx, &b); err != nil {
			fmt.Fprintf(&b, "cannot tell: %v\n", err)
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, "==== Report of compute-agent\n\n"+b.String()+"==== End of report\n")
	return err
}

func (r *reporter) version(_ context.Context, w *strings.Builder) error {
	w.WriteString(readBuild().String())
	fmt.Fprintf(w, "process %d, up %s\n", os.Getpid(), time.Since(r.started).Round(time.Second))
	return nil
}

func (r *reporter) operations(ctx context.Context, w *strings.Builder) error {
	store, _, err := r.watched()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var ops []compute.Operation
	err = store.View(ctx, func(rd compute.Reader) (err error) {
		ops, err = rd.Operations()
		return err
	})
	if err != nil {
		return err
	}
	for _, op := range ops {
		direction := "doing"
		if op.Undoing {
			direction = "undoing"
		}
		fmt.Fprintf(w, "%s of server %s, for %s, %s step %q, request %s\n", op.Kind, op.ServerID,
			time.Since(op.Started).Round(time.Millisecond), direction, op.Step, op.RequestID)
	}
	fmt.Fprintf(w, "%d in all\n", len(ops))
	return nil
}

func (r *reporter) hypervisor(ctx context.Context, w *strings.Builder) error {
	_, driver, err := r.watched()
	if err != nil {
		return err
	}
	if d, ok := driver.(*libvirt.Driver); ok {
		printConnection(w, d.Status())
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	begin := time.Now()
	h, err := driver.Host(ctx)
	took := time.Since(begin).Round(time.Microsecond)
	if err != nil {
		fmt.Fprintf(w, "does not answer: %v (after %s)\n", err, took)
		return nil
	}
	fmt.Fprintf(w, "answers in %s: %s %s, libvirt %s, guests are %s\n", took, h.Hypervisor,
		dotted(h.HypervisorVersion), dotted(h.LibraryVersion), h.VirtType)
	return nil
}

func printConnection(w *strings.Builder, s libvirt.Status) {
	state := "lost"
	if s.Connected {
		state = "up"
	}
	fmt.Fprintf(w, "connection to %s: %s since %s, lost %d times\n", s.URI, state, s.Since.UTC().Format(time.RFC3339), s.Lost)
	for _, c := range s.Calls {
		left := ""
		if c.Abandoned {
			left = ", its caller has left"
		}
		fmt.Fprintf(w, "call under way: %s %s, for %s%s\n", c.Op, c.Guest, time.Since(c.Since).Round(time.Millisecond), left)
	}
}

func (r *reporter) memory(_ context.Context, w *strings.Builder) error {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Fprintf(w, "Go heap %d KiB in use, %d KiB from the system, %d collections\n", m.HeapInuse>>10, m.Sys>>10, m.NumGC)
	rollup, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return err
	}
	_, lines, _ := strings.Cut(string(rollup), "\n") // the first is the address range
	w.WriteString(lines)
	return nil
}

func (r *reporter) files(_ context.Context, w *strings.Builder) error {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	count := 0
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // the one that listed the directory
		}
		count++
		fmt.Fprintf(w, "%s %q\n", e.Name(), target)
	}
	fmt.Fprintf(w, "%d in all\n", count)
	return nil
}
