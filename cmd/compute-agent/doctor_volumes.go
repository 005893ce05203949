package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"compute-agent/blockdev/attach"
	"compute-agent/compute"
	"compute-agent/store"
)

// checkVolumes looks at the file of LUNs, and for connections that the agent made and nobody needs.
func (p *patient) checkVolumes(ctx context.Context) verdict {
	luns, err := p.config.readLUNs()
	if err != nil {
		return failure("Mend the file; README.md shows one.", "%v", err)
	}
	state := p.path(filepath.Join(p.config.volumeState(), connectedDir))
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		return ok("%d LUNs handed over; none was connected since the host started", len(luns))
	}
	host, err := attach.New(attach.Options{State: state})
	if err != nil {
		return warning("Run as root.", "what is connected cannot be read: %v", err)
	}
	defer host.Close()
	left, err := leftVolumes(ctx, host, p.peek)
	switch {
	case err != nil:
		return warning("Run as root.", "what is connected cannot be read: %v", err)
	case len(left) == 0:
		return ok("%d LUNs handed over; no connection that nobody needs", len(luns))
	}
	var list []string
	for _, l := range left {
		list = append(list, l.String())
	}
	return warning("Start the agent: it takes away what it made and nobody holds; its log says who holds the rest.",
		"%d connections that nobody needs: %s", len(left), strings.Join(list, "; "))
}

// peek reads the database; what is not there yet names nothing.
func (p *patient) peek(ctx context.Context, fn func(compute.Reader) error) error {
	db := filepath.Join(p.config.StateDir, databaseFile)
	if _, err := os.Stat(db); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return store.Peek(ctx, db, fn)
}
