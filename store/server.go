package store

import (
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

func scanClaim(r row) (c compute.Claim, err error) {
	var place []byte
	if err = r.Scan(&c.ServerID, &c.VCPUs, &c.MemoryMiB, &c.DiskGiB, &place); err != nil || place == nil {
		return c, err
	}
	return c, decode(place, &c.NUMA)
}

// Claims implements compute.Reader.
func (r reader) Claims() ([]compute.Claim, error) {
	return list(r, "list claims", scanClaim, "SELECT server_id, vcpus, memory_mib, disk_gib, numa FROM claims ORDER BY seq")
}

// PutClaim implements compute.Writer. ErrNotFound if there is no such server.
func (w writer) PutClaim(c compute.Claim) error {
	subject := "claim of server " + c.ServerID
	var place any // NULL
	if c.NUMA != nil {
		text, err := encode(c.NUMA)
		if err != nil {
			return fmt.Errorf("%s: %w", subject, err)
		}
		place = text
	}
	_, err := w.exec(`INSERT INTO claims (server_id, vcpus, memory_mib, disk_gib, numa) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (server_id) DO UPDATE SET vcpus = excluded.vcpus, memory_mib = excluded.memory_mib,
			disk_gib = excluded.disk_gib, numa = excluded.numa`,
		c.ServerID, c.VCPUs, c.MemoryMiB, c.DiskGiB, place)
	if isDangling(err) {
		return missing("server " + c.ServerID)
	}
	return explain(subject, err)
}

// DeleteClaim implements compute.Writer.
func (w writer) DeleteClaim(serverID string) error {
	_, err := w.exec("DELETE FROM claims WHERE server_id = ?", serverID)
	return explain("claim of server "+serverID, err)
}
