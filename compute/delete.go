package compute

import (
	"context"
	"encoding/json"
	"errors"
)

var errBeingDeleted = errors.New("it is being deleted")

// DeleteServer removes a server with all that it has on the host, whatever is under way on it.
// Deleting a server that is being deleted succeeds.
func (m *Manager) DeleteServer(ctx context.Context, id string) error {
	_, err := m.beginWith(ctx, id, OpDelete, func(tx Writer, s Server) (json.RawMessage, error) {
		if s.Task == TaskDeleting {
			return nil, errBeingDeleted
		}
		if err := admit(CmdDelete, s); err != nil {
			return nil, err
		}
		return nil, tx.DeleteConsoleTokens(id)
	})
	if errors.Is(err, errBeingDeleted) {
		return nil
	}
	if err == nil {
		m.opt.Consoles.guestGone(id)
	}
	return err
}

// deleteProcedure has no undo: a delete that fails is asked for again, and does again what it did.
func deleteProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "guest", task: TaskDeleting, do: doDestroy},
			{name: "volumes", task: TaskDeleting, do: doReleaseVolumes},
			{name: "network", task: TaskDeleting, do: doUnwire},
			{name: "files", task: TaskDeleting, do: doRemoveFiles},
		},
		target: Deleted,
	}
}

func doRemoveFiles(ctx context.Context, w *work) error { return w.m.disks.Remove(ctx, w.op.ServerID) }
