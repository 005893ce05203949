// Lab runs the tests that need a machine with several NUMA nodes, huge pages and a full kernel: inside a
// virtual machine that it builds once, keeps in a booted state, and restores for each group of tests.
// `make lab-test` calls it.
//
//	lab              all groups
//	lab GROUP...     these
//
// With LAB_RUN=PATTERN in the environment only the tests of that pattern are run.
//
// It says why where it cannot run, and fails. Nothing of a run stays behind; the image and the saved
// states stay in .cache/lab, under the hash of what they were made from.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	// A child that is to die with this process dies with the thread that started it.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	if err := checkMachine(chosen); err != nil {
		return fmt.Errorf("cannot run here: %w", err)
	}
	lab, err := openCache()
	if err != nil {
		return err
	}
	defer lab.close()
	work, err := os.MkdirTemp(lab.dir, "run.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work) //nolint:errcheck // the next run removes it
	share := filepath.Join(work, "share")
	if err := fillShare(ctx, share, chosen); err != nil {
		return err
	}
	states, err := lab.states(ctx, chosen)
	if err != nil {
		return err
	}
	return runGroups(ctx, chosen, states, work, share)
}

// choose finds groups by their names.
func choose(names []string) ([]group, error) {
	if len(names) == 0 {
		return groups, nil
	}
	var chosen []group
	for _, g := range groups {
		if slices.Contains(names, g.name) {
			chosen = append(chosen, g)
		}
	}
	if len(chosen) != len(names) {
		var known []string
		for _, g := range groups {
			known = append(known, g.name)
		}
		return nil, fmt.Errorf("groups are %s; asked for %s", strings.Join(known, ", "), strings.Join(names, ", "))
	}
	return chosen, nil
}

var began = time.Now()

func say(format string, args ...any) {
	fmt.Printf("%6.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
}

// errLab marks a failure of the virtual machine itself, of which the tests in it are innocent.
var errLab = errors.New("the lab's machine failed")
