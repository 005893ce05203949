package scsi_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/scsi/scsitest"
)

var (
	lunNine = scsi.Address{Host: 3, LUN: 9}
	sdd     = scsi.Address{Host: 3, LUN: 0x4100}
	sdf     = scsi.Address{Host: 4, LUN: 2}
	first   = scsitest.Disk{Vendor: "LIO-ORG", Model: "nine", WWID: "naa.60014059999999990000000000000001", Bytes: 1 << 30}
	second  = scsitest.Disk{Vendor: "LIO-ORG", Model: "nine", WWID: "naa.60014059999999990000000000000002", Bytes: 2 << 30}
)

// patience bounds waits that must not end by it.
func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func reason(err error) connector.Reason {
	var e *connector.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// check compares what the kernel was told, and by Unset forgets nothing: writes only grow.
func check(t *testing.T, k *scsitest.Kernel, want ...string) {
	t.Helper()
	if got := k.Writes(); !slices.Equal(got, want) {
		t.Errorf("the kernel was told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const (
	scanNine   = "class/scsi_host/host3/scan 0 0 9"
	rescanNine = "bus/scsi/devices/3:0:0:9/rescan 1"
	deleteNine = "bus/scsi/devices/3:0:0:9/delete 1"
)

func TestAttachScansForOneLUN(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	k.Put(lunNine, first)
	k.Put(scsi.Address{Host: 3, LUN: 10}, second) // nobody asked for it
	d, err := s.Attach(patience(t), lunNine)
	if err != nil || d.Identity != connector.Identity(first.WWID) || d.Bytes != first.Bytes || d.Name != "sda" {
		t.Fatalf("%+v, %v", d, err)
	}
	check(t, k, scanNine)
	if again, err := s.Attach(patience(t), lunNine); err != nil || again != d {
		t.Errorf("again: %+v, %v", again, err)
	}
	check(t, k, scanNine, rescanNine)
}

func TestAttachWithoutADisk(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	if d, err := s.Attach(patience(t), lunNine); reason(err) != connector.NoDevice {
		t.Errorf("%+v, %v", d, err)
	}
	check(t, k, scanNine)
}

// TestAttachWaits has udev come some time after the kernel.
func TestAttachWaits(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	k.Put(lunNine, first)
	const record = "run/udev/data/b8:0"
	k.After(func() {
		k.Unset(record)
		go k.Set(record, "I:1\n")
	})
	if d, err := s.Attach(patience(t), lunNine); err != nil || d.Name != "sda" || !s.Settled("sda") {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestAttachIsBounded(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	k.Put(lunNine, first)
	k.After(func() { k.Unset("sys/bus/scsi/devices/3:0:0:9/block") })
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cause")
	k.After(func() { cancel(cause) })
	if d, err := s.Attach(ctx, lunNine); !errors.Is(err, cause) {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestAttachAfterTheLUNWasGivenToAnother is what a crash between two volumes leaves behind.
func TestAttachAfterTheLUNWasGivenToAnother(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	k.Put(lunNine, first)
	if _, err := s.Attach(patience(t), lunNine); err != nil {
		t.Fatal(err)
	}
	k.Put(lunNine, second)
	d, err := s.Attach(patience(t), lunNine)
	if err != nil || d.Identity != connector.Identity(second.WWID) || d.Bytes != second.Bytes {
		t.Errorf("%+v, %v", d, err)
	}
	check(t, k, scanNine, rescanNine, deleteNine, scanNine)

	k.Put(lunNine, first)
	k.Hold(d.Name, true)
	_, err = s.Attach(patience(t), lunNine)
	if reason(err) != connector.InUse || !strings.Contains(err.Error(), "it was "+second.WWID+" and is "+first.WWID+" now") {
		t.Errorf("held: %v", err)
	}
	check(t, k, scanNine, rescanNine, deleteNine, scanNine, rescanNine)
}

func TestAttachOfWhatTheTargetHasNoMore(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	k.Put(lunNine, first)
	d, err := s.Attach(patience(t), lunNine)
	if err != nil {
		t.Fatal(err)
	}
	k.Put(lunNine, scsitest.Disk{})
	k.Hold(d.Name, true)
	if _, err := s.Attach(patience(t), lunNine); reason(err) != connector.Unreachable {
		t.Errorf("held: %v", err)
	}
	k.Hold(d.Name, false)
	if _, err := s.Attach(patience(t), lunNine); reason(err) != connector.NoDevice {
		t.Errorf("free: %v", err)
	}
	if _, found, err := s.Find(lunNine); found || err != nil {
		t.Errorf("the dead device is still there: %v", err)
	}
}

func TestRemove(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	busy, _, _ := s.Find(sdd)
	if err := s.Remove(patience(t), busy); reason(err) != connector.InUse || !strings.Contains(err.Error(), "qemu-system-x86") {
		t.Errorf("a guest's disk: %v", err)
	}
	check(t, k)
	used, _, _ := s.Find(sdf)
	if err := s.Remove(patience(t), used); err != nil {
		t.Error(err)
	}
	never, _, _ := s.Find(scsi.Address{Host: 3, LUN: 5})
	if err := s.Remove(patience(t), never); err != nil {
		t.Error(err)
	}
	if err := s.Remove(patience(t), never); err != nil {
		t.Errorf("again: %v", err)
	}
	check(t, k, "flush sdf", "bus/scsi/devices/4:0:0:2/delete 1", "bus/scsi/devices/3:0:0:5/delete 1")
}

func TestDeleteSaysWhatTheKernelSays(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	cause := errors.New("no")
	k.Fail("/delete", cause)
	if err := s.Delete(patience(t), sdf); !errors.Is(err, cause) {
		t.Error(err)
	}
}

func TestScanAll(t *testing.T) {
	s, k := scsitest.New(t, iscsi)
	k.Put(scsi.Address{Host: 3, Target: 1, LUN: 9}, first)
	k.Put(scsi.Address{Host: 4, Target: 1, LUN: 9}, first)
	if err := s.ScanAll(t.Context(), 3, 9); err != nil {
		t.Error(err)
	}
	check(t, k, "class/scsi_host/host3/scan - - 9")
	if _, found, _ := s.Find(scsi.Address{Host: 4, Target: 1, LUN: 9}); found {
		t.Error("another host was scanned")
	}
	if err := s.ScanAll(t.Context(), 77, 9); err == nil {
		t.Error("a host that is not there was scanned")
	}
}
