package compute

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/image"
)

// workVolume does what a volume's status says that is under way. Nothing else works on the volume meanwhile.
func (s *VolumeService) workVolume(ctx context.Context, id string) {
	v, err := viewVolumes(ctx, s, func(r Reader) (cinder.Volume, error) { return r.Volume(id) })
	if errors.Is(err, ErrNotFound) {
		return
	}
	if err != nil {
		s.log.ErrorContext(ctx, "a volume is not worked on", "volume", id, "error", err)
		return
	}
	switch v.Status {
	case cinder.Creating, cinder.Downloading:
		s.makeVolume(ctx, v)
	case cinder.Extending:
		s.growVolume(ctx, v)
	case cinder.Deleting:
		s.removeVolume(ctx, v)
	}
}

// finish stores how some work on a volume ended, if the volume still waits for that; change gets the volume as it is. When the agent ends, nothing is stored:
// the work is gone on with.
func (s *VolumeService) finish(ctx context.Context, id string, failure error, change func(tx Writer, v *cinder.Volume) error) {
	if s.base.Err() != nil {
		return
	}
	if failure != nil {
		s.log.ErrorContext(ctx, "work on a volume failed", "volume", id, "error", failure)
	}
	err := s.change(ctx, func(tx Writer) error {
		v, err := tx.Volume(id)
		if err != nil {
			return err
		}
		if err := change(tx, &v); err != nil {
			return err
		}
		v.Updated = s.now()
		return tx.PutVolume(v)
	})
	if err != nil && !errors.Is(err, errUnchanged) && !errors.Is(err, ErrNotFound) {
		s.log.ErrorContext(ctx, "the end of work on a volume is not stored", "volume", id, "error", err)
	}
}

// problem is a failure in words that fit into a record.
func problem(err error) string {
	const most = 1000
	text := []rune(err.Error())
	return string(text[:min(len(text), most)])
}

func (s *VolumeService) makeVolume(ctx context.Context, v cinder.Volume) {
	if v.ImageID != "" && v.Status == cinder.Creating {
		s.finish(ctx, v.ID, nil, func(_ Writer, v *cinder.Volume) error {
			if v.Status != cinder.Creating {
				return errUnchanged
			}
			v.Status = cinder.Downloading
			return nil
		})
	}
	failure := s.fill(ctx, v)
	s.finish(ctx, v.ID, failure, func(_ Writer, v *cinder.Volume) error {
		switch {
		case !v.InTheMaking():
			return errUnchanged
		case failure != nil:
			v.Status, v.Problem = cinder.Error, problem(failure)
		default:
			v.Status, v.Problem = cinder.Available, ""
		}
		v.ImageSHA256 = ""
		return nil
	})
	s.release(ctx, v.ImageSHA256)
}

// release gives up an image's bytes.
func (s *VolumeService) release(ctx context.Context, sha string) {
	if s.opt.Blobs == nil || sha == "" || s.base.Err() != nil {
		return
	}
	if err := s.opt.Blobs.Release(ctx, sha); err != nil {
		s.log.WarnContext(ctx, "image data was not released", "sha256", sha, "error", err)
	}
}

// fill has the backend make a volume.
func (s *VolumeService) fill(ctx context.Context, v cinder.Volume) error {
	b, err := s.backendOf(v)
	if err != nil {
		return err
	}
	from, err := s.originOf(ctx, v)
	if err != nil {
		return err
	}
	return b.Create(ctx, v, from)
}

func (s *VolumeService) originOf(ctx context.Context, v cinder.Volume) (from VolumeOrigin, err error) {
	source := v.SourceID
	if v.SnapshotID != "" {
		snap, err := s.Snapshot(ctx, v.SnapshotID)
		if err != nil {
			return from, err
		}
		from.Snapshot, source = &snap, snap.VolumeID
	}
	if source != "" {
		of, err := s.Volume(ctx, source)
		if err != nil {
			return from, err
		}
		from.Volume = &of
	}
	if v.ImageID != "" {
		from.Image = &image.Base{Path: filepath.Join(s.opt.ImageDir, v.ImageSHA256), Format: v.ImageMetadata["disk_format"]}
	}
	from.Cipher, err = s.cipherOf(v, from.Volume)
	return from, err
}

// cipherOf is how a new volume is encrypted, with its key, which is made now: a copy has that of what it is a copy of.
func (s *VolumeService) cipherOf(v cinder.Volume, of *cinder.Volume) (*connector.Cipher, error) {
	if v.Encryption == nil {
		return nil, nil
	}
	if s.opt.Keys == nil {
		return nil, &Failure{Kind: ErrUnavailable, Subject: "volume " + v.ID, Reason: "there is no place for keys of encrypted volumes"}
	}
	var err error
	if of != nil {
		err = s.opt.Keys.Copy(of.KeyID, v.KeyID)
	} else {
		err = s.opt.Keys.Make(v.KeyID, v.Encryption.KeySize)
	}
	if err != nil {
		return nil, err
	}
	key, err := s.opt.Keys.Passphrase(v.KeyID)
	e := v.Encryption
	return &connector.Cipher{Format: e.Provider, Cipher: e.Cipher, KeySize: e.KeySize, Key: key}, err
}

// growVolume has the backend make a volume larger and tells the servers that have it, each of which ends its part by Extended. The size in the record is
// the new one between the two.
func (s *VolumeService) growVolume(ctx context.Context, v cinder.Volume) {
	failure := s.enlarge(ctx, v)
	var servers []string
	s.finish(ctx, v.ID, failure, func(tx Writer, v *cinder.Volume) error {
		if v.Status != cinder.Extending {
			return errUnchanged
		}
		if failure != nil {
			v.Status, v.NewGiB, v.Before, v.Problem = cinder.ErrorExtending, 0, "", problem(failure)
			return nil
		}
		if v.SizeGiB != v.NewGiB || len(v.Awaited) == 0 {
			attachments, err := tx.AttachmentsOf(v.ID)
			if err != nil {
				return err
			}
			v.SizeGiB, v.Awaited = v.NewGiB, s.havers(attachments)
		}
		servers = v.Awaited
		return endWhenSeen(tx, v)
	})
	for _, server := range servers {
		s.tell(v.ID, server)
	}
}

// enlarge has the backend make a volume larger, unless that was done before the agent ended.
func (s *VolumeService) enlarge(ctx context.Context, v cinder.Volume) error {
	if v.SizeGiB == v.NewGiB {
		return nil
	}
	b, err := s.backendOf(v)
	if err != nil {
		return err
	}
	return b.Extend(ctx, v, v.NewGiB)
}

// havers are the servers that are to be told of a volume's new size.
func (s *VolumeService) havers(attachments []cinder.Attachment) (servers []string) {
	for _, a := range attachments {
		if a.Status == cinder.AttachmentAttached && a.ServerID != "" && s.opt.InUse != nil {
			servers = append(servers, a.ServerID)
		}
	}
	return servers
}

// tell tells a server of a volume's new size. It may wait for what is under way on the server, so it takes none of the workers.
func (s *VolumeService) tell(volumeID, serverID string) {
	s.background(func() {
		err := s.opt.InUse(s.base, serverID, volumeID)
		if err == nil {
			return
		}
		s.finish(s.base, volumeID, err, func(tx Writer, v *cinder.Volume) error { return endExtension(tx, v, serverID, err) })
	})
}

// endExtension notes that a server sees a volume's new size, or why it does not. The last one ends the extension.
func endExtension(tx Writer, v *cinder.Volume, serverID string, failure error) error {
	at := slices.Index(v.Awaited, serverID)
	if v.Status != cinder.Extending || v.SizeGiB != v.NewGiB || at < 0 {
		return errUnchanged
	}
	v.Awaited = slices.Delete(slices.Clone(v.Awaited), at, at+1)
	switch {
	case failure != nil && v.Problem != "":
		v.Problem = problem(fmt.Errorf("%s; %w", v.Problem, failure))
	case failure != nil:
		v.Problem = problem(failure)
	}
	return endWhenSeen(tx, v)
}

// endWhenSeen ends an extension that no server is awaited for.
func endWhenSeen(tx Writer, v *cinder.Volume) error {
	if len(v.Awaited) > 0 {
		return nil
	}
	attachments, err := tx.AttachmentsOf(v.ID)
	v.Status, v.NewGiB, v.Before, v.Awaited = v.Rested(attachments), 0, "", nil
	if v.Problem != "" {
		v.Status = cinder.ErrorExtending
	}
	return err
}

func (s *VolumeService) removeVolume(ctx context.Context, v cinder.Volume) {
	failure := s.erase(ctx, v)
	if failure != nil {
		s.finish(ctx, v.ID, failure, func(_ Writer, v *cinder.Volume) error {
			if v.Status != cinder.Deleting {
				return errUnchanged
			}
			v.Status, v.Problem = cinder.ErrorDeleting, problem(failure)
			return nil
		})
		return
	}
	if s.base.Err() != nil {
		return
	}
	err := s.change(ctx, func(tx Writer) error { return s.forget(tx, v) })
	if err != nil {
		s.log.ErrorContext(ctx, "a volume that is deleted is not forgotten", "volume", v.ID, "error", err)
		return
	}
	s.release(ctx, v.ImageSHA256)
}

// erase removes a volume and then its key.
func (s *VolumeService) erase(ctx context.Context, v cinder.Volume) error {
	b, err := s.backendOf(v)
	if err != nil {
		return err
	}
	if err := b.Delete(ctx, v); err != nil {
		return err
	}
	if v.KeyID != "" && s.opt.Keys != nil {
		return s.opt.Keys.Delete(v.KeyID)
	}
	return nil
}

// forget removes the record of a volume that is gone; its LUN, if it had one, is remembered for as long as that holds what it held.
func (s *VolumeService) forget(tx Writer, v cinder.Volume) error {
	if placer, is := s.opt.Backends[v.Backend].(VolumePlacer); is && v.LUN != "" {
		used := cinder.UsedLUN{Backend: v.Backend, LUN: v.LUN, ProjectID: v.ProjectID, VolumeID: v.ID, Since: s.now()}
		change := func() error { return tx.DeleteUsedLUN(v.Backend, v.LUN) }
		if placer.KeepsContents() {
			change = func() error { return tx.PutUsedLUN(used) }
		}
		if err := change(); err != nil {
			return err
		}
	}
	if err := tx.PutVolumeIdentity(v.ID, ""); err != nil {
		return err
	}
	return tx.DeleteVolume(v.ID)
}

// workSnapshot does what a snapshot's status says that is under way.
func (s *VolumeService) workSnapshot(ctx context.Context, id string) {
	var of cinder.Volume
	snap, err := viewVolumes(ctx, s, func(r Reader) (snap cinder.Snapshot, err error) {
		if snap, err = r.Snapshot(id); err == nil {
			of, err = r.Volume(snap.VolumeID)
		}
		return snap, err
	})
	if errors.Is(err, ErrNotFound) {
		return
	}
	if err != nil {
		s.log.ErrorContext(ctx, "a snapshot is not worked on", "snapshot", id, "error", err)
		return
	}
	if !snap.UnderWay() {
		return
	}
	b, failure := s.backendOf(of)
	if failure == nil && snap.Status == cinder.Creating {
		failure = b.Snapshot(ctx, snap, of)
	} else if failure == nil {
		failure = b.DeleteSnapshot(ctx, snap, of)
	}
	s.finishSnapshot(ctx, snap, failure)
}

// finishSnapshot stores how the work on a snapshot ended, if it still waits for that.
func (s *VolumeService) finishSnapshot(ctx context.Context, began cinder.Snapshot, failure error) {
	if s.base.Err() != nil {
		return
	}
	if failure != nil {
		s.log.ErrorContext(ctx, "work on a snapshot failed", "snapshot", began.ID, "error", failure)
	}
	err := s.change(ctx, func(tx Writer) error {
		snap, err := tx.Snapshot(began.ID)
		if err != nil || snap.Status != began.Status {
			return err
		}
		deleting := snap.Status == cinder.Deleting
		switch {
		case failure == nil && deleting:
			return tx.DeleteSnapshot(snap.ID)
		case failure == nil:
			snap.Status = cinder.Available
		case deleting:
			snap.Status, snap.Problem = cinder.ErrorDeleting, problem(failure)
		default:
			snap.Status, snap.Problem = cinder.Error, problem(failure)
		}
		snap.Updated = s.now()
		return tx.PutSnapshot(snap)
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		s.log.ErrorContext(ctx, "the end of work on a snapshot is not stored", "snapshot", began.ID, "error", err)
	}
}
