package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cache is .cache/lab. One run at a time has it: a second would not fit into most machines' memory.
type cache struct {
	dir  string
	lock *os.File
}

// project is the checkout, which `go run` starts this program in.
func project() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "test/lab/image/build.sh")); err != nil {
		return "", errors.New("is run from the project's directory")
	}
	return dir, nil
}

func openCache() (*cache, error) {
	top, err := project()
	if err != nil {
		return nil, err
	}
	c := &cache{dir: filepath.Join(top, ".cache/lab")}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	if c.lock, err = os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(c.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		c.close()
		return nil, fmt.Errorf("another run has %s: %w", c.dir, err)
	}
	// What runs that were killed left.
	for _, pattern := range []string{"run.*", "*.new"} {
		c.remove(pattern, "")
	}
	return c, checkDisk(c.dir, runDiskMiB)
}

func (c *cache) close() { _ = c.lock.Close() }

// remove deletes what matches the pattern, but for one.
func (c *cache) remove(pattern, keep string) {
	found, _ := filepath.Glob(filepath.Join(c.dir, pattern)) // the patterns are well-formed
	for _, path := range found {
		if path != keep {
			_ = os.RemoveAll(path) // costs disk space only
		}
	}
}

// keep makes dir by build, unless it is there, and deletes its predecessors. build fills a directory
// that becomes dir when it is whole.
func (c *cache) keep(dir, predecessors string, build func(dir string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := checkDisk(c.dir, buildDiskMiB); err != nil {
		return fmt.Errorf("cannot build here: %w", err)
	}
	fresh := dir + ".new"
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return err
	}
	err := build(fresh)
	if err == nil {
		err = os.Rename(fresh, dir)
	}
	if err != nil {
		_ = os.RemoveAll(fresh) // or the next run does
		return err
	}
	c.remove(predecessors, dir)
	return nil
}

// image returns the directory with the disk image and the kernel.
func (c *cache) image(ctx context.Context) (string, error) {
	const recipe = "test/lab/image"
	key := sha256.New()
	if err := hashTree(key, recipe); err != nil {
		return "", err
	}
	dir := filepath.Join(c.dir, "image-"+short(key))
	return dir, c.keep(dir, "image-*", func(dir string) error {
		if os.Getuid() != 0 {
			return errors.New("cannot build here: the disk image is made by root")
		}
		if err := checkPrograms("mmdebstrap", "mke2fs", "cpio", "ssh-keygen"); err != nil {
			return fmt.Errorf("cannot build here: %w", err)
		}
		say("building the disk image, once; this takes some minutes")
		build := exec.CommandContext(ctx, filepath.Join(recipe, "build.sh"), dir)
		// What it mounts is gone with its last process, whatever ends it; and it gets time to clean up.
		build.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
		build.Cancel = func() error { return syscall.Kill(-build.Process.Pid, syscall.SIGTERM) }
		build.WaitDelay = 30 * time.Second
		var errors tail
		build.Stderr = &errors
		if err := build.Run(); err != nil {
			return fmt.Errorf("build the disk image (does this machine reach a Debian mirror?): %w\n%s", err, errors.String())
		}
		return nil
	})
}

// hashTree feeds names and contents of all files below dir into the hash.
func hashTree(h hash.Hash, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		_, _ = fmt.Fprintf(h, "%s %d\n%s", path, len(data), data) // a hash takes everything
		return err
	})
}

func short(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil))[:16] }

// tail keeps the last lines of what a program says.
type tail struct{ text string }

// Write keeps the end of the text.
func (t *tail) Write(p []byte) (int, error) {
	t.text += string(p)
	if cut := len(t.text) - 8192; cut > 0 {
		t.text = t.text[cut:]
	}
	return len(p), nil
}

// String leaves out what QEMU says for each of its CPUs.
func (t *tail) String() string {
	var lines []string
	for line := range strings.Lines(t.text) {
		if !strings.Contains(line, "TCG doesn't support requested feature") {
			lines = append(lines, line)
		}
	}
	return strings.TrimSpace(strings.Join(lines, ""))
}
