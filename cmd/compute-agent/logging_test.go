package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"compute-agent/compute"
)

func TestLogLinesHaveTheRequestIDOnce(t *testing.T) {
	ctx := compute.WithRequestID(t.Context(), "req-1")
	var b bytes.Buffer
	log := newLogger(&b, newConfig())
	log.InfoContext(ctx, "from the context", "server_id", "s")
	log.InfoContext(ctx, "said already", "request_id", "req-1")
	log.With("request_id", "req-1").InfoContext(ctx, "bound already")
	log.WithGroup("g").InfoContext(ctx, "in a group")
	log.Info("no request")
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []int{1, 1, 1, 1, 0} {
		if got := strings.Count(lines[i], `"request_id":"req-1"`); got != want {
			t.Errorf("%d request IDs, want %d, in %s", got, want, lines[i])
		}
		if !json.Valid([]byte(lines[i])) {
			t.Errorf("not JSON: %s", lines[i])
		}
	}
}

func TestLogFormatAndLevel(t *testing.T) {
	c := newConfig()
	c.LogFormat, c.LogLevel = "text", "warn"
	var b bytes.Buffer
	log := newLogger(&b, c)
	log.Info("quiet")
	log.Warn("a name", "name", "two\nlines \x1b[31m")
	if got := b.String(); strings.Contains(got, "quiet") || strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b") {
		t.Errorf("logged %q", got)
	}
}
