// Package uevent waits for what the kernel and udev do with devices. An event only says that it is time to look again: what is true is
// in sysfs, so that an event that was lost, or that somebody else sent, does no harm.
package uevent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

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
	events chan struct{}
	only   [][]byte      // one of which an event must have in it; empty for all
	glance time.Duration // see Glance
	close  func() error
}

// Only leaves out events that have none of the texts in them, such as Device. It is to be said before what is waited for is begun. Where 50 disks come at
// once, all who wait would otherwise look again at each event of all.
func (w *Watch) Only(texts ...string) {
	hub.Lock()
	defer hub.Unlock()
	w.only = nil
	for _, text := range texts {
		w.only = append(w.only, []byte(text))
	}
}

// Device is what the events of a device have in them, the kernel's and udev's: the end of its path in sysfs. A message is strings that end with a zero byte.
func Device(name string) string { return "/" + name + "\x00" }

// Below is what the events of all that is below a device have in them.
func Below(name string) string { return "/" + name + "/" }

// Subsystem is what the events of devices of a subsystem have in them.
func Subsystem(name string) string { return "SUBSYSTEM=" + name + "\x00" }

// Glance has Until ask again also when there was no event for so long: for what the kernel changes and tells nobody.
func (w *Watch) Glance(every time.Duration) { w.glance = every }

// hub is the one socket of this process, open while there are watches: each event is read once, however many wait.
var hub struct {
	sync.Mutex
	watches map[*Watch]bool
	socket  *os.File
}

// Open subscribes to the events of this host.
func Open() (*Watch, error) {
	hub.Lock()
	defer hub.Unlock()
	if hub.socket == nil {
		socket, err := listen()
		if err != nil {
			return nil, fmt.Errorf("uevents: %w", err)
		}
		hub.socket, hub.watches = socket, map[*Watch]bool{}
		go receive(socket)
	}
	w := &Watch{events: make(chan struct{}, 1)}
	w.close = func() error { return leave(w) }
	hub.watches[w] = true
	return w, nil
}

func listen() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup | udevGroup}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "uevents"), nil // non-blocking: Close ends a Read
}

// leave ends a subscription, and the socket with the last.
func leave(w *Watch) error {
	hub.Lock()
	defer hub.Unlock()
	if !hub.watches[w] {
		return nil
	}
	delete(hub.watches, w)
	close(w.events)
	if len(hub.watches) > 0 {
		return nil
	}
	socket := hub.socket
	hub.socket = nil
	return socket.Close()
}

// receive wakes those whom a message is for, until the socket is closed.
func receive(socket *os.File) {
	const most = 16 << 10 // udev's messages have all properties; what is beyond is dropped
	buffer := make([]byte, most)
	for {
		n, err := socket.Read(buffer)
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		wake(socket, buffer[:n], err != nil) // ENOBUFS: events were lost, which may have been for anybody
	}
}

func wake(socket *os.File, message []byte, all bool) {
	hub.Lock()
	defer hub.Unlock()
	if hub.socket != socket {
		return
	}
	for w := range hub.watches {
		if all || w.concerns(message) {
			select {
			case w.events <- struct{}{}:
			default:
			}
		}
	}
}

func (w *Watch) concerns(message []byte) bool {
	return len(w.only) == 0 || slices.ContainsFunc(w.only, func(text []byte) bool { return bytes.Contains(message, text) })
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
	var glance <-chan time.Time
	if w.glance > 0 {
		ticker := time.NewTicker(w.glance)
		defer ticker.Stop()
		glance = ticker.C
	}
	for {
		if done, err := check(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-glance:
		case _, open := <-w.events:
			if !open {
				return fmt.Errorf("uevents: %w", os.ErrClosed)
			}
		}
	}
}

// Close ends the subscription.
func (w *Watch) Close() error { return w.close() }
