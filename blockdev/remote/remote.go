// Package remote connects volumes that need no block layer of the host's: block devices and files that are there already (local, file), files on NFS servers, and
// drives that the hypervisor itself reaches (rbd, nbd, and iSCSI by QEMU's own initiator). What they have in common is that little of them is on the host.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"compute-agent/blockdev/connector"
)

const (
	// reach is how long a server may take to answer a connection.
	reach = 5 * time.Second
	// limit is how long a program may take that asks a server.
	limit = 20 * time.Second
)

// Dial opens a TCP connection; net.Dialer's DialContext is one.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// reachable returns which of some servers answers a connection first. field is what an error names.
func reachable(ctx context.Context, dial Dial, field string, servers []connector.Address) (connector.Address, error) {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	within, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	type answer struct {
		server connector.Address
		err    error
	}
	answers := make(chan answer, len(servers))
	for _, s := range servers {
		go func() {
			conn, err := dial(within, "tcp", address(s))
			if err == nil {
				err = conn.Close()
			}
			answers <- answer{s, err}
		}()
	}
	var failures []error
	for range servers {
		a := <-answers
		if a.err == nil {
			return a.server, nil
		}
		failures = append(failures, a.err)
	}
	if ctx.Err() != nil {
		return connector.Address{}, context.Cause(ctx)
	}
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = address(s)
	}
	return connector.Address{}, &connector.Error{
		Reason: connector.Unreachable, Field: field, Value: strings.Join(names, " "),
		Rule: fmt.Sprintf("no server answers within %v", reach), Err: errors.Join(failures...),
	}
}

func address(a connector.Address) string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

// bounded waits for what the kernel may never return from, such as a file of a server that is gone. What it does goes on when ctx ends.
func bounded[T any](ctx context.Context, what string, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}

// nobody is the Connector's Disconnect of volumes that leave nothing on the host.
type nobody struct{}

// Disconnect does nothing: the hypervisor has closed the volume, and nothing else was there.
func (nobody) Disconnect(context.Context, connector.Info, connector.Device) error { return nil }
