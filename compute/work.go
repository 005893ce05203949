package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"compute-agent/virt"
)

// step is a part of an operation that touches the host. do may run twice, also after it was done in
// part; undo may run when do never did, or in part, and may run twice.
type step struct {
	name string // in the journal: it must keep its meaning for ever
	task TaskState
	do   func(ctx context.Context, w *work) error
	undo func(ctx context.Context, w *work) error // nil: there is nothing to undo
}

// procedure is how one kind of operation is done.
type procedure struct {
	steps  []step
	target VMState // that success leads to
	stays  VMState // a server in this one stays in it instead
	keeps  bool    // instead of a target: the server stays what it is, also when a failure was undone
	// spares says, once a failure was undone, whether the server is what it was before; nil: it is not.
	spares func(*work) bool
	// launches says that the server's system is another one afterwards: Nova's launched_at is then.
	launches bool

	// On failure the steps are undone. The server is then in Error, or, where whenGone is set, in
	// the state that its guest shows, and in whenGone if it has none.
	whenGone   VMState
	freesClaim bool // undoing leaves nothing of the server on the host

	// patience is how long a step is tried again when the hypervisor does not answer; zero: for ever.
	patience time.Duration
}

func (m *Manager) procedure(kind OperationKind) (procedure, bool) {
	switch kind {
	case OpCreate:
		return m.createProcedure(), true
	case OpDelete:
		return deleteProcedure(), true
	case OpStart:
		return m.startProcedure(), true
	case OpStop:
		return m.stopProcedure(), true
	case OpRebootSoft:
		return m.softRebootProcedure(), true
	case OpRebootHard:
		return m.hardRebootProcedure(), true
	case OpPause:
		return m.pauseProcedure(), true
	case OpUnpause:
		return m.unpauseProcedure(), true
	case OpRebuild:
		return m.rebuildProcedure(), true
	case OpRescue:
		return m.rescueProcedure(), true
	case OpUnrescue:
		return m.unrescueProcedure(), true
	case OpAttachInterface:
		return m.attachInterfaceProcedure(), true
	case OpDetachInterface:
		return m.detachInterfaceProcedure(), true
	case OpAttachVolume:
		return m.attachVolumeProcedure(), true
	case OpDetachVolume:
		return m.detachVolumeProcedure(), true
	case OpSwapVolume:
		return m.swapVolumeProcedure(), true
	case OpExtendVolume:
		return m.extendVolumeProcedure(), true
	default:
		return procedure{}, false
	}
}

func (p procedure) index(name string) int {
	return slices.IndexFunc(p.steps, func(s step) bool { return s.name == name })
}

// work is one operation being carried out. Its server's lock is held.
type work struct {
	m      *Manager
	op     Operation
	proc   procedure
	server Server // as it was last stored
	log    *slog.Logger
	began  time.Time
	wired  bool       // the host is ready for the server's ports
	ready  bool       // its guest's volumes are on the host
	saving sync.Mutex // of what is done side by side, one stores
}

func newWork(m *Manager, op Operation) *work {
	return &work{m: m, op: op, began: time.Now(), log: m.logger(op.ServerID, op.RequestID).With("operation", string(op.Kind))}
}

// run does the operation to its end: done, undone, superseded or parked.
func (w *work) run(ctx context.Context) error {
	err := w.advance(ctx)
	switch {
	case errors.Is(err, errSuperseded), errors.Is(err, errParked):
		w.log.Info("operation interrupted", "step", w.op.Step, "because", err)
		return err
	case err != nil:
		w.log.Error("operation failed", "step", w.op.Step, "error", err, "took", time.Since(w.began))
	default:
		w.log.Info("operation done", "took", time.Since(w.began))
	}
	w.m.opt.Observe(Observation{Kind: w.op.Kind, Undo: w.op.Undoing, Took: time.Since(w.began), Err: err})
	w.m.releaseBlobs(w.op.ServerID, w.op.RequestID, w.op.blobs()...)
	return err
}

// advance goes on from where the journal says that the operation is.
func (w *work) advance(ctx context.Context) error {
	proc, known := w.m.procedure(w.op.Kind)
	if !known {
		return w.fail(ctx, 0, fmt.Errorf("%w: operation %q", errUnknownWork, w.op.Kind))
	}
	w.proc = proc
	at := proc.index(w.op.Step)
	switch {
	case w.op.Undoing:
		return w.undo(ctx, w.undoFrom(at), errors.New(w.op.Cause))
	case at < 0 && w.op.Step != "" && proc.target != Deleted:
		return w.fail(ctx, len(proc.steps)-1, fmt.Errorf("%w: step %q of %s", errUnknownWork, w.op.Step, w.op.Kind))
	}
	patience, cancel := w.patience(ctx)
	defer cancel()
	for i := max(at, 0); i < len(proc.steps); i++ {
		if err := w.enter(ctx, proc.steps[i]); err != nil {
			return err
		}
		if err := w.try(ctx, patience, proc.steps[i]); err != nil {
			return w.fail(ctx, i, err)
		}
	}
	return w.succeed(ctx)
}

// errUnknownWork is what the journal holds when another version of the agent wrote it.
var errUnknownWork = errors.New("begun by another version of the agent, and not known to this one")

func (w *work) undoFrom(at int) int {
	if at < 0 {
		return len(w.proc.steps) - 1
	}
	return at
}

func (w *work) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if w.proc.patience == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, w.proc.patience)
}

// enter stores that a step is about to touch the host; the steps before it are then done.
func (w *work) enter(ctx context.Context, s step) error {
	w.op.Step = s.name
	return w.save(ctx, func(server *Server) {
		if s.task != TaskNone {
			server.Task = s.task
		}
	}, nil)
}

// try does a step, again and again while the hypervisor does not answer and patience lasts.
func (w *work) try(ctx, patience context.Context, s step) error {
	for n := 0; ; n++ {
		back := w.m.back.next()
		begun := time.Now()
		err := s.do(ctx, w)
		w.m.opt.Observe(Observation{Kind: w.op.Kind, Step: s.name, Took: time.Since(begun), Err: err})
		if err == nil || !transient(err) {
			return err
		}
		w.log.Warn("the hypervisor does not do it now; trying again", "step", s.name, "error", err)
		if waitErr := w.m.pause(patience, back, n); waitErr != nil {
			return waitError(ctx, waitErr, err)
		}
	}
}

// transient says whether trying again may help: the hypervisor or the volume service does not answer, or not yet.
func transient(err error) bool {
	return errors.Is(err, virt.ErrUnavailable) || errors.Is(err, virt.ErrBusy) || errors.Is(err, errVolumesDown)
}

// waitError is what ended a wait for another attempt: the operation's own end, or, when only its
// patience is over, the failure of the last attempt.
func waitError(ctx context.Context, waitErr, last error) error {
	if ctx.Err() == nil && !errors.Is(waitErr, errParked) {
		return last
	}
	return waitErr
}

// pause waits before attempt n+1 until the hypervisor is back or some time has passed, 20 ms at
// first and up to a minute; for less when ctx ends or the manager closes.
func (m *Manager) pause(ctx context.Context, back <-chan struct{}, n int) error {
	timer := time.NewTimer(min(time.Minute, 20*time.Millisecond<<min(n, 12)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.closing:
		return errParked
	case <-back:
		return nil
	case <-timer.C:
		return nil
	}
}

// save stores a change of the server together with the operation's record, if the operation is still
// the one in the journal; then, in the same transaction, it does what finally says. It does not
// give up while the store fails: what has happened on the host must be written down.
func (w *work) save(ctx context.Context, change func(*Server), finally func(Writer) error) error {
	for n := 0; ; n++ {
		err := w.trySave(ctx, change, finally)
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil, errors.Is(err, errSuperseded):
			return err
		}
		w.log.Error("cannot write to the store; trying again", "error", err)
		if err := w.m.pause(ctx, nil, n); err != nil {
			return err
		}
	}
}

func (w *work) trySave(ctx context.Context, change func(*Server), finally func(Writer) error) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	var stored Server
	err := w.m.store.Update(ctx, func(tx Writer) error {
		s, err := tx.Server(w.op.ServerID)
		if err != nil {
			return orSuperseded(err)
		}
		// This fails when another operation has its place.
		if err := tx.PutOperation(w.op); err != nil {
			return orSuperseded(err)
		}
		change(&s)
		s.Updated = w.m.now()
		stored = s
		if err := tx.UpdateServer(s); err != nil || finally == nil {
			return err
		}
		return finally(tx)
	})
	if err == nil {
		w.server = stored
	}
	return err
}

func orSuperseded(err error) error {
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
		return errSuperseded
	}
	return err
}

// conclude stores the outcome and removes the operation, in one transaction.
func (w *work) conclude(ctx context.Context, change func(*Server), finally func(Writer) error) error {
	return w.save(ctx, func(s *Server) {
		s.Task = TaskNone
		change(s)
	}, func(tx Writer) error {
		if err := tx.DeleteOperation(w.op.ID); err != nil || finally == nil {
			return err
		}
		return finally(tx)
	})
}
