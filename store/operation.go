package store

import (
	"fmt"

	"compute-agent/compute"
)

type operationRecord struct {
	*compute.Operation
	ID, ServerID, Args column `json:",omitempty"`
}

func scanOperation(r row) (compute.Operation, error) {
	var op compute.Operation
	var args, record []byte
	if err := r.Scan(&op.ID, &op.ServerID, &args, &record); err != nil {
		return compute.Operation{}, err
	}
	op.Args = args
	err := decode(record, &operationRecord{Operation: &op})
	return op, err
}

// Operations implements compute.Reader.
func (r reader) Operations() ([]compute.Operation, error) {
	return list(r, "list operations", scanOperation, "SELECT id, server_id, args, record FROM operations ORDER BY seq")
}

// PutOperation implements compute.Writer. ErrNotFound if there is no such server.
func (w writer) PutOperation(op compute.Operation) error {
	subject := "operation " + op.ID
	record, err := encode(operationRecord{Operation: &op})
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	_, err = w.exec(`INSERT INTO operations (id, server_id, args, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET server_id = excluded.server_id, args = excluded.args, record = excluded.record`,
		op.ID, op.ServerID, []byte(op.Args), record)
	switch {
	case isDuplicate(err):
		return &compute.Failure{Kind: compute.ErrConflict, Subject: "server " + op.ServerID, Reason: "another operation is under way"}
	case isDangling(err):
		return missing("server " + op.ServerID)
	}
	return explain(subject, err)
}

// DeleteOperation implements compute.Writer.
func (w writer) DeleteOperation(id string) error {
	_, err := w.exec("DELETE FROM operations WHERE id = ?", id)
	return explain("operation "+id, err)
}
