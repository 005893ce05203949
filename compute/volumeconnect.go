package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
)

var _ Volumes = (*VolumeService)(nil)

// Connect implements Volumes.
func (s *VolumeService) Connect(ctx context.Context, attachmentID string, host connector.Properties, device string) (connector.Raw, error) {
	var v cinder.Volume
	var limits map[string]string
	err := s.change(ctx, func(tx Writer) error {
		a, found, err := attachmentOf(tx, attachmentID)
		if err != nil {
			return err
		}
		v = found
		if a.Status == cinder.AttachmentReserved {
			a.Status = cinder.AttachmentAttaching
		}
		a.Host, a.Device = host.Host, device
		if err := tx.PutVolumeAttachment(a); err != nil {
			return err
		}
		if limits, err = limitsOf(tx, v); err != nil {
			return err
		}
		return s.settle(tx, &v)
	})
	if err != nil {
		return nil, err
	}
	b, err := s.backendOf(v)
	if err != nil {
		return nil, err
	}
	raw, err := b.Connection(ctx, v, host)
	if err != nil {
		return nil, &Failure{Kind: ErrUnavailable, Subject: "volume " + v.ID, Reason: "its backend does not say how to connect it", Err: err}
	}
	return completeConnection(raw, v, limits)
}

// limitsOf are the limits that the hypervisor keeps for a volume.
func limitsOf(r Reader, v cinder.Volume) (map[string]string, error) {
	if v.TypeID == "" {
		return nil, nil
	}
	t, err := r.VolumeType(v.TypeID)
	if err != nil || t.QoSID == "" {
		return nil, err
	}
	q, err := r.QoS(t.QoSID)
	return q.Limits(v.SizeGiB), err
}

// completeConnection adds to a backend's connection_info what Cinder adds to each.
func completeConnection(raw connector.Raw, v cinder.Volume, limits map[string]string) (connector.Raw, error) {
	var info map[string]json.RawMessage
	data := map[string]any{}
	err := json.Unmarshal(raw, &info)
	if err == nil {
		err = json.Unmarshal(info["data"], &data)
	}
	if err != nil {
		return nil, fmt.Errorf("volume %s: its backend's connection_info is not one", v.ID)
	}
	data["access_mode"], data["encrypted"] = modeOf(v), v.Encryption != nil
	if len(limits) > 0 {
		data["qos_specs"] = limits
	}
	if info["data"], err = json.Marshal(data); err != nil {
		return nil, err
	}
	return json.Marshal(info)
}

// Complete implements Volumes.
func (s *VolumeService) Complete(ctx context.Context, attachmentID string) error {
	return s.change(ctx, func(tx Writer) error {
		a, v, err := attachmentOf(tx, attachmentID)
		if err != nil || a.Status == cinder.AttachmentAttached || a.Status == cinder.AttachmentDetaching {
			return err
		}
		a.Status, a.Attached = cinder.AttachmentAttached, s.now()
		if err := tx.PutVolumeAttachment(a); err != nil {
			return err
		}
		return s.settle(tx, &v)
	})
}

// Remove implements Volumes.
func (s *VolumeService) Remove(ctx context.Context, attachmentID string) error {
	return s.change(ctx, func(tx Writer) error { return s.releaseReservation(tx, attachmentID) })
}

// Attach implements Volumes. The server must be its volume's project's.
func (s *VolumeService) Attach(ctx context.Context, attachmentID, volumeID, serverID string) error {
	return s.change(ctx, func(tx Writer) error {
		server, err := tx.Server(serverID)
		if err != nil {
			return err
		}
		_, err = s.reserve(tx, attachmentID, volumeID, serverID, server.ProjectID)
		return err
	})
}

// Make implements Volumes.
func (s *VolumeService) Make(ctx context.Context, id string, server Server, d BlockDevice) error {
	if err := uuid.Validate(id); err != nil || len(id) != uuidLength {
		return &Failure{Kind: ErrInvalid, Subject: subjectOf("volume", id), Reason: "its ID is not a UUID"}
	}
	_, err := viewVolumes(ctx, s, func(r Reader) (cinder.Volume, error) { return r.Volume(id) })
	if errors.Is(err, ErrNotFound) {
		_, err = s.create(ctx, id, cinder.VolumeRequest{
			ProjectID: server.ProjectID, UserID: server.UserID, SizeGiB: d.SizeGiB, Type: d.Source.TypeID, ImageID: d.Source.ImageID, SnapshotID: d.Source.SnapshotID,
		})
	}
	if err != nil {
		return err
	}
	return s.await(ctx, id)
}

// await waits until a volume that is being made is available.
func (s *VolumeService) await(ctx context.Context, id string) error {
	for {
		changed := s.changes.next()
		v, err := s.Volume(ctx, id)
		switch {
		case err != nil:
			return err
		case v.Status == cinder.Error:
			return &Failure{Kind: ErrUnavailable, Subject: "volume " + id, Reason: "it could not be made", Err: errors.New(v.Problem)}
		case v.Status == cinder.Deleting:
			return cinder.Refuse("InvalidVolume", cinder.Invalid, "", "", "volume %s is being deleted", id)
		case !v.InTheMaking():
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.base.Done():
			return context.Cause(s.base)
		}
	}
}

// Delete implements Volumes. It returns as soon as that has begun.
func (s *VolumeService) Delete(ctx context.Context, volumeID string) error {
	v, err := viewVolumes(ctx, s, func(r Reader) (cinder.Volume, error) { return r.Volume(volumeID) })
	if errors.Is(err, ErrNotFound) || err == nil && v.Status == cinder.Deleting {
		return nil
	}
	if err != nil {
		return err
	}
	return s.DeleteVolume(ctx, volumeID, true)
}

// Key implements Volumes.
func (s *VolumeService) Key(ctx context.Context, volumeID string) (connector.Secret, error) {
	v, err := s.Volume(ctx, volumeID)
	if err != nil {
		return "", err
	}
	if v.KeyID == "" || s.opt.Keys == nil {
		return "", &Failure{Kind: ErrInvalid, Subject: "volume " + volumeID, Reason: "it has no key here"}
	}
	return s.opt.Keys.Passphrase(v.KeyID)
}

// Extended implements Volumes.
func (s *VolumeService) Extended(ctx context.Context, volumeID, serverID string, failure error) error {
	err := s.change(ctx, func(tx Writer) error {
		v, err := volumeOf(tx, volumeID)
		if err != nil {
			return err
		}
		if err := endExtension(tx, &v, serverID, failure); err != nil {
			return err
		}
		v.Updated = s.now()
		return tx.PutVolume(v)
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// VolumeAttachment returns one attachment.
func (s *VolumeService) VolumeAttachment(ctx context.Context, id string) (cinder.Attachment, error) {
	return viewVolumes(ctx, s, func(r Reader) (cinder.Attachment, error) {
		a, _, err := attachmentOf(r, id)
		return a, err
	})
}

// VolumeAttachments lists all, oldest first.
func (s *VolumeService) VolumeAttachments(ctx context.Context) ([]cinder.Attachment, error) {
	return viewVolumes(ctx, s, Reader.VolumeAttachments)
}
