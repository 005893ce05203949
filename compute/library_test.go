package compute_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"compute-agent/compute"
	"compute-agent/image"
)

// bookcase is a library with what it stands on.
type bookcase struct {
	*compute.Library
	t     *testing.T
	store compute.Store
	dir   string // of the image store
	log   *bytes.Buffer
}

func newLibrary(t *testing.T) *bookcase {
	t.Helper()
	return newLibraryIn(t, filepath.Join(t.TempDir(), "images"))
}

func newLibraryIn(t *testing.T, dir string) *bookcase {
	t.Helper()
	_, s := newCatalog(t)
	b := &bookcase{t: t, store: s, dir: dir, log: &bytes.Buffer{}}
	b.reopen()
	return b
}

// reopen is a restart of the agent, as far as the library sees it.
func (b *bookcase) reopen() {
	b.t.Helper()
	blobs, err := image.OpenStore(b.dir, image.Options{MaxSize: 1 << 20})
	if err != nil {
		b.t.Fatal(err)
	}
	clock := func() time.Time { return catalogTime }
	b.Library = compute.NewLibrary(b.store, blobs, clock, slog.New(slog.NewTextHandler(b.log, nil)))
}

// files lists what the image store has.
func (b *bookcase) files() []string {
	b.t.Helper()
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (b *bookcase) wantFiles(want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), b.files()); diff != "" {
		b.t.Errorf("files of the image store (-want +there):\n%s", diff)
	}
}

// put changes the store past the library.
func (b *bookcase) put(fn func(w compute.Writer) error) {
	b.t.Helper()
	if err := b.store.Update(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

// queued creates an image to be uploaded.
func (b *bookcase) queued(format string) compute.Image {
	b.t.Helper()
	img, err := b.CreateImage(context.Background(), compute.Image{Name: "tiny", DiskFormat: format, ContainerFormat: "bare", ProjectID: "p"})
	if err != nil {
		b.t.Fatal(err)
	}
	return img
}

// active creates and uploads a raw image of these bytes.
func (b *bookcase) active(data string) compute.Image {
	b.t.Helper()
	img := b.queued("raw")
	if err := b.UploadImage(context.Background(), img.ID, strings.NewReader(data)); err != nil {
		b.t.Fatal(err)
	}
	return b.image(img.ID)
}

func (b *bookcase) image(id string) compute.Image {
	b.t.Helper()
	img, err := b.Image(context.Background(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return img
}

func sha(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

func TestImageLife(t *testing.T) {
	ctx := context.Background()
	b := newLibrary(t)
	made, err := b.CreateImage(ctx, compute.Image{Name: "Tiny <1>", DiskFormat: "raw", ContainerFormat: "bare", ProjectID: "p",
		Tags: []string{"b", "a", "b"}, Properties: map[string]string{"hw_disk_bus": "virtio"},
		// What a user cannot say of an image.
		Status: compute.ImageActive, Size: 5, SHA256: strings.Repeat("a", 64), Problem: "none"})
	if err != nil {
		t.Fatal(err)
	}
	want := compute.Image{ID: made.ID, Name: "Tiny <1>", ProjectID: "p", Status: compute.ImageQueued, Visibility: "shared",
		DiskFormat: "raw", ContainerFormat: "bare", Tags: []string{"a", "b"}, Properties: map[string]string{"hw_disk_bus": "virtio"},
		Created: catalogTime, Updated: catalogTime}
	if diff := cmp.Diff(want, b.image(made.ID)); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if _, err := uuid.Parse(made.ID); err != nil {
		t.Errorf("ID %q: %v", made.ID, err)
	}
	if _, _, err := b.DownloadImage(ctx, made.ID); !errors.Is(err, compute.ErrConflict) {
		t.Errorf("download of a queued image: %v", err)
	}

	data := strings.Repeat("x", 1000)
	if err := b.UploadImage(ctx, made.ID, strings.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	got := b.image(made.ID)
	if got.Status != compute.ImageActive || got.Size != 1000 || got.VirtualSize != 1024 || got.SHA256 != sha(data) ||
		len(got.MD5) != 32 || len(got.SHA512) != 128 {
		t.Errorf("uploaded: %+v", got)
	}
	b.wantFiles(sha(data))
	wantFailure(t, b.UploadImage(ctx, made.ID, strings.NewReader("again")), compute.ErrConflict, "")
	b.wantFiles(sha(data))

	body, img, err := b.DownloadImage(ctx, made.ID)
	if err != nil || img.ID != made.ID {
		t.Fatal(img, err)
	}
	defer func() { _ = body.Close() }()
	if err := b.DeleteImage(ctx, made.ID); err != nil {
		t.Fatal(err)
	}
	b.wantFiles()
	if text, err := io.ReadAll(body); err != nil || string(text) != data {
		t.Errorf("a download under way when the image is deleted: %d bytes, %v", len(text), err)
	}
	for what, err := range map[string]error{
		"show":     func() error { _, err := b.Image(ctx, made.ID); return err }(),
		"download": func() error { _, _, err := b.DownloadImage(ctx, made.ID); return err }(),
		"upload":   b.UploadImage(ctx, made.ID, strings.NewReader("x")),
		"delete":   b.DeleteImage(ctx, made.ID),
		"update": func() error {
			_, err := b.UpdateImage(ctx, made.ID, func(*compute.Image) error { return nil })
			return err
		}(),
	} {
		if !errors.Is(err, compute.ErrNotFound) {
			t.Errorf("%s of a deleted image: %v", what, err)
		}
	}
}

func TestImagesKeepTheirOrderAndIDs(t *testing.T) {
	ctx := context.Background()
	b := newLibrary(t)
	ids := []string{uuid.NewString(), uuid.NewString(), uuid.NewString()}
	slices.Sort(ids)
	slices.Reverse(ids)
	for _, id := range ids {
		if img, err := b.CreateImage(ctx, compute.Image{ID: id}); err != nil || img.ID != id {
			t.Fatal(img, err)
		}
	}
	_, err := b.CreateImage(ctx, compute.Image{ID: ids[1]})
	wantFailure(t, err, compute.ErrExists, "id")
	all, err := b.Images(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, img := range all {
		got = append(got, img.ID)
	}
	if !slices.Equal(got, ids) {
		t.Errorf("listed %v, created %v", got, ids)
	}
}

func TestImageRules(t *testing.T) {
	b := newLibrary(t)
	many := map[string]string{}
	for i := range 129 {
		many[fmt.Sprint(i)] = ""
	}
	for _, c := range []struct {
		img   compute.Image
		kind  error
		field string
	}{
		{compute.Image{ID: "../../etc/passwd"}, compute.ErrInvalid, "id"},
		{compute.Image{ID: strings.ToUpper(uuid.NewString())}, compute.ErrInvalid, "id"},
		{compute.Image{Name: strings.Repeat("ü", 256)}, compute.ErrInvalid, "name"},
		{compute.Image{Name: "bell\a"}, compute.ErrInvalid, "name"},
		{compute.Image{Name: "\xff"}, compute.ErrInvalid, "name"},
		{compute.Image{DiskFormat: "vmdk"}, compute.ErrInvalid, "disk_format"},
		{compute.Image{DiskFormat: "iso"}, compute.ErrInvalid, "disk_format"},
		{compute.Image{ContainerFormat: "ovf"}, compute.ErrInvalid, "container_format"},
		{compute.Image{Visibility: "secret"}, compute.ErrInvalid, "visibility"},
		{compute.Image{MinDiskGiB: -1}, compute.ErrInvalid, "min_disk"},
		{compute.Image{MinRAMMiB: 1 << 31}, compute.ErrInvalid, "min_ram"},
		{compute.Image{Tags: []string{strings.Repeat("x", 256)}}, compute.ErrInvalid, "tags"},
		{compute.Image{Tags: slices.Collect(maps.Keys(many))}, compute.ErrTooLarge, "tags"},
		{compute.Image{Properties: many}, compute.ErrTooLarge, "properties"},
		{compute.Image{Properties: map[string]string{"": "x"}}, compute.ErrInvalid, "properties"},
		{compute.Image{Properties: map[string]string{strings.Repeat("x", 256): "x"}}, compute.ErrInvalid, "properties"},
		{compute.Image{Properties: map[string]string{"a": strings.Repeat("x", 65536)}}, compute.ErrInvalid, "properties"},
		{compute.Image{Properties: map[string]string{"a": "\x00"}}, compute.ErrInvalid, "properties"},
	} {
		_, err := b.CreateImage(context.Background(), c.img)
		wantFailure(t, err, c.kind, c.field)
	}
	if all, err := b.Images(context.Background()); err != nil || len(all) != 0 {
		t.Errorf("refused images are there: %v, %v", all, err)
	}
	limits := compute.Image{Name: strings.Repeat("ü", 255), MinDiskGiB: 1<<31 - 1, Tags: []string{strings.Repeat("x", 255)},
		Properties: map[string]string{strings.Repeat("x", 255): strings.Repeat("x", 65535), "lines": "a\nb"}}
	if _, err := b.CreateImage(context.Background(), limits); err != nil {
		t.Errorf("at the limits: %v", err)
	}
}

func TestUpdateImage(t *testing.T) {
	ctx := context.Background()
	b := newLibrary(t)
	before := b.active("0123456789")
	after, err := b.UpdateImage(ctx, before.ID, func(img *compute.Image) error {
		img.Name, img.Protected, img.Tags = "new", true, []string{"z", "z"}
		img.Properties = map[string]string{"os_distro": "debian"}
		// What is not the user's to change.
		img.ID, img.Status, img.Size, img.SHA256, img.MD5 = "other", compute.ImageQueued, 1, "", ""
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := before
	want.Name, want.Protected, want.Tags, want.Properties = "new", true, []string{"z"}, map[string]string{"os_distro": "debian"}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(after, b.image(before.ID)); diff != "" {
		t.Errorf("stored (-returned +stored):\n%s", diff)
	}

	mine := errors.New("mine")
	for _, c := range []struct {
		change func(*compute.Image) error
		kind   error
	}{
		{func(img *compute.Image) error { img.DiskFormat = "qcow2"; return nil }, compute.ErrForbidden},
		{func(img *compute.Image) error { img.ContainerFormat = ""; return nil }, compute.ErrForbidden},
		{func(img *compute.Image) error { img.MinDiskGiB = -1; return nil }, compute.ErrInvalid},
		{func(img *compute.Image) error { img.Properties["os_distro"] = "changed"; return mine }, mine},
	} {
		if _, err := b.UpdateImage(ctx, before.ID, c.change); !errors.Is(err, c.kind) {
			t.Errorf("got %v, want %v", err, c.kind)
		}
	}
	if diff := cmp.Diff(after, b.image(before.ID)); diff != "" {
		t.Errorf("a refused update changed something:\n%s", diff)
	}
	wantFailure(t, b.DeleteImage(ctx, before.ID), compute.ErrForbidden, "")
	b.wantFiles(before.SHA256)

	unset, err := b.CreateImage(ctx, compute.Image{})
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, b.UploadImage(ctx, unset.ID, strings.NewReader("x")), compute.ErrInvalid, "disk_format, container_format")
	_, err = b.UpdateImage(ctx, unset.ID, func(img *compute.Image) error {
		img.DiskFormat, img.ContainerFormat = "raw", "bare"
		return nil
	})
	if err = errors.Join(err, b.UploadImage(ctx, unset.ID, strings.NewReader("x"))); err != nil {
		t.Errorf("formats that come after the record: %v", err)
	}
}

func TestRefusedUploadLeavesNothing(t *testing.T) {
	broken := errors.New("connection reset")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	ctx := context.Background()
	for _, c := range []struct {
		name    string
		ctx     context.Context
		format  string
		body    io.Reader
		want    error
		problem string
	}{
		{"not what it says", ctx, "qcow2", strings.NewReader("this is no disk"), compute.ErrInvalid, "not acceptable as qcow2"},
		{"qcow2 as raw", ctx, "raw", strings.NewReader("QFI\xfb\x00\x00\x00\x03"), compute.ErrInvalid, "it is a qcow or qcow2 image"},
		{"empty", ctx, "raw", strings.NewReader(""), compute.ErrInvalid, "it has no bytes"},
		{"too large", ctx, "raw", io.LimitReader(zeros{}, 1<<20+1), compute.ErrTooLarge, "more bytes than are allowed"},
		{"broken off", ctx, "raw", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), broken, "the upload failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newLibrary(t)
			img := b.queued(c.format)
			err := b.UploadImage(c.ctx, img.ID, c.body)
			if !errors.Is(err, c.want) || strings.Contains(fmt.Sprint(err), b.dir) {
				t.Errorf("got %v, want %v and no path", err, c.want)
			}
			b.wantFiles()
			if got := b.image(img.ID); got.Status != compute.ImageQueued || !strings.Contains(got.Problem, c.problem) || got.SHA256 != "" {
				t.Errorf("the image is %s with problem %q, want %q", got.Status, got.Problem, c.problem)
			}
			if _, err := b.UpdateImage(ctx, img.ID, func(img *compute.Image) error { img.DiskFormat = "raw"; return nil }); err != nil {
				t.Fatal(err)
			}
			if err := b.UploadImage(ctx, img.ID, strings.NewReader("a better one")); err != nil {
				t.Errorf("the second upload: %v", err)
			}
			if got := b.image(img.ID); got.Status != compute.ImageActive || got.Problem != "" {
				t.Errorf("after the second upload the image is %s with problem %q", got.Status, got.Problem)
			}
		})
	}
	t.Run("cancelled half-way", func(t *testing.T) {
		b := newLibrary(t)
		img := b.queued("raw")
		ctx, cancel := context.WithCancel(ctx)
		err := b.UploadImage(ctx, img.ID, io.MultiReader(strings.NewReader("half"), hook{cancel}, zeros{}))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		b.wantFiles()
		if got := b.image(img.ID); got.Status != compute.ImageQueued {
			t.Errorf("the image is %s", got.Status)
		}
	})
	t.Run("cancelled before", func(t *testing.T) {
		b := newLibrary(t)
		img := b.queued("raw")
		if err := b.UploadImage(cancelled, img.ID, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if got := b.image(img.ID); got.Status != compute.ImageQueued || got.Problem != "" {
			t.Errorf("the image is %+v", got)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// hook is an empty body that does something when it is read.
type hook struct{ do func() }

func (h hook) Read([]byte) (int, error) { h.do(); return 0, io.EOF }

// A full file system, not a pretended one.
func TestUploadToAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system; image.TestFailedReceiveLeavesNothing has the error")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=711"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	b := newLibraryIn(t, dir)
	img := b.queued("raw")
	err := b.UploadImage(context.Background(), img.ID, io.LimitReader(zeros{}, 1<<20))
	wantFailure(t, err, compute.ErrTooLarge, "")
	if !strings.Contains(err.Error(), "no space left") {
		t.Errorf("the message is %q", err)
	}
	b.wantFiles()
	if err := b.UploadImage(context.Background(), img.ID, io.LimitReader(zeros{}, 4096)); err != nil {
		t.Errorf("a small image afterwards: %v", err)
	}
}

func TestOneUploadAtATime(t *testing.T) {
	b := newLibrary(t)
	img := b.queued("raw")
	second := func() {
		wantFailure(t, b.UploadImage(context.Background(), img.ID, strings.NewReader("second")), compute.ErrConflict, "")
	}
	if err := b.UploadImage(context.Background(), img.ID, io.MultiReader(strings.NewReader("first"), hook{second})); err != nil {
		t.Fatal(err)
	}
	b.wantFiles(sha("first"))
}

func TestImageDeletedDuringItsUpload(t *testing.T) {
	for name, again := range map[string]bool{"deleted": false, "deleted and created again": true} {
		t.Run(name, func(t *testing.T) {
			b := newLibrary(t)
			img := b.queued("raw")
			remove := func() {
				if err := b.DeleteImage(context.Background(), img.ID); err != nil {
					t.Error(err)
				}
				if again {
					b.put(func(w compute.Writer) error {
						other := img
						other.Created = img.Created.Add(time.Second)
						return w.PutImage(other)
					})
				}
			}
			err := b.UploadImage(context.Background(), img.ID, io.MultiReader(strings.NewReader("lost"), hook{remove}))
			want := compute.ErrNotFound
			if again {
				want = compute.ErrConflict
			}
			wantFailure(t, err, want, "")
			b.wantFiles()
			if again && b.image(img.ID).Status != compute.ImageQueued {
				t.Errorf("the new image is %+v", b.image(img.ID))
			}
		})
	}
}

func TestBytesLiveWhileTheyAreNamed(t *testing.T) {
	ctx := context.Background()
	b := newLibrary(t)
	first, second := b.active("the same bytes"), b.active("the same bytes")
	other := b.active("other bytes")
	var server compute.Server
	b.put(func(w compute.Writer) (err error) {
		server, err = w.InsertServer(compute.Server{ID: uuid.NewString(), Name: "s", VM: compute.Active, Image: compute.ImageRef{Checksum: first.SHA256}})
		return err
	})
	both := []string{first.SHA256, other.SHA256}
	slices.Sort(both)
	for _, id := range []string{first.ID, second.ID} {
		b.wantFiles(both...)
		if err := b.DeleteImage(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	b.wantFiles(both...) // the server's disk stands on them
	if err := errors.Join(b.Release(ctx, first.SHA256), b.Release(ctx, "")); err != nil {
		t.Fatal(err)
	}
	b.wantFiles(both...)
	b.put(func(w compute.Writer) error { return w.DeleteServer(server.ID) })
	for range 2 {
		if err := b.Release(ctx, first.SHA256); err != nil {
			t.Fatal(err)
		}
		b.wantFiles(other.SHA256)
	}
}

// Uploads and deletions of the same bytes cross each other: at every moment, bytes that an active image
// names are there.
func TestUploadsAndDeletionsOfTheSameBytes(t *testing.T) {
	b := newLibrary(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				img := b.active("contended")
				body, _, err := b.DownloadImage(context.Background(), img.ID)
				if err != nil {
					t.Error(err)
					return
				}
				err = errors.Join(body.Close(), b.DeleteImage(context.Background(), img.ID))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	b.wantFiles()
}

func TestSweep(t *testing.T) {
	ctx := context.Background()
	b := newLibrary(t)
	kept, gone := b.active("kept"), b.active("gone")
	// The agent dies in the middle of one upload and after another's bytes came to their place.
	saving := b.queued("raw")
	b.put(func(w compute.Writer) error {
		saving.Status = compute.ImageSaving
		return w.PutImage(saving)
	})
	for name, text := range map[string]string{sha("unnamed"): "unnamed", ".upload-123": "half"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(b.dir, gone.SHA256)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.reopen()
		if err := b.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		b.wantFiles(kept.SHA256)
		if got := b.image(saving.ID); got.Status != compute.ImageQueued || !strings.Contains(got.Problem, "restarted") {
			t.Errorf("the upload that was under way: %s, %q", got.Status, got.Problem)
		}
	}
	if log := b.log.String(); !strings.Contains(log, "image data is missing") || !strings.Contains(log, gone.SHA256) {
		t.Errorf("missing bytes are not reported:\n%s", log)
	}
	_, _, err := b.DownloadImage(ctx, gone.ID)
	wantFailure(t, err, compute.ErrNotFound, "")
	if err := b.UploadImage(ctx, saving.ID, strings.NewReader("second try")); err != nil {
		t.Error(err)
	}
}
