package compute

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"compute-agent/cinder"
)

// CreateVolume makes the record of a volume, and begins to make the volume: it is creating, or downloading, until it is available or in an error.
func (s *VolumeService) CreateVolume(ctx context.Context, r cinder.VolumeRequest) (cinder.Volume, error) {
	return s.create(ctx, newID(), r)
}

func (s *VolumeService) create(ctx context.Context, id string, r cinder.VolumeRequest) (v cinder.Volume, err error) {
	if err := r.Check(); err != nil {
		return v, err
	}
	pools := s.measure(ctx)
	err = s.change(ctx, func(tx Writer) error {
		v, err = s.draft(tx, r, pools)
		if err != nil {
			return err
		}
		v.ID, v.Created = id, s.now()
		v.Updated = v.Created
		if v.Encryption != nil {
			v.KeyID = newID()
		}
		return tx.PutVolume(v)
	})
	if err != nil {
		return cinder.Volume{}, err
	}
	s.begin(id, s.workVolume)
	return v, nil
}

// draft is the record that a request makes, all but its name.
func (s *VolumeService) draft(r Reader, want cinder.VolumeRequest, measured []cinder.Pool) (v cinder.Volume, err error) {
	from, err := sourcesOf(r, want)
	if err != nil {
		return v, err
	}
	t, err := s.typeFor(r, want, from)
	if err != nil {
		return v, err
	}
	if v, err = cinder.Draft(want, t, from); err != nil {
		return v, err
	}
	has, err := usageOf(r, want.ProjectID)
	if err != nil {
		return v, err
	}
	if err := s.quotas.CheckVolume(has, v.SizeGiB); err != nil {
		return v, err
	}
	pools, err := s.count(r, measured, want.ProjectID)
	if err != nil {
		return v, err
	}
	pool, err := cinder.Schedule(v, t, pools)
	if err != nil {
		return v, err
	}
	v.Backend = pool.Backend
	if from.Snapshot == nil && from.Volume != nil {
		if err := from.Volume.CheckCopy(pool, from.Volume.Status != cinder.Available); err != nil {
			return v, err
		}
	}
	err = s.place(r, &v)
	return v, err
}

// place chooses the LUN where a backend has such.
func (s *VolumeService) place(r Reader, v *cinder.Volume) error {
	placer, is := s.opt.Backends[v.Backend].(VolumePlacer)
	if !is {
		return nil
	}
	volumes, err := r.Volumes()
	if err != nil {
		return err
	}
	used, err := r.UsedLUNs()
	if err != nil {
		return err
	}
	v.LUN, err = placer.Place(*v, volumes, used)
	return err
}

// typeFor is the type of a new volume: what is asked for, else that of what it is made of, else the default.
func (s *VolumeService) typeFor(r Reader, want cinder.VolumeRequest, from cinder.Sources) (cinder.Type, error) {
	types, err := r.VolumeTypes()
	if err != nil {
		return cinder.Type{}, err
	}
	if want.Type == "" && from.Volume != nil {
		if i := slices.IndexFunc(types, func(t cinder.Type) bool { return t.ID == from.Volume.TypeID }); i >= 0 {
			return types[i], nil
		}
	}
	return cinder.FindType(types, want.Type, s.opt.DefaultType, want.ProjectID)
}

// sourcesOf reads what a request names. What another project has is not found, images aside: those are the front door's to show.
func sourcesOf(r Reader, want cinder.VolumeRequest) (from cinder.Sources, err error) {
	source := want.SourceID
	if want.SnapshotID != "" {
		snap, err := snapshotOf(r, want.SnapshotID)
		if err == nil && snap.ProjectID != want.ProjectID {
			err = noSnapshot(want.SnapshotID)
		}
		if err != nil {
			return from, err
		}
		from.Snapshot, source = &snap, snap.VolumeID
	}
	if source != "" {
		v, err := volumeOf(r, source)
		if err == nil && from.Snapshot == nil && v.ProjectID != want.ProjectID {
			err = noVolume(source)
		}
		if err != nil {
			return from, err
		}
		from.Volume = &v
	}
	if want.ImageID != "" {
		img, err := r.Image(want.ImageID)
		if err != nil {
			return from, notFound("ImageNotFound", "image", want.ImageID, err)
		}
		from.Image = imageSource(img)
	}
	return from, nil
}

// imageSource is what the rules for volumes need of an image. What a volume says of its image is what Cinder says: the properties, and what Glance knows.
func imageSource(img Image) *cinder.Image {
	metadata := maps.Clone(img.Properties)
	if metadata == nil {
		metadata = map[string]string{}
	}
	maps.Copy(metadata, map[string]string{
		"image_id": img.ID, "image_name": img.Name, "checksum": img.MD5, "container_format": img.ContainerFormat, "disk_format": img.DiskFormat,
		"min_disk": strconv.Itoa(img.MinDiskGiB), "min_ram": strconv.Itoa(img.MinRAMMiB), "size": strconv.FormatInt(img.Size, 10),
	})
	return &cinder.Image{ID: img.ID, Active: img.Status == ImageActive, SHA256: img.SHA256, MinDiskGiB: img.MinDiskGiB, Bytes: img.VirtualSize, Metadata: metadata}
}

// Volume returns one volume.
func (s *VolumeService) Volume(ctx context.Context, id string) (cinder.Volume, error) {
	return viewVolumes(ctx, s, func(r Reader) (cinder.Volume, error) { return volumeOf(r, id) })
}

// Volumes lists all, oldest first.
func (s *VolumeService) Volumes(ctx context.Context) ([]cinder.Volume, error) {
	return viewVolumes(ctx, s, Reader.Volumes)
}

// UpdateVolume applies change to what users say of a volume: name, description, metadata, bootable, read-only, what it says of its image; for admins also its
// status, where that stands for no work. What else change does is undone.
func (s *VolumeService) UpdateVolume(ctx context.Context, id string, change func(*cinder.Volume) error) (v cinder.Volume, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := volumeOf(tx, id)
		if err != nil {
			return err
		}
		attachments, err := tx.AttachmentsOf(id)
		if err != nil {
			return err
		}
		asked := before
		asked.Metadata, asked.ImageMetadata = maps.Clone(before.Metadata), maps.Clone(before.ImageMetadata)
		if err := change(&asked); err != nil {
			return err
		}
		v = before
		v.Name, v.Description, v.Metadata, v.ImageMetadata = asked.Name, asked.Description, asked.Metadata, asked.ImageMetadata
		v.Bootable, v.ReadOnly, v.Status, v.Updated = asked.Bootable, asked.ReadOnly, asked.Status, s.now()
		if err := v.CheckChange(before, attachments); err != nil {
			return err
		}
		if v.Status != before.Status {
			v.Problem, v.NewGiB, v.Before, v.Awaited = "", 0, "", nil
		}
		return tx.PutVolume(v)
	})
	return v, err
}

// DeleteVolume begins to delete a volume: it is deleting until it is gone, or in an error. force also deletes what has not come to rest; that nobody has
// it must be so all the same.
func (s *VolumeService) DeleteVolume(ctx context.Context, id string, force bool) error {
	return s.beginVolume(ctx, id, func(tx Writer, v *cinder.Volume) error {
		attachments, err := tx.AttachmentsOf(id)
		if err != nil {
			return err
		}
		snapshots, err := tx.Snapshots()
		if err != nil {
			return err
		}
		if err := v.CheckDelete(attachments, snapshots, force); err != nil {
			return err
		}
		if err := checkNotCopied(tx, *v); err != nil {
			return err
		}
		v.Status, v.Problem = cinder.Deleting, ""
		return nil
	})
}

// beginVolume stores the beginning of some work on a volume, and does it in the background.
func (s *VolumeService) beginVolume(ctx context.Context, id string, change func(Writer, *cinder.Volume) error) error {
	err := s.change(ctx, func(tx Writer) error {
		v, err := volumeOf(tx, id)
		if err != nil {
			return err
		}
		if err := change(tx, &v); err != nil {
			return err
		}
		v.Updated = s.now()
		return tx.PutVolume(v)
	})
	if err == nil {
		s.begin(id, s.workVolume)
	}
	return err
}

// ExtendVolume begins to make a volume larger; one that a server has, too, which is then told.
func (s *VolumeService) ExtendVolume(ctx context.Context, id string, gib int) error {
	pools := s.measure(ctx)
	return s.beginVolume(ctx, id, func(tx Writer, v *cinder.Volume) error {
		if err := v.CheckExtend(gib); err != nil {
			return err
		}
		if err := checkNotCopied(tx, *v); err != nil {
			return err
		}
		has, err := usageOf(tx, v.ProjectID)
		if err != nil {
			return err
		}
		if err := s.quotas.CheckGigabytes(has, gib-v.SizeGiB); err != nil {
			return err
		}
		if err := s.checkRoom(tx, *v, pools, gib); err != nil {
			return err
		}
		v.Before, v.Status, v.NewGiB, v.Problem = v.Status, cinder.Extending, gib, ""
		return nil
	})
}

// checkRoom says whether a volume can grow where it is.
func (s *VolumeService) checkRoom(r Reader, v cinder.Volume, measured []cinder.Pool, gib int) error {
	b, err := s.backendOf(v)
	if err != nil {
		return err
	}
	if placer, is := b.(VolumePlacer); is {
		if most := placer.Grown(v); gib > most {
			return cinder.Refuse("InvalidInput", cinder.Invalid, "new_size", strconv.Itoa(gib), "LUN %s of backend %s has %d GiB", v.LUN, v.Backend, most)
		}
		return nil
	}
	pools, err := s.count(r, measured, v.ProjectID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(pools, func(p cinder.Pool) bool { return p.Backend == v.Backend })
	return pools[i].CheckRoom(v, gib-v.SizeGiB)
}

// UsedLUNs lists the LUNs of fixed backends that hold what deleted volumes had.
func (s *VolumeService) UsedLUNs(ctx context.Context) ([]cinder.UsedLUN, error) {
	return viewVolumes(ctx, s, Reader.UsedLUNs)
}

// CleanLUN is the operator's word that a LUN holds nothing any more: any project's volumes may have it. ErrNotFound for one that is clean, or that nobody knows.
func (s *VolumeService) CleanLUN(ctx context.Context, backend, lun string) error {
	return s.change(ctx, func(tx Writer) error {
		used, err := tx.UsedLUNs()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(used, func(u cinder.UsedLUN) bool { return u.Backend == backend && u.LUN == lun }) {
			return &Failure{Kind: ErrNotFound, Subject: fmt.Sprintf("LUN %q of backend %q", abridge(lun), abridge(backend)), Reason: "it holds nothing that a deleted volume had"}
		}
		return tx.DeleteUsedLUN(backend, lun)
	})
}
