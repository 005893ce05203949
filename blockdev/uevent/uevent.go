// Package uevent waits for what the kernel and udev do with devices. An event only says that it is time to look again: what is true is
// in sysfs, so that an event that was lost, or that somebody else sent, does no harm.
package uevent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The multicast groups of NETLINK_KOBJECT_UEVENT: the kernel's own events, and udev's, that come when its rules have run (and links are there).
const (
	kernelGroup = 1 << 0
	udevGroup   = 1 << 1
)

// Watch is a subscription. It is opened before what is waited for is begun, so that no event is missed. One goroutine may wait on it at a
// time.
type Watch struct {
	events <-chan struct{}
	close  func() error
}

// Open subscribes to the events of this host.
func Open() (*Watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevents: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup | udevGroup}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("uevents: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "uevents") // non-blocking: Close ends a Read
	events := make(chan struct{}, 1)
	go receive(socket, events)
	return &Watch{events: events, close: socket.Close}, nil
}

// receive turns messages into one wake-up until the socket is closed.
func receive(socket *os.File, events chan<- struct{}) {
	defer close(events)
	buffer := make([]byte, 1) // the rest of a message is dropped: nothing of it is needed
	for {
		_, err := socket.Read(buffer)
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // ENOBUFS: events were lost, so there were some
			return
		}
		select {
		case events <- struct{}{}:
		default:
		}
	}
}

// Fed is a Watch whose events are calls of the returned function, for tests of what waits.
func Fed() (w *Watch, event func()) {
	events := make(chan struct{}, 1)
	event = func() {
		select {
		case events <- struct{}{}:
		default:
		}
	}
	return &Watch{events: events, close: func() error { return nil }}, event
}

// Until returns when check says so: it is asked at once and after every event. The error is check's, or the cause of ctx's end.
func (w *Watch) Until(ctx context.Context, check func() (bool, error)) error {
	for {
		if done, err := check(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case _, open := <-w.events:
			if !open {
				return fmt.Errorf("uevents: %w", os.ErrClosed)
			}
		}
	}
}

// Close ends the subscription.
func (w *Watch) Close() error { return w.close() }
