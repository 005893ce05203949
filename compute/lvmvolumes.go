package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/luks"
	"compute-agent/cinder"
	"compute-agent/image"
	"compute-agent/internal/command"
	"compute-agent/internal/pattern"
)

// Wipe is what happens to a volume's contents before its place is given away.
type Wipe string

// The kinds of wiping.
const (
	// WipeZero writes zeros over all of it.
	WipeZero Wipe = "zero"
	// WipeDiscard discards the blocks: only for devices whose discarded blocks read as zeros.
	WipeDiscard Wipe = "discard"
	// WipeNone leaves it: the next volume may show it.
	WipeNone Wipe = "none"
	// WipeKeep leaves it too, and keeps the place for volumes of the same project until the operator says that it is clean. Only of a FixedVolumes.
	WipeKeep Wipe = "keep"
)

// LVMOptions are how LVMVolumes are kept.
type LVMOptions struct {
	Group   string // the volume group; it is the operator's, and has to be there
	Wipe    Wipe   // default WipeZero
	Scratch string // absolute: where images are unpacked that are not raw
	Runner  command.Runner
	Devices string // where device nodes are; default /dev
}

// LVMVolumes keeps each volume as a logical volume, volume-UUID, of one volume group; snapshots are _snapshot-UUID, as large as what they are of, so that
// they can never run full. Other logical volumes of the group are left alone. A new volume shows what was in the free space of the group: what the agent
// removes is wiped, what others removed is theirs to have wiped.
type LVMVolumes struct{ opt LVMOptions }

const kindLVM = "lvm"

var groupName = pattern.New(`^[a-zA-Z0-9_+.][a-zA-Z0-9_+.-]{0,126}$`)

// NewLVMVolumes opens the volumes of a volume group. It looks at nothing.
func NewLVMVolumes(opt LVMOptions) (*LVMVolumes, error) {
	if opt.Wipe == "" {
		opt.Wipe = WipeZero
	}
	if opt.Devices == "" {
		opt.Devices = "/dev"
	}
	switch {
	case !groupName.MatchString(opt.Group) || opt.Group == "." || opt.Group == "..":
		return nil, fmt.Errorf("volume group %q is not a name that LVM gives", opt.Group)
	case opt.Wipe != WipeZero && opt.Wipe != WipeDiscard && opt.Wipe != WipeNone:
		return nil, fmt.Errorf("volume group %s: wipe %q is not zero, discard or none", opt.Group, opt.Wipe)
	case !filepath.IsAbs(opt.Scratch):
		return nil, fmt.Errorf("volume group %s: the scratch directory %q is not absolute", opt.Group, opt.Scratch)
	}
	if err := os.MkdirAll(opt.Scratch, 0o711); err != nil {
		return nil, fmt.Errorf("volume group %s: %w", opt.Group, err)
	}
	return &LVMVolumes{opt}, nil
}

// lvName is a logical volume's name.
func lvName(prefix, id string) (string, error) {
	if err := uuid.Validate(id); err != nil || len(id) != uuidLength {
		return "", fmt.Errorf("volume %q is not named by a UUID", id)
	}
	return prefix + id, nil
}

// The beginnings of logical volumes' names.
const (
	lvVolume   = "volume-"
	lvSnapshot = "_snapshot-" // LVM keeps names that begin without the stroke for itself
	lvNew      = "new-"       // a volume until it is whole
	lvMoment   = "moment-"    // a snapshot for the time of a copy
)

func (l *LVMVolumes) device(name string) string {
	return filepath.Join(l.opt.Devices, l.opt.Group, name)
}

func (l *LVMVolumes) full(name string) string { return l.opt.Group + "/" + name }

// run runs a program of LVM, which asks nothing.
func (l *LVMVolumes) run(ctx context.Context, program string, args ...string) ([]byte, error) {
	out, err := l.opt.Runner.Run(ctx, command.Cmd{Name: program, Args: args, MaxOutput: 8 << 20})
	if err != nil {
		return nil, fmt.Errorf("volume group %s: %w", l.opt.Group, err)
	}
	return out, nil
}

// lv is what lvs says of a logical volume.
type lv struct {
	Name  string `json:"lv_name"`
	Bytes string `json:"lv_size"`
	// Origin is what it is a snapshot of; empty for none.
	Origin string `json:"origin"`
}

// list is the group's logical volumes by name.
func (l *LVMVolumes) list(ctx context.Context) (map[string]lv, error) {
	out, err := l.run(ctx, "lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "lv_name,lv_size,origin", l.opt.Group)
	if err != nil {
		return nil, err
	}
	var report struct {
		Report []struct {
			LV []lv `json:"lv"`
		} `json:"report"`
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Report) != 1 {
		return nil, fmt.Errorf("volume group %s: lvs reports no list: %w", l.opt.Group, err)
	}
	all := map[string]lv{}
	for _, v := range report.Report[0].LV {
		all[v.Name] = v
	}
	return all, nil
}

// Create implements VolumeBackend.
func (l *LVMVolumes) Create(ctx context.Context, v cinder.Volume, from VolumeOrigin) error {
	name, err := lvName(lvVolume, v.ID)
	if err != nil {
		return err
	}
	there, err := l.list(ctx)
	if err != nil {
		return err
	}
	if _, made := there[name]; made {
		return nil
	}
	temp := lvNew + v.ID
	if err := l.remove(ctx, there, temp); err != nil { // half made
		return err
	}
	_, err = l.run(ctx, "lvcreate", "-q", "--yes", "--wipesignatures", "y", "--zero", "y", "-n", temp, "-L", fmt.Sprint(v.SizeGiB)+"g", l.opt.Group)
	if err != nil {
		return err
	}
	if err := l.write(ctx, l.device(temp), v, from); err != nil {
		return err
	}
	_, err = l.run(ctx, "lvrename", "-q", l.opt.Group, temp, name)
	return err
}

// write gives a new logical volume its contents.
func (l *LVMVolumes) write(ctx context.Context, device string, v cinder.Volume, from VolumeOrigin) error {
	switch {
	case from.Snapshot != nil:
		name, err := lvName(lvSnapshot, from.Snapshot.ID)
		if err != nil {
			return err
		}
		return image.Pour(ctx, l.opt.Runner, l.device(name), image.Target{Path: device})
	case from.Volume != nil:
		return l.clone(ctx, device, v.ID, from.Volume.ID)
	}
	return writeDevice(ctx, l.opt.Runner, device, filepath.Join(l.opt.Scratch, v.ID+unpacked), from)
}

// writeDevice encrypts a new block device where that is asked for, and writes an image on it where there is one.
func writeDevice(ctx context.Context, runner command.Runner, device, scratch string, from VolumeOrigin) error {
	to := image.Target{Path: device}
	if from.Cipher != nil {
		if err := luks.Reformat(ctx, runner, device, *from.Cipher); err != nil {
			return err
		}
		to.Key = string(from.Cipher.Key)
	}
	if from.Image == nil {
		return nil
	}
	return pourImage(ctx, runner, *from.Image, scratch, to)
}

// clone copies a volume as it is at one moment, whoever writes to it.
func (l *LVMVolumes) clone(ctx context.Context, device, id, sourceID string) error {
	source, err := lvName(lvVolume, sourceID)
	if err != nil {
		return err
	}
	moment := lvMoment + id
	there, err := l.list(ctx)
	if err != nil {
		return err
	}
	if err := l.remove(ctx, there, moment); err != nil { // of an attempt that was cut off
		return err
	}
	if err := l.snapshot(ctx, moment, source, there[source]); err != nil {
		return err
	}
	if err := image.Pour(ctx, l.opt.Runner, l.device(moment), image.Target{Path: device}); err != nil {
		return err // Delete, or the next attempt, removes the snapshot
	}
	return l.remove(ctx, map[string]lv{moment: {Origin: source}}, moment)
}

// snapshot makes one that has room for every block of its origin.
func (l *LVMVolumes) snapshot(ctx context.Context, name, origin string, of lv) error {
	size, err := strconv.ParseUint(of.Bytes, 10, 64)
	if err != nil {
		return fmt.Errorf("volume group %s: %s has no size: %w", l.opt.Group, origin, err)
	}
	// The table of its blocks needs room too.
	mib := (size+size/100)>>20 + 4
	_, err = l.run(ctx, "lvcreate", "-q", "--yes", "--snapshot", "-n", name, "-L", strconv.FormatUint(mib, 10)+"m", l.full(origin))
	return err
}

// remove wipes and removes a logical volume, if it is there. A snapshot holds what its origin had: zeros take the place of that too, and its origin does
// not get them; it cannot discard. LVM would remove snapshots with their origin, as they are: what a copy left that was cut off goes before, and others
// keep it.
func (l *LVMVolumes) remove(ctx context.Context, there map[string]lv, name string) error {
	v, is := there[name]
	if !is {
		return nil
	}
	for _, other := range slices.Sorted(maps.Keys(there)) {
		switch {
		case there[other].Origin != name:
		case !strings.HasPrefix(other, lvMoment):
			return fmt.Errorf("volume group %s: %s is a snapshot of %s: remove it first", l.opt.Group, other, name)
		default:
			if err := l.remove(ctx, there, other); err != nil {
				return err
			}
			delete(there, other)
		}
	}
	if err := l.activate(ctx, name, true); err != nil { // an extension may have been cut off while it had no device
		return err
	}
	wipe := l.opt.Wipe
	if v.Origin != "" && wipe == WipeDiscard {
		wipe = WipeZero
	}
	if err := wipeDevice(ctx, l.opt.Runner, l.device(name), wipe); err != nil {
		return err
	}
	_, err := l.run(ctx, "lvremove", "-q", "--yes", l.full(name))
	return err
}

// wipeDevice makes a block device's contents unreadable.
func wipeDevice(ctx context.Context, runner command.Runner, device string, how Wipe) error {
	args := []string{device}
	switch how {
	case WipeNone:
		return nil
	case WipeZero:
		args = []string{"--zeroout", device}
	}
	if _, err := runner.Run(ctx, command.Cmd{Name: "blkdiscard", Args: args}); err != nil {
		return fmt.Errorf("wipe %s: %w", device, err)
	}
	return nil
}

// Delete implements VolumeBackend.
func (l *LVMVolumes) Delete(ctx context.Context, v cinder.Volume) error {
	name, err := lvName(lvVolume, v.ID)
	if err != nil {
		return err
	}
	there, err := l.list(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{lvMoment + v.ID, lvNew + v.ID, name} {
		err = errors.Join(err, l.remove(ctx, there, name))
	}
	return errors.Join(err, removeFiles(filepath.Join(l.opt.Scratch, v.ID+unpacked)))
}

// Extend implements VolumeBackend.
func (l *LVMVolumes) Extend(ctx context.Context, v cinder.Volume, gib int) error {
	name, err := lvName(lvVolume, v.ID)
	if err != nil {
		return err
	}
	there, err := l.list(ctx)
	if err != nil {
		return err
	}
	if now, err := strconv.ParseInt(there[name].Bytes, 10, 64); err == nil && now >= bytesOf(gib) {
		return l.activate(ctx, name, true)
	}
	for _, other := range there {
		if other.Origin == name {
			return l.extendOrigin(ctx, v, name, gib)
		}
	}
	return l.extend(ctx, name, gib)
}

func (l *LVMVolumes) extend(ctx context.Context, name string, gib int) error {
	_, err := l.run(ctx, "lvextend", "-q", "-L", fmt.Sprint(gib)+"g", l.full(name))
	return err
}

// extendOrigin extends what has snapshots, which LVM does only while that has no device.
func (l *LVMVolumes) extendOrigin(ctx context.Context, v cinder.Volume, name string, gib int) error {
	if v.Before == cinder.InUse {
		return errors.New("LVM cannot extend a volume that has snapshots while a server has it")
	}
	if err := l.activate(ctx, name, false); err != nil {
		return err
	}
	err := l.extend(ctx, name, gib)
	return errors.Join(err, l.activate(context.WithoutCancel(ctx), name, true))
}

// activate gives a logical volume its device, or takes it away.
func (l *LVMVolumes) activate(ctx context.Context, name string, active bool) error {
	how := "n"
	if active {
		how = "y"
	}
	_, err := l.run(ctx, "lvchange", "-q", "--yes", "-a", how, l.full(name))
	return err
}

// Snapshot implements VolumeBackend.
func (l *LVMVolumes) Snapshot(ctx context.Context, s cinder.Snapshot, of cinder.Volume) error {
	origin, originErr := lvName(lvVolume, of.ID)
	name, err := lvName(lvSnapshot, s.ID)
	if err := errors.Join(originErr, err); err != nil {
		return err
	}
	there, err := l.list(ctx)
	if err != nil {
		return err
	}
	if _, made := there[name]; made {
		return nil
	}
	return l.snapshot(ctx, name, origin, there[origin])
}

// DeleteSnapshot implements VolumeBackend.
func (l *LVMVolumes) DeleteSnapshot(ctx context.Context, s cinder.Snapshot, _ cinder.Volume) error {
	name, err := lvName(lvSnapshot, s.ID)
	if err != nil {
		return err
	}
	there, err := l.list(ctx)
	if err != nil {
		return err
	}
	return l.remove(ctx, there, name)
}

// Connection implements VolumeBackend.
func (l *LVMVolumes) Connection(ctx context.Context, v cinder.Volume, _ connector.Properties) (connector.Raw, error) {
	name, err := lvName(lvVolume, v.ID)
	if err != nil {
		return nil, err
	}
	there, err := l.list(ctx)
	if err != nil {
		return nil, err
	}
	if _, made := there[name]; !made {
		return nil, fmt.Errorf("volume group %s has no %s", l.opt.Group, name)
	}
	return connectionOf(connector.Local, map[string]any{"device_path": l.device(name)})
}

// Pool implements VolumeBackend.
func (l *LVMVolumes) Pool(ctx context.Context) (cinder.Pool, error) {
	p := cinder.Pool{Kind: kindLVM, Multiattach: true, Copies: true, LiveCopies: true, LiveExtend: true,
		Encryption: []string{luks.FormatLUKS, luks.FormatLUKS2, luks.FormatPlain}}
	out, err := l.run(ctx, "vgs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "vg_size,vg_free", l.opt.Group)
	if err != nil {
		return p, err
	}
	var report struct {
		Report []struct {
			VG []struct {
				Size uint64 `json:"vg_size,string"`
				Free uint64 `json:"vg_free,string"`
			} `json:"vg"`
		} `json:"report"`
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Report) != 1 || len(report.Report[0].VG) != 1 {
		return p, fmt.Errorf("volume group %s: vgs reports no group: %w", l.opt.Group, err)
	}
	vg := report.Report[0].VG[0]
	p.TotalGiB, p.FreeGiB = inGiB(vg.Size), inGiB(vg.Free)
	return p, nil
}
