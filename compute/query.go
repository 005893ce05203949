package compute

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"compute-agent/virt"
)

// Server returns one server.
func (m *Manager) Server(ctx context.Context, id string) (s Server, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		s, err = tx.Server(id)
		return err
	})
	return s, err
}

// Servers returns all servers, oldest first.
func (m *Manager) Servers(ctx context.Context) (all []Server, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		all, err = tx.Servers()
		return err
	})
	return all, err
}

// UpdateServer changes a server's own words, also while an operation is under way.
func (m *Manager) UpdateServer(ctx context.Context, id string, change ServerChange) (s Server, err error) {
	if change.Name != nil {
		if err := validateName(*change.Name); err != nil {
			return Server{}, err
		}
	}
	if change.Description != nil {
		if err := validateDescription(*change.Description); err != nil {
			return Server{}, err
		}
	}
	err = m.store.Update(context.WithoutCancel(ctx), func(tx Writer) error {
		if s, err = tx.Server(id); err != nil {
			return err
		}
		if change.Name != nil {
			s.Name = *change.Name
		}
		if change.Description != nil {
			s.Description = *change.Description
		}
		if change.AccessIPv4 != nil {
			s.AccessIPv4 = *change.AccessIPv4
		}
		if change.AccessIPv6 != nil {
			s.AccessIPv6 = *change.AccessIPv6
		}
		if change.Metadata != nil {
			if s.Metadata, err = changedMetadata(s.Metadata, change.Metadata); err != nil {
				return err
			}
		}
		s.Updated = m.now()
		return tx.UpdateServer(s)
	})
	return s, err
}

func changedMetadata(old map[string]string, change func(map[string]string) error) (map[string]string, error) {
	items := maps.Clone(old)
	if items == nil {
		items = map[string]string{}
	}
	if err := change(items); err != nil {
		return nil, err
	}
	return items, validateMetadata(items)
}

// Bounds of what is read of a console log, in bytes.
const (
	consoleTail = 1 << 20
	consoleAll  = 16 << 20 // more than virtlogd keeps by default
)

// ConsoleOutput returns the last lines of a server's serial console, all that is kept if lines < 0.
// What the guest wrote is made valid UTF-8. ErrConflict if the server has no guest now.
func (m *Manager) ConsoleOutput(ctx context.Context, id string, lines int) (string, error) {
	if _, err := m.Server(ctx, id); err != nil {
		return "", err
	}
	logger, ok := m.driver.(virt.ConsoleLogger)
	if !ok {
		return "", &Failure{Kind: ErrInvalid, Reason: "the hypervisor keeps no console log"}
	}
	limit := consoleTail
	if lines < 0 {
		limit = consoleAll
	}
	ctx, cancel := context.WithTimeout(ctx, m.opt.CallTimeout)
	defer cancel()
	text, err := logger.ConsoleLog(ctx, id, limit)
	switch {
	case errors.Is(err, virt.ErrNotFound):
		return "", &Failure{Kind: ErrConflict, Subject: "server " + id, Reason: "it has no guest whose console could be read"}
	case errors.Is(err, virt.ErrUnavailable):
		return "", &Failure{Kind: ErrUnavailable, Subject: "server " + id, Reason: "the hypervisor does not answer", Err: err}
	case err != nil:
		return "", err
	}
	return lastLines(strings.ToValidUTF8(string(text), "\uFFFD"), lines), nil
}

// lastLines returns the last n lines of text, or all of it if n < 0. A line end at the end of text
// ends the last line and begins no other.
func lastLines(text string, n int) string {
	if n < 0 {
		return text
	}
	at := len(text)
	if strings.HasSuffix(text, "\n") {
		at--
	}
	if n == 0 {
		return ""
	}
	for ; n > 0; n-- {
		if at = strings.LastIndexByte(text[:max(at, 0)], '\n'); at < 0 {
			return text
		}
	}
	return text[at+1:]
}

// Progress is an operation under way, for the operator's report.
type Progress struct {
	ServerID  string
	Kind      OperationKind
	Step      string // empty: it has not begun
	Undoing   bool
	Cause     string // why it is being undone
	RequestID string
	Age       time.Duration
}

// UnderWay returns the operations in the journal, oldest first.
func (m *Manager) UnderWay(ctx context.Context) (list []Progress, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		ops, err := tx.Operations()
		for _, op := range ops {
			list = append(list, Progress{
				ServerID: op.ServerID, Kind: op.Kind, Step: op.Step, Undoing: op.Undoing, Cause: op.Cause,
				RequestID: op.RequestID, Age: m.now().Sub(op.Started),
			})
		}
		return err
	})
	return list, err
}
