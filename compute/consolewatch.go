package compute

import (
	"context"
	"errors"

	"compute-agent/console"
	"compute-agent/virt"
)

// consoleWatch is a connection to a console, which has to end when the server's tokens are revoked or its guest goes.
type consoleWatch struct{ ended chan struct{} }

// maxConsoleToken is longer than any token is.
const maxConsoleToken = 128

// Authorize implements console.Authorizer. What a token opens is read from the store and the guest at each call.
func (s *ConsoleService) Authorize(ctx context.Context, token string) (console.Grant, <-chan struct{}, func(), error) {
	t, err := s.token(ctx, token)
	if err != nil {
		return console.Grant{}, nil, nil, err
	}
	// Who revokes tokens takes them away and then ends the watches. So what is found once the watch is there is either still good, or the watch ends.
	watch, release := s.watch(t.ServerID)
	grant, err := s.grant(ctx, token)
	if err != nil {
		release()
		return console.Grant{}, nil, nil, err
	}
	return grant, watch.ended, release, nil
}

func (s *ConsoleService) grant(ctx context.Context, token string) (console.Grant, error) {
	t, err := s.token(ctx, token)
	if err != nil {
		return console.Grant{}, err
	}
	at, err := s.find(ctx, t.ServerID, t.Type, t.Port)
	if err != nil {
		return console.Grant{}, err
	}
	return console.Grant{
		ServerID: t.ServerID, Protocol: string(t.Type), Network: at.Network, Address: at.Address, TLSAddress: at.TLSAddress, TokenID: t.Hash, Expires: t.Expires,
	}, nil
}

// token finds the record of a token that is good now.
func (s *ConsoleService) token(ctx context.Context, token string) (t ConsoleToken, err error) {
	if s.opt.Disabled || token == "" || len(token) > maxConsoleToken {
		return t, console.ErrNoToken
	}
	var server Server
	err = s.opt.Store.View(ctx, func(tx Reader) (err error) {
		if t, err = tx.ConsoleToken(consoleHash(token)); err == nil {
			server, err = tx.Server(t.ServerID)
		}
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return t, console.ErrNoToken
	case err != nil:
		return t, err
	case !s.now().Before(t.Expires) || server.Task == TaskDeleting || server.ProjectID != t.ProjectID:
		return t, console.ErrNoToken
	}
	return t, nil
}

// ConsoleTarget is where a token leads, for operators.
type ConsoleTarget struct {
	ServerID string
	virt.Console
}

// ConsoleTarget says where a token leads. ErrNotFound if it opens nothing.
func (s *ConsoleService) ConsoleTarget(ctx context.Context, token string) (ConsoleTarget, error) {
	t, err := s.token(ctx, token)
	if errors.Is(err, console.ErrNoToken) {
		return ConsoleTarget{}, &Failure{Kind: ErrNotFound, Reason: "Token not found"}
	}
	if err != nil {
		return ConsoleTarget{}, err
	}
	at, err := s.find(ctx, t.ServerID, t.Type, t.Port)
	return ConsoleTarget{t.ServerID, at}, err
}

// watch registers a connection. release is to be called once.
func (s *ConsoleService) watch(serverID string) (*consoleWatch, func()) {
	w := &consoleWatch{make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		close(w.ended)
		return w, func() {}
	}
	if s.watches[serverID] == nil {
		s.watches[serverID] = map[*consoleWatch]bool{}
	}
	s.watches[serverID][w] = true
	return w, func() { s.release(serverID, w) }
}

func (s *ConsoleService) release(serverID string, w *consoleWatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watches[serverID], w)
	if len(s.watches[serverID]) == 0 {
		delete(s.watches, serverID)
	}
}

// end ends the connections to a server's consoles and says how many.
func (s *ConsoleService) end(serverID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.watches[serverID])
	for w := range s.watches[serverID] {
		close(w.ended)
	}
	delete(s.watches, serverID)
	return n
}

// guestGone ends the connections to a guest that ended. Its tokens stay: a guest that is started again has consoles again. Nil does nothing.
func (s *ConsoleService) guestGone(serverID string) {
	if s != nil {
		s.end(serverID)
	}
}

// recheck ends the connections to guests that are gone, when events may have been missed. Nil does nothing.
func (s *ConsoleService) recheck(ctx context.Context) {
	if s == nil || s.opt.Finder == nil {
		return
	}
	for _, id := range s.watched() {
		call, cancel := context.WithTimeout(ctx, s.opt.Timeout)
		_, err := s.opt.Finder.Consoles(call, id)
		cancel()
		if errors.Is(err, virt.ErrNotFound) || errors.Is(err, virt.ErrInvalidState) {
			s.end(id)
		}
	}
}

func (s *ConsoleService) watched() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.watches))
	for id := range s.watches {
		ids = append(ids, id)
	}
	return ids
}
