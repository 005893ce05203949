package store

import (
	"errors"
	"fmt"

	"compute-agent/compute"
)

// column stands for a field that is kept in a column of its own. In a record type it hides the
// embedded struct's field of the same name from the JSON.
type column *struct{}

type serverRecord struct {
	*compute.Server
	ID, Number, VM, Task, Power, UserData column `json:",omitempty"`
}

const selectServers = "SELECT number, id, vm_state, task_state, power_state, user_data, record FROM servers"

func scanServer(r row) (compute.Server, error) {
	var s compute.Server
	var record []byte
	if err := r.Scan(&s.Number, &s.ID, &s.VM, &s.Task, &s.Power, &s.UserData, &record); err != nil {
		return compute.Server{}, err
	}
	err := decode(record, &serverRecord{Server: &s})
	return s, err
}

// Server implements compute.Reader.
func (r reader) Server(id string) (compute.Server, error) {
	return get(r, "server "+id, scanServer, selectServers+" WHERE id = ?", id)
}

// Servers implements compute.Reader.
func (r reader) Servers() ([]compute.Server, error) {
	return list(r, "list servers", scanServer, selectServers+" ORDER BY number")
}

// ServerStates implements compute.Reader.
func (r reader) ServerStates() ([]compute.Server, error) {
	scan := func(r row) (s compute.Server, err error) {
		err = r.Scan(&s.Number, &s.ID, &s.VM, &s.Task, &s.Power)
		return s, err
	}
	return list(r, "list the states of servers", scan, "SELECT number, id, vm_state, task_state, power_state FROM servers ORDER BY number")
}

// InsertServer implements compute.Writer.
func (w writer) InsertServer(s compute.Server) (compute.Server, error) {
	subject := "server " + s.ID
	record, err := encode(serverRecord{Server: &s})
	if err != nil {
		return compute.Server{}, fmt.Errorf("%s: %w", subject, err)
	}
	err = w.tx.QueryRow(`INSERT INTO servers (id, vm_state, task_state, power_state, user_data, record)
		VALUES (?, ?, ?, ?, ?, ?) RETURNING number`,
		s.ID, s.VM, s.Task, s.Power, s.UserData, record).Scan(&s.Number)
	if isDuplicate(err) {
		return compute.Server{}, &compute.Failure{Kind: compute.ErrExists, Subject: subject, Reason: "the ID is taken"}
	}
	if err != nil {
		return compute.Server{}, explain(subject, err)
	}
	return s, nil
}

// UpdateServer implements compute.Writer. The number stays what it was at insert.
func (w writer) UpdateServer(s compute.Server) error {
	subject := "server " + s.ID
	record, err := encode(serverRecord{Server: &s})
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	n, err := w.exec(`UPDATE servers SET vm_state = ?, task_state = ?, power_state = ?, user_data = ?, record = ?
		WHERE id = ?`, s.VM, s.Task, s.Power, s.UserData, record, s.ID)
	if err == nil && n == 0 {
		return missing(subject)
	}
	return explain(subject, err)
}

// DeleteServer implements compute.Writer.
func (w writer) DeleteServer(id string) error {
	subject := "server " + id
	_, err := w.exec("DELETE FROM servers WHERE id = ?", id)
	if isDangling(err) {
		return &compute.Failure{Kind: compute.ErrConflict, Subject: subject, Reason: "an operation is under way"}
	}
	return explain(subject, err)
}

const selectClaims = "SELECT server_id, kind, operation, vcpus, memory_mib, disk_gib, numa, pci FROM claims ORDER BY seq"

func scanClaim(r row) (c compute.Claim, err error) {
	var place, devices []byte
	if err = r.Scan(&c.ServerID, &c.Kind, &c.Operation, &c.VCPUs, &c.MemoryMiB, &c.DiskGiB, &place, &devices); err != nil {
		return c, err
	}
	if place != nil {
		err = decode(place, &c.NUMA)
	}
	if devices != nil && err == nil {
		err = decode(devices, &c.PCI)
	}
	return c, err
}

// Claims implements compute.Reader.
func (r reader) Claims() ([]compute.Claim, error) {
	return list(r, "list claims", scanClaim, selectClaims)
}

// PutClaim implements compute.Writer. ErrNotFound if there is no such server.
func (w writer) PutClaim(c compute.Claim) error {
	subject := claimSubject(c.Key())
	place, placeErr := encodeOrNull(c.NUMA, c.NUMA == nil)
	devices, devicesErr := encodeOrNull(c.PCI, c.PCI == nil)
	if err := errors.Join(placeErr, devicesErr); err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	_, err := w.exec(`INSERT INTO claims (server_id, kind, operation, vcpus, memory_mib, disk_gib, numa, pci) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (server_id, kind) DO UPDATE SET operation = excluded.operation, vcpus = excluded.vcpus,
			memory_mib = excluded.memory_mib, disk_gib = excluded.disk_gib, numa = excluded.numa, pci = excluded.pci`,
		c.ServerID, c.Kind, c.Operation, c.VCPUs, c.MemoryMiB, c.DiskGiB, place, devices)
	if isDangling(err) {
		return missing("server " + c.ServerID)
	}
	return explain(subject, err)
}

func claimSubject(key compute.ClaimKey) string {
	if key.Kind == compute.ClaimOwn {
		return "claim of server " + key.ServerID
	}
	return fmt.Sprintf("claim of server %s (%s)", key.ServerID, key.Kind)
}

// encodeOrNull is a column's JSON.
func encodeOrNull(v any, null bool) (any, error) {
	if null {
		return nil, nil
	}
	return encode(v)
}

// DeleteClaim implements compute.Writer.
func (w writer) DeleteClaim(key compute.ClaimKey) error {
	_, err := w.exec("DELETE FROM claims WHERE server_id = ? AND kind = ?", key.ServerID, key.Kind)
	return explain(claimSubject(key), err)
}

// MoveClaim implements compute.Writer.
func (w writer) MoveClaim(from compute.ClaimKey, to compute.ClaimKind) error {
	if from.Kind == to {
		return nil
	}
	// What has the place goes only if something comes into it.
	_, err := w.exec(`DELETE FROM claims WHERE server_id = ? AND kind = ?
		AND EXISTS (SELECT 1 FROM claims WHERE server_id = ? AND kind = ?)`, from.ServerID, to, from.ServerID, from.Kind)
	if err == nil {
		_, err = w.exec("UPDATE claims SET kind = ? WHERE server_id = ? AND kind = ?", to, from.ServerID, from.Kind)
	}
	return explain(claimSubject(from), err)
}
