package compute

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/internal/command"
)

// FixedLUN is a LUN that the administrator of an array made and handed over.
type FixedLUN struct {
	Name    string // the operator's; it stays the same for the life of its volumes
	SizeGiB int
	// Connection is the way to it: a connection_info of any type.
	Connection connector.Raw
}

// FixedOptions are how FixedVolumes are kept.
type FixedOptions struct {
	LUNs []FixedLUN
	// Wipe is what happens to a LUN whose volume is deleted; default WipeKeep. WipeZero connects it to this host for that. WipeNone hands it on as it is: only
	// where the array itself, or its administrator, cleans it.
	Wipe Wipe
	Host VolumeHost // connects LUNs that images are written to, that are encrypted, or wiped
	// Identity is what the disk of a volume said that it is when it was first attached; empty for one that never was, nil where nothing is wiped. The array may have
	// given the LUN's number to another disk since.
	Identity func(ctx context.Context, volumeID string) (connector.Identity, error)
	Scratch  string         // absolute: where images are unpacked that are not raw
	Runner   command.Runner // runs qemu-img, cryptsetup, blkdiscard
}

// FixedVolumes gives each volume one of a list of LUNs. It makes none and removes none.
type FixedVolumes struct {
	opt  FixedOptions
	luns map[string]FixedLUN
	info map[string]connector.Info
}

const kindFixed = "fixed"

// wipable are the types that make a LUN a block device of this host.
var wipable = []connector.Type{connector.ISCSI, connector.ISER, connector.FibreChannel, connector.NVMeoF, connector.Local}

// NewFixedVolumes checks a list of LUNs. It looks at none.
func NewFixedVolumes(opt FixedOptions) (*FixedVolumes, error) {
	if opt.Wipe == "" {
		opt.Wipe = WipeKeep
	}
	if !slices.Contains([]Wipe{WipeKeep, WipeZero, WipeNone}, opt.Wipe) {
		return nil, fmt.Errorf("LUNs: wipe %q is not keep, zero or none", opt.Wipe)
	}
	if !filepath.IsAbs(opt.Scratch) {
		return nil, fmt.Errorf("LUNs: the scratch directory %q is not absolute", opt.Scratch)
	}
	if err := os.MkdirAll(opt.Scratch, 0o711); err != nil {
		return nil, fmt.Errorf("LUNs: %w", err)
	}
	f := &FixedVolumes{opt: opt, luns: map[string]FixedLUN{}, info: map[string]connector.Info{}}
	for _, lun := range opt.LUNs {
		if err := f.add(lun); err != nil {
			return nil, fmt.Errorf("LUN %q: %w", lun.Name, err)
		}
	}
	return f, nil
}

func (f *FixedVolumes) add(lun FixedLUN) error {
	if lun.Name == "" || f.luns[lun.Name].Name != "" {
		return errors.New("each needs a name, which no other has")
	}
	if lun.SizeGiB < 1 {
		return fmt.Errorf("size_gib %d is not at least 1", lun.SizeGiB)
	}
	info, err := connector.Parse(lun.Connection)
	if err != nil {
		return err
	}
	if f.opt.Wipe == WipeZero && !slices.Contains(wipable, info.Type) {
		return fmt.Errorf("it cannot be wiped: %s makes no block device of this host", info.Type)
	}
	for name, other := range f.info {
		if other.Place() == info.Place() { // two projects would have one disk
			return fmt.Errorf("its connection_info leads where that of LUN %q does", name)
		}
	}
	f.luns[lun.Name], f.info[lun.Name] = lun, info
	return nil
}

// free are the LUNs that a project's volume may take. A LUN that holds what another project had is none.
func (f *FixedVolumes) free(backend, projectID string, all []cinder.Volume, used []cinder.UsedLUN) (clean, own []FixedLUN) {
	taken, owner := map[string]bool{}, map[string]string{}
	for _, v := range all {
		if v.Backend == backend {
			taken[v.LUN] = true
		}
	}
	for _, u := range used {
		if u.Backend == backend {
			owner[u.LUN] = u.ProjectID
		}
	}
	for _, lun := range f.opt.LUNs {
		before, dirty := owner[lun.Name]
		switch {
		case taken[lun.Name]:
		case !dirty || f.opt.Wipe == WipeNone:
			clean = append(clean, lun)
		case before == projectID && projectID != "":
			own = append(own, lun)
		}
	}
	return clean, own
}

// Place implements VolumePlacer: the smallest clean LUN that is large enough, else the smallest that the same project had.
func (f *FixedVolumes) Place(v cinder.Volume, all []cinder.Volume, used []cinder.UsedLUN) (string, error) {
	clean, own := f.free(v.Backend, v.ProjectID, all, used)
	for _, luns := range [][]FixedLUN{clean, own} {
		best := FixedLUN{}
		for _, lun := range luns {
			if lun.SizeGiB >= v.SizeGiB && (best.Name == "" || lun.SizeGiB < best.SizeGiB) {
				best = lun
			}
		}
		if best.Name != "" {
			return best.Name, nil
		}
	}
	return "", cinder.Refuse("NoValidBackend", cinder.Conflict, "", "", "no LUN of backend %s that is free and clean has %d GiB", v.Backend, v.SizeGiB)
}

// Left implements VolumePlacer.
func (f *FixedVolumes) Left(p cinder.Pool, projectID string, all []cinder.Volume, used []cinder.UsedLUN) cinder.Pool {
	p.FreeGiB, p.LargestGiB = 0, 0
	clean, own := f.free(p.Backend, projectID, all, used)
	for _, lun := range slices.Concat(clean, own) {
		p.FreeGiB += float64(lun.SizeGiB)
		p.LargestGiB = max(p.LargestGiB, lun.SizeGiB)
	}
	return p
}

// Grown implements VolumePlacer.
func (f *FixedVolumes) Grown(v cinder.Volume) int { return f.luns[v.LUN].SizeGiB }

// KeepsContents implements VolumePlacer.
func (f *FixedVolumes) KeepsContents() bool { return f.opt.Wipe != WipeZero }

// Create implements VolumeBackend. A volume of nothing that is not encrypted is the LUN as it is.
func (f *FixedVolumes) Create(ctx context.Context, v cinder.Volume, from VolumeOrigin) error {
	if from.Snapshot != nil || from.Volume != nil {
		return fmt.Errorf("LUN %s: a backend of LUNs that others make cannot copy", v.LUN)
	}
	if _, there := f.luns[v.LUN]; !there {
		return fmt.Errorf("there is no LUN %q", v.LUN)
	}
	if from.Image == nil && from.Cipher == nil {
		return nil
	}
	return f.connected(ctx, v, func(dev connector.Device) error {
		if dev.Bytes > 0 && dev.Bytes < bytesOf(v.SizeGiB) {
			return fmt.Errorf("it has %d bytes, fewer than %d GiB", dev.Bytes, v.SizeGiB)
		}
		return writeDevice(ctx, f.opt.Runner, dev.Path, f.scratch(v), from)
	})
}

func (f *FixedVolumes) scratch(v cinder.Volume) string {
	return filepath.Join(f.opt.Scratch, filepath.Base(v.ID)+unpacked)
}

// connected does something to a LUN as a device of this host.
func (f *FixedVolumes) connected(ctx context.Context, v cinder.Volume, do func(connector.Device) error) (err error) {
	info, there := f.info[v.LUN]
	switch {
	case !there:
		return fmt.Errorf("there is no LUN %q", v.LUN)
	case f.opt.Host == nil:
		return fmt.Errorf("LUN %s cannot be written to: this host connects none", v.LUN)
	}
	request := VolumeConnection{VolumeID: v.ID, Info: info}
	if f.opt.Identity != nil {
		if request.Known, err = f.opt.Identity(ctx, v.ID); err != nil {
			return err
		}
	}
	if request.Device, err = f.opt.Host.Connect(ctx, request); err != nil {
		return fmt.Errorf("LUN %s: %w", v.LUN, err)
	}
	// It must not stay connected when the agent is about to end: then the next one connects it again.
	defer func() {
		if failure := f.opt.Host.Disconnect(context.WithoutCancel(ctx), request); failure != nil {
			err = errors.Join(err, fmt.Errorf("LUN %s: %w", v.LUN, failure))
		}
	}()
	if request.Device.Path == "" {
		return fmt.Errorf("LUN %s cannot be written to: it is no device of this host", v.LUN)
	}
	if err := do(request.Device); err != nil {
		return fmt.Errorf("LUN %s: %w", v.LUN, err)
	}
	return nil
}

// Delete implements VolumeBackend.
func (f *FixedVolumes) Delete(ctx context.Context, v cinder.Volume) error {
	if err := removeFiles(f.scratch(v)); err != nil {
		return err
	}
	if f.opt.Wipe != WipeZero {
		return nil
	}
	return f.connected(ctx, v, func(dev connector.Device) error {
		return wipeDevice(ctx, f.opt.Runner, dev.Path, WipeZero)
	})
}

// Extend implements VolumeBackend: the LUN is as large already.
func (f *FixedVolumes) Extend(_ context.Context, v cinder.Volume, gib int) error {
	if has := f.Grown(v); has < gib {
		return fmt.Errorf("LUN %s has %d GiB, not %d", v.LUN, has, gib)
	}
	return nil
}

// Snapshot implements VolumeBackend.
func (f *FixedVolumes) Snapshot(context.Context, cinder.Snapshot, cinder.Volume) error {
	return errors.New("a backend of LUNs that others make cannot make snapshots")
}

// DeleteSnapshot implements VolumeBackend.
func (f *FixedVolumes) DeleteSnapshot(context.Context, cinder.Snapshot, cinder.Volume) error {
	return nil // there is none
}

// Connection implements VolumeBackend.
func (f *FixedVolumes) Connection(_ context.Context, v cinder.Volume, _ connector.Properties) (connector.Raw, error) {
	lun, there := f.luns[v.LUN]
	if !there {
		return nil, fmt.Errorf("there is no LUN %q", v.LUN)
	}
	return lun.Connection, nil
}

// Pool implements VolumeBackend; see Left for what is free.
func (f *FixedVolumes) Pool(context.Context) (cinder.Pool, error) {
	p := cinder.Pool{Kind: kindFixed, Multiattach: true, LiveExtend: true}
	if f.opt.Host != nil {
		p.Encryption = []string{"luks", "luks2", "plain"}
	}
	for _, lun := range f.opt.LUNs {
		p.TotalGiB += float64(lun.SizeGiB)
	}
	return p, nil
}
