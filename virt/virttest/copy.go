package virttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"compute-agent/virt"
)

var resizePromises = group{"ResizeDisk", []promise{
	{"makes the guest see the disk's size", resizeGrows, diskResizer},
	{"of a stopped guest nothing is done", resizeStopped, diskResizer},
	{"ErrInvalid when the disk would shrink, or the size is no multiple of 512", resizeShrinks, diskResizer},
	{"ErrNotFound without the disk", resizeMissing, diskResizer},
	{"ErrNotFound without the guest", missingGuest(func(e *env, id string) error { return e.resizer().ResizeDisk(e.within(), id, "vdb", diskBytes) }), diskResizer},
}}

func (e *env) resizer() virt.DiskResizer { return e.Driver.(virt.DiskResizer) }

// sees checks the size of its disk vdb that a guest sees.
func (e *env) sees(id string, want uint64) {
	e.Helper()
	for _, d := range e.listDisks(id) {
		if d.Target == "vdb" {
			if d.Bytes != want {
				e.Errorf("disk vdb has %d bytes, want %d", d.Bytes, want)
			}
			return
		}
	}
	e.Error("no disk vdb")
}

func resizeGrows(e *env) {
	s := e.runningWithDisk()
	for _, size := range []uint64{diskBytes, 2 * diskBytes, 2*diskBytes + 512} {
		e.ok(os.Truncate(e.disk(1).Source.File, int64(size)))
		e.ok(e.resizer().ResizeDisk(e.within(), s.ID, "vdb", size))
		e.sees(s.ID, size)
	}
}

func resizeStopped(e *env) {
	s := e.stopped()
	e.plugDisk(s.ID, 1)
	e.ok(os.Truncate(e.disk(1).Source.File, 2*diskBytes))
	e.ok(e.resizer().ResizeDisk(e.within(), s.ID, "vdb", 2*diskBytes))
	e.sees(s.ID, 0)
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.sees(s.ID, 2*diskBytes)
}

func resizeShrinks(e *env) {
	s := e.runningWithDisk()
	for _, size := range []uint64{0, diskBytes / 2, diskBytes - 512, diskBytes + 1} {
		e.fails(e.resizer().ResizeDisk(e.within(), s.ID, "vdb", size), virt.ErrInvalid)
	}
	e.sees(s.ID, diskBytes)
}

func resizeMissing(e *env) {
	for _, s := range []virt.Spec{e.running(), e.stopped()} {
		e.fails(e.resizer().ResizeDisk(e.within(), s.ID, "vdz", diskBytes), virt.ErrNotFound)
	}
}

var copyPromises = group{"CopyDisk", []promise{
	{"has the guest use another source, live and in its definition", copyMoves, diskCopier},
	{"what the disk is beside its contents and limits stays", copyKeeps, diskCopier},
	{"with the other's limits at once, and its block sizes and discard when the guest is started again", copyTunes, diskCopier},
	{"of a source that is larger the guest sees as much as before until it is started again", copyToLarger, diskCopier},
	{"progress is told of bytes that are copied and that there are", copyProgress, diskCopier},
	{"called again after it succeeded, it succeeds", copyAgain, diskCopier},
	{"ErrInvalid when the source is not there or too small", copyInvalid, diskCopier},
	{"ErrInvalidState when the guest is stopped", copyStopped, diskCopier},
	{"ErrNotFound without the disk", copyMissing, diskCopier},
	{"ErrNotFound without the guest", missingGuest(func(e *env, id string) error { return e.copy(id, e.disk(2)) }), diskCopier},
	{"ErrBusy when another guest has the source locked", copyLocked, diskCopier},
	{"ErrBusy when another copy of the disk is under way", copyBusy, slowCopies},
	{"when ctx ends the guest goes on with what it had", copyLetGo, slowCopies},
	{"other calls for the guest are not held up; one that ends it fails the copy", copyEnds, slowCopies},
	{"one that was under way when its agent ended goes on when it is called again", copyGoesOn, slowCopies},
	{"AbortCopy ends a copy whose agent ended", copyAborted, slowCopies},
	{"AbortCopy without a copy succeeds and changes nothing", abortNothing, diskCopier},
	{"AbortCopy: ErrNotFound without the guest", missingGuest(func(e *env, id string) error { return e.copier().AbortCopy(e.within(), id, "vdb") }), diskCopier},
}}

func (e *env) copier() virt.DiskCopier { return e.Driver.(virt.DiskCopier) }

func (e *env) copy(id string, to virt.Disk) error {
	return e.copier().CopyDisk(e.within(), id, "vdb", to, nil)
}

// source is where a guest's disk vdb is, with what there is of it.
func (e *env) source(id string) string {
	e.Helper()
	for _, d := range e.listDisks(id) {
		if d.Target == "vdb" {
			return fmt.Sprintf("%s live=%v defined=%v", d.Source.File, d.Live, d.Defined)
		}
	}
	return "none"
}

// uses checks that a guest has one of the disks as its vdb, now and when it is started again.
func (e *env) uses(id string, n int) {
	e.Helper()
	if got, want := e.source(id), e.disk(n).Source.File+" live=true defined=true"; got != want {
		e.Errorf("the guest uses %s, want %s", got, want)
	}
	e.ok(e.Driver.Stop(e.within(), id, virt.StopOptions{}))
	if got, want := e.source(id), e.disk(n).Source.File+" live=false defined=true"; got != want {
		e.Errorf("the guest is defined with %s, want %s", got, want)
	}
}

func copyMoves(e *env) {
	for _, guest := range []func() virt.Spec{e.runningWithDisk, func() virt.Spec { return e.create(e.withDisk(e.spec())) }} {
		s := guest()
		e.ok(e.copy(s.ID, e.disk(2)))
		e.uses(s.ID, 2)
		e.ok(e.Driver.Destroy(e.within(), s.ID)) // the next one has the same disk
	}
}

func copyKeeps(e *env) {
	s := e.spec()
	d := e.disk(1)
	d.Alias = "ua-volume-1"
	s.Disks = append(s.Disks, d)
	e.create(s)
	to := e.disk(2)
	to.Target, to.Bus, to.Alias = "sdx", "scsi", "ua-other"
	e.ok(e.copy(s.ID, to))
	e.hasDisks(s.ID, "vdb live+defined")
	e.uses(s.ID, 2)
	if list := e.listDisks(s.ID); list[1].Serial != "volume-2" {
		e.Errorf("the serial is %s, want that of the new source", list[1].Serial)
	}
}

// tuned is what a guest's disk vdb has beside its contents.
func (e *env) tuned(id string) string {
	e.Helper()
	for _, d := range e.listDisks(id) {
		if d.Target == "vdb" {
			return fmt.Sprintf("%+v %+v %q", d.Tune, d.BlockIO, d.Discard)
		}
	}
	return "none"
}

func copyTunes(e *env) {
	first := virt.DiskTune{TotalIOPS: 1000, TotalIOPSMax: 2000, SizeIOPS: 4096}
	for _, second := range []virt.DiskTune{{ReadBytes: 10 << 20, WriteBytes: 20 << 20, WriteBytesMax: 40 << 20}, {TotalIOPS: 500}, {}} {
		s := e.spec()
		d, to := e.disk(1), e.disk(2)
		d.Tune, d.BlockIO, d.Discard = first, virt.BlockIO{Logical: 512, Physical: 512}, "unmap"
		to.Tune, to.BlockIO, to.Discard = second, virt.BlockIO{Logical: 512, Physical: 4096}, "ignore"
		s.Disks = append(s.Disks, d)
		e.create(s)
		for range 2 {
			e.ok(e.copy(s.ID, to))
			if got, want := e.tuned(s.ID), fmt.Sprintf("%+v %+v %q", to.Tune, d.BlockIO, d.Discard); got != want {
				e.Errorf("the disk runs with %s, want %s", got, want)
			}
		}
		e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
		if got, want := e.tuned(s.ID), fmt.Sprintf("%+v %+v %q", to.Tune, to.BlockIO, to.Discard); got != want {
			e.Errorf("the disk is defined with %s, want %s", got, want)
		}
		e.ok(e.Driver.Destroy(e.within(), s.ID))
	}
}

func copyToLarger(e *env) {
	s := e.runningWithDisk()
	to := e.disk(2)
	e.ok(os.Truncate(to.Source.File, 2*diskBytes))
	for range 2 {
		e.ok(e.copy(s.ID, to))
		e.sees(s.ID, diskBytes)
	}
	e.uses(s.ID, 2)
	e.ok(e.Driver.Start(e.within(), s.ID))
	e.sees(s.ID, 2*diskBytes)
}

func copyProgress(e *env) {
	s := e.runningWithDisk()
	var done, total uint64
	calls := 0
	err := e.copier().CopyDisk(e.within(), s.ID, "vdb", e.disk(2), func(d, t uint64) { done, total, calls = d, t, calls+1 })
	e.ok(err)
	if calls == 0 || done != total || total < diskBytes {
		e.Errorf("%d calls, the last of %d bytes of %d; the disk has %d", calls, done, total, diskBytes)
	}
}

func copyAgain(e *env) {
	s := e.runningWithDisk()
	for range 2 {
		e.ok(e.copy(s.ID, e.disk(2)))
	}
	e.uses(s.ID, 2)
}

func copyInvalid(e *env) {
	s := e.runningWithDisk()
	small := e.disk(2)
	e.ok(os.Truncate(small.Source.File, diskBytes/2))
	gone, odd := e.disk(3), e.disk(3)
	gone.Source.File += "-missing"
	odd.Format = "vmdk"
	for _, to := range []virt.Disk{small, gone, odd} {
		e.fails(e.copy(s.ID, to), virt.ErrInvalid)
	}
	e.uses(s.ID, 1)
}

func copyStopped(e *env) {
	s := e.stopped()
	e.plugDisk(s.ID, 1)
	e.fails(e.copy(s.ID, e.disk(2)), virt.ErrInvalidState)
	if got, want := e.source(s.ID), e.disk(1).Source.File+" live=false defined=true"; got != want {
		e.Errorf("the guest is defined with %s, want %s", got, want)
	}
}

func copyMissing(e *env) { e.fails(e.copy(e.running().ID, e.disk(2)), virt.ErrNotFound) }

func copyLocked(e *env) {
	s, other := e.runningWithDisk(), e.created()
	e.plugDisk(other.ID, 2)
	e.fails(e.copy(s.ID, e.disk(2)), virt.ErrBusy)
	e.uses(s.ID, 1)
}

// slowCopy begins a copy that does not end, of disk 1 to disk 2. It ends with ctx or with its driver.
func (e *env) slowCopy(ctx context.Context, id string) (d virt.Driver, done <-chan error) {
	e.Helper()
	e.fill(e.disk(1))
	d = e.SlowCopies(e)
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	to := e.disk(2)
	go func() {
		ended <- d.(virt.DiskCopier).CopyDisk(ctx, id, "vdb", to, func(uint64, uint64) {
			select {
			case began <- struct{}{}:
			default:
			}
		})
	}()
	select {
	case <-began:
	case err := <-ended:
		e.Fatalf("the copy ended: %v", err)
	}
	return d, ended
}

// fill gives a disk contents, because a copy of nothing is fast.
func (e *env) fill(d virt.Disk) {
	e.Helper()
	f, err := os.OpenFile(d.Source.File, os.O_WRONLY, 0)
	e.ok(err)
	_, err = f.Write(bytes.Repeat([]byte("contents"), diskBytes/8))
	e.ok(errors.Join(err, f.Close()))
}

func copyBusy(e *env) {
	s := e.runningWithDisk()
	ctx, cancel := context.WithCancel(e.Context())
	slow, done := e.slowCopy(ctx, s.ID)
	e.fails(e.copy(s.ID, e.disk(3)), virt.ErrBusy)
	for _, n := range []int{2, 3} {
		e.fails(slow.(virt.DiskCopier).CopyDisk(e.within(), s.ID, "vdb", e.disk(n), nil), virt.ErrBusy)
	}
	e.fails(slow.(virt.DiskCopier).AbortCopy(e.within(), s.ID, "vdb"), virt.ErrBusy)
	e.ok(e.copier().AbortCopy(e.within(), s.ID, "vdz"))
	cancel()
	e.fails(<-done, virt.ErrUnavailable)
}

func copyLetGo(e *env) {
	s := e.runningWithDisk()
	ctx, cancel := context.WithCancel(e.Context())
	_, done := e.slowCopy(ctx, s.ID)
	cancel()
	err := <-done
	e.fails(err, virt.ErrUnavailable)
	e.fails(err, context.Canceled)
	e.copyWhenFree(s.ID, e.disk(3))
	e.uses(s.ID, 3)
}

// copyWhenFree copies as soon as an earlier copy is nobody's.
func (e *env) copyWhenFree(id string, to virt.Disk) {
	e.Helper()
	deadline := time.Now().Add(e.Patience)
	for {
		err := e.copy(id, to)
		if !errors.Is(err, virt.ErrBusy) || time.Now().After(deadline) {
			e.ok(err)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func copyEnds(e *env) {
	s := e.runningWithDisk()
	_, done := e.slowCopy(e.within(), s.ID)
	e.state(s.ID, virt.PowerRunning)
	e.plugDisk(s.ID, 4)
	e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
	e.fails(<-done, virt.ErrInvalidState)
	if got, want := e.source(s.ID), e.disk(1).Source.File+" live=false defined=true"; got != want {
		e.Errorf("the guest is defined with %s, want %s", got, want)
	}
}

// orphan leaves a copy that nobody makes.
func (e *env) orphan(id string) {
	e.Helper()
	d, done := e.slowCopy(e.within(), id)
	e.ok(d.Close())
	e.fails(<-done, virt.ErrUnavailable)
}

func copyGoesOn(e *env) {
	s := e.runningWithDisk()
	e.orphan(s.ID)
	e.fails(e.copy(s.ID, e.disk(3)), virt.ErrBusy)
	e.ok(e.copy(s.ID, e.disk(2)))
	e.uses(s.ID, 2)
}

func copyAborted(e *env) {
	s := e.runningWithDisk()
	e.orphan(s.ID)
	for range 2 {
		e.ok(e.copier().AbortCopy(e.within(), s.ID, "vdb"))
	}
	e.ok(e.copy(s.ID, e.disk(3)))
	e.uses(s.ID, 3)
}

func abortNothing(e *env) {
	s := e.runningWithDisk()
	for _, target := range []string{"vdb", "vdz", ""} {
		e.ok(e.copier().AbortCopy(e.within(), s.ID, target))
	}
	e.uses(s.ID, 1)
}

func unplugDiskCopied(e *env) {
	s := e.runningWithDisk()
	ctx, cancel := context.WithCancel(e.Context())
	_, done := e.slowCopy(ctx, s.ID)
	e.fails(e.unplugDisk(s.ID, "vdb"), virt.ErrBusy)
	cancel()
	e.fails(<-done, virt.ErrUnavailable)
	e.uses(s.ID, 1)
}

var usePromises = group{"DiskUse", []promise{
	{"returns what each disk of each guest that is not stopped did", useListed, diskMeter},
}}

func useListed(e *env) {
	running, stopped := e.runningWithDisk(), e.stopped()
	deadline := time.Now().Add(e.Patience)
	for {
		list, err := e.Driver.(virt.DiskMeter).DiskUse(e.within())
		e.ok(err)
		targets, reads := map[string]bool{}, uint64(0)
		for _, u := range list {
			switch u.ID {
			case running.ID:
				targets[u.Target] = true
				reads += u.Reads
			case stopped.ID:
				e.Errorf("a stopped guest did %+v", u)
			}
		}
		if len(targets) != 2 || !targets["vdb"] {
			e.Fatalf("figures of %v of the guest's two disks", targets)
		}
		if reads > 0 { // the firmware looks at them, when it gets to it
			return
		}
		if time.Now().After(deadline) {
			e.Fatal("a guest that runs has read nothing")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

var secretPromises = group{"Secrets", []promise{
	{"PutSecret keeps a secret, and Secrets lists it with what it is for", secretKept, secretKeeper},
	{"PutSecret replaces the one of the UUID and the one that is for the same", secretReplaced, secretKeeper},
	{"PutSecret: ErrInvalid when it contradicts itself, and shows no value", secretInvalid, secretKeeper},
	{"DeleteSecret forgets it, and succeeds without one", secretForgotten, secretKeeper},
	{"a guest is not made without the secrets of its disks", secretNeeded, secretKeeper},
}}

func (e *env) keeper() virt.SecretKeeper { return e.Driver.(virt.SecretKeeper) }

// secret is a secret that is forgotten when the test ends. Each test has its own.
func (e *env) secret() virt.Secret {
	e.Helper()
	id := e.NewSpec(e).ID // a UUID that was not used before
	e.forgetAtEnd(id)
	return virt.Secret{UUID: id, Usage: "volume", For: "test-" + id, Value: []byte("s3cr3t \x00\xff value")}
}

func (e *env) forgetAtEnd(uuid string) {
	e.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), e.Patience)
		defer cancel()
		d := e.Reopen(e)
		defer func() { _ = d.Close() }()
		if err := d.(virt.SecretKeeper).DeleteSecret(ctx, uuid); err != nil {
			e.Errorf("a secret is left behind: %v", err)
		}
	})
}

func (e *env) kept(uuid string) (purpose string, ok bool) {
	e.Helper()
	list, err := e.keeper().Secrets(e.within())
	e.ok(err)
	purpose, ok = list[uuid]
	return purpose, ok
}

func secretKept(e *env) {
	for _, usage := range []string{"volume", "iscsi", "ceph"} {
		s := e.secret()
		s.Usage = usage
		for range 2 {
			e.ok(e.keeper().PutSecret(e.within(), s))
		}
		if purpose, ok := e.kept(s.UUID); !ok || purpose != s.For {
			e.Errorf("the secret is kept: %v, for %q, want %q", ok, purpose, s.For)
		}
	}
}

func secretReplaced(e *env) {
	first, second := e.secret(), e.secret()
	second.For = first.For
	e.ok(e.keeper().PutSecret(e.within(), first))
	e.ok(e.keeper().PutSecret(e.within(), second))
	if _, ok := e.kept(first.UUID); ok {
		e.Error("two secrets are for the same")
	}
	second.For, second.Usage = "test-other-"+second.UUID, "iscsi"
	e.ok(e.keeper().PutSecret(e.within(), second))
	if purpose, _ := e.kept(second.UUID); purpose != second.For {
		e.Errorf("the secret is for %q, want %q", purpose, second.For)
	}
}

func secretInvalid(e *env) {
	const value = "hunter2hunter2"
	for _, spoil := range []func(*virt.Secret){
		func(s *virt.Secret) { s.UUID = "no-uuid" },
		func(s *virt.Secret) { s.Usage = "tls" },
		func(s *virt.Secret) { s.For = "" },
		func(s *virt.Secret) { s.For = "</usage>" },
		func(s *virt.Secret) { s.Value = nil },
	} {
		s := e.secret()
		s.Value = []byte(value)
		spoil(&s)
		err := e.keeper().PutSecret(e.within(), s)
		e.fails(err, virt.ErrInvalid)
		log := &bytes.Buffer{}
		slog.New(slog.NewJSONHandler(log, nil)).Info("secret", "secret", s)
		for _, text := range []string{fmt.Sprint(err), fmt.Sprintf("%v %+v %#v %s", s, s, s, s), log.String()} {
			if strings.Contains(text, value) {
				e.Errorf("a secret's value is shown: %s", text)
			}
		}
	}
}

func secretForgotten(e *env) {
	s := e.secret()
	e.ok(e.keeper().PutSecret(e.within(), s))
	for range 2 {
		e.ok(e.keeper().DeleteSecret(e.within(), s.UUID))
	}
	if _, ok := e.kept(s.UUID); ok {
		e.Error("it is still there")
	}
	for _, uuid := range []string{missing, "", "no UUID", "'\"<&>\x00"} {
		e.ok(e.keeper().DeleteSecret(e.within(), uuid))
	}
}

func secretNeeded(e *env) {
	s := e.spec()
	d := e.disk(1)
	d.Key = &virt.DiskKey{Format: "luks", Secret: missing}
	s.Disks = append(s.Disks, d)
	e.fails(e.Driver.Create(e.within(), s), virt.ErrInvalid)
	e.absent(s.ID)
}
