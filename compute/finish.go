package compute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"compute-agent/virt"
)

// succeed stores what the operation was for.
func (w *work) succeed(ctx context.Context) error {
	switch {
	case w.proc.keeps:
		return w.leave(ctx)
	case w.proc.target == Deleted:
		return w.forget(ctx)
	}
	guest, known := w.m.look(w.op.ServerID)
	err := w.conclude(ctx, func(s *Server) {
		if known {
			s.Power = guest.State
		}
		if w.proc.stays == "" || s.VM != w.proc.stays {
			w.turn(s, w.proc.target)
		}
		if w.proc.launches || s.VM == Active && s.Launched.IsZero() {
			s.Launched = w.m.now()
		}
	}, nil)
	if err == nil && !known {
		w.m.syncSoon(w.op.ServerID) // when the hypervisor answers again
	}
	return err
}

// leave ends an operation that leaves the server what it is. What became of the guest meanwhile is looked at afterwards.
func (w *work) leave(ctx context.Context) error {
	err := w.conclude(ctx, func(*Server) {}, nil)
	if err == nil {
		w.m.syncSoon(w.op.ServerID)
	}
	return err
}

// forget removes a server of which nothing is left on the host, with its claim and its operation.
func (w *work) forget(ctx context.Context) error {
	err := w.conclude(ctx, func(s *Server) {
		w.turn(s, Deleted)
		s.Terminated = w.m.now()
	}, func(tx Writer) error { return tx.DeleteServer(w.op.ServerID) })
	if err != nil {
		return err
	}
	w.m.ledger.release(w.op.ServerID)
	w.m.releaseBlobs(w.op.ServerID, w.op.RequestID, w.server.Blobs()...)
	return nil
}

// releaseBlobs lets go of image bytes that a server or an operation was perhaps the last to name.
func (m *Manager) releaseBlobs(serverID, requestID string, sums ...string) {
	for _, sum := range sums {
		if m.opt.Blobs == nil || sum == "" {
			continue
		}
		err := m.driverCall(func(ctx context.Context) error { return m.opt.Blobs.Release(ctx, sum) })
		if err != nil {
			m.logger(serverID, requestID).Warn("cannot remove the bytes of an image that nobody uses; the next start will", "error", err)
		}
	}
}

// turn assigns the VM state that an operation leads to. A transition that the table does not know is
// a mistake of this program: the server is then in Error, and the log says why.
func (w *work) turn(s *Server, to VMState) {
	if err := become(s, to); err != nil {
		w.log.Error("a transition that must not be", "error", err)
		s.Fault = &Fault{Code: http.StatusInternalServerError, Message: "The agent made a mistake", Details: err.Error(), Created: w.m.now()}
		_ = become(s, Error) // always allowed
	}
}

// fail ends an operation whose step i failed. It returns cause once all is undone and stored.
func (w *work) fail(ctx context.Context, i int, cause error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(cause, errParked) || errors.Is(cause, errSuperseded) {
		return cause
	}
	if w.proc.whenGone != "" {
		return w.settle(ctx, cause)
	}
	w.op.Undoing, w.op.Cause = true, cause.Error()
	err := w.save(ctx, func(s *Server) {
		if !w.proc.keeps {
			s.Fault = w.m.fault(w.op, cause)
		}
	}, nil)
	if err != nil {
		return err
	}
	return w.undo(ctx, i, cause)
}

// undo undoes step i and those before it, last first, and stores the failure. An undo that fails is
// tried for as long as it takes: until then the journal has it, and the claim stays.
func (w *work) undo(ctx context.Context, i int, cause error) error {
	for ; i >= 0 && i < len(w.proc.steps); i-- {
		s := w.proc.steps[i]
		if s.undo == nil {
			continue
		}
		w.op.Step = s.name
		if err := w.save(ctx, func(*Server) {}, nil); err != nil {
			return err
		}
		if err := w.tryUndo(ctx, s); err != nil {
			return err
		}
	}
	if w.proc.keeps || w.proc.spares != nil && w.proc.spares(w) {
		return cmp.Or(w.leave(ctx), cause)
	}
	guest, known := w.m.look(w.op.ServerID)
	err := w.conclude(ctx, func(s *Server) {
		if s.Fault == nil {
			s.Fault = w.m.fault(w.op, cause)
		}
		if known {
			s.Power = guest.State
		}
		w.turn(s, Error)
	}, func(tx Writer) error {
		if !w.proc.freesClaim {
			return nil
		}
		return tx.DeleteClaim(ClaimKey{w.op.ServerID, ClaimOwn})
	})
	if err != nil {
		return err
	}
	if w.proc.freesClaim {
		w.m.ledger.release(w.op.ServerID)
	}
	if !known {
		w.m.syncSoon(w.op.ServerID)
	}
	return cause
}

func (w *work) tryUndo(ctx context.Context, s step) error {
	for n := 0; ; n++ {
		back := w.m.back.next()
		begun := time.Now()
		err := s.undo(ctx, w)
		w.m.opt.Observe(Observation{Kind: w.op.Kind, Step: s.name, Undo: true, Took: time.Since(begun), Err: err})
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.log.Warn("cannot undo; trying again", "step", s.name, "error", err)
		if err := w.m.pause(ctx, back, n); err != nil {
			return err
		}
	}
}

// settle ends a failed power operation in the state that the guest shows. A guest that was made but
// could not be started is stopped: it is not what anybody would call paused.
func (w *work) settle(ctx context.Context, cause error) error {
	guest, known := w.m.look(w.op.ServerID)
	if known && guest.State == virt.PowerPaused && w.proc.target == Active && w.op.Kind != OpUnpause && !errors.Is(cause, errUntouched) {
		if err := w.m.stopGuest(ctx, w.op.ServerID, false); err != nil {
			w.log.Warn("cannot stop a guest that could not be started", "error", err)
		}
		guest, known = w.m.look(w.op.ServerID)
	}
	err := w.conclude(ctx, func(s *Server) {
		if !known {
			return // the audit that follows the connection's return will see
		}
		s.Power = guest.State
		to := observed[s.VM][guest.State].vm
		if guest.State == virt.PowerNoState || w.lostRun(guest.State, cause) {
			to = w.proc.whenGone
		}
		if to == Error || s.VM == Error {
			s.Fault = w.m.fault(w.op, cause)
		}
		if to != "" {
			w.turn(s, to)
		}
	}, nil)
	if err != nil {
		return err
	}
	if !known {
		w.m.syncSoon(w.op.ServerID)
	}
	return cause
}

// lostRun says that a guest was ended to be made again, and was not. As in Nova that is an error, although the guest
// is there: what it was made of does not run any more.
func (w *work) lostRun(state virt.PowerState, cause error) bool {
	return w.op.Kind == OpRebootHard && state == virt.PowerShutdown && !errors.Is(cause, errUntouched)
}

// look reads a guest's state; one that is not there is PowerNoState. False: the hypervisor does not
// answer.
func (m *Manager) look(id string) (virt.Guest, bool) {
	ctx, cancel := m.call()
	defer cancel()
	g, err := m.driver.Guest(ctx, id)
	switch {
	case errors.Is(err, virt.ErrNotFound):
		return virt.Guest{ID: id, State: virt.PowerNoState}, true
	case err != nil:
		return virt.Guest{}, false
	}
	return g, true
}

// fault is what the user is told of a failure. The details are for the operator.
func (m *Manager) fault(op Operation, cause error) *Fault {
	return &Fault{
		Code:    http.StatusInternalServerError,
		Message: fmt.Sprintf("The server's %s failed: %s", op.Kind, plainly(cause)),
		Details: fmt.Sprintf("%s, step %q: %v", op.Kind, op.Step, cause),
		Created: m.now(),
	}
}

// plainly says what went wrong in words without paths, names or numbers of the host.
func plainly(err error) string {
	var failure *Failure
	switch {
	case errors.As(err, &failure):
		return (&Failure{Kind: failure.Kind, Subject: failure.Subject, Field: failure.Field, Reason: failure.Reason}).Error()
	case errors.Is(err, syscall.ENOSPC):
		return "no space is left on the host"
	case errors.Is(err, virt.ErrNoCapacity):
		return "the host lacks a resource that it needs"
	case errors.Is(err, virt.ErrUnsupported):
		return "the host's hypervisor cannot do what the flavor or image asks"
	case errors.Is(err, virt.ErrInvalid):
		return "the hypervisor refused the guest's definition"
	case errors.Is(err, virt.ErrExists):
		return "the hypervisor has another guest with its name"
	case errors.Is(err, virt.ErrInvalidState):
		return "the guest is in a state in which this is not possible"
	case transient(err):
		return "the hypervisor did not answer in time"
	case errors.Is(err, errUnknownWork):
		return "it was begun by another version of the agent"
	default:
		return "an error on the host; the operator's log says more"
	}
}
