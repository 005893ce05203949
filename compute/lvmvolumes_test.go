package compute_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/internal/command"
)

// group is a volume group, its programs and its devices, which are files below dir. It is stricter than LVM where that asks.
type group struct {
	dir    string
	lvs    map[string]lvOf
	order  []string
	ran    []string // what changed something, activation aside
	failOn string   // a program that fails once
	// inactive is the logical volume that has no device at the moment.
	inactive string
}

type lvOf struct {
	bytes  int64
	origin string
}

func newGroup(t *testing.T) *group {
	t.Helper()
	g := &group{dir: t.TempDir(), lvs: map[string]lvOf{"operators": {bytes: 1 << 30}}, order: []string{"operators"}}
	must(t, os.Mkdir(filepath.Join(g.dir, "vg"), 0o755))
	return g
}

// Run implements command.Runner.
func (g *group) Run(_ context.Context, c command.Cmd) ([]byte, error) {
	line := c.Name + " " + strings.Join(c.Args, " ")
	if !slices.Contains([]string{"lvs", "vgs", "lvchange"}, c.Name) {
		g.ran = append(g.ran, strings.ReplaceAll(line, g.dir, ""))
	}
	if c.Name == g.failOn {
		g.failOn = ""
		return nil, errors.New("it fails")
	}
	last := c.Args[len(c.Args)-1]
	switch c.Name {
	case "lvs":
		return g.report()
	case "vgs":
		return []byte(`{"report":[{"vg":[{"vg_size":"10737418240","vg_free":"5368709120"}]}]}`), nil
	case "lvcreate":
		return nil, g.create(c.Args)
	case "lvrename":
		return nil, g.rename(c.Args[len(c.Args)-2], last)
	case "lvremove":
		return nil, g.remove(strings.TrimPrefix(last, "vg/"))
	case "lvchange":
		return nil, g.activate(strings.TrimPrefix(last, "vg/"), slices.Contains(c.Args, "y"))
	case "lvextend":
		name := strings.TrimPrefix(last, "vg/")
		v := g.lvs[name]
		if g.inactive != name && g.isOrigin(name) {
			return nil, errors.New("snapshot origin volumes can be resized only while inactive")
		}
		v.bytes = sizeOf(after(c.Args, "-L"))
		g.lvs[name] = v
		return nil, nil
	case "blkdiscard":
		if name := filepath.Base(last); g.inactive != "" && (name == g.inactive || g.lvs[name].origin == g.inactive) {
			return nil, errors.New("no such file or directory")
		}
		return nil, os.WriteFile(last, []byte("zeros"), 0o600)
	case "qemu-img":
		return nil, g.pour(c)
	}
	return nil, fmt.Errorf("a program that the test does not know: %s", line)
}

func (g *group) report() ([]byte, error) {
	list := []map[string]string{}
	for _, name := range g.order {
		if v, there := g.lvs[name]; there {
			list = append(list, map[string]string{"lv_name": name, "lv_size": strconv.FormatInt(v.bytes, 10), "origin": v.origin})
		}
	}
	return json.Marshal(map[string]any{"report": []any{map[string]any{"lv": list}}})
}

func after(args []string, option string) string { return args[slices.Index(args, option)+1] }

func sizeOf(s string) int64 {
	number, unit := s[:len(s)-1], s[len(s)-1:]
	n, _ := strconv.ParseInt(number, 10, 64)
	return n << map[string]int{"m": 20, "g": 30}[unit]
}

func (g *group) device(name string) string { return filepath.Join(g.dir, "vg", name) }

func (g *group) create(args []string) error {
	name, v, data := after(args, "-n"), lvOf{bytes: sizeOf(after(args, "-L"))}, []byte("blank")
	if slices.Contains(args, "--snapshot") {
		v.origin = strings.TrimPrefix(args[len(args)-1], "vg/")
		data, _ = os.ReadFile(g.device(v.origin))
		if v.bytes < g.lvs[v.origin].bytes {
			return errors.New("the snapshot may run full")
		}
	}
	if strings.HasPrefix(name, "snapshot") {
		return errors.New(`names starting "snapshot" are reserved`)
	}
	if _, there := g.lvs[name]; there {
		return errors.New("already exists in volume group")
	}
	g.lvs[name], g.order = v, append(g.order, name)
	return os.WriteFile(g.device(name), data, 0o600)
}

func (g *group) rename(from, to string) error {
	g.lvs[to], g.order = g.lvs[from], append(g.order, to)
	delete(g.lvs, from)
	return os.Rename(g.device(from), g.device(to))
}

func (g *group) isOrigin(name string) bool {
	for _, v := range g.lvs {
		if v.origin == name {
			return true
		}
	}
	return false
}

func (g *group) activate(name string, active bool) error {
	switch {
	case !active:
		g.inactive = name
	case g.inactive == name, g.inactive == g.lvs[name].origin: // a snapshot has its origin active too
		g.inactive = ""
	}
	return nil
}

// remove is lvremove --yes, which takes snapshots with their origin.
func (g *group) remove(name string) error {
	for other, v := range g.lvs {
		if v.origin == name {
			if err := g.remove(other); err != nil {
				return err
			}
		}
	}
	if data, err := os.ReadFile(g.device(name)); err != nil || string(data) != "zeros" {
		return fmt.Errorf("it was not wiped: %q, %w", data, err)
	}
	delete(g.lvs, name)
	return os.Remove(g.device(name))
}

// pour is qemu-img convert.
func (g *group) pour(c command.Cmd) error {
	source, target := c.Args[len(c.Args)-2], c.Args[len(c.Args)-1]
	_, path, found := strings.Cut(target, "file.filename=")
	if !found {
		path = target
	}
	data, err := os.ReadFile(source)
	if c.Stdin != nil && strings.Contains(source, "/dev/stdin") {
		data, err = io.ReadAll(c.Stdin)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

func lvmVolumes(t *testing.T, g *group) *compute.LVMVolumes {
	t.Helper()
	l, err := compute.NewLVMVolumes(compute.LVMOptions{Group: "vg", Scratch: t.TempDir(), Runner: g, Devices: g.dir})
	must(t, err)
	return l
}

func TestLVMVolumes(t *testing.T) {
	g, ctx := newGroup(t), t.Context()
	l := lvmVolumes(t, g)
	base := imageFile(t, "raw")
	ids := []string{uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()}
	v, clone, restored := cinder.Volume{ID: ids[0], SizeGiB: 1}, cinder.Volume{ID: ids[1], SizeGiB: 2, Status: cinder.InUse}, cinder.Volume{ID: ids[2], SizeGiB: 1}
	s := cinder.Snapshot{ID: ids[3], VolumeID: v.ID}
	for range 2 { // again is the same
		must(t, l.Create(ctx, v, compute.VolumeOrigin{Image: &base}))
		must(t, l.Extend(ctx, v, 3))
		must(t, l.Snapshot(ctx, s, v))
		must(t, l.Create(ctx, clone, compute.VolumeOrigin{Volume: &v}))
		must(t, l.Create(ctx, restored, compute.VolumeOrigin{Snapshot: &s, Volume: &v}))
	}
	for _, id := range ids[:3] {
		if data, err := os.ReadFile(g.device("volume-" + id)); err != nil || string(data) != string(diskBytes()) {
			t.Errorf("volume %s is not what the image is: %v", id, err)
		}
	}
	raw, err := l.Connection(ctx, clone, connector.Properties{})
	if want := fmt.Sprintf(`{"data":{"device_path":"%s"},"driver_volume_type":"local"}`, g.device("volume-"+clone.ID)); err != nil || string(raw) != want {
		t.Errorf("the connection is %s, %v", raw, err)
	}
	for range 2 {
		must(t, l.DeleteSnapshot(ctx, s, v))
		for _, v := range []cinder.Volume{v, clone, restored} {
			must(t, l.Delete(ctx, v))
		}
	}
	if len(g.lvs) != 1 {
		t.Errorf("%v are left", g.lvs)
	}
	if _, err := l.Connection(ctx, v, connector.Properties{}); err == nil {
		t.Error("a deleted volume can be connected")
	}
	text := strings.Join(g.ran, "\n")
	for i, id := range ids {
		text = strings.ReplaceAll(text, id, "ID"+strconv.Itoa(i))
	}
	if diff := cmp.Diff(lvmCommands, strings.ReplaceAll(text, base.Path, "IMAGE")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// lvmCommands are what makes, copies and removes the volumes of TestLVMVolumes, once.
const lvmCommands = `lvcreate -q --yes --wipesignatures y --zero y -n new-ID0 -L 1g vg
qemu-img convert -q -n -f raw --target-image-opts IMAGE driver=raw,file.driver=file,file.filename=/vg/new-ID0
lvrename -q vg new-ID0 volume-ID0
lvextend -q -L 3g vg/volume-ID0
lvcreate -q --yes --snapshot -n _snapshot-ID3 -L 3106m vg/volume-ID0
lvcreate -q --yes --wipesignatures y --zero y -n new-ID1 -L 2g vg
lvcreate -q --yes --snapshot -n moment-ID1 -L 3106m vg/volume-ID0
qemu-img convert -q -n -f raw --target-image-opts /vg/moment-ID1 driver=raw,file.driver=file,file.filename=/vg/new-ID1
blkdiscard --zeroout /vg/moment-ID1
lvremove -q --yes vg/moment-ID1
lvrename -q vg new-ID1 volume-ID1
lvcreate -q --yes --wipesignatures y --zero y -n new-ID2 -L 1g vg
qemu-img convert -q -n -f raw --target-image-opts /vg/_snapshot-ID3 driver=raw,file.driver=file,file.filename=/vg/new-ID2
lvrename -q vg new-ID2 volume-ID2
blkdiscard --zeroout /vg/_snapshot-ID3
lvremove -q --yes vg/_snapshot-ID3
blkdiscard --zeroout /vg/volume-ID0
lvremove -q --yes vg/volume-ID0
blkdiscard --zeroout /vg/volume-ID1
lvremove -q --yes vg/volume-ID1
blkdiscard --zeroout /vg/volume-ID2
lvremove -q --yes vg/volume-ID2`

// Whichever program fails once, the next attempt ends what was begun, and nothing is left of a deleted volume.
func TestLVMVolumesGoOn(t *testing.T) {
	for _, program := range []string{"lvcreate", "qemu-img", "lvrename", "blkdiscard", "lvremove"} {
		g := newGroup(t)
		l := lvmVolumes(t, g)
		v, clone := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}, cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}
		must(t, l.Create(t.Context(), v, compute.VolumeOrigin{}))
		g.failOn = program
		if err := l.Create(t.Context(), clone, compute.VolumeOrigin{Volume: &v}); err == nil {
			t.Errorf("%s: it was made", program)
		}
		must(t, l.Create(t.Context(), clone, compute.VolumeOrigin{Volume: &v}))
		g.failOn = program
		_ = l.Delete(t.Context(), clone) // it fails with some
		g.failOn = ""
		must(t, errors.Join(l.Delete(t.Context(), clone), l.Delete(t.Context(), v)))
		if len(g.lvs) != 1 {
			t.Errorf("%s: %v are left", program, g.lvs)
		}
	}
}

// The snapshot that a copy which was cut off left of its source is wiped and removed before that is: LVM would remove it with the source, and with it go
// the source's contents into what is free. A snapshot of somebody else's keeps the volume.
func TestLVMVolumesDeleteSource(t *testing.T) {
	g := newGroup(t)
	l := lvmVolumes(t, g)
	v, clone := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}, cinder.Volume{ID: uuid.NewString(), SizeGiB: 1}
	must(t, l.Create(t.Context(), v, compute.VolumeOrigin{}))
	g.failOn = "qemu-img"
	if err := l.Create(t.Context(), clone, compute.VolumeOrigin{Volume: &v}); err == nil {
		t.Fatal("it was made")
	}
	must(t, g.create([]string{"--snapshot", "-n", "nightly", "-L", "2048m", "vg/volume-" + v.ID}))
	if err := l.Delete(t.Context(), v); err == nil || !strings.Contains(err.Error(), "nightly") {
		t.Errorf("with a snapshot of somebody else's: %v", err)
	}
	must(t, errors.Join(os.Remove(g.device("nightly")), l.Delete(t.Context(), clone)))
	delete(g.lvs, "nightly")
	g.failOn = "qemu-img"
	if err := l.Create(t.Context(), clone, compute.VolumeOrigin{Volume: &v}); err == nil {
		t.Fatal("it was made")
	}
	must(t, errors.Join(l.Delete(t.Context(), v), l.Delete(t.Context(), clone)))
	if len(g.lvs) != 1 {
		t.Errorf("%v are left", g.lvs)
	}
}

// What a crash or a failure left without its device, in the middle of an extension, is wiped and removed all the same, and its snapshots, which are without
// theirs too.
func TestLVMVolumesDeleteInactive(t *testing.T) {
	g := newGroup(t)
	l := lvmVolumes(t, g)
	v, s := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1, Before: cinder.Available}, cinder.Snapshot{ID: uuid.NewString()}
	must(t, errors.Join(l.Create(t.Context(), v, compute.VolumeOrigin{}), l.Snapshot(t.Context(), s, v)))
	g.inactive = "volume-" + v.ID
	must(t, l.DeleteSnapshot(t.Context(), s, v))
	g.inactive = "volume-" + v.ID
	must(t, l.Delete(t.Context(), v))
	if len(g.lvs) != 1 {
		t.Errorf("%v are left", g.lvs)
	}
}

// LVM extends what has snapshots while nobody has it, and afterwards it has its device again, also after a crash between the two.
func TestLVMVolumesExtendWithSnapshots(t *testing.T) {
	g := newGroup(t)
	l := lvmVolumes(t, g)
	v := cinder.Volume{ID: uuid.NewString(), SizeGiB: 1, Before: cinder.Available}
	must(t, l.Create(t.Context(), v, compute.VolumeOrigin{}))
	must(t, l.Snapshot(t.Context(), cinder.Snapshot{ID: uuid.NewString()}, v))
	g.failOn = "lvextend"
	if err := l.Extend(t.Context(), v, 2); err == nil || g.inactive != "" {
		t.Errorf("error %v, inactive %q", err, g.inactive)
	}
	must(t, l.Extend(t.Context(), v, 2))
	g.inactive = "volume-" + v.ID
	must(t, l.Extend(t.Context(), v, 2))
	if got := g.lvs["volume-"+v.ID].bytes; got != 2<<30 || g.inactive != "" {
		t.Errorf("%d bytes, inactive %q", got, g.inactive)
	}
	v.Before = cinder.InUse
	if err := l.Extend(t.Context(), v, 3); err == nil || !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("in use: %v", err)
	}
}

func TestLVMVolumesPool(t *testing.T) {
	l := lvmVolumes(t, newGroup(t))
	p, err := l.Pool(t.Context())
	if err != nil || p.TotalGiB != 10 || p.FreeGiB != 5 || !p.LiveCopies {
		t.Errorf("%+v, %v", p, err)
	}
	for name, opt := range map[string]compute.LVMOptions{
		"an option as a name": {Group: "-x", Scratch: "/tmp"}, "a path": {Group: "a/b", Scratch: "/tmp"}, "no name": {Scratch: "/tmp"}, "itself": {Group: "..", Scratch: "/tmp"},
		"a wipe": {Group: "vg", Wipe: "shred", Scratch: "/tmp"}, "no place": {Group: "vg", Scratch: "here"},
	} {
		if _, err := compute.NewLVMVolumes(opt); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}
