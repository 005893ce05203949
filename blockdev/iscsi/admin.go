package iscsi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

// Exit codes of iscsiadm (include/iscsi_err.h of open-iscsi) that mean something to the agent.
const (
	exitSessionNotFound = 2
	exitTransport       = 4
	exitLogin           = 5
	exitTimeout         = 8
	exitPDUTimeout      = 11
	exitNoTransport     = 12
	exitAccess          = 13
	exitSessionExists   = 15
	exitDaemonComm      = 18
	exitFatalLogin      = 19
	exitDaemonAway      = 20
	exitNothingFound    = 21
	exitAuthFailed      = 24
)

// causes are what exit codes of a login or a discovery mean. iscsiadm's own last line says only that it could not log in everywhere.
var causes = map[int]struct {
	reason connector.Reason
	text   string
}{
	exitTransport:    {connector.Unreachable, "the connection failed"},
	exitLogin:        {connector.Unreachable, "the target refuses the login"},
	exitTimeout:      {connector.Unreachable, "the login did not come to an end in time: the target is not there, or not answering"},
	exitPDUTimeout:   {connector.Unreachable, "the portal does not answer"},
	exitFatalLogin:   {connector.Unreachable, "the target refuses the login"},
	exitAuthFailed:   {connector.AuthFailed, "the target refuses who logs in: user, password or this host's initiator name are not what it wants"},
	exitNoTransport:  {connector.Unsupported, "the kernel has no iSCSI transport of this kind: a module such as iscsi_tcp is missing"},
	exitAccess:       {connector.Unsupported, "iscsiadm has not the rights that it needs"},
	exitDaemonComm:   {connector.Unsupported, "iscsid does not run (systemctl start iscsid)"},
	exitDaemonAway:   {connector.Unsupported, "iscsid does not run (systemctl start iscsid)"},
	exitNothingFound: {connector.Unreachable, "nothing was found there"},
}

// atOnce is how many iscsiadm run side by side: iscsid does one thing at a time, and who waits for it should not use up the time that it has.
const atOnce = 16

// admin is iscsiadm.
type admin struct {
	run   command.Runner
	slots chan struct{}
}

func (a admin) do(ctx context.Context, args ...string) ([]byte, error) {
	return a.run.Run(ctx, command.Cmd{Name: "iscsiadm", Args: args})
}

// slot waits until another iscsiadm may run.
func (a admin) slot(ctx context.Context) (giveBack func(), err error) {
	select {
	case a.slots <- struct{}{}:
		return func() { <-a.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// login logs in by the record of a path, and returns when the kernel has the session.
func (a admin) login(ctx context.Context, p path) error {
	_, err := a.do(ctx, "-m", "node", "-T", p.iqn, "-p", p.portal(), "-I", p.iface, "--login")
	if exitCode(err) == exitSessionExists {
		return nil
	}
	return explain(p.portal(), err)
}

// logout ends a session, and returns when the kernel has it no more. One that is not there has ended.
func (a admin) logout(ctx context.Context, id int) error {
	giveBack, err := a.slot(ctx)
	if err != nil {
		return err
	}
	defer giveBack()
	_, err = a.do(ctx, "-m", "session", "-r", strconv.Itoa(id), "--logout")
	if code := exitCode(err); code == exitNothingFound || code == exitSessionNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("logout of iSCSI session %d: %w", id, err)
	}
	return nil
}

// sendTargets asks a portal which portals its targets have. open-iscsi writes nothing down of the answer, so no target is ever logged in at
// because of it, and no node.startup has to be put back. With stored, who asks is in the discovery record of the portal.
func (a admin) sendTargets(ctx context.Context, portal, iface string, stored bool) ([]connector.ISCSITarget, error) {
	args := []string{"-m", "discovery", "-t", "sendtargets", "-p", portal, "-I", iface, "-o", "nonpersistent"}
	if stored {
		args[1] = "discoverydb"
		args = append(args, "--discover")
	}
	out, err := a.do(ctx, args...)
	if err != nil {
		return nil, explain(portal, err)
	}
	return parseTargets(out), nil
}

// parseTargets reads lines of "portal,group name". What else the target may send is left out.
func parseTargets(out []byte) []connector.ISCSITarget {
	var found []connector.ISCSITarget
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		portal, _, is := strings.Cut(fields[0], ",")
		t := connector.ISCSITarget{Portal: portal, IQN: fields[1]}
		if is && !slices.Contains(found, t) {
			found = append(found, t)
		}
	}
	return found
}

func exitCode(err error) int {
	var failure *command.Error
	if errors.As(err, &failure) {
		return failure.ExitCode
	}
	return 0
}

// explain says in the connector's words why iscsiadm could not reach or enter a portal.
func explain(portal string, err error) error {
	if err == nil {
		return nil
	}
	e := &connector.Error{Reason: connector.Unreachable, Field: "target_portal", Value: portal, Rule: "iscsiadm failed", Err: err}
	switch cause, known := causes[exitCode(err)]; {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		e = &connector.Error{Reason: connector.Unsupported, Rule: "this host has no iscsiadm (package open-iscsi)"}
	case known && cause.reason == connector.Unsupported:
		e = &connector.Error{Reason: cause.reason, Rule: cause.text, Err: err}
	case known:
		e.Reason, e.Rule, e.Err = cause.reason, cause.text, nil
	}
	return e
}

// discover returns the paths that SendTargets tells of to the same target. One that this host cannot reach is among them: arrays name all their
// portals to everybody. Other targets are left out; that they have the same volume is nowhere said.
func (c *Connector) discover(ctx context.Context, p path, auth *connector.CHAP) ([]path, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Login)
	defer cancel()
	unlock, err := c.portals.Lock(ctx, p.portal())
	if err != nil {
		return nil, err
	}
	defer unlock()
	restore := func() error { return nil }
	if auth != nil {
		if restore, err = c.records.lend(p, auth); err != nil {
			return nil, err
		}
	}
	targets, err := c.admin.sendTargets(ctx, p.portal(), p.iface, auth != nil)
	if err = errors.Join(err, restore()); err != nil {
		return nil, err
	}
	paths := []path{p}
	for _, t := range targets {
		other, err := newPath(t, p.iface)
		if err == nil && other.iqn == p.iqn && !slices.Contains(paths, other) {
			paths = append(paths, other)
		}
	}
	return paths, nil
}

// discoveryFile is where the record of a discovery at a portal is.
func (r records) discoveryFile(p path) string {
	return filepath.Join(r.root("send_targets"), p.host+","+strconv.Itoa(p.port), "st_config")
}

// lend writes the discovery record of a portal, and returns what takes it away again. One of somebody else's is then put back.
func (r records) lend(p path, auth *connector.CHAP) (restore func() error, err error) {
	chap, err := chapSettings("discovery.sendtargets.auth.", "discovery_auth_", auth)
	if err != nil {
		return nil, err
	}
	file := r.discoveryFile(p)
	text := renderSettings(append([]setting{
		{"discovery.startup", "manual"},
		{"discovery.type", "sendtargets"},
		{"discovery.sendtargets.address", p.host},
		{"discovery.sendtargets.port", strconv.Itoa(p.port)},
	}, chap...), r.defaults("discovery."))
	others, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	restore = func() error { return r.forget(p) }
	if err == nil && !ours(file) {
		restore = func() error { return r.replace(file, others) }
	}
	if err := r.replace(file, text); err != nil {
		return nil, fmt.Errorf("iSCSI discovery record of %s: %w", p.portal(), err)
	}
	return restore, nil
}

// forget removes the discovery record of a portal if the agent made it.
func (r records) forget(p path) error {
	file := r.discoveryFile(p)
	if !ours(file) {
		return nil
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("iSCSI discovery record of %s: %w", p.portal(), err)
	}
	_ = os.Remove(filepath.Dir(file)) // fails when there are links to records of somebody else's
	return nil
}
