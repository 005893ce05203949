package compute

import (
	"context"
	"errors"
	"maps"
	"slices"

	"compute-agent/cinder"
)

// CreateSnapshot makes the record of a snapshot, and begins to make it.
func (s *VolumeService) CreateSnapshot(ctx context.Context, r cinder.SnapshotRequest) (snap cinder.Snapshot, err error) {
	if err := r.Check(); err != nil {
		return snap, err
	}
	pools := s.measure(ctx)
	err = s.change(ctx, func(tx Writer) error {
		v, err := volumeOf(tx, r.VolumeID)
		if err != nil {
			return err
		}
		if _, err := s.backendOf(v); err != nil {
			return err
		}
		i := slices.IndexFunc(pools, func(p cinder.Pool) bool { return p.Backend == v.Backend })
		if err := v.CheckSnapshot(r.Force, pools[i]); err != nil {
			return err
		}
		has, err := usageOf(tx, r.ProjectID)
		if err != nil {
			return err
		}
		if err := s.quotas.CheckSnapshot(has, v.SizeGiB); err != nil {
			return err
		}
		snap = cinder.DraftSnapshot(r, v)
		snap.ID, snap.Created = newID(), s.now()
		snap.Updated = snap.Created
		return tx.PutSnapshot(snap)
	})
	if err != nil {
		return cinder.Snapshot{}, err
	}
	s.begin(snap.ID, s.workSnapshot)
	return snap, nil
}

func snapshotOf(r Reader, id string) (cinder.Snapshot, error) {
	snap, err := r.Snapshot(id)
	if errors.Is(err, ErrNotFound) {
		err = noSnapshot(id)
	}
	return snap, err
}

func noSnapshot(id string) error {
	return cinder.Refuse("SnapshotNotFound", cinder.NotFound, "", "", "snapshot %s could not be found", id)
}

// Snapshot returns one snapshot.
func (s *VolumeService) Snapshot(ctx context.Context, id string) (cinder.Snapshot, error) {
	return viewVolumes(ctx, s, func(r Reader) (cinder.Snapshot, error) { return snapshotOf(r, id) })
}

// Snapshots lists all, oldest first.
func (s *VolumeService) Snapshots(ctx context.Context) ([]cinder.Snapshot, error) {
	return viewVolumes(ctx, s, Reader.Snapshots)
}

// UpdateSnapshot applies change to what users say of a snapshot: name, description, metadata; for admins also its status.
func (s *VolumeService) UpdateSnapshot(ctx context.Context, id string, change func(*cinder.Snapshot) error) (snap cinder.Snapshot, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := snapshotOf(tx, id)
		if err != nil {
			return err
		}
		asked := before
		asked.Metadata = maps.Clone(before.Metadata)
		if err := change(&asked); err != nil {
			return err
		}
		snap = before
		snap.Name, snap.Description, snap.Metadata, snap.Status, snap.Updated = asked.Name, asked.Description, asked.Metadata, asked.Status, s.now()
		if err := snap.CheckChange(before); err != nil {
			return err
		}
		if snap.Status != before.Status {
			snap.Problem = ""
		}
		return tx.PutSnapshot(snap)
	})
	return snap, err
}

// DeleteSnapshot begins to delete a snapshot.
func (s *VolumeService) DeleteSnapshot(ctx context.Context, id string) error {
	err := s.change(ctx, func(tx Writer) error {
		snap, err := snapshotOf(tx, id)
		if err != nil {
			return err
		}
		volumes, err := tx.Volumes()
		if err != nil {
			return err
		}
		if err := snap.CheckDelete(volumes); err != nil {
			return err
		}
		snap.Status, snap.Problem, snap.Updated = cinder.Deleting, "", s.now()
		return tx.PutSnapshot(snap)
	})
	if err == nil {
		s.begin(id, s.workSnapshot)
	}
	return err
}
