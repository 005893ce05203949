package store

import (
	"database/sql"
	"errors"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
)

const selectVolumes = "SELECT id, project_id, type_id, record FROM volumes"

func scanVolume(r row) (v cinder.Volume, err error) {
	var kind sql.NullString
	var record []byte
	if err = r.Scan(&v.ID, &v.ProjectID, &kind, &record); err == nil {
		err = decode(record, &v)
	}
	v.TypeID = kind.String
	return v, err
}

// Volume implements compute.VolumeReader.
func (r reader) Volume(id string) (cinder.Volume, error) {
	return get(r, "volume "+id, scanVolume, selectVolumes+" WHERE id = ?", id)
}

// Volumes implements compute.VolumeReader.
func (r reader) Volumes() ([]cinder.Volume, error) {
	return list(r, "list volumes", scanVolume, selectVolumes+" ORDER BY seq")
}

// PutVolume implements compute.VolumeWriter.
func (w writer) PutVolume(v cinder.Volume) error {
	id, project, kind := v.ID, v.ProjectID, v.TypeID
	v.ID, v.ProjectID, v.TypeID = "", "", ""
	return w.put("volume "+id, `INSERT INTO volumes (id, project_id, type_id, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET project_id = excluded.project_id, type_id = excluded.type_id, record = excluded.record`,
		v, id, project, orNull(kind))
}

// DeleteVolume implements compute.VolumeWriter.
func (w writer) DeleteVolume(id string) error {
	return w.remove("volume "+id, "DELETE FROM volumes WHERE id = ?", id)
}

const selectVolumeAttachments = "SELECT id, volume_id, server_id, record FROM volume_attachments"

func scanVolumeAttachment(r row) (a cinder.Attachment, err error) {
	var record []byte
	if err = r.Scan(&a.ID, &a.VolumeID, &a.ServerID, &record); err == nil {
		err = decode(record, &a)
	}
	return a, err
}

// VolumeAttachment implements compute.VolumeReader.
func (r reader) VolumeAttachment(id string) (cinder.Attachment, error) {
	return get(r, "volume attachment "+id, scanVolumeAttachment, selectVolumeAttachments+" WHERE id = ?", id)
}

// VolumeAttachments implements compute.VolumeReader.
func (r reader) VolumeAttachments() ([]cinder.Attachment, error) {
	return list(r, "list volume attachments", scanVolumeAttachment, selectVolumeAttachments+" ORDER BY seq")
}

// AttachmentsOf implements compute.VolumeReader.
func (r reader) AttachmentsOf(volumeID string) ([]cinder.Attachment, error) {
	return list(r, "list the attachments of volume "+volumeID, scanVolumeAttachment, selectVolumeAttachments+" WHERE volume_id = ? ORDER BY seq", volumeID)
}

// PutVolumeAttachment implements compute.VolumeWriter.
func (w writer) PutVolumeAttachment(a cinder.Attachment) error {
	id, volume, server := a.ID, a.VolumeID, a.ServerID
	a.ID, a.VolumeID, a.ServerID = "", "", ""
	return w.put("volume attachment "+id, `INSERT INTO volume_attachments (id, volume_id, server_id, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET volume_id = excluded.volume_id, server_id = excluded.server_id, record = excluded.record`,
		a, id, volume, server)
}

// DeleteVolumeAttachment implements compute.VolumeWriter.
func (w writer) DeleteVolumeAttachment(id string) error {
	return w.remove("volume attachment "+id, "DELETE FROM volume_attachments WHERE id = ?", id)
}

const selectSnapshots = "SELECT id, volume_id, project_id, record FROM snapshots"

func scanSnapshot(r row) (s cinder.Snapshot, err error) {
	var record []byte
	if err = r.Scan(&s.ID, &s.VolumeID, &s.ProjectID, &record); err == nil {
		err = decode(record, &s)
	}
	return s, err
}

// Snapshot implements compute.VolumeReader.
func (r reader) Snapshot(id string) (cinder.Snapshot, error) {
	return get(r, "snapshot "+id, scanSnapshot, selectSnapshots+" WHERE id = ?", id)
}

// Snapshots implements compute.VolumeReader.
func (r reader) Snapshots() ([]cinder.Snapshot, error) {
	return list(r, "list snapshots", scanSnapshot, selectSnapshots+" ORDER BY seq")
}

// PutSnapshot implements compute.VolumeWriter.
func (w writer) PutSnapshot(s cinder.Snapshot) error {
	id, volume, project := s.ID, s.VolumeID, s.ProjectID
	s.ID, s.VolumeID, s.ProjectID = "", "", ""
	return w.put("snapshot "+id, `INSERT INTO snapshots (id, volume_id, project_id, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET volume_id = excluded.volume_id, project_id = excluded.project_id, record = excluded.record`,
		s, id, volume, project)
}

// DeleteSnapshot implements compute.VolumeWriter.
func (w writer) DeleteSnapshot(id string) error {
	return w.remove("snapshot "+id, "DELETE FROM snapshots WHERE id = ?", id)
}

const selectBlockDevices = "SELECT id, server_id, volume_id, name, position, record FROM block_devices"

func scanBlockDevice(r row) (d compute.BlockDevice, err error) {
	var record []byte
	if err = r.Scan(&d.ID, &d.ServerID, &d.VolumeID, &d.Name, &d.Index, &record); err == nil {
		err = decode(record, &d)
	}
	return d, err
}

// BlockDevices implements compute.VolumeReader.
func (r reader) BlockDevices(serverID string) ([]compute.BlockDevice, error) {
	return list(r, "list the block devices of server "+serverID, scanBlockDevice, selectBlockDevices+" WHERE server_id = ? ORDER BY position, seq", serverID)
}

// AllBlockDevices implements compute.VolumeReader.
func (r reader) AllBlockDevices() ([]compute.BlockDevice, error) {
	return list(r, "list block devices", scanBlockDevice, selectBlockDevices+" ORDER BY seq")
}

// PutBlockDevice implements compute.VolumeWriter.
func (w writer) PutBlockDevice(d compute.BlockDevice) error {
	subject, whole := "block device "+d.ID, d
	d.ID, d.ServerID, d.VolumeID, d.Name, d.Index = "", "", "", "", 0
	err := w.put(subject, `INSERT INTO block_devices (id, server_id, volume_id, name, position, record) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET server_id = excluded.server_id, volume_id = excluded.volume_id, name = excluded.name,
			position = excluded.position, record = excluded.record`,
		d, whole.ID, whole.ServerID, whole.VolumeID, whole.Name, whole.Index)
	if !isDuplicate(err) {
		return err
	}
	others, listErr := w.BlockDevices(whole.ServerID)
	for _, o := range others {
		if o.ID != whole.ID && o.VolumeID != "" && o.VolumeID == whole.VolumeID {
			return exists(subject, "volume_id", "server "+whole.ServerID+" has volume "+whole.VolumeID+" already")
		}
	}
	return errors.Join(exists(subject, "device_name", "server "+whole.ServerID+" has another device "+whole.Name), listErr)
}

// DeleteBlockDevice implements compute.VolumeWriter.
func (w writer) DeleteBlockDevice(id string) error {
	return w.remove("block device "+id, "DELETE FROM block_devices WHERE id = ?", id)
}

// VolumeIdentity implements compute.VolumeReader.
func (r reader) VolumeIdentity(volumeID string) (connector.Identity, error) {
	all, err := list(r, "identity of volume "+volumeID, func(r row) (id connector.Identity, err error) { return id, r.Scan(&id) },
		"SELECT identity FROM volume_identities WHERE volume_id = ?", volumeID)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[0], nil
}

// PutVolumeIdentity implements compute.VolumeWriter.
func (w writer) PutVolumeIdentity(volumeID string, identity connector.Identity) error {
	subject := "identity of volume " + volumeID
	if identity == "" {
		return w.remove(subject, "DELETE FROM volume_identities WHERE volume_id = ?", volumeID)
	}
	_, err := w.exec(`INSERT INTO volume_identities (volume_id, identity) VALUES (?, ?)
		ON CONFLICT (volume_id) DO UPDATE SET identity = excluded.identity`, volumeID, string(identity))
	return explain(subject, err)
}

// UsedLUNs implements compute.VolumeReader.
func (r reader) UsedLUNs() ([]cinder.UsedLUN, error) {
	return list(r, "list used LUNs", func(r row) (u cinder.UsedLUN, err error) {
		var record []byte
		if err = r.Scan(&u.Backend, &u.LUN, &record); err == nil {
			err = decode(record, &u)
		}
		return u, err
	}, "SELECT backend, lun, record FROM used_luns ORDER BY backend, lun")
}

// PutUsedLUN implements compute.VolumeWriter.
func (w writer) PutUsedLUN(u cinder.UsedLUN) error {
	backend, lun := u.Backend, u.LUN
	u.Backend, u.LUN = "", ""
	return w.put("LUN "+lun, `INSERT INTO used_luns (backend, lun, record) VALUES (?, ?, ?)
		ON CONFLICT (backend, lun) DO UPDATE SET record = excluded.record`, u, backend, lun)
}

// DeleteUsedLUN implements compute.VolumeWriter.
func (w writer) DeleteUsedLUN(backend, lun string) error {
	_, err := w.exec("DELETE FROM used_luns WHERE backend = ? AND lun = ?", backend, lun)
	return explain("LUN "+lun, err)
}
