package store_test

import (
	"encoding/json"
	"errors"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
)

func fullEncryption() *cinder.Encryption {
	return &cinder.Encryption{ID: "e", Provider: "luks", Cipher: "aes-xts-plain64", KeySize: 256, Location: "front-end"}
}

func fullVolume(id, kind string) cinder.Volume {
	return cinder.Volume{ID: id, ProjectID: "p", UserID: "u", Name: "data ü", Description: "d", SizeGiB: 2, Status: cinder.Extending, TypeID: kind,
		Backend: "local", Bootable: true, Multiattach: true, ReadOnly: true, Encryption: fullEncryption(), KeyID: "key",
		ImageID: "i", ImageSHA256: "sum", ImageMetadata: map[string]string{"os_type": "linux"}, SnapshotID: "sn", SourceID: "other",
		Metadata: map[string]string{"k": "v"}, LUN: "lun1", NewGiB: 3, Awaited: []string{"server"}, Before: cinder.InUse, Problem: "full", Created: noon, Updated: noon.Add(1)}
}

func fullAttachment(id, volume, server string) cinder.Attachment {
	return cinder.Attachment{ID: id, VolumeID: volume, ServerID: server, Status: cinder.AttachmentAttached, Device: "/dev/vdb", Mode: "rw", Host: "h",
		Attached: noon, Detached: noon.Add(2), Created: noon.Add(-1)}
}

func fullVolumeType(id, qos string) cinder.Type {
	return cinder.Type{ID: id, Name: "fast " + id, Description: "d", Public: true, Projects: []string{"p"}, ExtraSpecs: map[string]string{"volume_backend_name": "lvm"}, QoSID: qos,
		Encryption: fullEncryption(), Created: noon, Updated: noon.Add(1)}
}

func fullQoS(id string) cinder.QoS {
	return cinder.QoS{ID: id, Name: "limit " + id, Consumer: "front-end", Specs: map[string]string{"total_iops_sec": "100"}, Created: noon}
}

func fullSnapshot(id, volume string) cinder.Snapshot {
	return cinder.Snapshot{ID: id, VolumeID: volume, ProjectID: "p", UserID: "u", Name: "before", Description: "d", SizeGiB: 2, Status: cinder.Available,
		Metadata: map[string]string{"k": "v"}, Problem: "full", Created: noon, Updated: noon.Add(1)}
}

func fullUsedLUN() cinder.UsedLUN {
	return cinder.UsedLUN{Backend: "array", LUN: "lun1", ProjectID: "p", VolumeID: "v", Since: noon}
}

func fullBlockDevice(id, server, volume string) compute.BlockDevice {
	return compute.BlockDevice{ServerID: server, ID: id, VolumeID: volume, AttachmentID: "at", Index: 1, Name: "vdb", Bus: "virtio", Kind: "disk", BootIndex: new(int),
		DeleteOnTermination: true, Tag: "database", Multiattach: true, ReadOnly: true, SizeGiB: 2,
		Source:     compute.VolumeSource{ImageID: "i", SnapshotID: "sn", Blank: true, TypeID: "t"},
		Connection: json.RawMessage(`{"driver_volume_type":"iscsi","data":{"auth_password":"secret"}}`),
		Device: connector.Device{Path: "/dev/dm-1", Network: &connector.Network{Protocol: "iscsi", Name: "iqn.2026-11.org.example:x/1",
			Hosts: []connector.Address{{Host: "::1", Port: 3260}}, User: "u", Usage: "iscsi", Secret: "uuid", Initiator: "iqn.2026-11.org.example:me"},
			Format: "raw", Identity: "naa.6001405", Bytes: 2 << 30, Map: "mpatha", Paths: []string{"/dev/sda"}, Crypt: "crypt-v", Below: "/dev/dm-0"},
		Encryption: fullEncryption(), Image: map[string]string{"hw_disk_bus": "scsi"}, Attached: true, Replaces: "vdc"}
}

// putVolumes writes one of each record of the volume service; the server a must be there.
func putVolumes(w compute.Writer) error {
	return errors.Join(w.PutQoS(fullQoS("q")), w.PutVolumeType(fullVolumeType("t", "q")), w.PutVolume(fullVolume("v", "t")),
		w.PutSnapshot(fullSnapshot("sn", "v")), w.PutVolumeAttachment(fullAttachment("at", "v", "a")),
		w.PutBlockDevice(fullBlockDevice("bd", "a", "v")), w.PutVolumeIdentity("v", "naa.6001405"), w.PutUsedLUN(fullUsedLUN()))
}

// checkVolumes reads what a program of a schema's version filled in.
func checkVolumes(t *testing.T, r compute.Reader, version int) {
	t.Helper()
	full := fullVolume("v", "t")
	if version < 8 {
		full.Awaited = nil // the dump was made before it was there
	}
	volume, err := r.Volume("v")
	want(t, volume, err, full)
	volumes, err := r.Volumes()
	want(t, volumes, err, []cinder.Volume{full})
	attachment, err := r.VolumeAttachment("at")
	want(t, attachment, err, fullAttachment("at", "v", "a"))
	for _, attachments := range []func() ([]cinder.Attachment, error){r.VolumeAttachments, func() ([]cinder.Attachment, error) { return r.AttachmentsOf("v") }} {
		all, err := attachments()
		want(t, all, err, []cinder.Attachment{fullAttachment("at", "v", "a")})
	}
	snapshot, err := r.Snapshot("sn")
	want(t, snapshot, err, fullSnapshot("sn", "v"))
	snapshots, err := r.Snapshots()
	want(t, snapshots, err, []cinder.Snapshot{fullSnapshot("sn", "v")})
	kind, err := r.VolumeType("t")
	want(t, kind, err, fullVolumeType("t", "q"))
	types, err := r.VolumeTypes()
	want(t, types, err, []cinder.Type{fullVolumeType("t", "q")})
	qos, err := r.QoS("q")
	want(t, qos, err, fullQoS("q"))
	specs, err := r.QoSSpecs()
	want(t, specs, err, []cinder.QoS{fullQoS("q")})
	for _, devices := range []func() ([]compute.BlockDevice, error){r.AllBlockDevices, func() ([]compute.BlockDevice, error) { return r.BlockDevices("a") }} {
		all, err := devices()
		want(t, all, err, []compute.BlockDevice{fullBlockDevice("bd", "a", "v")})
	}
	identity, err := r.VolumeIdentity("v")
	want(t, identity, err, "naa.6001405")
	used, err := r.UsedLUNs()
	want(t, used, err, []cinder.UsedLUN{fullUsedLUN()})
}

func withVolumes(t *testing.T) compute.Store {
	t.Helper()
	s := open(t)
	insert(t, s, fullServer("a"))
	update(t, s, putVolumes)
	return s
}

func TestVolumeRecords(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	update(t, s, putVolumes)
	view(t, s, func(r compute.Reader) error {
		checkVolumes(t, r, newest)
		for what, ask := range map[string]func(string) error{
			"volume":      func(id string) error { _, err := r.Volume(id); return err },
			"attachment":  func(id string) error { _, err := r.VolumeAttachment(id); return err },
			"snapshot":    func(id string) error { _, err := r.Snapshot(id); return err },
			"volume type": func(id string) error { _, err := r.VolumeType(id); return err },
			"QoS specs":   func(id string) error { _, err := r.QoS(id); return err },
		} {
			wantError(t, what, ask("none"), compute.ErrNotFound)
		}
		identity, err := r.VolumeIdentity("none")
		want(t, identity, err, "")
		return nil
	})
}

// What says nothing comes back as nothing, and a record is replaced wholly.
func TestBareVolumeRecords(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	update(t, s, putVolumes)
	bare := []compute.BlockDevice{{ID: "bd", ServerID: "a"}, {ID: "second", ServerID: "a"}}
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.PutVolume(cinder.Volume{ID: "v"}), w.PutVolumeType(cinder.Type{ID: "t"}), w.PutQoS(cinder.QoS{ID: "q"}),
			w.PutSnapshot(cinder.Snapshot{ID: "sn", VolumeID: "v"}), w.PutVolumeAttachment(cinder.Attachment{ID: "at", VolumeID: "v"}),
			w.PutBlockDevice(bare[0]), w.PutBlockDevice(bare[1]), w.PutVolumeIdentity("v", ""), w.PutVolumeIdentity("none", ""), w.DeleteUsedLUN("array", "lun1"))
	})
	view(t, s, func(r compute.Reader) error {
		volumes, err := r.Volumes()
		want(t, volumes, err, []cinder.Volume{{ID: "v"}})
		types, err := r.VolumeTypes()
		want(t, types, err, []cinder.Type{{ID: "t"}})
		qos, err := r.QoSSpecs()
		want(t, qos, err, []cinder.QoS{{ID: "q"}})
		snapshots, err := r.Snapshots()
		want(t, snapshots, err, []cinder.Snapshot{{ID: "sn", VolumeID: "v"}})
		attachments, err := r.VolumeAttachments()
		want(t, attachments, err, []cinder.Attachment{{ID: "at", VolumeID: "v"}})
		devices, err := r.BlockDevices("a")
		want(t, devices, err, bare) // what has no volume and no name yet may be there more than once
		identity, err := r.VolumeIdentity("v")
		want(t, identity, err, "")
		used, err := r.UsedLUNs()
		want(t, used, err, nil)
		return nil
	})
}

func TestNothingInUseOfVolumesIsDeleted(t *testing.T) {
	s := withVolumes(t)
	for what, remove := range map[string]func(compute.Writer) error{
		"a volume with an attachment and a snapshot": func(w compute.Writer) error { return w.DeleteVolume("v") },
		"a volume with a snapshot":                   func(w compute.Writer) error { return errors.Join(w.DeleteVolumeAttachment("at"), w.DeleteVolume("v")) },
		"a volume with an attachment":                func(w compute.Writer) error { return errors.Join(w.DeleteSnapshot("sn"), w.DeleteVolume("v")) },
		"a type that a volume has":                   func(w compute.Writer) error { return w.DeleteVolumeType("t") },
		"QoS specs that a type has":                  func(w compute.Writer) error { return w.DeleteQoS("q") },
	} {
		wantError(t, what, s.Update(t.Context(), remove), compute.ErrConflict)
	}
	err := s.Update(t.Context(), func(w compute.Writer) error {
		return errors.Join(w.DeleteVolumeAttachment("at"), w.DeleteSnapshot("sn"), w.DeleteVolume("v"), w.DeleteVolumeType("t"), w.DeleteQoS("q"),
			w.DeleteVolume("v"), w.DeleteBlockDevice("bd"), w.DeleteBlockDevice("bd"))
	})
	if err != nil {
		t.Error(err)
	}
	// The volume may be another service's: a server's device, and what the disk said that it is, stay.
	err = s.View(t.Context(), func(r compute.Reader) error {
		identity, err := r.VolumeIdentity("v")
		want(t, identity, err, "naa.6001405")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestWhatVolumesReferTo(t *testing.T) {
	s := withVolumes(t)
	for what, put := range map[string]func(compute.Writer) error{
		"a volume of no type":     func(w compute.Writer) error { return w.PutVolume(fullVolume("x", "none")) },
		"a snapshot of no volume": func(w compute.Writer) error { return w.PutSnapshot(fullSnapshot("x", "none")) },
		"an attachment of none":   func(w compute.Writer) error { return w.PutVolumeAttachment(fullAttachment("x", "none", "a")) },
		"a type of no QoS specs":  func(w compute.Writer) error { return w.PutVolumeType(fullVolumeType("x", "none")) },
		"a device of no server":   func(w compute.Writer) error { return w.PutBlockDevice(fullBlockDevice("x", "none", "v")) },
	} {
		wantError(t, what, s.Update(t.Context(), put), compute.ErrNotFound)
	}
}

func TestWhatVolumesHaveAlone(t *testing.T) {
	s := withVolumes(t)
	sameVolume, sameName := fullBlockDevice("x", "a", "v"), fullBlockDevice("x", "a", "w")
	sameVolume.Name = "vdc"
	kind, qos := fullVolumeType("x", "q"), fullQoS("x")
	kind.Name, qos.Name = "fast t", "limit q"
	for field, put := range map[string]func(compute.Writer) error{
		"volume_id":   func(w compute.Writer) error { return w.PutBlockDevice(sameVolume) },
		"device_name": func(w compute.Writer) error { return w.PutBlockDevice(sameName) },
		"name":        func(w compute.Writer) error { return w.PutVolumeType(kind) },
	} {
		err := s.Update(t.Context(), put)
		var failure *compute.Failure
		if !errors.As(err, &failure) || !errors.Is(err, compute.ErrExists) || failure.Field != field {
			t.Errorf("%q: %v", field, err)
		}
	}
	wantError(t, "a name of QoS specs", s.Update(t.Context(), func(w compute.Writer) error { return w.PutQoS(qos) }), compute.ErrExists)
	// Another server may have the same volume by the same name.
	err := s.Update(t.Context(), func(w compute.Writer) error {
		_, err := w.InsertServer(fullServer("b"))
		return errors.Join(err, w.PutBlockDevice(fullBlockDevice("x", "b", "v")))
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBlockDevicesGoWithTheirServer(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	insert(t, s, fullServer("b"))
	devices := map[string]compute.BlockDevice{}
	for i, id := range []string{"z", "y", "x"} {
		d := fullBlockDevice(id, "a", "volume "+id)
		d.Name, d.Index = "name "+id, 9-i
		devices[id] = d
	}
	other := fullBlockDevice("o", "b", "volume z")
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.PutBlockDevice(devices["z"]), w.PutBlockDevice(devices["y"]), w.PutBlockDevice(devices["x"]), w.PutBlockDevice(other))
	})
	view(t, s, func(r compute.Reader) error {
		own, err := r.BlockDevices("a")
		want(t, own, err, []compute.BlockDevice{devices["x"], devices["y"], devices["z"]})
		all, err := r.AllBlockDevices()
		want(t, all, err, []compute.BlockDevice{devices["z"], devices["y"], devices["x"], other})
		return nil
	})
	update(t, s, func(w compute.Writer) error { return w.DeleteServer("a") })
	view(t, s, func(r compute.Reader) error {
		all, err := r.AllBlockDevices()
		want(t, all, err, []compute.BlockDevice{other})
		return nil
	})
}
