package compute

import (
	"context"
	"errors"
	"maps"
	"strconv"

	"compute-agent/blockdev"
	"compute-agent/cinder"
)

const fieldDevices = "block_device_mapping_v2"

// requestDisks looks up what a new server boots: an image, or a volume with what that says of the image that it was made of. It reserves the volumes
// that are there, and returns the records of all.
func (m *Manager) requestDisks(tx Writer, s Server, req CreateRequest) (img Image, list []BlockDevice, err error) {
	boots := false
	for _, want := range req.BlockDevices {
		if err := m.canConnect(); err != nil {
			return img, nil, err
		}
		d := newDevice(s.ID, want, list)
		if err := m.requestVolume(tx, s, &d); err != nil {
			return img, nil, err
		}
		if d.root() {
			boots = true
			img, err = imageOf(tx, d)
			if err != nil {
				return img, nil, err
			}
			d.Image = img.Properties
		}
		list = append(list, d)
	}
	switch {
	case boots && req.ImageID != "":
		return img, nil, invalid(fieldDevices, "the server is asked to boot from an image and from a volume")
	case boots:
		return img, list, nil
	case req.ImageID == "":
		return img, nil, invalid("imageRef", "there is neither an image nor a volume to boot from")
	}
	img, err = tx.Image(req.ImageID)
	return img, list, named("imageRef", "image", req.ImageID, err)
}

// requestVolume reserves a volume that is there, or names one that is to be made.
func (m *Manager) requestVolume(tx Writer, s Server, d *BlockDevice) error {
	if d.VolumeID != "" {
		return forNewServer(m.reserveVolume(tx, s.ProjectID, d))
	}
	d.VolumeID = newID()
	size, err := m.sourceSize(tx, s, d.Source)
	switch {
	case err != nil:
		return err
	case d.SizeGiB == 0:
		d.SizeGiB = size
	case d.SizeGiB < size:
		return invalid(fieldDevices, "volume_size=%q: the volume's source needs %d GiB", strconv.Itoa(d.SizeGiB), size)
	}
	if d.SizeGiB <= 0 {
		return invalid(fieldDevices, "volume_size: a volume that is made for a server needs a size")
	}
	return nil
}

// forNewServer gives a refusal of the volume service the kind that a front door knows: the request for the server is wrong.
func forNewServer(err error) error {
	refused, is := errors.AsType[*cinder.Refusal](err)
	if !is {
		return err
	}
	return &Failure{Kind: errors.Join(ErrInvalid, refused), Field: fieldDevices, Reason: refused.Error()}
}

// sourceSize is the least size in GiB of a volume that is made of something.
func (m *Manager) sourceSize(tx Reader, s Server, from VolumeSource) (int, error) {
	switch {
	case from.ImageID != "":
		img, err := tx.Image(from.ImageID)
		if err != nil {
			return 0, named(fieldDevices, "image", from.ImageID, err)
		}
		if img.Status != ImageActive {
			return 0, invalid(fieldDevices, "image %s is %s, not active", img.ID, img.Status)
		}
		return max(img.MinDiskGiB, gibibytes(img.VirtualSize), 1), nil
	case from.SnapshotID != "":
		snap, err := tx.Snapshot(from.SnapshotID)
		if err == nil && snap.ProjectID != s.ProjectID && s.ProjectID != "" {
			err = &Failure{Kind: ErrNotFound}
		}
		return snap.SizeGiB, named(fieldDevices, "snapshot", from.SnapshotID, err)
	}
	return 0, nil
}

// imageOf is what a boot volume says of its image: what the server has in the place of one. Its bytes are nobody's business here.
func imageOf(tx Reader, d BlockDevice) (img Image, err error) {
	if d.Source.ImageID != "" {
		if img, err = tx.Image(d.Source.ImageID); err != nil {
			return img, err
		}
		img.SHA256, img.DiskFormat, img.MinDiskGiB, img.VirtualSize = "", "", 0, 0
		return img, nil
	}
	told, err := toldOfImage(tx, d)
	img = Image{Name: told["image_name"], Status: ImageActive, Properties: maps.Clone(told)}
	img.MinRAMMiB, _ = strconv.Atoi(told["min_ram"])
	for _, attribute := range imageAttributes {
		delete(img.Properties, attribute)
	}
	return img, err
}

// toldOfImage is what the volume that a server boots from says of its image, or the one that it is to be made of by a snapshot; nothing of a blank one.
// Either must be bootable.
func toldOfImage(tx Reader, d BlockDevice) (map[string]string, error) {
	id := d.VolumeID
	if d.Source.SnapshotID != "" {
		snap, err := tx.Snapshot(d.Source.SnapshotID)
		if err != nil {
			return nil, err
		}
		id = snap.VolumeID
	} else if d.made() {
		return nil, nil
	}
	v, err := tx.Volume(id)
	if err == nil && !v.Bootable {
		err = invalid(fieldDevices, "Block Device %s is not bootable.", id) // Nova's words
	}
	return v.ImageMetadata, err
}

// imageAttributes are what a volume's image metadata have beside the image's properties. Nova: VIM_IMAGE_ATTRIBUTES.
var imageAttributes = []string{"image_id", "image_name", "size", "checksum", "container_format", "disk_format", "min_ram", "min_disk"}

// made says that the volume was made for the server.
func (d BlockDevice) made() bool { return d.Source != VolumeSource{} }

// placeVolumes gives a new server's volumes the names by which its guests will know them.
func (m machine) placeVolumes(s Server) ([]BlockDevice, error) {
	r := m.request(s, Files{})
	places, err := m.places(s, &r)
	if err != nil {
		return nil, refused(err)
	}
	list := make([]BlockDevice, len(m.volumes))
	for _, p := range places.Drives {
		if p.Role == blockdev.Volume {
			list[p.Index] = m.volumes[p.Index].at(p)
		}
	}
	return list, nil
}

// doMakeVolumes has all volumes of a new server on the host: those that are to be made are, and attached like the others.
func doMakeVolumes(ctx context.Context, w *work) error {
	list, err := w.blockDevices(ctx)
	if err != nil {
		return err
	}
	s := w.server
	err = eachVolume(list, func(d BlockDevice) error { return w.makeVolume(ctx, s, d) })
	w.ready = err == nil
	return err
}

func (w *work) makeVolume(ctx context.Context, s Server, d BlockDevice) error {
	volumes := w.m.opt.Volumes
	if d.made() && !d.Attached {
		if err := volumes.Make(ctx, d.VolumeID, s, d); err != nil {
			return notMade(d.VolumeID, err)
		}
		if err := volumes.Attach(ctx, d.AttachmentID, d.VolumeID, d.ServerID); err != nil {
			return notReserved(d.VolumeID, err)
		}
		if err := w.m.store.View(ctx, func(tx Reader) error { return noteMade(tx, &d) }); err != nil {
			return err
		}
	}
	d, err := w.connectVolume(ctx, d)
	if err != nil {
		return err
	}
	d.Attached = true
	if err := w.putDevice(ctx, d, nil); err != nil {
		return err
	}
	return volumesCall(volumes.Complete(ctx, d.AttachmentID))
}

// noteMade takes down what a volume is that was made by this host's own service.
func noteMade(tx VolumeReader, d *BlockDevice) error {
	v, err := tx.Volume(d.VolumeID)
	if err != nil {
		return ignoreMissing(err)
	}
	properties := d.Image
	d.note(v)
	d.Image = properties // which the server was defined by
	return nil
}

// notMade says why a server's volume could not be made. It is not tried again: a volume in an error stays in it.
func notMade(volumeID string, err error) error {
	if err == nil {
		return nil
	}
	f := &Failure{Kind: errVolume, Subject: "volume " + volumeID, Reason: "it could not be made for the server", Err: plain(err)}
	if refused, is := errors.AsType[*cinder.Refusal](err); is {
		f.Reason, f.Err = refused.Error(), refused
	}
	return f
}

func notReserved(volumeID string, err error) error {
	if errors.Is(err, ErrUnavailable) {
		return volumesCall(err)
	}
	return notMade(volumeID, err)
}

// doUnmakeVolumes gives a server's volumes back that could not be built. Those that were made for it and would have gone with it go now.
func doUnmakeVolumes(ctx context.Context, w *work) error {
	return w.releaseVolumes(ctx, func(d BlockDevice) bool { return d.made() && d.DeleteOnTermination })
}

// doReleaseVolumes gives a server's volumes back when it goes.
func doReleaseVolumes(ctx context.Context, w *work) error {
	return w.releaseVolumes(ctx, func(d BlockDevice) bool { return d.DeleteOnTermination })
}

func (w *work) releaseVolumes(ctx context.Context, goes func(BlockDevice) bool) error {
	list, err := w.blockDevices(ctx)
	if err != nil {
		return err
	}
	return eachVolume(list, func(d BlockDevice) error { return w.disconnectVolume(ctx, d, goes(d)) })
}
