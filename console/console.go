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

// The close codes of WebSockets that say why a console ended; each comes with a reason that a page can show as it is. They are of the range that RFC 6455
// (7.4.2) leaves to applications, and their last digits are those of HTTP. Besides them the proxy sends 1000 when the guest has closed its console, 1001 when
// the agent stops, and 1002 and 1009 to clients that break the protocol. What is wrong with the request itself (Origin, no TLS, a subprotocol that there is
// not, too many wrong tokens) is answered in HTTP, with 403, 400 and 429, and no WebSocket begins.
const (
	CloseNoToken      = 4401 // the token is unknown, has expired, or was revoked: ask for a new one
	CloseOtherConsole = 4403 // the token opens another server or another protocol than the request's "server" and "protocol" say
	CloseIdle         = 4408 // nobody sent anything for too long, or the client does not answer
	CloseTaken        = 4409 // another client has opened the serial port, which has room for one
	CloseEnded        = 4410 // the token was revoked, or the guest went, while the console was open
	CloseTimeLimit    = 4418 // the console was open for as long as a console may be
	CloseTooMany      = 4429 // too many consoles are open with this token, on this server, or in all
	CloseUnreachable  = 4502 // the guest's console cannot be reached, or speaks otherwise than it should
)

// ErrNoToken says that a token opens nothing.
var ErrNoToken = errors.New("the token is unknown, has expired, or was revoked")
