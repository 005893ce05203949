package main

import (
	"bufio"
	"bytes"
	"regexp"
	"strings"
	"sync"
)

// console is the machine's serial console: kept, and watched for lines that matter.
type console struct {
	mu      sync.Mutex
	text    bytes.Buffer
	ready   chan struct{} // closed when the machine says that it is up
	isReady bool
	failed  func(line string) // is told when the machine says that its kernel failed
}

func newConsole(failed func(line string)) *console {
	return &console{ready: make(chan struct{}), failed: failed}
}

// Write takes what the machine says.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(p)
	if !c.isReady && bytes.Contains(c.text.Bytes(), []byte("LAB: ready")) {
		c.isReady = true
		close(c.ready)
	}
	if trouble := firstTrouble(c.text.String()); trouble != "" && bytes.HasSuffix(p, []byte("\n")) {
		c.failed(trouble)
	}
	return len(p), nil
}

// end is the last lines that the machine said.
func (c *console) end() string {
	lines := strings.Split(strings.TrimSpace(c.all()), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

var troubles = regexp.MustCompile(`Kernel panic|BUG:|Oops:|general protection fault|LAB: no root`)

// all is what the machine has said so far.
func (c *console) all() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// firstTrouble returns the first line of a log that tells of a kernel that failed, or nothing.
func firstTrouble(log string) string {
	for lines := bufio.NewScanner(strings.NewReader(log)); lines.Scan(); {
		if troubles.MatchString(lines.Text()) {
			return strings.TrimSpace(lines.Text())
		}
	}
	return ""
}
