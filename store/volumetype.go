package store

import (
	"database/sql"

	"compute-agent/cinder"
)

const selectVolumeTypes = "SELECT id, name, qos_id, record FROM volume_types"

func scanVolumeType(r row) (t cinder.Type, err error) {
	var qos sql.NullString
	var record []byte
	if err = r.Scan(&t.ID, &t.Name, &qos, &record); err == nil {
		err = decode(record, &t)
	}
	t.QoSID = qos.String
	return t, err
}

// VolumeType implements compute.VolumeReader.
func (r reader) VolumeType(id string) (cinder.Type, error) {
	return get(r, "volume type "+id, scanVolumeType, selectVolumeTypes+" WHERE id = ?", id)
}

// VolumeTypes implements compute.VolumeReader.
func (r reader) VolumeTypes() ([]cinder.Type, error) {
	return list(r, "list volume types", scanVolumeType, selectVolumeTypes+" ORDER BY seq")
}

// PutVolumeType implements compute.VolumeWriter.
func (w writer) PutVolumeType(t cinder.Type) error {
	id, name, qos := t.ID, t.Name, t.QoSID
	t.ID, t.Name, t.QoSID = "", "", ""
	err := w.put("volume type "+id, `INSERT INTO volume_types (id, name, qos_id, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, qos_id = excluded.qos_id, record = excluded.record`,
		t, id, name, orNull(qos))
	if isDuplicate(err) {
		return exists("volume type "+id, "name", "another volume type has it")
	}
	return err
}

// DeleteVolumeType implements compute.VolumeWriter.
func (w writer) DeleteVolumeType(id string) error {
	return w.remove("volume type "+id, "DELETE FROM volume_types WHERE id = ?", id)
}

const selectQoS = "SELECT id, name, record FROM qos_specs"

func scanQoS(r row) (q cinder.QoS, err error) {
	var record []byte
	if err = r.Scan(&q.ID, &q.Name, &record); err == nil {
		err = decode(record, &q)
	}
	return q, err
}

// QoS implements compute.VolumeReader.
func (r reader) QoS(id string) (cinder.QoS, error) {
	return get(r, "QoS specs "+id, scanQoS, selectQoS+" WHERE id = ?", id)
}

// QoSSpecs implements compute.VolumeReader.
func (r reader) QoSSpecs() ([]cinder.QoS, error) {
	return list(r, "list QoS specs", scanQoS, selectQoS+" ORDER BY seq")
}

// PutQoS implements compute.VolumeWriter.
func (w writer) PutQoS(q cinder.QoS) error {
	id, name := q.ID, q.Name
	q.ID, q.Name = "", ""
	err := w.put("QoS specs "+id, `INSERT INTO qos_specs (id, name, record) VALUES (?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record`, q, id, name)
	if isDuplicate(err) {
		return exists("QoS specs "+id, "name", "other QoS specs have it")
	}
	return err
}

// DeleteQoS implements compute.VolumeWriter.
func (w writer) DeleteQoS(id string) error {
	return w.remove("QoS specs "+id, "DELETE FROM qos_specs WHERE id = ?", id)
}
