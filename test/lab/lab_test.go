package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"compute-agent/internal/cpuset"
)

// No socket, and so no core, of a profile lies in two nodes, and every CPU in one.
func TestProfiles(t *testing.T) {
	for name, p := range profiles {
		var cpus, sockets, cores, threads int
		if _, err := fmt.Sscanf(p.topology, "%d,sockets=%d,cores=%d,threads=%d", &cpus, &sockets, &cores, &threads); err != nil {
			t.Fatalf("%s: topology %q: %v", name, p.topology, err)
		}
		if p.name != name || sockets*cores*threads != cpus {
			t.Errorf("%s: name %q, %d sockets of %d cores of %d threads are not %d CPUs", name, p.name, sockets, cores, threads, cpus)
		}
		var seen cpuset.Set
		for i, n := range p.nodes {
			set, err := cpuset.Parse(n.cpus)
			if err != nil || set.IntersectLen(seen) > 0 {
				t.Errorf("%s: node %d: CPUs %s: %v, in nodes before %v", name, i, n.cpus, err, seen)
			}
			for cpu := range set.All {
				if first := cpu - cpu%(cores*threads); !cpuset.Range(first, first+cores*threads-1).SubsetOf(set) {
					t.Errorf("%s: the socket of CPU %d is not whole in node %d", name, cpu, i)
				}
			}
			seen = seen.Union(set)
			for j := i + 1; j < len(p.nodes); j++ {
				if d := p.distances[[2]int{i, j}]; d <= 10 {
					t.Errorf("%s: distance %d between nodes %d and %d", name, d, i, j)
				}
			}
		}
		if !seen.Equal(cpuset.Range(0, cpus-1)) {
			t.Errorf("%s: the nodes have CPUs %v of %d", name, seen, cpus)
		}
		if sum := p.memoryMiB() + overheadMiB; sum > 9*1024 {
			t.Errorf("%s: takes %d MiB of its host", name, sum)
		}
	}
}

// Each group has a profile and a package with tests for the lab, and each such package is a group.
func TestGroups(t *testing.T) {
	named := map[string]bool{}
	for _, g := range groups {
		named[g.name] = true
		if _, known := profiles[g.profile]; !known || g.attempts < 1 || g.limit <= 0 {
			t.Errorf("group %+v", g)
		}
	}
	files, _ := filepath.Glob("*/*_test.go") // well-formed
	found := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(text), "//go:build lab\n") {
			found[filepath.Dir(file)] = true
		}
	}
	if fmt.Sprint(named) != fmt.Sprint(found) {
		t.Errorf("groups are %v, packages with tests for the lab %v", named, found)
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(nil); err != nil || len(all) != len(groups) {
		t.Errorf("no names: %v, %v", all, err)
	}
	if one, err := choose([]string{"threads"}); err != nil || len(one) != 1 || one[0].name != "threads" {
		t.Errorf("one name: %v, %v", one, err)
	}
	if _, err := choose([]string{"threads", "thread"}); err == nil || !strings.Contains(err.Error(), "placement") {
		t.Errorf("an unknown name: %v, want an error with the names of the groups", err)
	}
}

func TestMissing(t *testing.T) {
	if err := checkPrograms("sh", "no-such-program", "nor-this"); err == nil || !strings.Contains(err.Error(), "no-such-program, nor-this (") {
		t.Errorf("missing programs: %v", err)
	}
	if err := checkPrograms("sh"); err != nil {
		t.Errorf("nothing is missing: %v", err)
	}
	if err := checkDisk(t.TempDir(), 1<<40); err == nil || !strings.Contains(err.Error(), "MiB are free") {
		t.Errorf("no disk has that: %v", err)
	}
	if free, err := availableMiB(); err != nil || free <= 0 {
		t.Errorf("%d MiB of memory: %v", free, err)
	}
}

func TestFirstTrouble(t *testing.T) {
	for log, want := range map[string]string{
		"": "",
		"[ 1.0] this is not a bug\n[ 2.0] debugfs: BUGs are welcome": "",
		"ok\n[ 3.0] BUG: unable to handle page fault\nmore":          "[ 3.0] BUG: unable to handle page fault",
		"[ 4.0] Kernel panic - not syncing: Fatal exception\r\nmore": "[ 4.0] Kernel panic - not syncing: Fatal exception",
		"[ 5.0] Oops: 0000 [#1]":                                     "[ 5.0] Oops: 0000 [#1]",
	} {
		if got := firstTrouble(log); got != want {
			t.Errorf("of %q: %q, want %q", log, got, want)
		}
	}
}

func TestConsole(t *testing.T) {
	var failures []string
	c := newConsole(func(line string) { failures = append(failures, line) })
	for _, part := range []string{"booting\nLAB: re", "ady up=4.2\n", "LAB: ready again\n"} {
		select {
		case <-c.ready:
			if part[0] != 'L' {
				t.Fatalf("ready before %q", part)
			}
		default:
			if part[:3] == "LAB" {
				t.Fatal("not ready")
			}
		}
		if _, err := c.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(c.all(), "again") || len(failures) > 0 {
		t.Errorf("the console has %q; failures are %q", c.all(), failures)
	}
	for _, part := range []string{"[ 9.0] BUG: kernel NULL ", "pointer dereference\n"} {
		_, _ = c.Write([]byte(part)) // never fails
	}
	if fmt.Sprint(failures) != "[[ 9.0] BUG: kernel NULL pointer dereference]" {
		t.Errorf("failures are %q", failures)
	}
}

func TestTail(t *testing.T) {
	var said tail
	for i := range 1000 {
		_, _ = fmt.Fprintf(&said, "line %d\nqemu: warning: TCG doesn't support requested feature: x\n", i)
	}
	text := said.String()
	if strings.Contains(text, "TCG") || !strings.HasSuffix(text, "line 999") || len(text) > 8192 {
		t.Errorf("%d bytes, ending with %q", len(text), text[max(0, len(text)-30):])
	}
}
