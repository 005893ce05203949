package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A namespace is a file below the directory onto which the kernel's own file of it is mounted, as ip-netns(8) has them. The agent's
// have its mark inside, as the alias of lo, from before they have their name; so the mark goes with the namespace, and
// one that another makes later under the same name has none. The file below the mount says that the agent made it: one
// without a mount is half-made.
const stub = "compute-agent\n"

// Netns is where a host's named namespaces are.
const Netns = "/run/netns"

func (h Host) netns() string { return cmp.Or(h.Netns, Netns) }

func (h Host) space(name string) string { return filepath.Join(h.netns(), name) }

// InNamespace runs fn in the network namespace of this name below /run/netns.
func InNamespace(name string, fn func() error) error { return Host{}.InNamespace(name, fn) }

// InNamespace runs fn in a named network namespace, in a thread of its own: programs that fn starts and sockets that it makes are in the
// namespace, goroutines that it starts are not. The error is fn's, or wraps ErrMissing when there is no such namespace.
func (h Host) InNamespace(name string, fn func() error) error {
	file, err := os.Open(h.space(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("namespace %s: %w", name, ErrMissing)
	}
	if err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	defer func() { _ = file.Close() }()
	enter := func() error {
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", name, err)
		}
		return nil
	}
	return h.elsewhere(enter, fn)
}

// elsewhere runs fn in the thread that enter has taken to another namespace. A thread that does not come back is never used again: it ends
// with its goroutine.
func (h Host) elsewhere(enter, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("it ended without an answer")
		defer func() { done <- err }()
		runtime.LockOSThread()
		home, e := os.Open(h.ownNamespace())
		if e != nil {
			err = e
			runtime.UnlockOSThread()
			return
		}
		defer func() { _ = home.Close() }()
		if err = enter(); err == nil {
			err = fn()
		}
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return <-done
}

// ownNamespace is the file of the thread's network namespace.
func (h Host) ownNamespace() string {
	return filepath.Join(cmp.Or(h.Proc, "/proc"), "thread-self/ns/net")
}

// Made names the links and the named namespaces that are the agent's.
func (h Host) Made(ctx context.Context) (links, namespaces []string, err error) {
	all, err := h.Links(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range all.names() {
		if l := all.Links[name]; l.owned() {
			links = append(links, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all.Spaces)) {
		if !all.Spaces[name].Taken {
			namespaces = append(namespaces, name)
		}
	}
	return links, namespaces, nil
}

// readSpaces adds the named namespaces: of the agent's all that is in them, of others' that they are there.
func (h Host) readSpaces(ctx context.Context, s State, links []netlink.Link) error {
	files, err := os.ReadDir(h.netns())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("namespaces: %w", err)
	}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		space, err := h.readSpace(f.Name(), s, links)
		if errors.Is(err, ErrMissing) {
			continue // it went meanwhile
		}
		if err != nil {
			return err
		}
		s.Spaces[f.Name()] = space
	}
	return nil
}

// readSpace reads one. What cannot be entered is somebody else's trouble: the agent can enter what it made.
func (h Host) readSpace(name string, s State, links []netlink.Link) (Space, error) {
	out := Space{Name: name, Taken: true, Links: map[string]Link{}}
	mounted, err := h.mounted(name)
	if errors.Is(err, ErrMissing) {
		return out, err
	}
	if !mounted {
		out.Half = h.isStub(name)
		out.Taken = !out.Half
		return out, nil
	}
	var inside []netlink.Link
	err = h.InNamespace(name, func() error {
		if out.Taken = !marked(name); out.Taken {
			return nil
		}
		state, list, err := h.links()
		delete(state.Links, "lo")
		inside, out.Links = list, state.Links
		out.Forwarding = h.readSetting(forwarding) == "1"
		out.Tuned = h.tuned(out.Forwarding)
		return err
	})
	switch {
	case errors.Is(err, ErrMissing):
		return out, err
	case out.Taken:
		return out, nil
	case err != nil:
		return out, err
	}
	return out, h.pair(s, out, links, inside)
}

// marked says whether the namespace that the thread is in is the agent's, under this name.
func marked(name string) bool {
	lo, err := netlink.LinkByName("lo")
	return err == nil && parseMark(lo.Attrs().Alias).ID == name
}

// pair tells the agent's veths and the devices in a namespace of each other: two are the ends of one when each says the other's number, and
// the host's that its other end is in this namespace.
func (h Host) pair(s State, space Space, host, inside []netlink.Link) error {
	file, err := os.Open(h.space(space.Name))
	if err != nil {
		return fmt.Errorf("namespace %s: %w", space.Name, ErrMissing)
	}
	defer func() { _ = file.Close() }()
	id, err := netlink.GetNetNsIdByFd(int(file.Fd()))
	if err != nil {
		return fmt.Errorf("namespace %s: its number: %w", space.Name, err)
	}
	ends := map[int]*netlink.LinkAttrs{}
	for _, l := range host {
		if a := l.Attrs(); l.Type() == string(KindVeth) && a.NetNsID == id && id >= 0 {
			ends[a.Index] = a
		}
	}
	for _, l := range inside {
		a := l.Attrs()
		device := space.Links[a.Name]
		device.Shape = Shape{}
		if end := ends[a.ParentIndex]; end != nil && end.ParentIndex == a.Index {
			device.Shape = Shape{Kind: KindVeth, Parent: end.Name}
			if outer := s.Links[end.Name]; outer.owned() {
				outer.Shape = Shape{Kind: KindVeth, Space: space.Name, Peer: a.Name}
				s.Links[end.Name] = outer
			}
		}
		if a.Name != "lo" {
			space.Links[a.Name] = device
		}
	}
	return nil
}

// mounted says whether a namespace is there under the name.
func (h Host) mounted(name string) (bool, error) {
	var is unix.Statfs_t
	err := unix.Statfs(h.space(name), &is)
	if errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("namespace %s: %w", name, ErrMissing)
	}
	if err != nil {
		return false, fmt.Errorf("namespace %s: %w", name, err)
	}
	return is.Type == unix.NSFS_MAGIC, nil
}

func (h Host) isStub(name string) bool {
	info, err := os.Lstat(h.space(name))
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	text, err := os.ReadFile(h.space(name))
	return err == nil && (string(text) == stub || name == halfMade)
}

func (h Host) doSpace(c Change) error {
	switch c.Op {
	case OpAddSpace:
		return h.addSpace(c.Space)
	case OpRemoveSpace:
		return h.removeSpace(c.Space)
	default:
		return h.InNamespace(c.Space, func() error {
			if !marked(c.Space) {
				return fmt.Errorf("%w: it is not the agent's any longer", ErrTaken)
			}
			if c.Op == OpTune {
				return h.tune(c.Forward)
			}
			c.Space = ""
			return h.Do(context.Background(), c)
		})
	}
}

// addSpace makes a namespace under a name that nothing else has.
func (h Host) addSpace(name string) error {
	if err := h.share(); err != nil {
		return err
	}
	if err := h.putStub(name); err != nil {
		return err
	}
	enter := func() error { return unix.Unshare(unix.CLONE_NEWNET) }
	return h.elsewhere(enter, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetAlias(lo, Mark{ID: name}.String()); err != nil {
			return fmt.Errorf("mark it: %w", err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("lo: %w", err)
		}
		if err := unix.Mount(h.ownNamespace(), h.space(name), "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount it: %w", err)
		}
		return nil
	})
}

// share makes the directory of namespaces a mount that is shared, as ip-netns(8) does: a namespace that goes is then gone in all mount
// namespaces that have it.
func (h Host) share() error {
	dir := h.netns()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) {
		if err = unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", dir, err)
	}
	return nil
}

// putStub puts the file for a namespace, whole or not at all.
func (h Host) putStub(name string) error {
	unfinished := h.space(halfMade)
	if err := os.WriteFile(unfinished, []byte(stub), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(unfinished) }()
	err := os.Link(unfinished, h.space(name))
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if mounted, err := h.mounted(name); err != nil || mounted || !h.isStub(name) {
		return errors.Join(ErrTaken, err)
	}
	return nil
}

// removeSpace takes away a namespace of the agent's: its name at once, itself when no process is in it.
func (h Host) removeSpace(name string) error {
	mounted, err := h.mounted(name)
	if errors.Is(err, ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	if mounted {
		ours := false
		if err := h.InNamespace(name, func() error { ours = marked(name); return nil }); err != nil {
			return err
		}
		if !ours {
			return fmt.Errorf("%w: it is not the agent's any longer", ErrTaken)
		}
		if err := unix.Unmount(h.space(name), unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount it: %w", err)
		}
	}
	if !h.isStub(name) {
		return fmt.Errorf("%w: what is below its mount is not the agent's", ErrTaken)
	}
	return os.Remove(h.space(name))
}

const forwarding = "ipv4/ip_forward"

// settings are the sysctls of a namespace below net: nothing is taken from router advertisements, an address can be used at once, only
// wanted addresses are there, and ARP is answered and asked as Neutron's namespaces do. The first resets others.
func settings(forward bool) [][2]string {
	is := "0"
	if forward {
		is = "1"
	}
	return [][2]string{
		{forwarding, is},
		{"ipv6/conf/all/forwarding", is},
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/addr_gen_mode", "1"},
		{"ipv4/conf/all/arp_ignore", "1"},
		{"ipv4/conf/all/arp_announce", "2"},
		{"ipv4/conf/all/promote_secondaries", "1"},
	}
}

func (h Host) setting(key string) string {
	return filepath.Join(cmp.Or(h.Proc, "/proc"), "sys/net", key)
}

func (h Host) readSetting(key string) string {
	text, err := os.ReadFile(h.setting(key))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func (h Host) tuned(forward bool) bool {
	for _, s := range settings(forward) {
		if is := h.readSetting(s[0]); is != s[1] && is != "" {
			return false
		}
	}
	return true
}

// tune sets the sysctls that the host has: one without IPv6 has none of its.
func (h Host) tune(forward bool) error {
	for _, s := range settings(forward) {
		err := os.WriteFile(h.setting(s[0]), []byte(s[1]), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
