package cinder

import (
	"maps"
	"slices"
	"strconv"
)

// InTheMaking says whether the volume is being made.
func (v Volume) InTheMaking() bool { return v.Status == Creating || v.Status == Downloading }

// CheckNotCopied refuses what would change a volume while a snapshot or another volume is made of it.
func (v Volume) CheckNotCopied(volumes []Volume, snapshots []Snapshot) error {
	for _, o := range volumes {
		if o.SourceID == v.ID && o.InTheMaking() {
			return invalidVolume(v.ID, "volume %s is being made of it; wait until that is available", o.ID)
		}
	}
	for _, s := range snapshots {
		if s.VolumeID == v.ID && s.Status == Creating {
			return invalidVolume(v.ID, "snapshot %s of it is being made; wait until that is available", s.ID)
		}
	}
	return nil
}

// CheckDelete says whether a volume may be deleted: it must be at rest, unless it is forced, and nobody may have it.
func (v Volume) CheckDelete(attachments []Attachment, snapshots []Snapshot, force bool) error {
	if len(attachments) > 0 {
		return invalidVolume(v.ID, "it cannot be deleted while it is attached to %s", owners(attachments))
	}
	for _, s := range snapshots {
		if s.VolumeID == v.ID {
			return invalidVolume(v.ID, "it still has dependent snapshots, like %s; delete them first", s.ID)
		}
	}
	if force {
		return nil
	}
	return v.checkStatus("delete", Available, Error, ErrorExtending)
}

// CheckExtend says whether a volume may grow to a size. One that a server has may, too.
func (v Volume) CheckExtend(gib int) error {
	if err := v.checkStatus("extend", Available, InUse, ErrorExtending); err != nil {
		return err
	}
	if gib > maxGiB {
		return invalidInput("new_size", strconv.Itoa(gib), "it must be a number of GiB of at most %d", maxGiB)
	}
	if gib <= v.SizeGiB {
		return invalidInput("new_size", strconv.Itoa(gib), "new size for extend must be greater than current size (current: %d)", v.SizeGiB)
	}
	return nil
}

// Check says whether a request for a snapshot is sound by itself.
func (r SnapshotRequest) Check() error {
	if err := checkWords(r.Name, r.Description); err != nil {
		return err
	}
	return checkMetadata("metadata", r.Metadata)
}

// CheckSnapshot says whether a snapshot can be made of a volume. Of one that somebody may write to it must be forced, and possible: p is the pool that it
// is in.
func (v Volume) CheckSnapshot(force bool, p Pool) error {
	allowed := []Status{Available}
	if force {
		allowed = append(allowed, Reserved, Attaching, InUse, Detaching)
	}
	if err := v.checkStatus("make a snapshot", allowed...); err != nil {
		return err
	}
	return v.CheckCopy(p, v.Status != Available)
}

// CheckCopy says whether the contents of a volume can be copied. live is whether somebody may write to it.
func (v Volume) CheckCopy(p Pool, live bool) error {
	switch {
	case !p.Copies:
		return invalidVolume(v.ID, "backend %s (%s) cannot copy volumes", p.Backend, p.Kind)
	case live && !p.LiveCopies:
		return invalidVolume(v.ID, "a server may be writing to it, and backend %s (%s) cannot copy a volume at one moment; detach it first", p.Backend, p.Kind)
	}
	return nil
}

// CheckDelete says whether a snapshot may be deleted. volumes are all that there are.
func (s Snapshot) CheckDelete(volumes []Volume) error {
	if !slices.Contains([]Status{Available, Error, ErrorDeleting}, s.Status) {
		return Refuse("InvalidSnapshot", Invalid, "", "", "snapshot %s: status must be available or error or error_deleting to delete, but the current status is %s", s.ID, s.Status)
	}
	for _, v := range volumes {
		if v.SnapshotID == s.ID && v.InTheMaking() {
			return Refuse("InvalidSnapshot", Invalid, "", "", "snapshot %s: volume %s is being made of it; wait until that is available", s.ID, v.ID)
		}
	}
	return nil
}

// underWay are the states that stand for work: who sets them by hand would begin it.
var underWay = []Status{Creating, Downloading, Extending, Deleting}

// CheckChange says whether an update of a volume changes nothing but what its owner may say of it; admins may also set the status.
func (v Volume) CheckChange(before Volume, attachments []Attachment) error {
	if err := checkWords(v.Name, v.Description); err != nil {
		return err
	}
	if err := checkMetadata("metadata", v.Metadata); err != nil {
		return err
	}
	if err := checkImageMetadata(before.ImageMetadata, v.ImageMetadata); err != nil {
		return err
	}
	// What is said of an image says how its bytes are read while they are written to the volume.
	if before.InTheMaking() && !maps.Equal(v.ImageMetadata, before.ImageMetadata) {
		return invalidVolume(before.ID, "what it says of its image cannot be changed while it is %s", before.Status)
	}
	if v.ReadOnly != before.ReadOnly {
		if err := before.checkStatus("update readonly flag", Available); err != nil {
			return err
		}
	}
	if v.Status != before.Status {
		return v.checkReset(before, attachments)
	}
	return nil
}

// checkImageMetadata looks at what is new: an image may say more than a volume's user.
func checkImageMetadata(before, after map[string]string) error {
	const field = "volume_image_metadata"
	if n := len(after); n > maxMetadata && n > len(before) {
		return Refuse("InvalidVolumeMetadata", Invalid, field, "", "%d are more than %d", n, maxMetadata)
	}
	changed := map[string]string{}
	for key, value := range after {
		if was, there := before[key]; !there || was != value {
			changed[key] = value
		}
	}
	return checkMetadata(field, changed)
}

func (v Volume) checkReset(before Volume, attachments []Attachment) error {
	settable := []Status{Available, Reserved, Attaching, InUse, Detaching, Error, ErrorDeleting, ErrorExtending, Maintenance}
	switch {
	case slices.Contains(underWay, before.Status):
		return invalidVolume(v.ID, "its status cannot be reset while the service is %s it", before.Status)
	case !slices.Contains(settable, v.Status):
		return invalidInput("status", string(v.Status), "it cannot be set by hand")
	case v.Status == Available && len(attachments) > 0:
		return invalidVolume(v.ID, "it cannot be available while it is attached to %s", owners(attachments))
	}
	return nil
}

// CheckChange says whether an update of a snapshot changes nothing but what its owner may say of it; admins may also set the status.
func (s Snapshot) CheckChange(before Snapshot) error {
	if err := checkWords(s.Name, s.Description); err != nil {
		return err
	}
	if err := checkMetadata("metadata", s.Metadata); err != nil {
		return err
	}
	switch {
	case s.Status == before.Status:
		return nil
	case slices.Contains(underWay, before.Status):
		return Refuse("InvalidSnapshot", Invalid, "", "", "snapshot %s: its status cannot be reset while the service is %s it", s.ID, before.Status)
	case !slices.Contains([]Status{Available, Error, ErrorDeleting}, s.Status):
		return invalidInput("status", string(s.Status), "it cannot be set by hand")
	}
	return nil
}

// DraftSnapshot makes the record of a new snapshot, all but its ID and its times: Status is creating.
func DraftSnapshot(r SnapshotRequest, of Volume) Snapshot {
	return Snapshot{VolumeID: of.ID, ProjectID: r.ProjectID, UserID: r.UserID, Name: r.Name, Description: r.Description, SizeGiB: of.SizeGiB,
		Status: Creating, Metadata: maps.Clone(r.Metadata)}
}

// UnderWay says whether the service works on the volume: its status then is the journal of that.
func (v Volume) UnderWay() bool { return slices.Contains(underWay, v.Status) }

// UnderWay says whether the service works on the snapshot.
func (s Snapshot) UnderWay() bool { return slices.Contains(underWay, s.Status) }

// Pending is how many GiB of its pool a volume is about to take.
func (v Volume) Pending() int {
	switch {
	case v.InTheMaking():
		return v.SizeGiB
	case v.Status == Extending:
		return max(0, v.NewGiB-v.SizeGiB)
	}
	return 0
}
