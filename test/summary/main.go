// Summary reads the output of `go test -json` on standard input and prints it for people: a line for
// each package, everything that a failed test said, every skipped test with its reason, and the
// counts of the suites that it is asked for.
//
//	go test -json ./... | summary 'contract suite, fake driver=virt/fake TestDriver'
//
// With -said 'PACKAGE PREFIX', any number of times, it prints what these tests said although they passed: counts. With -v it also prints the tests that passed and what they said. -all names the sum of all tests.
//
// A suite is the tests of one package whose name begins so. It fails when a test failed, when a package
// did not build, and when a suite has no tests: one that is gone must not look like one that passes.
//
// With -again 'go test -json -count=1', and at most three failed tests, it runs these once more by that command, each package by itself: what waits for real guests can come too
// late when all packages' tests share two cores. It says which tests needed it, and what they said at first, so that they are mended. A data race, a panic and a package
// that died have no second run.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

const module = "compute-agent/"

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of build output
	Elapsed                       float64
}

// key is a test, or a package when its test is empty.
type key struct{ pkg, test string }

// suite is a part of the tests with a name of its own.
type suite struct {
	title, pkg, prefix             string
	passed, failed, skipped, leafs int
}

// report gathers what is needed to print results as they come in.
type report struct {
	out     io.Writer
	suites  []*suite
	output  map[key][]string
	parents map[key]bool   // tests with subtests: they count through those
	results map[key]string // how the others ended
	failed  map[key]bool   // top-level tests
	running map[key]bool   // tests that began and did not end
	all     suite
	broken  bool // a package failed other than by its tests
	final   bool // something was seen that no second run takes back
	verbose bool
	said    []suite // whose words are printed
}

func main() {
	verbose := flag.Bool("v", false, "also what passed")
	title := flag.String("all", "all Go tests", "`title` of the sum")
	var said []suite
	flag.Func("said", "`PACKAGE PREFIX` of tests whose words are printed", func(arg string) error {
		pkg, prefix, ok := strings.Cut(arg, " ")
		if !ok {
			return fmt.Errorf("%q is not PACKAGE PREFIX", arg)
		}
		said = append(said, suite{pkg: module + pkg, prefix: prefix})
		return nil
	})
	again := flag.String("again", "", "`command` that runs failed tests once more")
	flag.Parse()
	r, err := newReport(os.Stdout, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(2)
	}
	r.verbose, r.all.title, r.said = *verbose, *title, said
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(2)
	}
	if *again != "" {
		r.again(commandOf(strings.Fields(*again)))
	}
	if !r.close() {
		os.Exit(1)
	}
}

func newReport(out io.Writer, args []string) (*report, error) {
	r := &report{all: suite{title: "all Go tests"}, out: out, output: map[key][]string{}, parents: map[key]bool{}, results: map[key]string{}, failed: map[key]bool{}, running: map[key]bool{}}
	for _, arg := range args {
		title, where, ok := strings.Cut(arg, "=")
		pkg, prefix, ok2 := strings.Cut(where, " ")
		if !ok || !ok2 {
			return nil, fmt.Errorf("suite %q is not TITLE=PACKAGE PREFIX", arg)
		}
		r.suites = append(r.suites, &suite{title: title, pkg: module + pkg, prefix: prefix})
	}
	return r, nil
}

func (r *report) print(format string, args ...any) {
	_, _ = fmt.Fprintf(r.out, format, args...) // nobody to tell when nobody listens
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			r.print("%s\n", lines.Text()) // go itself, before any test
			continue
		}
		r.add(e)
	}
	return lines.Err()
}

func (r *report) add(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "run":
		r.running[k] = true
		for i, c := range e.Test { // a subtest's own name may have slashes
			if c == '/' {
				r.parents[key{e.Package, e.Test[:i]}] = true
			}
		}
	case "build-output":
		r.print("%s", e.Output)
	case "output":
		if e.Test == "" && strings.HasPrefix(e.Output, "FAIL") {
			return // endPackage says it
		}
		r.output[k] = append(r.output[k], e.Output)
		r.final = r.final || strings.HasPrefix(e.Output, "panic: ") || strings.HasPrefix(e.Output, "WARNING: DATA RACE")
	case "pass", "fail", "skip":
		if e.Test != "" {
			r.endTest(e, k)
		} else {
			r.endPackage(e, k)
		}
	}
}

func (r *report) endTest(e event, k key) {
	delete(r.running, k)
	if e.Action != "pass" {
		r.print("%s", strings.Join(r.output[k], ""))
	} else if r.verbose {
		r.printPassed(e, r.output[k])
	} else {
		r.printSaid(e, r.output[k])
	}
	delete(r.output, k)
	if e.Action == "fail" {
		r.failed[k.top()] = true
	}
	if !r.parents[k] {
		r.results[k] = e.Action
	}
}

// top is the test that `go test -run` can be asked for.
func (k key) top() key {
	k.test, _, _ = strings.Cut(k.test, "/")
	return k
}

// printSaid prints what a test said whose words are wanted.
func (r *report) printSaid(e event, output []string) {
	for _, s := range r.said {
		if e.Package != s.pkg || !strings.HasPrefix(e.Test, s.prefix) {
			continue
		}
		for _, line := range output {
			if _, place, said := strings.Cut(strings.TrimSpace(line), "_test.go:"); said {
				_, words, _ := strings.Cut(place, ": ") // after the number of the line
				r.print("      %s %s: %s\n", strings.TrimPrefix(e.Package, module), e.Test, words)
			}
		}
	}
}

// printPassed prints a test that passed and what it said, without the words of the testing package.
func (r *report) printPassed(e event, output []string) {
	r.print("pass  %s (%.1f s)\n", e.Test, e.Elapsed)
	for _, line := range output {
		if !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(strings.TrimLeft(line, " "), "--- ") {
			r.print("%s", line)
		}
	}
}

func (r *report) endPackage(e event, k key) {
	if e.Action == "skip" { // no test files
		return
	}
	if e.Action == "fail" && (!has(r.failed, e.Package) || has(r.running, e.Package)) {
		r.broken = true // it did not build, or died
		for other, lines := range r.output {
			if other.pkg == e.Package {
				r.print("%s", strings.Join(lines, ""))
			}
		}
	}
	word := "ok  "
	if e.Action == "fail" {
		word = "FAIL"
	}
	r.print("%s\t%s\t%.3fs\n", word, e.Package, e.Elapsed)
	delete(r.output, k)
}

func has(tests map[key]bool, pkg string) bool {
	for k := range tests {
		if k.pkg == pkg {
			return true
		}
	}
	return false
}

func (s *suite) count(action string) {
	s.leafs++
	switch action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
	case "skip":
		s.skipped++
	}
}

// close prints the counts and says whether all is well.
func (r *report) close() bool {
	good := !r.broken && len(r.failed) == 0
	r.print("\n")
	suites := append(r.suites, &r.all)
	for k, action := range r.results {
		for _, s := range suites {
			if s == &r.all || k.pkg == s.pkg && strings.HasPrefix(k.test, s.prefix) {
				s.count(action)
			}
		}
	}
	for _, s := range suites {
		r.print("%s: %d passed, %d failed, %d skipped\n", s.title, s.passed, s.failed, s.skipped)
		if s.leafs == 0 {
			r.print("%s: no such tests\n", s.title)
			good = false
		}
	}
	return good
}
