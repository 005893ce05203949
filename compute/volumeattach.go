package compute

import (
	"errors"

	"compute-agent/cinder"
)

// The changes of a volume that belong into the same transaction as the intent of a server's operation. VolumeService has them; a volume service that is another
// host's has none.

// reserve gives a volume to a server, and returns it as it is then. Again with the same attachment it changes nothing. A volume that another project
// has is not found; an empty projectID sees all.
func (s *VolumeService) reserve(tx Writer, attachmentID, volumeID, serverID, projectID string) (cinder.Volume, error) {
	v, err := volumeOf(tx, volumeID)
	if err != nil {
		return v, err
	}
	if projectID != "" && v.ProjectID != projectID {
		return cinder.Volume{}, noVolume(volumeID)
	}
	switch old, err := tx.VolumeAttachment(attachmentID); {
	case err == nil && (old.VolumeID != volumeID || old.ServerID != serverID):
		return v, &Failure{Kind: ErrExists, Subject: subjectOf("volume attachment", attachmentID), Reason: "it is of another volume or server"}
	case err == nil:
		return v, nil
	case !errors.Is(err, ErrNotFound):
		return v, err
	}
	attachments, err := tx.AttachmentsOf(volumeID)
	if err != nil {
		return v, err
	}
	if err := v.CheckReserve(attachments, serverID); err != nil {
		return v, err
	}
	if err := checkNotCopied(tx, v); err != nil {
		return v, err
	}
	a := cinder.Attachment{ID: attachmentID, VolumeID: volumeID, ServerID: serverID, Status: cinder.AttachmentReserved, Mode: modeOf(v), Created: s.now()}
	if err := tx.PutVolumeAttachment(a); err != nil {
		return v, err
	}
	err = s.settle(tx, &v)
	return v, err
}

func modeOf(v cinder.Volume) string {
	if v.ReadOnly {
		return "ro"
	}
	return "rw"
}

// releaseReservation ends an attachment, whatever it has got to. One that is not there is ended.
func (s *VolumeService) releaseReservation(tx Writer, attachmentID string) error {
	a, err := tx.VolumeAttachment(attachmentID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := tx.DeleteVolumeAttachment(attachmentID); err != nil {
		return err
	}
	v, err := tx.Volume(a.VolumeID)
	if err != nil {
		return err
	}
	if err := endExtension(tx, &v, a.ServerID, nil); err != nil && !errors.Is(err, errUnchanged) {
		return err // a server that has it no more says nothing of its size
	}
	return s.settle(tx, &v)
}

// beginDetaching says that a server is about to lose a volume. Again it changes nothing.
func (s *VolumeService) beginDetaching(tx Writer, attachmentID string) error {
	return s.turn(tx, attachmentID, cinder.AttachmentDetaching, func(v cinder.Volume, a cinder.Attachment) error {
		return v.CheckDetach(a)
	})
}

// rollDetaching says that the server keeps it after all.
func (s *VolumeService) rollDetaching(tx Writer, attachmentID string) error {
	return s.turn(tx, attachmentID, cinder.AttachmentAttached, func(v cinder.Volume, a cinder.Attachment) error {
		if a.Status != cinder.AttachmentDetaching {
			return errUnchanged
		}
		return nil
	})
}

var errUnchanged = errors.New("nothing to change")

// turn gives an attachment another status, if check agrees and it has not got it yet, and its volume what follows from that.
func (s *VolumeService) turn(tx Writer, attachmentID string, to cinder.AttachmentStatus, check func(cinder.Volume, cinder.Attachment) error) error {
	a, v, err := attachmentOf(tx, attachmentID)
	if err != nil || a.Status == to {
		return err
	}
	if err := check(v, a); errors.Is(err, errUnchanged) {
		return nil
	} else if err != nil {
		return err
	}
	a.Status = to
	if err := tx.PutVolumeAttachment(a); err != nil {
		return err
	}
	return s.settle(tx, &v)
}

// settle stores the status that a volume's attachments give it.
func (s *VolumeService) settle(tx Writer, v *cinder.Volume) error {
	attachments, err := tx.AttachmentsOf(v.ID)
	if err != nil {
		return err
	}
	v.Status, v.Updated = v.Settled(attachments), s.now()
	return tx.PutVolume(*v)
}

// attachmentOf reads an attachment with its volume.
func attachmentOf(r Reader, id string) (cinder.Attachment, cinder.Volume, error) {
	a, err := r.VolumeAttachment(id)
	if errors.Is(err, ErrNotFound) {
		err = cinder.Refuse("VolumeAttachmentNotFound", cinder.NotFound, "", "", "volume attachment could not be found with filter: attachment_id = %s", id)
	}
	if err != nil {
		return a, cinder.Volume{}, err
	}
	v, err := volumeOf(r, a.VolumeID)
	return a, v, err
}

func volumeOf(r Reader, id string) (cinder.Volume, error) {
	v, err := r.Volume(id)
	if errors.Is(err, ErrNotFound) {
		err = noVolume(id)
	}
	return v, err
}

func noVolume(id string) error {
	return cinder.Refuse("VolumeNotFound", cinder.NotFound, "", "", "volume %s could not be found", id)
}

// checkNotCopied refuses what would change a volume while a snapshot or another volume is made of it.
func checkNotCopied(r Reader, v cinder.Volume) error {
	volumes, err := r.Volumes()
	if err != nil {
		return err
	}
	snapshots, err := r.Snapshots()
	if err != nil {
		return err
	}
	return v.CheckNotCopied(volumes, snapshots)
}
