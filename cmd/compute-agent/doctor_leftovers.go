package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/store"

	"golang.org/x/sys/unix"
)

// checkLeftovers looks for files that no server, image or volume of the database names.
func (p *patient) checkLeftovers(ctx context.Context) verdict {
	db := filepath.Join(p.config.StateDir, databaseFile)
	if _, err := os.Stat(db); errors.Is(err, fs.ErrNotExist) {
		return ok("no database yet")
	}
	var servers []compute.Server
	var images []compute.Image
	var volumes []cinder.Volume
	err := store.Peek(ctx, db, func(r compute.Reader) (err error) {
		if servers, err = r.Servers(); err != nil {
			return err
		}
		if images, err = r.Images(); err != nil {
			return err
		}
		volumes, err = r.Volumes()
		return err
	})
	if err != nil {
		return warning("Start the agent: its log says more.", "the database cannot be read: %v", err)
	}
	var named []string
	for _, s := range servers {
		named = append(append(named, s.ID), s.Blobs()...)
	}
	for _, img := range images {
		named = append(named, img.SHA256)
	}
	for _, v := range volumes {
		named = append(named, v.ID, v.ID+".new")
	}
	var extra []string
	for _, dir := range []string{filepath.Join(p.config.StateDir, instancesDir), filepath.Join(p.config.StateDir, imagesDir), p.config.volumeDir()} {
		found, err := unnamed(dir, append(named, "snapshots"))
		if err != nil {
			return warning("Run as root.", "%v", err)
		}
		extra = append(extra, found...)
	}
	if extra == nil {
		return ok("none, with %d servers, %d images and %d volumes", len(servers), len(images), len(volumes))
	}
	const most = 5
	list := strings.Join(extra[:min(len(extra), most)], ", ")
	return warning("The agent removes what it made when it starts. Look at the rest, and remove what nobody needs.",
		"%d that no server, image or volume names: %s", len(extra), list)
}

// unnamed returns the entries of a directory that are not in names. Hidden ones are being made.
func unnamed(dir string, names []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if !slices.Contains(names, e.Name()) && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, err
}

// agentRuns says whether a process holds the lock of a state directory. It reads the kernel's list
// of locks: trying to take the lock could keep an agent from starting at that moment.
func (p *patient) agentRuns() bool {
	info, err := os.Stat(filepath.Join(p.config.StateDir, lockFile))
	if err != nil {
		return false
	}
	st, isUnix := info.Sys().(*syscall.Stat_t)
	locks, err := os.ReadFile(p.path("proc/locks"))
	if err != nil || !isUnix {
		return false
	}
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(locks)) {
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[5] == id {
			return true
		}
	}
	return false
}
