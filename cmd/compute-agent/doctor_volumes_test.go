package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"compute-agent/blockdev/attach"
	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/remote"
)

// TestDoctorReadsLUNs: a file that others can read, or that is none, is told with what is wrong.
func TestDoctorReadsLUNs(t *testing.T) {
	dir := t.TempDir()
	p := &patient{root: dir, config: newConfig()}
	p.config.StateDir, p.config.RunDir = dir, dir
	p.config.Volume.LUNs = filepath.Join(dir, "luns.json")
	expect(t, p.checkVolumes(t.Context()), statusFailure, "volume_luns_file", "no such file")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(p.config.Volume.LUNs, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p.config.Volume.LUNs, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(`[]`, 0o640)
	expect(t, p.checkVolumes(t.Context()), statusFailure, "mode 0640", "passwords")
	write(`{"name": "x"}`, 0o600)
	expect(t, p.checkVolumes(t.Context()), statusFailure, "must be a list")
	write(`[{"name": "x", "size": 1}]`, 0o600)
	expect(t, p.checkVolumes(t.Context()), statusFailure, `unknown field "size"`)
	write(`[{"name": "x", "size_gib": 1, "connection_info": {}}]`, 0o600)
	expect(t, p.checkVolumes(t.Context()), statusOK, "1 LUNs")
}

// TestDoctorFindsConnectionsThatNobodyNeeds: a volume that is connected, and that no record names, is told; after it was taken away, no more.
func TestDoctorFindsConnectionsThatNobodyNeeds(t *testing.T) {
	dir := t.TempDir()
	p := &patient{root: "/", config: newConfig(), runner: scriptedRunner{}}
	p.config.StateDir, p.config.RunDir = dir, dir
	path := filepath.Join(dir, "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	host, err := attach.New(attach.Options{
		State:      filepath.Join(p.config.volumeState(), connectedDir),
		Connectors: map[connector.Type]connector.Connector{connector.File: remote.Files{Dirs: []string{dir}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, p.checkVolumes(t.Context()), statusOK, "no connection")
	const id = "0d1a5d3b-2f52-4f0c-9c8e-3a1c4dbf3f60"
	request := connector.Request{VolumeID: id, Info: connector.Info{Type: connector.File, Path: path}}
	if _, err := host.Connect(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	expect(t, p.checkVolumes(t.Context()), statusWarning, "1 connections", id, "file")

	p.hostGetsRid(t, host)
	expect(t, p.checkVolumes(t.Context()), statusOK, "no connection")
}

// hostGetsRid has what nobody needs taken away, as the start of an agent has.
func (p *patient) hostGetsRid(t *testing.T, host *attach.Host) {
	t.Helper()
	left, err := leftVolumes(t.Context(), host, p.peek)
	if err == nil {
		err = host.Clean(t.Context(), left)
	}
	if err != nil || len(left) != 1 || time.Since(left[0].Since) > time.Hour {
		t.Fatalf("%v, %v", left, err)
	}
}
