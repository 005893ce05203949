package router

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// within calls f in a namespace, in a thread of its own. It is told the namespace's cookie, which no other ever has: one that is made anew
// under the same name has another, though it may have the inode of the one before.
func (rs *Routers) within(namespace string, f func(cookie uint64) error) error {
	return rs.host.InNamespace(namespace, func() error {
		cookie, err := cookie()
		if err != nil {
			return fmt.Errorf("namespace %s: its cookie, which Linux has since 5.14: %w", namespace, err)
		}
		return f(cookie)
	})
}

// cookie is that of the calling thread's namespace.
func cookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}
