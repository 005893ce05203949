package compute

import (
	"context"
	"errors"

	"compute-agent/virt"
)

// StartServer runs a stopped server. A guest that is gone is made again.
func (m *Manager) StartServer(ctx context.Context, id string) error {
	return m.begin(ctx, id, OpStart, nil, allow(CmdStart))
}

// StopServer shuts a server down: its operating system is asked and gets time, then it is forced.
func (m *Manager) StopServer(ctx context.Context, id string) error {
	return m.begin(ctx, id, OpStop, nil, allow(CmdStop))
}

// PauseServer stops a server's vCPUs; its memory is kept.
func (m *Manager) PauseServer(ctx context.Context, id string) error {
	if _, err := m.pauser(); err != nil {
		return err
	}
	return m.begin(ctx, id, OpPause, nil, allow(CmdPause))
}

// UnpauseServer runs a paused server's vCPUs.
func (m *Manager) UnpauseServer(ctx context.Context, id string) error {
	if _, err := m.pauser(); err != nil {
		return err
	}
	return m.begin(ctx, id, OpUnpause, nil, allow(CmdUnpause))
}

func allow(cmd Command) func(Server) error {
	return func(s Server) error { return admit(cmd, s) }
}

func (m *Manager) pauser() (virt.Pauser, error) {
	p, ok := m.driver.(virt.Pauser)
	if !ok {
		return nil, &Failure{Kind: ErrInvalid, Reason: "the hypervisor cannot pause guests"}
	}
	return p, nil
}

func (m *Manager) startProcedure() procedure {
	return procedure{
		steps:  []step{{name: "start", task: TaskPoweringOn, do: doStart}},
		target: Active, whenGone: Stopped, patience: m.opt.OperationTimeout,
	}
}

func doStart(ctx context.Context, w *work) error { return w.startGuest(ctx) }

func (m *Manager) stopProcedure() procedure {
	return procedure{
		steps:  []step{{name: "stop", task: TaskPoweringOff, do: doStop}},
		target: Stopped, whenGone: Stopped, patience: m.opt.OperationTimeout,
	}
}

// doStop gives grace to guests that were promised to run. Under PolicyEnforce one that is to be
// stopped because nobody started it gets none, as in Nova.
func doStop(ctx context.Context, w *work) error {
	return w.m.stopGuest(ctx, w.op.ServerID, w.server.VM != Stopped)
}

func (m *Manager) pauseProcedure() procedure {
	return procedure{
		steps:  []step{{name: "pause", task: TaskPausing, do: doPause}},
		target: Paused, whenGone: Stopped, patience: m.opt.OperationTimeout,
	}
}

// doPause pauses a guest. One that does not run, which the table of transitions allows, is made anew
// and left with its vCPUs stopped: that is what a paused server is.
func doPause(ctx context.Context, w *work) error {
	p, err := w.m.pauser()
	if err != nil {
		return err
	}
	err = w.m.driverCall(func(ctx context.Context) error { return p.Pause(ctx, w.op.ServerID) })
	if errors.Is(err, virt.ErrNotFound) || (errors.Is(err, virt.ErrInvalidState) && w.server.VM == Stopped) {
		return w.createGuest(ctx)
	}
	return err
}

func (m *Manager) unpauseProcedure() procedure {
	return procedure{
		steps:  []step{{name: "unpause", task: TaskUnpausing, do: doUnpause}},
		target: Active, whenGone: Stopped, patience: m.opt.OperationTimeout,
	}
}

func doUnpause(_ context.Context, w *work) error {
	p, err := w.m.pauser()
	if err != nil {
		return err
	}
	return w.m.driverCall(func(ctx context.Context) error { return p.Unpause(ctx, w.op.ServerID) })
}
