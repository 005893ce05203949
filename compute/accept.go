package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// run is the goroutine of one operation.
type run struct {
	op     Operation
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // how it ended; read it when done is closed
}

// begin accepts a command: when it returns nil the operation is in the journal and will be carried
// out, also if the agent is killed right after. args are kept with it.
func (m *Manager) begin(ctx context.Context, serverID string, kind OperationKind, args json.RawMessage, admit func(Server) error) error {
	_, err := m.beginWith(ctx, serverID, kind, func(_ Writer, s Server) (json.RawMessage, error) { return args, admit(s) })
	return err
}

// beginWith is begin for a command whose acceptance changes other records too, in the transaction that stores the intent: accept does
// that and returns the operation's arguments. The operation's goroutine is nil when the agent stops: the next start does it.
func (m *Manager) beginWith(ctx context.Context, serverID string, kind OperationKind, accept func(Writer, Server) (json.RawMessage, error)) (*run, error) {
	return m.beginAs(ctx, m.newOperation(ctx, kind, serverID, nil), accept)
}

// beginAs is beginWith for an operation that is known by its ID before it is accepted.
func (m *Manager) beginAs(ctx context.Context, op Operation, accept func(Writer, Server) (json.RawMessage, error)) (*run, error) {
	unlock, err := m.accepting.Lock(ctx, op.ServerID)
	if err != nil {
		return nil, fmt.Errorf("%s server %s: %w", op.Kind, op.ServerID, err)
	}
	defer unlock()
	if err := m.open(); err != nil {
		return nil, err
	}
	// Not cancelled with the request: a commit must not be in doubt.
	err = m.store.Update(context.WithoutCancel(ctx), func(tx Writer) error {
		s, err := tx.Server(op.ServerID)
		if err != nil {
			return err
		}
		if op.Args, err = accept(tx, s); err != nil {
			return err
		}
		if s, err = tx.Server(op.ServerID); err != nil { // as it was accepted
			return err
		}
		if s.Task != TaskNone {
			if err := m.replace(tx, op.ServerID, op.Kind); err != nil {
				return err
			}
		}
		s.Task, s.Updated = acceptedTask[op.Kind], op.Started
		if err := tx.UpdateServer(s); err != nil {
			return err
		}
		return tx.PutOperation(op)
	})
	if err != nil {
		return nil, err
	}
	return m.launch(op), nil
}

// acceptedTask is the task state that shows before an operation's first step.
var acceptedTask = map[OperationKind]TaskState{
	OpCreate:     TaskScheduling,
	OpDelete:     TaskDeleting,
	OpStart:      TaskPoweringOn,
	OpStop:       TaskPoweringOff,
	OpRebootSoft: TaskRebooting,
	OpRebootHard: TaskRebootingHard,
	OpPause:      TaskPausing,
	OpUnpause:    TaskUnpausing,
	OpRebuild:    TaskRebuilding,
	OpRescue:     TaskRescuing,
	OpUnrescue:   TaskUnrescuing,

	OpAttachInterface: TaskAttachingInterface,
	OpDetachInterface: TaskDetachingInterface,

	OpAttachVolume: TaskAttachingVolume,
	OpDetachVolume: TaskDetachingVolume,
	OpSwapVolume:   TaskSwappingVolume,
	OpExtendVolume: TaskExtendingVolume,
}

// replace removes the operation whose place a new one takes.
func (m *Manager) replace(tx Writer, serverID string, by OperationKind) error {
	ops, err := tx.Operations()
	if err != nil {
		return err
	}
	for _, op := range ops {
		if op.ServerID != serverID {
			continue
		}
		if op.Kind == OpDetachVolume && by != OpDelete {
			if err := m.abandonDetach(tx, op); err != nil {
				return err
			}
		}
		return tx.DeleteOperation(op.ID)
	}
	return nil
}

func (m *Manager) open() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return &Failure{Kind: ErrUnavailable, Reason: "the agent is stopping"}
	}
	return nil
}

func (m *Manager) newOperation(ctx context.Context, kind OperationKind, serverID string, args json.RawMessage) Operation {
	return Operation{
		ID: uuid.NewString(), ServerID: serverID, Kind: kind, RequestID: RequestID(ctx), Args: args, Started: m.now(),
	}
}

// now is the time as records have it.
func (m *Manager) now() time.Time { return m.opt.Clock().UTC() }

// launch carries an operation of the journal out in the background, and stops the one whose place
// it took. When the manager is closing it does nothing and returns nil: the next start will.
func (m *Manager) launch(op Operation) *run {
	ctx, cancel := context.WithCancelCause(m.base)
	r := &run{op: op, cancel: cancel, done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		cancel(errParked)
		return nil
	}
	older := m.running[op.ServerID]
	switch {
	case older != nil && op.Kind == OpCreate: // which is a server's first: the other came before it was launched
		cancel(errSuperseded)
		return nil
	case older != nil:
		older.cancel(errSuperseded)
	}
	m.running[op.ServerID] = r
	m.wg.Go(func() {
		defer m.ended(r)
		r.err = m.carryOut(ctx, op)
	})
	return r
}

func (m *Manager) ended(r *run) {
	r.cancel(nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[r.op.ServerID] == r {
		delete(m.running, r.op.ServerID)
	}
	close(r.done)
}

// carryOut does an operation from the step that it is at, under the server's lock. A create waits
// for its turn before it takes the lock, so that a delete need not wait for that.
func (m *Manager) carryOut(ctx context.Context, op Operation) error {
	if op.Kind == OpCreate {
		select {
		case m.builds <- struct{}{}:
			defer func() { <-m.builds }()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.closing:
			return errParked
		}
	}
	unlock, err := m.locks.Lock(ctx, op.ServerID)
	if err != nil {
		return context.Cause(ctx)
	}
	defer unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx) // superseded while it waited
	}
	return newWork(m, op).run(ctx)
}
