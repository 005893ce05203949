package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// group is tests that share a restored machine: those of one package below test/lab, in files with
// the build tag lab.
type group struct {
	name    string // of the package
	profile string
	limit   time.Duration
	// attempts is more than one for tests that may bring the lab's machine down by no fault of theirs.
	// Only then, never for a test that failed, they run again in a fresh machine, and the output says so.
	attempts int
}

var groups = []group{
	{name: "host", profile: "seed", limit: 20 * time.Minute, attempts: 1},
	{name: "placement", profile: "seed", limit: 30 * time.Minute, attempts: 1},
	{name: "threads", profile: "ht", limit: 20 * time.Minute, attempts: 1},
	{name: "network", profile: "seed", limit: 15 * time.Minute, attempts: 1},
	{name: "storage", profile: "storage", limit: 75 * time.Minute, attempts: 1},
	{name: "nested", profile: "seed", limit: 10 * time.Minute, attempts: 2},
}

const module = "compute-agent"

func (g group) pkg() string { return "test/lab/" + g.name }

// fillShare puts into a directory what the machine needs: the agent, the tests, the image of a guest.
func fillShare(ctx context.Context, share string, chosen []group) error {
	if err := os.Mkdir(share, 0o755); err != nil {
		return err
	}
	say("building the agent and the tests")
	if err := command(ctx, nil, "go", "build", "-trimpath", "-o", share, "./cmd/compute-agent"); err != nil {
		return err
	}
	for _, g := range chosen {
		if err := command(ctx, nil, "go", "test", "-c", "-tags", "lab", "-o", filepath.Join(share, g.name+".test"), "./"+g.pkg()); err != nil {
			return err
		}
	}
	var image bytes.Buffer
	if err := command(ctx, &image, "test/guest/build.sh"); err != nil {
		return err
	}
	data, err := os.ReadFile(strings.TrimSpace(image.String()))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(share, "tiny.qcow2"), data, 0o644)
}

// brokenOff is how tests ended that neither passed nor failed: by a panic, a time limit or a signal, after which nothing more is in what they say.
func brokenOff(err error) error {
	const failed = 1
	var exit *ssh.ExitError
	if err == nil || errors.As(err, &exit) && exit.ExitStatus() == failed {
		return nil
	}
	return fmt.Errorf("the tests broke off: %w", err)
}

// command runs a program of the build.
func command(ctx context.Context, out io.Writer, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = out, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
	}
	return nil
}

// runGroups runs the groups one after the other and prints the results of their tests.
func runGroups(ctx context.Context, chosen []group, states map[string]state, work, share string) error {
	results := newSummary(ctx, chosen)
	if err := results.start(); err != nil {
		return err
	}
	var failed []error
	for _, g := range chosen {
		if err := g.repeat(ctx, states[g.profile], work, share, results.in); err != nil {
			failed = append(failed, fmt.Errorf("group %s: %w", g.name, err))
		}
	}
	return errors.Join(append(failed, results.finish())...)
}

// repeat runs the group until the machine lives through it, as often as the group may.
func (g group) repeat(ctx context.Context, s state, work, share string, results io.Writer) error {
	for attempt := 1; ; attempt++ {
		var output bytes.Buffer
		var to io.Writer = &output
		last := attempt >= g.attempts
		if last {
			to = results
		}
		err := g.run(ctx, s, work, share, to)
		if errors.Is(err, errLab) && !last {
			say("group %s: %v; once more, in a fresh machine", g.name, err)
			continue
		}
		if _, failed := output.WriteTo(results); failed != nil {
			return failed
		}
		return err
	}
}

// pattern chooses tests by their names while they are being written; empty for all.
func pattern() string { return os.Getenv("LAB_RUN") }

// quote makes one word of the lab's shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// run restores a machine, runs the group's tests in it and writes what they say to results, as JSON. A
// failed test is not an error here: it is in the results.
func (g group) run(ctx context.Context, s state, work, share string, results io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, g.limit+time.Minute, fmt.Errorf("not done after %v", g.limit))
	defer cancel()
	v, client, err := s.restore(ctx, work, share)
	if err != nil {
		return err
	}
	defer v.stop()
	say("machine %q is restored; running the tests of %s", g.profile, g.pkg())

	convert := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", module+"/"+g.pkg())
	convert.Stdout, convert.Stderr = results, os.Stderr
	in, err := convert.StdinPipe()
	if err != nil {
		return err
	}
	if err := convert.Start(); err != nil {
		return err
	}
	// That tests failed is in what they say; that they did not end is not.
	tests := v.execute(client, fmt.Sprintf("cd /tmp && exec /lab/%s.test -test.v=test2json -test.timeout=%v -test.run=%s 2>&1", g.name, g.limit, quote(pattern())), in)
	_ = in.Close()
	if err := convert.Wait(); err != nil {
		return fmt.Errorf("test2json: %w", err)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !errors.Is(tests, errLab):
		tests = errors.Join(brokenOff(tests), v.checkKernel(client))
	}
	if tests != nil {
		say("the end of the console of machine %q:\n%s", g.profile, v.console.end())
	}
	return tests
}
