package compute

import "context"

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
