package compute

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"compute-agent/image"
)

// Library is the image service: the records in the store, the bytes in the image cache. Bytes live
// as long as an image's record or a server names them; see Release.
type Library struct {
	store Store
	blobs *image.Store
	clock func() time.Time
	log   *slog.Logger
}

// NewLibrary returns the library of the images in store, with their bytes in blobs. The clock may
// be nil for time.Now, the logger nil for slog's default.
func NewLibrary(store Store, blobs *image.Store, clock func() time.Time, log *slog.Logger) *Library {
	if clock == nil {
		clock = time.Now
	}
	if log == nil {
		log = slog.Default()
	}
	return &Library{store: store, blobs: blobs, clock: clock, log: log}
}

// CreateImage adds a record without bytes, in state queued. An empty ID is replaced by a new one;
// ErrExists if it is taken. The formats may be left out until the upload, as in Glance.
func (l *Library) CreateImage(ctx context.Context, img Image) (Image, error) {
	if img.ID == "" {
		img.ID = uuid.NewString()
	}
	if img.Visibility == "" {
		img.Visibility = VisibilityShared
	}
	now := l.now()
	img.Status, img.Problem = ImageQueued, ""
	img.Size, img.VirtualSize, img.MD5, img.SHA256, img.SHA512 = 0, 0, "", "", ""
	img.Created, img.Updated = now, now
	img.Tags = asSet(img.Tags)
	if err := img.validate(); err != nil {
		return Image{}, err
	}
	err := l.store.Update(ctx, func(w Writer) error {
		_, err := w.Image(img.ID)
		if err == nil {
			return &Failure{Kind: ErrExists, Subject: subjectOf("image", img.ID), Field: "id", Reason: "another image has it"}
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		return w.PutImage(img)
	})
	if err != nil {
		return Image{}, err
	}
	return img, nil
}

// Image returns one image's record.
func (l *Library) Image(ctx context.Context, id string) (img Image, err error) {
	err = l.store.View(ctx, func(r Reader) error {
		img, err = r.Image(id)
		return err
	})
	return img, err
}

// Images returns all images' records, oldest first.
func (l *Library) Images(ctx context.Context) (all []Image, err error) {
	err = l.store.View(ctx, func(r Reader) error {
		all, err = r.Images()
		return err
	})
	return all, err
}

// UpdateImage applies change to the user's part of a record; what the service itself knows of the
// image stays as it is. The formats can be changed only before the upload: ErrForbidden, as Glance
// says. The error of change is returned as it is.
func (l *Library) UpdateImage(ctx context.Context, id string, change func(*Image) error) (Image, error) {
	var img Image
	err := l.store.Update(ctx, func(w Writer) error {
		old, err := w.Image(id)
		if err != nil {
			return err
		}
		img = old
		img.Tags, img.Properties = slices.Clone(old.Tags), maps.Clone(old.Properties)
		if err := change(&img); err != nil {
			return err
		}
		img.keepService(old)
		img.Tags, img.Updated = asSet(img.Tags), l.now()
		if err := img.validateChange(old); err != nil {
			return err
		}
		return w.PutImage(img)
	})
	if err != nil {
		return Image{}, err
	}
	return img, nil
}

// keepService undoes a change of what is not the user's to change.
func (img *Image) keepService(old Image) {
	img.ID, img.Status, img.Problem, img.Created = old.ID, old.Status, old.Problem, old.Created
	img.Size, img.VirtualSize = old.Size, old.VirtualSize
	img.MD5, img.SHA256, img.SHA512 = old.MD5, old.SHA256, old.SHA512
}

// DeleteImage removes the record, and the bytes if no server was made from them. ErrForbidden if
// the image is protected. An upload that is under way comes to nothing.
func (l *Library) DeleteImage(ctx context.Context, id string) error {
	var sha string
	err := l.store.Update(ctx, func(w Writer) error {
		img, err := w.Image(id)
		if err != nil {
			return err
		}
		if img.Protected {
			return &Failure{Kind: ErrForbidden, Subject: subjectOf("image", id), Reason: "it is protected from deletion"}
		}
		sha = img.SHA256
		return w.DeleteImage(id)
	})
	if err != nil {
		return err
	}
	l.release(ctx, sha)
	return nil
}

func (l *Library) now() time.Time { return l.clock().UTC() }

// asSet sorts strings and removes doubles.
func asSet(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
