package iscsi

import (
	"context"
	"fmt"
	"slices"
	"time"

	"compute-agent/blockdev/connector"
)

// hold keeps the session of a path, that there is or is to be, until it is let go.
func (c *Connector) hold(p path) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[p]++
}

// letGo is the end of hold. A session that nobody has a use for any more ends with it.
func (c *Connector) letGo(ctx context.Context, p path) error {
	c.mu.Lock()
	if c.held[p]--; c.held[p] == 0 {
		delete(c.held, p)
	}
	c.mu.Unlock()
	return c.leave(ctx, p)
}

func (c *Connector) isHeld(p path) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[p] > 0
}

// find returns the session of a path.
func (c *Connector) find(p path) (Session, bool, error) {
	all, err := sessions(c.SCSI.Sys, p.iqn)
	i := slices.IndexFunc(all, func(s Session) bool { return s.is(p) })
	if err != nil || i < 0 {
		return Session{}, false, err
	}
	return all[i], true, nil
}

// enter returns the session of a path that the caller holds, logged in if need be. There is never a second one of the same path.
func (c *Connector) enter(ctx context.Context, p path, auth *connector.CHAP) (Session, error) {
	unlock, err := c.paths.Lock(ctx, p)
	if err != nil {
		return Session{}, err
	}
	defer unlock()
	s, found, err := c.find(p)
	if err != nil {
		return Session{}, err
	}
	if !found {
		if s, err = c.logIn(ctx, p, auth); err != nil {
			return Session{}, err
		}
	}
	return c.connected(ctx, s)
}

// logIn makes a session. A portal that does not answer is not iscsid's business: it would go on trying when nobody waits for it any more, and does
// not say why it fails. A login that was begun is not given up when ctx ends, so that what comes after it finds a session or will find none.
func (c *Connector) logIn(ctx context.Context, p path, auth *connector.CHAP) (Session, error) {
	if err := c.probe(ctx, p); err != nil {
		return Session{}, err
	}
	giveBack, err := c.admin.slot(ctx)
	if err != nil {
		return Session{}, err
	}
	defer giveBack()
	if err := c.records.write(p, auth); err != nil {
		return Session{}, err
	}
	const margin = 15 * time.Second // iscsid keeps its own time
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Login+margin)
	defer cancel()
	if err := c.admin.login(limited, p); err != nil {
		return Session{}, err
	}
	s, found, err := c.find(p)
	if err == nil && !found {
		err = &connector.Error{Reason: connector.Unreachable, Field: "target_portal", Value: p.portal(), Rule: "the session ended as soon as it had begun"}
	}
	return s, err
}

// probe connects to a portal and closes the connection. With an interface of its own the initiator may go another way than we would.
func (c *Connector) probe(ctx context.Context, p path) error {
	if p.iface != defaultInterface {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Probe)
	defer cancel()
	conn, err := c.Dial(ctx, "tcp", p.portal())
	if err != nil {
		return &connector.Error{Reason: connector.Unreachable, Field: "target_portal", Value: p.portal(), Rule: "the portal does not answer", Err: err}
	}
	return conn.Close()
}

// lookAgain is how often the state of a session is read: the kernel sends no uevent of it.
const lookAgain = 100 * time.Millisecond

// connected waits for a session whose connection was lost. The kernel would let a scan wait for it, and not be interrupted.
func (c *Connector) connected(ctx context.Context, s Session) (Session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Login)
	defer cancel()
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for !s.LoggedIn() {
		select {
		case <-ctx.Done():
			return Session{}, &connector.Error{
				Reason: connector.Unreachable, Field: "target_portal", Value: s.Portal,
				Rule: fmt.Sprintf("session %d has lost its connection (%s)", s.ID, s.State), Err: context.Cause(ctx),
			}
		case <-ticker.C:
		}
		all, err := sessions(c.SCSI.Sys, s.IQN)
		i := slices.IndexFunc(all, func(other Session) bool { return other.ID == s.ID })
		if err != nil || i < 0 {
			return Session{}, &connector.Error{Reason: connector.Unreachable, Field: "target_portal", Value: s.Portal, Rule: fmt.Sprintf("session %d has ended", s.ID), Err: err}
		}
		s = all[i]
	}
	return s, nil
}

// leave ends the session of a path and removes its record, unless somebody holds it or has a disk by it. A session that was logged in by a record of
// somebody else's is theirs.
func (c *Connector) leave(ctx context.Context, p path) error {
	unlock, err := c.paths.Lock(ctx, p)
	if err != nil {
		return err
	}
	defer unlock()
	if c.isHeld(p) {
		return nil
	}
	s, found, err := c.find(p)
	if err != nil {
		return err
	}
	if found {
		disks, err := c.disks(s)
		if err != nil || len(disks) > 0 || c.records.others(p) {
			return err
		}
		if err := c.admin.logout(ctx, s.ID); err != nil {
			return err
		}
	}
	return c.records.remove(p)
}
