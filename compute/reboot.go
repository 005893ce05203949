package compute

import (
	"context"
	"encoding/json"
	"fmt"
)

// Reboot says how a server is restarted: softly, its operating system shutting down first, or hard, its guest ended and
// made again from the server's record.
type Reboot struct {
	Hard bool
	// AcceptHardwareChanges lets a hard reboot change what the guest's operating system sees of its hardware, whatever
	// the operator's HardwarePolicy.
	AcceptHardwareChanges bool
}

// rebootArgs are in the journal until the server is restarted.
type rebootArgs struct {
	AcceptHardwareChanges bool `json:"accept_hardware_changes,omitempty"`
}

// RebootServer restarts a server. A hard reboot takes the place of a soft one that is under way. It is ErrConflict, and
// nothing is done, when the guest would wake up with other hardware and neither the request nor the operator allows it,
// and when this host could not make the guest again.
func (m *Manager) RebootServer(ctx context.Context, id string, how Reboot) error {
	if !how.Hard {
		return m.begin(ctx, id, OpRebootSoft, nil, allow(CmdReboot))
	}
	s, err := m.Server(ctx, id)
	if err != nil {
		return err
	}
	if err := admit(CmdRebootHard, s); err != nil {
		return err
	}
	args := rebootArgs{AcceptHardwareChanges: how.AcceptHardwareChanges}
	if err := m.checkRemake(ctx, s, args); err != nil {
		return err
	}
	text, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("reboot server %s: %w", id, err)
	}
	return m.begin(ctx, id, OpRebootHard, text, allow(CmdRebootHard))
}

func (m *Manager) softRebootProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "shutdown", task: TaskRebooting, do: doShutdown},
			{name: "start", task: TaskRebootStarted, do: doStartOrRemake},
		},
		target: Active, whenGone: Error, patience: m.opt.OperationTimeout,
	}
}

// doShutdown leaves a guest that cannot be shut down to the next step, which remakes it.
func doShutdown(ctx context.Context, w *work) error {
	err := w.m.stopGuest(ctx, w.op.ServerID, true)
	if err == nil || transient(err) {
		return err
	}
	w.log.Warn("soft reboot goes on as a hard one", "error", err)
	return w.createGuest(ctx)
}

func doStartOrRemake(ctx context.Context, w *work) error {
	err := w.startGuest(ctx)
	if err == nil || transient(err) {
		return err
	}
	w.log.Warn("soft reboot goes on as a hard one", "error", err)
	if err := w.createGuest(ctx); err != nil {
		return err
	}
	return w.startGuest(ctx)
}

func (m *Manager) hardRebootProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "destroy", task: TaskRebootingHard, do: doEnd},
			{name: "guest", task: TaskRebootingHard, do: doCreateGuest},
			{name: "start", task: TaskRebootStartedHard, do: doStart},
		},
		target: Active, whenGone: Error, patience: m.opt.OperationTimeout,
	}
}

// doEnd ends a guest that is to be made again. Between the command and this the agent may have become another one, with
// another configuration: what the guest would wake up to is looked at once more.
func doEnd(ctx context.Context, w *work) error {
	var args rebootArgs
	if w.op.Args != nil {
		if err := json.Unmarshal(w.op.Args, &args); err != nil {
			return fmt.Errorf("read the operation's arguments: %w", err)
		}
	}
	if err := w.m.checkRemake(ctx, w.server, args); err != nil {
		return err
	}
	return w.m.stopGuest(ctx, w.op.ServerID, false)
}

func doDestroy(_ context.Context, w *work) error { return w.m.destroyGuest(w.op.ServerID) }

func doCreateGuest(ctx context.Context, w *work) error { return w.createGuest(ctx) }
