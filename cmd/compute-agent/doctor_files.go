package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkStateDir asks the kernel whether this process may write, which also finds file systems
// that are mounted read-only.
func (p *patient) checkStateDir(context.Context) verdict {
	dir := p.config.StateDir
	existing := nearestExisting(dir)
	if err := unix.Access(existing, unix.W_OK|unix.X_OK); err != nil {
		return failure("Run as root on a writable file system, or choose another state_dir.", "%s: %v", existing, err)
	}
	if existing != dir {
		return ok("%s will be made by the first start", dir)
	}
	return ok("%s can be written", dir)
}

func nearestExisting(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// qemuUsers are whom distributions run guests as: Debian, then Fedora.
var qemuUsers = []string{"libvirt-qemu", "qemu"}

// checkQEMUAccess looks whether the user that guests run as can reach their disks: every
// directory above needs the right to pass through.
func (p *patient) checkQEMUAccess(context.Context) verdict {
	for _, name := range qemuUsers {
		u, groups, err := p.lookupUser(name)
		if err != nil {
			continue
		}
		for dir := nearestExisting(p.config.StateDir); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				return failure("Run as root.", "%v", err)
			}
			if !mayPass(info, u.Uid, groups) {
				return failure("chmod o+x "+dir, "user %s cannot pass through %s (mode %04o)", name, dir, info.Mode().Perm())
			}
			if dir == filepath.Dir(dir) {
				return ok("user %s can reach %s", name, p.config.StateDir)
			}
		}
	}
	return ok("no user libvirt-qemu or qemu here: guests run as somebody else")
}

// mayPass says whether a user, not root, may search a directory.
func mayPass(dir fs.FileInfo, uid string, groups []string) bool {
	owner, ok := dir.Sys().(*syscall.Stat_t)
	mode := dir.Mode().Perm()
	switch {
	case !ok:
		return mode&0o001 != 0
	case uid == strconv.FormatUint(uint64(owner.Uid), 10):
		return mode&0o100 != 0
	case slices.Contains(groups, strconv.FormatUint(uint64(owner.Gid), 10)):
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

func (p *patient) checkDisk(context.Context) verdict {
	dir := nearestExisting(p.config.StateDir)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return failure("Choose another state_dir.", "%s: %v", dir, err)
	}
	free, total := fs.Bavail*uint64(fs.Bsize), fs.Blocks*uint64(fs.Bsize)
	detail := fmt.Sprintf("%d of %d MiB free on the file system of %s", free>>20, total>>20, dir)
	switch {
	case free < 1<<30:
		return failure("Free some, or put state_dir on a larger file system.", "%s", detail)
	case free < 10<<30:
		return warning("Guest disks grow as guests write: have room for them.", "%s", detail)
	}
	return ok("%s", detail)
}

// checkConfigFile keeps the admin's password from other users of the host.
func (p *patient) checkConfigFile(context.Context) verdict {
	for _, k := range p.config.keys() {
		path, line, isFile := strings.Cut(p.config.origin[k.name], ":")
		if !k.secret || !isFile || line == "" {
			continue
		}
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			return warning("chmod 600 "+path, "%s holds %s and can be read by others (mode %04o)", path, k.name, info.Mode().Perm())
		}
	}
	return ok("no secret is open to other users")
}

func (p *patient) checkAPIAddress(ctx context.Context) verdict {
	v := p.checkAddress(ctx, p.config.Listen)
	if v.Status == statusOK && p.config.TLSCert == "" && !loopbackOnly(p.config.Listen) {
		return warning("Set tls_cert and tls_key, or put a proxy with TLS before it.",
			"%s can be reached from other hosts, and passwords would cross the network in the clear", p.config.Listen)
	}
	return v
}

func (p *patient) checkMetricsAddress(ctx context.Context) verdict {
	if p.config.MetricsListen == "" {
		return ok("off")
	}
	return p.checkAddress(ctx, p.config.MetricsListen)
}

func (p *patient) checkAddress(ctx context.Context, address string) verdict {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err == nil {
		_ = l.Close() // it was only a question
		return ok("%s is free", address)
	}
	if errors.Is(err, syscall.EADDRINUSE) && p.agentRuns() {
		return ok("%s is in use, as it should be: the agent is running", address)
	}
	return failure("Choose another address, or stop what uses it.", "cannot listen on %s: %v", address, errors.Unwrap(err))
}
