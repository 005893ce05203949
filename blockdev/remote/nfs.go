package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
	"compute-agent/internal/keylock"
)

// NFS connects files on NFS servers. An export is mounted once for all of its volumes, at Base/(SHA-256 of its name), and is unmounted when the last of
// them goes. Which volumes use an export is written in files below Users, so that a restart does not forget it; it must not outlive the host's mounts.
type NFS struct {
	Run     command.Runner
	Base    string // Nova: nfs_mount_point_base
	Options string // of mount, before the volume's own (nfs_mount_options)
	Users   string // a directory of the agent's own below /run
	Proc    string // /proc
	Dial    Dial   // nil for this host's
	// Seal has the kernel follow no symbolic link in a mount; nil for this host's.
	Seal func(dir string) error

	exports keylock.Map[string]
}

const nfsPort = 2049

// Connect implements connector.Connector.
func (c *NFS) Connect(ctx context.Context, info connector.Info, _ connector.Identity) (connector.Device, error) {
	n := info.NFS
	unlock, err := c.exports.Lock(ctx, n.Export)
	if err != nil {
		return connector.Device{}, err
	}
	defer unlock()
	fresh, err := c.use(*n)
	if err != nil {
		return connector.Device{}, err
	}
	dev, err := c.device(ctx, info)
	if err != nil && fresh {
		err = errors.Join(err, c.release(context.WithoutCancel(ctx), *n))
	}
	return dev, err
}

// Disconnect implements connector.Connector. An export that somebody still uses in spite of what is known stays mounted, with InUse.
func (c *NFS) Disconnect(ctx context.Context, info connector.Info, _ connector.Device) error {
	unlock, err := c.exports.Lock(ctx, info.NFS.Export)
	if err != nil {
		return err
	}
	defer unlock()
	return c.release(ctx, *info.NFS)
}

// Extend implements connector.Connector.
func (c *NFS) Extend(ctx context.Context, info connector.Info, _ connector.Device) (connector.Device, error) {
	return c.Connect(ctx, info, "")
}

// device mounts the export where it is not, and looks at the file in it.
func (c *NFS) device(ctx context.Context, info connector.Info) (connector.Device, error) {
	n := info.NFS
	if _, err := reachable(ctx, c.Dial, "data.export", []connector.Address{server(*n)}); err != nil {
		return connector.Device{}, err
	}
	if err := c.mount(ctx, *n); err != nil {
		return connector.Device{}, err
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return bounded(within, "file "+n.Name+" of export "+n.Export, func() (connector.Device, error) {
		if err := c.seal(c.dir(*n)); err != nil {
			return connector.Device{}, err
		}
		return fileDevice(c.dir(*n), n.Name, "data.name", info.Format)
	})
}

// server is whom mount will ask. Parse has made Export of a host and a path.
func server(n connector.NFSInfo) connector.Address {
	host, _, _ := strings.Cut(n.Export, ":/")
	a := connector.Address{Host: strings.Trim(host, "[]"), Port: nfsPort}
	for o := range strings.SplitSeq(n.Options, ",") {
		if port, found := strings.CutPrefix(o, "port="); found {
			_, _ = fmt.Sscan(port, &a.Port)
		}
	}
	return a
}

func key(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (c *NFS) dir(n connector.NFSInfo) string   { return filepath.Join(c.Base, key(n.Export)) }
func (c *NFS) users(n connector.NFSInfo) string { return filepath.Join(c.Users, key(n.Export)) }

// use writes down that a volume uses its export, and says whether it was not known yet.
func (c *NFS) use(n connector.NFSInfo) (fresh bool, err error) {
	dir := c.users(n)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	f, err := os.OpenFile(filepath.Join(dir, key(n.Name)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// release forgets that a volume uses its export, and unmounts it when that was the last.
func (c *NFS) release(ctx context.Context, n connector.NFSInfo) error {
	mine := filepath.Join(c.users(n), key(n.Name))
	others, err := os.ReadDir(c.users(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no volume of the export was ever connected
	}
	if err != nil {
		return err
	}
	if len(others) == 0 || len(others) == 1 && others[0].Name() == filepath.Base(mine) {
		if err := c.unmount(ctx, n); err != nil {
			return err
		}
	}
	if err := os.Remove(mine); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(c.users(n)); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mounted says what is mounted where the export belongs; empty for nothing.
func (c *NFS) mounted(n connector.NFSInfo) (string, error) {
	table, err := os.ReadFile(filepath.Join(c.Proc, "self/mountinfo"))
	if err != nil {
		return "", err
	}
	base, err := filepath.EvalSymlinks(c.Base)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var source string
	for line := range strings.Lines(string(table)) {
		before, after, _ := strings.Cut(line, " - ") // proc_pid_mountinfo(5)
		where, what := strings.Fields(before), strings.Fields(after)
		if len(where) > 4 && len(what) > 1 && where[4] == filepath.Join(base, key(n.Export)) {
			source = what[1]
		}
	}
	return source, nil
}

func (c *NFS) mount(ctx context.Context, n connector.NFSInfo) error {
	source, err := c.mounted(n)
	switch {
	case err != nil:
		return err
	case source == n.Export:
		return nil
	case source != "":
		return &connector.Error{Reason: connector.InUse, Field: "data.export", Value: n.Export, Rule: c.dir(n) + " is the mount of another: " + source}
	}
	if err := os.MkdirAll(c.dir(n), 0o755); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	options := "nosuid,nodev,noexec"
	for _, more := range []string{c.Options, n.Options} {
		if more != "" {
			options += "," + more
		}
	}
	_, err = c.Run.Run(within, command.Cmd{Name: "mount", Args: []string{"-t", "nfs", "-o", options, "--", n.Export, c.dir(n)}})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return &connector.Error{Reason: connector.Unreachable, Field: "data.export", Value: n.Export, Rule: "the export cannot be mounted", Err: err}
}

// seal makes a mount one whose links lead nowhere: the server could put one to a file of the host in the place of a volume's after it was looked at, and
// libvirt and the hypervisor, which open it by its name, would follow. mount(8) for NFS hands the option to the server's options, which have none such.
func (c *NFS) seal(dir string) error {
	seal := c.Seal
	if seal == nil {
		seal = func(dir string) error {
			return unix.MountSetattr(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSYMFOLLOW})
		}
	}
	if err := seal(dir); err != nil {
		return &connector.Error{Reason: connector.Unsupported, Field: "driver_volume_type", Value: string(connector.NFS),
			Rule: "the kernel cannot keep links of the server's from being followed (nosymfollow, Linux 5.14)", Err: err}
	}
	return nil
}

// unmount takes the export away if it is there. It is neither forced nor lazy: a file that is open keeps it.
func (c *NFS) unmount(ctx context.Context, n connector.NFSInfo) error {
	source, err := c.mounted(n)
	if err != nil {
		return err
	}
	if source != "" {
		if source != n.Export {
			return nil // not ours
		}
		within, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if _, err := c.Run.Run(within, command.Cmd{Name: "umount", Args: []string{"--", c.dir(n)}}); err != nil {
			return &connector.Error{Reason: connector.InUse, Field: "data.export", Value: n.Export, Rule: "the export cannot be unmounted", Err: err}
		}
	}
	if err := os.Remove(c.dir(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
