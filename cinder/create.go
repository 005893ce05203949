package cinder

import (
	"maps"
	"strconv"
)

// Image is what the rules need of an image that a volume is made from.
type Image struct {
	ID         string
	Active     bool
	SHA256     string
	MinDiskGiB int
	Bytes      int64 // of the disk that it describes
	// Metadata is what a volume made from it says of it (volume_image_metadata).
	Metadata map[string]string
}

// GiB is the least size of a volume that it fits on.
func (i Image) GiB() int { return max(i.MinDiskGiB, gib(i.Bytes), 1) }

func gib(bytes int64) int { return int((bytes + 1<<30 - 1) >> 30) }

// Sources are the records that a VolumeRequest names. What it does not name is nil.
type Sources struct {
	Image    *Image
	Snapshot *Snapshot
	// Volume is the one to be cloned, or that the snapshot is of.
	Volume *Volume
	// Attached is whether a server has the one to be cloned.
	Attached bool
}

// Check says whether a request is sound by itself, before anything is looked up.
func (r VolumeRequest) Check() error {
	if err := checkWords(r.Name, r.Description); err != nil {
		return err
	}
	if err := checkMetadata("metadata", r.Metadata); err != nil {
		return err
	}
	sources := 0
	for _, id := range []string{r.ImageID, r.SnapshotID, r.SourceID} {
		if id != "" {
			sources++
		}
	}
	switch {
	case sources > 1:
		return invalidInput("", "", "at most one of imageRef, snapshot_id and source_volid may be named, %d are", sources)
	case r.SizeGiB < 0 || r.SizeGiB > maxGiB:
		return invalidInput("size", strconv.Itoa(r.SizeGiB), "it must be a number of GiB from 1 to %d", maxGiB)
	case r.SizeGiB == 0 && sources == 0:
		return invalidInput("size", "", "a volume that is made of nothing needs a size")
	}
	return nil
}

// Draft makes the record of a new volume, all but its ID, its backend and its times: Status is creating. The request has passed Check; t is the type that
// it names, or that follows from its sources (TypeOf).
func Draft(r VolumeRequest, t Type, from Sources) (Volume, error) {
	v := Volume{
		ProjectID: r.ProjectID, UserID: r.UserID, Name: r.Name, Description: r.Description, SizeGiB: r.SizeGiB, Status: Creating, TypeID: t.ID,
		Metadata: maps.Clone(r.Metadata), Multiattach: t.Multiattach(), ImageID: r.ImageID, SnapshotID: r.SnapshotID, SourceID: r.SourceID,
	}
	if t.Encryption != nil {
		e := *t.Encryption
		v.Encryption = &e
	}
	if r.Multiattach && !v.Multiattach {
		return v, invalidInput("multiattach", "true", `only a volume type can ask for it: use one with the extra spec multiattach="<is> True"`)
	}
	var err error
	switch {
	case from.Image != nil:
		err = v.fromImage(*from.Image, t)
	case from.Snapshot != nil:
		err = v.fromSnapshot(*from.Snapshot, *from.Volume, t)
	case from.Volume != nil:
		err = v.fromVolume(*from.Volume, t)
	}
	return v, err
}

func (v *Volume) fromImage(img Image, t Type) error {
	if !img.Active {
		return invalidInput("imageRef", img.ID, "the image is not active")
	}
	if v.SizeGiB == 0 {
		v.SizeGiB = img.GiB()
	}
	switch {
	case v.SizeGiB < img.MinDiskGiB:
		return invalidInput("size", strconv.Itoa(v.SizeGiB), "volume size %dGB cannot be smaller than the image minDisk size %dGB", v.SizeGiB, img.MinDiskGiB)
	case v.SizeGiB < gib(img.Bytes):
		return invalidInput("size", strconv.Itoa(v.SizeGiB), "size of specified image %dGB is larger than volume size %dGB", gib(img.Bytes), v.SizeGiB)
	case v.Encryption != nil && v.Encryption.Provider != "luks":
		return invalidInput("volume_type", t.Name, "an image can be written to volumes of encryption luks only, not %s", v.Encryption.Provider)
	case v.Encryption != nil && int64(v.SizeGiB)<<30 < img.Bytes+EncryptionBytes:
		return invalidInput("size", strconv.Itoa(v.SizeGiB), "the image of %d bytes leaves no room for the header of an encrypted volume: ask for %d GiB", img.Bytes, v.SizeGiB+1)
	}
	v.Bootable, v.ImageSHA256, v.ImageMetadata = true, img.SHA256, maps.Clone(img.Metadata)
	return nil
}

// EncryptionBytes is how much of an encrypted volume a guest does not see, at least (LUKS1: 2 MiB).
const EncryptionBytes = 2 << 20

func (v *Volume) fromSnapshot(s Snapshot, of Volume, t Type) error {
	if s.Status != Available {
		return Refuse("InvalidSnapshot", Invalid, "snapshot_id", s.ID, "status must be available to make a volume of it, but the current status is %s", s.Status)
	}
	if v.SizeGiB == 0 {
		v.SizeGiB = s.SizeGiB
	}
	if v.SizeGiB < s.SizeGiB {
		return invalidInput("size", strconv.Itoa(v.SizeGiB), "volume size %dGB cannot be smaller than the snapshot size %dGB", v.SizeGiB, s.SizeGiB)
	}
	return v.inherit(of, t)
}

func (v *Volume) fromVolume(of Volume, t Type) error {
	if err := of.checkStatus("clone", Available, InUse); err != nil {
		return err
	}
	if v.SizeGiB == 0 {
		v.SizeGiB = of.SizeGiB
	}
	if v.SizeGiB < of.SizeGiB {
		return invalidInput("size", strconv.Itoa(v.SizeGiB), "volume size %dGB cannot be smaller than original volume size %dGB", v.SizeGiB, of.SizeGiB)
	}
	return v.inherit(of, t)
}

// inherit gives a copy what its contents demand: the place, the encryption, what is known of the image.
func (v *Volume) inherit(of Volume, t Type) error {
	if name := t.BackendName(); name != "" && name != of.Backend {
		return invalidInput("volume_type", t.Name, "its volumes are on backend %s, what the volume is to be made of is on %s; recommend omitting the type argument", name, of.Backend)
	}
	if !sameEncryption(v.Encryption, of.Encryption) {
		return invalidInput("volume_type", t.Name, "its encryption is another than that of what the volume is to be made of; recommend omitting the type argument")
	}
	v.Backend, v.Bootable, v.ImageMetadata = of.Backend, of.Bootable, maps.Clone(of.ImageMetadata)
	return nil
}

// sameEncryption ignores IDs: two types may ask for the same.
func sameEncryption(a, b *Encryption) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Provider == b.Provider && a.Cipher == b.Cipher && a.KeySize == b.KeySize
}
