package compute

import "context"

// RebootServer restarts a server: softly, its operating system shutting down first, or hard, its
// guest ended and made again from the server's record. A hard reboot takes the place of a soft one
// that is under way.
func (m *Manager) RebootServer(ctx context.Context, id string, hard bool) error {
	if hard {
		return m.begin(ctx, id, OpRebootHard, allow(CmdRebootHard))
	}
	return m.begin(ctx, id, OpRebootSoft, allow(CmdReboot))
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
	return w.m.destroyGuest(w.op.ServerID)
}

func doStartOrRemake(_ context.Context, w *work) error {
	err := w.m.startGuest(w.server)
	if err == nil || transient(err) {
		return err
	}
	w.log.Warn("soft reboot goes on as a hard one", "error", err)
	if err := w.m.remakeGuest(w.server); err != nil {
		return err
	}
	return w.m.startGuest(w.server)
}

func (m *Manager) hardRebootProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "destroy", task: TaskRebootingHard, do: doDestroy},
			{name: "guest", task: TaskRebootingHard, do: doCreateGuest},
			{name: "start", task: TaskRebootStartedHard, do: doStart},
		},
		target: Active, whenGone: Error, patience: m.opt.OperationTimeout,
	}
}

func doDestroy(_ context.Context, w *work) error { return w.m.destroyGuest(w.op.ServerID) }

func doCreateGuest(_ context.Context, w *work) error { return w.m.createGuest(w.server) }
