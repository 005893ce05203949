package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"slices"

	"compute-agent/compute"

	"github.com/mattn/go-isatty"
)

// newLogger returns the agent's logger, which adds the request's ID to each line that is logged
// with a context that has one.
func newLogger(w io.Writer, c *Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // not reached: the key accepts only levels
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "text" || (c.LogFormat == "auto" && isTerminal(w)) {
		return slog.New(contextHandler{Handler: slog.NewTextHandler(w, options)})
	}
	return slog.New(contextHandler{Handler: slog.NewJSONHandler(w, options)})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// requestIDKey is the request's ID in log lines.
const requestIDKey = "request_id"

// contextHandler adds to each record the ID of the request that it is logged for, where who
// logged it did not.
type contextHandler struct {
	slog.Handler
	has bool // request_id is among the handler's own attributes
}

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	id := compute.RequestID(ctx)
	if id == "" || h.has {
		return h.Handler.Handle(ctx, r)
	}
	has := false
	r.Attrs(func(a slog.Attr) bool {
		has = a.Key == requestIDKey
		return !has
	})
	if !has {
		r = r.Clone()
		r.AddAttrs(slog.String(requestIDKey, id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	has := slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == requestIDKey })
	return contextHandler{h.Handler.WithAttrs(attrs), h.has || has}
}

func (h contextHandler) WithGroup(name string) slog.Handler {
	return contextHandler{h.Handler.WithGroup(name), h.has}
}

// quietLogger is for commands that tell what they find themselves.
func quietLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }
