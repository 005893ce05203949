package compute_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
)

// plugBoard connects LUNs as files, and counts what is connected.
type plugBoard struct {
	dir       string
	connected int
	known     connector.Identity // of the last volume
	fail      bool
}

func (p *plugBoard) Properties(context.Context) (connector.Properties, error) {
	return connector.Properties{}, nil
}

func (p *plugBoard) Connect(_ context.Context, r compute.VolumeConnection) (connector.Device, error) {
	if p.fail {
		return connector.Device{}, errors.New("no path")
	}
	p.connected++
	p.known = r.Known
	return connector.Device{Path: filepath.Join(p.dir, filepath.Base(r.Info.Path)), Bytes: 4 << 30}, nil
}

func (p *plugBoard) Disconnect(_ context.Context, r compute.VolumeConnection) error {
	if r.Device.Path == "" {
		return errors.New("what is to be taken away is not named")
	}
	p.connected--
	return nil
}

func (p *plugBoard) Extend(_ context.Context, r compute.VolumeConnection) (connector.Device, error) {
	return r.Device, nil
}

func lun(name string, gib int) compute.FixedLUN {
	return compute.FixedLUN{Name: name, SizeGiB: gib, Connection: connector.Raw(fmt.Sprintf(`{"driver_volume_type":"local","data":{"device_path":"/dev/array/%s"}}`, name))}
}

func TestFixedVolumesPlace(t *testing.T) {
	luns := []compute.FixedLUN{lun("big", 10), lun("small", 2), lun("middle", 4)}
	used := []cinder.UsedLUN{{Backend: "b", LUN: "small", ProjectID: "p"}, {Backend: "other", LUN: "big", ProjectID: "q"}}
	taken := []cinder.Volume{{Backend: "b", LUN: "middle"}, {Backend: "other", LUN: "big"}}
	for name, c := range map[string]struct {
		wipe    compute.Wipe
		project string
		gib     int
		used    []cinder.UsedLUN
		taken   []cinder.Volume
		want    string
		largest int
	}{
		"the smallest that fits":          {project: "p", gib: 1, want: "small", largest: 10},
		"as large as it is":               {project: "p", gib: 2, want: "small", largest: 10},
		"the next one":                    {project: "p", gib: 3, want: "middle", largest: 10},
		"none is as large":                {project: "p", gib: 11, want: "", largest: 10},
		"what is taken":                   {project: "p", gib: 3, taken: taken, want: "big", largest: 10},
		"clean before used":               {project: "p", gib: 1, used: used, want: "middle", largest: 10},
		"its own, used":                   {project: "p", gib: 1, used: used, taken: append(taken, cinder.Volume{Backend: "b", LUN: "big"}), want: "small", largest: 2},
		"another project's, used":         {project: "q", gib: 1, used: used, taken: append(taken, cinder.Volume{Backend: "b", LUN: "big"}), want: "", largest: 0},
		"nobody's, used":                  {project: "", gib: 1, used: used, taken: append(taken, cinder.Volume{Backend: "b", LUN: "big"}), want: "", largest: 0},
		"another's, handed on":            {wipe: compute.WipeNone, project: "q", gib: 1, used: used, want: "small", largest: 10},
		"used before it was to be zeroed": {wipe: compute.WipeZero, project: "q", gib: 1, used: used, want: "middle", largest: 10},
	} {
		f, err := compute.NewFixedVolumes(compute.FixedOptions{LUNs: luns, Wipe: c.wipe, Scratch: t.TempDir()})
		must(t, err)
		got, err := f.Place(cinder.Volume{Backend: "b", ProjectID: c.project, SizeGiB: c.gib}, c.taken, c.used)
		var refusal *cinder.Refusal
		if got != c.want || (err != nil) != (c.want == "") || err != nil && !errors.As(err, &refusal) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
		if p := f.Left(cinder.Pool{Backend: "b"}, c.project, c.taken, c.used); p.LargestGiB != c.largest {
			t.Errorf("%s: %d GiB are left, want %d", name, p.LargestGiB, c.largest)
		}
	}
}

func TestFixedVolumesAreChecked(t *testing.T) {
	nfs := compute.FixedLUN{Name: "n", SizeGiB: 1, Connection: connector.Raw(`{"driver_volume_type":"file","data":{"device_path":"/srv/x"}}`)}
	bad := lun("a", 1)
	bad.Connection = connector.Raw(`{"driver_volume_type":"local","data":{"device_path":"/etc/passwd"}}`)
	same := lun("a", 1)
	same.Name = "b"
	spelled := connector.Raw(`{"data": {"device_path": "/dev/array/a", "access_mode": "rw"}, "driver_volume_type": "local"}`)
	for name, opt := range map[string]compute.FixedOptions{
		"no name": {LUNs: []compute.FixedLUN{lun("", 1)}}, "a name twice": {LUNs: []compute.FixedLUN{lun("a", 1), lun("a", 2)}}, "no size": {LUNs: []compute.FixedLUN{lun("a", 0)}},
		"no device": {LUNs: []compute.FixedLUN{bad}}, "a device twice": {LUNs: []compute.FixedLUN{lun("a", 1), same}},
		"a device twice, spelled in two ways": {LUNs: []compute.FixedLUN{lun("a", 1), {Name: "b", SizeGiB: 1, Connection: spelled}}},
		"a file to wipe":                      {LUNs: []compute.FixedLUN{nfs}, Wipe: compute.WipeZero}, "a wipe": {Wipe: compute.WipeDiscard},
	} {
		opt.Scratch = t.TempDir()
		if _, err := compute.NewFixedVolumes(opt); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

// A LUN is written to as a device of this host, and taken away again, whatever happens.
func TestFixedVolumesAreWritten(t *testing.T) {
	g := newGroup(t)
	board := &plugBoard{dir: g.dir}
	must(t, os.WriteFile(filepath.Join(g.dir, "a"), nil, 0o600))
	f, err := compute.NewFixedVolumes(compute.FixedOptions{LUNs: []compute.FixedLUN{lun("a", 4)}, Wipe: compute.WipeZero, Host: board, Scratch: t.TempDir(), Runner: g})
	must(t, err)
	base := imageFile(t, "raw")
	v := cinder.Volume{ID: "8c7f4c5e-5b3b-4d5e-9a0e-000000000001", LUN: "a", SizeGiB: 4}
	read := func() string {
		data, err := os.ReadFile(filepath.Join(g.dir, "a"))
		must(t, err)
		return string(data)
	}
	must(t, f.Create(t.Context(), v, compute.VolumeOrigin{Image: &base}))
	if read() != string(diskBytes()) {
		t.Error("the LUN is not what the image is")
	}
	g.failOn = "blkdiscard"
	if err := f.Delete(t.Context(), v); err == nil {
		t.Error("it is deleted though it was not wiped")
	}
	must(t, f.Delete(t.Context(), v))
	if read() != "zeros" {
		t.Error("it was not wiped")
	}
	if large := (cinder.Volume{LUN: "a", SizeGiB: 5}); f.Create(t.Context(), large, compute.VolumeOrigin{Image: &base}) == nil || f.Extend(t.Context(), large, 5) == nil {
		t.Error("a volume is larger than its LUN")
	}
	board.fail = true
	if err := f.Create(t.Context(), v, compute.VolumeOrigin{Image: &base}); err == nil || board.connected != 0 {
		t.Errorf("error %v, %d LUNs are connected", err, board.connected)
	}
	must(t, f.Create(t.Context(), v, compute.VolumeOrigin{})) // nothing is to be written
}

// A LUN number that the array has given to another disk since is not wiped: what connects it knows who the volume was.
func TestFixedVolumesAreWipedByWhoTheyAre(t *testing.T) {
	g := newGroup(t)
	board := &plugBoard{dir: g.dir}
	identity := func(_ context.Context, id string) (connector.Identity, error) {
		return connector.Identity("naa.6" + id), nil
	}
	f, err := compute.NewFixedVolumes(compute.FixedOptions{
		LUNs: []compute.FixedLUN{lun("a", 4)}, Wipe: compute.WipeZero, Host: board, Identity: identity, Scratch: t.TempDir(), Runner: g,
	})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(g.dir, "a"), nil, 0o600))
	v := cinder.Volume{ID: "8c7f4c5e-5b3b-4d5e-9a0e-000000000001", LUN: "a", SizeGiB: 4}
	must(t, f.Delete(t.Context(), v))
	if want := connector.Identity("naa.6" + v.ID); board.known != want {
		t.Errorf("it was connected as %q, not %q", board.known, want)
	}
}

// fixedWorld has three LUNs; deleted volumes' contents stay on them.
func fixedWorld(t *testing.T, wipe compute.Wipe, sizes ...int) *volumeWorld {
	w := newVolumeWorld(t)
	w.options = func(o *compute.VolumeOptions) {
		var luns []compute.FixedLUN
		for i, gib := range sizes {
			luns = append(luns, lun(fmt.Sprint("lun", i), gib))
		}
		f, err := compute.NewFixedVolumes(compute.FixedOptions{LUNs: luns, Wipe: wipe, Scratch: t.TempDir()})
		must(t, err)
		o.Backends = map[string]compute.VolumeBackend{"fixed": f}
	}
	w.boot(nil)
	return w
}

// What was on a LUN is shown to no other project before the operator says that it is clean.
func TestUsedLUNsAreKept(t *testing.T) {
	w := fixedWorld(t, compute.WipeKeep, 2)
	ctx := t.Context()
	v := w.made(cinder.VolumeRequest{SizeGiB: 1})
	if v.LUN != "lun0" || v.Status != cinder.Available || v.SizeGiB != 1 {
		t.Fatalf("%+v", v)
	}
	if _, err := w.CreateVolume(ctx, cinder.VolumeRequest{ProjectID: project, SizeGiB: 1}); err == nil {
		t.Error("the LUN was given away twice")
	}
	must(t, w.DeleteVolume(ctx, v.ID, false))
	w.rest()
	w.end()
	w.boot(nil) // it is remembered
	other := cinder.VolumeRequest{ProjectID: otherProject, SizeGiB: 1}
	if _, err := w.CreateVolume(ctx, other); err == nil || !strings.Contains(err.Error(), "free") {
		t.Errorf("another project gets what a project had: %v", err)
	}
	again := w.made(cinder.VolumeRequest{SizeGiB: 1})
	must(t, w.DeleteVolume(ctx, again.ID, false))
	w.rest()
	if used, err := w.UsedLUNs(ctx); err != nil || len(used) != 1 || used[0].LUN != "lun0" || used[0].ProjectID != project || used[0].VolumeID != again.ID {
		t.Errorf("used are %+v, %v", used, err)
	}
	must(t, w.CleanLUN(ctx, "fixed", "lun0"))
	for _, lun := range []string{"lun0", "lun1"} {
		if err := w.CleanLUN(ctx, "fixed", lun); !errors.Is(err, compute.ErrNotFound) {
			t.Errorf("%s is clean: error %v", lun, err)
		}
	}
	if v := w.made(other); v.LUN != "lun0" {
		t.Errorf("%+v", v)
	}
}

func TestFixedVolumesGrowWithTheirLUN(t *testing.T) {
	w := fixedWorld(t, compute.WipeKeep, 2)
	v := w.made(cinder.VolumeRequest{SizeGiB: 1})
	must(t, w.ExtendVolume(t.Context(), v.ID, 2))
	w.rest()
	if err := w.ExtendVolume(t.Context(), v.ID, 3); err == nil || !strings.Contains(err.Error(), "LUN lun0 of backend fixed has 2 GiB") {
		t.Errorf("error %v", err)
	}
	state := w.state
	w.end()
	larger := fixedWorldAt(t, state, 3)
	must(t, larger.ExtendVolume(t.Context(), v.ID, 3))
	if got := larger.rested(v.ID); got.SizeGiB != 3 || got.Status != cinder.Available {
		t.Errorf("%+v", got)
	}
	for _, source := range []cinder.VolumeRequest{{SourceID: v.ID}} {
		source.ProjectID = project
		if _, err := larger.CreateVolume(t.Context(), source); err == nil {
			t.Error("a LUN was copied")
		}
	}
	if _, err := larger.CreateSnapshot(t.Context(), cinder.SnapshotRequest{ProjectID: project, VolumeID: v.ID}); err == nil {
		t.Error("a LUN has a snapshot")
	}
}

func fixedWorldAt(t *testing.T, state string, gib int) *volumeWorld {
	w := newVolumeWorld(t)
	w.state = state
	w.options = func(o *compute.VolumeOptions) {
		f, err := compute.NewFixedVolumes(compute.FixedOptions{LUNs: []compute.FixedLUN{lun("lun0", gib)}, Scratch: t.TempDir()})
		must(t, err)
		o.Backends = map[string]compute.VolumeBackend{"fixed": f}
	}
	w.boot(nil)
	return w
}
