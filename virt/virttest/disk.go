package virttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"compute-agent/virt"
)

var diskPromises = group{"Disks", []promise{
	{"PlugDisk gives a running guest the disk, live and in its definition", plugDiskRunning, diskPlugger},
	{"PlugDisk gives a paused or just created guest the disk", plugDiskPaused, diskPlugger},
	{"PlugDisk gives a stopped guest the disk in its definition only, and it starts with it", plugDiskStopped, diskPlugger},
	{"a disk that was plugged in stays over a stop and a start", plugDiskStays, diskPlugger},
	{"PlugDisk gives a guest several disks", plugDiskSeveral, diskPlugger},
	{"PlugDisk: ErrInvalid when the disk contradicts itself", plugDiskInvalid, diskPlugger},
	{"PlugDisk: ErrInvalid when its file, its device or its secret is not there", plugDiskMissing, diskPlugger},
	{"PlugDisk: ErrExists when the guest has a disk of this Target, which stays as it is", plugDiskExists, diskPlugger},
	{"PlugDisk: ErrUnsupported of a drive that cannot be plugged in", plugDiskRemovable, diskPlugger},
	{"PlugDisk: ErrBusy when another guest has the source locked", plugDiskLocked, diskPlugger},
	{"PlugDisk: ErrBusy when the guest has the source as another disk", plugDiskTwice, diskPlugger},
	{"PlugDisk makes half a disk whole", plugDiskHalf, disksByHand},
	{"PlugDisk: ErrNotFound without the guest", missingGuest(func(e *env, id string) error { return e.disks().PlugDisk(e.within(), id, e.disk(1)) }), diskPlugger},
	{"PlugDisk: of concurrent calls for one Target exactly one succeeds", plugDiskConcurrent, diskPlugger},
	{"UnplugDisk takes the disk from a running guest that lets go of it, and EventDeviceRemoved is sent", unplugDiskRunning, bootableDisks},
	{"UnplugDisk: the hypervisor has closed the source: another guest can write it", unplugDiskCloses, bootableDisks},
	{"UnplugDisk takes the disk from a stopped guest", unplugDiskStopped, diskPlugger},
	{"UnplugDisk: ErrBusy when Patience is over, and the guest has the disk still", unplugDiskBusy, diskPlugger},
	{"UnplugDisk: ErrBusy while the disk is copied", unplugDiskCopied, slowCopies},
	{"UnplugDisk: ErrInvalidState when the guest is paused, which has the disk still", unplugDiskPaused, diskPlugger},
	{"UnplugDisk: when ctx ends the guest has the disk still", unplugDiskLetGo, diskPlugger},
	{"UnplugDisk: a guest that ends meanwhile has let go", unplugDiskEnds, crashingDisks},
	{"UnplugDisk takes away half a disk", unplugDiskHalf, disksByHand},
	{"UnplugDisk: without such a disk it succeeds and changes nothing", unplugDiskMissing, diskPlugger},
	{"UnplugDisk: ErrNotFound without the guest", missingGuest(func(e *env, id string) error { return e.unplugDisk(id, "vdz") }), diskPlugger},
	{"Disks returns source, serial and the size that the running guest sees", disksListed, diskPlugger},
	{"Disks: ErrNotFound without the guest", missingGuest(func(e *env, id string) error { _, err := e.disks().Disks(e.within(), id); return err }), diskPlugger},
}}

func (e *env) disks() virt.DiskPlugger { return e.Driver.(virt.DiskPlugger) }

// diskBytes is the size of the suite's disks.
const diskBytes = 8 << 20

// disk is one of a few disks, with an image file of its own.
func (e *env) disk(n int) virt.Disk {
	e.Helper()
	if e.dir == "" {
		e.dir = filepath.Dir(e.NewSpec(e).Disks[0].Source.File)
	}
	path := filepath.Join(e.dir, fmt.Sprintf("volume%d", n))
	if _, err := os.Stat(path); err != nil {
		e.ok(os.WriteFile(path, nil, 0o644))
		e.ok(os.Truncate(path, diskBytes))
	}
	return virt.Disk{
		Source: virt.Source{File: path}, Format: "raw", Target: "vd" + string(rune('a'+n)), Bus: "virtio",
		Serial: fmt.Sprintf("volume-%d", n),
	}
}

func (e *env) plugDisk(id string, n int) {
	e.Helper()
	e.ok(e.disks().PlugDisk(e.within(), id, e.disk(n)))
}

func (e *env) unplugDisk(id, target string) error {
	return e.disks().UnplugDisk(e.within(), id, target, virt.UnplugOptions{Patience: anHour, Retry: time.Second})
}

// withDisk is a Spec with the first of the disks.
func (e *env) withDisk(s virt.Spec) virt.Spec {
	s.Disks = append(slices.Clone(s.Disks), e.disk(1))
	return s
}

// runningWithDisk is a running guest with the first of the disks.
func (e *env) runningWithDisk() virt.Spec {
	e.Helper()
	s := e.create(e.withDisk(e.spec()))
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.watch(s.ID).expect(virt.EventResumed)
	return s
}

func (e *env) listDisks(id string) []virt.PluggedDisk {
	e.Helper()
	list, err := e.disks().Disks(e.within(), id)
	e.ok(err)
	return list
}

// hasDisks checks which disks a guest has beside its first: "vdb live+defined".
func (e *env) hasDisks(id string, want ...string) {
	e.Helper()
	var got []string
	for _, d := range e.listDisks(id) {
		var parts []string
		if d.Live {
			parts = append(parts, "live")
		}
		if d.Defined {
			parts = append(parts, "defined")
		}
		got = append(got, d.Target+" "+strings.Join(parts, "+"))
	}
	if len(got) == 0 || !slices.Equal(got[1:], want) {
		e.Errorf("the guest has disks %q, want %q after the first", got, want)
	}
}

func plugDiskRunning(e *env) {
	s := e.running()
	e.plugDisk(s.ID, 1)
	e.hasDisks(s.ID, "vdb live+defined")
	e.state(s.ID, virt.PowerRunning)
}

func plugDiskPaused(e *env) {
	s := e.created()
	e.plugDisk(s.ID, 1)
	e.hasDisks(s.ID, "vdb live+defined")
	e.state(s.ID, virt.PowerPaused)
}

func plugDiskStopped(e *env) {
	s := e.stopped()
	e.plugDisk(s.ID, 1)
	e.hasDisks(s.ID, "vdb defined")
	e.state(s.ID, virt.PowerShutdown)
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.hasDisks(s.ID, "vdb live+defined")
}

func plugDiskStays(e *env) {
	s := e.running()
	e.plugDisk(s.ID, 1)
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	e.hasDisks(s.ID, "vdb defined")
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.hasDisks(s.ID, "vdb live+defined")
}

func plugDiskSeveral(e *env) {
	s := e.create(e.withDisk(e.spec()))
	e.plugDisk(s.ID, 2)
	e.plugDisk(s.ID, 3)
	e.hasDisks(s.ID, "vdb live+defined", "vdc live+defined", "vdd live+defined")
}

// refuses checks that disks that are spoiled in several ways are refused, and that the guest then has none.
func (e *env) refuses(id string, kind error, spoil ...func(*virt.Disk)) {
	e.Helper()
	for _, spoil := range spoil {
		d := e.disk(1)
		spoil(&d)
		if err := e.disks().PlugDisk(e.within(), id, d); !errors.Is(err, kind) {
			e.Errorf("disk %+v: error is %v, want %v", d, err, kind)
		}
	}
	e.hasDisks(id)
}

func plugDiskInvalid(e *env) {
	e.refuses(e.created().ID, virt.ErrInvalid,
		func(d *virt.Disk) { d.Target = "vdb'/><x a='" },
		func(d *virt.Disk) { d.Target = "sdb" },
		func(d *virt.Disk) { d.Bus = "isa" },
		func(d *virt.Disk) { d.Format = "" },
		func(d *virt.Disk) { d.Format = "vmdk" },
		func(d *virt.Disk) { d.Source = virt.Source{} },
		func(d *virt.Disk) { d.Source.File = "volume1" },
		func(d *virt.Disk) { d.Source.Device = "/dev/null" },
		func(d *virt.Disk) { d.Unstated = true },
		func(d *virt.Disk) { d.Serial = "'\"><" },
		func(d *virt.Disk) { d.Alias = "virtio-disk1" },
		func(d *virt.Disk) { d.Key = &virt.DiskKey{Format: "luks"} },
	)
}

func plugDiskMissing(e *env) {
	e.refuses(e.running().ID, virt.ErrInvalid,
		func(d *virt.Disk) { d.Source.File += "-missing" },
		func(d *virt.Disk) { d.Source = virt.Source{Device: d.Source.File + "-missing"} },
		func(d *virt.Disk) { d.Key = &virt.DiskKey{Format: "luks", Secret: missing} },
	)
}

func plugDiskExists(e *env) {
	for _, s := range []virt.Spec{e.create(e.withDisk(e.spec())), e.stopped()} {
		if len(s.Disks) == 1 {
			e.plugDisk(s.ID, 1)
		}
		before := e.listDisks(s.ID)
		d := e.disk(2)
		d.Target = e.disk(1).Target
		e.fails(e.disks().PlugDisk(e.within(), s.ID, d), virt.ErrExists)
		if after := e.listDisks(s.ID); !slices.Equal(before, after) {
			e.Errorf("the guest had disks %+v, has %+v", before, after)
		}
		e.ok(e.Driver.Destroy(e.within(), s.ID)) // the next one has the same disk
	}
}

func plugDiskRemovable(e *env) {
	e.refuses(e.running().ID, virt.ErrUnsupported,
		func(d *virt.Disk) { d.Kind, d.Bus, d.Target = "cdrom", "scsi", "sdb" },
		func(d *virt.Disk) { d.Kind, d.Bus, d.Target = "floppy", "fdc", "fdb" },
		func(d *virt.Disk) { d.Bus, d.Target = "sata", "sdb" },
	)
}

func plugDiskLocked(e *env) {
	other, s := e.create(e.withDisk(e.spec())), e.running()
	e.fails(e.disks().PlugDisk(e.within(), s.ID, e.disk(1)), virt.ErrBusy)
	e.hasDisks(s.ID)
	e.ok(e.Driver.Destroy(e.within(), other.ID))
	e.plugDisk(s.ID, 1)
}

func plugDiskTwice(e *env) {
	for _, s := range []virt.Spec{e.running(), e.stopped()} {
		e.plugDisk(s.ID, 1)
		d := e.disk(1)
		d.Target = "vdc"
		e.fails(e.disks().PlugDisk(e.within(), s.ID, d), virt.ErrBusy)
		if list := e.listDisks(s.ID); len(list) != 2 {
			e.Errorf("the guest has %+v", list)
		}
		e.ok(e.Driver.Destroy(e.within(), s.ID)) // the next one has the same disk
	}
}

func plugDiskHalf(e *env) {
	s := e.create(e.withDisk(e.spec()))
	e.UnplugDiskByHand(e, s.ID, "vdb")
	e.hasDisks(s.ID, "vdb live")
	e.plugDisk(s.ID, 1)
	e.hasDisks(s.ID, "vdb live+defined")
}

func plugDiskConcurrent(e *env) {
	s := e.created()
	disk := e.disk(1)
	succeeded := 0
	for _, err := range together(4, func(int) error { return e.disks().PlugDisk(e.within(), s.ID, disk) }) {
		if err == nil {
			succeeded++
		} else {
			e.fails(err, virt.ErrExists)
		}
	}
	if succeeded != 1 {
		e.Errorf("%d calls succeeded, want 1", succeeded)
	}
	e.hasDisks(s.ID, "vdb live+defined")
}

// booted is a running guest with an operating system and the first of the disks.
func (e *env) booted() virt.Spec {
	e.Helper()
	s := e.create(e.withDisk(e.adopt(e.BootableSpec(e))))
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.watch(s.ID).expect(virt.EventResumed)
	return s
}

// unplugSlowly is unplugDisk for a guest that may be booting.
func (e *env) unplugSlowly(id, target string) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), 2*e.Patience)
	defer cancel()
	e.ok(e.disks().UnplugDisk(ctx, id, target, virt.UnplugOptions{Patience: anHour, Retry: time.Second}))
}

func unplugDiskRunning(e *env) {
	s := e.booted()
	e.plugDisk(s.ID, 2)
	for _, target := range []string{"vdc", "vdb"} { // one that was plugged in, one that it was made with
		e.unplugSlowly(s.ID, target)
		if ev := e.watch(s.ID).expect(virt.EventDeviceRemoved); ev.Device == "" {
			e.Error("the event names no device")
		}
	}
	e.hasDisks(s.ID)
	e.state(s.ID, virt.PowerRunning)
}

func unplugDiskCloses(e *env) {
	s, other := e.booted(), e.created()
	e.fails(e.disks().PlugDisk(e.within(), other.ID, e.disk(1)), virt.ErrBusy)
	e.unplugSlowly(s.ID, "vdb")
	e.plugDisk(other.ID, 1)
}

func unplugDiskStopped(e *env) {
	s := e.stopped()
	e.plugDisk(s.ID, 1)
	e.plugDisk(s.ID, 2)
	e.ok(e.unplugDisk(s.ID, "vdb"))
	e.hasDisks(s.ID, "vdc defined")
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.hasDisks(s.ID, "vdc live+defined")
}

func unplugDiskBusy(e *env) {
	s := e.runningWithDisk()
	const patience = 300 * time.Millisecond
	err := e.disks().UnplugDisk(e.within(), s.ID, "vdb", virt.UnplugOptions{Patience: patience, Retry: patience / 3})
	e.fails(err, virt.ErrBusy)
	e.hasDisks(s.ID, "vdb live+defined")
}

func unplugDiskPaused(e *env) {
	s := e.create(e.withDisk(e.spec()))
	e.fails(e.unplugDisk(s.ID, "vdb"), virt.ErrInvalidState)
	e.hasDisks(s.ID, "vdb live+defined")
}

func unplugDiskLetGo(e *env) {
	s := e.runningWithDisk()
	ctx, cancel := context.WithTimeout(e.Context(), 300*time.Millisecond)
	defer cancel()
	err := e.disks().UnplugDisk(ctx, s.ID, "vdb", virt.UnplugOptions{Patience: anHour})
	e.fails(err, virt.ErrUnavailable)
	e.fails(err, context.DeadlineExceeded)
	e.hasDisks(s.ID, "vdb live+defined")
}

func unplugDiskEnds(e *env) {
	s := e.runningWithDisk()
	done := make(chan error, 1)
	go func() { done <- e.unplugDisk(s.ID, "vdb") }()
	e.CrashGuest(e, s.ID)
	e.ok(<-done)
	e.hasDisks(s.ID)
	e.state(s.ID, virt.PowerShutdown)
}

func unplugDiskHalf(e *env) {
	s := e.booted()
	e.UnplugDiskByHand(e, s.ID, "vdb")
	e.unplugSlowly(s.ID, "vdb")
	e.hasDisks(s.ID)
}

func unplugDiskMissing(e *env) {
	s := e.create(e.withDisk(e.spec()))
	w := e.watch(s.ID)
	for _, target := range []string{"vdz", "", "no target", "'\"<&>\x00\xff"} {
		e.ok(e.unplugDisk(s.ID, target))
	}
	e.hasDisks(s.ID, "vdb live+defined")
	e.ok(e.Driver.Destroy(e.within(), s.ID))
	w.expect(virt.EventStopped, virt.EventUndefined)
}

func disksListed(e *env) {
	s := e.create(e.withDisk(e.spec()))
	for _, stopped := range []bool{false, true} {
		want := virt.PluggedDisk{Target: "vdb", Serial: "volume-1", Source: e.disk(1).Source, Live: !stopped, Defined: true, Bytes: diskBytes}
		if stopped {
			e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
			want.Bytes = 0
		}
		list := e.listDisks(s.ID)
		if len(list) != 2 || list[1] != want {
			e.Errorf("the guest has %+v, want %+v as the second", list, want)
		}
	}
}
