package compute

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"compute-agent/image"
)

// cleanupTime bounds what must be stored after a request has ended.
const cleanupTime = 10 * time.Second

// UploadImage reads body to its end, inspects what came and makes the image active. The image must
// be queued, ErrConflict if it is not, and have its formats, else ErrInvalid. What is not as
// declared or not safe is ErrInvalid, what is too long or fills the disk ErrTooLarge.
//
// When it returns an error nothing of the bytes is kept; the image is queued again, as in Glance's
// second API, with the reason in Problem.
func (l *Library) UploadImage(ctx context.Context, id string, body io.Reader) error {
	began, err := l.beginUpload(ctx, id)
	if err != nil {
		return err
	}
	if err := l.receive(ctx, began, body); err != nil {
		failure := uploadFailure(id, err)
		return errors.Join(failure, l.abandonUpload(ctx, began, failure))
	}
	return nil
}

// beginUpload takes the image from queued to saving, which only one upload can.
func (l *Library) beginUpload(ctx context.Context, id string) (img Image, err error) {
	err = l.store.Update(ctx, func(w Writer) error {
		img, err = w.Image(id)
		switch {
		case err != nil:
			return err
		case img.Status != ImageQueued:
			return &Failure{Kind: ErrConflict, Subject: subjectOf("image", id), Reason: fmt.Sprintf("its status is %s, not %s", img.Status, ImageQueued)}
		case img.DiskFormat == "" || img.ContainerFormat == "":
			return &Failure{Kind: ErrInvalid, Subject: subjectOf("image", id), Field: "disk_format, container_format", Reason: "must be set before the upload"}
		}
		img.Status, img.Problem, img.Updated = ImageSaving, "", l.now()
		return w.PutImage(img)
	})
	return img, err
}

// receive takes the bytes in and names them in the record, in the transaction that puts them into
// the cache: so Release never sees bytes there that a record is about to name.
func (l *Library) receive(ctx context.Context, began Image, body io.Reader) error {
	upload, err := l.blobs.Receive(ctx, body)
	if err != nil {
		return err
	}
	defer upload.Discard()
	info, err := upload.Inspect(ctx, began.DiskFormat)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	err = l.store.Update(ctx, func(w Writer) error {
		img, err := uploading(w, began)
		if err != nil {
			return err
		}
		if err := upload.Commit(); err != nil {
			return err
		}
		img.Status, img.Updated = ImageActive, l.now()
		img.Size, img.VirtualSize = upload.Size, info.VirtualSize
		img.MD5, img.SHA256, img.SHA512 = upload.MD5, upload.SHA256, upload.SHA512
		return w.PutImage(img)
	})
	if err != nil {
		l.release(ctx, upload.SHA256) // the transaction may have failed after the bytes were in place
	}
	return err
}

// abandonUpload makes the image ready for another upload.
func (l *Library) abandonUpload(ctx context.Context, began Image, failure *Failure) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	err := l.store.Update(ctx, func(w Writer) error {
		img, err := uploading(w, began)
		if err != nil {
			return err
		}
		img.Status, img.Problem, img.Updated = ImageQueued, failure.Reason, l.now()
		return w.PutImage(img)
	})
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) {
		return nil // it was deleted meanwhile
	}
	return err
}

// uploading returns the image as it is now, if it is the one whose upload began.
func uploading(r Reader, began Image) (Image, error) {
	img, err := r.Image(began.ID)
	if err == nil && (img.Status != ImageSaving || !img.Created.Equal(began.Created)) {
		err = &Failure{Kind: ErrConflict, Subject: subjectOf("image", began.ID), Reason: "it was replaced during the upload"}
	}
	return img, err
}

// uploadFailure gives an upload's error its kind and the words for the user.
func uploadFailure(id string, err error) *Failure {
	f := &Failure{Subject: subjectOf("image", id), Reason: "the upload failed", Err: err}
	var refusal *image.Refusal
	var known *Failure
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refusal):
		f.Kind, f.Reason, f.Err = ErrInvalid, refusal.Error(), nil
	case errors.Is(err, image.ErrTooLarge):
		f.Kind, f.Reason, f.Err = ErrTooLarge, "it has more bytes than are allowed", nil
	case errors.Is(err, image.ErrNoSpace):
		f.Kind, f.Reason, f.Err = ErrTooLarge, "there is no space left for images", nil // as Glance answers
	case errors.Is(err, ErrNotFound):
		f.Kind, f.Reason, f.Err = ErrNotFound, "it was deleted during the upload", nil
	}
	return f
}

// DownloadImage opens an image's bytes. ErrConflict if it has none. The bytes can be read to
// their end also if the image is deleted meanwhile.
func (l *Library) DownloadImage(ctx context.Context, id string) (io.ReadCloser, Image, error) {
	img, err := l.Image(ctx, id)
	if err != nil {
		return nil, Image{}, err
	}
	if img.Status != ImageActive {
		return nil, Image{}, &Failure{Kind: ErrConflict, Subject: subjectOf("image", id), Reason: "it has no data: its status is " + string(img.Status)}
	}
	file, err := l.blobs.Open(img.SHA256)
	if errors.Is(err, image.ErrNotFound) {
		return nil, Image{}, &Failure{Kind: ErrNotFound, Subject: subjectOf("image", id), Reason: "its data is gone"}
	}
	if err != nil {
		return nil, Image{}, &Failure{Subject: subjectOf("image", id), Reason: "its data cannot be read", Err: err}
	}
	return file, img, nil
}

// Release removes the bytes with this SHA-256 if nothing names them any more. Whoever stops naming
// bytes calls it afterwards. It decides inside a transaction, so whoever begins to name bytes must
// do so in the transaction in which it has seen them named: a new server or volume in the one that reads its
// image's record.
func (l *Library) Release(ctx context.Context, sha string) error {
	if sha == "" {
		return nil
	}
	return l.store.Update(ctx, func(w Writer) error {
		names, err := namedBlobs(w)
		if err != nil || names[sha] {
			return err
		}
		return l.blobs.Remove(sha)
	})
}

// release is Release where there is nobody to tell: the next Sweep tries again.
func (l *Library) release(ctx context.Context, sha string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if err := l.Release(ctx, sha); err != nil {
		l.log.WarnContext(ctx, "image data was not removed", "sha256", sha, "error", err)
	}
}

// namedBlobs is the set of SHA-256 that an image, a server, an operation or a volume in the making names.
func namedBlobs(r Reader) (map[string]bool, error) {
	images, err := r.Images()
	if err != nil {
		return nil, err
	}
	servers, err := r.Servers()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, img := range images {
		names[img.SHA256] = true
	}
	for _, s := range servers {
		for _, sum := range s.Blobs() {
			names[sum] = true
		}
	}
	operations, err := r.Operations()
	if err != nil {
		return nil, err
	}
	for _, op := range operations {
		for _, sum := range op.blobs() {
			names[sum] = true
		}
	}
	volumes, err := r.Volumes()
	for _, v := range volumes {
		names[v.ImageSHA256] = true
	}
	return names, err
}

// Sweep brings records and bytes together after a restart: uploads that were under way are given
// up, and bytes that nothing names are removed. Bytes that a record names and that are not there
// are logged. It is called before the library is used.
func (l *Library) Sweep(ctx context.Context) error {
	return l.store.Update(ctx, func(w Writer) error {
		if err := l.resetUploads(w); err != nil {
			return err
		}
		names, err := namedBlobs(w)
		if err != nil {
			return err
		}
		present, err := l.blobs.List()
		if err != nil {
			return err
		}
		for _, sha := range present {
			if names[sha] {
				continue
			}
			if err := l.blobs.Remove(sha); err != nil {
				return err
			}
			l.log.InfoContext(ctx, "removed image data that nothing names", "sha256", sha)
		}
		for sha := range names {
			if sha != "" && !slices.Contains(present, sha) {
				l.log.ErrorContext(ctx, "image data is missing", "sha256", sha)
			}
		}
		return nil
	})
}

func (l *Library) resetUploads(w Writer) error {
	images, err := w.Images()
	if err != nil {
		return err
	}
	for _, img := range images {
		if img.Status != ImageSaving {
			continue
		}
		img.Status, img.Problem, img.Updated = ImageQueued, "the agent was restarted during the upload", l.now()
		if err := w.PutImage(img); err != nil {
			return err
		}
	}
	return nil
}
