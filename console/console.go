// Package console lets clients reach the screens and serial ports of guests: tokens that open one console of one server for a while, a proxy between WebSockets
// and what the hypervisor listens on, the pages with viewers, and the terminal of `compute-agent console attach`.
package console

import (
	"context"
	"errors"
	"time"
)

// The protocols of consoles, in the words of the API (remote-consoles, "protocol").
const (
	VNC    = "vnc"
	SPICE  = "spice"
	Serial = "serial"
)

// Grant is what a token opens, as it is at the moment of a connection: read from the live guest, never what a client says.
type Grant struct {
	ServerID string
	Protocol string // VNC, SPICE or Serial

	// Network and Address are what net.Dial takes: tcp and host:port, or unix and a path.
	Network, Address string
	TLSAddress       string // host:port where SPICE speaks TLS; empty for none

	TokenID string    // the token's hash: what connections per token are counted by; not a secret
	Expires time.Time // no connection begins after that
}

// Authorizer judges tokens.
type Authorizer interface {
	// Authorize returns what a token opens. ended is closed when the connection must end: the token was revoked, or the guest went. Errors: ErrNoToken if it
	// is unknown, expired or revoked (which of these is not said), others if the guest cannot be reached now. release ends the watch; it is to be called once.
	Authorize(ctx context.Context, token string) (grant Grant, ended <-chan struct{}, release func(), err error)
}

// ErrNoToken says that a token opens nothing.
var ErrNoToken = errors.New("the token is unknown, has expired, or was revoked")
