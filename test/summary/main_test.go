package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func summarize(t *testing.T, suite string, events ...string) (string, bool) {
	t.Helper()
	var out strings.Builder
	r, err := newReport(&out, []string{suite})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.read(strings.NewReader(strings.Join(events, "\n"))); err != nil {
		t.Fatal(err)
	}
	good := r.close()
	return out.String(), good
}

const (
	runB     = `{"Action":"run","Package":"compute-agent/a","Test":"TestB"}`
	runA     = `{"Action":"run","Package":"compute-agent/a","Test":"TestA"}`
	runOne   = `{"Action":"run","Package":"compute-agent/a","Test":"TestA/one"}`
	runTwo   = `{"Action":"run","Package":"compute-agent/a","Test":"TestA/two"}`
	sayTwo   = `{"Action":"output","Package":"compute-agent/a","Test":"TestA/two","Output":"the reason\n"}`
	passOne  = `{"Action":"pass","Package":"compute-agent/a","Test":"TestA/one"}`
	passTwo  = `{"Action":"pass","Package":"compute-agent/a","Test":"TestA/two"}`
	skipTwo  = `{"Action":"skip","Package":"compute-agent/a","Test":"TestA/two"}`
	failTwo  = `{"Action":"fail","Package":"compute-agent/a","Test":"TestA/two"}`
	passA    = `{"Action":"pass","Package":"compute-agent/a","Test":"TestA"}`
	failA    = `{"Action":"fail","Package":"compute-agent/a","Test":"TestA"}`
	passPkg  = `{"Action":"pass","Package":"compute-agent/a"}`
	failPkg  = `{"Action":"fail","Package":"compute-agent/a"}`
	panicked = `{"Action":"output","Package":"compute-agent/a","Test":"TestA/one","Output":"panic: oh\n"}`
)

func TestSummary(t *testing.T) {
	for name, c := range map[string]struct {
		suite  string
		events []string
		good   bool
		want   string
		not    string
	}{
		"counts tests without subtests": {"s=a TestA", []string{runA, runOne, runTwo, sayTwo, passOne, passTwo, passA, passPkg},
			true, "s: 2 passed, 0 failed, 0 skipped", "the reason"},
		"shows why a test was skipped": {"s=a TestA", []string{runA, runOne, runTwo, sayTwo, passOne, skipTwo, passA, passPkg},
			true, "the reason", "FAIL"},
		"shows what a failed test said": {"s=a TestA", []string{runA, runOne, runTwo, sayTwo, passOne, failTwo, failA, failPkg},
			false, "the reason", "ok  "},
		"a suite without tests fails": {"s=a TestB", []string{runA, passA, passPkg},
			false, "s: no such tests", "FAIL"},
		"a package that died fails": {"s=a TestA", []string{runA, runOne, passOne, runTwo, panicked, failPkg},
			false, "panic: oh", "ok  "},
		"a package that did not build fails": {"s=a TestA", []string{`{"ImportPath":"a","Action":"build-output","Output":"undefined: x\n"}`, failPkg},
			false, "undefined: x", "ok  "},
	} {
		t.Run(name, func(t *testing.T) {
			out, good := summarize(t, c.suite, c.events...)
			if good != c.good || !strings.Contains(out, c.want) || strings.Contains(out, c.not) {
				t.Errorf("good %v, want %v; want %q and no %q in:\n%s", good, c.good, c.want, c.not, out)
			}
		})
	}
}

func TestVerbose(t *testing.T) {
	var out strings.Builder
	r, err := newReport(&out, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.verbose, r.all.title = true, "the sum"
	events := []string{runA, runOne, passOne, runTwo, sayTwo, passTwo, passA, passPkg}
	if err := r.read(strings.NewReader(strings.Join(events, "\n"))); err != nil {
		t.Fatal(err)
	}
	r.close()
	for _, want := range []string{"pass  TestA/two (0.0 s)\nthe reason\n", "the sum: 2 passed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestSaid(t *testing.T) {
	var out strings.Builder
	r, err := newReport(&out, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.said = []suite{{pkg: module + "a", prefix: "TestA"}}
	counted := `{"Action":"output","Package":"compute-agent/a","Test":"TestA/two","Output":"    a_test.go:12: 7 packets: all right\n"}`
	if err := r.read(strings.NewReader(strings.Join([]string{runA, runTwo, counted, passTwo, passA, passPkg}, "\n"))); err != nil {
		t.Fatal(err)
	}
	if want := "a TestA/two: 7 packets: all right\n"; !strings.Contains(out.String(), want) {
		t.Errorf("it prints\n%swithout %q", out.String(), want)
	}
}

// TestAgain: only what passes by itself passes, and only where a second run can tell.
func TestAgain(t *testing.T) {
	firstRun := []string{runA, runOne, runTwo, passOne, sayTwo, failTwo, failA, failPkg}
	passes := strings.Join([]string{runA, runOne, runTwo, passOne, passTwo, passA, passPkg}, "\n")
	dies := errors.New("no such command")
	race := `{"Action":"output","Package":"compute-agent/a","Test":"TestA/two","Output":"WARNING: DATA RACE\n"}`
	for name, c := range map[string]struct {
		first  []string
		second string
		err    error
		good   bool
		want   string
	}{
		"passes":                  {firstRun, passes, nil, true, "flaky: a TestA failed among all tests and passed by itself\n\ns: 2 passed, 0 failed"},
		"fails again":             {firstRun, strings.Join(firstRun, "\n"), nil, false, "s: 1 passed, 1 failed"},
		"does not run":            {firstRun, "", nil, false, "s: 1 passed, 1 failed"},
		"cannot run":              {firstRun, passes, dies, false, "no such command"},
		"no second run of a race": {append([]string{race}, firstRun...), passes, nil, false, "s: 1 passed, 1 failed"},
		"nor of what was killed":  {append([]string{runB}, firstRun...), passes, nil, false, "s: 1 passed, 1 failed"},
		"nor of a panic":          {append([]string{panicked}, firstRun...), passes, nil, false, "s: 1 passed, 1 failed"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			r, err := newReport(&out, []string{"s=a TestA"})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.read(strings.NewReader(strings.Join(c.first, "\n"))); err != nil {
				t.Fatal(err)
			}
			r.again(func(pkg string, tests []string, read func(io.Reader) error) error {
				if pkg != "compute-agent/a" || len(tests) != 1 || tests[0] != "TestA" {
					t.Errorf("asked for %v of %s", tests, pkg)
				}
				return errors.Join(read(strings.NewReader(c.second)), c.err)
			})
			if good := r.close(); good != c.good || !strings.Contains(out.String(), c.want) {
				t.Errorf("good %v, want %v; want %q in:\n%s", good, c.good, c.want, out.String())
			}
		})
	}
}
