package main

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// mostAgain is how many failed tests look like bad luck; more are a defect.
const mostAgain = 3

// runner runs some tests of a package, and gives the output of `go test -json` to read.
type runner func(pkg string, tests []string, read func(io.Reader) error) error

// commandOf is the runner that adds the names to a `go test -json` command.
func commandOf(command []string) runner {
	return func(pkg string, tests []string, read func(io.Reader) error) error {
		args := slices.Concat(command[1:], []string{"-run", "^(" + strings.Join(tests, "|") + ")$", pkg})
		cmd := exec.Command(command[0], args...)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		failure := read(out)
		_ = cmd.Wait() // that tests failed is in the output
		return failure
	}
}

// again runs the failed tests once more, and has those pass that pass now.
func (r *report) again(run runner) {
	if r.broken || r.final || len(r.failed) == 0 || len(r.failed) > mostAgain {
		return
	}
	tests := map[string][]string{}
	for k := range r.failed {
		tests[k.pkg] = append(tests[k.pkg], k.test)
	}
	for pkg, names := range tests {
		slices.Sort(names)
		r.print("\nagain: %s %s\n", pkg, strings.Join(names, " "))
		second, _ := newReport(r.out, nil) // it has no arguments that could be wrong
		if err := run(pkg, names, second.read); err != nil || second.broken || second.final {
			r.print("again: it did not run to its end: %v\n", err)
			continue
		}
		r.take(second, pkg, names)
	}
}

// take puts the results of a second run in the place of the first one's.
func (r *report) take(second *report, pkg string, names []string) {
	for _, name := range names {
		top := key{pkg, name}
		if !second.ran(top) || second.failed[top] {
			continue
		}
		r.print("flaky: %s %s failed among all tests and passed by itself\n", strings.TrimPrefix(pkg, module), name)
		delete(r.failed, top)
		for k := range r.results {
			if k.top() == top {
				delete(r.results, k)
			}
		}
		for k, action := range second.results {
			if k.top() == top {
				r.results[k] = action
			}
		}
	}
}

func (r *report) ran(top key) bool {
	for k := range r.results {
		if k.top() == top {
			return true
		}
	}
	return false
}
