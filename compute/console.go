package compute

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"compute-agent/console"
	"compute-agent/virt"
)

// ConsoleOptions are what a ConsoleService works with. Store and Finder are required; a zero number gets the default that its comment names.
type ConsoleOptions struct {
	Store Store
	// Finder says where guests' consoles are. Nil: there are none.
	Finder virt.ConsoleFinder
	// BaseURL is the scheme, host, port and path under which clients reach the pages and WebSockets, without a slash at its end.
	BaseURL string
	// Disabled: no console is given out, and no token opens one.
	Disabled bool

	Lifetime  time.Duration // of a token; default 600 s ([consoleauth]token_ttl)
	PerServer int           // tokens that a server has at a time, the oldest goes for a new one; default 64
	Timeout   time.Duration // for asking the hypervisor; default 30 s

	Logger *slog.Logger                                   // default: nothing is logged
	Clock  func() time.Time                               // default time.Now
	After  func(time.Duration, func()) (stop func() bool) // runs a function later; default time.AfterFunc
}

func (o ConsoleOptions) withDefaults() ConsoleOptions {
	o.Lifetime = cmp.Or(o.Lifetime, 10*time.Minute)
	o.PerServer = cmp.Or(o.PerServer, 64)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.After == nil {
		o.After = func(d time.Duration, fn func()) func() bool { return time.AfterFunc(d, fn).Stop }
	}
	return o
}

// ConsoleService gives out tokens for consoles and says what they open. It implements console.Authorizer. Its methods may be called concurrently.
type ConsoleService struct {
	opt ConsoleOptions
	log *slog.Logger

	mu      sync.Mutex
	watches map[string]map[*consoleWatch]bool // of connections, by server
	closed  bool
	stop    func() bool    // of the next sweep; nil: none is to come
	sweeps  sync.WaitGroup // under way
}

var _ console.Authorizer = (*ConsoleService)(nil)

// NewConsoleService returns a service that has not begun.
func NewConsoleService(opt ConsoleOptions) *ConsoleService {
	opt = opt.withDefaults()
	return &ConsoleService{opt: opt, log: opt.Logger, watches: map[string]map[*consoleWatch]bool{}}
}

// ConsoleAccess is what a user gets who asks for a console.
type ConsoleAccess struct {
	Type    virt.ConsoleType
	URL     string // with the token in it
	Token   string
	Expires time.Time
}

// CreateConsole makes a token for a console of a running server. port is of serial consoles. Errors: ErrNotFound; ErrConflict if the server has no guest that
// runs; ErrInvalid if the guest has no such console.
func (s *ConsoleService) CreateConsole(ctx context.Context, serverID string, t virt.ConsoleType, port int) (ConsoleAccess, error) {
	var server Server
	err := s.opt.Store.View(ctx, func(tx Reader) (err error) {
		server, err = tx.Server(serverID)
		return err
	})
	if err != nil {
		return ConsoleAccess{}, err
	}
	if server.Task == TaskDeleting {
		return ConsoleAccess{}, notReady(serverID, nil)
	}
	if _, err := s.find(ctx, serverID, t, port); err != nil {
		return ConsoleAccess{}, err
	}
	token, err := newConsoleToken()
	if err != nil {
		return ConsoleAccess{}, err
	}
	now := s.now()
	record := ConsoleToken{
		Hash: consoleHash(token), ServerID: serverID, ProjectID: server.ProjectID, Type: t, Port: port, Created: now, Expires: now.Add(s.opt.Lifetime),
	}
	if err := s.opt.Store.Update(context.WithoutCancel(ctx), func(tx Writer) error { return s.keep(tx, record) }); err != nil {
		return ConsoleAccess{}, err
	}
	s.sweepAt(record.Expires)
	s.log.Info("console token made", "server_id", serverID, "type", t, "port", port, "request_id", RequestID(ctx))
	return ConsoleAccess{Type: t, URL: consoleURL(s.opt.BaseURL, t, token), Token: token, Expires: record.Expires}, nil
}

// keep stores a token, and lets go of those for which it makes room. A server that was deleted since it was looked at gets none.
func (s *ConsoleService) keep(tx Writer, token ConsoleToken) error {
	server, err := tx.Server(token.ServerID)
	if err != nil {
		return err
	}
	if server.Task == TaskDeleting || server.ProjectID != token.ProjectID {
		return notReady(token.ServerID, nil)
	}
	if err := tx.ExpireConsoleTokens(token.Created); err != nil {
		return err
	}
	has, err := tx.ConsoleTokens(token.ServerID)
	if err != nil {
		return err
	}
	for ; len(has) >= s.opt.PerServer; has = has[1:] {
		if err := tx.DeleteConsoleToken(has[0].Hash); err != nil {
			return err
		}
	}
	return tx.PutConsoleToken(token)
}

// newConsoleToken is 256 random bits, in characters that mean nothing in a URL.
func newConsoleToken() (string, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", fmt.Errorf("make a console token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(secret), nil
}

// consoleURL is where a browser, or for serial consoles a WebSocket client, takes a token, in the forms of Nova: the path that noVNC is told has the
// token in it ([vnc]novncproxy_base_url), and a serial console is a WebSocket ([serial_console]base_url).
func consoleURL(base string, t virt.ConsoleType, token string) string {
	switch t {
	case virt.ConsoleVNC:
		return base + "/vnc_auto.html?path=" + url.QueryEscape("?token="+token)
	case virt.ConsoleSPICE:
		return base + "/spice_auto.html?token=" + url.QueryEscape(token)
	default:
		return "ws" + strings.TrimPrefix(base, "http") + "/?token=" + url.QueryEscape(token)
	}
}

// find asks the hypervisor for a guest's console as it is now.
func (s *ConsoleService) find(ctx context.Context, serverID string, t virt.ConsoleType, port int) (virt.Console, error) {
	if s.opt.Disabled || s.opt.Finder == nil {
		return virt.Console{}, noConsole(t)
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	list, err := s.opt.Finder.Consoles(ctx, serverID)
	switch {
	case errors.Is(err, virt.ErrNotFound), errors.Is(err, virt.ErrInvalidState):
		return virt.Console{}, notReady(serverID, err)
	case errors.Is(err, virt.ErrUnavailable):
		return virt.Console{}, &Failure{Kind: ErrUnavailable, Subject: "server " + serverID, Reason: "the hypervisor does not answer", Err: err}
	case err != nil:
		return virt.Console{}, err
	}
	i := slices.IndexFunc(list, func(c virt.Console) bool { return c.Type == t && c.Port == port })
	if i < 0 {
		return virt.Console{}, noConsole(t)
	}
	return list[i], nil
}

func notReady(serverID string, err error) error {
	return &Failure{Kind: ErrConflict, Reason: "Instance " + serverID + " is not ready: it has no guest that runs", Err: err}
}

// noConsole says with the API's word which console a server does not have.
func noConsole(t virt.ConsoleType) error {
	return &Failure{Kind: ErrInvalid, Field: "type", Reason: fmt.Sprintf("Unavailable console type %s.", consoleWords[t])}
}

// consoleWords are what the API calls the types of consoles.
var consoleWords = map[virt.ConsoleType]string{virt.ConsoleVNC: "novnc", virt.ConsoleSPICE: "spice-html5", virt.ConsoleSerial: "serial"}

// RevokeConsoles makes all tokens of a server worthless and ends the connections that were made with them, also with those that have expired since.
func (s *ConsoleService) RevokeConsoles(ctx context.Context, serverID string) error {
	err := s.opt.Store.Update(context.WithoutCancel(ctx), func(tx Writer) error {
		if _, err := tx.Server(serverID); err != nil {
			return err
		}
		return tx.DeleteConsoleTokens(serverID)
	})
	if err != nil {
		return err
	}
	n := s.end(serverID)
	s.log.Info("console tokens revoked", "server_id", serverID, "connections", n, "request_id", RequestID(ctx))
	return nil
}

func (s *ConsoleService) now() time.Time { return s.opt.Clock().UTC() }
