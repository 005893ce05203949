package compute

import (
	"context"

	"compute-agent/neutron"
	"compute-agent/virt"
)

// Audit is what happens at each AuditInterval.
func (m *Manager) Audit() { m.audit() }

// Differences is what the audit of the claims finds.
func (m *Manager) Differences() (list []string) {
	in, err := m.takeInventory(context.Background())
	if err != nil {
		return []string{err.Error()}
	}
	found, err := m.differences(in)
	if err != nil {
		return []string{err.Error()}
	}
	for _, d := range found {
		list = append(list, d.serverID+": "+d.what)
	}
	return list
}

// Idle waits until no operation is under way, or ctx ends: also those of servers that are no longer stored.
func (m *Manager) Idle(ctx context.Context) error {
	for {
		m.mu.Lock()
		var r *run
		for _, r = range m.running {
			break
		}
		m.mu.Unlock()
		if r == nil {
			return nil
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// What the manager does with the interfaces of servers, in a transaction of the tests' own.
type PortFor = portFor

func (s *NetworkService) Allocate(tx Writer, want PortFor) (neutron.Port, error) {
	return s.allocate(tx, want)
}
func (s *NetworkService) Release(tx Writer, serverID string) error { return s.release(tx, serverID) }
func (s *NetworkService) ServerGroups(tx Writer, projectID string, named []string) ([]string, error) {
	return s.serverGroups(tx, projectID, named)
}

var ServerNetworks = serverNetworks

// Define is what a server's guest would be made of now.
func (m *Manager) Define(s Server) (virt.Spec, Claim, error) { return m.define(s) }

// What the volume service does in the transactions of servers' operations, in one of the tests' own.
func (s *VolumeService) Reserve(tx Writer, attachmentID, volumeID, serverID string) error {
	_, err := s.reserve(tx, attachmentID, volumeID, serverID, "")
	return err
}

func (s *VolumeService) ReleaseReservation(tx Writer, attachmentID string) error {
	return s.releaseReservation(tx, attachmentID)
}

// BeginDetaching is what an operation's transaction does to a volume that a server is about to lose, RollDetaching what it does when the server keeps it.
func (s *VolumeService) BeginDetaching(tx Writer, attachmentID string) error {
	return s.beginDetaching(tx, attachmentID)
}

func (s *VolumeService) RollDetaching(tx Writer, attachmentID string) error {
	return s.rollDetaching(tx, attachmentID)
}
