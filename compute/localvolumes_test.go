package compute_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/image"
	"compute-agent/internal/command"
)

// passable is a directory that user nobody can pass through.
func passable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func localVolumes(t *testing.T, opt compute.LocalOptions) *compute.LocalVolumes {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = passable(t)
	}
	opt.Runner = command.Exec{}
	l, err := compute.NewLocalVolumes(opt)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// diskBytes are an image's: they begin like a disk with a boot sector.
func diskBytes() []byte {
	data := bytes.Repeat([]byte("a disk's contents "), 4096)
	copy(data[510:], "\x55\xaa")
	return data[:len(data)/512*512]
}

// imageFile is an image in a format.
func imageFile(t *testing.T, format string) image.Base {
	t.Helper()
	dir := passable(t)
	path := filepath.Join(dir, "raw")
	must(t, os.WriteFile(path, diskBytes(), 0o644))
	if format == image.FormatQCOW2 {
		_, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: "qemu-img", Args: []string{"convert", "-f", "raw", "-O", "qcow2", path, path + ".qcow2"}})
		must(t, err)
		path += ".qcow2"
	}
	return image.Base{Path: path, Format: format}
}

// contents reads the beginning of a volume as a server would.
func contents(t *testing.T, raw connector.Raw, key connector.Secret, n int) []byte {
	t.Helper()
	info, err := connector.Parse(raw)
	must(t, err)
	if info.Type != connector.File {
		t.Fatalf("the volume is by %s", info.Type)
	}
	out := filepath.Join(t.TempDir(), "out")
	c := command.Cmd{Name: "qemu-img", Args: []string{"dd", "--image-opts", "-O", "raw"}}
	source := "driver=" + info.Format + ",file.driver=file,file.filename=" + info.Path
	if key != "" {
		c.Args = append(c.Args, "--object", "secret,id=k,file=/dev/stdin")
		c.Stdin = strings.NewReader(string(key))
		source = "driver=luks,key-secret=k,file.driver=file,file.filename=" + info.Path
	}
	c.Args = append(c.Args, "bs=512", fmt.Sprint("count=", (n+511)/512), "if="+source, "of="+out)
	_, err = command.Exec{}.Run(t.Context(), c)
	must(t, err)
	file, err := os.Open(out)
	must(t, err)
	defer func() { _ = file.Close() }()
	data := make([]byte, n)
	_, err = file.ReadAt(data, 0)
	must(t, err)
	return data
}

// size is the size of the disk that a server sees, in bytes.
func diskSize(t *testing.T, raw connector.Raw) int64 {
	t.Helper()
	info, err := connector.Parse(raw)
	must(t, err)
	found, err := image.Check(info.Path, info.Format)
	must(t, err)
	return found.VirtualSize
}

func TestLocalVolumes(t *testing.T) {
	for _, opt := range []compute.LocalOptions{{}, {Sparse: true}, {Format: "qcow2"}} {
		for _, format := range []string{"raw", "qcow2"} {
			t.Run(fmt.Sprint(opt.Format, " sparse ", opt.Sparse, " of ", format), func(t *testing.T) {
				opt.Dir = passable(t)
				l := localVolumes(t, opt)
				base := imageFile(t, format)
				ctx := t.Context()
				v := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1, Status: cinder.Available}
				for range 2 { // again is the same
					must(t, l.Create(ctx, v, compute.VolumeOrigin{Image: &base}))
				}
				raw, err := l.Connection(ctx, v, connector.Properties{})
				must(t, err)
				if got := contents(t, raw, "", len(diskBytes())); !bytes.Equal(got, diskBytes()) {
					t.Error("the volume is not what the image is")
				}
				if got := diskSize(t, raw); got != 1<<30 {
					t.Errorf("its size is %d", got)
				}
				for range 2 {
					must(t, l.Extend(ctx, v, 2))
				}
				if got := diskSize(t, raw); got != 2<<30 {
					t.Errorf("its size became %d", got)
				}
				checkPlaces(t, opt, v.ID)
				copies(t, l, v)
			})
		}
	}
}

// checkPlaces checks that there is one file, the owner's only, and that its blocks are there if they are to be.
func checkPlaces(t *testing.T, opt compute.LocalOptions, id string) {
	t.Helper()
	path := filepath.Join(opt.Dir, id)
	stat, err := os.Stat(path)
	must(t, err)
	if stat.Mode() != 0o600 {
		t.Errorf("its mode is %v", stat.Mode())
	}
	if _, err := os.Stat(path + ".new"); err == nil {
		t.Error("what was being made is still there")
	}
	blocks := allocated(t, path)
	if whole := blocks >= 2<<30; whole != (opt.Format == "" && !opt.Sparse) {
		t.Errorf("%d bytes of it are there", blocks)
	}
}

// copies makes a snapshot, a volume of that and one of the volume, and takes all away.
func copies(t *testing.T, l *compute.LocalVolumes, v cinder.Volume) {
	t.Helper()
	ctx := t.Context()
	s := cinder.Snapshot{ID: uuid.NewString(), VolumeID: v.ID, SizeGiB: 2}
	for range 2 {
		must(t, l.Snapshot(ctx, s, v))
	}
	restored, clone := cinder.Volume{ID: uuid.NewString(), SizeGiB: 3}, cinder.Volume{ID: uuid.NewString(), SizeGiB: 2}
	must(t, l.Create(ctx, restored, compute.VolumeOrigin{Snapshot: &s, Volume: &v}))
	must(t, l.Create(ctx, clone, compute.VolumeOrigin{Volume: &v}))
	for _, c := range []cinder.Volume{restored, clone} {
		raw, err := l.Connection(ctx, c, connector.Properties{})
		must(t, err)
		if got := contents(t, raw, "", len(diskBytes())); !bytes.Equal(got, diskBytes()) {
			t.Error("a copy is not what the volume was")
		}
		if got := diskSize(t, raw); got != int64(c.SizeGiB)<<30 {
			t.Errorf("a copy's size is %d", got)
		}
	}
	for range 2 {
		must(t, l.DeleteSnapshot(ctx, s, v))
		for _, c := range []cinder.Volume{v, restored, clone} {
			must(t, l.Delete(ctx, c))
		}
	}
	if _, err := l.Connection(ctx, v, connector.Properties{}); err == nil {
		t.Error("a deleted volume can be connected")
	}
}

func TestLocalVolumesOfNothing(t *testing.T) {
	for _, opt := range []compute.LocalOptions{{Sparse: true}, {Format: "qcow2"}} {
		opt.Dir = passable(t)
		l := localVolumes(t, opt)
		v := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}
		must(t, l.Create(t.Context(), v, compute.VolumeOrigin{}))
		raw, err := l.Connection(t.Context(), v, connector.Properties{})
		must(t, err)
		if got := contents(t, raw, "", 1<<16); len(bytes.Trim(got, "\x00")) > 0 || diskSize(t, raw) != 1<<30 {
			t.Error("a blank volume is not blank")
		}
	}
}

// An encrypted volume is LUKS on the disk, what its image says with its key, and so is a copy.
func TestLocalVolumesEncrypted(t *testing.T) {
	for _, format := range []string{"raw", "qcow2"} {
		l := localVolumes(t, compute.LocalOptions{Sparse: true, Dir: passable(t)})
		base := imageFile(t, format)
		v := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1, Status: cinder.Available, Encryption: &cinder.Encryption{Provider: "luks"}}
		cipher := &connector.Cipher{Format: "luks", Key: "0123456789abcdef"}
		must(t, l.Create(t.Context(), v, compute.VolumeOrigin{Image: &base, Cipher: cipher}))
		clone := v
		clone.ID = uuid.NewString()
		must(t, l.Create(t.Context(), clone, compute.VolumeOrigin{Volume: &v, Cipher: cipher}))
		for _, v := range []cinder.Volume{v, clone} {
			raw, err := l.Connection(t.Context(), v, connector.Properties{})
			must(t, err)
			info, err := connector.Parse(raw)
			must(t, err)
			data := make([]byte, 4<<20)
			file, err := os.Open(info.Path)
			must(t, err)
			_, err = file.ReadAt(data, 0)
			must(t, errors.Join(err, file.Close()))
			if !bytes.HasPrefix(data, []byte("LUKS\xba\xbe")) || bytes.Contains(data, []byte("a disk's contents")) {
				t.Error("it is not encrypted")
			}
			if got := contents(t, raw, cipher.Key, len(diskBytes())); !bytes.Equal(got, diskBytes()) {
				t.Error("with its key the volume is not what the image is")
			}
		}
	}
}

// A volume that a server writes to is copied at one moment, or not at all.
func TestLocalVolumesCopyWhileInUse(t *testing.T) {
	l := localVolumes(t, compute.LocalOptions{Sparse: true})
	p, err := l.Pool(t.Context())
	must(t, err)
	v := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1, Status: cinder.InUse}
	must(t, l.Create(t.Context(), v, compute.VolumeOrigin{}))
	err = l.Snapshot(t.Context(), cinder.Snapshot{ID: uuid.NewString()}, v)
	if (err == nil) != p.LiveCopies {
		t.Errorf("error %v, where live copies are %v", err, p.LiveCopies)
	}
}

// An image that is not what it is said to be is refused, and nothing is left.
func TestLocalVolumesRefuseHostileImages(t *testing.T) {
	dir := passable(t)
	l := localVolumes(t, compute.LocalOptions{Sparse: true, Dir: dir})
	backed := filepath.Join(passable(t), "backed")
	_, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: "qemu-img", Args: []string{"create", "-q", "-u", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", backed, "1M"}})
	must(t, err)
	for name, base := range map[string]image.Base{
		"a backing file": {Path: backed, Format: "qcow2"}, "qcow2 as raw": {Path: backed, Format: "raw"}, "no image": {Path: "/dev/null", Format: "qcow2"},
	} {
		for _, cipher := range []*connector.Cipher{nil, {Format: "luks", Key: "k"}} {
			v := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}
			if err := l.Create(t.Context(), v, compute.VolumeOrigin{Image: &base, Cipher: cipher}); err == nil {
				t.Errorf("%s: it was taken", name)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 { // the snapshots' directory
		t.Errorf("%v are left", entries)
	}
	for _, id := range []string{"../x", "", "urn:uuid:" + uuid.NewString(), strings.ToUpper("{" + uuid.NewString() + "}")} {
		if err := l.Create(t.Context(), cinder.Volume{ID: id, SizeGiB: 1}, compute.VolumeOrigin{}); err == nil {
			t.Errorf("%q names a file", id)
		}
	}
}

// What a crash left half made is made again.
func TestLocalVolumesGoOn(t *testing.T) {
	dir := passable(t)
	l := localVolumes(t, compute.LocalOptions{Sparse: true, Dir: dir})
	v := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}
	must(t, os.WriteFile(filepath.Join(dir, v.ID+".new"), []byte("half"), 0o600))
	must(t, l.Create(t.Context(), v, compute.VolumeOrigin{}))
	raw, err := l.Connection(t.Context(), v, connector.Properties{})
	must(t, err)
	if got := contents(t, raw, "", 4); string(got) != "\x00\x00\x00\x00" {
		t.Errorf("it begins with %q", got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	base := imageFile(t, "qcow2")
	w := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}
	if err := l.Create(ended, w, compute.VolumeOrigin{Image: &base}); err == nil {
		t.Error("it was made though the agent ends")
	}
	for _, suffix := range []string{".new", ".image"} {
		must(t, os.WriteFile(filepath.Join(dir, v.ID+suffix), nil, 0o600))
	}
	must(t, l.Delete(t.Context(), v))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v are left", entries, err)
	}
}

func TestLocalVolumesConnectionIsStrict(t *testing.T) {
	l := localVolumes(t, compute.LocalOptions{Sparse: true})
	v := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}
	must(t, l.Create(t.Context(), v, compute.VolumeOrigin{}))
	raw, err := l.Connection(t.Context(), v, connector.Properties{})
	must(t, err)
	var got struct {
		Type string         `json:"driver_volume_type"`
		Data map[string]any `json:"data"`
	}
	must(t, json.Unmarshal(raw, &got))
	if got.Type != "file" || got.Data["format"] != "raw" || !strings.HasSuffix(fmt.Sprint(got.Data["device_path"]), v.ID) {
		t.Errorf("the connection is %s", raw)
	}
}
