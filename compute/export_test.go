package compute

// Audit is what happens at each AuditInterval.
func (m *Manager) Audit() { m.audit() }
