package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"
)

// warm is run in a machine that has booted, before its state is saved.
//
//go:embed warm.sh
var warm string

// state is a machine that was saved when it had booted: memory in ram0, ram1 ..., devices in the file
// "devices", the disk as an overlay on the image.
type state struct {
	dir, image string
	profile    profile
}

const (
	bootTime    = 10 * time.Minute
	migrateTime = 3 * time.Minute
)

// states returns the saved state of each profile that the groups need.
func (c *cache) states(ctx context.Context, chosen []group) (map[string]state, error) {
	image, err := c.image(ctx)
	if err != nil {
		return nil, err
	}
	states := map[string]state{}
	for _, g := range chosen {
		if _, known := states[g.profile]; known {
			continue
		}
		if states[g.profile], err = c.state(ctx, profiles[g.profile], image); err != nil {
			return nil, fmt.Errorf("machine %q: %w", g.profile, err)
		}
	}
	return states, nil
}

func (c *cache) state(ctx context.Context, p profile, image string) (state, error) {
	version, err := exec.CommandContext(ctx, "qemu-system-x86_64", "--version").Output()
	if err != nil {
		return state{}, err
	}
	key := sha256.New()
	_, _ = fmt.Fprintf(key, "%s\n%s\n%q\n%s\n%s", filepath.Base(image), version, p.hardware("", true), p.kernelLine(), warm) // a hash takes everything
	dir := filepath.Join(c.dir, p.name+"-"+short(key))
	return state{dir, image, p}, c.keep(dir, p.name+"-*", func(dir string) error { return save(ctx, state{dir, image, p}) })
}

// save boots a machine and saves its state.
func save(ctx context.Context, s state) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	say("booting machine %q, once", s.profile.name)
	disk := filepath.Join(s.dir, "disk.qcow2")
	if err := overlay(ctx, disk, filepath.Join("..", filepath.Base(s.image), "root.img"), "raw"); err != nil {
		return err
	}
	v, err := start(ctx, s.profile, options{disk: disk, ram: s.dir, shared: true, share: s.dir, image: s.image})
	if err != nil {
		return err
	}
	defer v.stop()
	select {
	case <-v.console.ready:
	case <-v.ended.Done():
		return v.explain(fmt.Errorf("it did not boot; its console:\n%s", v.console.all()))
	}
	say("machine %q is up", s.profile.name)
	if err := s.prepare(v); err != nil {
		return err
	}
	say("machine %q is warm", s.profile.name)
	devices, err := os.Create(filepath.Join(s.dir, "devices"))
	if err != nil {
		return err
	}
	defer devices.Close() //nolint:errcheck // QEMU wrote it
	if err := v.run("stop", nil, nil, nil); err != nil {
		return err
	}
	if err := v.run("getfd", map[string]any{"fdname": "devices"}, devices, nil); err != nil {
		return err
	}
	if err := v.migrate("migrate", "fd:devices"); err != nil {
		return err
	}
	say("machine %q is saved", s.profile.name)
	return nil
}

// prepare makes the booted machine ready for its tests.
func (s state) prepare(v *vm) error {
	client, err := s.logIn(v)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // the machine is stopped next
	return v.explain(v.execute(client, warm, io.Discard))
}

func (s state) logIn(v *vm) (*ssh.Client, error) {
	key, err := hostKey(s.image)
	if err != nil {
		return nil, err
	}
	return v.logIn(key)
}

// restore runs a copy of the saved machine, and mounts share in it as /lab.
func (s state) restore(ctx context.Context, work, share string) (*vm, *ssh.Client, error) {
	disk := filepath.Join(work, "disk.qcow2")
	_ = os.Remove(disk) // of the group before
	if err := overlay(ctx, disk, filepath.Join(s.dir, "disk.qcow2"), "qcow2"); err != nil {
		return nil, nil, err
	}
	devices, err := os.Open(filepath.Join(s.dir, "devices"))
	if err != nil {
		return nil, nil, err
	}
	defer devices.Close() //nolint:errcheck // only read
	v, err := start(ctx, s.profile, options{disk: disk, ram: s.dir, share: share, image: s.image, state: devices})
	if err != nil {
		return nil, nil, err
	}
	client, err := s.resume(v)
	if err != nil {
		v.stop()
		return nil, nil, err
	}
	return v, client, nil
}

func (s state) resume(v *vm) (*ssh.Client, error) {
	if err := v.migrate("migrate-incoming", "fd:4"); err != nil {
		return nil, err
	}
	if err := v.run("cont", nil, nil, nil); err != nil {
		return nil, err
	}
	client, err := s.logIn(v)
	if err != nil {
		return nil, err
	}
	command := fmt.Sprintf("date -s @%d >/dev/null && mkdir -p /lab && mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose lab /lab", time.Now().Unix())
	return client, v.execute(client, command, io.Discard)
}

// migrate moves the devices' state to or from a file; the memory is where it is.
func (v *vm) migrate(command, uri string) error {
	var on []map[string]any
	for _, name := range []string{"x-ignore-shared", "events"} {
		on = append(on, map[string]any{"capability": name, "state": true})
	}
	if err := v.run("migrate-set-capabilities", map[string]any{"capabilities": on}, nil, nil); err != nil {
		return err
	}
	if err := v.run(command, map[string]any{"uri": uri}, nil, nil); err != nil {
		return err
	}
	select {
	case status := <-v.migrated:
		if status != "completed" {
			return v.explain(fmt.Errorf("%s: %s", command, status))
		}
		return nil
	case <-time.After(migrateTime):
		return fmt.Errorf("%s: not done after %v", command, migrateTime)
	case <-v.ended.Done():
		return v.explain(fmt.Errorf("%s", command))
	}
}

// overlay makes a disk whose unchanged blocks are those of another.
func overlay(ctx context.Context, disk, base, format string) error {
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", base, disk).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img create: %w: %s", err, out)
	}
	return nil
}
