package fake_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"compute-agent/virt"
	"compute-agent/virt/fake"
	"compute-agent/virt/virttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ok fails a test at once.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var serial atomic.Int64

// newSpec returns a valid Spec of a guest that was not there before.
func newSpec(t testing.TB) virt.Spec {
	t.Helper()
	n := serial.Add(1)
	dir := t.TempDir()
	s := virt.Spec{
		ID:   fmt.Sprintf("00000000-0000-4000-8000-%012x", n),
		Name: fmt.Sprintf("instance-%08x", n), VirtType: "qemu", Arch: "x86_64", Machine: "pc",
		VCPUs: 1, MemoryMiB: 64, CPU: virt.CPU{Mode: "none", Sockets: 1, Cores: 1, Threads: 1},
		Disks:   []virt.Disk{{Source: virt.Source{File: filepath.Join(dir, "disk")}, Format: "qcow2", Target: "vda", Bus: "virtio", Boot: 1}},
		Serial:  []virt.SerialPort{{Type: "pty", Log: filepath.Join(dir, "console.log"), AppendLog: true}},
		Balloon: virt.Balloon{Period: 10 * time.Second},
	}
	ok(t, fake.MakeDisk(s.Disks[0].Source.File, 1<<30))
	return s
}

func open(t testing.TB, hv *fake.Hypervisor) *fake.Driver {
	d := hv.Open(fake.Options{})
	t.Cleanup(func() { ok(t, d.Close()) })
	return d
}

func TestContract(t *testing.T) {
	virttest.TestDriver(t, harness(func(d *fake.Driver) virt.Driver { return d }))
}

// harness lets the suite test what wrap makes of the fake's drivers.
func harness(wrap func(*fake.Driver) virt.Driver) func(t *testing.T) virttest.Harness {
	return func(t *testing.T) virttest.Harness {
		hv := fake.NewHypervisor()
		return virttest.Harness{
			Driver: wrap(open(t, hv)),
			Reopen: func(t testing.TB) virt.Driver { return wrap(open(t, hv)) },
			NewSpec: func(t testing.TB) virt.Spec {
				s := newSpec(t)
				hv.SetHearing(s.ID, 0)
				return s
			},
			BootableSpec: func(t testing.TB) virt.Spec {
				s := newSpec(t)
				hv.SetHearing(s.ID, 2)
				return s
			},
			CrashGuest:       func(t testing.TB, id string) { ok(t, hv.Crash(id)) },
			DestroyByHand:    func(t testing.TB, id string) { ok(t, hv.DestroyByHand(id)) },
			UndefineByHand:   func(t testing.TB, id string) { ok(t, hv.UndefineByHand(id)) },
			UnplugByHand:     func(t testing.TB, id, mac string) { ok(t, hv.UnplugByHand(id, mac)) },
			UnplugDiskByHand: func(t testing.TB, id, target string) { ok(t, hv.UnplugDiskByHand(id, target)) },
			SlowCopies: func(t testing.TB) virt.Driver {
				d := open(t, hv)
				t.Cleanup(d.HoldCopies())
				return wrap(d)
			},
			SuspendGuest: func(t testing.TB, id string) { ok(t, hv.GuestSleep(id)) },
			BreakLink: func(testing.TB) func() {
				hv.LoseConnection()
				return hv.RestoreConnection
			},
			SetPCI:   func(_ testing.TB, devices ...virt.HostPCI) { hv.SetPCI(devices...) },
			Patience: 5 * time.Second,
			Many:     100,
		}
	}
}
