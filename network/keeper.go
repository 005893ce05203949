package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// Watch tells that links, their limits or addresses changed, of the namespace in which it is called or of one that veths lead to, or that a
// named namespace went: once for what changed since the last time was received. The channel is closed when ctx ends or nothing can be told any more.
func (h Host) Watch(ctx context.Context) (<-chan struct{}, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_TC)
	if err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	// The kernel tells of the namespaces to which the host's veths lead too, and no socket in them keeps them in being.
	if err := unix.SetsockoptInt(socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		socket.Close()
		return nil, fmt.Errorf("watch links in namespaces: %w", err)
	}
	names, err := h.watchNames()
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("watch namespaces: %w", err)
	}
	events := make(chan struct{}, 1)
	tell := func() {
		select {
		case events <- struct{}{}:
		default: // one that was not received yet tells it
		}
	}
	ctx, end := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() {
		socket.Close()
		_ = names.Close()
	})
	var busy sync.WaitGroup
	busy.Go(func() {
		defer end()
		for {
			// ENOBUFS is that the kernel had more to tell than it could keep, which is an event too.
			if _, _, err := socket.Receive(); err != nil && !passing(err) {
				return
			}
			tell()
		}
	})
	busy.Go(func() {
		defer end()
		for buf := make([]byte, 4096); ; tell() {
			if _, err := names.Read(buf); err != nil {
				return
			}
		}
	})
	go func() {
		busy.Wait()
		close(events)
	}()
	return events, nil
}

// watchNames tells of namespaces that lose their names. Of one in which a process runs no link goes with its name, and so the links tell nothing.
func (h Host) watchNames() (*os.File, error) {
	if err := os.MkdirAll(h.netns(), 0o755); err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, h.netns(), unix.IN_DELETE|unix.IN_MOVED_FROM); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

func passing(err error) bool {
	return !errors.Is(err, os.ErrClosed) && (errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN))
}

// Keeper holds a host's links to what was last asked of it: it repairs what others change. Of Open vSwitch's own database
// the kernel tells nothing: what is changed there alone the next event or Apply repairs.
type Keeper struct {
	os      OS
	report  func([]Change, error)
	mu      sync.Mutex // held while links are changed
	want    State
	asked   bool
	failed  string // the problem that was reported last
	repairs atomic.Uint64
}

// NewKeeper makes a Keeper of a host's links. It calls report with the changes that it made by itself, and with what it
// could not do when that is not what it could not do before; report must not call the Keeper.
func NewKeeper(os OS, report func([]Change, error)) *Keeper {
	return &Keeper{os: os, report: report}
}

// Apply is Apply, with a State to hold from now on.
func (k *Keeper) Apply(ctx context.Context, want State) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.want, k.asked = want.clone(), true
	err := Apply(ctx, k.os, k.want)
	k.failed = text(err)
	return err
}

// Remove takes links away at once, which are the agent's, and holds them no longer. The error is about those that are left.
func (k *Keeper) Remove(ctx context.Context, names []string) error {
	return k.release(ctx, names, OpRemove, func(name string) { delete(k.want.Links, name) })
}

// Unplug takes links out of their bridges at once, and holds them there until the next Apply.
func (k *Keeper) Unplug(ctx context.Context, names []string) error {
	return k.release(ctx, names, OpMaster, func(name string) {
		if l, is := k.want.Links[name]; is {
			l.Master, l.Native, l.Tagged = "", 0, nil
			k.want.Links[name] = l
		}
	})
}

// release makes changes that let links go, past what was asked.
func (k *Keeper) release(ctx context.Context, names []string, op Op, forget func(string)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, name := range names {
		forget(name)
		c := Change{Op: op, Link: name}
		if err := k.os.Do(ctx, c); err != nil && !errors.Is(err, ErrMissing) {
			errs = append(errs, fmt.Errorf("%s: %w", c, err))
		}
	}
	return errors.Join(errs...)
}

// Repairs counts the changes that were made because others had changed something. To put a guest's tap into its bridge when it comes
// is none.
func (k *Keeper) Repairs() uint64 { return k.repairs.Load() }

// Somebody else who insists gets as many answers at once, and then so many a second.
const (
	repairsAtOnce    = 20
	repairsPerSecond = 5
)

// Run looks after the links at each event of Host.Watch, until there are no more or ctx ends.
func (k *Keeper) Run(ctx context.Context, events <-chan struct{}) error {
	limit := rate.NewLimiter(repairsPerSecond, repairsAtOnce)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, more := <-events:
			if !more {
				return nil
			}
		}
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		k.repair(ctx)
	}
}

func (k *Keeper) repair(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.asked {
		return
	}
	made, err := apply(ctx, k.os, k.want)
	for _, c := range made {
		if !k.want.Links[c.Link].Guest {
			k.repairs.Add(1)
		}
	}
	if now := text(err); len(made) > 0 || now != k.failed {
		k.failed = now
		k.report(made, err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
